"""A start that is set from the data: every hidden unit's current has a wanted mean and spread.

The idea is that of Rossbroich, Gygax and Zenke 2022, doi:10.1088/2634-4386/ac97bb, who set the
membrane potential; here it is the current.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .networks import Net

SMALLEST_SPREAD = 1e-3  # a unit whose current hardly varies is not blown up beyond this


@torch.no_grad()
def set_from_data(net: Net, x: Tensor, mean: float, spread: float) -> None:
    """Scale a network's hidden weights and set its biases, layer by layer from the first.

    With m and s for the mean and the standard deviation of a unit's current over samples, time
    steps and, of a convolution's channel, positions; the layers before are set already::

        weight <- a weight,    bias <- mean - a (m - bias),    a = spread / max(s, 0.001)

    Args:
        net: one network, changed in place; its readout stays as it is.
        x: training inputs, as `net.forward` takes them.
        mean: of every unit's current then, in units of the potential.
        spread: its standard deviation then, > 0, where s is not below its floor.

    Example:
        >>> net = Net([torch.nn.Linear(2, 4)], torch.nn.Linear(4, 2), static=8)
        >>> x = torch.rand(50, 2)
        >>> set_from_data(net, x, mean=0.25, spread=0.5)
        >>> current = net(x).layers[0].current
        >>> torch.allclose(current.mean((0, 1)), torch.tensor(0.25))
        True
    """
    for position, drive in enumerate(net.hidden):
        assert isinstance(drive, nn.Linear | nn.Conv2d)
        assert drive.bias is not None
        current = net(x).layers[position].current  # [T, N, units, *]
        others = [dim for dim in range(current.dim()) if dim != 2]
        deviation, average = torch.std_mean(current, others, correction=0)  # [units]
        factor = spread / deviation.clamp(min=SMALLEST_SPREAD)
        drive.bias.copy_(mean - factor * (average - drive.bias))
        drive.weight.mul_(factor.view(-1, *[1] * (drive.weight.dim() - 1)))
