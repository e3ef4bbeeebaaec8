"""The neuron against passes written by hand, autograd, and another library."""

import copy
import os
import pickle
import shutil
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import lif_by_hand
from hypothesis import given, strategies as st
from spikingjelly.activation_based import neuron as spikingjelly, surrogate
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint

from csbp_core import LIF, lif_kernels, lif_step

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="no compiler",
)
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
    gradient: Tensor


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
    return LayerRun(spikes.detach(), gradient)


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
    assert torch.equal(ours.spikes, known.spikes)
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
    assert torch.equal(ours.spikes, known.spikes)
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
    known = run_layer(LIF(*settings, backend="reference"), x, weights)
    assert torch.equal(ours.spikes, known.spikes)
    torch.testing.assert_close(ours.gradient, known.gradient)


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("backend", ["reference", "eager", "compiled"])
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
    assert torch.equal(ours.spikes, known.spikes)
    torch.testing.assert_close(ours.gradient, known.gradient)


@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_one_tensor_is_kept_for_the_backward_pass(backend):
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(6, 50, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        LIF(backend=backend)(x)
    assert sum(kept.values()) == x.nbytes


# Second derivatives: those of autograd through `lif_step`

LOSSES = {
    "spikes": lambda lif, spikes: spikes.sum(),
    "spikes, squared": lambda lif, spikes: spikes.sum(1).square().sum(),
    "last potential": lambda lif, spikes: (lif.v**3).sum(),
    "all potentials": lambda lif, spikes: (lif.v_seq**2).sum(),
    "all": lambda lif, spikes: spikes.sum() * lif.v.sum() + lif.v_seq.sum() ** 2,
}
every_fused_backend = pytest.mark.parametrize("backend", ["eager", "compiled", "auto"])


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

    def watched(*arguments):
        assert not torch.is_grad_enabled()
        return backward_kernel(*arguments)

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


def test_auto_compiles_large_trainings_only(monkeypatch):
    asked = []

    def run_uncompiled(kernel, eager, compiled, *arguments):
        asked.append(compiled)
        return kernel(*arguments)

    monkeypatch.setattr(lif_kernels, "run_kernel", run_uncompiled)
    large = torch.randn(4, 2**16)
    for x in (large, large[:, :10], large.bfloat16()):
        LIF()(x.clone().requires_grad_())
    LIF()(large)
    assert asked == [True, False, False, False]


# Inputs, copies, refusals


def test_the_layer_itself_works_under_vmap():
    gradient = torch.func.grad(lambda currents: LIF()(currents).sum())
    x = torch.randn(3, 6, 4)
    known = torch.stack([gradient(currents) for currents in x])
    assert known.abs().sum() > 0
    assert torch.equal(torch.func.vmap(gradient)(x), known)


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


def test_flags_of_numpy_are_kept_as_pythons():
    lif = LIF(detach_reset=np.True_, store_v_seq=np.False_)
    assert (lif.detach_reset, lif.store_v_seq) == (True, False)
    assert "detach_reset=True, store_v_seq=False" in repr(lif)
