"""What the cells of `of_training` and `of_a_layer` hold, as arrays, and which growth lasts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..command import read_cell
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..tasks.tasks import TASKS
from .of_training import ARMS, D0, PARTS

# Of `D0`. At the first nothing is seen but the derivative of a step: the spikes are held.
HELD = 0
FLIPPING = len(D0) - 1

# Growth counts from a factor of e on, in a fifth of the training: its own time, one over the
# exponent, is shorter than the fifth then.
E_FOLD = 1.0

BY_DISTANCE = ("exponent", "downhill", "overshoot", "flipped")


class Along(NamedTuple):
    """What was measured along the trainings of an arm in a task.

    Attributes:
        task: its name.
        arm: its name.
        lr: learning rate, as tuned.
        steps: of every part of the training, `[parts]`.
        exponent: growth per step, `[parts, distances, networks]`, as are the next three.
        downhill: the share of the steps with a negative curvature along the difference.
        overshoot: of those that overshoot along it.
        flipped: the share of the spikes that the difference flips.
        steepness: ``lr l / (2 (1 + m))`` in the steepest direction, `[parts, networks]`.
    """

    task: str
    arm: str
    lr: float
    steps: np.ndarray
    exponent: np.ndarray
    downhill: np.ndarray
    overshoot: np.ndarray
    flipped: np.ndarray
    steepness: np.ndarray


Trainings = Mapping[tuple[str, str], Along]  # by task and arm
Layers = Mapping[str, Sequence[Mapping[str, Any]]]  # by task, the records of `of_a_layer`


class Kinds(NamedTuple):
    """How many networks there are of each kind.

    Attributes:
        lasting: differences grow by a factor of e or more in the last fifth of the training.
        transient: they do so in an earlier one, and not in the last.
        none: they do so in none.
    """

    lasting: int
    transient: int
    none: int


def read_trainings(folder: Path) -> dict[tuple[str, str], Along]:
    """The cells of `of_training` that are there, tasks and arms in their order.

    Args:
        folder: that of all cells of the study, usually `study/results`.

    Raises ValueError, one line, for a file that holds no cell of its task and arm, or one that was
    measured at other distances or in other parts.
    """
    found = {}
    for task, arm in itertools.product(TASKS, ARMS):
        file = folder / "chaos" / "of_training" / task / f"{arm}.json"
        if file.exists():
            found[task, arm] = _along(_read_training_of(file, task, arm))
    return found


def read_layers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """By task the records of the cells of `of_a_layer` that are there.

    Args:
        folder: likewise.

    Raises ValueError, one line, for a file that holds no cell of its task.
    """
    found = {}
    for task in ONE_LAYER_TASKS:
        file = folder / "chaos" / "of_a_layer" / f"{task}.json"
        if file.exists():
            found[task] = _read_layers_of(file, task)
    return found


def _read_layers_of(file: Path, task: str) -> list[dict[str, Any]]:
    """The records of a cell of that task."""
    writer = "study.chaos.of_a_layer"
    cell = read_cell("cell", file, writer)
    if cell.get("task") != task:
        raise ValueError(f"cell = {file}: must be of {task}, as {writer} writes it")
    return cell["layers"]


def _read_training_of(file: Path, task: str, arm: str) -> dict[str, Any]:
    """A cell of that task and arm, at the distances and in the parts that are looked at."""
    writer = "study.chaos.of_training"
    cell = read_cell("cell", file, writer)
    said = [cell.get(name) for name in ("task", "arm", "distances")]
    if said != [task, arm, list(D0)] or len(cell["parts"]) != PARTS:
        must = f"must be of {task} by {arm}, at all distances and in {PARTS} parts"
        raise ValueError(f"cell = {file}: {must}, as {writer} writes it")
    return cell


def _along(cell: Mapping[str, Any]) -> Along:
    """A cell as arrays."""
    names = (*BY_DISTANCE, "steepness")
    values = {name: np.array([part[name] for part in cell["parts"]], dtype=float) for name in names}
    task = TASKS[cell["task"]]
    per_epoch = len(task.data(cell["splits"][0]).y_train) // task.batch
    parts = np.array_split(np.arange(cell["epochs"] * per_epoch), PARTS)
    return Along(
        task=cell["task"],
        arm=cell["arm"],
        lr=cell["lr"],
        steps=np.array([len(numbers) for numbers in parts]),
        **values,
    )


def over_training(along: Along, values: np.ndarray) -> np.ndarray:
    """The mean over all steps of means over parts `[parts, *]`."""
    return np.average(values, axis=0, weights=along.steps)


def growth_in_last_fifth(along: Along, distance: int) -> np.ndarray:
    """By what factor a difference grows in the last fifth of the training, `[networks]`.

    Args:
        along: the trainings.
        distance: its place in `D0`.
    """
    return np.exp(along.exponent[-1, distance] * along.steps[-1])


def kinds(along: Along, distance: int) -> Kinds:
    """How many networks there are in which growth lasts, is transient, or is none.

    Args:
        along: the trainings.
        distance: its place in `D0`.
    """
    folds = along.exponent[:, distance] * along.steps[:, np.newaxis]  # [parts, networks]
    is_growing = folds >= E_FOLD
    is_lasting = is_growing[-1]
    is_transient = is_growing.any(axis=0) & ~is_lasting
    lasting, transient = int(is_lasting.sum()), int(is_transient.sum())
    return Kinds(lasting, transient, len(is_lasting) - lasting - transient)
