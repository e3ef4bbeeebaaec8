"""ChaoticLoss as its users see it: the authors' loss and gradients, annealing, state, bad input."""

import io
import math
import warnings

import pytest
import torch
from helpers import (
    assert_same,
    authors_loss,
    batch,
    document_network,
    network,
    records_kept,
    rewritten,
    watching,
)
from torch import nn

from csbp_core import LIF, ChaoticLoss

# Formula


@pytest.mark.parametrize(
    ("layers", "read", "store_v_seq", "inside"),
    [
        ("fc*", "output", False, "currents"),
        ("lif*", "input", False, "currents"),
        ("lif*", "membrane", True, "before_reset"),
        ("lif*", "membrane", False, "after_reset"),
    ],
)
@pytest.mark.parametrize(("reduction", "clamp"), [("mean", (-10.0, 9.9)), ("sum", None)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("depth", [2, 20])
def test_loss_and_gradients_are_the_authors(
    layers, read, store_v_seq, inside, reduction, clamp, dtype, tolerance, depth
):
    model = network(depth, store_v_seq, dtype=dtype)
    x = batch(dtype=dtype)
    known = rewritten(model, x)
    assert max(h.max() for h in known.currents) > 9.9
    chaos = ChaoticLoss(10.0, reduction=reduction, clamp=clamp).attach(model, layers, read)
    ours = model(x).mean() + chaos()
    theirs = known.output.mean() + authors_loss(getattr(known, inside), 10.0, reduction, clamp)
    assert_same(model, ours, theirs, tolerance)


@pytest.mark.parametrize(
    ("layer", "read", "inside"), [("0", "output", "current"), ("2", "membrane", "v")]
)
def test_the_documents_network_and_sum(layer, read, inside):
    torch.manual_seed(0)
    steps = 8
    image = 3 * torch.rand(2, 3, 16, 16, dtype=torch.float64)
    conv = nn.Conv2d(3, 8, 1, dtype=torch.float64)
    fc = nn.Linear(2048, 10, dtype=torch.float64)
    model = nn.Sequential(
        conv,
        nn.Unflatten(0, (steps, 2)),  # [T * N, C, H, W] -> [T, N, C, H, W]
        LIF(decay=0.5),
        nn.Flatten(2),
        fc,
    )
    chaos = ChaoticLoss(10.0, reduction="sum").attach(model, layer, read)
    output = model(image.repeat(steps, 1, 1, 1)).mean(0)
    known = document_network(image, conv, fc, steps)
    theirs = known.output.sum() + authors_loss([getattr(known, inside)], reduction="sum")
    assert_same(model, output.sum() + chaos(), theirs)


def test_mean_runs_over_all_elements_of_runs_of_any_size():
    fc = nn.Linear(6, 6, dtype=torch.float64)
    inputs = [batch(N=n, seed=n) for n in (1, 2, 5)]
    together = torch.cat([fc(x).flatten() for x in inputs])
    chaos = ChaoticLoss(10.0).attach(fc, fc)
    for x in inputs:
        fc(x)
    assert_same(fc, chaos(), authors_loss([together]))


# Annealing


def test_z_after_n_steps_is_the_published_one():
    chaos = ChaoticLoss(10.0, beta=0.9)
    for n in range(8):
        assert chaos.z == chaos.z_at(n) == pytest.approx(10.0 * 0.9**n, rel=1e-15)
        chaos.step()


def test_the_loss_after_n_steps_has_z_after_n_steps():
    model = network()
    x = batch()
    (current, _) = rewritten(model, x).currents
    chaos = ChaoticLoss(10.0, beta=0.9).attach(model, "fc1")
    for n in range(8):
        model(x)
        expected = authors_loss([current], 10.0 * 0.9**n).item()
        assert chaos().item() == pytest.approx(expected, rel=1e-12)
        chaos.step()


def test_after_a_half_life_z_is_half():
    chaos = ChaoticLoss(10.0, beta=0.9)
    assert chaos.z_at(chaos.half_life) == pytest.approx(5.0, rel=1e-12)
    assert ChaoticLoss(1.0, beta=0.5).half_life == 1.0
    assert ChaoticLoss(1.0).half_life == math.inf


def test_z_is_zero_below_the_cutoff():
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.2)
    for n, z in enumerate([1.0, 0.5, 0.25, 0.0, 0.0, 0.0]):
        assert chaos.z == chaos.z_at(n) == z
        chaos.step()


def test_below_the_cutoff_a_layer_costs_nothing_and_the_others_go_on():
    model = network()
    x = batch()
    first, second = rewritten(model, x).currents
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.2).attach(model, "fc1").attach(model, "fc2", z=4.0)
    strengths_of_first = [1.0, 0.5, 0.25, 0.0, 0.0, 0.0]
    strengths_of_second = [4.0, 2.0, 1.0, 0.5, 0.25, 0.0]
    for z1, z2 in zip(strengths_of_first, strengths_of_second, strict=True):
        model(x)
        expected = authors_loss([first], z1) + authors_loss([second], z2)
        assert chaos().item() == pytest.approx(expected.item(), rel=1e-12)
        chaos.step()
    model(x)
    assert records_kept(chaos) == [0, 0]


def test_below_the_cutoff_a_layer_is_not_even_read():
    model = network()
    outputs = []
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.2).attach(model, "fc1", watching(outputs))
    chaos.attach(model, "fc2", z=4.0)
    reads = []
    for _ in range(6):
        model(batch())
        chaos()
        chaos.step()
        reads.append(len(outputs))
    assert reads == [1, 2, 3, 3, 3, 3]


def test_a_step_forgets_what_was_not_used():
    model = network()
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.9).attach(model, "fc1")
    model(batch())
    chaos.step()
    assert records_kept(chaos) == [0]
    assert chaos() == 0


# Set on the way


def test_dividing_z_acts_on_every_layer_from_now_on():
    model = network()
    x = batch()
    first, second = rewritten(model, x).currents
    chaos = ChaoticLoss(12.0, beta=0.5).attach(model, "fc1").attach(model, "fc2", z=36.0)
    strengths = [(12.0, 36.0), (6.0, 18.0), (1.0, 3.0), (0.5, 1.5)]
    for n, (z1, z2) in enumerate(strengths):
        if n == 2:
            chaos.z /= 3
        model(x)
        expected = authors_loss([first], z1) + authors_loss([second], z2)
        assert chaos().item() == pytest.approx(expected.item(), rel=1e-12)
        assert chaos.z == pytest.approx(z1, rel=1e-15)
        assert chaos.report()["fc1"]["z"] == 12.0  # of the first call, which is measured
        chaos.step()
    assert [chaos.z_at(n) for n in range(4)] == [12.0, 6.0, 1.0, 0.5]
    assert chaos.z_start == 12.0


def test_setting_beta_acts_on_the_loss_from_now_on():
    model = network()
    x = batch()
    (current, _) = rewritten(model, x).currents
    chaos = ChaoticLoss(8.0, beta=0.5).attach(model, "fc1")
    for n, z in enumerate([8.0, 4.0, 1.0, 0.25]):
        if n == 1:
            chaos.beta = 0.25
            assert chaos.half_life == 0.5
        model(x)
        assert chaos().item() == pytest.approx(authors_loss([current], z).item(), rel=1e-12)
        chaos.step()


def test_a_layer_attached_later_is_as_strong_as_those_before():
    model = network()
    chaos = ChaoticLoss(8.0).attach(model, "fc1")
    chaos.z = 2.0
    chaos.attach(model, "fc2").attach(model, "lif1", "membrane", z=16.0)
    model(batch())
    chaos()
    assert [row["z"] for row in chaos.report().values()] == [2.0, 2.0, 4.0]


def test_z_may_be_set_between_the_forward_pass_and_the_call():
    model = network()
    x = batch()
    chaos = ChaoticLoss(8.0).attach(model, "fc1")
    model(x)
    chaos.z = 2.0
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents[:1], 2.0))


def test_setting_z_switches_layers_off_and_on():
    model = network()
    chaos = ChaoticLoss(8.0, cutoff=1.0).attach(model, "fc1")
    for z, records in ((0.0, [0]), (4.0, [1]), (0.5, [0])):
        chaos.z = z
        model(batch())
        assert records_kept(chaos) == records
        chaos.step()


def test_what_was_set_survives_a_checkpoint():
    model = network()
    chaos = ChaoticLoss(12.0, beta=0.5).attach(model, "fc1").attach(model, "fc2", z=36.0)
    chaos.step()
    chaos.z /= 3
    chaos.step()
    chaos.beta = 0.9
    other = ChaoticLoss(1.0).attach(network(), ["fc1", "fc2"])
    (state,) = saved_and_loaded([chaos])
    other.load_state_dict(state)
    for z_start in (None, 36.0):
        strengths = [chaos.z_at(n, z_start) for n in range(9)]
        assert [other.z_at(n, z_start) for n in range(9)] == strengths
    assert other.z == chaos.z == pytest.approx(1.0, rel=1e-15)
    assert other.beta == 0.9


def test_a_state_from_before_z_could_be_set_is_loaded():
    model = network()
    chaos = ChaoticLoss(12.0, beta=0.5).attach(model, "fc1")
    chaos.step()
    old = chaos.state_dict()
    del old["annealing"]
    other = ChaoticLoss(1.0).attach(network(), "fc1")
    other.load_state_dict(old)
    assert (other.z, other.z_start, other.beta, other.steps) == (6.0, 12.0, 0.5, 1)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("z", -1.0, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ("z", math.nan, r"^z = nan: must be a number in \[0, inf\)$"),
        ("z", "3", r"^z = '3': must be a number"),
        ("z", True, r"^z = True: must be a number"),
        ("beta", 0.0, r"^beta = 0.0: must be a number in \(0, 1\]$"),
        ("beta", 1.5, r"^beta = 1.5: must be a number in \(0, 1\]$"),
    ],
)
def test_refuses_a_strength_or_a_beta_out_of_range(name, value, line):
    chaos = ChaoticLoss(8.0, beta=0.5)
    with pytest.raises(ValueError, match=line):
        setattr(chaos, name, value)
    assert (chaos.z, chaos.beta) == (8.0, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "z_start",
        "steps",
        "calls",
        "layers",
        "I0",
        "scale",
        "reduction",
        "clamp",
        "cutoff",
        "limits",
        "half_life",
    ],
)
def test_other_attributes_cannot_be_set(name):
    chaos = ChaoticLoss(8.0, beta=0.5).attach(network(), "fc1")
    before = getattr(chaos, name)
    with pytest.raises(AttributeError, match=name):
        setattr(chaos, name, 3)
    assert getattr(chaos, name) == before


# A zero


def past_the_cutoff():
    model = network()
    return model, ChaoticLoss(0.5, cutoff=1.0).attach(model, "fc*"), batch()


def in_eval_mode():
    model = network().eval()
    return model, ChaoticLoss(1.0).attach(model, "fc*"), batch()


def of_an_empty_batch():
    model = network()
    return model, ChaoticLoss(1.0).attach(model, "fc*"), batch(N=0)


@pytest.mark.filterwarnings("ignore:every layer")
@pytest.mark.parametrize("case", [past_the_cutoff, in_eval_mode, of_an_empty_batch])
def test_a_zero_can_be_differentiated(case):
    model, chaos, x = case()
    model(x)
    loss = chaos()
    assert loss == 0
    loss.backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("transform", [torch.func.grad, torch.vmap])
def test_past_the_cutoff_it_is_zero_inside_a_transform(transform):
    model, chaos, x = past_the_cutoff()

    def loss(x):
        model(x)
        return chaos()

    assert not transform(loss)(x).any()


def test_under_no_grad_a_zero_has_no_gradient():
    _, chaos, _ = past_the_cutoff()
    with torch.no_grad():
        assert not chaos().requires_grad


def test_an_empty_run_counts_for_nothing_beside_others():
    fc = nn.Linear(6, 6, dtype=torch.float64)
    x = batch()
    chaos = ChaoticLoss(10.0).attach(fc, fc)
    for part in (x[:, :0], x, x[:0]):
        fc(part)
    assert_same(fc, chaos(), authors_loss([fc(x)]))
    (row,) = chaos.report().values()
    known_s = torch.sigmoid(fc(x) / 10).mean().item()
    assert row["mean_s"] == pytest.approx(known_s, rel=1e-6)


def test_a_layer_that_is_empty_leaves_the_others():
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0, reduction="sum").attach(model, ["fc1", "fc2"])
    model.fc1(x[:0])
    h = model.fc2(x)
    assert_same(model, chaos(), authors_loss([h], reduction="sum"))


# Warned of once


def test_a_call_in_eval_mode_is_warned_of_once():
    model, chaos, x = in_eval_mode()
    model(x)
    with pytest.warns(UserWarning, match=r"eval mode.*model.train\(\)"):
        chaos()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
        chaos()


@pytest.mark.parametrize("case", ["no_grad", "one layer trains", "cutoff"])
def test_an_evaluation_as_it_should_be_is_not_warned_of(case):
    model, chaos, x = past_the_cutoff() if case == "cutoff" else in_eval_mode()
    model.fc1.train(case == "one layer trains")
    with warnings.catch_warnings(), torch.set_grad_enabled(case != "no_grad"):
        warnings.simplefilter("error")
        model(x)
        chaos()


# State


def training(z, beta):
    """A model, its optimizer and its chaotic loss."""
    model = network()
    chaos = ChaoticLoss(z, beta, clamp=(-10, 9.9))
    chaos.attach(model, "fc1").attach(model, "lif2", "membrane", z=z / 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, optimizer, chaos


def train(model, optimizer, chaos, steps):
    for n in steps:
        optimizer.zero_grad()
        loss = model(batch(seed=n)).var() + chaos()
        loss.backward()
        optimizer.step()
        chaos.step()


def saved_and_loaded(parts):
    """The states of the parts of a training, through a file."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resume_is_exact():
    whole = training(20.0, 0.93)
    train(*whole, range(25))

    half = training(20.0, 0.93)
    train(*half, range(10))
    resumed = training(1.0, 0.5)  # all of it comes from the file
    for part, state in zip(resumed, saved_and_loaded(half), strict=True):
        part.load_state_dict(state)
    assert repr(resumed[2]) == repr(half[2])
    train(*resumed, range(10, 25))

    model, _, chaos = whole
    assert (network().fc1.weight - model.fc1.weight).abs().max() > 0.01
    for expected, weight in zip(model.parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert resumed[2].state_dict() == chaos.state_dict()
    assert resumed[2].report() == chaos.report()  # measured at the same call


def test_a_state_switches_layers_off_and_on():
    model = network()
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.4).attach(model, "fc1")
    early = chaos.state_dict()
    chaos.step()
    chaos.step()
    late = chaos.state_dict()
    for state, records in ((early, [1]), (late, [0])):
        chaos.load_state_dict(state)
        model(batch())
        assert records_kept(chaos) == records


@pytest.mark.parametrize(
    ("layers", "read"),
    [(["fc1"], "output"), (["fc2", "fc1"], "output"), (["fc1", "fc2"], "input")],
    ids=["fewer", "in another order", "read otherwise"],
)
def test_state_of_other_layers_is_refused_and_changes_nothing(layers, read):
    model = network()
    state = ChaoticLoss(10.0, beta=0.5).attach(model, ["fc1", "fc2"]).state_dict()
    other = ChaoticLoss(1.0).attach(model, layers, read)
    with pytest.raises(ValueError, match=r"^state of layers .*fc1.*fc2.*attached are"):
        other.load_state_dict(state)
    assert other.z == 1.0


# Bad input


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"z": -1.0}, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ({"z": math.nan}, r"^z = nan: must be a number in \[0, inf\)$"),
        ({"z": "10"}, r"^z = '10': must be a number"),
        ({"beta": 0.0}, r"^beta = 0.0: must be a number in \(0, 1\]$"),
        ({"beta": 1.01}, r"^beta = 1.01: must be a number in \(0, 1\]$"),
        ({"I0": 1.0}, r"^I0 = 1.0: must be a number in \(0, 1\)$"),
        ({"scale": 0}, r"^scale = 0: must be a number in \(0, inf\)$"),
        ({"cutoff": -0.1}, r"^cutoff = -0.1: must be a number in \[0, inf\)$"),
        ({"reduction": "none"}, "^reduction = 'none': must be one of mean, sum$"),
        (
            {"clamp": (9.9, -10)},
            r"^clamp = \(9.9, -10\): must be \(low, high\) with low < high, or None$",
        ),
        ({"clamp": (-10,)}, r"^clamp = \(-10,\): must be"),
        ({"clamp": 10.0}, r"^clamp = 10.0: must be"),
        ({"clamp": ("low", "mid")}, r"^clamp = \('low', 'mid'\): must be"),
    ],
)
def test_refuses_bad_settings(arguments, line):
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(**{"z": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"read": "outputs"}, "^read = 'outputs': must be one of output, input, membrane$"),
        ({"z": -1.0}, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ({"z": "3"}, r"^z = '3': must be a number"),
    ],
)
def test_refuses_bad_attachments(arguments, line):
    chaos = ChaoticLoss(1.0)
    with pytest.raises(ValueError, match=line):
        chaos.attach(network(), "fc1", **arguments)
