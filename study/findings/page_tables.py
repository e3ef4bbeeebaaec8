"""How the page of the study shows tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from csbp_notebooks.signs import MINUS, less
from csbp_notebooks.tables import as_table

from ..training.arms import BASELINE
from .numbers import with_interval
from .rows import BEST_BP, Row
from .verdicts import UNFINISHED


def table(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> str:
    """A table, and an empty line."""
    return as_table(rows, columns) + "\n"


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
