"""ChaoticLoss as its users see it: the authors' loss and gradients, annealing, state, bad input."""

import io
import math

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
    ],
)
def test_refuses_bad_attachments(arguments, line):
    chaos = ChaoticLoss(1.0)
    with pytest.raises(ValueError, match=line):
        chaos.attach(network(), "fc1", **arguments)
