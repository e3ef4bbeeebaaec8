"""critical_z and largest_eigenvalue, against gradient descent on a layer and the matrix itself."""

import inspect
import math
import warnings
from typing import NamedTuple

import pytest
import torch
from helpers import design_matrices, eigenvalue_by_library
from spikingjelly.activation_based import layer as spikingjelly
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.overrides import TorchFunctionMode

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
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR, momentum=momentum)
    return descend_with(optimizer, layer, x, factor * limit, reduction, steps)


def descend_with(optimizer, layer, x, z, reduction, steps):
    """Gradient descent by the chaotic loss alone, from a little off the layer's rest."""
    rest = vector_of(layer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            if p.requires_grad:
                p += 1e-3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        chaotic_loss(layer(x), z, scale=SCALE, reduction=reduction).backward()
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


# Of what is trained, and how


class Trained(NamedTuple):
    """A layer at rest, its input, and what `critical_z` should be told of its training."""

    layer: nn.Module
    x: Tensor
    settings: dict  # of torch.optim.SGD
    known: float  # the largest eigenvalue, from the matrix itself
    has_bias: bool = True


def centred_inputs():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(7)).double()
    return x - x.mean(0)


def largest_of(X):
    return torch.linalg.eigvalsh(X.T @ X)[-1].item()


def by_settings(**settings):
    layer, x = linear()
    return Trained(layer, x, settings, eigenvalue_by_library(layer, x))


def without_bias():
    layer = nn.Linear(3, 2, bias=False).double()
    nn.init.zeros_(layer.weight)
    x = centred_inputs()
    return Trained(layer, x, {}, largest_of(x), has_bias=False)


def with_frozen_bias():
    layer = nn.Linear(3, 2).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer.bias.requires_grad_(False)
    x = centred_inputs()
    return Trained(layer, x, {}, largest_of(x), has_bias=False)


def with_frozen_weight():
    layer, x = linear()
    layer.weight.requires_grad_(False)
    return Trained(layer, x, {}, known=len(x))  # a column of ones


def convolution_with_frozen_weight():
    layer, x = convolution(3)
    layer.weight.requires_grad_(False)
    return Trained(layer, x, {"momentum": 0.5}, known=2 * 6 * 6)


TRAINED = {
    "Nesterov": lambda: by_settings(momentum=0.5, nesterov=True),
    "weight decay": lambda: by_settings(weight_decay=1.0),  # by 5 %
    "weight decay, Nesterov": lambda: by_settings(momentum=0.3, nesterov=True, weight_decay=0.5),
    "no bias": without_bias,
    "frozen bias": with_frozen_bias,
    "frozen weight": with_frozen_weight,
    "frozen weight of a convolution": convolution_with_frozen_weight,
}
every_training = pytest.mark.parametrize("training_of", TRAINED.values(), ids=TRAINED)


def descend_as_trained(training, factor, steps):
    layer, x, settings, known, has_bias = training
    limit = critical_z(known, LR, **settings, bias=has_bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=LR, **settings)
    return descend_with(optimizer, layer, x, factor * limit, "sum", steps)


@every_training
def test_below_the_critical_z_of_what_is_trained_the_layer_rests(training_of):
    assert descend_as_trained(training_of(), 0.98, steps=2000).swing < 1e-6


@every_training
def test_above_the_critical_z_of_what_is_trained_the_layer_does_not_rest(training_of):
    assert descend_as_trained(training_of(), 1.02, steps=2500).swing > 0.1


@every_training
def test_the_eigenvalue_of_what_is_trained_is_that_of_its_columns(training_of):
    layer, x, _, known, _ = training_of()
    trained = tuple(name for name, p in layer.named_parameters() if p.requires_grad)
    assert largest_eigenvalue(layer, [x], trained) == pytest.approx(known, rel=1e-5)


def test_without_a_bias_it_is_a_lower_bound():
    with_bias = critical_z(2.0, 1.0)
    assert critical_z(2.0, 1.0, bias=False) / with_bias == pytest.approx(0.65 * 0.35 * 4)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"weight_decay": -1.0}, r"weight_decay = -1.0: must be a number in \[0, inf\)"),
        ({"weight_decay": 40.0}, "weight_decay = 40.0: unstable at lr = 0.1 by itself"),
        ({"nesterov": "no"}, "nesterov = 'no': must be True or False"),
        ({"bias": None}, "bias = None: must be True or False"),
        ({"lambda_max": -1.0}, r"lambda_max = -1.0: must be a number in \[0, inf\)"),
        ({"lambda_max": math.nan}, "lambda_max = nan: must be a number"),
        ({"weight_decay": 20.0}, "weight_decay = 20.0: unstable at lr = 0.1 by itself"),
        ({"lambda_max": 0.0, "weight_decay": 40.0}, "weight_decay = 40.0: unstable at"),
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
        ({"momentum": 1.0}, r"momentum = 1.0: must be a number in \[0, 1\)"),
        ({"momentum": -0.1}, r"momentum = -0.1: must be a number in \[0, 1\)"),
        ({"I0": 0.0}, r"I0 = 0.0: must be a number in \(0, 1\)"),
        ({"I0": 1.0}, r"I0 = 1.0: must be a number in \(0, 1\)"),
        ({"scale": 0.0}, r"scale = 0.0: must be a number in \(0, inf\)"),
        ({"reduction": "none"}, "reduction = 'none': must be one of sum, mean"),
        ({"reduction": "mean", "numel": 0}, r"numel = 0: must be an integer in \[1, inf\)"),
        ({"reduction": "mean", "numel": 2.0}, r"numel = 2.0: must be an integer in \[1, inf\)"),
    ],
)
def test_refuses_settings_out_of_range(settings, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        critical_z(**{"lambda_max": 1.0, "lr": LR, **settings})


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({}, 2 * 100 / (0.1 * 0.65 * 0.35 * 3)),
        ({"momentum": 0.25}, 2.5 * 100 / (0.1 * 0.65 * 0.35 * 3)),
        ({"momentum": 0.25, "nesterov": True}, 2.5 / 1.5 * 100 / (0.1 * 0.65 * 0.35 * 3)),
        ({"weight_decay": 4.0}, (2 / 0.1 - 4) * 100 / (0.65 * 0.35 * 3)),
        ({"I0": 0.2, "scale": 2.0}, 2 * 4 / (0.1 * 0.2 * 0.8 * 3)),
        ({"I0": 0.2, "bias": False}, 2 * 100 / (0.1 * 0.25 * 3)),
        ({"reduction": "mean", "numel": 7}, 7 * 2 * 100 / (0.1 * 0.65 * 0.35 * 3)),
        ({"reduction": "mean", "numel": 1}, 2 * 100 / (0.1 * 0.65 * 0.35 * 3)),
        ({"reduction": "sum", "numel": 7}, 2 * 100 / (0.1 * 0.65 * 0.35 * 3)),  # has no part
    ],
)
def test_is_the_formula(settings, known):
    """By hand; what the formula is of is held against descent above."""
    z = critical_z(3, LR, **settings)
    assert isinstance(z, float)
    assert z == pytest.approx(known, rel=1e-12)


def defaults(function):
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def test_defaults_are_the_documented_ones():
    assert defaults(largest_eigenvalue) == {"trained": ("weight", "bias")}
    assert defaults(critical_z) == {
        "momentum": 0.0,
        "I0": 0.65,
        "scale": 10.0,
        "reduction": "sum",
        "numel": None,
        "weight_decay": 0.0,
        "nesterov": False,
        "bias": True,
    }


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


@pytest.mark.parametrize(
    ("trained", "columns"),
    [
        (("weight",), slice(0, -1)),
        (("bias",), slice(-1, None)),  # of ones
        (("bias", "weight"), slice(None)),
    ],
)
@pytest.mark.parametrize("name", ["linear", "strides", "padding"])
def test_only_the_columns_of_what_is_trained_count(name, trained, columns):
    layer, x = RANDOM_CASES[name]()
    (X,) = design_matrices(layer, x)
    expected = largest_of(X[:, columns])
    assert largest_eigenvalue(layer, [x], trained) == pytest.approx(expected, rel=1e-5)


def test_an_eigenvalue_that_takes_many_rounds_is_as_exact_as_it_says():
    """One round brings the estimate nearer by a factor of 0.64 alone; of a float64 layer."""
    x = torch.diag(torch.tensor([1.0, 0.9, 0.85, 0.8, 0.3]).double().sqrt())
    layer = nn.Linear(5, 2, bias=False).double()
    assert largest_eigenvalue(layer, [x]) == pytest.approx(1, rel=1e-6)


class CountLinear(TorchFunctionMode):
    """How often a linear layer's function is called."""

    calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.linear:
            self.calls += 1
        return function(*args, **(kwargs or {}))


def test_an_eigenvalue_that_is_alone_takes_few_rounds():
    x = torch.arange(1.0, 7.0).outer(torch.arange(1.0, 4.0))  # of rank one
    with CountLinear() as counter:
        largest_eigenvalue(nn.Linear(3, 2, bias=False), [x])
    assert 1 <= counter.calls <= 5


def test_an_eigenvalue_is_that_of_the_layers_precision():
    x = 1 / 3 * torch.ones(7, 3).double()
    exact = 7 * 3 / 9
    assert largest_eigenvalue(nn.Linear(3, 2, bias=False).double(), [x]) == pytest.approx(
        exact, rel=1e-14
    )
    single = largest_eigenvalue(nn.Linear(3, 2, bias=False), [x])
    assert 1e-14 < abs(single / exact - 1) < 1e-6


@pytest.mark.parametrize("convolution", [nn.Conv1d, nn.Conv3d])
def test_convolutions_of_other_dimensions(convolution):
    """With a kernel of one everywhere they are a linear layer on every position."""
    layer = convolution(3, 4, 1).double()
    size = [2, 3] + [2] * (layer.weight.dim() - 2)
    x = torch.randn(size, generator=torch.Generator().manual_seed(3)).double()
    expected = eigenvalue_by_library(nn.Linear(3, 4), x.flatten(2).movedim(1, 2).flatten(0, 1))
    assert largest_eigenvalue(layer, [x]) == pytest.approx(expected, rel=1e-5)
    assert largest_eigenvalue(layer, [x[None]]) == pytest.approx(expected, rel=1e-5)


def test_what_is_given_is_left_alone():
    layer, x = RANDOM_CASES["linear"]()
    before = [p.clone() for p in layer.parameters()]
    largest_eigenvalue(layer, iter([x]))
    assert all(torch.equal(p, b) for p, b in zip(layer.parameters(), before, strict=True))
    assert all(p.grad is None and p.requires_grad for p in layer.parameters())
    assert not x.requires_grad


# Layers as they come


def test_silent_inputs_without_a_bias_have_the_eigenvalue_0_and_no_limit():
    layer = nn.Conv2d(2, 3, 3, bias=False)
    assert largest_eigenvalue(layer, [torch.zeros(4, 2, 6, 6)]) == 0
    assert critical_z(0.0, LR) == math.inf


def test_silent_inputs_with_a_bias_have_one_for_every_row():
    assert largest_eigenvalue(nn.Linear(5, 3), [torch.zeros(8, 5)]) == pytest.approx(8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_layer_of_half_precision_is_computed_in_single(dtype):
    layer, x = RANDOM_CASES["linear"]()
    expected = eigenvalue_by_library(layer, x.to(dtype).double())
    assert largest_eigenvalue(layer.to(dtype), [x.to(dtype)]) == pytest.approx(expected, rel=1e-5)


def test_autocast_does_not_reach_it():
    layer, x = RANDOM_CASES["padding"]()
    layer, x = layer.float(), x.float()
    plain = largest_eigenvalue(layer, [x])
    with torch.autocast("cpu", torch.bfloat16):
        assert largest_eigenvalue(layer, [x]) == plain
        assert largest_eigenvalue(layer, [x.bfloat16().float()]) == pytest.approx(plain, rel=1e-2)


def test_inputs_of_other_types_are_taken_as_numbers():
    layer = nn.Linear(5, 3)
    spikes = torch.rand(20, 5) > 0.5
    expected = largest_eigenvalue(layer, [spikes.float()])
    assert largest_eigenvalue(layer, [spikes]) == expected
    assert largest_eigenvalue(layer, [spikes.half()]) == expected


def test_inference_mode_does_not_reach_it():
    layer, x = RANDOM_CASES["linear"]()
    plain = largest_eigenvalue(layer, [x])
    with torch.inference_mode():
        assert largest_eigenvalue(layer, [x + 0]) == plain


class Ragged(nn.Linear):
    """A layer with something that cannot be copied."""

    def __deepcopy__(self, memo):
        raise RuntimeError("not to be copied")


def test_the_layer_is_not_copied_and_its_hooks_do_not_run():
    layer = Ragged(5, 3)
    layer.register_forward_hook(lambda *_: pytest.fail("ran"))
    layer.register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    assert largest_eigenvalue(layer, [torch.ones(4, 5)]) == pytest.approx(4 * 6)


@pytest.mark.parametrize("padding_mode", ["zeros", "circular", "reflect"])
def test_more_leading_dimensions_are_more_samples(padding_mode):
    layer = nn.Conv2d(2, 3, 3, padding=1, dilation=1, stride=2, padding_mode=padding_mode)
    x = torch.randn(4, 5, 2, 7, 7)
    assert largest_eigenvalue(layer, [x]) == largest_eigenvalue(layer, [x.flatten(0, 1)])


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_layers_of_spikingjelly(step_mode):
    x = torch.randn(4, 5, 2, 7, 7)
    plain = nn.Conv2d(2, 3, 3, stride=2)
    layer = spikingjelly.Conv2d(2, 3, 3, stride=2, step_mode=step_mode)
    given = x if step_mode == "m" else x.flatten(0, 1)
    assert largest_eigenvalue(layer, [given]) == largest_eigenvalue(plain, [x.flatten(0, 1)])
    flat = torch.randn(4, 5, 6)
    layer = spikingjelly.Linear(6, 3, step_mode=step_mode)
    assert largest_eigenvalue(layer, [flat]) == largest_eigenvalue(nn.Linear(6, 3), [flat])


class Centred(nn.Conv2d):
    """A convolution whose weights are centred first."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def pruned(layer):
    return prune.random_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (parametrizations.weight_norm(nn.Linear(3, 2)), "its weight is computed from other"),
        (old_weight_norm(nn.Conv2d(3, 2, 1)), "its weight is computed from other"),
        (parametrizations.spectral_norm(nn.Linear(3, 2)), "its weight is computed from other"),
        (pruned(nn.Linear(3, 2)), "its weight is computed from other"),
        (parametrizations.weight_norm(nn.Linear(3, 2), "bias", 0), "its bias is computed"),
        (Centred(3, 2, 1), "Centred has a forward of its own, which need not be linear"),
        (spikingjelly.WSConv2d(3, 2, 1), "WSConv2d has a forward of its own"),
        (nn.ConvTranspose2d(3, 2, 1), "ConvTranspose2d is no linear or convolutional layer"),
        (nn.Bilinear(3, 3, 2), "Bilinear is no linear or convolutional layer"),
    ],
)
def test_refuses_what_is_not_linear_in_parameters_of_its_own(layer, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        largest_eigenvalue(layer, [torch.ones(4, 3)])


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e30])
def test_refuses_an_eigenvalue_that_is_not_finite(number):
    with pytest.raises(ValueError, match=r"^largest eigenvalue = (nan|inf): must be a number"):
        largest_eigenvalue(nn.Linear(3, 2), [torch.full((4, 3), number)])


def test_refuses_to_count_nothing():
    with pytest.raises(ValueError, match=r"^none of its parameters is trained$"):
        largest_eigenvalue(nn.Linear(3, 2, bias=False), [torch.ones(4, 3)], ("bias",))
    with pytest.raises(ValueError, match=r"^trained = 'w': must be one of weight, bias$"):
        largest_eigenvalue(nn.Linear(3, 2), [torch.ones(4, 3)], "weight")


def test_the_old_path_of_largest_eigenvalue_works():
    assert csbp_core.loss.largest_eigenvalue is largest_eigenvalue
