"""ChaoticLoss as its users see it: the authors' loss and gradients, annealing, state, bad input."""

import copy
import gc
import inspect
import io
import math
import re
import warnings

import numpy as np
import pytest
import torch
from helpers import (
    assert_same,
    authors_loss,
    batch,
    document_network,
    eigenvalue_by_library,
    forward_hooks,
    network,
    records_kept,
    rewritten,
    watching,
)
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from csbp_core import LIF, ChaoticLoss, critical_z

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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [(1, 2, 5), (3, 1)])
def test_it_runs_over_all_elements_of_runs_of_any_size(sizes, reduction):
    fc = nn.Linear(6, 6, dtype=torch.float64)
    inputs = [batch(N=n, seed=n) for n in sizes]
    together = torch.cat([fc(x).flatten() for x in inputs])
    chaos = ChaoticLoss(10.0, reduction=reduction).attach(fc, fc)
    for x in inputs:
        fc(x)
    assert_same(fc, chaos(), authors_loss([together], reduction=reduction))


def test_a_single_element_counts():
    fc = nn.Linear(1, 1, dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    chaos = ChaoticLoss(10.0).attach(fc, fc)
    fc(x)
    assert_same(fc, chaos(), authors_loss([fc(x)]))
    assert chaos.calls == 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_I0_and_scale_are_those_of_the_formula(reduction):
    fc = nn.Linear(6, 6, dtype=torch.float64)
    chaos = ChaoticLoss(3.0, I0=0.3, scale=4.0, reduction=reduction).attach(fc, fc)
    s = torch.sigmoid(fc(batch()) / 4)
    known = -3 * (0.3 * torch.log(s) + 0.7 * torch.log(1 - s))
    assert_same(fc, chaos(), getattr(known, reduction)())
    (row,) = chaos.report().values()
    assert row["I0"] == 0.3
    assert row["mean_s"] == pytest.approx(s.mean().item(), rel=1e-6)


def test_layers_in_two_precisions_are_added_up_in_that_of_the_first():
    fc1 = nn.Linear(6, 6)
    fc2 = nn.Linear(6, 6, dtype=torch.float64)
    chaos = ChaoticLoss(10.0).attach(nn.Sequential(fc1, fc2), "*")
    first = fc1(batch(dtype=torch.float32))
    second = fc2(batch())
    loss = chaos()
    assert loss.dtype == torch.float32
    known = authors_loss([first.double(), second])
    assert loss.item() == pytest.approx(known.item(), rel=1e-6)


# Settings


def test_the_defaults_are_the_documented_ones():
    chaos = ChaoticLoss(7.0)
    assert {name: value for name, value in chaos.state_dict().items() if name != "annealing"} == {
        "z_start": 7.0,
        "beta": 1.0,
        "I0": 0.65,
        "scale": 10.0,
        "reduction": "mean",
        "clamp": None,
        "cutoff": 0.0,
        "steps": 0,
        "calls": 0,
        "layers": [],
        "measured": [],
    }
    assert chaos.layers == ()
    assert chaos.limits == {}


@pytest.mark.parametrize(
    ("method", "defaults"),
    [
        (ChaoticLoss.attach, {"read": "output", "z": None, "exclude": ()}),
        (ChaoticLoss.critical_z, {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False}),
        (ChaoticLoss.z_at, {"z_start": None}),
    ],
)
def test_the_defaults_of_a_method_are_the_documented_ones(method, defaults):
    parameters = inspect.signature(method).parameters.values()
    given = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert given == defaults


@pytest.mark.parametrize(
    "settings",
    [
        {"z": 0.0},
        {"beta": 1.0},
        {"cutoff": 0.0},
        {"I0": 1e-6, "scale": 1e-6, "beta": 1e-6},
        {"I0": 1 - 1e-6, "scale": 1e6, "z": 1e6, "cutoff": 1e6},
        {"clamp": (-10, 9)},
        {"clamp": (-10.0, 9)},
        {"clamp": (-10, 9.5)},
        {"clamp": [-math.inf, 9.9]},
    ],
)
def test_settings_at_the_ends_of_their_ranges_are_taken(settings):
    chaos = ChaoticLoss(**{"z": 1.0, **settings})
    for name, value in settings.items():
        assert getattr(chaos, name) == value or name == "z"


def test_numbers_of_other_libraries_become_plain_ones():
    chaos = ChaoticLoss(
        np.float32(8),
        np.float64(0.5),
        I0=torch.tensor(0.25),
        scale=np.int64(4),
        cutoff=torch.tensor(1),
    )
    chaos.attach(network(), "fc1").attach(network(), "fc2", z=np.int64(16))
    chaos.step()
    chaos.z = np.float32(2)
    chaos.beta = torch.tensor(0.25)
    state = chaos.state_dict()
    names = ("z_start", "beta", "I0", "scale", "cutoff")
    assert [(state[name], type(state[name])) for name in names] == [
        (8.0, float),
        (0.25, float),
        (0.25, float),
        (4.0, float),
        (1.0, float),
    ]
    assert [(z, type(z)) for _, _, z in state["layers"]] == [(8.0, float), (16.0, float)]
    numbers = [number for stretch in state["annealing"] for number in stretch[1:]]
    assert numbers == [8.0, 1.0, 0.5, 2.0, 0.25, 0.25]
    assert {type(number) for number in numbers} == {float}


def test_it_says_what_it_is():
    chaos = ChaoticLoss(8.0, beta=0.5).attach(network(), "fc*")
    chaos.step()
    assert repr(chaos) == "ChaoticLoss(z=4, beta=0.5, steps=1, layers=['fc1', 'fc2'])"


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


def test_a_strength_at_the_cutoff_counts():
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.25)
    assert [chaos.z_at(n) for n in range(4)] == [1.0, 0.5, 0.25, 0.0]
    assert [chaos.z_at(n, z_start=2.0) for n in range(5)] == [2.0, 1.0, 0.5, 0.25, 0.0]


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


def test_a_step_forgets_a_run_in_eval_mode():
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, "fc1")
    model.eval()(batch())
    chaos.step()
    with pytest.raises(ValueError, match=r"^layer 'fc1' did not run in training mode"):
        chaos()


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


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("z_start", "set z, which acts from now on"),
        ("I0", "make a new ChaoticLoss"),
        ("scale", "make a new ChaoticLoss"),
        ("reduction", "make a new ChaoticLoss"),
        ("clamp", "make a new ChaoticLoss"),
        ("cutoff", "make a new ChaoticLoss"),
        ("steps", "call step() or load_state_dict()"),
        ("calls", "call the loss or load_state_dict()"),
        ("layers", "call attach() or remove()"),
    ],
)
def test_they_say_what_to_do_instead(name, instead):
    with pytest.raises(AttributeError, match=f"^{name} cannot be set: {re.escape(instead)}$"):
        setattr(ChaoticLoss(8.0), name, 3)


def test_of_the_class_such_an_attribute_is_what_stands_there():
    assert ChaoticLoss.steps is vars(ChaoticLoss)["steps"]


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


@pytest.mark.parametrize(
    ("dtype", "of_loss"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_zero_of_an_empty_batch_has_the_precision_of_a_loss(dtype, of_loss):
    fc = nn.Linear(6, 6, dtype=dtype)
    chaos = ChaoticLoss(10.0).attach(fc, fc)
    fc(batch(N=0, dtype=torch.float32).to(dtype))
    loss = chaos()
    assert (loss.item(), loss.shape, loss.dtype) == (0.0, (), of_loss)


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


# Which calls count


def one_step(chaos, model, x):
    (model(x).sum() + chaos()).backward()


@pytest.mark.filterwarnings("ignore:every layer")
@pytest.mark.parametrize("case", ["eval", "no_grad", "past the cutoff", "empty batch", "refused"])
def test_a_call_with_nothing_to_add_up_does_not_count_and_leaves_the_measurement_due(case):
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).double()
    chaos = ChaoticLoss(3.0, cutoff=1.0).attach(model, nn.Linear)
    for turn in range(2):
        if case == "eval":
            one_step(chaos, model.eval(), batch())
            model.train()
        elif case == "no_grad":
            with torch.no_grad():
                model(batch())
                chaos()
        elif case == "past the cutoff":
            chaos.z = 0.5
            one_step(chaos, model, batch())
            chaos.z = 3.0
        elif case == "empty batch":
            one_step(chaos, model, batch(N=0))
        else:
            with pytest.raises(ValueError, match="did not run"):
                chaos()
        assert chaos.calls == 20 * turn
        assert chaos.report()["1"]["step"] == (1 if turn else None)
        chaos.step()
        for _ in range(20):
            one_step(chaos, model, batch())
        assert chaos.calls == 20 * (turn + 1)
        assert chaos.report()["1"]["step"] == turn + 1


def test_of_layers_of_which_one_is_empty_a_call_counts():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, ["fc1", "fc2"])
    for first, second in ((batch(N=0), batch()), (batch(), batch(N=0))):
        model.fc1(first)
        model.fc2(second)
        chaos()
    assert chaos.calls == 2


def test_a_call_inside_a_transform_measures_nothing():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")

    def loss(x):
        return model(x).sum() + chaos()

    torch.func.grad(loss)(batch())
    assert chaos.report()["fc1"]["step"] is None


def test_nor_does_one_with_a_run_outside():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    model(batch())
    torch.func.grad(lambda x: model(x).sum() + chaos())(batch())
    assert chaos.report()["fc1"]["step"] is None


@pytest.mark.usefixtures("fresh_compiler")
def test_after_a_compiled_call_the_next_uncompiled_one_is_measured():
    model = nn.Sequential(nn.Linear(2, 2))
    x = torch.ones(3, 2)
    chaos = ChaoticLoss(3.0).attach(model, "0")
    compiled = torch.compile(model, backend="eager")
    one_step(chaos, compiled, x)
    assert chaos.report()["0"]["gradient_share"] is None
    chaos.step()
    compiled(x)
    one_step(chaos, model, x)  # with a compiled run, too
    assert chaos.report()["0"]["step"] == 0
    chaos.step()
    one_step(chaos, model, x)
    assert chaos.report()["0"]["gradient_share"] > 0
    chaos.step()
    one_step(chaos, model, x)  # and then it is every 20th again
    assert chaos.report()["0"]["step"] == 2


# Warned of once


def test_a_call_in_eval_mode_is_warned_of_once_where_it_is():
    model, chaos, x = in_eval_mode()
    model(x)
    with pytest.warns(UserWarning, match=r"eval mode.*model.train\(\)") as caught:
        chaos()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
        chaos()


def test_a_layer_that_is_switched_off_does_not_hide_one_in_eval_mode():
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, "fc1", z=0.0).attach(model, "fc2")
    model.eval()(batch())
    with pytest.warns(UserWarning, match="eval mode"):
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


def in_full():
    """A training of two steps in which no setting is the default."""
    model = network()
    chaos = ChaoticLoss(
        12.0,
        beta=0.5,
        I0=0.3,
        scale=4.0,
        reduction="sum",
        clamp=(-5.0, 5.0),
        cutoff=0.25,
    )
    chaos.attach(model, "fc1").attach(model, "lif1", "membrane", z=6.0)
    for _ in range(2):
        one_step(chaos, model, batch())
        chaos.step()
    return model, chaos


def test_a_state_holds_every_setting_and_count():
    _, chaos = in_full()
    state = chaos.state_dict()
    measured = state.pop("measured")
    assert state == {
        "z_start": 12.0,
        "beta": 0.5,
        "I0": 0.3,
        "scale": 4.0,
        "reduction": "sum",
        "clamp": (-5.0, 5.0),
        "cutoff": 0.25,
        "steps": 2,
        "calls": 2,
        "annealing": [(0, 12.0, 1.0, 0.5)],
        "layers": [("fc1", "output", 12.0), ("lif1", "membrane", 6.0)],
    }
    assert [layer["numbers"]["z"] for layer in measured] == [12.0, 6.0]


def test_a_loaded_state_replaces_every_setting_and_count():
    model, chaos = in_full()
    other = ChaoticLoss(1.0).attach(model, "fc1").attach(model, "lif1", "membrane", z=2.0)
    state = chaos.state_dict()
    other.load_state_dict(state)
    assert other.state_dict() == state
    for name in ("z", "z_start", "beta", "I0", "scale", "reduction", "clamp", "cutoff", "steps"):
        assert getattr(other, name) == getattr(chaos, name)
    model(batch())
    assert_same(model, other(), chaos())
    assert other.calls == chaos.calls == 3


def test_of_a_state_without_measurements_every_layer_forgets_its_own():
    _, chaos = in_full()
    state = chaos.state_dict()
    del state["measured"]
    chaos.load_state_dict(state)
    assert [row["step"] for row in chaos.report().values()] == [None, None]


def test_a_state_is_loaded_afresh():
    model, chaos = in_full()
    model(batch())
    chaos.load_state_dict(chaos.state_dict())
    assert records_kept(chaos) == [0, 0]


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


# Copies: more of them in test_plugin_hooks


def test_copied_together_they_go_on_as_one():
    model, chaos = in_full()
    twin, twin_chaos = copy.deepcopy((model, chaos))
    assert twin_chaos.state_dict() == chaos.state_dict()
    for both in ((model, chaos), (twin, twin_chaos)):
        both[0](batch(seed=1))
    assert twin_chaos().item() == chaos().item()
    twin_chaos.step()
    assert (twin_chaos.steps, chaos.steps) == (3, 2)


def test_a_copy_that_has_not_run_is_attached_to_further_layers():
    model, chaos = in_full()
    model.fc2.register_forward_hook(lambda *_: None)  # of somebody else
    twin, twin_chaos = copy.deepcopy((model, chaos))
    twin_chaos.attach(twin, "fc2")
    assert [layer.name for layer in twin_chaos.layers] == ["fc1", "lif1", "fc2"]
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already"):
        twin_chaos.attach(twin, "fc1")


def test_one_that_nobody_holds_leaves_its_model():
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, "fc1")
    assert any(hooks for hooks, _ in forward_hooks(model))
    del chaos
    gc.collect()
    assert not any(hooks for hooks, _ in forward_hooks(model))


def test_a_copy_that_nobody_holds_leaves_its_model():
    model, chaos = in_full()
    twin, twin_chaos = copy.deepcopy((model, chaos))
    twin(batch())
    assert any(hooks for hooks, _ in forward_hooks(twin))
    del twin_chaos
    gc.collect()
    assert not any(hooks for hooks, _ in forward_hooks(twin))


@pytest.mark.parametrize("is_told", [False, True])
def test_of_what_the_first_was_told_its_copy_is_not(is_told):
    model, chaos, x = in_eval_mode()
    if is_told:
        model(x)
        with pytest.warns(UserWarning, match="eval mode"):
            chaos()
    twin, twin_chaos = copy.deepcopy((model, chaos))
    twin(x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        twin_chaos()
    assert len(caught) == (0 if is_told else 1)


def test_a_copy_without_its_model_is_refused_only_where_it_would_count():
    model, chaos = in_full()
    alone = copy.deepcopy(chaos)
    with torch.no_grad():
        assert alone() == 0
    with pytest.raises(ValueError, match=r"^ChaoticLoss is a copy without its model"):
        alone()
    twin = copy.deepcopy(model)
    alone.attach(twin, "fc1")
    assert [layer.name for layer in alone.layers] == ["fc1"]
    twin(batch())
    assert alone() > 0


def test_one_layer_of_a_copy_without_its_model_is_enough_to_refuse_it():
    model, chaos = in_full()
    both = copy.deepcopy(chaos)
    both.layers[0].find(model.fc1)
    with pytest.raises(ValueError, match=r"^ChaoticLoss is a copy without its model"):
        both()


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match=r"^a shallow copy would share the hooks"):
        copy.copy(ChaoticLoss(1.0))


# Attached once, and more than once


def test_removed_it_has_no_layers_and_reads_nothing():
    model = network()
    before = forward_hooks(model)
    chaos = ChaoticLoss(1.0)
    with chaos.attach(model, "fc*") as entered:
        assert entered is chaos
        assert [layer.name for layer in chaos.layers] == ["fc1", "fc2"]
    assert chaos.layers == ()
    assert forward_hooks(model) == before
    with pytest.raises(ValueError, match=r"^no layers: attach\(model, layers\) comes before"):
        chaos()


def test_what_is_left_out_is_not_attached():
    chaos = ChaoticLoss(1.0).attach(network(), "fc*", exclude="fc1")
    assert [layer.name for layer in chaos.layers] == ["fc2"]


def test_layers_of_two_models_may_have_one_name():
    models = [network(2), network(3)]
    chaos = ChaoticLoss(10.0).attach(models[0], "fc1").attach(models[1], "fc1")
    assert list(chaos.report()) == ["fc1", "fc1 (output)"]
    layers = [model.fc1(batch()) for model in models]
    assert chaos().item() == pytest.approx(authors_loss(layers).item(), rel=1e-12)


def test_many_ways_to_read_a_layer_have_a_name_each():
    chaos = ChaoticLoss(1.0)
    model = network()
    for read in (watching([]), watching([]), "input", watching([])):
        chaos.attach(model, "fc1", read)
    names = ["fc1", "fc1 (function)", "fc1 (input)", "fc1 (function) (function)"]
    assert list(chaos.report()) == names


def test_a_layer_with_two_names_is_attached_once():
    shared = nn.Linear(6, 6)
    model = nn.ModuleDict({"a": shared, "b": shared})
    chaos = ChaoticLoss(1.0).attach(model, "a")
    with pytest.raises(ValueError, match=r"^layer 'b' is attached already"):
        chaos.attach(model, "b")


def test_a_layer_that_has_been_wrapped_is_attached_once():
    model = nn.Sequential(nn.Linear(6, 6))
    chaos = ChaoticLoss(1.0).attach(model, "0")
    model[0] = checkpoint_wrapper(model[0])
    with pytest.raises(ValueError, match=r"^layer '0' is attached already"):
        chaos.attach(model, "0")


def test_what_a_hundred_runs_of_each_layer_are_warned_of_is_told_once():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    chaos = ChaoticLoss(1.0).attach(model, "*")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(120):
            model(torch.ones(1, 1))
    assert ["ran 101 times" in str(warning.message) for warning in caught] == [True]
    assert records_kept(chaos) == [120, 120]


def test_one_function_reads_a_layer_once():
    read = watching([])
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, "fc1", read)
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already: remove\(\) first"):
        chaos.attach(model, ["fc2", "fc1"], read)
    assert [layer.name for layer in chaos.layers] == ["fc1"]
    assert not model.fc2._forward_hooks


# Critical z: more of it in test_plugin_measurement


def test_critical_z_has_the_settings_of_the_loss_and_of_the_descent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh())
    x = batch(dtype=torch.float32).flatten(0, 1)
    chaos = ChaoticLoss(3.0, I0=0.3, scale=4.0).attach(model, "0").attach(model, "1")
    one_step(chaos, model, x)
    assert chaos.limits == {}
    found = chaos.critical_z(0.2, 0.5, 0.1, True)
    eigenvalue = eigenvalue_by_library(model[0], x)
    known = critical_z(
        eigenvalue,
        0.2,
        0.5,
        I0=0.3,
        scale=4.0,
        reduction="mean",
        numel=36,
        weight_decay=0.1,
        nesterov=True,
    )
    assert found["0"] == pytest.approx(known, rel=1e-5)
    assert found["1"].startswith("unknown: only the output of a linear")
    assert {key: limit.value for key, limit in chaos.limits.items()} == {"0": found["0"], "1": None}
    report = chaos.report()
    assert report["0"]["z_over_critical"] == 3.0 / found["0"]
    assert report["1"]["z_over_critical"] is None


def test_critical_z_by_an_optimizer_is_that_of_its_settings():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    one_step(chaos, model, batch())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    assert chaos.critical_z(optimizer) == chaos.critical_z(0.2, momentum=0.5)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"z": -1.0}, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ({"z": math.nan}, r"^z = nan: must be a number in \[0, inf\)$"),
        ({"z": "10"}, r"^z = '10': must be a number"),
        ({"beta": 0.0}, r"^beta = 0.0: must be a number in \(0, 1\]$"),
        ({"z": math.inf}, r"^z = inf: must be a number in \[0, inf\)$"),
        ({"I0": 0.0}, r"^I0 = 0.0: must be a number in \(0, 1\)$"),
        ({"scale": math.inf}, r"^scale = inf: must be a number in \(0, inf\)$"),
        ({"cutoff": math.inf}, r"^cutoff = inf: must be a number in \[0, inf\)$"),
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
        ({"clamp": (-10, 0, 9.9)}, r"^clamp = \(-10, 0, 9.9\): must be"),
        ({"clamp": (3.0, 3.0)}, r"^clamp = \(3.0, 3.0\): must be"),
        ({"clamp": (math.nan, 9.9)}, r"^clamp = \(nan, 9.9\): must be"),
        ({"clamp": (-10, "9.9")}, r"^clamp = \(-10, '9.9'\): must be"),
        ({"clamp": ("-10", 9.9)}, r"^clamp = \('-10', 9.9\): must be"),
        ({"clamp": "ab"}, r"^clamp = 'ab': must be"),
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
