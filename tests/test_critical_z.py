"""critical_z against gradient descent on linear and convolutional layers, by the chaotic loss alone."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import pad, unfold

from csbp_core import chaotic_loss, critical_z

pytestmark = pytest.mark.usefixtures("one_thread")


SCALE, LR = 10.0, 0.1
REST = SCALE * math.log(0.65 / 0.35)  # h*: where the loss pulls h to; weights 0 and a bias of h* give it for any input


def case(kind):
    """A layer at rest, its input, and X: a row of inputs per sample and position, and a column of ones for the bias."""
    generator = torch.Generator().manual_seed(7)
    if kind == "linear":
        layer, x = nn.Linear(3, 2), torch.randn(40, 3, generator=generator).double()
        rows = x
    else:
        size = 1 if kind == "conv1x1" else 3
        layer, x = nn.Conv2d(2, 3, size, padding=size // 2), torch.randn(2, 2, 6, 6, generator=generator).double() + 0.3
        rows = unfold(x, size, padding=size // 2).transpose(1, 2).flatten(0, 1)  # [samples * positions, inputs]
    layer = layer.double()
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, REST)
    return layer, x, pad(rows, (0, 1), value=1.0)


def train(layer, x, z, momentum, reduction, steps):
    """The weights after each of the last three steps, and their distance to rest after the last."""
    rest = nn.utils.parameters_to_vector(layer.parameters()).detach()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p += 1e-3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimizer, path = torch.optim.SGD(layer.parameters(), lr=LR, momentum=momentum), []
    for _ in range(steps):
        optimizer.zero_grad()
        chaotic_loss(layer(x), z, scale=SCALE, reduction=reduction).backward()
        optimizer.step()
        path = [*path[-2:], nn.utils.parameters_to_vector(layer.parameters()).detach().clone()]
    return path, (path[-1] - rest).norm().item()


def limit(kind, momentum, reduction, factor):
    layer, x, rows = case(kind)
    lambda_max = torch.linalg.eigvalsh(rows.T @ rows)[-1].item()
    return layer, x, factor * critical_z(lambda_max, LR, momentum, 0.65, SCALE, reduction, layer(x).numel())


KINDS = pytest.mark.parametrize("kind", ["linear", "conv1x1", "conv3x3"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["sum", "mean"])
MOMENTA = pytest.mark.parametrize("momentum", [0.0, 0.5])


@KINDS
def test_the_rows_are_those_of_the_layer(kind):
    layer, x, rows = case(kind)
    nn.init.normal_(layer.weight)
    weights = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1)
    out = layer(x) if kind == "linear" else layer(x).permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(rows @ weights.T, out)


@KINDS
@REDUCTIONS
@MOMENTA
def test_below_it_the_layer_returns_to_rest(kind, reduction, momentum):
    path, distance = train(*limit(kind, momentum, reduction, 0.98), momentum, reduction, 1500)
    assert (path[2] - path[1]).norm() < 1e-6
    assert distance < 1e-3


@KINDS
@REDUCTIONS
def test_above_it_the_layer_period_doubles(kind, reduction):
    path, distance = train(*limit(kind, 0.0, reduction, 1.02), 0.0, reduction, 2500)
    swing = (path[2] - path[1]).norm()
    assert swing > 0.1
    assert (path[2] - path[0]).norm() < 1e-6 * swing
    assert distance > 0.1


@KINDS
@REDUCTIONS
def test_above_it_with_momentum_the_layer_does_not_return(kind, reduction):
    path, distance = train(*limit(kind, 0.5, reduction, 1.02), 0.5, reduction, 1500)
    assert distance > 0.1
    assert (path[2] - path[1]).norm() > 0.1


def test_the_single_neuron():
    assert critical_z(2.0, lr=1.0, scale=1.0) == pytest.approx(4.3956044, abs=5e-8)
    assert critical_z(2.0, lr=1.0, scale=1.0) == pytest.approx(1 / (0.65 * 0.35), rel=1e-15)
