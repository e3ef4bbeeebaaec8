"""Experiment 1 of `PROTOCOL.md`, one condition: all rules at one rest point, annealing and z.

python -m study.experiments.experiment_1 digits_1 --rest inside --annealing 20/20 --ratio 2 \
    --csbp tuned.json --out cell.json
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csbp_core.checks import check, check_choice

from .. import command
from ..command import plain
from ..protocol import FLOW_STEPS, Networks, digest, final_networks
from ..tasks.tasks import TASKS, Task
from ..training.outcome import train_and_test
from ..training.overshoot import FallingZ, Overshoot, layer_critical_z
from .shards import add_seeds, first_seeds
from .tuning import read_choice

TASK_NAMES = ("digits_1", "randman_1", "xor")  # those with one hidden layer

# I0 by where the rest point h* lies: inside the surrogate's support, at 1; or as published, 6.19.
RESTS = {"inside": 0.525, "published": 0.65}

RATIOS = (0.003, 0.03, 0.3, 1.0, 2.0, 4.0)  # z0 / z_c

TUNED_Z_OVER_END = 100  # z falls to the tuned z divided by this


class Annealing(NamedTuple):
    """How z falls, in twentieths of the task's own epochs.

    Attributes:
        falls: over so many.
        trains: so many are trained.
        holds: so many before z begins to fall.
    """

    falls: int
    trains: int
    holds: int = 0


ANNEALINGS = {
    "5/20": Annealing(5, 20),
    "10/20": Annealing(10, 20),
    "20/20": Annealing(20, 20),
    "20/60": Annealing(20, 60),
    "held/20": Annealing(10, 20, holds=10),
}


class Place(NamedTuple):
    """A cell's place in the grid: keys of `RESTS` and `ANNEALINGS`, and one of `RATIOS`."""

    rest: str
    annealing: str
    ratio: float

    @property
    def file_name(self) -> str:
        """Without its ending.

        Example:
            >>> Place("inside", "20/20", 2.0).file_name
            'inside_20-20_2.0'
        """
        return f"{self.rest}_{self.annealing.replace('/', '-')}_{self.ratio}"


def grid() -> list[Place]:
    """All cells of a task; z is held at and above z_c alone, and for the inner rest point."""
    falling = [name for name, annealing in ANNEALINGS.items() if not annealing.holds]
    held = [name for name, annealing in ANNEALINGS.items() if annealing.holds]
    from_critical = [ratio for ratio in RATIOS if ratio >= 1]
    places = itertools.product(RESTS, falling, RATIOS)
    held_places = itertools.product(["inside"], held, from_critical)
    return [Place(*place) for place in itertools.chain(places, held_places)]


class Condition(NamedTuple):
    """What all rules of a cell share.

    Attributes:
        rest: a key of `RESTS`.
        annealing: a key of `ANNEALINGS`.
        ratio: z0 over the critical z of each network's split, > 0.
        lr: learning rate, the tuned one of csbp, > 0.
        z_tuned: the tuned z of csbp, > 0.
        substeps: of the flow, so many times more than are needed.
    """

    rest: str
    annealing: str
    ratio: float
    lr: float
    z_tuned: float
    substeps: int = 1


def run_condition(
    name: str,
    condition: Condition,
    networks: Networks | None = None,
) -> dict[str, Any]:
    """Train the final networks by every rule, and test them.

    Args:
        name: of a task, one of `TASK_NAMES`.
        condition: what all rules share.
        networks: other networks than the final ones, to try.

    Returns the condition, `seeds`, `splits`, `z_start` of each network, and by rule in `rules` what
    `study.training.outcome` gives.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    check_choice("name", name, TASK_NAMES)
    check_choice("rest", condition.rest, RESTS)
    check_choice("annealing", condition.annealing, ANNEALINGS)
    check("ratio", condition.ratio, "(0, inf)")
    check("lr", condition.lr, "(0, inf)")
    check("z_tuned", condition.z_tuned, "(0, inf)")
    networks = final_networks(name) if networks is None else networks
    task = TASKS[name]
    I0 = RESTS[condition.rest]
    limits = {
        split: layer_critical_z(task, split, condition.lr, I0) for split in set(networks.splits)
    }
    z_start = [condition.ratio * limits[split] for split in networks.splits]

    def train(rule: str, excess: Tensor | None = None) -> Overshoot:
        return _training(task, rule, networks, condition, z_start, excess)

    csbp = train("csbp")
    csbp.record = True
    results = {"bp": _trained(train("bp")), "csbp": _trained(csbp)}
    for rule in ("inner flow", "outer flow", "kick"):
        results[rule] = _trained(train(rule))
    results["noise"] = _trained(train("noise", excess=torch.stack(csbp.excess)))
    return {
        "task": name,
        **condition._asdict(),
        "seeds": networks.seeds,
        "splits": networks.splits,
        "z_start": plain(torch.tensor(z_start)),
        "rules": results,
    }


def _training(
    task: Task,
    rule: str,
    networks: Networks,
    condition: Condition,
    z_start: Sequence[float],
    excess: Tensor | None,
) -> Overshoot:
    """The training of all networks by a rule."""
    annealing = ANNEALINGS[condition.annealing]
    twentieth = task.epochs // 20
    return Overshoot(
        task,
        rule,
        networks.seeds,
        networks.splits,
        lr=condition.lr,
        z=FallingZ(
            start=z_start,
            end=condition.z_tuned / TUNED_Z_OVER_END,
            annealing=annealing.falls * twentieth,
            holds=annealing.holds * twentieth,
        ),
        I0=RESTS[condition.rest],
        epochs=annealing.trains * twentieth,
        excess=excess,
        substeps=condition.substeps,
    )


def _trained(run: Overshoot) -> dict[str, Any]:
    """What the networks of a rule give when they have been trained."""
    _, found = train_and_test(run)
    return found


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASK_NAMES)
    parser.add_argument("--rest", choices=RESTS, required=True, help="where h* lies")
    parser.add_argument("--annealing", choices=ANNEALINGS, required=True, help="falls/trains")
    parser.add_argument("--ratio", type=float, required=True, help="z0 / z_c")
    parser.add_argument(
        "--csbp", type=Path, required=True, help="what study.experiments.tuning wrote for csbp"
    )
    parser.add_argument("--substeps", type=int, default=1, help="of the flow, times the study's")
    add_seeds(parser)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    tuned = read_choice("--csbp", options.csbp, options.task, "csbp")
    condition = Condition(
        rest=options.rest,
        annealing=options.annealing,
        ratio=options.ratio,
        lr=tuned["lr"],
        z_tuned=tuned["z"],
        substeps=options.substeps * FLOW_STEPS[options.task],
    )
    networks = first_seeds(final_networks(options.task), options.seeds)
    return run_condition(options.task, condition, networks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run(
        "study.experiments.experiment_1", command_line(), made, arguments, protocol=digest()
    )


if __name__ == "__main__":
    main()
