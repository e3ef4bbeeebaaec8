import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import lif_by_hand

from csbp_core import LIF, lif_step


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
