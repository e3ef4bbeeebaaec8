"""Cells that were made twice: whether every number is the same.

python -m study.experiments.repeated study/results runs/study/again --out study/repeated.json
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csbp_notebooks.provenance import flat

from .. import command
from ..protocol import digest

# The cells that `make repeated` makes again: of every experiment two with its primary contrast, of
# the tasks that train fastest.
REPEATED = [
    "experiment_1/xor/inside_20-20_2.0",
    "experiment_1/digits_1/inside_20-20_2.0",
    "experiment_2/xor/data_constant/csbp",
    "experiment_2/digits_1/data_constant/csbp",
    "experiment_3/xor/times_1",
    "experiment_3/digits_1/times_1",
    "experiment_4/bp/split_1",
    "experiment_4/csbp/split_1",
]

# What says how a cell was made differs each time; all else is to repeat.
NOT_COMPARED = "provenance"


def compared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """How many entries of a cell there are, and the names of those that are not the same.

    Args:
        first: a cell.
        second: the same, made again.

    Example:
        >>> compared({"z": 1.0, "rate": [0.5, 0.25]}, {"z": 1.0, "rate": [0.5, 0.125]})
        {'entries': 3, 'differing': ['rate.1']}
    """
    values = flat(_without_provenance(first))
    again = flat(_without_provenance(second))
    names = values.keys() | again.keys()
    differing = [
        name
        for name in names
        if name not in values or name not in again or values[name] != again[name]
    ]
    return {"entries": len(names), "differing": sorted(differing)}


def _without_provenance(cell: dict[str, Any]) -> dict[str, Any]:
    """What is to repeat."""
    return {name: value for name, value in cell.items() if name != NOT_COMPARED}


def in_words(found: Mapping[str, Any]) -> str:
    """What the command found, a sentence.

    Args:
        found: what it wrote.

    Example:
        >>> in_words({"cells": {"a": {"entries": 3, "differing": ["z"]}}})
        '1 cell was made a second time: 1 of 3 entries differs.'
    """
    cells = found["cells"].values()
    entries = sum(cell["entries"] for cell in cells)
    differing = sum(len(cell["differing"]) for cell in cells)
    were = "1 cell was" if len(cells) == 1 else f"{len(cells)} cells were"
    if differing == 0:
        return f"{were} made a second time: all {entries:,} entries are the same."
    differ = "differs" if differing == 1 else "differ"
    return f"{were} made a second time: {differing:,} of {entries:,} entries {differ}."


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("first", type=Path, help="the folder of the committed cells")
    parser.add_argument("second", type=Path, help="that of the cells made again, named alike")
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """What was found of every cell that was made again."""
    files = sorted(options.second.rglob("*.json"))
    if not files:
        raise ValueError(f"second = {options.second}: must be a folder with cells in it")
    cells = {}
    for file in files:
        path = file.relative_to(options.second)
        first = command.read_cell("first", options.first / path, "the study")
        second = command.read_cell("second", file, "the study")
        cells[path.as_posix()] = compared(first, second) | {
            "commits": [cell["provenance"]["commit"] for cell in (first, second)],
        }
    return {"cells": cells}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what was found from the command line; bad input is one line and exit code 2."""
    command.run("study.experiments.repeated", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
