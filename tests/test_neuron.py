"""The neuron against passes written by hand, autograd, and another library."""

import copy
import functools
import inspect
import math
import pickle
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import lif_by_hand, needs_compiler, storages_kept
from hypothesis import given, strategies as st
from spikingjelly.activation_based import neuron as spikingjelly, surrogate
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint

from csbp_core import LIF, ChaoticLoss, lif_kernels, lif_step

every_dtype = pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16],
)

some_steps = st.integers(1, 7)
some_decay = st.floats(0, 1)
some_threshold = st.floats(0.2, 2)
some_gamma = st.floats(0.1, 3)
some_seed = st.integers(0, 2**31)


def some_shape(smallest, largest):
    return st.lists(st.integers(smallest, largest), min_size=1, max_size=3)


class LayerRun(NamedTuple):
    """What a layer gives, and what it sends back."""

    spikes: Tensor
    v: Tensor
    v_seq: Tensor
    gradient: Tensor


def assert_same_outputs(ours, known, v_seq=True):
    """Spikes and potentials are equal, bit for bit."""
    assert torch.equal(ours.spikes, known.spikes)
    assert torch.equal(ours.v, known.v)
    if v_seq:
        assert torch.equal(ours.v_seq, known.v_seq)


class Weights(NamedTuple):
    """What the layer's outputs are weighted with, to make a loss of them."""

    spikes: Tensor  # [T, N, *]
    v: Tensor  # [N, *]
    v_seq: Tensor  # [T, N, *]

    def to(self, dtype):
        return Weights(*(weight.to(dtype) for weight in self))


def random_run(steps, shape, dtype=torch.float32):
    """Currents and weights."""
    x, spikes, v_seq = torch.randn(3, steps, *shape, dtype=torch.float64).to(dtype)
    return x, Weights(spikes, torch.randn(*shape, dtype=torch.float64).to(dtype), v_seq)


def run_layer(lif, x, weights):
    """Spikes, and the gradient of a weighted sum of all that the layer gives."""
    x = x.detach().requires_grad_()
    spikes = lif(x)
    outputs = (spikes, lif.v, lif.v_seq)
    total = sum((value * weight).sum() for value, weight in zip(outputs, weights, strict=True))
    (gradient,) = torch.autograd.grad(total, x)
    return LayerRun(*(value.detach() for value in outputs), gradient)


# One step


def test_step_works_under_vmap():
    def count_spikes(x):
        v = spike = count = torch.zeros(())
        for _ in range(5):
            v, spike = lif_step(x, v, spike, decay=0.2)
            count = count + spike
        return count

    gradient = torch.func.grad(count_spikes)
    x = torch.linspace(0.1, 2, 9)
    expected = torch.stack([gradient(value) for value in x])
    assert torch.equal(torch.func.vmap(gradient)(x), expected)


def test_a_step_is_the_equation():
    """After a spike, and after none; on and beside the threshold."""
    x = torch.tensor([0.25, 0.25, 0.875, 0.875, 1.0], dtype=torch.float64)
    v = torch.tensor([1.5, 0.5, 0.25, 0.5, 1.75], dtype=torch.float64, requires_grad=True)
    spike = torch.tensor([1.0, 0, 0, 0, 1], dtype=torch.float64)
    v_next, k = lif_step(x, v, spike, decay=0.5)
    assert v_next.tolist() == [0.25, 0.5, 1.0, 1.125, 1.0]
    assert k.tolist() == [0, 0, 0, 1, 0]
    (gradient,) = torch.autograd.grad(k.sum(), v)
    triangles = [0.25, 0.5, 1.0, 0.875, 1.0]
    assert gradient.tolist() == [0, 0.5 * triangles[1], 0.5 * triangles[2], 0.5 * triangles[3], 0]
    _, k = lif_step(x, v, spike, decay=0.5, v_threshold=0.25, gamma=0.5)
    assert k.tolist() == [0, 1, 1, 1, 1]
    (gradient,) = torch.autograd.grad(k[1], v)  # u = 0.25, so (0.5 - 0.25) / 0.5**2
    assert gradient[1] == 0.5 * 1.0


@pytest.mark.parametrize("function", [lif_step, LIF])
def test_defaults_are_the_documented_ones(function):
    parameters = inspect.signature(function).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    layer_only = {
        "decay": 0.5,
        "detach_reset": False,
        "store_v_seq": False,
        "backend": "auto",
    }
    neuron = {"v_threshold": 1.0, "gamma": 1.0}
    assert defaults == (neuron if function is lif_step else neuron | layer_only)


@pytest.mark.parametrize("decay", [0, 1])
def test_a_step_accepts_the_ends_of_its_decay(decay):
    one = torch.ones(2)
    v, _ = lif_step(one, one, 0 * one, decay=decay)
    assert v.tolist() == [1 + decay] * 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"decay": -0.1}, r"decay = -0.1: must be a number in \[0, 1\]"),
        ({"decay": 1.1}, r"decay = 1.1: must be a number in \[0, 1\]"),
        ({"decay": float("nan")}, r"decay = nan: must be a number in \[0, 1\]"),
        ({"decay": 0.5, "gamma": 0.0}, r"gamma = 0.0: must be a number in \(0, inf\)"),
    ],
)
def test_a_step_refuses_settings_out_of_range(arguments, line):
    one = torch.ones(2)
    with pytest.raises(ValueError, match=f"^{line}$"):
        lif_step(one, one, one, **arguments)


# The layer, by the equations


@given(
    some_shape(1, 4),
    some_steps,
    some_decay,
    some_threshold,
    some_gamma,
    st.booleans(),
    some_seed,
)
def test_layer_equals_the_passes_written_by_hand(
    shape, steps, decay, v_threshold, gamma, detach_reset, seed
):
    rng = np.random.default_rng(seed)
    x, grad_spikes, grad_v_seq = rng.normal(0.3, 1, (3, steps, *shape))
    grad_v = rng.normal(size=shape)
    settings = (decay, v_threshold, gamma, detach_reset)
    lif = LIF(*settings, store_v_seq=True)
    weights = Weights(*map(torch.tensor, (grad_spikes, grad_v, grad_v_seq)))
    ours = run_layer(lif, torch.tensor(x), weights)
    known = lif_by_hand(x, grad_spikes, grad_v, grad_v_seq, *settings)
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_array_equal(ours.spikes.numpy(), known.spikes)
    np.testing.assert_allclose(lif.v.detach().numpy(), known.v, **close)
    np.testing.assert_allclose(lif.v_seq.detach().numpy(), known.v_seq, **close)
    np.testing.assert_allclose(ours.gradient.numpy(), known.grad_x, rtol=1e-10, atol=1e-10)


def test_known_train_of_spikes():
    lif = LIF(decay=0.5)
    spikes = lif(torch.full((6, 1), 0.6))  # v: .6, .9, 1.05 -> spike, again
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert lif.v.item() == 0


def test_starts_from_rest_at_every_call():
    lif = LIF(decay=0.5)
    lif(torch.full((6, 1), 0.6))
    assert lif(torch.full((2, 1), 0.6)).sum() == 0
    assert lif.v.item() == pytest.approx(0.9)


def test_no_spike_at_threshold_exactly():
    assert LIF(decay=0.0)(torch.ones(3, 2)).sum() == 0


every_backend = pytest.mark.parametrize("backend", ["reference", "eager", "compiled"])
every_fused_backend = pytest.mark.parametrize("backend", ["eager", "compiled", "auto"])


@every_backend
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("detach_reset", [False, True])
def test_at_threshold_and_at_the_ends_of_the_triangle_all_is_exact(
    backend, create_graph, detach_reset
):
    """Binary fractions, so that nothing is rounded: potentials on, and one part in 64 beside."""
    settings = (0.5, 1.0, 0.5, detach_reset)
    first = np.array([0, 0.5, 1, 1.5]).repeat(3) + np.tile([-1, 0, 1], 4) / 64
    zero = 0 * first
    x = np.stack([first, 1 - first / 2, zero + 0.5, zero + 1, zero + 0.75])  # [T, N]
    shape = x.shape
    to_spikes = np.arange(1.0, x.size + 1).reshape(shape) / 8
    to_v_seq = np.cos(np.arange(x.size)).round(1).reshape(shape)
    to_v = np.arange(1.0, shape[1] + 1)
    known = lif_by_hand(x, to_spikes, to_v, to_v_seq, *settings)
    assert (known.v_seq == 1).sum() >= 4
    lif = LIF(*settings, store_v_seq=True, backend=backend)
    currents = torch.tensor(x, requires_grad=True)
    outputs = (lif(currents), lif.v, lif.v_seq)
    weights = map(torch.tensor, (to_spikes, to_v, to_v_seq))
    (gradient,) = torch.autograd.grad(outputs, currents, tuple(weights), create_graph=create_graph)
    assert torch.equal(outputs[0], torch.tensor(known.spikes))
    assert torch.equal(outputs[1], torch.tensor(known.v))
    assert torch.equal(outputs[2], torch.tensor(known.v_seq))
    np.testing.assert_allclose(gradient.detach().numpy(), known.grad_x, rtol=1e-13, atol=1e-13)


# Without "compiled", whose kernels are those of "eager": each case would take seconds.
every_python_backend = pytest.mark.parametrize("backend", ["reference", "eager"])


@every_python_backend
@pytest.mark.parametrize("output", ["spikes", "v", "v_seq"])
def test_an_output_that_nobody_uses_has_no_part_in_the_gradient(backend, output):
    rng = np.random.default_rng(3)
    x, *weights = rng.normal(0.5, 1, (3, 4, 6))
    zero = np.zeros((4, 6))
    grads = {"grad_spikes": zero, "grad_v": zero[0], "grad_v_seq": zero}
    grads[f"grad_{output}"] = weights[0][0] if output == "v" else weights[0]
    known = lif_by_hand(x, **grads, decay=0.6, v_threshold=0.8, gamma=1.3, detach_reset=False)
    lif = LIF(0.6, 0.8, 1.3, store_v_seq=True, backend=backend)
    currents = torch.tensor(x, requires_grad=True)
    spikes = lif(currents)
    value = {"spikes": spikes, "v": lif.v, "v_seq": lif.v_seq}[output]
    value.backward(torch.tensor(grads[f"grad_{output}"]))
    np.testing.assert_allclose(currents.grad.numpy(), known.grad_x, rtol=1e-12, atol=1e-12)


@every_python_backend
@pytest.mark.parametrize("store", [False, True])
def test_potentials_of_every_step_are_kept_if_asked_for(backend, store):
    lif = LIF(store_v_seq=store, backend=backend)
    assert lif.v is None
    assert lif.v_seq is None
    spikes = lif(torch.full((3, 2), 0.75))
    assert spikes.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert lif.v.tolist() == [0.75, 0.75]
    if store:
        assert lif.v_seq.tolist() == [[0.75] * 2, [1.125] * 2, [0.75] * 2]
    else:
        assert lif.v_seq is None


@every_python_backend
def test_one_neuron_needs_no_second_dimension(backend):
    lif = LIF(backend=backend)
    assert lif(torch.full((3,), 0.75)).tolist() == [0, 1, 0]
    assert lif.v.item() == 0.75


# The backends, against each other and another library


@given(
    some_shape(0, 5),
    some_steps,
    some_decay,
    some_threshold,
    some_gamma,
    st.booleans(),
    st.sampled_from([torch.float64, torch.float32]),
    st.booleans(),
    some_seed,
)
def test_eager_backend_is_the_reference(
    shape, steps, decay, v_threshold, gamma, detach_reset, dtype, contiguous, seed
):
    torch.manual_seed(seed)
    x, weights = random_run(steps, shape, dtype)
    if not contiguous:
        x = x.movedim(0, -1).contiguous().movedim(-1, 0)
    settings = (decay, v_threshold, gamma, detach_reset, True)
    ours = run_layer(LIF(*settings, backend="eager"), x, weights)
    known = run_layer(LIF(*settings, backend="reference"), x, weights)
    assert_same_outputs(ours, known)
    assert ours.gradient.dtype == dtype
    largest = known.gradient.abs().amax().item() if known.gradient.numel() else 0.0
    atol = 100 * torch.finfo(dtype).eps * (1 + largest)
    assert torch.allclose(ours.gradient, known.gradient, rtol=0, atol=atol)


@given(
    some_shape(0, 5),
    some_steps,
    some_decay,
    some_threshold,
    some_gamma,
    st.booleans(),
    st.sampled_from([torch.bfloat16, torch.float16]),
    st.booleans(),
    some_seed,
)
def test_eager_backend_in_half_precision_is_as_good_as_the_reference(
    shape, steps, decay, v_threshold, gamma, detach_reset, dtype, contiguous, seed
):
    torch.manual_seed(seed)
    x, weights = random_run(steps, shape, dtype)
    if not contiguous:
        x = x.movedim(0, -1).contiguous().movedim(-1, 0)
    settings = (decay, v_threshold, gamma, detach_reset, True)
    ours = run_layer(LIF(*settings, backend="eager"), x, weights)
    known = run_layer(LIF(*settings, backend="reference"), x, weights)
    assert_same_outputs(ours, known)
    assert ours.gradient.dtype == dtype
    exact = run_layer(LIF(*settings, backend="reference"), x.double(), weights.to(torch.float64))
    if torch.equal(exact.spikes.to(dtype), known.spikes):  # else rounding has moved a spike

        def error(gradient):
            return (gradient.double() - exact.gradient).abs().sum().item()

        size = exact.gradient.abs().sum().item()
        assert error(ours.gradient) <= 2 * error(known.gradient) + 0.05 * size + 1e-3


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 4), (6, 2), (0, 2)])
@pytest.mark.parametrize(
    ("steps", "dtype", "detach_reset"),
    [(5, torch.float32, False), (5, torch.float64, True), (1, torch.float32, False)],
)
def test_compiled_backend_is_the_reference(steps, dtype, detach_reset, shape):
    x, weights = random_run(steps, shape, dtype)
    settings = (0.4, 0.7, 1.3, detach_reset, True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "LIF runs uncompiled")
        ours = run_layer(LIF(*settings, backend="compiled"), x, weights)
    assert not lif_kernels.failed_devices  # else all of it ran uncompiled, which is said once
    known = run_layer(LIF(*settings, backend="reference"), x, weights)
    assert_same_outputs(ours, known)
    torch.testing.assert_close(ours.gradient, known.gradient)


@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_one_time_step_is_a_threshold_and_its_triangle(backend):
    x = torch.tensor([[0.25, 1.0, 1.5]], requires_grad=True)  # [1, neurons]
    spikes = LIF(backend=backend)(x)
    assert spikes.tolist() == [[0, 0, 1]]
    spikes.sum().backward()
    assert x.grad.tolist() == [[0.25, 1.0, 0.5]]


@pytest.mark.parametrize("detach_reset", [False, True])
@every_backend
def test_equals_spikingjelly(backend, detach_reset):
    oracle = spikingjelly.LIFNode(
        tau=2.0,
        decay_input=False,
        v_reset=0.0,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        step_mode="m",
        detach_reset=detach_reset,
        store_v_seq=True,
    )
    x, weights = random_run(7, (5, 40), torch.float64)
    weights = weights._replace(v_seq=torch.zeros_like(weights.v_seq))  # its v_seq is another
    lif = LIF(0.5, detach_reset=detach_reset, store_v_seq=True, backend=backend)
    ours = run_layer(lif, x, weights)
    known = run_layer(oracle, x, weights)
    assert_same_outputs(ours, known, v_seq=False)
    torch.testing.assert_close(ours.gradient, known.gradient)


@pytest.mark.parametrize("store_v_seq", [False, True])
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_one_tensor_is_kept_for_the_backward_pass(backend, store_v_seq):
    x = torch.randn(6, 50, requires_grad=True)
    lif = LIF(backend=backend, store_v_seq=store_v_seq)
    kept = storages_kept(lambda: lif(x))
    assert sum(kept.values()) == x.nbytes
    if store_v_seq:
        assert set(kept) == {lif.v_seq.data_ptr()}


@needs_compiler
@pytest.mark.parametrize(
    "view",
    [lambda h: h, lambda h: h.unflatten(0, (6, 2)), lambda h: h[0].expand(6, 50)],
    ids=["itself", "unflatten", "expand"],
)
def test_compiled_backend_keeps_what_the_layer_before_gave_and_no_more(view):
    h = torch.randn(12, 50, requires_grad=True).exp()  # exp keeps its result
    kept = storages_kept(lambda: LIF(backend="compiled")(view(h)))
    assert set(kept) == {h.untyped_storage().data_ptr()}


def in_steps(h):
    """[T * N, *] -> [T, N, *]."""
    return h.unflatten(0, (3, 4))


def kept_with_csbp(layer, between, x, backend="compiled"):
    """What is kept from a layer to its neurons, without CSBP and with it on the layer's output.

    Of CSBP the first call, which is measured, and the second, which is not.
    """
    neurons = LIF(backend=backend)
    without = storages_kept(lambda: neurons(between(layer(x))))
    chaos = ChaoticLoss(10.0).attach(layer, layer)
    calls = [storages_kept(lambda: (neurons(between(layer(x))), chaos())) for _ in range(2)]
    return without, *calls


@needs_compiler
@pytest.mark.parametrize(
    "view",
    [in_steps, lambda h: h.view(3, 4, *h.shape[1:]), lambda h: h.expand(3, *h.shape)],
    ids=["unflatten", "view", "expand"],
)
@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: nn.Linear(5, 8), (12, 5)), (lambda: nn.Conv2d(3, 8, 3), (12, 3, 5, 5))],
    ids=["linear", "convolution"],
)
def test_a_chaotic_loss_and_the_neurons_after_it_keep_one_tensor_together(make, shape, view):
    layer = make()
    x = torch.randn(shape)
    of_layer = storages_kept(lambda: layer(x))
    for kept in kept_with_csbp(layer, view, x):
        shared = [size for address, size in kept.items() if address not in of_layer]
        assert shared == [layer(x).nbytes]


@needs_compiler
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_where_a_batch_norm_keeps_h_csbp_adds_nothing(memory_format, autocast):
    conv = nn.Conv2d(3, 8, 3).to(memory_format=memory_format)
    norm = nn.BatchNorm2d(8)
    x = torch.randn(12, 3, 5, 5).to(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        without, *calls = kept_with_csbp(conv, lambda h: in_steps(norm(h)), x)
    for kept in calls:
        assert sum(kept.values()) == sum(without.values())


@needs_compiler
@pytest.mark.parametrize(
    ("between", "backend", "autocast"),
    [
        pytest.param(lambda h: in_steps(h.relu()), "compiled", False, id="relu keeps its result"),
        pytest.param(
            lambda h: in_steps(h.contiguous()), "compiled", False, id="a copy of channels last"
        ),
        pytest.param(in_steps, "eager", False, id="eager neurons keep potentials"),
        pytest.param(in_steps, "compiled", True, id="and so do all under autocast"),
    ],
)
def test_where_something_else_than_h_is_kept_csbp_adds_h(between, backend, autocast):
    conv = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    x = torch.randn(12, 3, 5, 5).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        h = conv(x)
        without, *calls = kept_with_csbp(conv, between, x, backend)
    for kept in calls:
        assert sum(kept.values()) - sum(without.values()) == h.nbytes


@every_fused_backend
def test_nothing_is_kept_where_nothing_is_trained(backend):
    assert not storages_kept(lambda: LIF(backend=backend)(torch.randn(6, 50)))


@needs_compiler
def test_compiled_backend_refuses_an_input_that_was_changed_in_place():
    h = torch.randn(6, 50, requires_grad=True)
    x = h * 2
    spikes = LIF(backend="compiled")(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")  # or one of the two runs uncompiled, past torch's limit
@pytest.mark.parametrize("detach_reset", [False, True])
def test_potentials_made_again_give_the_gradient_of_those_kept(detach_reset):
    """Bit for bit: a potential that rounds otherwise, or another spike, would show."""
    x, grad_spikes = torch.randn(2, 4, 2**16)

    def run(store_v_seq):
        lif = LIF(0.6, 0.9, 1.2, detach_reset, store_v_seq, backend="compiled")
        currents = x.clone().requires_grad_()
        spikes = lif(currents)
        (gradient,) = torch.autograd.grad((spikes, lif.v), currents, (grad_spikes, x[0]))
        return spikes, gradient

    spikes, gradient = run(store_v_seq=False)
    spikes_kept, gradient_kept = run(store_v_seq=True)
    assert torch.equal(spikes, spikes_kept)
    assert torch.equal(gradient, gradient_kept)


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
def test_layers_of_different_widths_share_a_compiled_kernel():
    x, weights = random_run(3, (2, 5))
    for gamma in (1.2, 1.0, 0.7):
        ours = run_layer(LIF(gamma=gamma, store_v_seq=True, backend="compiled"), x, weights)
        known = run_layer(LIF(gamma=gamma, store_v_seq=True, backend="reference"), x, weights)
        torch.testing.assert_close(ours.gradient, known.gradient)


@every_backend
def test_after_an_infinite_current_the_potential_is_nan_as_in_a_step(backend):
    x = torch.full((3, 2), 0.75)
    x[0, 0] = math.inf
    lif = LIF(backend=backend)
    assert lif(x).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert lif.v[0].isnan()
    assert lif.v[1] == 0.75


# Second derivatives: those of autograd through `lif_step`

LOSSES = {
    "spikes": lambda lif, spikes: spikes.sum(),
    "spikes, squared": lambda lif, spikes: spikes.sum(1).square().sum(),
    "last potential": lambda lif, spikes: (lif.v**3).sum(),
    "all potentials": lambda lif, spikes: (lif.v_seq**2).sum(),
    "all": lambda lif, spikes: spikes.sum() * lif.v.sum() + lif.v_seq.sum() ** 2,
}


def some_currents():
    generator = torch.Generator().manual_seed(5)
    return 1.5 * torch.randn(6, 3, 4, dtype=torch.float64, generator=generator)


def assert_like(ours, known):
    assert known.abs().max() > 0
    torch.testing.assert_close(ours, known, rtol=1e-12, atol=1e-12 * known.abs().max().item())


@every_fused_backend
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_gradient_penalty_has_the_gradient_of_the_reference(loss, detach_reset, backend):
    def gradient_of_penalty(backend):
        lif = LIF(0.6, 1.1, 1.4, detach_reset, store_v_seq=True, backend=backend)
        x = some_currents().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(lif, lif(x)), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    assert_like(gradient_of_penalty(backend), gradient_of_penalty("reference"))


def norm_of_gradient(backend):
    """A function of currents that has a gradient inside."""

    def loss(x):
        return (LIF(0.6, backend=backend)(x) * torch.linspace(-1, 1, 4)).sum()

    return lambda x: grad(loss)(x).square().sum()


NESTED = {
    "grad of grad": lambda f, x: grad(f)(x),
    "vmap of grad of grad": lambda f, x: vmap(grad(f), in_dims=1)(x),
    "grad of vmap of grad": lambda f, x: grad(lambda x: vmap(f, in_dims=1)(x).sum())(x),
    "grad of grad of grad": lambda f, x: grad(lambda x: grad(f)(x).square().sum())(x),
    "jacrev of grad": lambda f, x: jacrev(grad(f))(x[:, :1]),
    "backward of grad": lambda f, x: torch.autograd.grad(f(x.requires_grad_()), x)[0],
    "autograd.functional": lambda f, x: torch.autograd.functional.hessian(f, x[:, :1]),
}


@pytest.mark.parametrize("backend", ["eager", "compiled"])
@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
def test_nested_gradients_are_those_of_the_reference(nested, backend):
    ours = nested(norm_of_gradient(backend), some_currents())
    assert_like(ours, nested(norm_of_gradient("reference"), some_currents()))


def test_a_gradient_penalty_goes_through_a_checkpoint():
    def gradient_of_penalty(backend, run):
        lif = LIF(0.6, backend=backend)
        x = some_currents().requires_grad_()
        (gradient,) = torch.autograd.grad(run(lif, x).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    ours = gradient_of_penalty("eager", lambda lif, x: checkpoint(lif, x, use_reentrant=False))
    assert_like(ours, gradient_of_penalty("reference", lambda lif, x: lif(x)))


@pytest.mark.parametrize("detach_reset", [False, True])
def test_a_first_derivative_rounds_as_without_a_second_one(detach_reset):
    lif = LIF(0.6, 1.1, 1.4, detach_reset, store_v_seq=True)
    x = some_currents().requires_grad_()
    loss = LOSSES["all"](lif, lif(x))
    (plain,) = torch.autograd.grad(loss, x, retain_graph=True)
    (with_graph,) = torch.autograd.grad(loss, x, create_graph=True)
    assert torch.equal(plain, with_graph)


def test_a_single_gradient_keeps_no_graph(monkeypatch):
    backward_kernel = lif_kernels.backward_kernel

    def watched(v_seq, g_spikes, g_v_seq, g_v, *settings):
        assert not torch.is_grad_enabled()
        assert g_v_seq is None  # an output that nobody uses costs nothing
        assert g_v is None
        return backward_kernel(v_seq, g_spikes, g_v_seq, g_v, *settings)

    monkeypatch.setattr(lif_kernels, "backward_kernel", watched)

    def refused(*_):
        pytest.fail("a first derivative went through the differentiable backward pass")

    monkeypatch.setattr(lif_kernels, "differentiable_backward_kernel", refused)
    x = some_currents()
    plain = norm_of_gradient("eager")(x)
    assert plain > 0
    vmap(norm_of_gradient("eager"), in_dims=1)(x)
    with torch.no_grad():
        assert norm_of_gradient("eager")(x.requires_grad_()) == plain
    LIF()(x).sum().backward()


FORWARD = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,)),
    "jvp of grad": lambda f, x: torch.func.jvp(grad(f), (x,), (x,)),
    "hessian": lambda f, x: torch.func.hessian(f)(x[:, :1]),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x[:, :1]),
}


@pytest.mark.parametrize("forward", FORWARD.values(), ids=FORWARD)
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_forward_mode_is_refused_with_what_to_do(forward, backend):
    with pytest.raises(NotImplementedError, match=r'use LIF\(backend="reference"\)$'):
        forward(lambda x: LIF(backend=backend)(x).sum(), some_currents())
    forward(lambda x: LIF(backend="reference")(x).sum(), some_currents())


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("detach_reset", [False, True])
def test_a_compiled_model_takes_the_layer_in_one_graph(detach_reset):
    model = nn.Sequential(nn.Linear(4, 4), LIF(0.6, detach_reset=detach_reset)).double()
    x = some_currents()
    plain = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(x).sum(), list(model.parameters()))
    torch.testing.assert_close(found, plain)


# What compiles, and what does where it fails


@pytest.fixture
def broken_compiler(monkeypatch):
    def broken(*_):
        raise RuntimeError("no headers\nand more")

    monkeypatch.setattr(lif_kernels, "compile_kernel", lambda kernel: broken)
    monkeypatch.setattr(lif_kernels, "failed_devices", set())


def test_a_compiler_that_fails_is_done_without(broken_compiler):
    x = torch.randn(4, 3)
    with pytest.warns(UserWarning, match="LIF runs uncompiled: RuntimeError: no headers$"):
        spikes = LIF(backend="compiled")(x)
    assert torch.equal(spikes, LIF(backend="reference")(x))


def test_a_compiler_that_fails_is_told_of_once(broken_compiler):
    x = torch.randn(4, 3, requires_grad=True)
    with pytest.warns(UserWarning, match="LIF runs uncompiled"):
        LIF(backend="compiled")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LIF(backend="compiled")(x).sum().backward()


def test_what_is_not_to_be_compiled_is_not_tried(broken_compiler):
    x = torch.randn(4, 3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backend in ("eager", "auto", "reference"):
            LIF(backend=backend)(x).sum().backward()


def test_auto_compiles_large_trainings_only(monkeypatch):
    asked = []

    def run_uncompiled(kernel, eager, compiled, *arguments):
        asked.append(compiled)
        return kernel(*arguments)

    monkeypatch.setattr(lif_kernels, "run_kernel", run_uncompiled)
    large = torch.randn(4, 2**16)
    for x in (large, large[:, 1:], large[:, :10], large.bfloat16()):
        LIF()(x.clone().requires_grad_())
    LIF()(large)
    assert asked == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("backend", "dtype", "compiles"),
    [
        ("compiled", torch.float32, True),
        ("compiled", torch.float64, True),
        ("compiled", torch.float16, False),
        ("compiled", torch.bfloat16, False),
        ("eager", torch.float32, False),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_backend_that_is_asked_for_is_taken_but_for_half_precision(
    monkeypatch, backend, dtype, compiles, training
):
    asked = []
    run_kernel = lif_kernels.run_kernel

    def run_uncompiled(kernel, eager, compiled, *arguments):
        asked.append(compiled)
        return run_kernel(kernel, eager, False, *arguments)

    monkeypatch.setattr(lif_kernels, "run_kernel", run_uncompiled)
    spikes = LIF(backend=backend)(torch.zeros(3, 2, dtype=dtype).requires_grad_(training))
    if training:
        spikes.sum().backward()  # the backward pass is compiled as the forward pass is
    assert asked == [compiles] * (1 + training)


@pytest.mark.usefixtures("fresh_compiler")
def test_kernels_are_compiled_for_any_number_of_neurons(monkeypatch):
    graphs = []

    def count_graphs(graph, _):
        graphs.append(graph)
        return graph.forward

    by_torch = functools.partial(torch.compile, backend=count_graphs)
    monkeypatch.setattr(torch, "compile", by_torch)
    compiled = lif_kernels.compile_kernel.__wrapped__(lif_kernels.forward_kernel)
    for neurons in (3, 5, 8):
        x = torch.rand(2, neurons)
        torch.testing.assert_close(compiled(x, 0.5, 1.0), lif_kernels.forward_kernel(x, 0.5, 1.0))
    assert len(graphs) == 1


# Inputs, copies, refusals


def test_the_layer_itself_works_under_vmap():
    gradient = torch.func.grad(lambda currents: LIF()(currents).sum())
    x = torch.randn(3, 6, 4)
    known = torch.stack([gradient(currents) for currents in x])
    assert known.abs().sum() > 0
    assert torch.equal(torch.func.vmap(gradient)(x), known)


@pytest.mark.parametrize("in_dim", [0, 1, 2])
def test_every_output_works_under_vmap_over_any_dimension(in_dim):
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(2))

    def outputs(currents):
        lif = LIF(store_v_seq=True)
        return lif(currents), lif.v, lif.v_seq

    together = vmap(outputs, in_dims=in_dim)(x)
    for i, currents in enumerate(x.unbind(in_dim)):
        for ours, known in zip(together, outputs(currents), strict=True):
            assert torch.equal(ours[i], known)


@every_dtype
def test_keeps_dtype(dtype):
    lif = LIF(store_v_seq=True)
    spikes = lif(torch.rand(3, 2, 4).to(dtype))
    assert spikes.dtype == lif.v.dtype == lif.v_seq.dtype == dtype


def test_empty_batch():
    assert LIF()(torch.zeros(3, 0, 4)).shape == (3, 0, 4)


def test_non_contiguous_input():
    lif = LIF()
    x = torch.rand(4, 3, 5).transpose(0, 1)
    assert torch.equal(lif(x), lif(x.contiguous()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lif: pickle.loads(pickle.dumps(lif))])
def test_copies_and_pickles_drop_the_recorded_potentials(copied):
    lif = LIF(decay=0.3, store_v_seq=True)
    lif(torch.rand(3, 2, requires_grad=True))
    twin = copied(lif)
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
        ({"detach_reset": "False"}, "detach_reset = 'False': must be True or False"),
        ({"store_v_seq": 1}, "store_v_seq = 1: must be True or False"),
        ({"detach_reset": None}, "detach_reset = None: must be True or False"),
        ({"decay": nn.Parameter(torch.tensor(0.5))}, "decay requires a gradient: must be a number"),
        ({"v_threshold": torch.ones((), requires_grad=True)}, "v_threshold requires a gradient"),
        ({"gamma": nn.Parameter(torch.ones(3))}, "gamma requires a gradient: must be a number"),
        ({"gamma": -1.0}, r"gamma = -1.0: must be a number in \(0, inf\)"),
        ({"gamma": 0.0}, r"gamma = 0.0: must be a number in \(0, inf\)"),
        ({"decay": -0.1}, r"decay = -0.1: must be a number in \[0, 1\]"),
        ({"v_threshold": math.inf}, r"v_threshold = inf: must be a number in \(0, inf\)"),
    ],
)
def test_refuses_parameters_out_of_range(arguments, line):
    with pytest.raises(ValueError, match=line):
        LIF(**arguments)


@pytest.mark.parametrize(
    "x",
    [torch.zeros(0, 3), torch.tensor(1.0), torch.ones(3, 2, dtype=torch.int64)],
    ids=["no time steps", "no time dimension", "integers"],
)
def test_refuses_an_input_without_time_steps_or_of_integers(x):
    with pytest.raises(ValueError, match="must be floating point"):
        LIF()(x)


@pytest.mark.parametrize("x", [np.ones((3, 2)), [1.0, 2.0], 1.0, None])
@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_refuses_an_input_that_is_no_tensor(x, backend):
    line = rf"^x = {type(x).__name__}: must be a tensor \[T, N, \*\]$"
    with pytest.raises(ValueError, match=line):
        LIF(backend=backend)(x)


@pytest.mark.parametrize("decay", [0, 1])
def test_accepts_the_ends_of_decay(decay):
    lif = LIF(decay=decay)
    lif(torch.full((2, 1), 0.25))
    assert lif.v.item() == 0.25 * (1 + decay)


def test_shows_its_settings():
    text = "LIF(decay=0.3, v_threshold=1.2, gamma=0.7, detach_reset=True, store_v_seq=False, "
    assert repr(LIF(0.3, 1.2, 0.7, True, False, "eager")) == text + "backend=eager)"


def test_flags_of_numpy_are_kept_as_pythons():
    lif = LIF(detach_reset=np.True_, store_v_seq=np.False_)
    assert (lif.detach_reset, lif.store_v_seq) == (True, False)
    assert "detach_reset=True, store_v_seq=False" in repr(lif)
