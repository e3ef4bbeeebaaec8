"""What is measured of a trained network of experiment 4, without noise and with it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..training.robustness import DRAWS, NOISES, Draw
from .images import Images
from .network import ImageNetwork

AT_ONCE = 100  # images that are tested in one go: more do not fit a cache

KINDS = ("inputs", "weights")  # of noise, keys of `NOISES`


@torch.no_grad()
def accuracy(net: ImageNetwork, images: Images) -> float:
    """The share of right answers, with the mean and variance that batch norm averaged in training.

    Args:
        net: is left in eval mode.
        images: at least one, on its device.
    """
    net.eval()
    right = torch.zeros((), dtype=torch.long, device=images.y.device)
    for x, y in zip(images.x.split(AT_ONCE), images.y.split(AT_ONCE), strict=True):
        right += (net(x).logits.argmax(1) == y).sum()
    return int(right) / len(images.y)


class Activity(NamedTuple):
    """How active the neurons are, of the first layer and of the second.

    Attributes:
        rate: spikes per neuron and time step.
        dead: the share of neurons, each at its own position, that spike for none of the images.
    """

    rate: list[float]
    dead: list[float]


@torch.no_grad()
def activity(net: ImageNetwork, images: Images) -> Activity:
    """Count the spikes of both layers of neurons; arguments as for `accuracy`."""
    net.eval()
    counts = []  # of a batch, per neuron of both layers
    for x in images.x.split(AT_ONCE):
        spikes = net(x).spikes
        steps = len(spikes[0])
        counts.append([layer.sum((0, 1)) for layer in spikes])
    totals = [torch.stack(layer).sum(0) for layer in zip(*counts, strict=True)]
    rates = [total / (steps * len(images.x)) for total in totals]  # [channels, height, width] each
    return Activity(
        rate=[float(rate.mean()) for rate in rates],
        dead=[float((rate == 0).double().mean()) for rate in rates],
    )


def robustness(
    net: ImageNetwork,
    images: Images,
    seed: int,
    split: int,
) -> dict[str, list[float]]:
    """The accuracy with noise, the mean of `robustness`'s draws, the same for every arm.

    Args:
        net: stays as it is, but for being in eval mode.
        images: to test on, on its device.
        seed: of the network, whose noise on the weights it is.
        split: of the network, whose noise on the pixels it is.

    Returns by kind of noise the accuracies in [0, 1], a number per level.
    """
    found = {}
    for kind in KINDS:
        levels = range(len(NOISES[kind].levels))
        found[kind] = [_mean_accuracy(net, images, kind, level, seed, split) for level in levels]
    return found


def _mean_accuracy(
    net: ImageNetwork,
    images: Images,
    kind: str,
    level: int,
    seed: int,
    split: int,
) -> float:
    """The accuracy at one level of noise, the mean of the draws."""
    accuracies = []
    for number in range(DRAWS):
        draw = Draw(kind, level, number)
        if kind == "weights":
            accuracies.append(accuracy(with_noisy_weights(draw, net, seed), images))
        else:
            accuracies.append(accuracy(net, with_noisy_pixels(draw, images, split)))
    return sum(accuracies) / DRAWS


@torch.no_grad()
def with_noisy_weights(draw: Draw, net: ImageNetwork, seed: int) -> ImageNetwork:
    """A copy of a network with noise on all that is learned, also in its batch norms."""
    noisy_net = copy.deepcopy(net)
    parameters = list(noisy_net.parameters())
    noisy = draw.noisy(_on_cpu(parameters), seed)  # drawn there, so that it is the same anywhere
    for parameter, tensor in zip(parameters, noisy, strict=True):
        parameter.copy_(tensor)
    return noisy_net


def with_noisy_pixels(draw: Draw, images: Images, split: int) -> Images:
    """The same images with noise."""
    (x,) = draw.noisy(_on_cpu([images.x]), split)
    return images._replace(x=x.to(images.x.device))


def _on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors without a graph, where the generators of the noise are."""
    return [tensor.detach().cpu() for tensor in tensors]
