"""What a ChaoticLoss measures and reports, held against autograd; the critical z of its layers."""

import io
import math
import warnings
from typing import NamedTuple

import norse.torch as norse
import pytest
import snntorch
import torch
from helpers import (
    authors_loss,
    batch,
    eigenvalue_by_library,
    forward_hooks,
    network,
    records_kept,
    rewritten,
)
from spikingjelly.activation_based import layer as spikingjelly_layer, neuron as spikingjelly_neuron
from torch import nn
from torch.func import functional_call, grad, vmap

from csbp_core import LIF, ChaoticLoss, critical_z, triangle
from csbp_core.plugin.activity import Activity
from csbp_core.plugin.hooks import Record
from csbp_core.plugin.measurement import CriticalZ, Measurement, Numbers, report_on


class Expected(NamedTuple):
    """What the report should say of a layer."""

    mean_s: float
    gradient_share: float


def share(chaos, rest, h):
    """c / (c + r): the norms of the gradients of two losses at h."""
    (of_chaos,) = torch.autograd.grad(chaos, h, retain_graph=True)
    (of_rest,) = torch.autograd.grad(rest, h, retain_graph=True)
    c = of_chaos.norm().item()
    r = of_rest.norm().item()
    return c / (c + r)


def mean_s(h):
    return torch.sigmoid(h / 10).mean().item()


def by_autograd(model, x, z):
    """What is expected of every current of a `network` whose task loss is its output's variance."""
    known = rewritten(model, x)
    terms = [authors_loss([h], z) for h in known.currents]
    expected = []
    for i, h in enumerate(known.currents):
        rest = known.output.var() + sum(terms[:i] + terms[i + 1 :])
        expected.append(Expected(mean_s(h), share(terms[i], rest, h)))
    return expected


# Against autograd


def test_nothing_is_known_before_the_first_call():
    chaos = ChaoticLoss(3.0).attach(network(), "fc*")
    assert chaos.report()["fc1"] == {
        "step": None,
        "z": None,
        "mean_s": None,
        "I0": 0.65,
        "gradient_share": None,
        "z_over_critical": None,
        "firing_rate": None,
        "never_fires": None,
        "always_fires": None,
        "zero_surrogate": None,
        "note": None,
        "warning": None,
    }
    assert chaos.scalars() == {"fc1/I0": 0.65, "fc2/I0": 0.65}


def test_the_gradient_share_is_not_known_before_the_backward_pass():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    loss = model(batch()).var() + chaos()
    row = chaos.report()["fc1"]
    assert row["gradient_share"] is None
    assert row["note"] == "gradient_share is known after the backward pass"
    loss.backward()
    row = chaos.report()["fc1"]
    assert row["gradient_share"] is not None
    assert row["note"] is None


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(lambda loss: loss, id="as it is"),
        pytest.param(torch.amp.GradScaler("cpu", init_scale=2.0**16).scale, id="GradScaler"),
    ],
)
def test_report_is_what_autograd_says(scale):
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    scale(model(x).var() + chaos()).backward()
    for row, expected in zip(chaos.report().values(), by_autograd(model, x, 3.0), strict=True):
        assert 0.01 < expected.gradient_share < 0.99
        assert row["mean_s"] == pytest.approx(expected.mean_s, rel=1e-6)
        assert row["gradient_share"] == pytest.approx(expected.gradient_share, rel=1e-6)
        assert (row["step"], row["z"], row["I0"]) == (0, 3.0, 0.65)
        assert row["z_over_critical"] is None


def test_report_adds_up_the_runs_of_a_layer():
    fc = nn.Linear(6, 6, dtype=torch.float64)
    chaos = ChaoticLoss(3.0).attach(fc, fc)
    out = torch.stack([fc(batch(seed=n)) for n in range(3)])
    (out.var() + chaos()).backward()
    h = out.detach().requires_grad_()
    (row,) = chaos.report().values()
    expected = share(authors_loss([h], 3.0), h.var(), h)
    assert row["gradient_share"] == pytest.approx(expected, rel=1e-6)
    assert row["mean_s"] == pytest.approx(mean_s(h), rel=1e-6)


def line(weight):
    """h = weight * x, one unit."""
    fc = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(fc.weight, weight)
    return fc


def column(*values):
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def sigmoid(h, scale=10):
    return 1 / (1 + math.exp(-h / scale))


def test_report_of_two_runs_by_hand():
    fc = line(2.0)
    chaos = ChaoticLoss(4.0, I0=0.6, scale=5.0).attach(nn.Sequential(fc), "0")
    outputs = [fc(column(1.0)), fc(column(-3.0, 5.0))]  # h = 2, and -6 and 10
    (0.01 * torch.cat(outputs).sum() + chaos()).backward()
    s = [sigmoid(h, 5.0) for h in (2.0, -6.0, 10.0)]
    c = math.hypot(*(4.0 * (s_i - 0.6) / (3 * 5.0) for s_i in s))
    r = math.hypot(0.01, 0.01, 0.01)
    row = chaos.report()["0"]
    assert row["mean_s"] == pytest.approx(sum(s) / 3, rel=1e-6)
    assert row["gradient_share"] == pytest.approx(c / (c + r), rel=1e-6)
    assert (row["step"], row["z"], row["I0"]) == (0, 4.0, 0.6)


@pytest.mark.parametrize("clamp", [(-5.0, 8.0), None])
def test_mean_s_is_that_of_the_loss_which_clamps_h(clamp):
    fc = line(1.0)
    chaos = ChaoticLoss(3.0, clamp=clamp).attach(nn.Sequential(fc), "0")
    fc(column(-9.0, 2.0, 30.0))
    chaos()
    heights = (-5.0, 2.0, 8.0) if clamp else (-9.0, 2.0, 30.0)
    known = sum(map(sigmoid, heights)) / 3
    assert chaos.report()["0"]["mean_s"] == pytest.approx(known, rel=1e-6)


@pytest.mark.parametrize(
    ("chaotic", "others", "known"),
    [
        ([3.0, 4.0], [5.0], 0.5),  # 5 of 5 + 5
        ([5.0], [3.0, 4.0, 0.0], 0.5),
        ([0.25], [0.75], 0.25),
        ([0.0], [2.0], 0.0),
        ([2.0], [0.0], 1.0),
        ([0.0], [0.0], None),
        ([2.0], [], None),
        ([], [], None),
    ],
)
def test_the_gradient_share_is_that_of_the_norms_of_all_runs(chaotic, others, known):
    measurement = Measurement([], step=0, z=1.0, is_first=True)
    measurement.chaotic_norms = [torch.tensor(norm) for norm in chaotic]
    measurement.other_norms = [torch.tensor(norm) for norm in others]
    assert measurement.gradient_share() == (None if known is None else pytest.approx(known))


@pytest.mark.parametrize("versions", [(0, 0), (None, 0), (0, None), (None, None)])
def test_one_compiled_run_makes_a_measurement_one_of_a_compiled_model(versions):
    records = [Record(torch.ones(2), version, None, None, None) for version in versions]
    assert Measurement(records, step=0, z=1.0, is_first=True).is_compiled == (None in versions)


@pytest.mark.parametrize(
    ("values", "are_spikes"),
    [
        ((0.0, 1.0, 0.0), True),
        ((0.0, 0.0, 0.0), True),
        ((1.0, 1.0, 1.0), True),
        ((0.0, 1.0, 0.5), False),
        ((0.0, 1.0, 2.0), False),
        ((0.0, 1.0, -1.0), False),
    ],
)
def test_only_inputs_that_are_all_spikes_are_kept_as_such(values, are_spikes):
    fc = nn.Linear(3, 2)
    x = torch.tensor([values])
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    fc(x)
    chaos()
    (kept,) = chaos.layers[0].measurement.inputs
    assert kept.dtype == (torch.bool if are_spikes else torch.float32)
    assert torch.equal(kept.float(), x)


def test_critical_z_counts_the_elements_of_all_runs():
    fc = nn.Linear(6, 3)
    x = batch(dtype=torch.float32).flatten(0, 1)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    for rows in (x[:2], x[2:]):
        fc(rows)
    chaos()
    known = critical_z(eigenvalue_by_library(fc, x), 0.2, reduction="mean", numel=36)
    assert chaos.critical_z(0.2)["0"] == pytest.approx(known, rel=1e-5)


def test_half_precision_is_measured_in_full():
    fc = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(fc.weight, 1.0)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    (fc(torch.ones(200, 1, dtype=torch.bfloat16)).sum() * 1e-3 + chaos()).backward()
    assert chaos.report()["0"]["mean_s"] == pytest.approx(sigmoid(1.0), rel=1e-6)


def test_report_is_measured_at_every_20th_call():
    model = network()
    chaos = ChaoticLoss(3.0, beta=0.9).attach(model, "fc*")
    steps = []
    for _ in range(42):
        (model(batch()).var() + chaos()).backward()
        steps.append(chaos.report()["fc1"]["step"])
        chaos.step()
    assert steps == [0] * 20 + [20] * 20 + [40] * 2


def test_report_is_of_the_last_measured_call():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0, beta=0.9).attach(model, "fc*")
    for _ in range(42):
        (model(x).var() + chaos()).backward()
        chaos.step()
    z = 3.0 * 0.9**40
    _, expected = by_autograd(model, x, z)
    row = chaos.report()["fc2"]
    assert row["z"] == pytest.approx(z)
    assert row["gradient_share"] == pytest.approx(expected.gradient_share, rel=1e-6)


@pytest.mark.parametrize("comes_first", ["the task", "the chaotic loss"])
def test_a_chaotic_loss_with_a_backward_pass_of_its_own_has_its_share(comes_first):
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "lif2", "input")
    out = model(x)
    loss = chaos()
    losses = [out.var(), loss] if comes_first == "the task" else [loss, out.var()]
    losses[0].backward(retain_graph=True)
    losses[1].backward()
    _, expected = by_autograd(model, x, 3.0)
    found = chaos.report()["lif2"]["gradient_share"]
    assert found == pytest.approx(expected.gradient_share, rel=1e-6)


def test_a_chaotic_loss_that_is_only_logged_has_no_share():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "lif2", "input")
    out = model(batch())
    chaos()
    out.var().backward()
    assert chaos.report()["lif2"]["gradient_share"] == 0


@pytest.mark.parametrize("store_v_seq", [True, False])
def test_what_nothing_else_reads_has_no_share_and_no_warning(store_v_seq):
    model = network(store_v_seq=store_v_seq)
    chaos = ChaoticLoss(1e-9).attach(model, "lif2", "membrane").attach(model, "fc1")
    (model(batch()).square().sum() + chaos()).backward()
    membrane, current = chaos.report().values()
    assert membrane["gradient_share"] is None
    line = "gradient_share is unknown: nothing but the chaotic loss has a gradient at h"
    assert membrane["note"] == line
    assert membrane["warning"] is None
    assert 0 < current["gradient_share"] < 1e-3


# Inside torch.compile, vmap and torch.func.grad it is right or unknown


@pytest.mark.usefixtures("fresh_compiler")
def test_gradient_share_of_a_compiled_model_is_right_or_unknown():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    compiled = torch.compile(model, backend="aot_eager")
    (compiled(x).var() + chaos()).backward()
    for row, expected in zip(chaos.report().values(), by_autograd(model, x, 3.0), strict=True):
        assert row["gradient_share"] in (None, pytest.approx(expected.gradient_share, rel=1e-6))


@pytest.mark.parametrize(
    ("transform", "samples"),
    [
        pytest.param(grad, batch(), id="grad"),
        pytest.param(
            lambda f: vmap(grad(f), (None, 0)),
            torch.stack([batch(), batch()]),
            id="vmap of grad",
        ),
        pytest.param(lambda f: vmap(f, (None, 0)), torch.stack([batch(), batch()]), id="vmap"),
    ],
)
def test_report_after_a_transformed_function_is_right_or_unknown(transform, samples):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).var() + chaos()

    transform(loss)(dict(model.named_parameters()), samples)
    for row, expected in zip(
        chaos.report().values(), by_autograd(model, batch(), 3.0), strict=True
    ):
        assert row["mean_s"] in (None, pytest.approx(expected.mean_s, rel=1e-6))
        assert row["gradient_share"] in (None, pytest.approx(expected.gradient_share, rel=1e-6))


@pytest.mark.usefixtures("fresh_compiler")
def test_an_uncompiled_step_gives_the_share_that_a_compiled_model_has_not():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(3):
        (compiled(x).var() + chaos()).backward()
    assert all("take one training step with" in row["note"] for row in chaos.report().values())
    assert chaos.critical_z(0.1)["fc1"].startswith("unknown: its inputs are measured in an")
    (model(x).var() + chaos()).backward()  # the fourth call, which would not be measured
    for row, expected in zip(chaos.report().values(), by_autograd(model, x, 3.0), strict=True):
        assert row["gradient_share"] == pytest.approx(expected.gradient_share, rel=1e-6)
        assert row["note"] is None
    assert chaos.critical_z(0.1)["fc1"] > 0


# Critical z


WITH_WEIGHTS = ["1", "2", "4"]  # the layers of `convolutions` that have a critical z


def convolutions():
    """Two convolutions and a linear layer, for images over time `[T, N, C, H, W]`."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(0, 1),
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(4, 6, 1, groups=2, bias=False),
        nn.Flatten(),
        nn.Linear(54, 5),
    )
    return model.double()


def images():
    return torch.randn(2, 3, 3, 7, 7, generator=torch.Generator().manual_seed(0)).double()


def measured(model, x, z=3.0, reduction="mean"):
    """A chaotic loss on the layers of `convolutions`, after one training step's backward pass."""
    chaos = ChaoticLoss(z, reduction=reduction).attach(model, WITH_WEIGHTS)
    (model(x).var() + chaos()).backward()
    return chaos


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_critical_z_of_attached_layers_is_that_of_the_formula(reduction):
    model = convolutions()
    x = images()
    found = measured(model, x, reduction=reduction).critical_z(0.1, momentum=0.5)
    assert list(found) == WITH_WEIGHTS
    for name in WITH_WEIGHTS:
        layer = model.get_submodule(name)
        h = model[: int(name)](x).detach()
        known = critical_z(
            eigenvalue_by_library(layer, h),
            lr=0.1,
            momentum=0.5,
            reduction=reduction,
            numel=layer(h).numel(),
            bias=layer.bias is not None,
        )
        assert found[name] == pytest.approx(known, rel=1e-5)


def test_finding_critical_z_leaves_model_and_records_alone():
    model = convolutions()
    weights = [p.clone() for p in model.parameters()]
    chaos = ChaoticLoss(3.0).attach(model, WITH_WEIGHTS)
    hooks = forward_hooks(model)
    (model(images()).var() + chaos()).backward()
    chaos.critical_z(0.1, momentum=0.5)
    assert records_kept(chaos) == [0, 0, 0]  # the power iteration runs the layers, too
    assert forward_hooks(model) == hooks
    for before, now in zip(weights, model.parameters(), strict=True):
        assert torch.equal(before, now)


def test_report_divides_z_by_the_critical_z():
    chaos = measured(convolutions(), images())
    found = chaos.critical_z(0.1, momentum=0.5)
    for name, row in chaos.report().items():
        assert row["z_over_critical"] == pytest.approx(3.0 / found[name])


def test_report_does_so_only_where_critical_z_is_known():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "lif1", "input").attach(model, "fc2")
    (model(batch()).var() + chaos()).backward()
    found = chaos.critical_z(0.1)
    report = chaos.report()
    assert report["lif1"]["z_over_critical"] is None
    assert report["fc2"]["z_over_critical"] == pytest.approx(3.0 / found["fc2"])


def test_critical_z_of_layers_with_other_hooks():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos().backward()
    plain = chaos.critical_z(0.1)
    model.fc1.register_full_backward_hook(lambda *_: None)
    model.fc1.register_forward_hook(lambda module, args, output: 2 * output)  # not to be run
    assert chaos.critical_z(0.1) == plain


def test_removing_forgets_the_critical_z():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos().backward()
    chaos.critical_z(0.1)
    chaos.remove()
    chaos.attach(network(), "fc1")
    assert chaos.report()["fc1"]["z_over_critical"] is None
    assert not chaos.limits


def test_a_layer_attached_after_a_removal_has_no_critical_z_even_when_measured():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos().backward()
    chaos.critical_z(0.1)
    chaos.remove()
    chaos.attach(model, "fc1")
    for _ in range(20):  # as far as the next call that is measured
        model(batch())
        chaos().backward()
    row = chaos.report()["fc1"]
    assert row["z"] == 10.0
    assert row["z_over_critical"] is None


# Where critical z does not hold


def with_and_without_formula(model):
    """Chaotic loss on the output of a linear layer, and on two things without a formula."""
    return (
        ChaoticLoss(3.0)
        .attach(model, "fc1")
        .attach(model, "lif1", "membrane")
        .attach(model, "fc2", "input")
    )


def test_critical_z_needs_a_measured_step():
    found = with_and_without_formula(network()).critical_z(0.1)
    assert found["fc1"].startswith(
        "unknown: its inputs are measured in an uncompiled training step"
    )


def test_critical_z_takes_learning_rate_and_momentum_from_the_optimizer():
    model = network()
    chaos = with_and_without_formula(model)
    (model(batch()).var() + chaos()).backward()
    found = chaos.critical_z(torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.6))
    assert found["fc1"] > 0
    assert found["fc1"] == pytest.approx(chaos.critical_z(0.2, 0.6)["fc1"])


def test_critical_z_says_which_layers_have_no_formula():
    model = network()
    chaos = with_and_without_formula(model)
    (model(batch()).var() + chaos()).backward()
    found = chaos.critical_z(torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.6))
    line = "unknown: only the output of a linear or convolutional layer has a formula"
    assert found["lif1"] == line
    assert found["fc2"] == line


@pytest.mark.parametrize(
    "optimizer_of",
    [
        pytest.param(torch.optim.Adam, id="Adam"),
        pytest.param(torch.optim.RMSprop, id="RMSprop"),
        pytest.param(torch.optim.ASGD, id="ASGD"),
    ],
)
def test_critical_z_says_for_which_optimizers_it_does_not_hold(optimizer_of):
    model = network()
    chaos = with_and_without_formula(model)
    (model(batch()).var() + chaos()).backward()
    chaos.critical_z(0.1)
    optimizer = optimizer_of(model.parameters())
    line = f"unknown: {type(optimizer).__name__} is not"
    assert all(reason.startswith(line) for reason in chaos.critical_z(optimizer).values())
    assert chaos.report()["fc1"]["z_over_critical"] is None  # what was known is forgotten


@pytest.mark.parametrize("setting", [{"maximize": True}, {"momentum": 0.9, "dampening": 0.1}])
def test_critical_z_is_that_of_plain_momentum_only(setting):
    model = network()
    chaos = with_and_without_formula(model)
    (model(batch()).var() + chaos()).backward()
    found = chaos.critical_z(torch.optim.SGD(model.parameters(), lr=0.1, **setting))
    line = "unknown: SGD is not gradient descent with dampening or maximize"
    assert found["fc1"] == line


# Critical z of what is trained


def fully_attached(model):
    """A chaotic loss on the linear layers of a `network`, after one training step."""
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    (model(batch()).var() + chaos()).backward()
    return chaos


def sgd(parameters, **settings):
    return torch.optim.SGD(parameters, **{"lr": 0.2, **settings})


def known_limit(model, eigenvalue, **settings):
    """Of the first layer of a `network`, whose h has as many elements as the batch."""
    return critical_z(eigenvalue, 0.2, reduction="mean", numel=batch().numel(), **settings)


def rows_of_batch():
    """The inputs of the first layer, a row per sample and time step."""
    return batch().flatten(0, 1)


def largest_of(X):
    return torch.linalg.eigvalsh(X.T @ X)[-1].item()


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0.5},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 1.0},
        {"lr": torch.tensor(0.2, dtype=torch.float64)},
    ],
)
def test_critical_z_counts_all_that_the_optimizer_does(settings):
    model = network()
    chaos = fully_attached(model)
    found = chaos.critical_z(sgd(model.parameters(), **settings))
    eigenvalue = eigenvalue_by_library(model.fc1, rows_of_batch())
    numbers = {name: value for name, value in settings.items() if name != "lr"}
    assert found["fc1"] == pytest.approx(known_limit(model, eigenvalue, **numbers), rel=1e-5)
    assert found == chaos.critical_z(0.2, **numbers)


def test_a_frozen_weight_leaves_the_bias():
    model = network()
    chaos = fully_attached(model)
    model.fc1.weight.requires_grad_(False)
    expected = known_limit(model, len(rows_of_batch()))
    assert chaos.critical_z(0.2)["fc1"] == pytest.approx(expected, rel=1e-5)
    assert chaos.critical_z(sgd(model.parameters()))["fc1"] == pytest.approx(expected, rel=1e-5)


def test_a_frozen_bias_leaves_the_weight():
    model = network()
    chaos = fully_attached(model)
    model.fc1.bias.requires_grad_(False)
    expected = known_limit(model, largest_of(rows_of_batch()), bias=False)
    assert chaos.critical_z(0.2)["fc1"] == pytest.approx(expected, rel=1e-5)


def test_a_parameter_that_the_optimizer_does_not_hold_is_not_trained():
    model = network()
    chaos = fully_attached(model)
    expected = known_limit(model, largest_of(rows_of_batch()), bias=False)
    found = chaos.critical_z(sgd([model.fc1.weight]))
    assert found["fc1"] == pytest.approx(expected, rel=1e-5)
    assert found["fc2"] == "unknown: the optimizer holds none of its parameters"
    expected = known_limit(model, len(rows_of_batch()))
    assert chaos.critical_z(sgd([model.fc1.bias]))["fc1"] == pytest.approx(expected, rel=1e-5)


def test_a_frozen_layer_has_none_and_the_others_have_theirs():
    model = network()
    chaos = fully_attached(model)
    before = chaos.critical_z(sgd(model.parameters()))
    model.fc1.requires_grad_(False)
    for found in (chaos.critical_z(0.2), chaos.critical_z(sgd(model.fc2.parameters()))):
        assert found["fc1"] == "unknown: none of its parameters is trained"
        assert found["fc2"] == before["fc2"]


def test_every_layer_has_the_settings_of_its_group():
    model = network()
    chaos = fully_attached(model)
    groups = [
        {"params": model.fc1.parameters(), "lr": 0.1},
        {"params": model.fc2.parameters(), "momentum": 0.5, "weight_decay": 0.3},
    ]
    found = chaos.critical_z(sgd(groups))
    assert found["fc1"] == chaos.critical_z(0.1)["fc1"]
    assert found["fc2"] == chaos.critical_z(0.2, 0.5, 0.3)["fc2"]


def test_groups_that_part_weight_and_bias_need_the_same_settings():
    model = network()
    chaos = fully_attached(model)
    weights = {"params": [model.fc1.weight, model.fc2.weight]}
    biases = {"params": [model.fc1.bias, model.fc2.bias]}
    assert chaos.critical_z(sgd([weights, biases])) == chaos.critical_z(0.2)
    found = chaos.critical_z(sgd([{**weights, "weight_decay": 1e-4}, biases]))
    line = "unknown: the optimizer has different settings for its weight and its bias"
    assert set(found.values()) == {line}


class Wrapped(torch.optim.Optimizer):
    """An optimizer around another, as accelerate has it."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_an_optimizer_in_a_wrapper_is_looked_at_inside():
    model = network()
    chaos = fully_attached(model)
    optimizer = sgd(model.parameters(), momentum=0.5)
    assert chaos.critical_z(Wrapped(optimizer)) == chaos.critical_z(optimizer)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
        ({"lr": "0.1"}, "lr = '0.1': must be a number"),
        ({"momentum": 1.0}, r"momentum = 1.0: must be a number in \[0, 1\)"),
        ({"weight_decay": -0.1}, r"weight_decay = -0.1: must be a number in \[0, inf\)"),
        ({"nesterov": "True"}, "nesterov = 'True': must be True or False"),
    ],
)
def test_critical_z_refuses_settings_out_of_range(settings, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        ChaoticLoss(3.0).attach(network(), "fc*").critical_z(**{"lr": 0.1, **settings})


# Layers as they come: a number, infinity or a reason for each


class Mixed(nn.Module):
    """Layers of every kind, on the same inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.plain = nn.Linear(4, 3)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
        self.silent = nn.Linear(4, 3, bias=False)
        self.silent_with_bias = nn.Linear(4, 3)
        self.infinite = nn.Linear(4, 3, bias=False)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        h = self.plain(x) + self.normed(x) + self.last(x)
        h = h + self.silent(0 * x) + self.silent_with_bias(0 * x)
        return h, self.infinite(x * math.inf)


def test_no_layer_hides_the_answers_of_the_others():
    model = Mixed()
    x = torch.randn(20, 4)
    chaos = ChaoticLoss(3.0).attach(model, nn.Linear)
    h, _ = model(x)
    chaos()
    h.var().backward()
    found = chaos.critical_z(0.2)
    expected = {}
    for name, inputs in {"plain": x, "last": x, "silent_with_bias": 0 * x}.items():
        eigenvalue = eigenvalue_by_library(model.get_submodule(name), inputs)
        expected[name] = critical_z(eigenvalue, 0.2, reduction="mean", numel=60)
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
    assert found["silent"] == math.inf
    assert chaos.report()["silent"]["z_over_critical"] == 0
    line = "unknown: its weight is computed from other parameters, as under weight norm"
    assert found["normed"] == line
    assert found["infinite"].startswith("unknown: largest eigenvalue = ")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_critical_z_after_a_step_in_half_precision(dtype):
    model = network(dtype=torch.float32)
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    with torch.autocast("cpu", dtype):
        (model(x).float().var() + chaos()).backward()
        (under_autocast,) = chaos.critical_z(0.2).values()
    eigenvalue = eigenvalue_by_library(model.fc1.double(), x.double().flatten(0, 1))
    model.float()
    assert under_autocast == pytest.approx(known_limit(model, eigenvalue), rel=1e-4)
    model.to(dtype)
    (model(x.to(dtype)).float().var() + chaos()).backward()
    assert chaos.critical_z(0.2)["fc1"] == pytest.approx(under_autocast, rel=1e-2)


def test_critical_z_of_layers_of_spikingjelly_in_multi_step_mode():
    torch.manual_seed(0)
    layer = spikingjelly_layer.Conv2d(2, 3, 3, stride=2, step_mode="m")
    x = torch.randn(4, 5, 2, 7, 7)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(layer), "0")
    (layer(x).var() + chaos()).backward()
    flat = x.flatten(0, 1)
    eigenvalue = eigenvalue_by_library(layer, flat)
    known = critical_z(eigenvalue, 0.2, reduction="mean", numel=layer(x).numel())
    assert chaos.critical_z(0.2)["0"] == pytest.approx(known, rel=1e-5)


def test_spikes_are_kept_in_a_byte_each():
    torch.manual_seed(0)
    fc = nn.Linear(40, 3)
    spikes = (torch.rand(10, 5, 40) > 0.7).float()
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    (fc(spikes).var() + chaos()).backward()
    (kept,) = chaos.layers[0].measurement.inputs
    assert kept.nbytes == spikes.nbytes // 4
    eigenvalue = eigenvalue_by_library(fc, spikes.flatten(0, 1))
    known = critical_z(eigenvalue, 0.2, reduction="mean", numel=150)
    assert chaos.critical_z(0.2)["0"] == pytest.approx(known, rel=1e-5)


# What neurons do


class Fired(NamedTuple):
    """What the report should say of a layer of neurons."""

    firing_rate: float
    never_fires: float
    always_fires: float


def counted(spikes):
    """From the spikes of all steps and samples, [T, N, *]: unit by unit."""
    of_unit = spikes.detach().flatten(2).flatten(0, 1).T.tolist()  # [units, T * N]
    return Fired(
        firing_rate=sum(map(sum, of_unit)) / sum(map(len, of_unit)),
        never_fires=sum(not any(row) for row in of_unit) / len(of_unit),
        always_fires=sum(all(row) for row in of_unit) / len(of_unit),
    )


def fired(row):
    return Fired(row["firing_rate"], row["never_fires"], row["always_fires"])


def currents(*shape):
    """Some units never fire, some always, most at times."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, 0] = -1.0
    x[:, :, 1] = 3.0
    x[:, :, 2] = 3.0
    return x.requires_grad_()


class Sequence(nn.Module):
    """A layer of neurons run once per time step."""

    def __init__(self, neuron, spikes_of=lambda output: output):
        super().__init__()
        self.neuron = neuron
        self.spikes_of = spikes_of

    def forward(self, x):
        return torch.stack([self.spikes_of(self.neuron(x_t)) for x_t in x])


class WithState(nn.Module):
    """A layer of neurons whose state is passed on, once per time step."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x):
        state = None
        spikes = []
        for x_t in x:
            spike, state = self.neuron(x_t, state)
            spikes.append(spike)
        return torch.stack(spikes)


class Multistep(nn.Module):
    """A layer of neurons that takes all time steps at once."""

    def __init__(self, neuron, spikes_of=lambda output: output):
        super().__init__()
        self.neuron = neuron
        self.spikes_of = spikes_of

    def forward(self, x):
        return self.spikes_of(self.neuron(x))


def first(output):
    return output[0]


NEURONS = {
    "LIF": lambda: Multistep(LIF()),
    "LIF with v_seq": lambda: Multistep(LIF(store_v_seq=True)),
    "LIF, reference": lambda: Multistep(LIF(backend="reference")),
    "SpikingJelly": lambda: Multistep(spikingjelly_neuron.LIFNode(step_mode="m")),
    "SpikingJelly with v_seq": lambda: Multistep(
        spikingjelly_neuron.LIFNode(step_mode="m", store_v_seq=True)
    ),
    "SpikingJelly, one step": lambda: Sequence(spikingjelly_neuron.LIFNode()),
    "snnTorch": lambda: Sequence(snntorch.Leaky(beta=0.5, init_hidden=True)),
    "snnTorch with its potential": lambda: Sequence(
        snntorch.Leaky(beta=0.5, init_hidden=True, output=True), first
    ),
    "norse, one step": lambda: WithState(norse.LIFBoxCell()),
    "norse": lambda: Multistep(norse.LIF(), first),
}


@pytest.mark.parametrize("neuron_of", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("shape", [(6, 5, 8), (6, 5, 8, 2, 3)])
def test_firing_is_what_is_counted_unit_by_unit(neuron_of, shape):
    model = neuron_of()
    chaos = ChaoticLoss(3.0).attach(model, "neuron", "membrane")
    spikes = model(currents(*shape))
    (spikes.var() + chaos()).backward()
    (row,) = chaos.report().values()
    expected = counted(spikes)
    assert expected.never_fires >= 1 / 8
    assert 0 < expected.firing_rate < 1
    assert fired(row) == pytest.approx(expected)


@pytest.mark.parametrize("settings", [{}, {"v_threshold": 0.6, "gamma": 0.5}, {"decay": 0.0}])
def test_zero_surrogate_is_where_autograd_finds_none(settings):
    lif = LIF(store_v_seq=True, **settings)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0", "membrane")
    (lif(currents(6, 5, 8)).var() + chaos()).backward()
    u = (lif.v_seq.detach() - lif.v_threshold).requires_grad_()
    triangle(u, lif.gamma).sum().backward()
    expected = (u.grad == 0).double().mean().item()
    assert 0 < expected < 1
    assert chaos.report()["0"]["zero_surrogate"] == pytest.approx(expected)


def test_zero_surrogate_counts_what_has_just_become_zero():
    lif = LIF(store_v_seq=True, gamma=0.5)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0", "membrane")
    x = torch.tensor([[[0.5, 0.51, 1.0, 1.49, 1.5, 2.0]]])  # u = -gamma, ..., gamma and beyond
    (lif(x.requires_grad_()).sum() + chaos()).backward()
    assert chaos.report()["0"]["zero_surrogate"] == 0.5


def test_two_runs_of_a_layer_of_neurons_are_counted_together():
    lif = LIF(store_v_seq=True, decay=0.0)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0")
    runs = [  # [T, N = 1, 4 units], of two steps and of one
        torch.tensor([[[9.0, 1.2, 0.0, 9.0]], [[9.0, 0.5, 0.0, 9.0]]]),
        torch.tensor([[[9.0, 0.5, 0.5, 0.0]]]),
    ]
    for x in runs:
        lif(x.requires_grad_())
    chaos()
    row = chaos.report()["0"]
    assert fired(row) == pytest.approx(Fired(6 / 12, never_fires=1 / 4, always_fires=1 / 4))
    assert row["zero_surrogate"] == 8 / 12


@pytest.mark.parametrize("shapes", [[(2, 3, 4), (2, 3, 5)], [(2, 3, 0)]])
def test_neurons_that_are_not_the_same_in_every_run_have_no_shares(shapes):
    lif = LIF()
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0")
    chaos.attach(lif, lif, lambda module, inputs, output: 1 + module.v.sum())
    for shape in shapes:
        lif(torch.full(shape, 2.0, requires_grad=True))
    chaos()
    for row in chaos.report().values():
        assert fired(row) == (None, None, None)


class Kept(nn.Module):
    """Gives spikes, keeps a potential: what tells a layer of neurons."""

    def __init__(self, v):
        super().__init__()
        self.v = v

    def forward(self, spikes):
        return spikes


HALF = Fired(0.5, never_fires=0.5, always_fires=0.5)


@pytest.mark.parametrize(
    ("shape", "of_v", "known"),
    [
        pytest.param((3, 2), (2,), HALF, id="time and units"),
        pytest.param((3, 2), (3, 2), HALF, id="samples and units"),
        pytest.param((2,), (2,), HALF, id="units"),
        pytest.param((3, 5, 2), (5, 2), HALF, id="time, samples and units"),
        pytest.param((3, 5, 2), (3, 5, 2), HALF, id="samples and units in two dimensions"),
        pytest.param((3,), (), Fired(2 / 3, 0.0, 0.0), id="time alone"),
    ],
)
def test_units_are_what_is_left_beside_time_and_samples(shape, of_v, known):
    spikes = torch.ones(shape, dtype=torch.float64)
    spikes[..., 0] = 0.0  # of two units the first never fires; of three steps the first is silent
    neuron = Kept(torch.zeros(of_v))
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(neuron), "0")
    neuron(spikes.requires_grad_())
    chaos()
    assert fired(chaos.report()["0"]) == pytest.approx(known)


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0])
def test_one_value_that_is_no_spike_makes_a_layer_none_of_neurons(value):
    spikes = torch.ones(3, 2, 4, dtype=torch.float64)
    spikes[1, 1, 1] = value
    neuron = Kept(torch.zeros(2, 4))
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(neuron), "0")
    neuron(spikes.requires_grad_())
    neuron(torch.ones(3, 2, 4, requires_grad=True, dtype=torch.float64))
    chaos()
    assert fired(chaos.report()["0"]) == (None, None, None)


@pytest.mark.parametrize("of_v", [(5,), (2,), (4,), (3, 2), (2, 4, 1)])
def test_a_potential_of_another_shape_makes_none_either(of_v):
    neuron = Kept(torch.zeros(of_v))
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(neuron), "0")
    neuron(torch.ones(3, 2, 4, requires_grad=True))
    chaos()
    assert fired(chaos.report()["0"]) == (None, None, None)


def test_zero_surrogate_needs_the_potentials_before_the_reset():
    lif = LIF()
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0")
    (lif(currents(6, 5, 8)).var() + chaos()).backward()
    row = chaos.report()["0"]
    assert row["zero_surrogate"] is None
    assert row["firing_rate"] > 0


NO_NEURONS = {
    "linear": lambda: Multistep(nn.Linear(8, 8)),
    "steps of heights": lambda: Multistep(nn.Hardtanh()),
    "a leaky integrator": lambda: Multistep(norse.LI(), first),
    "recurrent": lambda: Multistep(nn.GRU(8, 8), first),
    "LSTM": lambda: Multistep(nn.LSTM(8, 8), first),
}


@pytest.mark.parametrize("layer_of", NO_NEURONS.values(), ids=NO_NEURONS)
def test_other_layers_do_not_fire(layer_of):
    model = layer_of().double()
    chaos = ChaoticLoss(3.0).attach(model, "neuron")
    (model(currents(6, 5, 8)).var() + chaos()).backward()
    row = chaos.report()["neuron"]
    assert fired(row) == (None, None, None)
    assert row["zero_surrogate"] is None


def test_firing_is_measured_with_the_rest_at_every_20th_call():
    lif = LIF()
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(lif), "0")
    seen = []
    for n in range(21):
        x = torch.full((3, 2, 4), 1.5 if n in (0, 7, 20) else 0.0, requires_grad=True)
        x.data[..., 0] = 0.0
        if n == 20:
            x.data[..., 1] = 0.0
        (lif(x).var() + chaos()).backward()
        seen.append(chaos.report()["0"]["always_fires"])
    assert seen == [0.75] * 20 + [0.5]


def test_neurons_that_all_fire_always_are_warned_of():
    lif = LIF()
    chaos = ChaoticLoss(1e-9).attach(nn.Sequential(lif), "0")
    (lif(torch.full((3, 2, 4), 1.5, requires_grad=True)).sum() + chaos()).backward()
    row = chaos.report()["0"]
    assert row["always_fires"] == 1
    assert row["warning"] == "every neuron fires always"


def test_a_neuron_less_is_not_warned_of():
    lif = LIF()
    chaos = ChaoticLoss(1e-9).attach(nn.Sequential(lif), "0")
    x = torch.full((3, 2, 4), 1.5)
    x[1, 1, 2] = 0.0
    (lif(x.requires_grad_()).var() + chaos()).backward()
    row = chaos.report()["0"]
    assert row["always_fires"] == 0.75
    assert row["warning"] is None


@pytest.mark.usefixtures("fresh_compiler")
def test_firing_in_a_compiled_model_is_not_known():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, LIF)
    (torch.compile(model, backend="aot_eager")(batch()).var() + chaos()).backward()
    assert fired(chaos.report()["lif1"]) == (None, None, None)


# Resuming, and logs


def resumed_from(chaos):
    """A chaotic loss on another `network`, by what a file would hold."""
    buffer = io.BytesIO()
    torch.save(chaos.state_dict(), buffer)
    buffer.seek(0)
    resumed = ChaoticLoss(1.0).attach(network(), "fc1").attach(network(), "lif1", "membrane")
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    return resumed


def test_the_report_survives_a_resume():
    model = network()
    chaos = ChaoticLoss(3.0, beta=0.9).attach(model, "fc1").attach(model, "lif1", "membrane")
    for _ in range(3):
        (model(batch()).var() + chaos()).backward()
        chaos.step()
    found = chaos.critical_z(0.1)
    resumed = resumed_from(chaos)
    assert resumed.report() == chaos.report()
    assert resumed.report()["fc1"]["z_over_critical"] == pytest.approx(3.0 / found["fc1"])
    assert resumed.limits == chaos.limits
    assert resumed_from(resumed).report() == chaos.report()


def test_a_state_that_does_not_say_whether_a_call_was_the_first_is_taken():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    (model(batch()).var() + chaos()).backward()
    state = chaos.state_dict()
    del state["measured"][0]["numbers"]["is_first"]
    chaos.load_state_dict(state)
    assert chaos.report()["fc1"]["z"] == 3.0


def test_only_the_first_report_of_a_training_has_the_lower_limit():
    fc = line(1.0)
    x = column(1.0)

    def warning_at(share, calls):
        """What the report says after so many calls, where the chaotic loss has this share."""
        with ChaoticLoss(4.0).attach(nn.Sequential(fc), "0") as chaos:
            slope = 4.0 * abs(sigmoid(1.0) - chaos.I0) / chaos.scale
            for _ in range(calls):
                other = slope * (1 - share) / share * fc(x).sum()
                (other + chaos()).backward()
            report = chaos.report()["0"]
            chaos.load_state_dict(chaos.state_dict())
            assert chaos.report()["0"] == report
        assert report["gradient_share"] == pytest.approx(share, rel=1e-5)
        return report["warning"]

    for calls in (1, 20):  # the second measured call is the 21st
        assert "30 % of this layer's gradient at first" in warning_at(0.3, calls)
        assert warning_at(0.05, calls) is None
    assert warning_at(0.3, 21) is None
    assert "60 % of this layer's gradient" in warning_at(0.6, 21)


def test_a_layer_that_is_attached_later_has_a_first_report_of_its_own():
    model = nn.Sequential(line(1.0), line(1.0))
    with ChaoticLoss(1e6).attach(model, "0") as chaos:
        (model(column(1.0)).sum() + chaos()).backward()
        chaos.attach(model, "1")
        for _ in range(20):
            (model(column(1.0)).sum() + chaos()).backward()
        warnings_of = [layer["warning"] for layer in chaos.report().values()]
    assert [" at first" in warning for warning in warnings_of] == [False, True]


@pytest.mark.usefixtures("fresh_compiler")
def test_the_first_share_of_a_compiled_model_is_that_of_its_uncompiled_step():
    model = network()
    chaos = ChaoticLoss(1e6).attach(model, "fc1")
    compiled = torch.compile(model, backend="aot_eager")
    (compiled(batch()).var() + chaos()).backward()
    assert chaos.report()["fc1"]["gradient_share"] is None
    (model(batch()).var() + chaos()).backward()
    assert "of this layer's gradient at first" in chaos.report()["fc1"]["warning"]


def test_a_resume_forgets_what_was_measured_before():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    before = chaos.state_dict()
    (model(batch()).var() + chaos()).backward()
    chaos.critical_z(0.1)
    chaos.load_state_dict(before)
    assert chaos.report()["fc1"]["step"] is None
    assert not chaos.limits


def test_a_state_without_measurements_is_taken():
    chaos = ChaoticLoss(3.0).attach(network(), "fc1")
    state = chaos.state_dict()
    del state["measured"]
    chaos.load_state_dict(state)
    assert chaos.report()["fc1"]["step"] is None


def test_scalars_are_the_numbers_of_the_report():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1").attach(model, "lif2", "membrane")
    (model(batch()).var() + chaos()).backward()
    scalars = chaos.scalars()
    report = chaos.report()
    assert all(type(value) is float for value in scalars.values())
    assert scalars["fc1/mean_s"] == report["fc1"]["mean_s"]
    assert scalars["lif2/firing_rate"] == report["lif2"]["firing_rate"]
    assert "fc1/firing_rate" not in scalars
    assert not any(tag.endswith(("/note", "/warning")) for tag in scalars)
    known = [value for row in report.values() for value in row.values()]
    assert len(scalars) == sum(isinstance(value, float | int) for value in known)


def test_a_resume_forgets_what_was_resumed_before():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    before = chaos.state_dict()
    (model(batch()).var() + chaos()).backward()
    chaos.critical_z(0.1)
    chaos.load_state_dict(chaos.state_dict())
    assert chaos.report()["fc1"]["step"] == 0
    chaos.load_state_dict(before)
    assert chaos.report()["fc1"]["step"] is None
    assert not chaos.limits


def test_a_state_holds_a_measurement_number_by_number():
    fc = line(2.0)
    chaos = ChaoticLoss(4.0, beta=0.5).attach(nn.Sequential(fc, LIF(store_v_seq=True)), "*")
    chaos.step()
    fc_and_lif = chaos.layers[0].module, chaos.layers[1].module
    x = column(0.25, 1.0).unsqueeze(0)  # one time step, two samples: h = 0.5 and 2
    (fc_and_lif[1](fc_and_lif[0](x)).sum() + chaos()).backward()
    chaos.critical_z(0.5)
    of_fc, of_lif = chaos.state_dict()["measured"]
    mean_s = (sigmoid(0.5) + sigmoid(2.0)) / 2
    share = of_fc["numbers"].pop("gradient_share")
    assert 0 < share < 1
    assert of_fc["numbers"] == {
        "step": 1,
        "z": 2.0,
        "mean_s": pytest.approx(mean_s, rel=1e-6),
        "note": None,
        "is_first": True,
    }
    assert set(of_fc["activity"].values()) == {None}
    known = critical_z(0.25**2 + 1.0, 0.5, reduction="mean", numel=2, bias=False)
    assert of_fc["critical_z"] == (pytest.approx(known, rel=1e-5), "")
    assert of_lif["activity"] == {
        "firing_rate": 0.5,
        "never_fires": 0.0,
        "always_fires": 0.0,
        "zero_surrogate": 0.5,  # at h = 2 it has just become zero, at 0.5 it is not
    }
    assert of_lif["critical_z"][0] is None
    assert of_lif["critical_z"][1].startswith("unknown: only the output of a linear")


# Warnings


def warning_of(
    mean_s=0.5,
    gradient_share=None,
    always_fires=None,
    z=4.0,
    limit=None,
    I0=0.65,
    is_first=False,
):
    """The warning of a report with these numbers."""
    numbers = Numbers(
        step=0,
        z=z,
        mean_s=mean_s,
        gradient_share=gradient_share,
        note=None,
        activity=Activity(always_fires=always_fires),
        is_first=is_first,
    )
    return report_on(numbers, None if limit is None else CriticalZ(limit), I0)["warning"]


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({}, None),
        ({"gradient_share": 0.5}, None),
        ({"gradient_share": 0.51}, "the chaotic loss is 51 % of this layer's gradient"),
        ({"gradient_share": 1.0}, "the chaotic loss is 100 % of this layer's gradient"),
        ({"gradient_share": 0.0}, None),
        ({"gradient_share": 0.1, "is_first": True}, None),
        (
            {"gradient_share": 0.11, "is_first": True},
            "the chaotic loss is 11 % of this layer's gradient at first",
        ),
        # it has arrived where 9/10 of the way from 1/2 to I0 lie behind it, or beyond
        ({"mean_s": 0.634}, None),
        ({"mean_s": 0.636}, "mean s has arrived at I0 = 0.65"),
        ({"mean_s": 0.664}, "mean s has arrived at I0 = 0.65"),
        ({"mean_s": 0.666}, None),
        ({"mean_s": 0.269, "I0": 0.25}, "mean s has arrived at I0 = 0.25"),
        ({"mean_s": 0.276, "I0": 0.25}, None),
        ({"mean_s": 0.5, "I0": 0.5}, None),  # there s starts
        ({"limit": 4.0}, None),
        ({"limit": 3.9}, "it is 1.03 times the critical z"),
        ({"limit": 0.5}, "it is 8 times the critical z"),
        ({"limit": math.inf}, None),
    ],
)
def test_a_strength_is_called_too_large_by_each_of_three_signs(numbers, line):
    expected = None if line is None else f"z = 4 is too large: {line}"
    assert warning_of(**numbers) == expected


def test_all_warnings_stand_in_one_line():
    line = warning_of(0.65, 0.9, always_fires=1.0, z=10.0, limit=4.0)
    assert line == (
        "z = 10 is too large: the chaotic loss is 90 % of this layer's gradient, "
        "mean s has arrived at I0 = 0.65, it is 2.5 times the critical z; "
        "every neuron fires always"
    )


@pytest.mark.parametrize("always_fires", [None, 0.0, 0.99, 1.0])
def test_of_neurons_only_all_that_fire_always_are_warned_of(always_fires):
    expected = "every neuron fires always" if always_fires == 1 else None
    assert warning_of(always_fires=always_fires) == expected


def test_a_report_puts_every_number_in_its_place():
    activity = Activity(0.1, 0.2, 0.3, 0.4)
    numbers = Numbers(7, 6.0, 0.55, 0.5, "why", activity)
    assert report_on(numbers, CriticalZ(12.0), 0.7) == {
        "step": 7,
        "z": 6.0,
        "mean_s": 0.55,
        "I0": 0.7,
        "gradient_share": 0.5,
        "z_over_critical": 0.5,
        "firing_rate": 0.1,
        "never_fires": 0.2,
        "always_fires": 0.3,
        "zero_surrogate": 0.4,
        "note": "why",
        "warning": None,
    }


class Trained(NamedTuple):
    """What became of a network on the digits."""

    accuracy: float  # on held-out digits
    row: dict  # of the report, for its hidden layer


def trained_on_digits(z, steps=60):
    """The digits, 64-64-10, trained by gradient descent with a chaotic loss."""
    from study.training.train import TASKS, new_net

    task = TASKS["digits_1"]
    data = task.data()
    model = new_net(task, 0)
    chaos = ChaoticLoss(z).attach(model, "hidden.*")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for n in range(steps):
        first = 50 * (n % 20)
        rows = slice(first, first + 50)
        optimizer.zero_grad()
        scores = model(data.x_train[rows])[0]
        loss = nn.functional.cross_entropy(scores, data.y_train[rows]) + chaos()
        loss.backward()
        optimizer.step()
    scores = model.eval()(data.x_val)[0]
    accuracy = (scores.argmax(1) == data.y_val).double().mean().item()
    return Trained(accuracy, chaos.report()["hidden.0"])


@pytest.mark.usefixtures("one_thread")
def test_a_strength_that_lets_the_network_learn_is_not_warned_of():
    good = trained_on_digits(15.0)
    assert good.accuracy > 0.85
    assert good.row["warning"] is None


@pytest.mark.usefixtures("one_thread")
def test_a_strength_ten_times_too_large_is_warned_of():
    lost = trained_on_digits(150.0)
    assert lost.accuracy < 0.3
    assert lost.row["warning"].startswith("z = 150 is too large: ")


@pytest.mark.usefixtures("one_thread")
def test_the_warning_comes_at_the_second_measurement_already():
    assert trained_on_digits(150.0, steps=21).row["warning"]


def test_a_strength_above_the_critical_one_is_warned_of():
    model = nn.Linear(4, 3)
    chaos = ChaoticLoss(100.0, reduction="sum").attach(model, model)
    (model(torch.randn(50, 4)).var() * 1e6 + chaos()).backward()
    (limit,) = chaos.critical_z(1.0).values()
    (row,) = chaos.report().values()
    assert row["z_over_critical"] == 100.0 / limit > 1
    assert "times the critical z" in row["warning"]


@pytest.mark.parametrize("read", ["output", "input", "membrane"])
def test_firing_of_a_layer_is_known_however_it_is_read(read):
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "lif1", read)
    model.eval()(x)
    model.train()
    for _ in range(2):
        model(x)
        chaos()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.eval()(x)
        model.train()
    spikes = model.lif1(model.fc1(x))
    (row,) = chaos.report().values()
    assert row["firing_rate"] == pytest.approx(spikes.mean().item(), rel=1e-12)
