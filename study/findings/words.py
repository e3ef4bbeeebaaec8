"""What answers say of verdicts and contrasts: counts, signs and names, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from csbp_notebooks.signs import less

from ..contrasts import LEVEL, holm
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..protocol import IMAGES
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import Findings, chaos_helps
from .measured import DECISIVE
from .rows import BEST_BP, Label, Row, label_at
from .verdicts import EQUIVALENT, HELPS, HURTS, OF_TESTS, UNFINISHED, VERDICTS

NOT_KNOWN = "Not known yet"
NOT_SHOWN = "Not shown"
NOT_FROM_GOOD_WEIGHTS = "Not by more than the margins, from data-driven weights"

OVER_BEST_BP = less("CSBP", "best BP")
OVER_BP = less("CSBP", "BP")
OVER_FLOW = less("CSBP", "inner flow")

WITHOUT_OVERSHOOT = "the pull without overshoot"  # inner flow, where it has no name yet

AS_NOW, FROM_DATA = "now, constant", "data, constant"
AS_NOW_COSINE, FROM_DATA_COSINE = "now, cosine", "data, cosine"
CONDITIONS = (FROM_DATA, FROM_DATA_COSINE, AS_NOW, AS_NOW_COSINE)  # of experiment 2, primary first


# Where the interval of a contrast lies. Within the noise floor it leaves out zero, and yet tells
# nothing: another order of summation does as much.
ABOVE, AROUND, BELOW = "above zero", "around zero", "below zero"
WITHIN_FLOOR = "beside zero within the noise floor"
SIDES = (ABOVE, AROUND, BELOW, WITHIN_FLOOR)


def verdicts_of(found: Findings, *experiments: str) -> dict[str, str]:
    """The verdict of every task that has a primary contrast, also where that is not finished."""
    tasks = {"1": ONE_LAYER_TASKS, "2": tuple(TASKS), "3": tuple(TASKS), "4": (IMAGES,)}
    given = {(row.label.experiment, row.label.task): row.verdict for row in found.primary}
    return {
        task: given.get((experiment, task)) or UNFINISHED
        for experiment in experiments
        for task in tasks[experiment]
    }


def not_zero(found: Findings, experiment: str) -> list[Row]:
    """The primary contrasts of an experiment that are shown not to be zero, small or not.

    By the two-sided test of the protocol, corrected for the tasks; a contrast without a test keeps
    its place with p = 1, as in `primary`.
    """
    rows = {row.label.task: row for row in found.primary if row.label.experiment == experiment}
    verdict_of = verdicts_of(found, experiment)
    p_values = [
        rows[task].found.p_difference if verdict in OF_TESTS else 1.0
        for task, verdict in verdict_of.items()
    ]
    is_shown = holm(p_values) < LEVEL
    return [
        rows[task]
        for task, is_so in zip(verdict_of, is_shown, strict=True)
        if is_so and not rows[task].below_floor
    ]


def groups(verdict_of: Mapping[str, str]) -> str:
    """The verdicts, each with its tasks.

    Example:
        >>> groups({"xor": "helps", "digits_1": "equivalent", "randman_1": "equivalent"})
        'helps (xor), equivalent (digits_1, randman_1)'
        >>> groups({"xor": "helps", "digits_1": "helps"})
        'helps in all 2 tasks'
    """
    if len(verdict_of) > 1 and len(set(verdict_of.values())) == 1:
        (verdict,) = set(verdict_of.values())
        return f"{verdict} in all {len(verdict_of)} tasks"
    found: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for task, verdict in verdict_of.items():
        found[verdict].append(task)
    return ", ".join(f"{verdict} ({listed(tasks)})" for verdict, tasks in found.items() if tasks)


def lead(verdict_of: Mapping[str, str]) -> str:
    """Whether the first side helps, in a few words.

    "No" needs a verdict in every task: "cannot tell" counts for nobody.

    Example:
        >>> lead({"xor": "helps", "digits_1": "cannot tell"})
        'In 1 of 2 tasks'
        >>> lead({"xor": "hurts", "digits_1": "equivalent"}), lead({"xor": "cannot tell"})
        ('No', 'Not shown')
    """
    verdicts = list(verdict_of.values())
    if set(verdicts) == {UNFINISHED}:
        return NOT_KNOWN
    if set(verdicts) <= {EQUIVALENT, HURTS}:
        return "No"
    so_far = " so far" if UNFINISHED in verdicts else ""
    if HELPS in verdicts:
        return in_so_many(verdicts.count(HELPS), len(verdicts)) + so_far
    return NOT_SHOWN + so_far


def in_so_many(helps: int, tasks: int) -> str:
    """In how many tasks something holds, in one or more of them.

    Example:
        >>> in_so_many(1, 1), in_so_many(6, 6), in_so_many(2, 6)
        ('Yes', 'Yes, in all 6 tasks', 'In 2 of 6 tasks')
    """
    if tasks == 1:
        return "Yes"
    return f"Yes, in all {tasks} tasks" if helps == tasks else f"In {helps} of {tasks} tasks"


def by_sign(rows: Iterable[Row | None]) -> str:
    """Where the 95 % intervals of contrasts lie, with their tasks; empty text without any."""
    found: dict[str, list[str]] = {side: [] for side in SIDES}
    for row in rows:
        if row is not None:
            found[side_of_zero(row)].append(row.label.task)
    return ", ".join(f"{side} ({listed(tasks)})" for side, tasks in found.items() if tasks)


def side_of_zero(row: Row) -> str:
    """Where the 95 % interval of a contrast lies, of `SIDES`."""
    if row.found.low <= 0 <= row.found.high:
        return AROUND
    if row.below_floor:
        return WITHIN_FLOOR
    return ABOVE if row.found.low > 0 else BELOW


def is_beside_zero(row: Row) -> bool:
    """Whether a contrast differs from zero by its interval, and by more than the noise floor."""
    return side_of_zero(row) in (ABOVE, BELOW)


def listed(names: Sequence[str]) -> str:
    """Names in a row, or that there is none."""
    return ", ".join(names) or "none"


def enumerated(parts: Sequence[str]) -> str:
    """Parts of a sentence in a row.

    Example:
        >>> enumerated(["a"]), enumerated(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


WHAT_A_CELL_IS = "a cell is a task at one setting, trained by one arm or by several side by side"


def missing_in_words(found: Findings) -> str:
    """How many cells are not run yet, and whether a verdict waits for them; a sentence."""
    cells = f"{found.asked_for} cells ({WHAT_A_CELL_IS})"
    if not found.missing:
        return f"All {cells} are there."
    there = f"Of {cells} the study has {found.asked_for - len(found.missing)} so far"
    verdicts = [verdict for number in "1234" for verdict in verdicts_of(found, number).values()]
    waiting = verdicts.count(UNFINISHED)
    if not waiting:
        return f"{there}; all {len(verdicts)} primary contrasts are complete."
    return (
        f"{there}, with {waiting} of the {len(verdicts)} primary contrasts waiting for the others."
    )


class WhereOvershootHelps(NamedTuple):
    """The tasks in which csbp less inner flow *helps*, by what that is worth against BP.

    Attributes:
        gain: csbp is above BP of the same length and above the best BP: chaos helps.
        not_shown: it is not shown to be above both.
        not_compared: the cells of one of them are missing.
    """

    gain: list[str]
    not_shown: list[str]
    not_compared: list[str]


def where_overshoot_helps(found: Findings) -> WhereOvershootHelps:
    """The tasks in which overshoot helps; that alone is no gain over BP."""
    tasks = [task for task, verdict in verdicts_of(found, "1").items() if verdict == HELPS]
    is_gain = chaos_helps(found)
    return WhereOvershootHelps(
        gain=[task for task in tasks if is_gain.get(task)],
        not_shown=[task for task in tasks if task in is_gain and not is_gain[task]],
        not_compared=[task for task in tasks if task not in is_gain],
    )


def rows_by_label(found: Findings) -> dict[Label, Row]:
    """All contrasts; one that is among both kinds as the primary one, with its verdict."""
    return {row.label: row for row in [*found.secondary, *found.primary]}


def over_bp(task: str, condition: str, arm: str = "csbp", measure: str = "accuracy") -> Label:
    """The label of an arm of experiment 2 less the best BP."""
    return Label("2", task, condition, "", arm, BASELINE, measure)


def gains_as_now(rows: Mapping[Label, Row], condition: str = AS_NOW) -> list[Row]:
    """csbp less the best BP from torch's weights, where it is above zero and the noise floor.

    By its interval, the largest first.

    Args:
        rows: all contrasts.
        condition: at a constant rate, `AS_NOW`, or `AS_NOW_COSINE`.
    """
    all_rows = [rows.get(over_bp(task, condition)) for task in TASKS]
    gains = [row for row in all_rows if row is not None and side_of_zero(row) == ABOVE]
    return sorted(gains, key=lambda row: -row.found.estimate)


def so_far_as_now(rows: Mapping[Label, Row], condition: str = AS_NOW) -> str:
    """That some of these contrasts are not there yet, with a space before it; else empty."""
    return "" if all(over_bp(task, condition) in rows for task in TASKS) else " so far"


def at_twice(task: str, first: str, second: str, rest: str = DECISIVE.rest) -> Label:
    """The label of a contrast of experiment 1 where its primary one is, or at the other rest."""
    return label_at(task, DECISIVE._replace(rest=rest), first, second)


def over_best_bp_at_twice(rows: Mapping[Label, Row], rest: str = DECISIVE.rest) -> list[Row]:
    """csbp less the best BP where the primary contrast is, or at the other rest point.

    Of the tasks that have it.
    """
    over_best = [rows.get(at_twice(task, "csbp", BEST_BP, rest)) for task in ONE_LAYER_TASKS]
    return [row for row in over_best if row is not None]


def given_to_bp(task: str) -> Label:
    """The label of what data-driven weights give the best BP over torch's, at a constant rate."""
    return Label("2", task, "constant", "", "bp from data", "bp as now")
