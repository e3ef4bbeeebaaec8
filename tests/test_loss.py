import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from csbp_core import chaotic_loss, critical_z

TOLERANCE = {torch.float64: 1e-14, torch.float32: 4e-7, torch.bfloat16: 4e-7, torch.float16: 4e-7}


def exact(h, z, I0, scale):
    """The loss in float64, from log(1 + exp(u)) - I0 u."""
    u = np.asarray(h, dtype=float) / scale
    return z * (np.logaddexp(0, u) - I0 * u)


some_h = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6)


@given(some_h, st.floats(0.01, 100), st.floats(0.01, 0.99), st.sampled_from([1.0, 10.0]))
def test_stable_form_and_its_gradient(values, z, I0, scale):
    for dtype, tolerance in TOLERANCE.items():
        h = torch.tensor(values).to(dtype).requires_grad_()
        loss = chaotic_loss(h, z, I0, scale, "none")
        assert loss.dtype == (torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype)
        (gradient,) = torch.autograd.grad(loss.sum(), h)
        h64 = h.detach().double().numpy()
        expected = exact(h64, z, I0, scale)
        np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=10 * tolerance, atol=20 * tolerance * z)
        s = np.exp(-np.logaddexp(0, -h64 / scale))
        rounding = {torch.bfloat16: 2**-8, torch.float16: 2**-10}.get(dtype, 10 * tolerance)
        expected = z * (s - I0) / scale
        np.testing.assert_allclose(gradient.double().numpy(), expected, rtol=2 * rounding, atol=rounding * z / scale)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_finite_at_the_extremes_and_equal_to_the_library(dtype, scale):
    h = torch.tensor([-1e4, -167.0, -17.0, 0.0, 17.0, 167.0, 1e4], dtype=dtype, requires_grad=True)
    for z in (1e-3, 1.0, 100.0):
        loss = chaotic_loss(h, z, scale=scale, reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), h)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()
        u = (h.detach().double() / scale).to(loss.dtype)
        library = z * torch.nn.functional.binary_cross_entropy_with_logits(u, torch.full_like(u, 0.65), reduction="none")
        torch.testing.assert_close(loss.detach(), library, rtol=8 * torch.finfo(loss.dtype).eps, atol=0)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_literal_form_is_the_published_expression_bit_for_bit(scale):
    h = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * 60
    s = torch.sigmoid(h / scale)
    published = -7.3 * (0.65 * torch.log(s) + (1 - 0.65) * torch.log(1 - s))
    literal = chaotic_loss(h, 7.3, scale=scale, reduction="none", literal=True)
    assert torch.equal(literal.nan_to_num(nan=-1), published.nan_to_num(nan=-1))
    finite = torch.isfinite(published) & (h.abs() < 8 * scale)
    stable = chaotic_loss(h, 7.3, scale=scale, reduction="none")
    torch.testing.assert_close(literal[finite], stable[finite], rtol=1e-3, atol=1e-4)


def test_literal_form_overflows_where_we_say():
    u = torch.tensor([16.6, 16.7])
    assert torch.isinf(chaotic_loss(u, 1.0, scale=1.0, reduction="none", literal=True)).tolist() == [False, True]


def test_arrays_of_z_and_i0_broadcast_and_are_cast_last():
    h = torch.randn(4)
    z, I0 = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64), torch.tensor([0.2, 0.65, 0.7, 0.9], dtype=torch.float64)
    for literal in (True, False):
        together = chaotic_loss(h, z, I0, reduction="none", literal=literal)
        alone = [chaotic_loss(h[i], z[i].item(), I0[i].item(), literal=literal) for i in range(4)]
        assert together.dtype == torch.float32
        assert together.tolist() == torch.stack(alone).tolist()


def test_reductions():
    h = torch.randn(3, 5)
    values = chaotic_loss(h, 2.0, reduction="none")
    assert values.shape == h.shape
    assert chaotic_loss(h, 2.0, reduction="sum").item() == pytest.approx(values.sum().item())
    assert chaotic_loss(h, 2.0).item() == pytest.approx(values.mean().item())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"z": -1.0}, r"z = -1.0: must be a number in \[0, inf\)"),
        ({"z": math.nan}, r"z = nan: must be a number in \[0, inf\)"),
        ({"I0": 1.0}, r"I0 = 1.0: must be a number in \(0, 1\)"),
        ({"scale": 0.0}, r"scale = 0.0: must be a number in \(0, inf\)"),
        ({"reduction": "avg"}, "reduction = 'avg': must be one of mean, sum, none"),
        ({"h": torch.zeros(0, 4)}, r"h = torch.float32 \(0, 4\): must be a floating point tensor that is not empty"),
        ({"h": [0.0, 1.0]}, "h = list: must be a floating point tensor"),
        ({"z": [1.0, 2.0]}, r"z = \[1.0, 2.0\]: must be a number"),
        ({"h": torch.zeros(3, dtype=torch.int32)}, r"h = torch.int32 \(3,\): must be a floating point tensor"),
    ],
)
def test_refuses_bad_input(arguments, line):
    with pytest.raises(ValueError, match=line):
        chaotic_loss(**{"h": torch.zeros(3), "z": 1.0, **arguments})


def test_critical_z_needs_numel_for_a_mean():
    with pytest.raises(ValueError, match=r"numel = None: must be an integer in \[1, inf\)"):
        critical_z(1.0, lr=0.1, reduction="mean")
