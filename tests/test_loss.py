"""The chaotic loss against closed forms in float64, the library, and the published expression."""

import inspect
import math

import numpy as np
import pytest
import torch
from helpers import storages_kept
from hypothesis import given, strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from csbp_core import chaotic_loss
from csbp_core.loss import Law, Term, total_chaotic_loss

TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 4e-7,
    torch.bfloat16: 4e-7,
    torch.float16: 4e-7,
}
# What a gradient is rounded to when it goes back to h; the others keep the loss's precision.
ROUNDING = {
    torch.float64: 1e-13,
    torch.float32: 4e-6,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-10,
}
RESULT = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
every_scale = pytest.mark.parametrize("scale", [1.0, 10.0])

some_h = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6)
some_z = st.floats(0.01, 100)
some_I0 = st.floats(0.01, 0.99)
some_scale = st.sampled_from([1.0, 10.0])


def exact(h, z, I0, scale):
    """The loss in float64, from log(1 + exp(u)) - I0 u."""
    u = h / scale
    return z * (np.logaddexp(0, u) - I0 * u)


def exact_gradient(h, z, I0, scale):
    """z (s - I0) / scale in float64."""
    s = np.exp(-np.logaddexp(0, -h / scale))
    return z * (s - I0) / scale


# The stable form


@every_dtype
@given(some_h, some_z, some_I0, some_scale)
def test_stable_form(dtype, values, z, I0, scale):
    h = torch.tensor(values).to(dtype)
    loss = chaotic_loss(h, z, I0, scale, "none")
    expected = exact(h.double().numpy(), z, I0, scale)
    tolerance = TOLERANCE[dtype]
    assert loss.dtype == RESULT[dtype]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=10 * tolerance, atol=20 * tolerance * z)


@every_dtype
@given(some_h, some_z, some_I0, some_scale)
def test_gradient_of_the_stable_form(dtype, values, z, I0, scale):
    h = torch.tensor(values).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(chaotic_loss(h, z, I0, scale, "none").sum(), h)
    expected = exact_gradient(h.detach().double().numpy(), z, I0, scale)
    rounding = ROUNDING[dtype]
    np.testing.assert_allclose(
        gradient.double().numpy(), expected, rtol=2 * rounding, atol=rounding * z / scale
    )


EXTREMES = [-1e4, -167.0, -17.0, 0.0, 17.0, 167.0, 1e4]
every_strength = pytest.mark.parametrize("z", [1e-3, 1.0, 100.0])


@every_dtype
@every_scale
@every_strength
def test_finite_at_the_extremes(dtype, scale, z):
    h = torch.tensor(EXTREMES, dtype=dtype, requires_grad=True)
    loss = chaotic_loss(h, z, scale=scale, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), h)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()


@every_dtype
@every_scale
@every_strength
def test_equal_to_the_library_at_the_extremes(dtype, scale, z):
    h = torch.tensor(EXTREMES, dtype=dtype)
    loss = chaotic_loss(h, z, scale=scale, reduction="none")
    u = (h.double() / scale).to(loss.dtype)
    library = z * binary_cross_entropy_with_logits(u, torch.full_like(u, 0.65), reduction="none")
    rtol = 8 * torch.finfo(loss.dtype).eps
    torch.testing.assert_close(loss, library, rtol=rtol, atol=0)


# The literal form


def spread_out():
    return torch.randn(1000, generator=torch.Generator().manual_seed(1)) * 60


def published(h, z, scale):
    s = torch.sigmoid(h / scale)
    return -z * (0.65 * torch.log(s) + (1 - 0.65) * torch.log(1 - s))


@every_scale
def test_literal_form_is_the_published_expression_bit_for_bit(scale):
    h = spread_out()
    literal = chaotic_loss(h, 7.3, scale=scale, reduction="none", literal=True)
    expected = published(h, 7.3, scale)
    assert torch.equal(literal.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))


@every_scale
def test_literal_form_is_close_to_the_stable_one_where_it_is_finite(scale):
    h = spread_out()
    literal = chaotic_loss(h, 7.3, scale=scale, reduction="none", literal=True)
    stable = chaotic_loss(h, 7.3, scale=scale, reduction="none")
    finite = torch.isfinite(published(h, 7.3, scale)) & (h.abs() < 8 * scale)
    torch.testing.assert_close(literal[finite], stable[finite], rtol=1e-3, atol=1e-4)


def test_literal_form_overflows_where_we_say():
    u = torch.tensor([16.6, 16.7])
    loss = chaotic_loss(u, 1.0, scale=1.0, reduction="none", literal=True)
    assert torch.isinf(loss).tolist() == [False, True]


# Arrays and reductions


@pytest.mark.parametrize("literal", [True, False])
def test_arrays_of_z_and_i0_broadcast_and_are_cast_last(literal):
    h = torch.randn(4)
    z = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64)
    I0 = torch.tensor([0.2, 0.65, 0.7, 0.9], dtype=torch.float64)
    together = chaotic_loss(h, z, I0, reduction="none", literal=literal)
    alone = [
        chaotic_loss(h[i], z[i].item(), I0[i].item(), reduction="none", literal=literal)
        for i in range(4)
    ]
    assert together.dtype == torch.float32
    assert together.tolist() == torch.stack(alone).tolist()


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4)])
def test_a_strength_of_a_smaller_shape_is_repeated(shape):
    h = torch.randn(3, 4)
    z = torch.rand(shape)
    together = chaotic_loss(h, z, torch.full(shape, 0.65), reduction="none")
    assert together.shape == h.shape
    torch.testing.assert_close(together, chaotic_loss(h, 1.0, reduction="none") * z)


def test_a_strength_that_is_trained_has_its_gradient():
    h = torch.randn(3)
    z = torch.ones(3, requires_grad=True)
    elements = chaotic_loss(h, z, reduction="none")
    (gradient,) = torch.autograd.grad(elements.sum(), z)
    torch.testing.assert_close(gradient, elements.detach())


STRENGTHS = {
    "number": 2.0,
    "tensor": torch.tensor(2.0, dtype=torch.float64),
    "tensor for each column": torch.linspace(0.5, 3, 5, dtype=torch.float64),
    "tensor for each element": torch.linspace(0.5, 3, 15, dtype=torch.float64).reshape(3, 5),
}
every_strength_form = pytest.mark.parametrize("z", STRENGTHS.values(), ids=STRENGTHS)
every_form = pytest.mark.parametrize("literal", [True, False])


@every_form
@every_strength_form
@pytest.mark.parametrize("I0", [0.65, torch.linspace(0.2, 0.8, 5, dtype=torch.float64)])
def test_reductions(z, I0, literal):
    h = 20 * torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5)
    elements = exact(h.numpy(), np.asarray(z), np.asarray(I0), 10.0)
    known = {"none": elements, "sum": elements.sum(), "mean": elements.mean()}
    for reduction, expected in known.items():
        loss = chaotic_loss(h, z, I0, reduction=reduction, literal=literal)
        assert loss.shape == expected.shape
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)


@every_form
@every_strength_form
def test_gradients_of_the_reductions(z, literal):
    h = (20 * torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5)).requires_grad_()
    elements = exact_gradient(h.detach().numpy(), np.asarray(z), 0.65, 10.0)
    for reduction, share in {"sum": 1, "mean": 15}.items():
        (gradient,) = torch.autograd.grad(
            chaotic_loss(h, z, reduction=reduction, literal=literal), h
        )
        np.testing.assert_allclose(gradient.numpy(), elements / share, rtol=1e-10)


@every_form
@every_dtype
def test_every_form_is_returned_in_float32_at_least(dtype, literal):
    h = torch.tensor([0.5, -3.0], dtype=dtype)
    loss = chaotic_loss(h, 2.0, reduction="none", literal=literal)
    assert loss.dtype == RESULT[dtype]
    np.testing.assert_allclose(loss.double(), exact(h.double().numpy(), 2.0, 0.65, 10), rtol=1e-5)


@every_form
def test_without_strength_there_is_no_loss(literal):
    assert chaotic_loss(torch.ones(3), 0.0, literal=literal) == 0


def test_defaults_are_the_documented_ones():
    parameters = inspect.signature(chaotic_loss).parameters
    assert {name: p.default for name, p in parameters.items() if p.default is not p.empty} == {
        "I0": 0.65,
        "scale": 10.0,
        "reduction": "mean",
        "literal": False,
    }


# What is kept for the backward pass


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("I0", [0.3, 0.65])
def test_h_itself_is_all_that_is_kept(I0, reduction):
    h = torch.randn(50, requires_grad=True)
    storages = storages_kept(lambda: chaotic_loss(h, 2.0, I0, reduction=reduction))
    assert storages == {h.data_ptr(): h.nbytes}


# Several tensors at once, as in ChaoticLoss

CLAMP = (-10.0, 9.9)


def some_terms(dtypes):
    generator = torch.Generator().manual_seed(0)
    all_h = [
        (20 * torch.randn(4, 3, generator=generator)).to(dtype).requires_grad_() for dtype in dtypes
    ]
    return [Term(h, z) for h, z in zip(all_h, (2.0, 0.3), strict=True)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("clamp", [None, CLAMP])
def test_of_several_tensors_they_themselves_are_all_that_is_kept(dtype, clamp):
    terms = some_terms([dtype, dtype])
    storages = storages_kept(lambda: total_chaotic_loss(terms, Law(0.65, 10.0, clamp)))
    assert storages == {term.h.data_ptr(): term.h.nbytes for term in terms}


@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float32), (torch.bfloat16,) * 2])
@pytest.mark.parametrize("clamp", [None, CLAMP])
@pytest.mark.parametrize("I0", [0.3, 0.65])
def test_a_total_and_its_gradients_are_those_of_the_losses_one_by_one(I0, clamp, dtypes):
    terms = some_terms(dtypes)
    all_h = [term.h for term in terms]
    total = total_chaotic_loss(terms, Law(I0, 10.0, clamp))
    clamped = all_h if clamp is None else [h.clamp(*clamp) for h in all_h]
    losses = [
        chaotic_loss(h, term.z, I0, reduction="sum").to(total)
        for h, term in zip(clamped, terms, strict=True)
    ]
    torch.testing.assert_close(total, sum(losses))
    assert total.dtype == losses[0].dtype
    gradients = torch.autograd.grad(total, all_h)
    torch.testing.assert_close(gradients, torch.autograd.grad(sum(losses), all_h))


@pytest.mark.parametrize("clamp", [None, CLAMP])
def test_a_total_has_derivatives_of_every_kind(clamp):
    terms = some_terms([torch.float64, torch.float64])

    def total(*all_h):
        return total_chaotic_loss(
            [Term(h, term.z) for h, term in zip(all_h, terms, strict=True)], Law(0.65, 10.0, clamp)
        )

    all_h = tuple(term.h for term in terms)
    assert torch.autograd.gradcheck(total, all_h, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(total, all_h)


@pytest.mark.parametrize("z", [torch.tensor(2.0), torch.tensor([2.0])])
def test_an_I0_of_one_half_has_its_gradient(z):
    h = torch.linspace(-5, 5, 5, dtype=torch.float64)
    I0 = torch.full((5,), 0.5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(chaotic_loss(h, z, I0, reduction="sum"), I0)
    torch.testing.assert_close(gradient, -2 * h / 10)


# Bad input

TENSOR = "must be a floating point tensor"
BROADCAST = "must broadcast to that of h"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"z": -1.0}, r"z = -1.0: must be a number in \[0, inf\)"),
        ({"z": math.nan}, r"z = nan: must be a number in \[0, inf\)"),
        ({"I0": 1.0}, r"I0 = 1.0: must be a number in \(0, 1\)"),
        ({"I0": 0.0}, r"I0 = 0.0: must be a number in \(0, 1\)"),
        ({"I0": [0.5, 0.6]}, r"I0 = \[0.5, 0.6\]: must be a number"),
        ({"z": math.inf}, r"z = inf: must be a number in \[0, inf\)"),
        ({"scale": 0.0}, r"scale = 0.0: must be a number in \(0, inf\)"),
        ({"reduction": "avg"}, "reduction = 'avg': must be one of mean, sum, none"),
        ({"h": torch.zeros(0, 4)}, rf"h = torch.float32 \(0, 4\): {TENSOR} that is not empty"),
        ({"h": [0.0, 1.0]}, f"h = list: {TENSOR}"),
        ({"z": [1.0, 2.0]}, r"z = \[1.0, 2.0\]: must be a number"),
        ({"h": torch.zeros(3, dtype=torch.int32)}, rf"h = torch.int32 \(3,\): {TENSOR}"),
        ({"h": np.zeros(3)}, f"h = ndarray: {TENSOR}"),
        ({"literal": "false"}, "literal = 'false': must be True or False"),
        ({"literal": 1}, "literal = 1: must be True or False"),
        ({"scale": torch.tensor(1.0, requires_grad=True)}, "scale requires a gradient: must be"),
        ({"z": torch.ones(4)}, rf"z has shape \(4,\): {BROADCAST}, \(3,\)"),
        ({"z": torch.ones(3, 1)}, rf"z has shape \(3, 1\): {BROADCAST}, \(3,\)"),
        ({"z": torch.ones(1, 1)}, rf"z has shape \(1, 1\): {BROADCAST}, \(3,\)"),
        ({"h": torch.zeros(3, 1), "z": torch.ones(3)}, rf"z has shape \(3,\): {BROADCAST}"),
        ({"h": torch.zeros(()), "I0": torch.full((2,), 0.5)}, rf"I0 has shape \(2,\): {BROADCAST}"),
        ({"z": torch.ones(2), "literal": True}, rf"z has shape \(2,\): {BROADCAST}"),
    ],
)
def test_refuses_bad_input(arguments, line):
    with pytest.raises(ValueError, match=line):
        chaotic_loss(**{"h": torch.zeros(3), "z": 1.0, **arguments})
