"""Robustness, as `PROTOCOL.md` has it: trained networks, tested with noise on inputs or on weights.

The noise is the same for every arm. A draw of it is made by a generator whose seed is::

    ((number * levels + level) * DRAWS + draw) * 2**16 + owner

where `number` is that of the kind of noise in `NOISES`, `levels` counts its levels, `level` and
`draw` count from 0, and `owner` is the split for noise on inputs, which all networks of the split
see, and the network's seed for noise on its weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from csbp_core.checks import check, check_choice

from ..command import plain
from .train import Training

DRAWS = 5  # of each noise, over which accuracy is averaged

OWNERS = 2**16  # more than there are seeds or splits: no two draws have the same generator


def gaussian(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Inputs that are the same at every time step, and so is their noise: ``x + level N(0, 1)``.

    They are not cut off: a noisy pixel may lie outside [0, 1].

    Args:
        x: inputs, `[n, *]`.
        level: standard deviation, >= 0, in units of the inputs.
        generator: the source of the noise.
    """
    return x + level * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def jitter(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Spikes moved in time, each by ``round(level N(0, 1))`` steps.

    One that would leave the window stays at its first or last step: none is lost.

    Args:
        x: 0 or 1, `[n, T, units]`; a unit spikes at most once, so that no two can meet.
        level: standard deviation before rounding, >= 0, in steps.
        generator: the source of the shifts.
    """
    step = x.argmax(1, keepdim=True)  # [n, 1, units]; any, for a unit that does not spike
    shift = (level * torch.randn(step.shape, generator=generator)).round().long()
    moved = (step + shift).clamp(0, x.shape[1] - 1)
    spikes = x.sum(1, keepdim=True)  # 0 for a unit that does not spike
    return torch.zeros_like(x).scatter(1, moved, spikes)


def deletion(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Spikes of which some are left out, each independently of the others.

    Args:
        x: 0 or 1, `[n, T, units]`.
        level: the probability that a spike is left out, in [0, 1].
        generator: the source of chance.
    """
    kept = torch.rand(x.shape, generator=generator) >= level
    return x * kept


def relative(weight: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Weights or biases of a network, each times ``1 + level N(0, 1)``.

    Args:
        weight: of one network, `[*]`.
        level: standard deviation, >= 0, relative to each weight.
        generator: the source of the noise.
    """
    return weight * (1 + level * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


class Noise(NamedTuple):
    """A kind of noise.

    Attributes:
        number: fixes its draws, another for every kind; >= 1, since at 0 the first draw would have
            the seed of the network's initial weights, and repeat them.
        levels: how strong it is, in the measure of `add`.
        add: from a tensor, a level and a generator, the noisy tensor.
    """

    number: int
    levels: tuple[float, ...]
    add: Callable[[Tensor, float, torch.Generator], Tensor]


NOISES = {
    "inputs": Noise(1, (0.1, 0.2, 0.4), gaussian),
    "jitter": Noise(2, (0.5, 1.0, 2.0), jitter),
    "deletion": Noise(3, (0.05, 0.1, 0.2), deletion),
    "weights": Noise(4, (0.05, 0.1, 0.2), relative),
}

KINDS = {  # by task, keys of `NOISES`
    "digits_1": ("inputs", "weights"),
    "digits_3": ("inputs", "weights"),
    "digits_conv": ("inputs", "weights"),
    "randman_1": ("jitter", "deletion", "weights"),
    "randman_3": ("jitter", "deletion", "weights"),
    "xor": ("inputs", "weights"),
}


class Draw(NamedTuple):
    """One draw of a noise.

    Attributes:
        kind: a key of `NOISES`.
        level: which of its levels, counted from 0.
        number: which of the draws at that level, counted from 0.
    """

    kind: str
    level: int
    number: int

    def noisy(self, tensors: Sequence[Tensor], owner: int) -> list[Tensor]:
        """The tensors with noise, one after the other from one generator.

        Args:
            tensors: all weights and biases of a network, or the inputs of a split alone.
            owner: the network's seed, or the split, in [0, 2**16).
        """
        noise = NOISES[self.kind]
        place = (noise.number * len(noise.levels) + self.level) * DRAWS + self.number
        generator = torch.Generator().manual_seed(place * OWNERS + owner)
        level = noise.levels[self.level]
        return [noise.add(tensor, level, generator) for tensor in tensors]


def tested(
    run: Training,
    state: Sequence[Tensor],
    name: str,
) -> dict[str, list[list[float]]]:
    """The test accuracy of trained networks with noise, the mean of `DRAWS` draws.

    A network of xor is right in a draw if it solves all four patterns with their noise.

    Args:
        run: what trained them.
        state: what it gave, parameters and momenta `[S, *]`; it stays as it is.
        name: of the run's task, a key of `KINDS`.

    Returns by kind of noise the accuracies in [0, 1], `[levels][S]`, as JSON knows them.

    Raises ValueError, one line, for an unknown name, or a seed or a split that is out of range.

    Example:
        >>> from study.tasks.tasks import TASKS
        >>> run = Training(TASKS["xor"], "bp", seeds=[0, 1], lr=0.1)
        >>> accuracy = tested(run, run.start(), "xor")
        >>> {kind: len(levels) for kind, levels in accuracy.items()}
        {'inputs': 3, 'weights': 3}
    """
    check_choice("name", name, KINDS)
    check("seeds", run.seeds, f"[0, {OWNERS})", integer=True, array=True)
    check("splits", run.splits, f"[0, {OWNERS})", integer=True, array=True)
    weights = state[: len(run.names)]
    accuracies = {}
    for kind in KINDS[name]:
        levels = range(len(NOISES[kind].levels))
        accuracies[kind] = [plain(_mean_accuracy(run, weights, kind, level)) for level in levels]
    return accuracies


tested.__test__ = False  # type: ignore[attr-defined]  # pytest takes what starts so for a test


def _mean_accuracy(run: Training, weights: Sequence[Tensor], kind: str, level: int) -> Tensor:
    """The accuracy of every network at one level of noise, the mean of the draws, `[S]`."""
    draws = [Draw(kind, level, number) for number in range(DRAWS)]
    return torch.stack([accuracy_in(draw, run, weights) for draw in draws]).mean(0)


def accuracy_in(draw: Draw, run: Training, weights: Sequence[Tensor]) -> Tensor:
    """The test accuracy of every network in one draw, `[S]`; weights `[S, *]`."""
    if draw.kind == "weights":
        measured = run.test(noisy_weights(draw, run, weights))
    else:
        measured = with_noisy_inputs(draw, run).test(list(weights))
    return measured["accuracy"]


def noisy_weights(draw: Draw, run: Training, weights: Sequence[Tensor]) -> list[Tensor]:
    """The weights and biases of all networks, `[S, *]` each, with the noise of each one's seed."""
    networks = zip(*weights, strict=True)  # each with its weights and biases, `[*]`
    noisy = [draw.noisy(network, seed) for network, seed in zip(networks, run.seeds, strict=True)]
    return [torch.stack(tensors) for tensors in zip(*noisy, strict=True)]


def with_noisy_inputs(draw: Draw, run: Training) -> Training:
    """The same run, on test samples with the noise of each split."""
    noisy_run = copy.copy(run)
    noisy_run.data_of_split = {}
    for split, data in run.data_of_split.items():
        (x_test,) = draw.noisy([data.x_test], split)
        noisy_run.data_of_split[split] = data._replace(x_test=x_test)
    return noisy_run
