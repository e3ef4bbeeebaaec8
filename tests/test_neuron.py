import copy
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from reference import lif_by_hand
from spikingjelly.activation_based import neuron as spikingjelly, surrogate

from csbp_core import LIF, lif_step, neuron


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 7), st.floats(0, 1), st.floats(0.2, 2),
    st.floats(0.1, 3), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_layer_equals_the_passes_written_by_hand(shape, steps, decay, v_threshold, gamma, detach_reset, seed):
    rng = np.random.default_rng(seed)
    x, grad_spikes, grad_v_seq = rng.normal(0.3, 1, (3, steps, *shape))
    grad_v = rng.normal(size=shape)
    lif = LIF(decay, v_threshold, gamma, detach_reset, store_v_seq=True)
    current = torch.tensor(x, requires_grad=True)
    spikes = lif(current)
    total = sum((value * torch.tensor(weight)).sum() for value, weight in
                ((spikes, grad_spikes), (lif.v, grad_v), (lif.v_seq, grad_v_seq)))  # fmt: skip
    (gradient,) = torch.autograd.grad(total, current)
    k, last, v_seq, grad_x = lif_by_hand(x, grad_spikes, grad_v, grad_v_seq, decay, v_threshold, gamma, detach_reset)
    np.testing.assert_array_equal(spikes.detach().numpy(), k)
    np.testing.assert_allclose(lif.v.detach().numpy(), last, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lif.v_seq.detach().numpy(), v_seq, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient.numpy(), grad_x, rtol=1e-10, atol=1e-10)


def run_layer(lif, x, weights):
    """Spikes, and the gradient of a weighted sum of all that the layer gives."""
    x = x.detach().requires_grad_()
    spikes = lif(x)
    total = sum((value * weight).sum() for value, weight in zip((spikes, lif.v, lif.v_seq), weights, strict=True))
    return spikes.detach(), torch.autograd.grad(total, x)[0]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 7), st.floats(0, 1), st.floats(0.2, 2),
    st.floats(0.1, 3), st.booleans(), st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_eager_backend_is_the_reference(shape, steps, decay, v_threshold, gamma, detach_reset, dtype, contiguous, seed):
    torch.manual_seed(seed)
    x, *weights = (torch.randn(steps, *shape).to(dtype) for _ in range(4))
    weights[1] = weights[1][0]
    x = x if contiguous else x.movedim(0, -1).contiguous().movedim(-1, 0)
    settings = (decay, v_threshold, gamma, detach_reset, True)
    spikes, gradient = run_layer(LIF(*settings, backend="eager"), x, weights)
    known, expected = run_layer(LIF(*settings, backend="reference"), x, weights)
    assert torch.equal(spikes, known)
    assert gradient.dtype == dtype
    exact = run_layer(LIF(*settings, backend="reference"), x.double(), [weight.double() for weight in weights])
    if dtype in (torch.float64, torch.float32):
        scale = 1 + expected.abs().amax().item() if expected.numel() else 1.0
        assert torch.allclose(gradient, expected, rtol=0, atol=100 * torch.finfo(dtype).eps * scale)
    elif torch.equal(exact[0].to(dtype), known):  # half precision: no further from the exact gradient than autograd is
        wrong, usual = ((value.double() - exact[1]).abs().sum().item() for value in (gradient, expected))
        assert wrong <= 2 * usual + 0.05 * exact[1].abs().sum().item() + 1e-3


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no compiler")
def test_compiled_backend_is_the_reference():
    for steps, dtype, detach_reset in ((5, torch.float32, False), (5, torch.float64, True), (1, torch.float32, False)):
        for shape in ((3, 4), (6, 2), (0, 2)):
            x, *weights = (torch.randn(steps, *shape, dtype=dtype) for _ in range(4))
            weights[1] = weights[1][0]
            settings = (0.4, 0.7, 1.3, detach_reset, True)
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "LIF runs uncompiled")
                spikes, gradient = run_layer(LIF(*settings, backend="compiled"), x, weights)
            known, expected = run_layer(LIF(*settings, backend="reference"), x, weights)
            assert torch.equal(spikes, known)
            torch.testing.assert_close(gradient, expected)


def test_a_compiler_that_fails_is_done_without(monkeypatch):
    def broken(*_):
        raise RuntimeError("no headers\nand more")

    monkeypatch.setattr(neuron, "_compiled", lambda kernel: broken)
    monkeypatch.setattr(neuron, "_failed", set())
    x = torch.randn(4, 3)
    with pytest.warns(UserWarning, match="LIF runs uncompiled: RuntimeError: no headers$"):
        spikes = LIF(backend="compiled")(x)
    assert torch.equal(spikes, LIF(backend="reference")(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        LIF(backend="compiled")(x.requires_grad_()).sum().backward()


def test_auto_compiles_large_trainings_only(monkeypatch):
    asked = []
    monkeypatch.setattr(neuron, "_run", lambda kernel, _, compiled, *args: (asked.append(compiled), kernel(*args))[1])
    large = torch.randn(4, 2**16)
    for x in (large, large[:, :10], large.bfloat16()):
        LIF()(x.clone().requires_grad_())
    LIF()(large)
    assert asked == [True, False, False, False]


@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_one_tensor_is_kept_for_the_backward_pass(backend):
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(6, 50, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        LIF(backend=backend)(x)
    assert sum(kept.values()) == x.numel() * 4


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("backend", ["reference", "eager", "compiled"])
def test_equals_spikingjelly(backend, detach_reset):
    oracle = spikingjelly.LIFNode(
        tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        step_mode="m", detach_reset=detach_reset, store_v_seq=True,
    )  # fmt: skip
    x = torch.randn(7, 5, 40, dtype=torch.float64)
    weights = torch.randn(7, 5, 40).double(), torch.randn(5, 40).double(), torch.zeros(7, 5, 40).double()
    spikes, gradient = run_layer(LIF(0.5, detach_reset=detach_reset, store_v_seq=True, backend=backend), x, weights)
    known, expected = run_layer(oracle, x, weights)
    assert torch.equal(spikes, known)
    torch.testing.assert_close(gradient, expected)


def test_the_layer_itself_works_under_vmap():
    x = torch.randn(3, 6, 4)
    known = torch.stack([torch.func.grad(lambda one: LIF()(one).sum())(one) for one in x])
    assert known.abs().sum() > 0
    assert torch.equal(torch.func.vmap(torch.func.grad(lambda one: LIF()(one).sum()))(x), known)


def test_known_train_of_spikes():
    lif = LIF(decay=0.5)
    spikes = lif(torch.full((6, 1), 0.6))  # v: .6, .9, 1.05 -> spike, again
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert lif.v.item() == 0
    assert lif(torch.full((2, 1), 0.6)).sum() == 0  # starts from rest at every call
    assert lif.v.item() == pytest.approx(0.9)


def test_no_spike_at_threshold_exactly():
    assert LIF(decay=0.0)(torch.ones(3, 2)).sum() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype(dtype):
    lif = LIF(store_v_seq=True)
    spikes = lif(torch.rand(3, 2, 4).to(dtype))
    assert spikes.dtype == lif.v.dtype == lif.v_seq.dtype == dtype


def test_empty_batch_and_non_contiguous_input():
    lif = LIF()
    assert lif(torch.zeros(3, 0, 4)).shape == (3, 0, 4)
    x = torch.rand(4, 3, 5).transpose(0, 1)
    assert torch.equal(lif(x), lif(x.contiguous()))


def test_step_works_under_vmap():
    def run(x):
        v = k = torch.zeros(())
        total = torch.zeros(())
        for _ in range(5):
            v, k = lif_step(x, v, k, decay=0.2)
            total = total + k
        return total

    x = torch.linspace(0.1, 2, 9)
    assert torch.equal(torch.func.vmap(torch.func.grad(run))(x), torch.stack([torch.func.grad(run)(value) for value in x]))


def test_copies_and_pickles_drop_the_recorded_potentials():
    lif = LIF(decay=0.3, store_v_seq=True)
    lif(torch.rand(3, 2, requires_grad=True))
    for twin in (copy.deepcopy(lif), pickle.loads(pickle.dumps(lif))):
        assert twin.v is None
        assert twin.v_seq is None
        assert repr(twin) == repr(lif)
    assert lif.v is not None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"decay": 1.5}, r"decay = 1.5: must be a number in \[0, 1\]"),
        ({"v_threshold": 0}, r"v_threshold = 0: must be a number in \(0, inf\)"),
        ({"decay": [0.1, 0.2]}, r"decay = \[0.1, 0.2\]: must be a number"),
        ({"backend": "fast"}, "backend = 'fast': must be one of auto, compiled, eager, reference"),
        ({"gamma": -1.0}, r"gamma = -1.0: must be a number in \(0, inf\)"),
    ],
)
def test_refuses_parameters_out_of_range(arguments, line):
    with pytest.raises(ValueError, match=line):
        LIF(**arguments)


@pytest.mark.parametrize("x", [torch.zeros(0, 3), torch.tensor(1.0), torch.ones(3, 2, dtype=torch.int64)])
def test_refuses_an_input_without_time_steps_or_of_integers(x):
    with pytest.raises(ValueError, match="must be floating point"):
        LIF()(x)
