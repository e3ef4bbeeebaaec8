"""Experiment 1 beside its contrasts: what both sides came to, and whether it could be strength.

csbp and inner flow have the same loss and z, and yet not the same step: where the loss is stiff the
flow comes to rest within an update, and csbp goes on by as much as the gradient says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from csbp_notebooks.signs import MINUS

from ..experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from ..training.arms import BASELINE
from ..training.train import MOMENTUM
from .all_contrasts import Findings
from .measured import DECISIVE
from .rows import Label, Row, label_at
from .verdicts import HURTS
from .words import at_twice, enumerated, rows_by_label, verdicts_of

SHOWN_AT = (2.0, 1.0, 0.3)  # z / z_c

# The z / z_c from which gradient descent on the chaotic loss overshoots outside of the momentum.
KICK_UNSTABLE_FROM = (1 - MOMENTUM) / (1 + MOMENTUM)


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
    rows = rows_by_label(found)
    flows = flow_over_bp(rows)
    if not flows:
        return []
    ratios = enumerated([f"{ratio:g}" for ratio in SHOWN_AT])
    lengths = enumerated([f"{times_as_long(ratio):.1f}" for ratio in SHOWN_AT])
    sentences = [
        f"At {ratios} z_c a csbp step is {lengths} times as long as inner flow's, in the stiffest "
        "direction at the rest point. The contrast is overshoot and that together."
    ]
    verdict_of = verdicts_of(found, "1")
    together = []
    for task, of_flow in flows.items():
        csbp = rows.get(at_twice(task, "csbp", BASELINE))
        if csbp is None or verdict_of[task] != HURTS or not loses_more(csbp, of_flow):
            together.append(task)
            continue
        most = max(0.0, *(-row.found.estimate for row in of_flow))
        sentences.append(
            f"In {task}, at h* = 1 and by annealing {DECISIVE.annealing}, inner flow loses at most "
            f"{most:.2f} points against BP of that rate, at all {len(of_flow)} strengths from "
            f"{RATIOS[0]:g} to {RATIOS[-1]:g} z_c, and csbp "
            f"{-csbp.found.estimate:.2f} at {DECISIVE.ratio:g} z_c: strength is not the cause "
            "there."
        )
    if together:
        sentences.append(f"In {enumerated(together)} the two cannot be told apart.")
    return sentences


def loses_more(row: Row, others: Sequence[Row]) -> bool:
    """Whether a loss against BP is beyond all others, and beyond zero, by their intervals."""
    least = -row.found.high
    most = max(-other.found.low for other in others)
    return least > max(0.0, most)


def outside_of_the_momentum(rows: Mapping[Label, Row]) -> list[str]:
    """Where kick ends above csbp, and from where it is unstable; empty without kick.

    Of means over networks, where the primary contrast is.
    """
    tasks_of: dict[str, list[str]] = {"above CSBP": [], "not above CSBP": []}
    for sides in both_sides(rows):
        row = rows.get(at_twice(sides.task, "kick", "outer flow"))
        if row is not None:
            kick = row.means[0]
            place = "above CSBP" if kick > sides.csbp else "not above CSBP"
            tasks_of[place].append(f"{sides.task} ({kick:.1f} for {sides.csbp:.1f} %)")
    parts = [f"{place} in {enumerated(tasks)}" for place, tasks in tasks_of.items() if tasks]
    if not parts:
        return []
    return [
        f"Outside of the momentum, kick ends {', '.join(parts)}; by itself it is unstable from "
        f"z_c (1 {MINUS} m) / (1 + m) on, that is {KICK_UNSTABLE_FROM:.3f} z_c."
    ]


def flow_over_bp(rows: Mapping[Label, Row]) -> dict[str, list[Row]]:
    """Inner flow less BP of that rate, by the ratios, of tasks that have it at every one."""
    found = {}
    for task in ONE_LAYER_TASKS:
        places = [DECISIVE._replace(ratio=ratio) for ratio in RATIOS]
        over_bp = [rows.get(label_at(task, place, "inner flow", BASELINE)) for place in places]
        present = [row for row in over_bp if row is not None]
        if len(present) == len(RATIOS):
            found[task] = present
    return found
