"""Rules for z compared: the accuracy that each one loses to the tuned z, over all tasks.

python -m study.rule_for_z.comparison digits_1.json xor.json --out rules.json

Its cells are those of `study.rule_for_z.on_a_task`, and that of `study.rule_for_z.on_images`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import command
from ..protocol import EVERY_MARGIN, digest
from .on_a_task import AUTHORS_Z, SHARES, TENTH
from .reports import CALLS, median, z_for


class Rule(NamedTuple):
    """A family of rules, with one number to be chosen.

    Attributes:
        z: that it gives, from (a task's cell, the number).
        values: between which it is chosen.
    """

    z: Callable[[Mapping[str, Any], float], float]
    values: Sequence[float]


def _by_share(call: int, of_layers: Callable[..., Any]) -> Callable[..., float]:
    """The rule that a share of the layers is to have some value in the report of a call."""

    def z(cell: Mapping[str, Any], share: float) -> float:
        shares = np.array(cell["first_reports"][CALLS.index(call)], dtype=float)
        one_per_network = torch.from_numpy(of_layers(shares, axis=1))
        return median(z_for(share, one_per_network))

    return z


def _fixed(cell: Mapping[str, Any], z: float) -> float:
    return z


# A round number near the best on all tasks, see `answers`: it was chosen when they were known.
SHARE_OF_README = 0.05

GRID_OF_SHARES = np.geomspace(min(SHARES), max(SHARES), 40).tolist()
GRID_OF_Z = np.geomspace(0.01, 1000, 40).tolist()

RULES = {
    "README": Rule(_by_share(1, np.max), [SHARE_OF_README]),
    "tenth": Rule(_by_share(1, np.max), [TENTH]),
    "authors": Rule(_fixed, [AUTHORS_Z]),
    "z": Rule(_fixed, GRID_OF_Z),
    "largest share": Rule(_by_share(1, np.max), GRID_OF_SHARES),
    "mean share": Rule(_by_share(1, np.mean), GRID_OF_SHARES),
    "smallest share": Rule(_by_share(1, np.min), GRID_OF_SHARES),
    "largest share at call 21": Rule(_by_share(21, np.max), GRID_OF_SHARES),
}


def accuracy_at(cell: Mapping[str, Any], lr: float, z: float) -> float:
    """A task's accuracy at a z, linear in log z between those that were trained.

    Beyond the smallest and the largest of them it is that of the end.
    """
    at_rate = [each for each in cell["trainings"] if each["lr"] == lr and each["z"] is not None]
    known = {each["z"]: each["accuracy"] for each in at_rate}
    zs = sorted(known)
    return float(np.interp(np.log(z), np.log(zs), [known[each] for each in zs]))


def points_lost(cell: Mapping[str, Any], rate: str, z: float) -> float:
    """The points that a z lacks to the tuned z, at the same learning rate; negative if better.

    Args:
        cell: of a task, as `run_cell` gives it.
        rate: "bp_lr" or "csbp_lr".
        z: > 0.
    """
    lr = cell[rate]
    return 100 * (accuracy_at(cell, lr, cell["z_tuned"]) - accuracy_at(cell, lr, z))


def mean_loss(
    rule: Rule,
    value: float,
    cells: Sequence[Mapping[str, Any]],
    rate: str,
) -> float:
    """What a rule loses on average over the cells, each in margins of its task.

    A margin is what `PROTOCOL.md` counts as no difference in that task.
    """
    in_margins = []
    for cell in cells:
        lost = points_lost(cell, rate, rule.z(cell, value))
        in_margins.append(lost / EVERY_MARGIN[cell["task"]])
    return float(np.mean(in_margins))


def chosen(rule: Rule, cells: Sequence[Mapping[str, Any]], rate: str) -> float:
    """The value of a rule with the least `mean_loss`; of equal ones the smallest.

    Raises ValueError, one line, where none has a loss: no share of some task is known.
    """
    losses = {value: mean_loss(rule, value, cells, rate) for value in rule.values}
    known = {value: lost for value, lost in losses.items() if math.isfinite(lost)}
    if not known:
        names = ", ".join(cell["task"] for cell in cells)
        raise ValueError(f"cells = {names}: must have a share that is known in every task")
    return min(known, key=known.__getitem__)


def compare(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How good each rule is: the points that its z loses to the tuned z.

    Args:
        cells: of at least two tasks, each as `run_cell` gives it.

    Returns by learning rate ("bp_lr", "csbp_lr"), `best_of_ladder` and `without`, the points that
    the best z of the ladder and BP lose in each task, and for every rule of `RULES`:

    * `value`: chosen on all tasks, and `losses`, (value, `mean_loss`) of all that were tried;
    * `tasks`: for each the z, its `loss`, and in `left_out` value, z and loss where the value was
      chosen on all other tasks;
    * `left_out`: the mean of these losses over the tasks, in margins.

    Raises ValueError, one line, for a single task, or one that is given twice.
    """
    names = [cell["task"] for cell in cells]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"cells = {', '.join(names)}: must be of at least two tasks, each once")
    return {rate: _compared(cells, rate) for rate in ("bp_lr", "csbp_lr")}


def _compared(cells: Sequence[Mapping[str, Any]], rate: str) -> dict[str, Any]:
    """The same at one learning rate."""
    without = {}
    best = {}
    for cell in cells:
        at_tuned = accuracy_at(cell, cell[rate], cell["z_tuned"])
        at_rate = [each for each in cell["trainings"] if each["lr"] == cell[rate]]
        bp = next(each["accuracy"] for each in at_rate if each["z"] is None)
        without[cell["task"]] = 100 * (at_tuned - bp)
        highest = max(each["accuracy"] for each in at_rate if each["z"] is not None)
        best[cell["task"]] = 100 * (at_tuned - highest)
    rules = {name: _how_good(rule, cells, rate) for name, rule in RULES.items()}
    return {"without": without, "best_of_ladder": best, "rules": rules}


def _how_good(rule: Rule, cells: Sequence[Mapping[str, Any]], rate: str) -> dict[str, Any]:
    """What `compare` says of one rule."""
    value = chosen(rule, cells, rate)
    in_margins = []
    tasks = {}
    for cell in cells:
        others = [other for other in cells if other is not cell]
        of_others = chosen(rule, others, rate)
        left_out = {"value": of_others, **_on_task(rule, of_others, cell, rate)}
        tasks[cell["task"]] = {**_on_task(rule, value, cell, rate), "left_out": left_out}
        in_margins.append(left_out["loss"] / EVERY_MARGIN[cell["task"]])
    return {
        "value": value,
        "losses": [[value, mean_loss(rule, value, cells, rate)] for value in rule.values],
        "tasks": tasks,
        "left_out": float(np.mean(in_margins)),
    }


def _on_task(rule: Rule, value: float, cell: Mapping[str, Any], rate: str) -> dict[str, float]:
    """The z of a rule in one task, and what it loses."""
    z = rule.z(cell, value)
    return {"z": z, "loss": points_lost(cell, rate, z)}


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "cells", type=Path, nargs="+", help="what study.rule_for_z.on_a_task wrote, one per task"
    )
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The comparison that the command line asks for."""
    cells = []
    for path in options.cells:
        cell = command.read_cell("cells", path, writer="study.rule_for_z.on_a_task")
        if "first_reports" not in cell:
            raise ValueError(f"cells = {path}: must be what study.rule_for_z.on_a_task wrote")
        cells.append(cell)
    return compare(cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.rule_for_z.comparison", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
