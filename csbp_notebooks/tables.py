"""Text and tables that a notebook computes, shown as Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from IPython.display import Markdown, display
from tabulate import tabulate

from .signs import as_printed, typeset

# How the cell of a number begins: 1.5, +3, -2 [-4, 1], inf, nan. The minus may be the true one.
NUMBER = re.compile(r"[-+\u2212]?(\d|inf\b|nan\b)")
NO_NUMBER = ("", "-", "not finite")  # in the place of one
WORD = re.compile(r"(?!inf|nan|[KMG]iB)[^\W\d_]{3,}")  # other units, "to" and "of" are shorter


def say(text: str) -> None:
    """Show a sentence whose numbers were computed; Markdown, with signs and symbols of print."""
    display(Markdown(typeset(as_printed(text))))


def table(rows: Iterable[Sequence], columns: Sequence[str]) -> None:
    """Show rows of text and numbers under the names of their columns, as `as_table` has them."""
    # Symbols first, as cells that get longer later would leave their columns.
    lines = [[typeset(str(cell)) for cell in row] for row in rows]
    say(as_table(lines, [typeset(name) for name in columns]))


def as_table(rows: Iterable[Sequence], columns: Sequence[str]) -> str:
    """Rows of text and numbers under the names of their columns, as Markdown.

    Each cell stays as it is, but for its signs, which are those of print. Columns of numbers are
    aligned on the right; see `sides`.
    """
    # Here, and not by `say` alone: a cell that gets longer there would leave its column.
    lines = [[as_printed(str(cell)) for cell in row] for row in rows]
    return tabulate(lines, columns, "pipe", disable_numparse=True, colalign=sides(lines))


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
    """A column is of numbers if all of its cells are."""
    if all(_is_number(str(cell)) for cell in column):
        return "right"
    return "left"


def _is_number(cell: str) -> bool:
    """Whether a cell has numbers and no words, or says that there is no number."""
    begins_like_one = NUMBER.match(cell) is not None
    return cell in NO_NUMBER or (begins_like_one and not WORD.search(cell))
