"""The arms of the study, its training methods: BP, CSBP, and what CSBP is held against.

Each is one entry of `ARMS`, which is all that the rest of the study knows of it. A new arm is an
entry in the list at the end, and a function of a layer unless one of those below will do::

    def cubic(layer: LayerOutput, z: Tensor) -> Tensor:
        h = layer.current  # [S, T, N, *]
        return per_network(z, h).to(h.dtype) * h.abs() ** 3

    Arm("cubic", pull=cubic),
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from csbp_core import chaotic_loss

from ..tasks.networks import LayerOutput, mean_per_network, per_network

# Of the chaotic loss, as published.
I0 = 0.65
SCALE = 10.0
REST = SCALE * math.log(I0 / (1 - I0))  # where it is least
CLAMP = (-10.0, 9.9)  # of h, before the authors' training code takes its loss; no arm here has it

LOWEST_RATE = 0.1  # r0 of `firing_rate`, in spikes per step

BASELINE = "bp"  # the arm that all others are compared with

UNUSED_STRENGTH = 1.0  # of an arm that adds nothing


class Candidate(NamedTuple):
    """Settings to be tried: the learning rate, and the strength z of what is added to the loss."""

    lr: float
    z: float


# What an arm adds to the loss: its `pull`


def chaos_on_current(layer: LayerOutput, z: Tensor) -> Tensor:
    """The chaotic loss of the neurons' currents, a mean per network."""
    return chaos_of_each(layer.current, z)


def chaos_on_membrane(layer: LayerOutput, z: Tensor) -> Tensor:
    """The chaotic loss of the membrane potentials after the last reset, a mean per network."""
    return chaos_of_each(layer.potential, z)


def chaos_of_each(h: Tensor, z: Tensor) -> Tensor:
    """The mean chaotic loss of each network's part of h `[S, *]`, `[S]`."""
    # Under vmap it is a mean, which takes fewer passes over h than its elements would.
    return torch.vmap(functools.partial(chaotic_loss, I0=I0, scale=SCALE))(h, z)


def quadratic_on_membrane(layer: LayerOutput, z: Tensor) -> Tensor:
    """A pull without chaos of the membrane potentials after the last reset: `parabola`."""
    return parabola(layer.potential, z)


def parabola(h: Tensor, z: Tensor) -> Tensor:
    """A parabola of every element of h `[S, *]` that shares two things with the chaotic loss.

    It has the same minimum h*, and the same slope at h = 0; k is its stiffness::

        L = k / 2 (h - h*)**2,    h* = scale * logit(I0),    k = z (I0 - 1/2) / (scale h*)
    """
    stiffness = per_network(z, h) * (I0 - 0.5) / SCALE / REST
    return stiffness.to(h.dtype) / 2 * (h - REST).square()


def firing_rate(layer: LayerOutput, z: Tensor) -> Tensor:
    """A regulariser that wakes silent neurons and leaves all others alone.

    With a neuron's mean spikes over the batch and the time steps for its rate::

        L = z mean(max(0, r0 - rate)**2),    r0 = 0.1, the mean over the layer's neurons

    Returns it for each network, `[S]`.
    """
    rate = layer.spikes.mean((1, 2))  # [S, *]
    shortfall = (LOWEST_RATE - rate).clamp(min=0)
    return z.to(rate.dtype) * mean_per_network(shortfall.square())


@dataclass(frozen=True)
class Arm:
    """A training method.

    Attributes:
        name: in results, files and on the command line.
        pull: what it adds to the loss, of S networks at once: (layer, z) -> tensor, whose mean over
            each hidden layer is added. z is `[S]` and float64; the tensor has the dtype and shape
            of what is pulled, `[S, T, N, *]` for currents (`[S, 1, N, *]` in the first layer of a
            static input), `[S, N, *]` for potentials or a mean over time; or it is that mean
            already, `[S]`. None adds nothing.
        adds_gradients: whether the gradient of `pull` is taken apart from the task's and then added
            to it; if not, the gradient is that of their sum. Only the rounding differs.

    Raises ValueError for `adds_gradients` where there is no `pull` that has one.
    """

    name: str
    pull: Callable[[LayerOutput, Tensor], Tensor] | None = None
    adds_gradients: bool = False

    def __post_init__(self) -> None:
        if self.adds_gradients and self.pull is None:
            raise ValueError(f"arm = {self.name!r}: has no pull whose gradient could be added")

    def added_loss(self, layers: Sequence[LayerOutput], z: Tensor) -> Tensor:
        """What it adds to the loss of each network, `[S]`.

        Args:
            layers: what every hidden layer gave, of S networks at once.
            z: strength of each network at this step, float64, `[S]`.

        Example:
            >>> ones = torch.ones(2, 4, 5, 6)  # 2 networks
            >>> layer = LayerOutput(current=ones, potential=ones[:, 0], spikes=ones)
            >>> ARMS["bp"].added_loss([layer], torch.tensor([5.0, 10.0]))
            tensor([0., 0.])
            >>> ARMS["csbp"].added_loss([layer], torch.tensor([5.0, 10.0]))
            tensor([3.3970, 6.7940])
        """
        if self.pull is None:
            return torch.zeros(len(z))
        means = [mean_per_network(self.pull(layer, z)) for layer in layers]
        return torch.stack(means).sum(0)


_IN_ORDER = (
    # Back-propagation alone.
    Arm("bp"),
    # The chaotic loss as the paper has it.
    Arm("csbp", pull=chaos_on_current),
    # csbp with its gradient summed in another order: the same mathematics, other rounding.
    Arm("csbp_resummed", pull=chaos_on_current, adds_gradients=True),
    # The chaotic loss of the potentials instead of the currents.
    Arm("membrane", pull=chaos_on_membrane),
    # What CSBP may do at its tuned strength, wake silent neurons, and nothing else.
    Arm("firing_rate", pull=firing_rate),
    # A pull of the potentials to the same minimum without chaos.
    Arm("quadratic_membrane", pull=quadratic_on_membrane),
)
ARMS = {arm.name: arm for arm in _IN_ORDER}
