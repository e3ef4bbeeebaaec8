"""The cells of the second study: where they are, and what they say of an arm.

They lie in `study/results/`, a JSON each, as `study.experiment_1`, `_2` and `_3` write them. A cell
is known by its path from there, without the suffix.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .command import read_cell
from .experiment_1 import TASK_NAMES as ONE_LAYER_TASKS, Place, grid
from .experiment_2 import ARMS
from .experiment_3 import TIMES
from .protocol import final_networks
from .robustness import NOISES
from .tasks import TASKS
from .train import SCHEDULES
from .tuning import read_choice

STARTS = ("now", "data")  # how the weights are initialised in experiment 2

Cells = Mapping[str, Mapping[str, Any]]  # by path


def rules_path(task: str, place: Place) -> str:
    """The cell of all rules of experiment 1 at a place of its grid.

    Example:
        >>> rules_path("xor", Place("inside", "20/20", 2.0))
        'experiment_1/xor/inside_20-20_2.0'
    """
    return f"experiment_1/{task}/{place.file_name}"


def halved_path(task: str) -> str:
    """The same where the primary contrast is, with the steps of the flow halved."""
    return f"experiment_1/{task}/halved_steps"


def arm_path(task: str, start: str, schedule: str, arm: str) -> str:
    """The cell of an arm of experiment 2."""
    return f"experiment_2/{task}/{start}_{schedule}/{arm}"


def quadratic_path(task: str) -> str:
    """The cell of the quadratic pull on the membrane."""
    return f"experiment_3/{task}/quadratic_membrane"


def substeps_path(task: str, times: int) -> str:
    """The cell of the membrane form at so many times its tuned z, by sub-steps."""
    return f"experiment_3/{task}/times_{times}"


def expected_cells() -> list[str]:
    """The paths of all cells that the protocol asks for."""
    paths = []
    for task in ONE_LAYER_TASKS:
        paths += [rules_path(task, place) for place in grid()]
        paths.append(halved_path(task))
    for task in TASKS:
        for start, schedule in itertools.product(STARTS, SCHEDULES):
            is_as_now = (start, schedule) == ("now", "constant")
            arms = [name for name, arm in ARMS.items() if arm.everywhere or is_as_now]
            paths += [arm_path(task, start, schedule, arm) for arm in arms]
        paths.append(quadratic_path(task))
        paths += [substeps_path(task, times) for times in TIMES]
    return paths


def read_cells(folder: Path) -> dict[str, dict[str, Any]]:
    """All expected cells that are there.

    Args:
        folder: where they are, usually `study/results`.

    Raises ValueError, one line, for a folder that is none, and for a file that holds no cell of its
    task, or one of other networks than the final ones.
    """
    if not folder.is_dir():
        raise ValueError(f"folder = {folder}: must be a folder of cells")
    cells = {}
    for path in expected_cells():
        file = folder / f"{path}.json"
        if file.exists():
            cells[path] = _read_final(file, task=path.split("/")[1])
    return cells


def _read_final(file: Path, task: str) -> dict[str, Any]:
    """A cell of a task's final networks; only between those are contrasts paired."""
    cell = read_cell("cell", file)
    networks = (cell.get("seeds"), cell.get("splits"))
    if cell.get("task") != task or networks != final_networks(task):
        raise ValueError(f"cell = {file}: must be of the final networks of {task}")
    return cell


def read_choices(folder: Path) -> dict[str, dict[str, Any]]:
    """The tuned settings of experiments 2 and 3 that are there, by path.

    Args:
        folder: as for `read_cells`.

    Raises ValueError, one line, for a file that `study.tuning` has not written for that task.
    """
    tuned = sorted({arm.tuned_as for arm in ARMS.values()})
    choices = {}
    for task, start, schedule in itertools.product(TASKS, STARTS, SCHEDULES):
        for arm in [*tuned, "quadratic_membrane"]:
            path = f"tuning/{task}/{start}_{schedule}/{arm}"
            file = folder / f"{path}.json"
            if file.exists():
                choices[path] = read_choice("choice", file, task, arm)
    return choices


class Trained(NamedTuple):
    """What the final networks of one arm came to.

    Attributes:
        splits: of the networks, `[networks]`.
        measures: by name, `[networks]` each: `accuracy`, `dead` and `rate` in points, the last of
            time steps; `epochs` to the solution, where these were recorded; and for every kind and
            level of noise two that `noise_measure` and `change_measure` name, in points.
    """

    splits: list[int]
    measures: dict[str, np.ndarray]


def noise_measure(kind: str, level: float) -> str:
    """The measure that is the accuracy under a kind and level of noise.

    Example:
        >>> noise_measure("weights", 0.05)
        'weights 0.05'
    """
    return f"{kind} {level:g}"


def change_measure(kind: str, level: float) -> str:
    """The measure that is this accuracy minus the one without noise.

    Example:
        >>> change_measure("weights", 0.05)
        'weights 0.05 - none'
    """
    return f"{noise_measure(kind, level)} - none"


def trained_by_rule(cells: Cells, path: str, rule: str) -> Trained | None:
    """The networks of a rule of experiment 1; None where they are missing."""
    cell = cells.get(path, {})
    found = cell.get("rules", {}).get(rule)
    return None if found is None else _trained(cell, found)


def trained_by_arm(cells: Cells, path: str) -> Trained | None:
    """The networks of a cell with a single arm; None where it is missing."""
    cell = cells.get(path)
    return None if cell is None else _trained(cell, cell)


def trained_by_substeps(cells: Cells, path: str, number: int) -> Trained | None:
    """The networks trained with a number of sub-steps; None where they are missing."""
    cell = cells.get(path, {})
    found = cell.get("substeps", {}).get(str(number))
    return None if found is None else _trained(cell, found)


def most_substeps(cells: Cells, path: str) -> int:
    """The largest number of sub-steps that was trained; 0 where the cell is missing."""
    numbers = cells.get(path, {}).get("substeps", {})
    return max((int(number) for number in numbers), default=0)


def _trained(cell: Mapping[str, Any], found: Mapping[str, Any]) -> Trained:
    """The networks of an arm.

    Args:
        cell: says what is common to its arms.
        found: what the networks came to, shares in [0, 1].
    """
    measures = {name: in_points(found[name]) for name in ("accuracy", "dead", "rate")}
    for kind, accuracies in found.get("robustness", {}).items():
        for level, accuracy in zip(NOISES[kind].levels, accuracies, strict=True):
            noisy = in_points(accuracy)
            measures[noise_measure(kind, level)] = noisy
            measures[change_measure(kind, level)] = noisy - measures["accuracy"]
    if "epochs_to_solution" in found:
        # No network is left out: one that never solved it counts with a validation more.
        never = (len(found["curve"]) + 1) * TASKS[cell["task"]].every
        epochs = [never if epoch is None else epoch for epoch in found["epochs_to_solution"]]
        measures["epochs"] = np.asarray(epochs, dtype=float)
    return Trained(cell["splits"], measures)


def in_points(shares: Sequence[float]) -> np.ndarray:
    """Shares in [0, 1] in per cent.

    Example:
        >>> in_points([0.5, 1]).tolist()
        [50.0, 100.0]
    """
    return 100 * np.asarray(shares, dtype=float)
