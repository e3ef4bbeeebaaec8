"""The surrogate against its formula, its area, and finite differences of what it trains."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from csbp_core import triangle

floats = st.floats(-5, 5, allow_subnormal=False)


@given(st.lists(floats, min_size=1, max_size=8), st.floats(0.05, 4))
def test_forward_and_backward_are_the_formulas(values, gamma):
    u = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    spikes = triangle(u, gamma)
    weights = torch.arange(1.0, len(values) + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(spikes @ weights, u)
    array = np.array(values)
    assert spikes.tolist() == (array > 0).astype(float).tolist()
    expected = weights.numpy() * np.maximum(0, gamma - np.abs(array)) / gamma**2
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-12, atol=1e-14)


@given(st.floats(0.05, 4))
def test_surrogate_integrates_to_one(gamma):
    u = torch.linspace(-gamma, gamma, 2001, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(triangle(u, gamma).sum(), u)
    assert torch.trapezoid(gradient, u.detach()).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype_and_is_strict_at_zero(dtype):
    u = torch.tensor([-1.0, -0.0, 0.0, 1e-4], dtype=dtype, requires_grad=True)
    spikes = triangle(u)
    spikes.sum().backward()
    assert spikes.dtype == u.grad.dtype == dtype
    assert spikes.tolist() == [0, 0, 0, 1]


def test_vmap_of_the_gradient_equals_a_loop():
    u = torch.linspace(-2, 2, 12).reshape(3, 4)

    def loss(row):
        return (triangle(row, 0.7) * row).sum()

    together = torch.func.vmap(torch.func.grad(loss))(u)
    assert torch.equal(together, torch.stack([torch.func.grad(loss)(row) for row in u]))


def test_forward_mode_is_the_true_derivative():
    u = torch.tensor([-0.3, 0.4, 2.0], dtype=torch.float64)
    _, tangent = torch.func.jvp(triangle, (u,), (torch.ones_like(u),))
    assert tangent.tolist() == [0, 0, 0]


def test_forward_over_reverse_is_the_true_derivative_of_the_gradient():
    u = torch.tensor([-0.3, 0.4, 2.0], dtype=torch.float64)
    gradient = torch.func.grad(lambda u: (triangle(u) * u**2).sum())
    _, curvature = torch.func.jvp(gradient, (u,), (torch.ones_like(u),))
    step = 1e-6
    difference = (gradient(u + step) - gradient(u - step)) / (2 * step)
    np.testing.assert_allclose(curvature.numpy(), difference.numpy(), atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf"), "a"])
def test_refuses_a_width_that_is_not_positive(gamma):
    with pytest.raises(ValueError, match=rf"gamma = {gamma!r}: must be a number in \(0, inf\)"):
        triangle(torch.zeros(1), gamma)
