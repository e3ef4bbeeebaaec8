"""How much of a network is out of reach of the surrogate gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from csbp_core import LIF

from ..tasks.networks import DECAY, LayerOutput
from .train import Training


@torch.no_grad()
def zero_surrogate(run: Training, state: list[Tensor]) -> Tensor:
    """The share of (neuron, test sample) pairs without a surrogate gradient at any step, `[S]`.

    Args:
        run: the training; every network is taken through the test samples of its own split.
        state: what `run.train` or `run.step` gave.

    Returns it for each network, over the neurons of all hidden layers.
    """
    shares = torch.empty(len(run.seeds), dtype=torch.float64)
    splits = torch.tensor(run.splits)
    for split, data in run.data_of_split.items():
        members = (splits == split).nonzero().flatten()
        weights = [tensor[members] for tensor in state[: len(run.names)]]
        x = data.x_test.expand(len(members), *data.x_test.shape)
        layers = run.forward(weights, x).layers
        never = torch.cat([is_without_gradient(layer).flatten(2) for layer in layers], dim=2)
        shares[members] = never.double().mean((1, 2))
    return shares


def is_without_gradient(layer: LayerOutput) -> Tensor:
    """Which (sample, neuron) pairs of a layer have no surrogate gradient at any step.

    Args:
        layer: what it gave, of S networks at once.

    Returns `[S, N, *]`, True or False.
    """
    current = layer.current.expand_as(layer.spikes)  # a static input's is the same at every step
    neurons = LIF(decay=DECAY, store_v_seq=True, backend="eager")
    neurons(current.transpose(0, 1))  # time first
    assert neurons.v_seq is not None
    has_gradient = (neurons.v_seq - neurons.v_threshold).abs() < neurons.gamma
    return ~has_gradient.any(0)
