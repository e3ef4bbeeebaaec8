"""The page of verdicts: of the first study by task, and of the second where it has been written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from .facts import results_of

INTRODUCTION = """\
# Verdicts

Does the chaotic loss help, and is it the chaos? The first study trains small networks with paired
seeds: by back-propagation (BP), by CSBP, and with a pull to the same place that adds no chaos. A
difference is called one where its *p* value, corrected for the number of comparisons, is below
0.05. Notebook [8](notebooks/08_does_chaos_help.ipynb) says what the tasks are, and how each column
comes about.

"""

SECOND_STUDY = """
The second study asks again with tuned baselines, by a [protocol](study/PROTOCOL.md) that was fixed
before it ran: its [results](study/RESULTS.md).
"""

# The columns that are shown, under the names that a reader meets first here.
COLUMNS = {
    "task": "task",
    "csbp - BP, points": "CSBP minus BP, points",
    "CSBP": "what CSBP does",
    "csbp - matched [95 %]": "CSBP minus the pull, same settings [95 %]",
    "so at the same settings": "is it the chaos?",
}


def verdicts_page(images: Path, *, second_study: bool) -> str:
    """The page, Markdown.

    Args:
        images: the folder with `does_chaos_help.json`.
        second_study: whether there is a page with its results.
    """
    table = verdict_table(results_of(images / "does_chaos_help.json")["verdicts"])
    return INTRODUCTION + table + "\n" + (SECOND_STUDY if second_study else "")


def verdict_table(verdicts: Sequence[Mapping[str, str]]) -> str:
    """The verdicts as a table of Markdown."""
    rows = [[verdict[column] for column in COLUMNS] for verdict in verdicts]
    return tabulate(rows, list(COLUMNS.values()), "pipe", disable_numparse=True) + "\n"
