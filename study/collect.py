"""Merge the cells into one results file: the same bytes for the same cells, but for the provenance.

python -m study.collect runs/study study/results.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from csbp_notebooks.figures import replace_file

from .analysis import first_epochs, target
from .train import ARMS, TASKS

KEPT = ("lr", "z", "epochs", "nominal_epochs", "every", "tuning", "accuracy", "dead", "rate", "mean_s", "exponent")


def merge(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is kept of every cell: of the validation curves the mean, and the epoch at which each seed reaches the target."""
    out: dict[str, dict[str, Any]] = {}
    for task, arms in cells.items():
        goal, out[task] = target(arms["bp"]["validation"]), {}
        for arm, cell in arms.items():
            curve = [round(sum(column) / len(column), 6) for column in zip(*cell["validation"], strict=True)]
            first = first_epochs(cell["validation"], goal, cell["every"])
            quarters = [[None if x is None else round(x, 4) for x in row] for row in cell["exponent_quarters"]]
            out[task][arm] = {key: cell[key] for key in KEPT} | {"exponent_quarters": quarters}
            out[task][arm] |= {"z_start": [round(z, 3) for z in cell["z_start"]] if arm == "high" else None}
            out[task][arm] |= {"target": round(goal, 6), "first_epoch": first, "validation_mean": curve}
    return out


def lines(nested: dict[str, dict[str, Any]]) -> str:
    """JSON with a line per task and arm, so that a change of one cell is a change of one line."""
    inner = {task: ",\n".join(f'  "{arm}": {json.dumps(cell)}' for arm, cell in arms.items()) for task, arms in nested.items()}
    return "{\n" + ",\n".join(f' "{task}": {{\n{text}}}' for task, text in inner.items()) + "}"


def main(folder: Path, out: Path) -> None:
    """Read FOLDER/task/arm.json of all tasks and arms, write the results."""
    cells = {task: {arm: json.loads((folder / task / f"{arm}.json").read_text()) for arm in ARMS} for task in TASKS}
    provenance = {task: {arm: cell["provenance"] for arm, cell in arms.items()} for task, arms in cells.items()}
    replace_file(out, f'{{"results": {lines(merge(cells))},\n"provenance": {lines(provenance)}}}\n'.encode())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
