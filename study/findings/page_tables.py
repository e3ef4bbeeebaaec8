"""How the page of the study shows numbers and tables, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from csbp_notebooks.signs import MINUS, less, with_minus

from ..training.arms import BASELINE
from .rows import BEST_BP, EVERY_MARGIN, Row, is_of_accuracy

UNFINISHED = "unfinished"

BELOW = "~"  # after an estimate below the noise floor


# Numbers


def decimals(row: Row) -> int:
    """How many a number of this row is shown with: a tenth of the task's margin, or finer.

    Shares of neurons and epochs have one.
    """
    if not is_of_accuracy(row.label.measure):
        return 1
    return task_decimals(row.label.task)


def task_decimals(task: str) -> int:
    """The same for the accuracies of a task.

    Example:
        >>> task_decimals("digits_1"), task_decimals("xor")
        (2, 1)
    """
    return 2 if EVERY_MARGIN[task] < 1 else 1


def interval(low: float, high: float, places: int) -> str:
    """An interval in square brackets.

    Example:
        >>> interval(-0.004, 1.5, 2)
        '[0.00, 1.50]'
    """
    return with_minus(f"[{low:z.{places}f}, {high:z.{places}f}]")  # z: no minus before zero


def difference(estimate: float, places: int) -> str:
    """An estimate with its sign.

    Example:
        >>> difference(0.254, 2), difference(-0.004, 2)
        ('+0.25', '+0.00')
    """
    return with_minus(f"{estimate:+z.{places}f}")


def estimate(row: Row) -> str:
    """An estimate with its sign, and a mark if it is below the noise floor."""
    mark = f" {BELOW}" if row.below_floor else ""
    return f"{difference(row.found.estimate, decimals(row))}{mark}"


def with_interval(row: Row) -> str:
    """An estimate and its 95 % interval."""
    return f"{estimate(row)} {interval(row.found.low, row.found.high, decimals(row))}"


def mean(value: float | None, places: int) -> str:
    """A mean over networks, which may be that of numbers that are not finite; empty for None.

    Example:
        >>> mean(2.345, 1), mean(float("nan"), 1), mean(None, 1)
        ('2.3', 'not finite', '')
    """
    if value is None:
        return ""
    return f"{value:.{places}f}" if math.isfinite(value) else "not finite"


# Tables


def table(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> str:
    """A table, each entry as it is, and an empty line."""
    return tabulate(list(rows), columns, "pipe", disable_numparse=True) + "\n"


def pivot(
    rows: Iterable[Row],
    corner: str,
    down: Callable[[Row], str],
    across: Callable[[Row], str],
) -> str:
    """A table of contrasts, each with its interval; empty text if there are none.

    Args:
        rows: the contrasts, not two for the same place.
        corner: what the names of the lines are.
        down: names the line of a row; lines and columns are in the order of their first rows.
        across: names its column.
    """
    lines: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}  # a set with an order
    for row in rows:
        columns[across(row)] = None
        lines.setdefault(down(row), {})[across(row)] = with_interval(row)
    if not lines:
        return ""
    texts = [[name, *(line.get(column, "") for column in columns)] for name, line in lines.items()]
    return table(texts, [corner, *columns])


def between(row: Row) -> str:
    """The two sides of a contrast."""
    return less(row.label.first, row.label.second)


def less_bp(row: Row) -> str:
    """The same in experiment 2, where bp is the best BP."""
    second = BEST_BP if row.label.second == BASELINE else row.label.second
    return less(row.label.first, second)


def task_of(row: Row) -> str:
    """The task of a contrast."""
    return row.label.task


def measure_of(row: Row) -> str:
    """What a contrast is in."""
    return row.label.measure.replace(" - ", f" {MINUS} ")  # "- none": the change under noise


def titled(title: str, *texts: str) -> str:
    """A heading and what stands below it; that nothing does, if all is empty."""
    present = [text for text in texts if text] or [f"{UNFINISHED.capitalize()}.\n"]
    return "\n".join([f"{title}\n", *present])
