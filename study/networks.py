"""Spiking networks: layers of LIF neurons, and a readout of their mean spikes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from csbp_core import LIF

DECAY = 0.5  # the neurons' leak factor, that of the published networks
IMAGE_SIDE = 8  # pixels of a digit, in each direction


class LayerOutput(NamedTuple):
    """What a hidden layer gives for a batch.

    The shapes are those of one network; of S at once all have one more dimension, S, in front.

    Attributes:
        current: what its neurons are driven by, `[T, N, *]`; `[1, N, *]` where it is the same at
            every step. A mean over that one step is the mean over all.
        potential: of its neurons after the reset at the last step, `[N, *]`.
        spikes: 0 or 1, `[T, N, *]`.
    """

    current: Tensor
    potential: Tensor
    spikes: Tensor


class NetOutput(NamedTuple):
    """What a network gives for a batch.

    Attributes:
        logits: `[N, classes]`.
        layers: of every hidden layer, from the input on.
    """

    logits: Tensor
    layers: list[LayerOutput]


class Net(nn.Module):
    """Layers of LIF neurons and a linear readout averaged over time.

    Args:
        hidden: what drives each layer of neurons: `nn.Linear`, or an `nn.Conv2d` as the first layer
            for a static input. Anywhere else its input would have a time dimension, which it does
            not take.
        readout: from the last layer's spikes, flat, to the classes.
        static: time steps for which an input without a time dimension (a static one) is presented,
            >= 1; 0 says that the inputs have a time dimension.

    Shape: x `[T, N, *]`, or `[N, *]` if it is static; see `NetOutput` for what it returns.

    Example:
        >>> net = Net([nn.Linear(2, 4)], nn.Linear(4, 2), static=8)
        >>> logits, layers = net(torch.rand(5, 2))
        >>> logits.shape, layers[0].spikes.shape
        (torch.Size([5, 2]), torch.Size([8, 5, 4]))
    """

    def __init__(
        self,
        hidden: Sequence[nn.Module],
        readout: nn.Module,
        static: int = 0,
    ) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(hidden)
        self.neurons = nn.ModuleList(LIF(decay=DECAY, backend="eager") for _ in hidden)
        self.readout = readout
        self.static = static  # 0, which counts as False, for inputs with a time dimension

    def time_first(self, x: Tensor) -> Tensor:
        """A batch of the data, `[N, T, *]`, as `forward` takes it; a static one as it is."""
        return x if self.static else x.transpose(0, 1)

    def forward(self, x: Tensor) -> NetOutput:
        layers: list[LayerOutput] = []
        for drive, neurons in zip(self.hidden, self.neurons, strict=True):
            current = drive(x)
            if self.static and not layers:  # computed once, seen at every step
                current = current.unsqueeze(0)  # [1, N, *]
                spikes = neurons(current.expand(self.static, *current.shape[1:]))
            else:
                spikes = neurons(current)
            layers.append(LayerOutput(current, neurons.v, spikes))  # type: ignore[arg-type]
            x = spikes
        rates = x.mean(0)  # [N, *]; a linear readout of the mean is the mean of the readouts
        return NetOutput(self.readout(rates.flatten(1)), layers)


def dense(sizes: Sequence[int], static: int = 0, gain: float = 1.0) -> Net:
    """A network of linear layers.

    Args:
        sizes: neurons per layer, from the inputs to the classes.
        static: of `Net`.
        gain: hidden weights, but not biases, start at so many times what torch gives them.

    Example:
        >>> [tuple(layer.weight.shape) for layer in dense((64, 32, 16, 10)).hidden]
        [(32, 64), (16, 32)]
    """
    linear = [nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)]
    *hidden, readout = linear
    with torch.no_grad():
        for layer in hidden:
            layer.weight *= gain
    return Net(hidden, readout, static)


def convolutional() -> Net:
    """A network for images of 8 x 8 pixels: four channels of 3 x 3 kernels, then the readout."""
    channels = 4
    kernel = 3
    side = IMAGE_SIDE - kernel + 1  # of a channel: the positions of the kernel in an image
    # From the input on: a seed fixes the weights only in the order in which they are drawn.
    hidden = nn.Conv2d(1, channels, kernel)
    readout = nn.Linear(channels * side * side, 10)
    return Net([hidden], readout, static=4)


def per_network(values: Tensor, like: Tensor) -> Tensor:
    """A number per network, `[S]`, shaped so that it broadcasts with a tensor `[S, *]`."""
    return values.view(-1, *[1] * (like.dim() - 1))  # [S, 1, ..]
