"""Spiking networks: layers of LIF neurons, and a readout of their mean spikes.

`Net` is one network; `run_together` runs S of one shape at once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
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
        layers, rates = self.run_hidden(x, self.hidden)
        return NetOutput(self.readout(rates.flatten(1)), layers)

    def run_hidden(
        self,
        x: Tensor,
        drives: Iterable[Callable[[Tensor], Tensor]],
    ) -> tuple[list[LayerOutput], Tensor]:
        """Run the layers of neurons.

        Args:
            x: as for `forward`.
            drives: for every layer a function, from its input to the currents of its neurons. The
                dimensions after that of time are theirs: in `run_together` N is S, N.

        Returns what every layer gave, and the mean over time of the last one's spikes, `[N, *]`.
        """
        layers: list[LayerOutput] = []
        for drive, neurons in zip(drives, self.neurons, strict=True):
            current = drive(x)
            if self.static and not layers:  # computed once, seen at every step
                current = current.unsqueeze(0)  # [1, N, *]
                spikes = neurons(current.expand(self.static, *current.shape[1:]))
            else:
                spikes = neurons(current)
            layers.append(LayerOutput(current, neurons.v, spikes))  # type: ignore[arg-type]
            x = spikes
        # A linear readout of the mean is the mean of the readouts. The gradient of this quotient
        # has no time dimension, that of `mean` would be written out for every step.
        return layers, x.sum(0) / len(x)


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


def run_together(net: Net, weights: Sequence[Tensor], x: Tensor) -> NetOutput:
    """What S networks give, each for a batch of its own and as `net.forward` would.

    Nothing of one network enters another. PyTorch's `vmap` would do the same from `net.forward`
    alone, in more and smaller operations.

    Args:
        net: a network of that shape; its own parameters are not used.
        weights: the parameters of all, each `[S, *]`, in the order of `net.parameters()`.
        x: batches, time first: `[T, S, N, *]`, or `[S, N, *]` if static.

    Returns logits, `[S, N, classes]`, and layers that have S in front.
    """
    # Weight and bias of every layer; S of them each.
    *hidden, readout = zip(weights[0::2], weights[1::2], strict=True)
    drives = []
    for layer, (weight, bias) in zip(net.hidden, hidden, strict=True):
        each = conv_of_each if isinstance(layer, nn.Conv2d) else linear_of_each
        drives.append(functools.partial(each, weight=weight, bias=bias))
    layers, rates = net.run_hidden(x, drives)
    logits = linear_of_each(rates.flatten(2), *readout)
    networks_first = [
        LayerOutput(
            current=layer.current.transpose(0, 1),  # [S, T, N, *]
            potential=layer.potential,  # [S, N, *]
            spikes=layer.spikes.transpose(0, 1),
        )
        for layer in layers
    ]
    return NetOutput(logits, networks_first)


def linear_of_each(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """S linear layers, each on its own rows.

    Args:
        x: `[S, N, inputs]`, or `[T, S, N, inputs]`.
        weight: `[S, outputs, inputs]`.
        bias: `[S, outputs]`.

    Returns `[S, N, outputs]`, or `[T, S, N, outputs]`.
    """
    if x.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    steps, _, samples, _ = x.shape
    rows = x.transpose(0, 1).flatten(1, 2)  # [S, T * N, inputs]: one product for all steps
    currents = linear_of_each(rows, weight, bias)
    return currents.unflatten(1, (steps, samples)).transpose(0, 1)


def conv_of_each(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """S convolutions as `nn.Conv2d` has them by default, each on its own images.

    Args:
        x: `[S, N, inputs, height, width]`.
        weight: `[S, outputs, inputs, *kernel]`.
        bias: `[S, outputs]`.

    Returns `[S, N, outputs, *positions]`.
    """
    samples = x.shape[1]
    height, width = weight.shape[3:]
    windows = x.unfold(3, height, 1).unfold(4, width, 1)  # [S, N, inputs, *positions, *kernel]
    positions = windows.shape[3:5]
    kernel_first = windows.permute(0, 2, 5, 6, 1, 3, 4)  # [S, inputs, *kernel, N, *positions]
    columns = kernel_first.flatten(4).flatten(1, 3)  # [S, inputs * kernel, N * positions]
    # As one product for each network: torch's grouped convolution takes twice as long.
    currents = torch.baddbmm(bias.unsqueeze(2), weight.flatten(2), columns)
    return currents.unflatten(2, (samples, *positions)).transpose(1, 2).contiguous()


def per_network(values: Tensor, like: Tensor) -> Tensor:
    """A number per network, `[S]`, shaped so that it broadcasts with a tensor `[S, *]`."""
    return values.view(-1, *[1] * (like.dim() - 1))  # [S, 1, ..]


def mean_per_network(elements: Tensor) -> Tensor:
    """The mean of each network's elements, `[S]`, from a tensor `[S, *]` or the mean itself."""
    if elements.dim() == 1:
        return elements
    # Not `mean`, whose gradient is written out for every element; and no `flatten`, which copies a
    # tensor that has time first in memory.
    sums = elements.sum(tuple(range(1, elements.dim())))
    return sums / elements[0].numel()
