"""Experiment 2 of `PROTOCOL.md`, one cell: an arm at its tuned settings, trained and tested.

python -m study.experiments.experiment_2 digits_1 csbp --tuned csbp.json --out cell.json

With `--shard 1 4` the first quarter of its networks, for `study.experiments.shards` to gather.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from csbp_core.checks import check, check_choice

from .. import command
from ..protocol import Networks, digest, final_networks
from ..tasks.tasks import TASKS
from ..training import arms, robustness
from ..training.outcome import train_and_test_each
from ..training.train import Training
from .shards import add_seeds, add_shard, first_seeds, gathered, shard_of
from .tuning import conditions_of, longest, read_choice


class ArmOf2(NamedTuple):
    """What is trained, and at whose settings.

    Attributes:
        trained_as: an arm of `study.training.arms.ARMS`.
        tuned_as: the arm whose tuned settings it gets.
        everywhere: whether it is trained from both starts under both schedules, or only from
            torch's start at a constant rate.
    """

    trained_as: str
    tuned_as: str
    everywhere: bool = True


ARMS = {
    "bp": ArmOf2("bp", tuned_as="bp"),
    "bp_at_csbp_lr": ArmOf2("bp", tuned_as="csbp"),
    "csbp": ArmOf2("csbp", tuned_as="csbp"),
    "membrane": ArmOf2("membrane", tuned_as="membrane"),
    "firing_rate": ArmOf2("firing_rate", tuned_as="firing_rate"),
    # The noise floor.
    "csbp_resummed": ArmOf2("csbp_resummed", tuned_as="csbp", everywhere=False),
}


class Setting(NamedTuple):
    """What the networks of a cell are trained with.

    Attributes:
        arm: a key of `ARMS`.
        start_from_data: (mean, spread) as for `Training`; None for torch's start.
        schedule: of the learning rate, as for `Training`.
        lr: learning rate, > 0.
        z: strength of what the arm adds, > 0; it falls to a hundredth over `longest` epochs.
        epochs: after which training stops, >= 1 and at most `longest`.
    """

    arm: str
    start_from_data: tuple[float, float] | None
    schedule: str
    lr: float
    z: float
    epochs: int


def run_cell(name: str, setting: Setting, networks: Networks | None = None) -> dict[str, Any]:
    """Train the final networks at one setting, and test them, without noise and with it.

    Args:
        name: of a task, of `TASKS`.
        setting: what they are trained with.
        networks: other networks than the final ones, to try.

    Returns the task, the setting (z None for an arm that adds nothing), `seeds`, `splits`, and:

    * what `study.training.outcome` gives, and `every`, the epochs between two validations;
    * `robustness`: what `study.training.robustness.tested` gave.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    check_choice("name", name, TASKS)
    networks = final_networks(name) if networks is None else networks
    return gathered([run_shard(name, setting, networks)])


def run_shard(name: str, setting: Setting, networks: Networks) -> dict[str, Any]:
    """The same for some of a cell's networks, as `study.experiments.shards.gathered` takes it.

    Args:
        name: of a task, of `TASKS`.
        setting: what they are trained with.
        networks: which.

    Returns what `run_cell` does, but of `curve` that of every network,
    `[validations][networks]`.

    Raises ValueError as `run_cell` does.
    """
    check_choice("name", name, TASKS)
    check_choice("arm", setting.arm, ARMS)
    task = TASKS[name]
    check("epochs", setting.epochs, f"[{task.every}, {longest(task)}]", integer=True)
    trained_as = ARMS[setting.arm].trained_as
    run = Training(
        task,
        trained_as,
        networks.seeds,
        setting.lr,
        setting.z,
        epochs=longest(task),
        splits=networks.splits,
        start_from_data=setting.start_from_data,
        schedule=setting.schedule,
    )
    state, found = train_and_test_each(run, setting.epochs)
    cell = {
        "task": name,
        **setting._asdict(),
        "seeds": networks.seeds,
        "splits": networks.splits,
        **found,
        "every": task.every,
        "robustness": robustness.tested(run, state, name),
    }
    if arms.ARMS[trained_as].pull is None:
        cell["z"] = None
    return cell


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument(
        "--tuned",
        type=Path,
        required=True,
        help="what study.experiments.tuning wrote for the arm, or for csbp",
    )
    add_seeds(parser)
    add_shard(parser)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for, or a shard of it."""
    networks = first_seeds(final_networks(options.task), options.seeds)
    tuned = read_choice("--tuned", options.tuned, options.task, ARMS[options.arm].tuned_as)
    conditions = conditions_of(tuned)
    setting = Setting(
        arm=options.arm,
        start_from_data=conditions.start_from_data,
        schedule=conditions.schedule,
        lr=tuned["lr"],
        z=tuned["z"],
        epochs=tuned["epochs"],
    )
    if options.shard is None:
        return run_cell(options.task, setting, networks)
    shard = run_shard(options.task, setting, shard_of(networks, *options.shard))
    return {"shard": options.shard, **shard}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run(
        "study.experiments.experiment_2", command_line(), made, arguments, protocol=digest()
    )


if __name__ == "__main__":
    main()
