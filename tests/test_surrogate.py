"""Each surrogate against its formula, its area, and finite differences of what it trains."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from csbp_core import triangle

floats = st.floats(-5, 5, allow_subnormal=False)


def triangle_formula(u, gamma):
    return np.maximum(0, gamma - np.abs(u)) / gamma**2


# Every surrogate, and its derivative in NumPy; all tests below run for each.
FORMULAS = {triangle: triangle_formula}

every_surrogate = pytest.mark.parametrize("surrogate", FORMULAS)


@every_surrogate
@given(st.lists(floats, min_size=1, max_size=8), st.floats(0.05, 4))
def test_forward_and_backward_are_the_formulas(surrogate, values, gamma):
    u = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    spikes = surrogate(u, gamma)
    weights = torch.arange(1.0, len(values) + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(spikes @ weights, u)
    array = np.array(values)
    assert spikes.tolist() == (array > 0).astype(float).tolist()
    expected = weights.numpy() * FORMULAS[surrogate](array, gamma)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-12, atol=1e-14)


@every_surrogate
@given(st.floats(0.05, 4))
def test_surrogate_integrates_to_one(surrogate, gamma):
    """By midpoints of cells at whose edges its kinks and jumps lie, out to where it is zero."""
    width = gamma / 1000
    cells = torch.arange(-2000, 2000, dtype=torch.float64)
    u = ((cells + 0.5) * width).requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(u, gamma).sum(), u)
    assert gradient.sum().item() * width == pytest.approx(1, abs=1e-9)


@every_surrogate
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype_and_is_strict_at_zero(surrogate, dtype):
    u = torch.tensor([-1.0, -0.0, 0.0, 1e-4], dtype=dtype, requires_grad=True)
    spikes = surrogate(u)
    spikes.sum().backward()
    assert spikes.dtype == u.grad.dtype == dtype
    assert spikes.tolist() == [0, 0, 0, 1]


@every_surrogate
def test_its_width_is_1_unless_given(surrogate):
    u = torch.linspace(-2, 2, 17, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(surrogate(u).sum(), u)
    np.testing.assert_array_equal(gradient.numpy(), FORMULAS[surrogate](u.detach().numpy(), 1.0))


@every_surrogate
@pytest.mark.parametrize("gamma", [1e-3, 2, np.float64(0.5), torch.tensor(0.5)])
def test_takes_any_positive_number_for_a_width(surrogate, gamma):
    u = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    surrogate(u, gamma).backward()
    assert u.grad.item() == pytest.approx(FORMULAS[surrogate](0.0, float(gamma)))


@every_surrogate
def test_vmap_of_the_gradient_equals_a_loop(surrogate):
    u = torch.linspace(-2, 2, 12).reshape(3, 4)

    def loss(row):
        return (surrogate(row, 0.7) * row).sum()

    together = torch.func.vmap(torch.func.grad(loss))(u)
    assert torch.equal(together, torch.stack([torch.func.grad(loss)(row) for row in u]))


@every_surrogate
def test_forward_mode_is_the_true_derivative(surrogate):
    u = torch.tensor([-0.3, 0.4, 2.0], dtype=torch.float64)
    _, tangent = torch.func.jvp(surrogate, (u,), (torch.ones_like(u),))
    assert tangent.tolist() == [0, 0, 0]


@every_surrogate
def test_forward_over_reverse_is_the_true_derivative_of_the_gradient(surrogate):
    u = torch.tensor([-0.3, 0.4, 2.0], dtype=torch.float64)
    gradient = torch.func.grad(lambda u: (surrogate(u) * u**2).sum())
    _, curvature = torch.func.jvp(gradient, (u,), (torch.ones_like(u),))
    step = 1e-6
    difference = (gradient(u + step) - gradient(u - step)) / (2 * step)
    np.testing.assert_allclose(curvature.numpy(), difference.numpy(), atol=1e-8)


@every_surrogate
def test_refuses_a_width_that_would_have_to_be_trained(surrogate):
    with pytest.raises(ValueError, match=r"^gamma requires a gradient: must be a number"):
        surrogate(torch.zeros(1), torch.nn.Parameter(torch.tensor(1.0)))


@every_surrogate
@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf"), "a"])
def test_refuses_a_width_that_is_not_positive(surrogate, gamma):
    with pytest.raises(ValueError, match=rf"gamma = {gamma!r}: must be a number in \(0, inf\)"):
        surrogate(torch.zeros(1), gamma)
