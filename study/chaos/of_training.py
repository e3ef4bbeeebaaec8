"""How chaotic is training anyway? Exponents along a training, and what they come from.

python -m study.chaos.of_training digits_1 bp --tuned bp.json --out cell.json

A step of training, ``p <- m p + g(w)`` and ``w <- w - lr p``, has for its derivative the matrix J
of g, the derivative of the gradient that the optimizer gets. Spikes are held in it: they are the
same for all weights that are near enough, and whatever the surrogate sends back depends on the
weights through the potentials alone. (Differentiating g by reverse mode once more would send the
surrogate through the spikes a second time, which no step does.) J need not be symmetric, as g is
not the gradient of a function.

With an eigenvalue l of J, a step multiplies by the two roots mu of::

    mu^2 - (1 + m - lr l) mu + m = 0

For a real l one of them is beyond -1 if ``lr l > 2 (1 + m)``: *overshoot*. One is beyond 1 if
``l < 0``: *negative curvature*. What a larger distance between two trainings adds is that *spikes*
differ.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigs
from torch import Tensor

from csbp_core import largest_lyapunov
from csbp_core.checks import check_choice

from .. import command
from ..command import plain
from ..experiments.tuning import longest, read_choice
from ..protocol import Networks, digest
from ..tasks.tasks import TASKS
from ..training.train import Training

ARMS = ("bp", "csbp")

NETWORKS = Networks(seeds=[20_000, 20_001, 20_002, 20_003], splits=[13] * 4)  # used nowhere else

D0 = (1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)  # relative to all weights together, at the start
# Of the training: means are taken over each. In the first one distances still turn into the
# direction in which they grow fastest.
PARTS = 5

PROBE = 1e-9  # relative length of a displacement that probes the matrix J: no spike flips
KRYLOV = 40  # vectors that ARPACK keeps, at most
PRECISION = 1e-3  # relative, of its eigenvalues
START = 0  # seed of the vector that it starts with


class Pace(NamedTuple):
    """What a displacement of weights went through in one step, a number per network each.

    Attributes:
        steepness: ``lr l / (2 (1 + m))``, with ``l = d^T (g(w + d) - g(w)) / d^T d`` along it:
            negative where the curvature is, above 1 where a step overshoots.
        turn: the cosine between it before the step and after: near -1 where it overshoots.
        flipped: the share of the spikes of all hidden neurons that the displacement flips.
    """

    steepness: Tensor
    turn: Tensor
    flipped: Tensor


class Descent(NamedTuple):
    """A training by gradient descent with momentum, of S networks that do not mix.

    Attributes:
        step: the state after step n, from (state, n). A state is all weights and then all momenta,
            each `[S, *]`.
        spikes: those of all hidden neurons in step n, from (state, n), `[S, spikes]`.
        lr: learning rate.
        momentum: m, in [0, 1).
    """

    step: Callable[[list[Tensor], int], list[Tensor]]
    spikes: Callable[[list[Tensor], int], Tensor]
    lr: float
    momentum: float


class Growth(NamedTuple):
    """How a training and its twins part, of every step, twin and network: `[steps, twins, S]` each.

    Attributes:
        growth: of the distance, its logarithm; a mean of it is the largest exponent.
        steepness: see `Pace`.
        turn: likewise.
        flipped: likewise.
    """

    growth: Tensor
    steepness: Tensor
    turn: Tensor
    flipped: Tensor


def follow(
    descent: Descent, state: list[Tensor], steps: int, distances: Sequence[float] = D0
) -> Growth:
    """Follow a training, and a twin of it at each of several distances.

    Args:
        descent: the training.
        state: its start.
        steps: >= 1.
        distances: relative to the norm of the state, > 0.
    """
    watched = Watched(descent, twins=len(distances))
    growth = largest_lyapunov(watched.step, state, steps, distances, rows=True)
    paces = (torch.stack(parts) for parts in zip(*watched.paces, strict=True))
    return Growth(torch.from_numpy(growth), *paces)


class Stage(NamedTuple):
    """A step of one training: where it was, where it went, and the spikes that it saw."""

    before: list[Tensor]
    after: list[Tensor]
    spikes: Tensor


class Watched:
    """A training whose steps, and those of its twins, are compared while they are made.

    `largest_lyapunov` steps the twins from the last to the first and then the training itself.

    Attributes:
        paces: of every step of the training, a row per twin.
    """

    def __init__(self, descent: Descent, twins: int) -> None:
        self.descent = descent
        self.twins = twins
        self.stages: list[Stage] = []  # of the twins, until the training itself has stepped
        self.paces: list[Pace] = []

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n."""
        before = list(state)
        after = self.descent.step(before, n)
        # Copies: the tensors of a state are moved in place.
        stage = Stage(_copied(before), _copied(after), self.descent.spikes(before, n))
        if len(self.stages) < self.twins:
            self.stages.append(stage)
        else:
            twins = reversed(self.stages)
            paces = [pace_of(self.descent, stage, twin) for twin in twins]
            self.paces.append(Pace(*(torch.stack(parts) for parts in zip(*paces, strict=True))))
            self.stages = []
        return after


def pace_of(descent: Descent, reference: Stage, twin: Stage) -> Pace:
    """What the difference of a twin's weights from the training's went through, `[S]` each."""
    weights, momenta = _parted(_differences(twin.before, reference.before))
    weights_after, momenta_after = _parted(_differences(twin.after, reference.after))
    gradients = momenta_after - descent.momentum * momenta  # their difference
    curvature = (weights * gradients).sum(1) / weights.square().sum(1)
    return Pace(
        steepness=descent.lr * curvature / (2 * (1 + descent.momentum)),
        turn=_cosine(weights, weights_after),
        flipped=(twin.spikes != reference.spikes).double().mean(1),
    )


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Of vectors `[S, numbers]`, `[S]`; torch's own takes lengths below 1e-8 for 1e-8."""
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _differences(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    return [one - other for one, other in zip(first, second, strict=True)]


def _parted(state: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Weights and momenta, each as a vector per network, `[S, numbers]`."""
    half = len(state) // 2
    return _vector(state[:half]), _vector(state[half:])


def _vector(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)


class Ends(NamedTuple):
    """The two eigenvalues of J at the ends of its spectrum, by their real parts.

    Attributes:
        steepest: that with the largest.
        lowest: that with the smallest.
    """

    steepest: complex
    lowest: complex


def ends_of_spectrum(gradient: Callable[[Tensor], Tensor], weights: Tensor) -> Ends:
    """The ends of the spectrum of the matrix J of a gradient, by Arnoldi's method.

    J v is the difference of two gradients ``PROBE |w|`` apart, over that length.

    Args:
        gradient: what the optimizer gets at weights `[numbers]`, `[numbers]`; float64.
        weights: where, `[numbers]`, at least three.

    Example:
        >>> steepness = torch.tensor([-3.0, 1.0, 2.0, 5.0], dtype=torch.float64)
        >>> ends = ends_of_spectrum(lambda w: steepness * w, torch.ones(4, dtype=torch.float64))
        >>> round(ends.steepest.real, 4), round(ends.lowest.real, 4)
        (5.0, -3.0)
    """
    size = len(weights)
    length = PROBE * max(1.0, float(weights.norm()))
    here = gradient(weights)

    def product(v: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(v.real.reshape(-1).copy())
        direction = direction * (length / direction.norm())
        there = gradient(weights + direction)
        return ((there - here) / length).numpy() * np.linalg.norm(v)

    matrix = LinearOperator((size, size), matvec=product, dtype=float)
    start = np.random.default_rng(START).standard_normal(size)
    found = [
        eigs(
            matrix,
            k=1,
            which=end,
            v0=start,
            ncv=min(KRYLOV, size),
            tol=PRECISION,
            return_eigenvectors=False,
        )[0]
        for end in ("LR", "SR")
    ]
    return Ends(complex(found[0]), complex(found[1]))


def multiplier(eigenvalue: complex, lr: float, momentum: float) -> complex:
    """The larger of the two by which a step multiplies along an eigenvector of J.

    It is the root of ``mu^2 - (1 + m - lr l) mu + m`` with the larger modulus.

    Args:
        eigenvalue: l.
        lr: learning rate, > 0.
        momentum: m, in [0, 1).

    Example:
        >>> multiplier(40.0, lr=0.1, momentum=0.0).real  # descent on 20 w^2: w - 4 w
        -3.0
    """
    roots = np.roots([1.0, -(1 + momentum - lr * eigenvalue), momentum])
    return complex(roots[np.abs(roots).argmax()])


def run_cell(
    name: str, arm: str, choice: dict[str, Any], networks: Networks | None = None
) -> dict[str, Any]:
    """Measure exponents and their causes along the trainings of an arm at its tuned settings.

    Args:
        name: of a task, of `TASKS`.
        arm: one of `ARMS`.
        choice: what `study.experiments.tuning` chose: `lr`, `z` and `epochs`, from torch's start at
            a constant rate.
        networks: other networks than the study's, to try.

    Returns the task, the arm, the setting, `seeds`, `splits`, `distances`, and in `parts` a record
    for each of the parts that the training is cut into, with a number per network:

    * `epoch`, where it begins, a single number;
    * by distance, `[distances][networks]`: `exponent`, the mean growth per step; `along`, the mean
      of `Pace.steepness`; `downhill` and `overshoot`, the shares of the steps in which that is
      below 0 and above 1; and the means of `turn` and `flipped`;
    * where it begins, `[networks]`: `steepness`, ``lr l / (2 (1 + m))`` with the real part of that
      eigenvalue for which it is largest; `growth_steepest` and `growth_lowest`, the logarithm of
      what a step multiplies a displacement by, along the eigenvectors at both ends.

    Raises ValueError, one line, for an unknown name or arm.
    """
    check_choice("name", name, TASKS)
    check_choice("arm", arm, ARMS)
    networks = NETWORKS if networks is None else networks
    run = _training(name, arm, choice, networks)
    steps = choice["epochs"] * run.steps
    descent = Descent(
        step=run.step,
        spikes=functools.partial(spikes_of, run),
        lr=choice["lr"],
        momentum=run.momentum,
    )
    found = follow(descent, run.start(), steps)
    parts = []
    state = run.start()
    for numbers in np.array_split(np.arange(steps), PARTS):
        record = {"epoch": int(numbers[0]) / run.steps, **_means(found, numbers)}
        ends = [
            curvature(alone, state, row, int(numbers[0]))
            for row, alone in enumerate(_each_alone(name, arm, choice, networks))
        ]
        parts.append(record | _stability(ends, descent))
        for n in numbers:
            state = run.step(state, int(n))
    return {
        "task": name,
        "arm": arm,
        **{key: choice[key] for key in ("lr", "z", "epochs")},
        **networks._asdict(),
        "distances": D0,
        "parts": parts,
    }


def _means(found: Growth, numbers: np.ndarray) -> dict[str, Any]:
    """Means over steps of these numbers, `[distances][networks]`, as JSON knows them."""
    growth, steepness, turn, flipped = (values[numbers] for values in found)
    return {
        "exponent": plain(growth.mean(0)),
        "along": plain(steepness.mean(0)),
        "downhill": plain((steepness < 0).double().mean(0)),
        "overshoot": plain((steepness > 1).double().mean(0)),
        "turn": plain(turn.mean(0)),
        "flipped": plain(flipped.mean(0)),
    }


def _each_alone(name: str, arm: str, choice: dict[str, Any], networks: Networks) -> list[Training]:
    """The training of each network by itself."""
    pairs = zip(*networks, strict=True)
    return [_training(name, arm, choice, Networks([seed], [split])) for seed, split in pairs]


def _training(name: str, arm: str, choice: dict[str, Any], networks: Networks) -> Training:
    """The training of experiment 2, in float64."""
    task = TASKS[name]
    return Training(
        task,
        arm,
        networks.seeds,
        choice["lr"],
        choice["z"],
        epochs=longest(task),
        dtype=torch.float64,
        splits=networks.splits,
    )


def spikes_of(run: Training, state: list[Tensor], n: int) -> Tensor:
    """The spikes of all hidden neurons on the batch of step n, `[S, spikes]`."""
    x, _ = run.batch(n)
    with torch.no_grad():
        layers = run.forward(state[: len(run.names)], x).layers
    return torch.cat([layer.spikes.flatten(1) for layer in layers], dim=1)


def curvature(alone: Training, state: list[Tensor], row: int, n: int) -> Ends:
    """The ends of the spectrum of J of one network, on the batch of step n.

    Args:
        alone: the training of that network by itself.
        state: of all networks.
        row: its place among them.
        n: counted from 0.
    """
    weights = [tensor[row : row + 1] for tensor in state[: len(alone.names)]]
    sizes = [weight.numel() for weight in weights]

    def gradient(vector: Tensor) -> Tensor:
        parts = [
            part.view(weight.shape)
            for part, weight in zip(vector.split(sizes), weights, strict=True)
        ]
        return _vector(alone.gradients(parts, n))[0]

    return ends_of_spectrum(gradient, _vector(weights)[0])


def _stability(ends: Sequence[Ends], descent: Descent) -> dict[str, Any]:
    """What the ends of the spectrum of every network say of a step, as JSON knows it."""
    limit = 2 * (1 + descent.momentum)
    steepest = np.array([each.steepest for each in ends])
    lowest = np.array([each.lowest for each in ends])
    return {
        "steepness": plain(descent.lr * steepest.real / limit),
        "growth_steepest": plain(_growth_along(steepest, descent)),
        "growth_lowest": plain(_growth_along(lowest, descent)),
    }


def _growth_along(eigenvalues: np.ndarray, descent: Descent) -> np.ndarray:
    """The logarithm of what a step multiplies a displacement along eigenvectors of J by."""
    multipliers = [multiplier(each, descent.lr, descent.momentum) for each in eigenvalues]
    return np.log(np.abs(multipliers))


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument(
        "--tuned", type=Path, required=True, help="what study.experiments.tuning wrote for it"
    )
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    choice = read_choice("--tuned", options.tuned, options.task, options.arm)
    if choice["start_from_data"] is not None or choice["schedule"] != "constant":
        raise ValueError(f"--tuned = {options.tuned}: must be of torch's start and a constant rate")
    return run_cell(options.task, options.arm, choice)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.chaos.of_training", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
