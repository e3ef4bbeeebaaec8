"""Merge the cells into one results file: the same bytes for the same cells, but for the provenance.

python -m study.collect runs/study study/results.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csbp_notebooks.files import replace_file

from .analysis import CellsByTask, first_epochs, target
from .arms import ARMS, BASELINE
from .command import read_cell
from .tasks import TASKS

# What is kept of every cell as it is.
KEPT = (
    "lr",
    "z",
    "epochs",
    "nominal_epochs",
    "every",
    "tuning",
    "accuracy",
    "dead",
    "rate",
    "mean_s",
    "exponent",
)


def merge(cells: CellsByTask) -> dict[str, dict[str, dict[str, Any]]]:
    """What is kept of every cell, by task and arm, in their order.

    Validation curves are replaced by their mean, and by the epoch at which each seed reaches the
    target that the task's baseline sets.
    """
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    for task, arms in cells.items():
        goal = target(arms[BASELINE]["validation"])
        merged[task] = {arm: condense(cell, goal) for arm, cell in arms.items()}
    return merged


def condense(cell: Mapping[str, Any], goal: float) -> dict[str, Any]:
    """What is kept of one cell; the goal is an accuracy in [0, 1]."""
    validations = zip(*cell["validation"], strict=True)  # of all seeds, one after the other
    chosen_by_network = ARMS[cell["arm"]].times_critical is not None  # else they all start at z
    return {
        **{key: cell[key] for key in KEPT},
        "exponent_quarters": [[rounded(x, 4) for x in seed] for seed in cell["exponent_quarters"]],
        "z_start": [round(z, 3) for z in cell["z_start"]] if chosen_by_network else None,
        "target": round(goal, 6),
        "first_epoch": first_epochs(cell["validation"], goal, cell["every"]),
        "validation_mean": [round(sum(seeds) / len(seeds), 6) for seeds in validations],
    }


def rounded(number: float | None, digits: int) -> float | None:
    """A number with fewer decimals, or None as it is."""
    return None if number is None else round(number, digits)


def lines(nested: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line per task and arm, so that a change of one cell is a change of one line.

    Example:
        >>> print(lines({"xor": {"bp": [1, 2], "csbp": [3]}}))
        {
         "xor": {
          "bp": [1, 2],
          "csbp": [3]}}
    """
    tasks = []
    for task, arms in nested.items():
        cells = [f'  "{arm}": {json.dumps(cell)}' for arm, cell in arms.items()]
        tasks.append(f' "{task}": {{\n' + ",\n".join(cells) + "}")
    return "{\n" + ",\n".join(tasks) + "}"


def main(folder: Path, out: Path) -> None:
    """Read FOLDER/task/arm.json of all tasks and arms, write the results.

    Raises ValueError, one line, for a cell that is not there.
    """
    cells: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        paths = {arm: folder / task / f"{arm}.json" for arm in ARMS}
        cells[task] = {arm: read_cell(arm, path) for arm, path in paths.items()}
    provenance = {
        task: {arm: cell["provenance"] for arm, cell in arms.items()}
        for task, arms in cells.items()
    }
    results = lines(merge(cells))
    text = f'{{"results": {results},\n"provenance": {lines(provenance)}}}\n'
    replace_file(out, text.encode())


def command(arguments: Sequence[str]) -> None:
    """`main` from the command line; bad input is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the cells are, as task/arm.json")
    parser.add_argument("out", type=Path, help="the JSON to write")
    options = parser.parse_args(arguments)
    try:
        main(options.folder, options.out)
    except ValueError as error:
        print(f"study.collect: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    command(sys.argv[1:])
