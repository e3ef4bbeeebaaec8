"""Is a layer by itself chaotic under its chaotic loss? For experiment 1 of `PROTOCOL.md`.

python -m study.chaos.of_a_layer digits_1 --out cell.json

No neuron of the layer enters the loss of another, so that each is a system of its own: it has its
own largest exponent, and the layer's is that of the fastest. Two trajectories of the whole layer,
by which the protocol's numbers were found, see it too small: while one neuron is fastest the
distances in all others are lost in rounding, and when it slows down these have to grow again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from csbp_core import largest_lyapunov
from csbp_core.checks import check, check_choice

from .. import command
from ..command import plain
from ..experiments.experiment_1 import RESTS, TASK_NAMES
from ..protocol import Networks, digest
from ..tasks.tasks import TASKS, Task
from ..training.flow import gradient, with_ones
from ..training.overshoot import layer_critical_z
from ..training.train import MOMENTUM, Training

RATIOS = (0.9, 1.1, 1.5, 2.0, 3.0, 4.0)  # z / z_c

NETWORKS = Networks(seeds=list(range(20_000, 20_016)), splits=[13] * 16)  # used nowhere else

# By task. No other rate gives other exponents: z_c is proportional to 1 / lr, so that z / z_c fixes
# lr z, and with it every orbit. These are the ones with which the protocol's numbers were made.
LEARNING_RATES = {"digits_1": 0.2, "randman_1": 0.8, "xor": 0.4}

LENGTHS = 3  # so many times the task's own epochs
LEFT_OUT = 1  # so many of these, before the orbit is where it stays

D0 = 1e-9
D0_OF_PROTOCOL = 1e-7


class Exponents(NamedTuple):
    """The largest exponents per step of S layers, after the part that is left out.

    Attributes:
        layer: of the layer, from those of its neurons, `[S]`.
        chaotic: the share of its neurons whose own exponent is positive, `[S]`.
        one_twin: of the layer, from two trajectories of the whole, as the protocol has it, `[S]`.
    """

    layer: Tensor
    chaotic: Tensor
    one_twin: Tensor


class LayerAlone:
    """The hidden layers of S networks, trained by their chaotic loss alone, with z fixed.

    The state is [theta, momentum], each `[S, units, fan_in + 1]`, the biases last.

    Args:
        task: of `TASKS`, with one hidden layer.
        rest: a key of `RESTS`.
        ratio: z over the critical z of each network's split, > 0.
        lr: learning rate, > 0.
        networks: which, and on which splits; batches are those of their training.
    """

    def __init__(self, task: Task, rest: str, ratio: float, lr: float, networks: Networks) -> None:
        check_choice("rest", rest, RESTS)
        check("ratio", ratio, "(0, inf)")
        self.I0 = RESTS[rest]
        self.lr = lr
        self.run = Training(
            task,
            "bp",
            networks.seeds,
            lr,
            epochs=LENGTHS * task.epochs,
            dtype=torch.float64,
            splits=networks.splits,
        )
        self.critical_z = {
            split: layer_critical_z(task, split, lr, self.I0) for split in set(networks.splits)
        }
        z = [ratio * self.critical_z[split] for split in networks.splits]
        self.z = torch.tensor(z, dtype=torch.float64).view(-1, 1, 1)  # [S, 1, 1]

    def start(self) -> list[Tensor]:
        """The state before the first step."""
        weight, bias, *_ = self.run.start()
        theta = torch.cat([weight, bias.unsqueeze(2)], dim=2)
        return [theta, torch.zeros_like(theta)]

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n."""
        theta, momentum = state
        x, _ = self.run.batch(n)
        inputs = with_ones(x.flatten(1, -2))  # [S, rows, fan_in + 1]
        momentum = MOMENTUM * momentum + self.z * gradient(theta, inputs, self.I0)
        return [theta - self.lr * momentum, momentum]

    def step_of_neurons(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The same for a state whose first dimension counts the neurons of all layers."""
        layers = (len(self.z), -1)
        state = self.step([part.unflatten(0, layers) for part in state], n)
        return [part.flatten(0, 1) for part in state]

    def exponents(self) -> Exponents:
        """The largest exponents."""
        start = self.start()
        steps = self.run.epochs * self.run.steps
        left_out = steps * LEFT_OUT // LENGTHS
        whole = largest_lyapunov(self.step, start, steps, D0_OF_PROTOCOL, rows=True)  # [steps, S]
        neurons = [part.flatten(0, 1) for part in start]  # [S * units, fan_in + 1] each
        growth = largest_lyapunov(self.step_of_neurons, neurons, steps, D0, rows=True)
        growth = growth.reshape(steps, *start[0].shape[:2])  # [steps, S, units]
        return Exponents(
            layer=torch.from_numpy(layer_exponent(growth, left_out)),
            chaotic=torch.from_numpy((growth[left_out:].mean(0) > 0).mean(1)),
            one_twin=torch.from_numpy(whole[left_out:].mean(0)),
        )


def layer_exponent(growth: np.ndarray, left_out: int) -> np.ndarray:
    """The exponent of systems that consist of parts which do not interact.

    The squared distance of two trajectories is the sum of those of the parts, each of which starts
    at one and grows as if alone.

    Args:
        growth: of every part, the logarithm, `[steps, S, parts]`.
        left_out: steps before what is measured, >= 1.

    Returns the mean growth per step, `[S]`.

    Example:
        One part grows, one does not:

        >>> growth = np.log([[[2.0, 1.0]]] * 50)
        >>> bool(abs(layer_exponent(growth, 10) - np.log(2)) < 1e-6)
        True
    """
    total = growth.cumsum(0)  # logarithm of the distance, [steps, S, parts]
    distance = scipy.special.logsumexp(2 * total, axis=2) / 2  # [steps, S]
    return (distance[-1] - distance[left_out - 1]) / (len(growth) - left_out)


def run_cell(name: str, networks: Networks | None = None) -> dict[str, Any]:
    """Measure the exponents at every rest point and ratio.

    Args:
        name: of a task, one of `TASK_NAMES`.
        networks: other networks than those of the protocol, to try.

    Returns the task, `lr`, `seeds`, `splits`, and in `layers` a record for each rest and ratio,
    with the critical z of every split and what `Exponents` has, `[networks]` each; None where it
    is not finite.
    """
    check_choice("name", name, TASK_NAMES)
    networks = NETWORKS if networks is None else networks
    lr = LEARNING_RATES[name]
    layers = []
    for rest, ratio in itertools.product(RESTS, RATIOS):
        layer = LayerAlone(TASKS[name], rest, ratio, lr, networks)
        found = layer.exponents()
        record = {
            "rest": rest,
            "ratio": ratio,
            "critical_z": layer.critical_z,
            "exponent": plain(found.layer),
            "chaotic": plain(found.chaotic),
            "one_twin": plain(found.one_twin),
        }
        layers.append(record)
    return {"task": name, "lr": lr, **networks._asdict(), "layers": layers}


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASK_NAMES)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    return run_cell(options.task)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.chaos.of_a_layer", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
