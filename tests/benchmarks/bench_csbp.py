"""What CSBP adds to a step of training: by `ChaoticLoss`, and the authors' way.

`make bench` runs this and writes the table of BENCHMARKS.md. Copies of a network, one for each way,
take two steps per round, in a new order each time; the second counts. What is added is the median
over the rounds of the difference to the plain step.
"""

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from helpers import storages_kept
from torch import nn
from torch.nn import functional as F

from csbp_core import LIF, ChaoticLoss

Z, I0, SCALE = 10.0, 0.65, 10.0
CLAMP = (-10.0, 9.9)  # the authors' training code gives h outside no gradient
WAYS = ("BP", "ours", "measured", "authors")  # "measured" is ours where every call is measured
ROUNDS = {"digits": 41, "VGG": 11}


class Net(nn.Sequential):
    """Layers over a sequence [T, N, *]; gives its output and a list of what is read for CSBP.

    The authors' networks do the same. `read` is the type of the layers that are read.
    """

    def forward(self, x):
        sequence = x.shape[:2]  # [T, N]
        inner = []
        for layer in self:
            if isinstance(layer, LIF):
                x = layer(x)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, sequence)  # [T * N, *] in between
            if isinstance(layer, self.read):
                inner.append(x)
        return x.mean(0), inner


def digits(neuron):
    """64-64-64-10 on 6 steps of 128 images, every linear layer's output read."""
    net = Net(nn.Linear(64, 64), neuron(), nn.Linear(64, 64), neuron(), nn.Linear(64, 10), neuron())
    net.read = nn.Linear
    return net, torch.rand(128, 64).expand(6, -1, -1)


def vgg(neuron):
    """Six convolutions and a linear layer on 4 steps of 16 images; the convolutions are read."""
    layers = []
    channels = 3
    for wide in (64, 128, 256):
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), neuron()]
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.BatchNorm2d(wide), neuron()]
        layers += [nn.AvgPool2d(2)]
        channels = wide
    net = Net(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))
    net.read = nn.Conv2d
    return net, torch.randn(16, 3, 32, 32).expand(4, -1, -1, -1, -1)


NETWORKS = {"digits": digits, "VGG": vgg}


def authors(inner):
    """The chaotic loss as in the authors' training code, on tensors that the model returns."""
    low, high = CLAMP
    loss = 0
    for h in inner:
        h = torch.where(h > low, h, low)
        s = torch.sigmoid(torch.where(h < high, h, high) / SCALE)
        loss = loss - (Z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))).mean()
    return loss


def training_step(way, model, x, y):
    """A step of training by this way, to be called."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    chaos = None
    if way in ("ours", "measured"):
        chaos = ChaoticLoss(Z).attach(model, model.read)

    def run():
        output, inner = model(x)
        loss = F.cross_entropy(output, y)
        if chaos:
            loss = loss + chaos()
        elif way == "authors":
            loss = loss + authors(inner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if chaos:
            chaos.step()
        return loss

    return run


class Copies(NamedTuple):
    """A network's copies, compiled and checked."""

    steps: dict[str, Callable]  # [way]
    kept: dict[str, float]  # [way], memory kept for the backward pass, over that of all h


@cache
def copies(network, backend):
    """A training step for each way, and what it keeps."""
    torch.manual_seed(0)
    start, x = NETWORKS[network](lambda: LIF(backend=backend))
    y = torch.randint(10, x.shape[1:2])
    steps = {way: training_step(way, copy.deepcopy(start), x, y) for way in WAYS}
    for _ in range(2):
        losses = {way: run() for way, run in steps.items()}
    torch.testing.assert_close(losses["ours"], losses["authors"])
    _, all_h = start(x)
    bytes_of_h = sum(h.nbytes for h in all_h)
    kept = {way: sum(storages_kept(run).values()) / bytes_of_h for way, run in steps.items()}
    return Copies(steps, kept)


ORDER = [
    (network, backend, turn, way)
    for network, rounds in ROUNDS.items()
    for backend in ("eager", "compiled")
    for turn in range(rounds)
    for way in random.Random(turn).sample(WAYS, len(WAYS))
]


@pytest.mark.parametrize(("network", "backend", "turn", "way"), ORDER)
def test_speed(benchmark, monkeypatch, network, backend, turn, way):
    torch.set_num_threads(2)
    setting = f"{network}, `{backend}` LIF"
    ready = copies(network, backend)
    benchmark.extra_info.update(name=way, setting=setting)
    benchmark.extra_info[f"kept, {setting}"] = ready.kept[way]
    if way == "measured":
        monkeypatch.setattr("csbp_core.plugin.chaotic_loss.MEASURE_EVERY", 1)
    benchmark.pedantic(ready.steps[way], rounds=1, warmup_rounds=1)
