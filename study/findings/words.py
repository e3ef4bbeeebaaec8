"""What answers say of verdicts and contrasts: counts, signs, numbers and names, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from csbp_notebooks.signs import less

from ..contrasts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import Findings
from .measured import DECISIVE
from .page_tables import UNFINISHED, decimals, difference, interval
from .primary import CANNOT_BE_INTEGRATED
from .rows import BEST_BP, IMAGES, Label, Row, label_at

VERDICTS = (HELPS, HURTS, EQUIVALENT, CANNOT_TELL, CANNOT_BE_INTEGRATED, UNFINISHED)

NOT_KNOWN = "Not known yet"
NOT_SHOWN = "Not shown"
NOT_FROM_GOOD_WEIGHTS = "Not from weights that leave no neuron silent"

OVER_BEST_BP = less("CSBP", "best BP")
OVER_BP = less("CSBP", "BP")
OVER_FLOW = less("CSBP", "inner flow")

AS_NOW, FROM_DATA = "now, constant", "data, constant"
CONDITIONS = (FROM_DATA, "data, cosine", AS_NOW, "now, cosine")  # of experiment 2, primary first


def verdicts_of(found: Findings, *experiments: str) -> dict[str, str]:
    """The verdict of every task that has a primary contrast, also where that is not finished."""
    tasks = {"1": ONE_LAYER_TASKS, "2": tuple(TASKS), "3": tuple(TASKS), "4": (IMAGES,)}
    given = {(row.label.experiment, row.label.task): row.verdict for row in found.primary}
    return {
        task: given.get((experiment, task)) or UNFINISHED
        for experiment in experiments
        for task in tasks[experiment]
    }


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
    found: dict[str, list[str]] = {"above zero": [], "around zero": [], "below zero": []}
    for row in rows:
        if row is not None:
            found[side_of_zero(row)].append(row.label.task)
    return ", ".join(f"{side} ({listed(tasks)})" for side, tasks in found.items() if tasks)


def side_of_zero(row: Row) -> str:
    """Where the 95 % interval of a contrast lies."""
    if row.found.low > 0:
        return "above zero"
    return "below zero" if row.found.high < 0 else "around zero"


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


def points(row: Row) -> str:
    """An estimate with its sign, in points."""
    return difference(row.found.estimate, decimals(row))


def numbers(row: Row) -> str:
    """Estimate and 95 % interval, in points."""
    return f"{points(row)} {interval(row.found.low, row.found.high, decimals(row))}"


def missing_in_words(found: Findings) -> str:
    """How many cells are not run yet, and whether a verdict waits for them; a sentence."""
    cells = f"{found.asked_for} cells (a cell is a task trained by an arm)"
    if not found.missing:
        return f"All {cells} are there."
    verdicts = [verdict for number in "1234" for verdict in verdicts_of(found, number).values()]
    waiting = verdicts.count(UNFINISHED)
    needed = f"{waiting} of {len(verdicts)} primary contrasts need them"
    if waiting == 0:
        needed = "no primary contrast waits for them"
    return f"{len(found.missing)} of {cells} are not run yet; {needed}."


def rows_by_label(found: Findings) -> dict[Label, Row]:
    """All contrasts; one that is among both kinds as the primary one, with its verdict."""
    return {row.label: row for row in [*found.secondary, *found.primary]}


def over_bp(task: str, condition: str, arm: str = "csbp", measure: str = "accuracy") -> Label:
    """The label of an arm of experiment 2 less the best BP."""
    return Label("2", task, condition, "", arm, BASELINE, measure)


def gains_as_now(rows: Mapping[Label, Row]) -> list[Row]:
    """csbp less the best BP from torch's weights, at a constant rate, where it is above zero."""
    all_rows = [rows.get(over_bp(task, AS_NOW)) for task in TASKS]
    return [row for row in all_rows if row is not None and row.found.low > 0]


def over_best_bp_at_twice(rows: Mapping[Label, Row]) -> list[Row]:
    """csbp less the best BP where the primary contrast is, of the tasks that have it."""
    over_best = [rows.get(label_at(task, DECISIVE, "csbp", BEST_BP)) for task in ONE_LAYER_TASKS]
    return [row for row in over_best if row is not None]


def given_by_weights(now: Row, from_data: Row) -> str:
    """What data-driven weights give the best BP over torch's, in points.

    Args:
        now: csbp less the best BP, from torch's weights.
        from_data: the same from data-driven weights.
    """
    return difference(from_data.means[1] - now.means[1], decimals(now))
