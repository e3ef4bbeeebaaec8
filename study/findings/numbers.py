"""How numbers of the findings are shown, in sentences, tables and figures alike."""

from __future__ import annotations

import math

from csbp_notebooks.signs import with_minus

from ..protocol import EVERY_MARGIN
from .rows import Row, is_of_accuracy

BELOW = "~"  # after an estimate below the noise floor
ALL_AGREE = "(all splits agree)"  # in place of an interval: there is no spread to make it from


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


def points(row: Row) -> str:
    """An estimate with its sign, in points."""
    return difference(row.found.estimate, decimals(row))


def numbers(row: Row) -> str:
    """Estimate and 95 % interval, in points."""
    return f"{points(row)} {_interval_of(row)}"


def with_interval(row: Row) -> str:
    """The same, with a mark between them if the estimate is below the noise floor."""
    mark = f" {BELOW}" if row.below_floor else ""
    return f"{points(row)}{mark} {_interval_of(row)}"


def smallest(row: Row) -> str:
    """The difference that would be found with 80 % power; empty where no spread says it."""
    return "" if all_agree(row) else f"{row.found.smallest:.{decimals(row)}f}"


def all_agree(row: Row) -> bool:
    """Whether all splits have the same difference."""
    return row.found.low == row.found.high


def _interval_of(row: Row) -> str:
    """The 95 % interval of a contrast, or why it has none."""
    if all_agree(row):
        return ALL_AGREE
    return interval(row.found.low, row.found.high, decimals(row))


def mean(value: float | None, places: int) -> str:
    """A mean over networks, which may be that of numbers that are not finite; empty for None.

    Example:
        >>> mean(2.345, 1), mean(float("nan"), 1), mean(None, 1)
        ('2.3', 'not finite', '')
    """
    if value is None:
        return ""
    return f"{value:.{places}f}" if math.isfinite(value) else "not finite"
