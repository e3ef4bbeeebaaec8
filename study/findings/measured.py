"""What is shown beside the contrasts of the study, from its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..experiments.experiment_1 import (
    ANNEALINGS,
    TASK_NAMES as ONE_LAYER_TASKS,
    TUNED_Z_OVER_END,
    Place,
    grid,
)
from ..experiments.experiment_4 import EVERY_ARM as ARMS_ON_IMAGES, FC1_ARMS
from ..fashion_mnist.training import INNER_I0, Z, annealed
from ..protocol import IMAGES
from ..tasks.tasks import TASKS
from ..training.arms import I0
from ..training.overshoot import RULES
from .cells import Cells, cells_on_images, in_points, rules_path

DECISIVE = Place("inside", "20/20", 2.0)  # where the primary contrast of experiment 1 is

# In per cent: one of ten classes, one of five; and a guess never solves all of xor.
BY_GUESSING = {"digits_1": 10.0, "randman_1": 20.0, "xor": 0.0, IMAGES: 10.0}


def is_at_chance(accuracy: float, task: str) -> bool:
    """Whether an accuracy, in points, is less than a point above that of a guess.

    Example:
        >>> is_at_chance(10.4, "digits_1"), is_at_chance(11.0, "digits_1")
        (True, False)
    """
    return accuracy < BY_GUESSING[task] + 1


# z_c of fc1 as cells record it is that of the authors' I0; this many times that is it for the arms
# on fc1 alone: z_c is proportional to 1 / (I0 (1 - I0)).
TIMES_FOR_INNER = I0 * (1 - I0) / (INNER_I0 * (1 - INNER_I0))


# Experiment 1


class AboveCritical(NamedTuple):
    """How long z was at z_c or above at a place of experiment 1.

    Attributes:
        task: its name.
        rest: of `Place`, as are the next two.
        annealing: likewise.
        ratio: likewise, at least 1: z never rises.
        fewest: epochs, of the networks of the split where they are fewest.
        most: the same where they are most.
    """

    task: str
    rest: str
    annealing: str
    ratio: float
    fewest: int
    most: int


def above_critical(cells: Cells) -> list[AboveCritical]:
    """How long z was at z_c or above, for every cell that is there and starts there."""
    found = []
    for task in ONE_LAYER_TASKS:
        for place in grid():
            cell = cells.get(rules_path(task, place))
            if cell is not None and place.ratio >= 1:
                epochs = epochs_above_critical(cell)
                found.append(AboveCritical(task, *place, int(epochs.min()), int(epochs.max())))
    return found


def epochs_above_critical(cell: Mapping[str, Any]) -> np.ndarray:
    """In how many epochs z was at z_c or above, `[networks]`.

    Args:
        cell: of experiment 1. `overshoot.FallingZ` says how z falls.
    """
    annealing = ANNEALINGS[cell["annealing"]]
    twentieth = TASKS[cell["task"]].epochs // 20
    epochs = np.arange(annealing.trains * twentieth)
    falling = np.maximum(0, epochs - annealing.holds * twentieth)
    passed = np.minimum(1, falling / (annealing.falls * twentieth))
    z_start = np.array(cell["z_start"])[:, np.newaxis]
    z_end = np.minimum(z_start, cell["z_tuned"] / TUNED_Z_OVER_END)
    over_critical = cell["ratio"] * (z_end / z_start) ** passed  # z / z_c, [networks, epochs]
    return (over_critical >= 1).sum(1)


class OfTuning(NamedTuple):
    """How far the z that tuning chose for csbp is from z_c, at the published I0.

    Attributes:
        task: its name.
        z: as tuned, that of the first epoch.
        smallest: of the splits, z / z_c of the hidden layer.
        largest: likewise.
    """

    task: str
    z: float
    smallest: float
    largest: float


def of_tuned_strengths(cells: Cells) -> list[OfTuning]:
    """How far the tuned z is from z_c, of the tasks whose decisive cell is there.

    Those have z_c of every split, at the same learning rate, for the inner rest point.
    """
    found = []
    for task in ONE_LAYER_TASKS:
        cell = cells.get(rules_path(task, DECISIVE))
        if cell is not None:
            limits = np.array(cell["z_start"]) / (cell["ratio"] * TIMES_FOR_INNER)
            ratios = cell["z_tuned"] / limits
            found.append(OfTuning(task, cell["z_tuned"], float(ratios.min()), float(ratios.max())))
    return found


class OfRule(NamedTuple):
    """What the networks of a rule came to, means over them in points.

    Attributes:
        task: its name.
        rule: of `overshoot.RULES`.
        curve: validation accuracy over the epochs, from every `Task.every` on.
        accuracy: on the test samples.
        rate: of the hidden neurons there, spikes per hundred time steps.
        zero_surrogate: of all (neuron, test sample) pairs, those without a surrogate gradient at
            any step.
        dead: of the hidden neurons.
    """

    task: str
    rule: str
    curve: list[float]
    accuracy: float
    rate: float
    zero_surrogate: float
    dead: float


def of_decisive_rules(cells: Cells) -> list[OfRule]:
    """What the rules came to where the primary contrast of experiment 1 is."""
    found = []
    for task in ONE_LAYER_TASKS:
        rules = cells.get(rules_path(task, DECISIVE), {}).get("rules", {})
        for rule in RULES:
            if rule in rules:
                found.append(_of_rule(task, rule, rules[rule]))
    return found


def _of_rule(task: str, rule: str, trained: Mapping[str, Any]) -> OfRule:
    """What the networks of a rule came to."""
    measures = ("accuracy", "rate", "zero_surrogate", "dead")
    means = {measure: float(in_points(trained[measure]).mean()) for measure in measures}
    return OfRule(task, rule, curve=in_points(trained["curve"]).tolist(), **means)


# Experiment 4


class OfArm(NamedTuple):
    """What the networks of an arm of experiment 4 came to, means over them.

    NaN where the number of a network is not finite, None where an arm has no such number.

    Attributes:
        arm: its name.
        start_from_data: (mean, spread) of every channel's current at the start.
        accuracy: on the test images, in points.
        at_chance: how many networks are no better there than a guess, by less than a point.
        critical_z_start: of fc1's output before the training, for the arm's I0, at the learning
            rate with which training starts.
        critical_z_end: the same after the training.
        over_critical_start: z / z_c of fc1 in the first epoch, with the first of the two.
        over_critical_end: the same in the last epoch, with the second.
        gradient_share_start: the chaotic loss's share of the gradient at fc1's output, in points,
            at the end of the first epoch.
        gradient_share_end: the same at the end of the last.
    """

    arm: str
    start_from_data: list[float] | None
    accuracy: float
    at_chance: int
    critical_z_start: float
    critical_z_end: float
    over_critical_start: float | None
    over_critical_end: float | None
    gradient_share_start: float | None
    gradient_share_end: float | None


def of_arms_on_images(cells: Cells) -> list[OfArm]:
    """What every arm of experiment 4 came to whose cells are all there."""
    found = []
    for arm in ARMS_ON_IMAGES:
        of_splits = cells_on_images(cells, arm)
        if of_splits:
            found.append(_of_arm(arm, of_splits))
    return found


def _of_arm(arm: str, of_splits: Sequence[Mapping[str, Any]]) -> OfArm:
    """What the networks of an arm came to.

    Args:
        arm: its name.
        of_splits: its cells.
    """
    times = TIMES_FOR_INNER if arm in FC1_ARMS else 1.0
    start, end = (
        times * _joined([cell[name]["critical_z"] for cell in of_splits])
        for name in ("fc1_start", "fc1_end")
    )
    over_start, over_end = _over_critical(arm, start, end, of_splits[0]["epochs"])
    share_start, share_end = _gradient_shares(of_splits)
    accuracy = in_points(_joined([cell["accuracy"] for cell in of_splits]))
    return OfArm(
        arm=arm,
        start_from_data=of_splits[0]["start_from_data"],
        accuracy=float(accuracy.mean()),
        at_chance=sum(is_at_chance(float(of_one), IMAGES) for of_one in accuracy),
        critical_z_start=float(start.mean()),
        critical_z_end=float(end.mean()),
        over_critical_start=over_start,
        over_critical_end=over_end,
        gradient_share_start=share_start,
        gradient_share_end=share_end,
    )


def _over_critical(
    arm: str,
    start: np.ndarray,
    end: np.ndarray,
    epochs: int,
) -> tuple[float | None, float | None]:
    """z / z_c of fc1 in the first and in the last epoch, None without a chaotic loss.

    Args:
        arm: its name.
        start: z_c before the training, `[networks]`.
        end: the same after it.
        epochs: of the training.
    """
    if arm == "csbp":
        z_start = np.full_like(start, Z)
    elif arm in FC1_ARMS:
        z_start = start
    else:
        return None, None
    z_last = np.array([annealed(z, epochs - 1, epochs) for z in z_start])
    return float((z_start / start).mean()), float((z_last / end).mean())


def _gradient_shares(
    of_splits: Sequence[Mapping[str, Any]],
) -> tuple[float | None, float | None]:
    """The share of the gradient after the first and the last epoch, in points; None if none is."""
    if not of_splits[0]["gradient_share"]:
        return None, None
    first, last = (
        in_points(_joined([cell["gradient_share"][epoch] for cell in of_splits])).mean()
        for epoch in (0, -1)
    )
    return float(first), float(last)


def _joined(of_splits: Sequence[Sequence[float | None]]) -> np.ndarray:
    """The numbers of all networks, NaN for None, which in JSON is not finite."""
    return np.concatenate([np.array(numbers, dtype=float) for numbers in of_splits])
