"""The results of the study, from its cells: a JSON of all contrasts, and a page to read.

python -m study.findings study/results --out study/contrasts.json --table study/RESULTS.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csbp_notebooks.files import replace_file

from .. import command
from ..protocol import digest
from .all_contrasts import findings
from .cells import read_cells, read_choices
from .contrasts_json import for_json, from_json
from .results_page import page


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path, help="where the cells are")
    parser.add_argument("--table", type=Path, required=True, help="the page to write, Markdown")
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The findings; the page is written on the way."""
    entries = for_json(findings(read_cells(options.folder), read_choices(options.folder)))
    # Of the numbers as JSON has them, so that all who round those show the same.
    replace_file(options.table, page(from_json(entries)).encode())
    return entries


def main(arguments: Sequence[str] | None = None) -> None:
    """Write JSON and page from the command line; bad input is one line and exit code 2."""
    command.run("study.findings", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
