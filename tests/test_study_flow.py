"""The flow of the chaotic loss, held against autograd, scipy's solver, and what it must do."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import expit

from csbp_core import chaotic_loss
from study.training.flow import flow, gradient, stiffness, with_ones

I0 = 0.525  # rest at h* = 1
SCALE = 10.0
NETWORKS, ROWS, UNITS = 3, 40, 5


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)
    return with_ones(torch.rand(NETWORKS, ROWS, 7, generator=generator, dtype=torch.float64))


@pytest.fixture(scope="module")
def theta():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(NETWORKS, UNITS, 8, generator=generator, dtype=torch.float64)


def decaying(inputs, decays):
    """A strength by which the stiffest direction of each network decays so often in a unit time."""
    return decays / stiffness(inputs, UNITS)


def solved(theta, inputs, z, time):
    """Where scipy's solver arrives, of one network."""
    x = inputs.numpy()

    def field(_, flat):
        h = x @ flat.reshape(UNITS, -1).T
        excess = expit(h / SCALE) - I0
        return (-z * excess.T @ x / (SCALE * h.size)).ravel()

    found = solve_ivp(field, (0, time), theta.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return found.y[:, -1].reshape(UNITS, -1)


def test_the_gradient_is_that_of_the_chaotic_loss(theta, inputs):
    theta = theta.clone().requires_grad_()
    h = inputs @ theta.mT
    losses = [chaotic_loss(part, 1.0, I0, SCALE) for part in h]
    (expected,) = torch.autograd.grad(sum(losses), theta)
    torch.testing.assert_close(gradient(theta.detach(), inputs, I0), expected)


def test_the_stiffness_is_a_bound_and_not_far_from_the_curvature(inputs):
    gram = inputs.mT @ inputs
    largest = torch.linalg.eigvalsh(gram)[:, -1] / (4 * SCALE**2 * ROWS * UNITS)
    bound = stiffness(inputs, UNITS)
    assert (bound >= largest).all()
    assert (bound < 1.2 * largest).all()


@pytest.mark.parametrize("distance", [1.0, 100.0], ids=["near the rest point", "far from it"])
@pytest.mark.parametrize("decays", [0.01, 1.0, 20.0])
def test_the_flow_is_scipys_solution(theta, inputs, decays, distance):
    start = distance * theta
    z = decaying(inputs, decays)
    time = torch.ones(NETWORKS, dtype=torch.float64)
    arrived = flow(start, inputs, z, time, I0)
    for network in range(NETWORKS):
        expected = solved(start[network].numpy(), inputs[network], float(z[network]), 1.0)
        moved = np.linalg.norm(expected - start[network].numpy())
        assert np.linalg.norm(arrived[network].numpy() - expected) < 1e-3 * moved


def test_halving_the_steps_changes_nothing_that_matters(theta, inputs):
    z = decaying(inputs, 10.0)
    time = torch.ones(NETWORKS, dtype=torch.float64)
    once = flow(theta, inputs, z, time, I0)
    twice = flow(theta, inputs, z, time, I0, substeps=2)
    assert (once - twice).norm() < 1e-5 * (once - theta).norm()


def test_the_flow_comes_to_rest_where_s_is_i0(theta, inputs):
    """In the directions that decay fast; s of every unit's mean current, here of the bias alone."""
    ones = inputs[:, :, -1:]
    z = 200 / stiffness(ones, UNITS)
    time = torch.ones(NETWORKS, dtype=torch.float64)
    arrived = flow(theta[:, :, -1:], ones, z, time, I0)
    rest = SCALE * np.log(I0 / (1 - I0))
    assert arrived.numpy() == pytest.approx(rest, abs=1e-6)


def test_networks_do_not_mix(theta, inputs):
    z = decaying(inputs, 2.0)
    time = torch.ones(NETWORKS, dtype=torch.float64)
    together = flow(theta, inputs, z, time, I0)
    alone = flow(theta[1:2], inputs[1:2], z[1:2], time[1:2], I0)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)


def test_networks_that_run_in_groups_arrive_where_they_do_side_by_side(theta, inputs, monkeypatch):
    z = decaying(inputs, torch.tensor([2.0, 5.0, 1.0]))
    together = flow(theta, inputs, z, torch.ones(NETWORKS), I0)
    monkeypatch.setattr("study.training.flow.CURRENTS_AT_ONCE", 2 * ROWS * UNITS)
    torch.testing.assert_close(flow(theta, inputs, z, torch.ones(NETWORKS), I0), together)
