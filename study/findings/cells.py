"""The cells of the study: where they are, and what they say of an arm.

They lie in `study/results/`, a JSON each, written by the commands of `study.experiments`. A cell is
known by its path from there, without the suffix.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..command import read_cell
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS, Place, grid
from ..experiments.experiment_2 import ARMS
from ..experiments.experiment_3 import TIMES
from ..experiments.experiment_4 import EVERY_ARM as ARMS_ON_IMAGES, PROTOCOL_SETTING, networks_of
from ..experiments.tuning import read_choice
from ..fashion_mnist.measurements import KINDS as KINDS_ON_IMAGES
from ..protocol import SPLITS, final_networks
from ..tasks.tasks import TASKS
from ..training.robustness import NOISES
from ..training.train import SCHEDULES

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


def images_path(arm: str, split: int) -> str:
    """The cell of an arm of experiment 4 on a split."""
    return f"experiment_4/{arm}/split_{split}"


def expected_cells() -> list[str]:
    """The paths of all cells that the protocol asks for."""
    return [*_required_of_tasks(), *_required_on_images()]


def _required_of_tasks() -> dict[str, dict[str, Any]]:
    """By the path of every cell of experiments 1 to 3, what it must say of itself."""
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
    tasks = {path: path.split("/")[1] for path in paths}
    return {path: {"task": task, **final_networks(task)._asdict()} for path, task in tasks.items()}


def _required_on_images() -> dict[str, dict[str, Any]]:
    """The same of experiment 4."""
    setting = PROTOCOL_SETTING._asdict() | {"channels": list(PROTOCOL_SETTING.channels)}
    return {
        images_path(arm, split): {"arm": arm, **setting, **networks_of(arm, split)._asdict()}
        for arm in ARMS_ON_IMAGES
        for split in SPLITS
    }


def read_cells(folder: Path) -> dict[str, dict[str, Any]]:
    """All expected cells that are there.

    Args:
        folder: where they are, usually `study/results`.

    Raises ValueError, one line, for a folder that is none, and for a file that holds no cell of its
    task or arm, or one of other networks than the final ones; likewise for cells of experiment 4
    that are larger, or whose networks start from the images in different ways.
    """
    if not folder.is_dir():
        raise ValueError(f"folder = {folder}: must be a folder of cells")
    cells = {}
    for path, required in (_required_of_tasks() | _required_on_images()).items():
        file = folder / f"{path}.json"
        if file.exists():
            cells[path] = _read_final(file, required)
    _check_one_start(folder, cells)
    return cells


def _read_final(file: Path, required: Mapping[str, Any]) -> dict[str, Any]:
    """A cell of the final networks; only between those are contrasts paired."""
    cell = read_cell("cell", file, "study.experiments.experiment_1 to _4")
    wrong = [name for name, value in required.items() if cell.get(name) != value]
    if wrong:
        name = required.get("task", required.get("arm"))
        raise ValueError(
            f"cell = {file}: must be of the final networks of {name}, and differs in"
            f" {', '.join(wrong)}"
        )
    return cell


def _check_one_start(folder: Path, cells: Cells) -> None:
    """Raise ValueError, one line, where the networks of bp_data have not all the same start."""
    paths = [images_path("bp_data", split) for split in SPLITS]
    starts = [cells[path]["start_from_data"] for path in paths if path in cells]
    if any(start != starts[0] for start in starts):
        must = "must be the same in all cells of experiment_4/bp_data"
        raise ValueError(f"start_from_data in {folder}: {must}")


def read_choices(folder: Path) -> dict[str, dict[str, Any]]:
    """The tuned settings of experiments 2 and 3 that are there, by path.

    Args:
        folder: as for `read_cells`.

    Raises ValueError, one line, for a file that `study.experiments.tuning` has not written for that
    task.
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
            time steps, in experiment 4 `dead 1`, `rate 1` and so on of its two layers of neurons;
            `epochs` to the solution, where these were recorded; and for every kind and level of
            noise two that `noise_measure` and `change_measure` name, in points.
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


def cells_on_images(cells: Cells, arm: str) -> list[Mapping[str, Any]]:
    """The cells of an arm of experiment 4, one per split; none where not all are there."""
    paths = [images_path(arm, split) for split in SPLITS]
    return [cells[path] for path in paths] if all(path in cells for path in paths) else []


def trained_on_images(cells: Cells, arm: str) -> Trained | None:
    """The networks of an arm of experiment 4, of all splits; None where a cell is missing."""
    of_splits = cells_on_images(cells, arm)
    if not of_splits:
        return None

    def joined(name: str) -> np.ndarray:
        """The networks of one split after those of the other, in points."""
        return in_points(np.concatenate([cell[name] for cell in of_splits], axis=-1))

    measures = {"accuracy": joined("accuracy")}
    for name in ("dead", "rate"):
        for layer, values in enumerate(joined(name), start=1):
            measures[f"{name} {layer}"] = values
    noisy = [cell["robustness"] for cell in of_splits]
    robustness = {
        kind: np.concatenate([found[kind] for found in noisy], axis=-1) for kind in KINDS_ON_IMAGES
    }
    measures |= _under_noise(robustness, measures["accuracy"])
    return Trained([split for cell in of_splits for split in cell["splits"]], measures)


def _trained(cell: Mapping[str, Any], found: Mapping[str, Any]) -> Trained:
    """The networks of an arm.

    Args:
        cell: says what is common to its arms.
        found: what the networks came to, shares in [0, 1].
    """
    measures = {name: in_points(found[name]) for name in ("accuracy", "dead", "rate")}
    measures |= _under_noise(found.get("robustness", {}), measures["accuracy"])
    if "epochs_to_solution" in found:
        # No network is left out: one that never solved it counts with a validation more.
        never = (len(found["curve"]) + 1) * TASKS[cell["task"]].every
        epochs = [never if epoch is None else epoch for epoch in found["epochs_to_solution"]]
        measures["epochs"] = np.asarray(epochs, dtype=float)
    return Trained(cell["splits"], measures)


def _under_noise(robustness: Mapping[str, ArrayLike], clean: np.ndarray) -> dict[str, np.ndarray]:
    """The measures under noise, in points, `[networks]` each.

    Args:
        robustness: by kind of noise the accuracies, in [0, 1], `[levels, networks]`.
        clean: the accuracy without noise, in points.
    """
    measures = {}
    for kind, accuracies in robustness.items():
        for level, noisy in zip(NOISES[kind].levels, in_points(accuracies), strict=True):
            measures[noise_measure(kind, level)] = noisy
            measures[change_measure(kind, level)] = noisy - clean
    return measures


def in_points(shares: ArrayLike) -> np.ndarray:
    """Shares in [0, 1] in per cent.

    Example:
        >>> in_points([0.5, 1]).tolist()
        [50.0, 100.0]
    """
    return 100 * np.asarray(shares, dtype=float)
