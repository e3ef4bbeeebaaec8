"""Text and tables that a notebook computes, shown as Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from IPython.display import Markdown, display
from tabulate import tabulate

# How the cell of a number begins: 1.5, +3, -2 [-4, 1], inf, or "-" alone where there is none. The
# minus may be the true one.
NUMBER = re.compile(r"[-+\u2212]?(\d|inf\b|$)")


def say(text: str) -> None:
    """Show a sentence whose numbers were computed; Markdown."""
    display(Markdown(text))


def table(rows: Iterable[Sequence], columns: Sequence[str]) -> None:
    """Show rows of text and numbers under the names of their columns, each cell as it is.

    Columns of numbers are aligned on the right; see `sides`.
    """
    lines = list(rows)
    say(tabulate(lines, columns, "pipe", disable_numparse=True, colalign=sides(lines)))


def sides(rows: Sequence[Sequence[Any]]) -> list[str]:
    """The side on which each column is aligned: "right" for one of numbers, else "left".

    Args:
        rows: the cells, in every row as many; text, or what becomes text.

    Example:
        >>> sides([("BP", "97.1 %", "-0.3 [-0.5, -0.1]"), ("CSBP", "88.8 %", "")])
        ['left', 'right', 'right']
    """
    return [_side(column) for column in zip(*rows, strict=True)]


def _side(column: Iterable[Any]) -> str:
    """A column is of numbers if all of its cells begin like one, or are empty."""
    if all(NUMBER.match(str(cell)) for cell in column):
        return "right"
    return "left"
