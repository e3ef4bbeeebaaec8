"""Which start from the data a task's networks get: the one from which bp does best.

python -m study.experiments.start digits_1 --out start.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .. import command
from ..protocol import digest
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .tuning import Conditions, tune

# Mean and spread of every hidden unit's current, as for `study.tasks.initialisation.set_from_data`.
STARTS_FROM_DATA = ((0.5, 0.5), (0.0, 1.0), (0.25, 0.5))


def choose_start(name: str) -> dict[str, Any]:
    """Tune bp from each of `STARTS_FROM_DATA`, at a constant rate, and keep the best start.

    Args:
        name: of a task, of `TASKS`.

    Returns `start_from_data`, the chosen start, the first of equally good ones; and `choices`, what
    `study.experiments.tuning.tune` gave for each.
    """
    conditions = [Conditions(BASELINE, start) for start in STARTS_FROM_DATA]
    choices = [tune(name, start, bp_lr=None) for start in conditions]
    best = max(choices, key=lambda choice: choice["accuracy"])
    return {"task": name, "start_from_data": best["start_from_data"], "choices": choices}


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The choice that the command line asks for."""
    return choose_start(options.task)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.experiments.start", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
