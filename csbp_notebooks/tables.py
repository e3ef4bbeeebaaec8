"""Text and tables that a notebook computes, shown as Markdown."""

from collections.abc import Iterable, Sequence

from IPython.display import Markdown, display
from tabulate import tabulate


def say(text: str) -> None:
    """Show a sentence whose numbers were computed; Markdown."""
    display(Markdown(text))


def table(rows: Iterable[Sequence], columns: Sequence[str]) -> None:
    """Show rows of text and numbers under the names of their columns, each cell as it is."""
    say(tabulate(rows, columns, "pipe", disable_numparse=True))
