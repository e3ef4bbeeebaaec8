"""What the cells of `on_a_task` and `on_images` say, and the comparison of rules, as tuples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..command import read_cell
from ..experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from ..protocol import EVERY_MARGIN, IMAGES
from ..tasks.tasks import TASKS
from .comparison import RULES, SHARE_OF_README, accuracy_at
from .on_a_task import TENTH
from .reports import DIVISOR

ALL_TASKS = (*TASKS, IMAGES)
RATES = ("bp_lr", "csbp_lr")

# Of `RULES`.
README_RULE, TENTH_RULE, SHARE_RULE = "README", "tenth", "largest share"
AUTHORS_RULE, FIXED_RULE = "authors", "z"
BP_RULE = "bp"  # beside them: no chaotic loss at all


class Trained(NamedTuple):
    """The networks of a task, trained at a strength and at BP's learning rate.

    Attributes:
        z: at the start.
        share: of the chaotic loss in the gradient at h, in the first update; in the layer where it
            is largest, the median over the networks.
        accuracy: on validation data, in [0, 1].
        latest: the largest such share of all later reports; None if they were not kept.
    """

    z: float
    share: float
    accuracy: float
    latest: float | None


class AtRule(NamedTuple):
    """The z that README's rule gives, and what training there comes to.

    Attributes:
        z: at the start.
        accuracy: on validation data, in [0, 1]; between strengths that were trained, see
            `comparison.accuracy_at`.
    """

    z: float
    accuracy: float


class Warned(NamedTuple):
    """How the networks ended that were warned in the course of a training.

    Attributes:
        share: of the first report, at which the training began.
        networks: how many were warned.
        again: the first shares from which they went in "restart", in the last of their trainings.
        accuracy: by what was done then, "go on", "divide" or "restart"; in [0, 1].
    """

    share: float
    networks: int
    again: tuple[float, ...]
    accuracy: Mapping[str, float]


class OnTask(NamedTuple):
    """What was measured in a task at BP's learning rate.

    Attributes:
        task: its name.
        lr: that learning rate.
        bp: accuracy without a chaotic loss, in [0, 1].
        trained: at every strength, z rising; each z once.
        rule: at the z of README's rule.
        tenth: at the z with a first share of a tenth.
        tuned: at the tuned z.
        authors: at the authors' z.
        warned: after warnings, by the share that the training began at; may be empty.
    """

    task: str
    lr: float
    bp: float
    trained: tuple[Trained, ...]
    rule: AtRule
    tenth: Trained
    tuned: Trained
    authors: Trained
    warned: tuple[Warned, ...]

    def over_bp(self, accuracy: float) -> float:
        """An accuracy less BP's, in margins of the task."""
        return 100 * (accuracy - self.bp) / EVERY_MARGIN[self.task]

    def share_at(self, z: float) -> float:
        """The first share at a z."""
        return _share_after(SHARE_OF_README, z / self.rule.z)


class Rule(NamedTuple):
    """A rule for z.

    In what it loses its number is chosen on all other tasks, if there is one to be chosen.

    Attributes:
        value: that number, a share or a z, chosen on all tasks.
        with_value: the margins that its z loses to the tuned z with that number, over the tasks.
        lost_with_value: likewise, by task.
        mean: the margins that its z loses to the tuned z, over the tasks.
        lost: likewise, by task.
        values: that number, chosen on the others, by task.
        zs: that it gives then, by task.
    """

    value: float
    with_value: float
    lost_with_value: Mapping[str, float]
    mean: float
    lost: Mapping[str, float]
    values: Mapping[str, float]
    zs: Mapping[str, float]


class Measured(NamedTuple):
    """All of it.

    Attributes:
        tasks: those that rules are compared on, in the order of the study.
        rules: by learning rate, of `RATES`, and by name, of `RULES` or `BP_RULE`.
    """

    tasks: tuple[OnTask, ...]
    rules: Mapping[str, Mapping[str, Rule]]


class AtRatio(NamedTuple):
    """What experiment 1 found in a task at a z / z_c, h* = 1; means over networks, in per cent.

    Attributes:
        csbp: test accuracy.
        inner_flow: that of the pull without overshoot.
        bp: that of BP.
        no_gradient: share of the pairs of a neuron and an image without a gradient, after csbp.
    """

    csbp: float
    inner_flow: float
    bp: float
    no_gradient: float


def read_measured(folder: Path) -> Measured:
    """The comparison of rules, and the cells of the tasks that it is over.

    Args:
        folder: that of all cells of the study, usually `study/results`.

    Raises ValueError, one line, where a file is missing or is not what belongs there.
    """
    place = folder / "rule_for_z"
    path = place / "comparison.json"
    compared = read_cell("comparison", path, "study.rule_for_z.comparison")
    if not set(RATES) <= set(compared):
        raise ValueError(f"comparison = {path}: must be what study.rule_for_z.comparison wrote")
    rules = {rate: _rules(compared[rate]) for rate in RATES}
    zs = rules["bp_lr"][README_RULE].zs
    tasks = [_read_task(place / f"{name}.json", name, zs[name]) for name in ALL_TASKS if name in zs]
    return Measured(tuple(tasks), rules)


def read_ratios(folder: Path) -> dict[float, dict[str, AtRatio]]:
    """By z / z_c, with annealing over the whole training, and by task what experiment 1 found.

    Args:
        folder: likewise.

    Raises ValueError, one line, where a cell is missing.
    """
    return {
        ratio: {name: _read_ratio(folder, name, ratio) for name in ONE_LAYER_TASKS}
        for ratio in RATIOS
    }


def _read_ratio(folder: Path, name: str, ratio: float) -> AtRatio:
    path = folder / "experiment_1" / name / f"inside_20-20_{ratio}.json"
    rules = read_cell("cell", path, "study.experiments.experiment_1")["rules"]
    return AtRatio(
        csbp=_per_cent(rules["csbp"]["accuracy"]),
        inner_flow=_per_cent(rules["inner flow"]["accuracy"]),
        bp=_per_cent(rules["bp"]["accuracy"]),
        no_gradient=_per_cent(rules["csbp"]["zero_surrogate"]),
    )


def _per_cent(shares: list[float]) -> float:
    """The mean of shares over networks, in per cent."""
    return 100 * float(np.mean(shares))


def _rules(compared: Mapping[str, Any]) -> dict[str, Rule]:
    """Every rule, and BP alone, as `comparison.compare` says of them at a learning rate."""
    found = {BP_RULE: _bp_alone(compared["without"])}
    for name in RULES:
        of_rule = compared["rules"][name]
        left_out = {task: each["left_out"] for task, each in of_rule["tasks"].items()}
        found[name] = Rule(
            value=of_rule["value"],
            with_value=dict(of_rule["losses"])[of_rule["value"]],
            lost_with_value=_in_margins(of_rule["tasks"]),
            mean=of_rule["left_out"],
            lost=_in_margins(left_out),
            values={task: each["value"] for task, each in left_out.items()},
            zs={task: each["z"] for task, each in left_out.items()},
        )
    return found


def _in_margins(tasks: Mapping[str, Any]) -> dict[str, float]:
    """The losses of a rule, by task, in margins of each."""
    return {task: each["loss"] / EVERY_MARGIN[task] for task, each in tasks.items()}


def _bp_alone(points: Mapping[str, float]) -> Rule:
    """BP, as the rule that z is 0 in every task.

    Args:
        points: that it loses to the tuned z, by task.
    """
    lost = {task: each / EVERY_MARGIN[task] for task, each in points.items()}
    mean = float(np.mean(list(lost.values())))
    nothing = dict.fromkeys(lost, 0.0)
    return Rule(0.0, mean, lost, mean, lost, values=nothing, zs=nothing)


def _read_task(path: Path, name: str, z_of_rule: float) -> OnTask:
    """The cell of that task, in which README's rule gives this z."""
    writer = "study.rule_for_z.on_images" if name == IMAGES else "study.rule_for_z.on_a_task"
    cell = read_cell("cell", path, writer)
    if cell.get("task") != name:
        raise ValueError(f"cell = {path}: must be of {name}, as {writer} writes it")
    return _on_task(cell, z_of_rule)


def _on_task(cell: Mapping[str, Any], z_of_rule: float) -> OnTask:
    """A cell at BP's learning rate."""
    at_rate = [each for each in cell["trainings"] if each["lr"] == cell["bp_lr"]]
    (bp,) = [each["accuracy"] for each in at_rate if each["z"] is None]
    with_chaos = [each for each in at_rate if each["z"] is not None]
    latest = {each["z"]: _latest(each) for each in cell["warnings"]}
    by_z = {}
    # where a z of the ladder has a second name, its share is that of the ladder
    for each in sorted(with_chaos, key=lambda each: (each["z"], each["name"] == "share")):
        z = each["z"]
        by_z[z] = Trained(z, each["share"], each["accuracy"], latest[z])
    z_of = {(each["name"], each["share"]): each["z"] for each in with_chaos}
    (z_of_authors,) = [each["z"] for each in with_chaos if each["name"] == "authors"]
    return OnTask(
        task=cell["task"],
        lr=cell["bp_lr"],
        bp=bp,
        trained=tuple(by_z.values()),
        rule=AtRule(z_of_rule, accuracy_at(cell, cell["bp_lr"], z_of_rule)),
        tenth=by_z[z_of["share", TENTH]],
        tuned=by_z[cell["z_tuned"]],
        authors=by_z[z_of_authors],
        warned=tuple(_warned(each) for each in cell.get("after_warning", []) if each["ways"]),
    )


def _latest(warnings: Mapping[str, Any]) -> float | None:
    """The largest share of the reports along a training; of images none are kept."""
    known = [share for share in warnings.get("shares", []) if share is not None]
    return max(known, default=None)


def _warned(after: Mapping[str, Any]) -> Warned:
    """What a cell says of networks after a warning."""
    networks = zip(after["warned"], after["restarts"], strict=True)
    restarts = [number for epoch, number in networks if epoch is not None]
    return Warned(
        share=after["share"],
        networks=len(restarts),
        again=tuple(_share_after(after["share"], DIVISOR**-number) for number in restarts),
        accuracy={way: end["accuracy"] for way, end in after["ways"].items()},
    )


def _share_after(share: float, factor: float) -> float:
    """What a first share becomes where z is multiplied: its odds are proportional to z."""
    odds = factor * share / (1 - share)
    return odds / (1 + odds)
