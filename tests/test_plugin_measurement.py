"""What a ChaoticLoss measures and reports, held against autograd; the critical z of its layers."""

from typing import NamedTuple

import pytest
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
from torch import nn
from torch.func import functional_call, grad, vmap

from csbp_core import ChaoticLoss, critical_z


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
        "warning": None,
    }


def test_the_gradient_share_is_not_known_before_the_backward_pass():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    loss = model(batch()).var() + chaos()
    assert chaos.report()["fc1"]["gradient_share"] is None
    loss.backward()
    assert chaos.report()["fc1"]["gradient_share"] is not None


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


def test_a_chaotic_loss_with_a_backward_pass_of_its_own_has_its_share():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "lif2", "input")
    out = model(x)
    loss = chaos()
    out.var().backward(retain_graph=True)
    loss.backward()
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
        pytest.param(
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), id="Nesterov"
        ),
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


# Warnings


class Trained(NamedTuple):
    """What became of a network on the digits."""

    accuracy: float  # on held-out digits
    row: dict  # of the report, for its hidden layer


def trained_on_digits(z, steps=60):
    """The digits, 64-64-10, trained by gradient descent with a chaotic loss."""
    from study.train import TASKS, new_net

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
