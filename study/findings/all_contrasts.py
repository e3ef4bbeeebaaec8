"""All contrasts of the study, from its cells, as `PROTOCOL.md` fixes them.

Pure functions from cells to all that they say; `python -m study.findings` writes it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..contrasts import CANNOT_TELL, HELPS, HURTS, Contrast, contrast, split_means
from ..experiments.experiment_3 import TIMES
from ..tasks.tasks import TASKS
from .cells import Cells, arm_path, expected_cells, substeps_path, trained_by_arm
from .measured import (
    AboveCritical,
    OfArm,
    OfRule,
    OfTuning,
    above_critical,
    of_arms_on_images,
    of_decisive_rules,
    of_tuned_strengths,
)
from .primary import primary_of_1, primary_of_2, primary_of_3, primary_of_4
from .rows import BEST_BP, Row, is_of_accuracy
from .secondary import secondary_of_1, secondary_of_2, secondary_of_3, secondary_of_4

DIRTY = ", changed"  # after a commit, where files were not as in it


class Floor(NamedTuple):
    """The noise floor of a task: csbp summed in another order, less csbp.

    Attributes:
        task: its name.
        found: the mean over the splits, and its interval; in points.
        spread: standard deviation of the difference over the networks, in points.
        height: the floor, the end of the interval that is farther from zero; None where the two
            trainings are the same to the last bit.
    """

    task: str
    found: Contrast
    spread: float
    height: float | None


class Findings(NamedTuple):
    """All that the cells say.

    Attributes:
        primary: the contrasts with a verdict, in the order of experiments and tasks.
        secondary: all others.
        floors: by task.
        above_critical: how long z was not below z_c in experiment 1.
        tuned: how far from z_c the z is that tuning chose.
        rules: what the rules of experiment 1 came to where its primary contrast is.
        arms_on_images: what the arms of experiment 4 came to.
        integrated: of experiment 3, by path of its cells: the sub-steps that were enough; None
            where none was.
        missing: the paths of cells that are not there.
        protocols: by the SHA-256 of the protocol, the paths of the cells that were made under it.
        commits: likewise by the commit of the code, as far as cells record it.
        hours: of one core, by experiment and for the tuning.
        choices: by path, the settings that were tuned.
    """

    primary: list[Row]
    secondary: list[Row]
    floors: dict[str, Floor]
    above_critical: list[AboveCritical]
    tuned: list[OfTuning]
    rules: list[OfRule]
    arms_on_images: list[OfArm]
    integrated: dict[str, int | None]
    missing: list[str]
    protocols: dict[str, list[str]]
    commits: dict[str, list[str]]
    hours: dict[str, float]
    choices: Cells

    @property
    def asked_for(self) -> int:
        """How many cells the protocol asks for: those that are there, and those that are not."""
        return sum(len(paths) for paths in self.protocols.values()) + len(self.missing)


def findings(cells: Cells, choices: Cells) -> Findings:
    """Analyse all cells that there are.

    Args:
        cells: by path, of the final networks; those that are missing, and contrasts that need
            them, are left out.
        choices: by path, what tuning wrote.
    """
    floors = noise_floors(cells)
    primary = [
        *primary_of_1(cells),
        *primary_of_2(cells),
        *primary_of_3(cells),
        *primary_of_4(cells),
    ]
    secondary = [
        *secondary_of_1(cells),
        *secondary_of_2(cells),
        *secondary_of_3(cells),
        *secondary_of_4(cells),
    ]
    substeps = [substeps_path(task, times) for task in TASKS for times in TIMES]
    return Findings(
        primary=[marked(row, floors) for row in primary],
        secondary=[marked(row, floors) for row in secondary],
        floors=floors,
        above_critical=above_critical(cells),
        tuned=of_tuned_strengths(cells),
        rules=of_decisive_rules(cells),
        arms_on_images=of_arms_on_images(cells),
        integrated={path: cells[path]["integrated"] for path in substeps if path in cells},
        missing=[path for path in expected_cells() if path not in cells],
        protocols=by_provenance(cells, "protocol"),
        commits=by_provenance(cells, "commit"),
        hours=hours_of(cells) | hours_of(choices),
        choices=choices,
    )


def by_provenance(cells: Cells, name: str) -> dict[str, list[str]]:
    """The paths of the cells by an entry of their provenance; apart where its code was changed."""
    paths: dict[str, list[str]] = {}
    for path, cell in cells.items():
        entry = cell["provenance"].get(name, "not recorded")
        if name == "commit" and cell["provenance"].get("dirty"):
            entry += DIRTY
        paths.setdefault(entry, []).append(path)
    return paths


def hours_of(cells: Cells) -> dict[str, float]:
    """The hours of one core that cells took, by the first part of their paths.

    Example:
        >>> hours_of({"tuning/xor/start": {"provenance": {"cpu_seconds": 5400.0}}})
        {'tuning': 1.5}
    """
    hours: dict[str, float] = {}
    for path, cell in cells.items():
        experiment = path.split("/")[0]
        seconds = cell["provenance"]["cpu_seconds"]
        hours[experiment] = hours.get(experiment, 0.0) + seconds / 3600
    return hours


def chaos_helps(found: Findings) -> dict[str, bool]:
    """Whether chaos helps, by task of experiment 1 whose cells are there.

    It does where the primary contrast helps, and csbp is above BP of the same length and above
    the best BP, with intervals that leave out zero.
    """
    secondary = {row.label: row for row in found.secondary}
    helps = {}
    for row in found.primary:
        over_bp = [secondary.get(row.label._replace(second=bp)) for bp in ("bp", BEST_BP)]
        is_above = [over is not None and over.found.low > 0 for over in over_bp]
        if row.label.experiment == "1" and None not in over_bp:
            helps[row.label.task] = row.verdict == HELPS and all(is_above)
    return helps


def noise_floors(cells: Cells) -> dict[str, Floor]:
    """The noise floor of every task for which both cells are there."""
    floors = {}
    for task in TASKS:
        resummed = trained_by_arm(cells, arm_path(task, "now", "constant", "csbp_resummed"))
        csbp = trained_by_arm(cells, arm_path(task, "now", "constant", "csbp"))
        if resummed is None or csbp is None:
            continue
        differences = resummed.measures["accuracy"] - csbp.measures["accuracy"]
        found = contrast(split_means(differences, csbp.splits))
        height = max(abs(found.low), abs(found.high)) if differences.any() else None
        floors[task] = Floor(task, found, float(np.std(differences, ddof=1)), height)
    return floors


def marked(row: Row, floors: Mapping[str, Floor]) -> Row:
    """The row, told whether its estimate is below the noise floor, where nothing can be told."""
    floor = floors.get(row.label.task)
    if floor is None or floor.height is None or not is_of_accuracy(row.label.measure):
        return row
    is_below = abs(row.found.estimate) <= floor.height
    if is_below and row.verdict in (HELPS, HURTS):
        row = row._replace(verdict=CANNOT_TELL)
    return row._replace(below_floor=is_below)
