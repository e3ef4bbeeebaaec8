"""Experiment 3 of `PROTOCOL.md`, one cell: a control of the membrane form.

python -m study.experiments.experiment_3 digits_1 quadratic_membrane --tuned tuned.json \
    --out cell.json
python -m study.experiments.experiment_3 digits_1 substeps --times 10 --tuned tuned.json \
    --out cell.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from csbp_core.checks import check, check_choice

from .. import command
from ..contrasts import contrast, split_means
from ..protocol import MARGINS, Networks, digest, final_networks
from ..tasks.tasks import TASKS, Task
from ..training.outcome import train_and_test
from ..training.substeps import MOST_SUBSTEPS, SubSteps
from ..training.train import Training
from .shards import add_seeds, first_seeds
from .tuning import longest, read_choice

# The arm whose tuned setting a cell is trained with.
TUNED_ARM = {"quadratic_membrane": "quadratic_membrane", "substeps": "membrane"}

TIMES = (1, 10, 100)  # the tuned z of the membrane form


class Setting(NamedTuple):
    """What the networks of a cell are trained with.

    Attributes:
        lr: learning rate.
        z: strength of what the arm adds to the loss.
        epochs: after which training stops, at the end of the annealing or before.
    """

    lr: float
    z: float
    epochs: int


def run_quadratic(
    name: str,
    setting: Setting,
    networks: Networks | None = None,
) -> dict[str, Any]:
    """Train the final networks with a quadratic pull on the membrane, and test them.

    Args:
        name: of a task, of `TASKS`.
        setting: the tuned one of "quadratic_membrane".
        networks: other networks than the final ones, to try.

    Returns the setting, `seeds`, `splits`, and what `study.training.outcome` gives.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    _check(name, setting)
    networks = final_networks(name) if networks is None else networks
    return {
        "task": name,
        "arm": "quadratic_membrane",
        **setting._asdict(),
        "seeds": networks.seeds,
        "splits": networks.splits,
        **_outcome(_arm(TASKS[name], "quadratic_membrane", networks, setting), setting),
    }


def run_substeps(
    name: str,
    times: int,
    setting: Setting,
    networks: Networks | None = None,
) -> dict[str, Any]:
    """Train the final networks in sub-steps, twice as many each time, until nothing changes.

    The number of sub-steps is doubled from 1 to at most 16, until that changes nothing that can be
    seen: of the paired difference in test accuracy the 95 % interval contains zero, and the
    estimate is below the task's margin.

    Args:
        name: of a task, of `TASKS`.
        times: the strength is so many times the tuned one, one of `TIMES`.
        setting: the tuned one of "membrane".
        networks: other networks than the final ones, to try.

    Returns the setting, with the strength that is trained for z, `times`, `seeds` and `splits`;
    `substeps`, by the number of sub-steps as text what `study.training.outcome` gives, 1 being csbp
    on the membrane; and `integrated`, the number that was enough, since twice as many changed
    nothing. It is None where neither of 1, 2, 4 and 8 was: that strength cannot be integrated.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    _check(name, setting)
    check_choice("times", times, TIMES)
    networks = final_networks(name) if networks is None else networks
    stronger = setting._replace(z=times * setting.z)
    run = _arm(TASKS[name], "membrane", networks, stronger)
    results = {1: _outcome(run, stronger)}
    integrated = None
    n = 1
    while integrated is None and n < MOST_SUBSTEPS:
        run = _in_substeps(TASKS[name], 2 * n, networks, stronger)
        results[2 * n] = _outcome(run, stronger)
        differences = np.subtract(results[2 * n]["accuracy"], results[n]["accuracy"])
        if _is_nothing(differences, networks.splits, MARGINS[name]):
            integrated = n
        n = 2 * n
    return {
        "task": name,
        "arm": "membrane",
        "times": times,
        **stronger._asdict(),
        "seeds": networks.seeds,
        "splits": networks.splits,
        "substeps": {str(number): found for number, found in results.items()},
        "integrated": integrated,
    }


def _check(name: str, setting: Setting) -> None:
    """Refuse an unknown task, or a setting that cannot be trained."""
    check_choice("name", name, TASKS)
    task = TASKS[name]
    check("lr", setting.lr, "(0, inf)")
    check("z", setting.z, "(0, inf)")
    check("epochs", setting.epochs, f"[{task.every}, {longest(task)}]", integer=True)


def _arm(task: Task, arm: str, networks: Networks, setting: Setting) -> Training:
    """The networks, to be trained by an arm."""
    return Training(
        task,
        arm,
        networks.seeds,
        setting.lr,
        setting.z,
        epochs=longest(task),  # of the annealing, as in tuning
        splits=networks.splits,
    )


def _in_substeps(task: Task, substeps: int, networks: Networks, setting: Setting) -> SubSteps:
    """The networks, to be trained by the arm "membrane" in sub-steps."""
    return SubSteps(
        task,
        substeps,
        networks.seeds,
        networks.splits,
        setting.lr,
        setting.z,
        epochs=longest(task),
    )


def _outcome(run: Training, setting: Setting) -> dict[str, Any]:
    """What the networks give when they have been trained for the setting's epochs."""
    _, found = train_and_test(run, setting.epochs)
    return found


def _is_nothing(differences: np.ndarray, splits: Sequence[int], margin: float) -> bool:
    """Whether paired differences in accuracy, `[networks]`, show none; the margin is in points."""
    found = contrast(split_means(100 * differences, splits))
    return found.low <= 0 <= found.high and abs(found.estimate) < margin


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("cell", choices=TUNED_ARM)
    parser.add_argument("--times", type=int, choices=TIMES, help="the tuned z; of substeps alone")
    parser.add_argument(
        "--tuned",
        type=Path,
        required=True,
        help="what study.experiments.tuning wrote for quadratic_membrane; for substeps, membrane",
    )
    add_seeds(parser)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    if (options.cell == "substeps") != (options.times is not None):
        raise ValueError(f"--times = {options.times}: must be given for substeps, and for it alone")
    setting = _read_setting(options.tuned, options.task, TUNED_ARM[options.cell])
    networks = first_seeds(final_networks(options.task), options.seeds)
    if options.cell == "substeps":
        return run_substeps(options.task, options.times, setting, networks)
    return run_quadratic(options.task, setting, networks)


def _read_setting(path: Path, task: str, arm: str) -> Setting:
    """What was tuned for an arm under the conditions of this experiment."""
    tuned = read_choice("--tuned", path, task, arm)
    conditions = (tuned.get("start_from_data"), tuned.get("schedule"))
    if conditions != (None, "constant"):
        raise ValueError(
            f"--tuned = {path}: must be tuned from torch's start, at a constant learning rate"
        )
    return Setting(tuned["lr"], tuned["z"], tuned["epochs"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run(
        "study.experiments.experiment_3", command_line(), made, arguments, protocol=digest()
    )


if __name__ == "__main__":
    main()
