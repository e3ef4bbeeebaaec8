"""What CSBP adds to a training step: `ChaoticLoss` and the authors' way, on a digits-sized and on a VGG-like network.

`make bench` runs this and writes the README's table. Three copies of a network, one for each way, take two steps per round, in
a new order each time; the second counts. What is added is the median over the rounds of the difference to the plain step.
"""

import copy
import random
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from csbp_core import LIF, ChaoticLoss

Z, I0 = 10.0, 0.65
WAYS = ("BP", "ours", "authors")
ROUNDS = {"digits": 41, "VGG": 11}


class Net(nn.Sequential):
    """Layers over a sequence [T, N, *]; returns the output and, as the authors' networks do, what is read for CSBP."""

    def forward(self, x):
        shape, inner = x.shape[:2], []
        for layer in self:
            x = layer(x) if isinstance(layer, LIF) else layer(x.flatten(0, 1)).unflatten(0, shape)
            if isinstance(layer, self.read):
                inner.append(x)
        return x.mean(0), inner


def digits(neuron):
    """64-64-64-10 on 6 steps of 128 images, every linear layer's output read."""
    net = Net(nn.Linear(64, 64), neuron(), nn.Linear(64, 64), neuron(), nn.Linear(64, 10), neuron())
    net.read = nn.Linear
    return net, torch.rand(128, 64).expand(6, -1, -1)


def vgg(neuron):
    """Six convolutions and a linear layer on 4 steps of 16 images, every convolution's output read."""
    layers, channels = [], 3
    for wide, pool in ((64, 0), (64, 1), (128, 0), (128, 1), (256, 0), (256, 1)):
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), neuron(), *[nn.AvgPool2d(2)] * pool]
        channels = wide
    net = Net(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))
    net.read = nn.Conv2d
    return net, torch.randn(16, 3, 32, 32).expand(4, -1, -1, -1, -1)


def authors(inner):
    loss = 0
    for h in inner:
        h = torch.where(h > -10, h, -10.0)
        s = torch.sigmoid(torch.where(h < 9.9, h, 9.9) / 10)
        loss = loss - (Z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))).mean()
    return loss


@cache
def steps(network, backend):
    """A training step for each way, compiled and checked."""
    torch.manual_seed(0)
    start, x = {"digits": digits, "VGG": vgg}[network](lambda: LIF(backend=backend))
    y = torch.randint(10, x.shape[1:2])

    def step(way):
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        chaos = ChaoticLoss(Z).attach(model, model.read) if way == "ours" else None

        def run():
            output, inner = model(x)
            loss = F.cross_entropy(output, y)
            if way != "BP":
                loss = loss + (chaos() if chaos else authors(inner))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if chaos:
                chaos.step()
            return loss

        return run

    made = {way: step(way) for way in WAYS}
    for _ in range(2):
        losses = {way: run() for way, run in made.items()}
    torch.testing.assert_close(losses["ours"], losses["authors"])
    return made


ORDER = [
    (network, backend, turn, way)
    for network, rounds in ROUNDS.items()
    for backend in ("eager", "compiled")
    for turn in range(rounds)
    for way in random.Random(turn).sample(WAYS, len(WAYS))
]


@pytest.mark.parametrize(("network", "backend", "turn", "way"), ORDER)
def test_speed(benchmark, network, backend, turn, way):
    torch.set_num_threads(2)
    benchmark.extra_info.update(name=way, setting=f"{network}, `{backend}` LIF")
    benchmark.pedantic(steps(network, backend)[way], rounds=1, warmup_rounds=1)
