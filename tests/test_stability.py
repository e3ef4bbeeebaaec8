"""critical_z and largest_eigenvalue, against gradient descent on a layer and the matrix itself."""

import math
from typing import NamedTuple

import pytest
import torch
from helpers import design_matrices, eigenvalue_by_library
from torch import Tensor, nn

import csbp_core.loss
from csbp_core import chaotic_loss, critical_z, largest_eigenvalue

pytestmark = pytest.mark.usefixtures("one_thread")

SCALE = 10.0
LR = 0.1
# h*: where the loss pulls h to. Weights 0 and a bias of h* give it for any input.
REST = SCALE * math.log(0.65 / 0.35)


class Case(NamedTuple):
    """A layer at rest and its input."""

    layer: nn.Module
    x: Tensor


def linear():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(40, 3, generator=generator).double()
    return at_rest(nn.Linear(3, 2), x)


def convolution(size):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 2, 6, 6, generator=generator).double() + 0.3
    return at_rest(nn.Conv2d(2, 3, size, padding=size // 2), x)


def at_rest(layer, x):
    layer = layer.double()
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, REST)
    return Case(layer, x)


CASES = {
    "linear": linear,
    "conv1x1": lambda: convolution(1),
    "conv3x3": lambda: convolution(3),
}
every_case = pytest.mark.parametrize("case_of", CASES.values(), ids=CASES)
every_reduction = pytest.mark.parametrize("reduction", ["sum", "mean"])
every_momentum = pytest.mark.parametrize("momentum", [0.0, 0.5])


# Gradient descent on both sides of it


class Descent(NamedTuple):
    """The end of a gradient descent that started a little off the layer's rest."""

    weights: list[Tensor]  # after each of the last three steps
    distance: float  # to rest, after the last

    @property
    def swing(self):
        """How far the last step went."""
        return (self.weights[2] - self.weights[1]).norm()


def vector_of(layer):
    return nn.utils.parameters_to_vector(layer.parameters()).detach().clone()


def descend(case_of, factor, momentum, reduction, steps):
    """Gradient descent by the chaotic loss alone, at a multiple of the critical z."""
    layer, x = case_of()
    limit = critical_z(
        eigenvalue_by_library(layer, x),
        LR,
        momentum,
        I0=0.65,
        scale=SCALE,
        reduction=reduction,
        numel=layer(x).numel(),
    )
    rest = vector_of(layer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p += 1e-3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR, momentum=momentum)
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        chaotic_loss(layer(x), factor * limit, scale=SCALE, reduction=reduction).backward()
        optimizer.step()
        weights = [*weights[-2:], vector_of(layer)]
    return Descent(weights, (weights[-1] - rest).norm().item())


@every_case
@every_reduction
@every_momentum
def test_below_it_the_layer_returns_to_rest(case_of, reduction, momentum):
    end = descend(case_of, 0.98, momentum, reduction, steps=1500)
    assert end.swing < 1e-6
    assert end.distance < 1e-3


@every_case
@every_reduction
def test_above_it_the_layer_period_doubles(case_of, reduction):
    end = descend(case_of, 1.02, 0.0, reduction, steps=2500)
    first, _, last = end.weights
    assert end.swing > 0.1
    assert (last - first).norm() < 1e-6 * end.swing
    assert end.distance > 0.1


@every_case
@every_reduction
def test_above_it_with_momentum_the_layer_does_not_return(case_of, reduction):
    end = descend(case_of, 1.02, 0.5, reduction, steps=1500)
    assert end.swing > 0.1
    assert end.distance > 0.1


def test_of_the_single_neuron_it_is_where_the_published_weight_settles():
    assert critical_z(2.0, lr=1.0, scale=1.0) == pytest.approx(4.3956044, abs=5e-8)
    assert critical_z(2.0, lr=1.0, scale=1.0) == pytest.approx(1 / (0.65 * 0.35), rel=1e-15)


def test_a_mean_needs_the_number_of_elements():
    with pytest.raises(ValueError, match=r"numel = None: must be an integer in \[1, inf\)"):
        critical_z(1.0, lr=0.1, reduction="mean")


# The eigenvalue


def random_case(layer, *shape):
    generator = torch.Generator().manual_seed(0)
    return Case(layer.double(), torch.randn(*shape, generator=generator).double())


RANDOM_CASES = {
    "linear": lambda: random_case(nn.Linear(54, 5), 6, 54),
    "linear without bias": lambda: random_case(nn.Linear(5, 4, bias=False), 20, 5),
    "strides": lambda: random_case(nn.Conv2d(3, 4, 3, stride=2), 6, 3, 7, 7),
    "groups": lambda: random_case(nn.Conv2d(4, 6, 1, groups=2, bias=False), 6, 4, 3, 3),
    "padding": lambda: random_case(nn.Conv2d(2, 3, 3, padding=1), 4, 2, 6, 6),
}
every_random_case = pytest.mark.parametrize("case_of", RANDOM_CASES.values(), ids=RANDOM_CASES)


@every_case
def test_the_design_matrix_times_the_weights_is_what_the_layer_gives(case_of):
    layer, x = case_of()
    nn.init.normal_(layer.weight)
    weights = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1)
    (rows,) = design_matrices(layer, x)
    out = layer(x).movedim(1, -1).flatten(0, -2)  # [samples * positions, channels]
    torch.testing.assert_close(rows @ weights.T, out)


@every_random_case
def test_largest_eigenvalue_is_that_of_the_matrix(case_of):
    layer, x = case_of()
    expected = eigenvalue_by_library(layer, x)
    assert largest_eigenvalue(layer, [x]) == pytest.approx(expected, rel=1e-5)


def test_largest_eigenvalue_of_several_inputs_is_that_of_all_rows():
    layer, x = RANDOM_CASES["linear"]()
    expected = eigenvalue_by_library(layer, x)
    assert largest_eigenvalue(layer, [x[:2], x[2:]]) == pytest.approx(expected, rel=1e-5)


@every_random_case
def test_largest_eigenvalue_does_not_depend_on_the_weights(case_of):
    layer, x = case_of()
    before = largest_eigenvalue(layer, [x])
    nn.init.normal_(layer.weight, std=3.0)
    assert largest_eigenvalue(layer, [x]) == before


def test_the_old_path_of_largest_eigenvalue_works():
    assert csbp_core.loss.largest_eigenvalue is largest_eigenvalue
