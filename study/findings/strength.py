"""Experiment 1 beside its contrasts: what both sides came to, and whether it could be strength.

csbp and inner flow have the same loss and z, and yet not the same step: where the loss is stiff the
flow comes to rest within an update, and csbp goes on by as much as the gradient says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ..experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from ..training.arms import BASELINE
from ..training.train import MOMENTUM
from .all_contrasts import Findings
from .measured import DECISIVE
from .rows import Label, Row, label_at
from .verdicts import HELPS, HURTS
from .words import at_twice, enumerated, rows_by_label, verdicts_of

SHOWN_AT = (2.0, 1.0, 0.3)  # z / z_c


class BothSides(NamedTuple):
    """What csbp, inner flow and BP of the same rate and length came to in a task, in points.

    Attributes:
        task: its name.
        csbp: accuracy.
        flow: likewise.
        bp: likewise.
    """

    task: str
    csbp: float
    flow: float
    bp: float

    @property
    def are_ruined(self) -> bool:
        """Whether csbp and inner flow both end below half of what BP comes to."""
        return max(self.csbp, self.flow) < self.bp / 2


def both_sides(rows: Mapping[Label, Row], rest: str = DECISIVE.rest) -> list[BothSides]:
    """csbp and inner flow from twice z_c at a rest point, of the tasks that have it."""
    found = []
    for task in ONE_LAYER_TASKS:
        over_flow = rows.get(at_twice(task, "csbp", "inner flow", rest))
        over_bp = rows.get(at_twice(task, "csbp", BASELINE, rest))
        if over_flow is not None and over_bp is not None:
            found.append(BothSides(task, *over_flow.means, over_bp.means[1]))
    return found


def times_as_long(ratio: float) -> float:
    """A step of csbp over one of inner flow, at the rest point in the stiffest direction.

    ::

        x / (1 - exp(-x)),    x = lr z lambda = 2 (1 + m) z / z_c

    Args:
        ratio: z / z_c, > 0.

    Example:
        >>> [round(times_as_long(ratio), 1) for ratio in (0.003, 0.3, 2.0)]
        [1.0, 1.7, 7.6]
    """
    x = 2 * (1 + MOMENTUM) * ratio
    return x / -math.expm1(-x)


def is_it_strength(found: Findings) -> list[str]:
    """Sentences on how much longer csbp's steps are, and in which tasks that is not the cause."""
    most_lost = most_lost_by_flow(rows_by_label(found))
    if not most_lost:
        return []
    lengths = ", ".join(f"{times_as_long(ratio):.1f} ({ratio:g})" for ratio in SHOWN_AT)
    sentences = [
        "In the stiffest direction at the rest point a csbp step is so many times as long as inner "
        f"flow's, by z / z_c: {lengths}. The contrast is overshoot and that together."
    ]
    verdict_of = verdicts_of(found, "1")
    lost = {sides.task: sides.bp - sides.csbp for sides in both_sides(rows_by_label(found))}
    together = []
    for task, by_flow in most_lost.items():
        is_apart = verdict_of[task] in (HELPS, HURTS) and lost.get(task, 0.0) > max(0.0, by_flow)
        if not is_apart:
            together.append(task)
            continue
        sentences.append(
            f"In {task} inner flow loses at most {max(0.0, by_flow):.2f} points against BP of that "
            f"rate, at every strength from {RATIOS[0]:g} to {RATIOS[-1]:g} z_c, and csbp "
            f"{lost[task]:.2f} at {DECISIVE.ratio:g} z_c: strength is not the cause there."
        )
    if together:
        sentences.append(f"In {enumerated(together)} the two cannot be told apart.")
    return sentences


def most_lost_by_flow(rows: Mapping[Label, Row]) -> dict[str, float]:
    """The most that inner flow is below BP of that rate, in points, of tasks with every ratio."""
    lost = {}
    for task in ONE_LAYER_TASKS:
        places = [DECISIVE._replace(ratio=ratio) for ratio in RATIOS]
        over_bp = [rows.get(label_at(task, place, "inner flow", BASELINE)) for place in places]
        if None not in over_bp:
            lost[task] = max(-row.found.estimate for row in over_bp if row is not None)
    return lost
