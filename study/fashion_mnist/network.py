"""A small convolutional spiking network of the authors' kind, for images that do not move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from csbp_core import LIF

from .images import CLASSES, SIDE

STEPS = 4  # in time
DECAY = 0.25  # the leak factor of the authors' neurons
POOLED_SIDE = SIDE // 4  # pixels of an image behind two pools


class TemporalBatchNorm(nn.Module):
    """Batch norm over samples and time steps, with a learned factor for each step.

    ::

        y[t] = p[t] (sigma (x[t] - mean) / sqrt(variance + eps) + mu)

    Mean and variance are a channel's, over all samples, steps and positions of the batch; in eval
    mode those that training has averaged. sigma and mu, `weight` and `bias` of `norm`, are learned
    for each channel, p for each step, `[T]`.

    Args:
        channels: of the input.
        steps: T, >= 1.

    Shape: `[T, N, channels, height, width]`; or `[1, N, channels, height, width]` for an input that
    is the same at every step. What it returns has T steps in both cases.

    Source: Duan et al. 2022, Temporal Effective Batch Normalization in Spiking Neural Networks.

    Example:
        >>> norm = TemporalBatchNorm(channels=2, steps=4)
        >>> norm(torch.rand(1, 5, 2, 3, 3)).shape
        torch.Size([4, 5, 2, 3, 3])
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.p = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        # A step that stands for all has the mean and the variance of all.
        normed = self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.p.view(-1, 1, 1, 1, 1) * normed


class Output(NamedTuple):
    """What the network gives for a batch.

    Attributes:
        logits: averaged over the time steps, `[N, 10]`.
        potential: of the first layer of neurons after the last reset, `[N, channels, 28, 28]`.
        pooled: the input of fc1, `[T, N, fan_in]`.
        features: the output of fc1, `[T, N, features]`.
        spikes: of both layers of neurons, `[T, N, channels, height, width]`.
    """

    logits: Tensor
    potential: Tensor
    pooled: Tensor
    features: Tensor
    spikes: list[Tensor]


class ImageNetwork(nn.Module):
    """Two convolutions with batch norm, neurons and an average pool each; then fc1 and fc2.

    No neuron stands behind fc1 or fc2. The convolutions have no bias, which batch norm would take
    away again, and start from Kaiming's normal weights by their fan-out, as the authors'.

    Args:
        channels: of both convolutions.
        features: outputs of fc1.

    Shape: images `[N, 28, 28]`; see `Output` for what it returns.

    Example:
        >>> net = ImageNetwork()
        >>> net(torch.rand(5, 28, 28)).logits.shape
        torch.Size([5, 10])
    """

    def __init__(self, channels: Sequence[int] = (8, 16), features: int = 64) -> None:
        super().__init__()
        first, second = channels
        self.conv1 = nn.Conv2d(1, first, 3, padding=1, bias=False)
        self.norm1 = TemporalBatchNorm(first, STEPS)
        self.lif1 = LIF(decay=DECAY)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.norm2 = TemporalBatchNorm(second, STEPS)
        self.lif2 = LIF(decay=DECAY)
        self.fc1 = nn.Linear(second * POOLED_SIDE**2, features)
        self.fc2 = nn.Linear(features, CLASSES)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Output:
        still = self.conv1(images.unsqueeze(1)).unsqueeze(0)  # [1, N, first, 28, 28]
        spikes1 = self.lif1(self.norm1(still))  # [T, N, first, 28, 28]
        pooled1 = F.avg_pool2d(spikes1.flatten(0, 1), 2)  # [T * N, first, 14, 14]
        current2 = self.conv2(pooled1).unflatten(0, spikes1.shape[:2])
        spikes2 = self.lif2(self.norm2(current2))  # [T, N, second, 14, 14]
        pooled2 = F.avg_pool2d(spikes2.flatten(0, 1), 2)  # [T * N, second, 7, 7]
        pooled = pooled2.flatten(1).unflatten(0, spikes2.shape[:2])  # [T, N, fan_in]
        features = self.fc1(pooled)
        logits = self.fc2(features).mean(0)
        assert self.lif1.v is not None
        return Output(logits, self.lif1.v, pooled, features, [spikes1, spikes2])

    def norms(self) -> list[nn.BatchNorm2d]:
        """Both batch norms, without the factors of the steps."""
        return [self.norm1.norm, self.norm2.norm]


def new_image_network(seed: int, channels: Sequence[int], features: int) -> ImageNetwork:
    """The network of a seed, at its start; torch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageNetwork(channels, features)


@torch.no_grad()
def set_currents(net: ImageNetwork, mean: float, spread: float) -> None:
    """Start a network from the data: every channel's current has a wanted mean and spread.

    That is what batch norm's shift and factor are, whatever the data.

    Args:
        net: changed in place.
        mean: of every channel's current over a batch, its time steps and positions.
        spread: its standard deviation, > 0.
    """
    for norm in net.norms():
        norm.bias.fill_(mean)
        norm.weight.fill_(spread)
