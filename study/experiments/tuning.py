"""How settings are chosen: on tuning seeds and tuning splits, as `PROTOCOL.md` has it.

python -m study.experiments.tuning digits_1 bp --out bp.json
python -m study.experiments.tuning digits_1 csbp --bp bp.json --out csbp.json

With `--start start.json`, from `python -m study.experiments.start`, for networks that start from
the data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csbp_core.checks import check, check_choice

from .. import command
from ..command import read_cell
from ..protocol import MARGINS, digest
from ..tasks.tasks import TASKS, Task
from ..training.arms import BASELINE, UNUSED_STRENGTH, Candidate
from ..training.train import SCHEDULES, Training

FIRST_SEED = 10_000  # final seeds begin at 1,000
SPLITS = (9, 10, 11, 12)  # final splits are 1 to 8
NETWORKS = 16  # per candidate, four on each split
NETWORKS_TO_SOLVE = 64  # likewise, where a network counts as 0 or 1
LONGEST = 3  # the number of epochs is chosen up to so many times the task's own
SMOOTHED = 2  # validations on either side of one that are averaged with it
PART_OF_MARGIN = 0.1  # how much of the task's margin an earlier epoch may lack
EXTENSIONS = 3  # of a grid, on each side, at most
ROUNDING = 1e-12  # of means that would be equal
AT_ONCE = 256  # networks in one run, to save memory


# Where the grids of the baseline's learning rates and of each arm's strengths begin; the other arms
# start at the baseline's rate times a half, one and two.
LEARNING_RATES = (0.1, 0.2, 0.4, 0.8)
FACTORS = (0.5, 1.0, 2.0)
STRENGTHS = {
    "bp": (UNUSED_STRENGTH,),
    "csbp": (1.0, 3.0, 10.0, 30.0),
    "membrane": (3.0, 10.0, 30.0, 100.0),
    "firing_rate": (1.0, 10.0, 100.0),
    "quadratic_membrane": (3.0, 10.0, 30.0, 100.0),
}


class Conditions(NamedTuple):
    """What all candidates of one choice are trained under.

    Attributes:
        arm: the name of one of `study.training.arms.ARMS`.
        start_from_data: (mean, spread) as for `Training`; None for torch's start.
        schedule: of the learning rate, as for `Training`. Under "cosine" all epochs are trained.
    """

    arm: str
    start_from_data: tuple[float, float] | None = None
    schedule: str = "constant"


class Choice(NamedTuple):
    """The chosen setting.

    Attributes:
        lr: learning rate.
        z: strength of what the arm adds.
        epochs: after which training stops.
        accuracy: the largest mean validation accuracy of the tuning networks on the way, smoothed
            over five validations; the last one's under a cosine schedule.
        at_an_end: of which grids it lies at an end: of "lr", "z", "epochs".
        table: (lr, z, epochs, accuracy) of every candidate.
    """

    lr: float
    z: float
    epochs: int
    accuracy: float
    at_an_end: list[str]
    table: list[tuple[float, float, int, float]]


def longest(task: Task) -> int:
    """The most epochs that a training may last, and the length of its annealing."""
    return LONGEST * task.epochs


def choose(
    task: Task,
    conditions: Conditions,
    lrs: Sequence[float],
    zs: Sequence[float],
    tolerance: float = 0.0,
    networks: int = NETWORKS,
) -> Choice:
    """The best of all pairs of a learning rate and a strength, and the epoch to stop at.

    Where the best lies at an end of a grid that has more than one value, the grid goes on there by
    a factor of two, at most three times on each side. Of equal means the one that
    needs fewer epochs is chosen, then one inside of both grids, then the smaller z, then the
    smaller learning rate. Accuracy reaches a plateau, on which the best epoch is chance: the
    mean is smoothed, and the first epoch is chosen that lacks no more than the tolerance.

    Args:
        task: of `TASKS`.
        conditions: what all are trained under.
        lrs: learning rates, > 0.
        zs: strengths, > 0; a single one is not extended.
        tolerance: a share of the samples, >= 0.
        networks: per candidate, >= 1.
    """
    check("lrs", lrs, "(0, inf)", array=True)
    check("zs", zs, "(0, inf)", array=True)
    grids = {"lr": sorted(lrs), "z": sorted(zs)}
    extended: dict[tuple[str, str], int] = {}  # by grid and side
    curves: dict[Candidate, Tensor] = {}
    while True:
        missing = [
            Candidate(lr, z) for z in grids["z"] for lr in grids["lr"] if (lr, z) not in curves
        ]
        curves |= validation_curves(task, conditions, missing, networks)
        best = best_of(curves, task, conditions, tolerance)
        side = _side_to_extend(best, grids, extended)
        if side is None:
            return _choice(best, curves, grids, task, conditions, tolerance)
        grid, end = side
        extended[side] = extended.get(side, 0) + 1
        if end == "low":
            grids[grid].insert(0, grids[grid][0] / 2)
        else:
            grids[grid].append(grids[grid][-1] * 2)


class Best(NamedTuple):
    """A candidate, the epoch to stop it at, and its largest smoothed mean accuracy on the way."""

    candidate: Candidate
    epochs: int
    accuracy: float


def best_of(
    curves: dict[Candidate, Tensor],
    task: Task,
    conditions: Conditions,
    tolerance: float = 0.0,
) -> Best:
    """The best candidate; ties as `choose` breaks them.

    Args:
        curves: validation accuracies, `[validations, networks]`.
        task: how often it is validated.
        conditions: under a cosine schedule only the last epoch counts.
        tolerance: as for `choose`.
    """
    found = [
        _at_its_best(candidate, curve, task, conditions, tolerance)
        for candidate, curve in curves.items()
    ]

    inside = {
        "lr": _inner_values(candidate.lr for candidate in curves),
        "z": _inner_values(candidate.z for candidate in curves),
    }

    def order(best: Best) -> tuple[float, int, int, float, float]:
        candidate = best.candidate
        ends = (candidate.lr not in inside["lr"]) + (candidate.z not in inside["z"])
        return (-best.accuracy, best.epochs, ends, candidate.z, candidate.lr)

    return min(found, key=order)


def _inner_values(values: Iterable[float]) -> set[float]:
    """A grid's values without its two ends; a single value has none."""
    grid = sorted(set(values))
    return set(grid[1:-1] if len(grid) > 1 else grid)


def _at_its_best(
    candidate: Candidate,
    curve: Tensor,
    task: Task,
    conditions: Conditions,
    tolerance: float,
) -> Best:
    means = curve.mean(1)
    if conditions.schedule == "cosine":  # it ends where the rate does
        return Best(candidate, len(means) * task.every, round(float(means[-1]), 12))
    means = smoothed(means)
    is_as_good = means >= means.max() - tolerance - ROUNDING
    first = int(is_as_good.int().argmax())
    return Best(candidate, (first + 1) * task.every, round(float(means.max()), 12))


def smoothed(values: Tensor) -> Tensor:
    """The mean of each value and its neighbours, two on either side; fewer at the ends.

    Example:
        >>> smoothed(torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0]))
        tensor([1.0000, 1.0000, 0.8000, 1.0000, 0.3333])
    """
    last = len(values)
    windows = [values[max(0, at - SMOOTHED) : min(last, at + SMOOTHED + 1)] for at in range(last)]
    return torch.stack([window.mean() for window in windows])


def _side_to_extend(
    best: Best,
    grids: dict[str, list[float]],
    extended: dict[tuple[str, str], int],
) -> tuple[str, str] | None:
    """The grid and the side at whose end the best lies, if it may still be extended there."""
    for grid, value in best.candidate._asdict().items():
        values = grids[grid]
        for side, end in (("low", values[0]), ("high", values[-1])):
            is_open = len(values) > 1 and extended.get((grid, side), 0) < EXTENSIONS
            if value == end and is_open:
                return grid, side
    return None


def _choice(
    best: Best,
    curves: dict[Candidate, Tensor],
    grids: dict[str, list[float]],
    task: Task,
    conditions: Conditions,
    tolerance: float,
) -> Choice:
    at_an_end = [
        grid
        for grid, value in best.candidate._asdict().items()
        if len(grids[grid]) > 1 and value in (grids[grid][0], grids[grid][-1])
    ]
    is_late = best.epochs > 0.9 * longest(task)
    if conditions.schedule == "constant" and is_late:
        at_an_end.append("epochs")
    table = []
    for candidate, curve in curves.items():
        found = _at_its_best(candidate, curve, task, conditions, tolerance)
        table.append((candidate.lr, candidate.z, found.epochs, found.accuracy))
    return Choice(*best.candidate, best.epochs, best.accuracy, at_an_end, sorted(table))


def validation_curves(
    task: Task,
    conditions: Conditions,
    candidates: Sequence[Candidate],
    networks: int = NETWORKS,
) -> dict[Candidate, Tensor]:
    """The validation accuracies of every candidate over the epochs, `[validations, networks]`.

    All candidates get the same networks, on the same splits, so that they can be compared.
    """
    curves: dict[Candidate, Tensor] = {}
    together = max(1, AT_ONCE // networks)
    for first in range(0, len(candidates), together):
        some = candidates[first : first + together]
        numbers = list(range(networks)) * len(some)
        run = Training(
            task,
            conditions.arm,
            seeds=[FIRST_SEED + number for number in numbers],
            lr=[candidate.lr for candidate in some for _ in range(networks)],
            z=[candidate.z for candidate in some for _ in range(networks)],
            epochs=longest(task),
            splits=[SPLITS[number % len(SPLITS)] for number in numbers],
            start_from_data=conditions.start_from_data,
            schedule=conditions.schedule,
        )
        _, curve = run.train()  # [validations, networks of all]
        parts = curve.split(networks, dim=1)  # [validations, networks] each
        curves |= dict(zip(some, parts, strict=True))
    return curves


def tune(name: str, conditions: Conditions, bp_lr: float | None) -> dict[str, Any]:
    """Choose the settings of an arm, as numbers that JSON knows.

    Args:
        name: of a task, of `TASKS`.
        conditions: what all candidates are trained under; its arm one of `STRENGTHS`.
        bp_lr: the baseline's chosen learning rate under the same conditions; None for itself.

    Raises ValueError for an unknown name, or if the baseline's rate is missing.
    """
    check_choice("name", name, TASKS)
    check_choice("arm", conditions.arm, STRENGTHS)
    if conditions.arm == BASELINE:
        lrs: Sequence[float] = LEARNING_RATES
    elif bp_lr is None:
        raise ValueError(
            f"--bp is missing: {conditions.arm} is tuned around the rate of {BASELINE}"
        )
    else:
        lrs = [factor * bp_lr for factor in FACTORS]
    tolerance = PART_OF_MARGIN * MARGINS[name] / 100  # a margin is in points
    task = TASKS[name]
    networks = NETWORKS_TO_SOLVE if task.solve else NETWORKS
    choice = choose(task, conditions, lrs, STRENGTHS[conditions.arm], tolerance, networks)
    return {"task": name, **conditions._asdict(), **choice._asdict()}


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=STRENGTHS)
    parser.add_argument("--bp", type=Path, help="what this command wrote for bp")
    parser.add_argument(
        "--start", type=Path, help="what study.experiments.start wrote; without it torch's start"
    )
    parser.add_argument("--schedule", choices=SCHEDULES, default="constant")
    return parser


def read_choice(name: str, path: Path, task: str, arm: str) -> dict[str, Any]:
    """What this command wrote before.

    Args:
        name: what the path was given as, for the message.
        path: the JSON that it wrote.
        task: that it was tuned for.
        arm: likewise.

    Raises ValueError, one line, for any other file.
    """
    choice = read_cell(name, path, writer="study.experiments.tuning")
    if (choice.get("task"), choice.get("arm")) != (task, arm):
        raise ValueError(
            f"{name} = {path}: must be what study.experiments.tuning wrote for {task} {arm}"
        )
    return choice


def read_start(name: str, path: Path, task: str) -> dict[str, Any]:
    """What `study.experiments.start` wrote: the chosen start, and the choice for bp of every start.

    Args:
        name: what the path was given as, for the message.
        path: the JSON that it wrote.
        task: that it was chosen for.

    Raises ValueError, one line, for any other file.
    """
    start = read_cell(name, path, writer="study.experiments.start")
    if start.get("task") != task or "choices" not in start:
        raise ValueError(f"{name} = {path}: must be what study.experiments.start wrote for {task}")
    return start


def conditions_of(choice: Mapping[str, Any]) -> Conditions:
    """What a choice was tuned under, as `tune` recorded it."""
    start = choice["start_from_data"]
    return Conditions(choice["arm"], start if start is None else tuple(start), choice["schedule"])


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The choice that the command line asks for."""
    choices = []
    start_from_data = None
    if options.start is not None:
        start = read_start("--start", options.start, options.task)
        start_from_data = tuple(start["start_from_data"])
        choices = start["choices"]
    conditions = Conditions(options.arm, start_from_data, options.schedule)
    for choice in choices:
        if conditions_of(choice) == conditions:  # made when the start was chosen
            return choice
    bp_lr = None
    if options.bp is not None:
        bp = read_choice("--bp", options.bp, options.task, BASELINE)
        if conditions_of(bp) != conditions._replace(arm=BASELINE):
            raise ValueError(f"--bp = {options.bp}: must be of the same start and schedule")
        bp_lr = bp["lr"]
    return tune(options.task, conditions, bp_lr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.experiments.tuning", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
