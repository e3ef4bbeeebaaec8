"""The answers that come first, in sentences for a reader who has read nothing else.

They hold whatever the verdicts are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..protocol import EVERY_MARGIN, IMAGES
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import Findings
from .numbers import decimals, points
from .rows import Label, Row, label_on_images
from .verdicts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS, UNFINISHED
from .words import (
    AS_NOW,
    NOT_FROM_GOOD_WEIGHTS,
    WhereOvershootHelps,
    enumerated,
    gains_as_now,
    given_to_bp,
    listed,
    not_zero,
    over_best_bp_at_twice,
    over_bp,
    rows_by_label,
    side_of_zero,
    so_far_as_now,
    verdicts_of,
)

# By verdict, how CSBP stands to what it is compared with, and the word before its name.
STANDS = {
    HELPS: ("better", "than"),
    EQUIVALENT: ("within the margin", "of"),
    HURTS: ("worse", "than"),
    CANNOT_TELL: ("undecided", "against"),
    UNFINISHED: ("still to be compared", "with"),
}


# Does CSBP help?


def csbp_in_plain_words(found: Findings, short: str) -> str:
    """CSBP against the best BP from both kinds of weights, and by the authors' recipe.

    Args:
        found: the findings.
        short: the answer in a few words, which these sentences follow.
    """
    where = "There" if short == NOT_FROM_GOOD_WEIGHTS else "From data-driven weights"
    of_tasks = standing(verdicts_of(found, "2"), "the best BP")
    sentences = [
        f"{where} it is {of_tasks}{_largest(found)}.",
        f"By the authors' recipe on Fashion-MNIST it is {_on_images(found)}.",
        _from_torchs_weights(rows_by_label(found)),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def standing(verdict_of: Mapping[str, str], other: str) -> str:
    """How CSBP stands to something, with the number of tasks.

    Args:
        verdict_of: by task.
        other: what it is compared with.

    Example:
        >>> standing({"a": "hurts", "b": "cannot tell", "c": "cannot tell"}, "BP")
        'worse than BP in 1 of 3 tasks and undecided in 2'
        >>> standing({"a": "helps", "b": "helps"}, "BP")
        'better than BP in all 2 tasks'
    """
    verdicts = list(verdict_of.values())
    parts: list[str] = []
    for verdict, (stands, before_name) in STANDS.items():
        number = verdicts.count(verdict)
        if number and parts:
            parts.append(f"{stands} in {number}")
        elif number:
            where = f"in {_so_many(number, len(verdicts))} tasks"
            parts.append(f"{stands} {before_name} {other} {where}")
    return enumerated(parts)


def _so_many(number: int, total: int) -> str:
    """A number of tasks out of all."""
    return f"all {total}" if number == total else f"{number} of {total}"


def _largest(found: Findings) -> str:
    """The largest difference for its margin, and which are not zero, where all are within."""
    if set(verdicts_of(found, "2").values()) != {EQUIVALENT}:
        return ""
    rows = [row for row in found.primary if row.label.experiment == "2"]
    largest = max(rows, key=lambda row: abs(row.found.estimate) / EVERY_MARGIN[row.label.task])
    task = largest.label.task
    said = f"; the largest difference for its margin is {task}'s, {points(largest)} points of"
    said += f" {EVERY_MARGIN[task]:g}"
    others = not_zero(found, "2")
    if largest in others:
        others.remove(largest)
        said += ", and not zero"
    if others:
        named = enumerated([f"{row.label.task}'s ({points(row)})" for row in others])
        said += f"; beside it not zero: {named}"
    return said


def _on_images(found: Findings) -> str:
    """How CSBP stands to BP where both follow the authors' recipe."""
    (verdict,) = verdicts_of(found, "4").values()
    stands, before_name = STANDS[verdict]
    row = rows_by_label(found).get(label_on_images("csbp", BASELINE))
    if row is None:
        return f"{stands} {before_name} BP"
    margin = f"margin {EVERY_MARGIN[IMAGES]:g}"
    if verdict == EQUIVALENT and row in not_zero(found, "4"):
        side = "above" if row.found.estimate > 0 else "below"
        size = f"{abs(row.found.estimate):.{decimals(row)}f}"
        return f"{size} points {side} BP, {margin}"
    return f"{stands} {before_name} BP ({points(row)} points, {margin})"


def _from_torchs_weights(rows: Mapping[Label, Row]) -> str:
    """What CSBP gains from torch's weights, and what better weights give BP; may be empty."""
    all_rows = [rows.get(over_bp(task, AS_NOW)) for task in TASKS]
    present = [row for row in all_rows if row is not None]
    if not present:
        return ""
    gains = gains_as_now(rows)
    said = f"From torch's weights, at a constant rate, it gains in {len(gains)} of {len(TASKS)}"
    said += so_far_as_now(rows)
    if gains:
        named = ", ".join(f"{row.label.task} {points(row)}" for row in gains)
        said += f" ({named} points){_better_weights_instead(rows, gains)}"
    losses = sum(side_of_zero(row) == "below zero" for row in present)
    if losses:
        said += f"; it loses in {losses}"
    return f"{said}."


def _better_weights_instead(rows: Mapping[Label, Row], gains: Sequence[Row]) -> str:
    """What data-driven weights give the best BP in those tasks; empty unless known in all."""
    given = [rows.get(given_to_bp(row.label.task)) for row in gains]
    known = [points(row) for row in given if row is not None]
    if len(known) < len(gains):
        return ""
    return f", where data-driven weights give BP {enumerated(known)}"


# Is it the chaos?


def chaos_in_plain_words(found: Findings, overshoot: WhereOvershootHelps) -> str:
    """CSBP against the same pull without overshoot, and against the best BP.

    Args:
        found: the findings.
        overshoot: where overshoot helps.
    """
    over_flow = standing(verdicts_of(found, "1"), "the same pull without overshoot")
    against_bp = _against_best_bp(over_best_bp_at_twice(rows_by_label(found)))
    said = f"With z falling from twice the critical strength z_c, CSBP is {over_flow}{against_bp}."
    if overshoot.not_shown:
        said += f" In {listed(overshoot.not_shown)} that is not shown to be a gain over BP."
    if overshoot.not_compared:
        said += f" In {listed(overshoot.not_compared)} it is not yet compared with BP."
    return said


def _against_best_bp(rows: Sequence[Row]) -> str:
    """How far it is above or below the best BP, by intervals; empty where nothing is there."""
    parts = []
    for side, words in (("above zero", "above"), ("below zero", "below")):
        sizes = [abs(row.found.estimate) for row in rows if side_of_zero(row) == side]
        if sizes:
            where = _so_many(len(sizes), len(ONE_LAYER_TASKS))
            parts.append(f"{_range_of(sizes)} {words} the best BP in {where}")
    level = sum(side_of_zero(row) == "around zero" for row in rows)
    if level:
        where = _so_many(level, len(ONE_LAYER_TASKS))
        parts.append(f"neither above nor below the best BP for sure in {where}")
    return f", and {enumerated(parts)}" if parts else ""


def _range_of(sizes: Sequence[float]) -> str:
    """From the least to the largest of some differences, in points.

    Example:
        >>> _range_of([54.64, 9.04]), _range_of([0.34]), _range_of([1.2, 0.98])
        ('9 to 55 points', '0.3 points', '1 point')
    """
    ends = dict.fromkeys(_rounded(end) for end in (min(sizes), max(sizes)))
    unit = "point" if list(ends) == ["1"] else "points"
    return f"{' to '.join(ends)} {unit}"


def _rounded(size: float) -> str:
    """A difference in whole points, or in one digit if it is smaller than a point."""
    return f"{size:.0f}" if size >= 1 else f"{size:.1g}"
