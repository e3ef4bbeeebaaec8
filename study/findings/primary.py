"""The primary contrasts, a family per experiment, and their verdicts, by `PROTOCOL.md`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..contrasts import Contrast, verdicts
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..protocol import EVERY_MARGIN, IMAGES, MARGINS
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .cells import (
    Cells,
    arm_path,
    quadratic_path,
    rules_path,
    substeps_path,
    trained_by_arm,
    trained_by_rule,
    trained_by_substeps,
    trained_on_images,
)
from .measured import DECISIVE
from .rows import Label, Row, compared, label_at, label_on_images, membrane_label
from .verdicts import CANNOT_BE_INTEGRATED

# Holds the place in its family of a primary contrast that has no verdict.
UNTESTED = Contrast(
    estimate=math.nan,
    low=math.nan,
    high=math.nan,
    low_90=math.nan,
    high_90=math.nan,
    p_difference=1.0,
    p_equivalence=1.0,
    smallest=math.nan,
)


def with_verdicts(family: Mapping[str, Iterable[Row]]) -> list[Row]:
    """The rows of a family with their verdicts.

    A contrast that is missing, or has been given another verdict before, keeps its place in the
    family with p = 1: what is tested does not depend on what could be.

    Args:
        family: by task, its row if there is one.
    """
    rows = {task: row for task, found in family.items() for row in found}
    tested = {task: row.found for task, row in rows.items() if row.verdict is None}
    found = verdicts({task: tested.get(task, UNTESTED) for task in family})
    return [
        row._replace(verdict=found[task] if task in tested else row.verdict)
        for task, row in rows.items()
    ]


def primary_of_1(cells: Cells) -> list[Row]:
    """Overshoot: csbp less inner flow at twice z_c, rest inside, z falling over all epochs."""
    family = {}
    for task in ONE_LAYER_TASKS:
        path = rules_path(task, DECISIVE)
        family[task] = compared(
            label_at(task, DECISIVE, "csbp", "inner flow"),
            trained_by_rule(cells, path, "csbp"),
            trained_by_rule(cells, path, "inner flow"),
            MARGINS[task],
        )
    return with_verdicts(family)


def primary_of_2(cells: Cells) -> list[Row]:
    """Dead neurons: csbp less the best BP from the data-driven start."""
    family = {}
    for task in TASKS:
        family[task] = compared(
            Label("2", task, "data, constant", "", "csbp", "bp"),
            trained_by_arm(cells, arm_path(task, "data", "constant", "csbp")),
            trained_by_arm(cells, arm_path(task, "data", "constant", "bp")),
            MARGINS[task],
        )
    return with_verdicts(family)


def primary_of_3(cells: Cells) -> list[Row]:
    """The membrane form less the quadratic pull; no verdict where it cannot be integrated."""
    family = {}
    for task in TASKS:
        path = substeps_path(task, 1)
        rows = compared(
            membrane_label(task),
            trained_by_substeps(cells, path, 1),
            trained_by_arm(cells, quadratic_path(task)),
            MARGINS[task],
        )
        if path in cells and cells[path]["integrated"] is None:
            rows = [row._replace(verdict=CANNOT_BE_INTEGRATED) for row in rows]
        family[task] = rows
    return with_verdicts(family)


def primary_of_4(cells: Cells) -> list[Row]:
    """The authors' recipe: csbp less BP; alone in its family."""
    rows = compared(
        label_on_images("csbp", BASELINE),
        trained_on_images(cells, "csbp"),
        trained_on_images(cells, BASELINE),
        EVERY_MARGIN[IMAGES],
    )
    return with_verdicts({IMAGES: rows})
