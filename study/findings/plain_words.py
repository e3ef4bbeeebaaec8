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
from .measured import is_at_chance
from .numbers import decimals, points
from .rows import Label, Row, label_on_images
from .strength import both_sides
from .verdicts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS, UNFINISHED
from .words import (
    ABOVE,
    AS_NOW,
    AS_NOW_COSINE,
    BELOW,
    NOT_FROM_GOOD_WEIGHTS,
    WITHOUT_OVERSHOOT,
    WhereOvershootHelps,
    at_twice,
    enumerated,
    gains_as_now,
    given_to_bp,
    is_beside_zero,
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
    """CSBP on currents against the best BP from both kinds of weights; the authors' recipe.

    Args:
        found: the findings.
        short: the answer in a few words, which these sentences follow.
    """
    where = "There" if short == NOT_FROM_GOOD_WEIGHTS else "From data-driven weights"
    of_tasks = standing(verdicts_of(found, "2"), "the best BP")
    sentences = [
        f"{where}, on currents, it is {of_tasks}{_largest(found)}.",
        f"By the authors' recipe, on Fashion-MNIST, it is {_on_images(found)}.",
        _gains_in_short(rows_by_label(found)),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def standing(verdict_of: Mapping[str, str], other: str) -> str:
    """How CSBP stands to something, with the tasks.

    Args:
        verdict_of: by task.
        other: what it is compared with.

    Example:
        >>> standing({"a": "hurts", "b": "cannot tell", "c": "cannot tell"}, "BP")
        'worse than BP in a and undecided in b and c'
        >>> standing({"a": "helps", "b": "helps"}, "BP")
        'better than BP in all 2 tasks'
    """
    parts: list[str] = []
    for verdict, (stands, before_name) in STANDS.items():
        tasks = [task for task, its_verdict in verdict_of.items() if its_verdict == verdict]
        if not tasks:
            continue
        where = enumerated(tasks)
        if len(tasks) == len(verdict_of):
            where = f"all {len(tasks)} tasks"
        # What it is compared with is named once.
        against = "" if parts else f" {before_name} {other}"
        parts.append(f"{stands}{against} in {where}")
    return enumerated(parts)


def _largest(found: Findings) -> str:
    """The largest difference for its margin, and which are not zero, where all are within."""
    if set(verdicts_of(found, "2").values()) != {EQUIVALENT}:
        return ""
    rows = [row for row in found.primary if row.label.experiment == "2"]
    largest = max(rows, key=lambda row: abs(row.found.estimate) / EVERY_MARGIN[row.label.task])
    task = largest.label.task
    said = f"largest: {task} {points(largest)}, margin {EVERY_MARGIN[task]:g}"
    others = not_zero(found, "2")
    if largest in others:
        others.remove(largest)
        said += ", not zero"
    if others:
        named = enumerated([f"{row.label.task}, {points(row)}" for row in others])
        said += f"; beside it not zero: {named}"
    return f" ({said})"


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


def _gains_in_short(rows: Mapping[Label, Row]) -> str:
    """In how many tasks it gains from torch's weights, and the largest gain; may be empty."""
    present = _from_torchs(rows)
    if not present:
        return ""
    gains = gains_as_now(rows)
    said = f"From torch's weights {_gains_and_losses(rows, present)}"
    if gains:
        largest = gains[0]
        said += f" (largest: {largest.label.task} {points(largest)}"
        given = rows.get(given_to_bp(largest.label.task))
        if given is not None:
            said += f"; there data-driven weights give BP {points(given)}"
        said += ")"
    return f"{said}."


def from_torchs_weights(rows: Mapping[Label, Row]) -> str:
    """What CSBP gains from torch's weights, and what better weights give BP; may be empty."""
    present = _from_torchs(rows)
    if not present:
        return ""
    gains = gains_as_now(rows)
    said = (
        f"from torch's weights, by uncorrected intervals, {_gains_and_losses(rows, present)} at a "
        "constant rate"
    )
    if gains:
        named = ", ".join(f"{row.label.task} {points(row)}" for row in gains)
        said += f" ({named}{_better_weights_instead(rows, gains)})"
    return f"{said}{_by_cosine(rows)}"


def _from_torchs(rows: Mapping[Label, Row]) -> list[Row]:
    """CSBP less the best BP from torch's weights at a constant rate, of the tasks that have it."""
    all_rows = [rows.get(over_bp(task, AS_NOW)) for task in TASKS]
    return [row for row in all_rows if row is not None]


def _gains_and_losses(rows: Mapping[Label, Row], present: Sequence[Row]) -> str:
    """In how many tasks it gains, and in how many of those that are present it loses."""
    said = f"it gains in {len(gains_as_now(rows))} of {len(TASKS)}{so_far_as_now(rows)}"
    losses = sum(side_of_zero(row) == BELOW for row in present)
    return f"{said} and loses in {losses}" if losses else said


def _by_cosine(rows: Mapping[Label, Row]) -> str:
    """In which tasks it gains where the learning rate falls on a cosine; may be empty."""
    if not any(over_bp(task, AS_NOW_COSINE) in rows for task in TASKS):
        return ""
    gains = gains_as_now(rows, AS_NOW_COSINE)
    named = f" ({enumerated([row.label.task for row in gains])})" if gains else ""
    return f", by cosine in {len(gains)}{so_far_as_now(rows, AS_NOW_COSINE)}{named}"


def _better_weights_instead(rows: Mapping[Label, Row], gains: Sequence[Row]) -> str:
    """What data-driven weights give the best BP in those tasks; empty unless known in all."""
    given = [rows.get(given_to_bp(row.label.task)) for row in gains]
    known = [points(row) for row in given if row is not None]
    if len(known) < len(gains):
        return ""
    return f"; data-driven weights give BP {', '.join(known)}"


# Is it the chaos?


def chaos_in_plain_words(found: Findings, overshoot: WhereOvershootHelps) -> str:
    """CSBP against the pull without overshoot, and against the best BP at both rest points.

    Args:
        found: the findings.
        overshoot: where overshoot helps.
    """
    rows = rows_by_label(found)
    over_flow = standing(verdicts_of(found, "1"), WITHOUT_OVERSHOOT)
    sentences = [
        f"With h* at 1 and z falling from 2 z_c, CSBP is {over_flow}{_where_both_are_ruined(rows)}."
    ]
    if overshoot.not_shown:
        names = listed(overshoot.not_shown)
        sentences.append(f"In {names} that is not shown to be a gain over BP.")
    if overshoot.not_compared:
        names = listed(overshoot.not_compared)
        sentences.append(f"In {names} it is not yet compared with BP.")
    against_bp = _against_best_bp(over_best_bp_at_twice(rows))
    if against_bp:
        sentences.append(f"It ends {against_bp}.")
    at_the_published_rest = _at_the_published_rest(rows)
    if at_the_published_rest:
        sentences.append(f"With the published h* it ends{at_the_published_rest}.")
    return " ".join(sentences)


def _where_both_are_ruined(rows: Mapping[Label, Row]) -> str:
    """In which tasks the pull has ruined learning on both sides; may be empty."""
    ruined = [sides.task for sides in both_sides(rows) if sides.are_ruined]
    if not ruined:
        return ""
    return f"; in {enumerated(ruined)} either pull leaves less than half of BP's accuracy"


def _against_best_bp(rows: Sequence[Row]) -> str:
    """How far it is above or below the best BP, by intervals; empty where nothing is there."""
    sides = _sides(rows, "the best BP")
    return enumerated(sides) if sides else ""


def _at_the_published_rest(rows: Mapping[Label, Row]) -> str:
    """How far it is there above or below the best BP and the other pull; may be empty."""
    over_bp = over_best_bp_at_twice(rows, "published")
    if not over_bp:
        return ""
    so_far = ", so far," if len(over_bp) < len(ONE_LAYER_TASKS) else ""
    flow = [
        rows.get(at_twice(row.label.task, "csbp", "inner flow", "published")) for row in over_bp
    ]
    present = [row for row in flow if row is not None and is_beside_zero(row)]
    flow_name = f"{WITHOUT_OVERSHOOT}{learns_nothing(present)}"
    sides = [*_sides(over_bp, "the best BP"), *_sides(present, flow_name)]
    return f"{so_far} {enumerated(sides)}"


def _sides(rows: Sequence[Row], other: str) -> list[str]:
    """How far it is above something, below it, or neither, by intervals, and in which tasks."""
    parts = []
    for side, words in ((ABOVE, "above"), (BELOW, "below")):
        here = [row for row in rows if side_of_zero(row) == side]
        if here:
            sizes = _range_of([abs(row.found.estimate) for row in here])
            parts.append(f"{sizes} {words} {other} in {_named([row.label.task for row in here])}")
    level = [row.label.task for row in rows if not is_beside_zero(row)]
    if level:
        parts.append(f"neither above nor below {other} for sure in {_named(level)}")
    return parts


def learns_nothing(rows: Sequence[Row]) -> str:
    """That the second side of all these contrasts ends where a guess does; else empty."""
    is_so = all(is_at_chance(row.means[1], row.label.task) for row in rows)
    return " (at chance)" if is_so else ""


def _named(tasks: Sequence[str]) -> str:
    """Tasks of experiment 1 in a row, or that it is all of them."""
    if len(tasks) == len(ONE_LAYER_TASKS):
        return f"all {len(tasks)}"
    return enumerated(tasks)


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
