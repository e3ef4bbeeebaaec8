"""What the hooks of a ChaoticLoss read and keep, how long they live, and how torch treats them."""

import copy
import gc
import io
import multiprocessing
import pickle
import warnings
import weakref
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from helpers import (
    assert_same,
    authors_loss,
    batch,
    forward_hooks,
    loss_of,
    needs_compiler,
    network,
    read_doubled,
    records_kept,
    rewritten,
    watching,
)
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from csbp_core import ChaoticLoss
from csbp_core.plugin.hooks import Taken
from csbp_core.torch_private import (
    compiled_graph_is_gone,
    has_left_its_transform,
    has_no_values,
    has_outer_gradient,
    hooks_of,
    in_backward_pass,
    is_replica,
    is_transformed,
    remove_hook,
    uncompiled,
)

# What is read


class Unusual(nn.Module):
    """A layer that is called by keyword, and one that gives a tuple."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6, dtype=torch.float64)
        self.fc = nn.Linear(6, 6, dtype=torch.float64)
        self.pair = nn.Identity()

    def forward(self, x):
        h = self.first(x)
        self.fc(input=h)
        return self.pair((2 * h, h))


def test_an_input_given_by_keyword_is_read():
    model = Unusual()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc", "input")
    model(x)
    assert_same(model, chaos(), authors_loss([model.first(x)]))


def test_of_a_tuple_the_first_is_read():
    model = Unusual()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "pair")
    model(x)
    assert_same(model, chaos(), authors_loss([2 * model.first(x)]))


class PerStep(nn.Module):
    """A layer that gives a list, an entry per time step."""

    def __init__(self, kind):
        super().__init__()
        self.fc = nn.Linear(6, 6, dtype=torch.float64)
        self.steps = nn.Identity()
        self.kind = kind

    def forward(self, x):
        h = self.fc(x)
        entries_of = {
            "tensors": list(h),
            "tensors in a list": [list(h)],
            "spikes and potentials": [(h_t, 2 * h_t) for h_t in h],
            "a list of spikes, and of potentials": (list(h), list(2 * h)),
        }
        return self.steps(entries_of[self.kind])


@pytest.mark.parametrize(
    "kind",
    [
        "tensors",
        "tensors in a list",
        "spikes and potentials",
        "a list of spikes, and of potentials",
    ],
)
@pytest.mark.parametrize("read", ["output", "input"])
def test_of_a_list_all_steps_are_read(kind, read):
    model = PerStep(kind)
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "steps", read)
    model(x)
    assert_same(model, chaos(), authors_loss([model.fc(x)]))
    (row,) = chaos.report().values()
    assert row["mean_s"] == pytest.approx(torch.sigmoid(model.fc(x) / 10).mean().item(), rel=1e-6)


def test_of_a_list_with_potentials_all_membranes_are_read():
    model = PerStep("spikes and potentials")
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "steps", "membrane")
    model(x)
    assert_same(model, chaos(), authors_loss([2 * model.fc(x)]))


class Given(nn.Module):
    """A neuron that gives and keeps what it is told to."""

    def __init__(self, output, **kept):
        super().__init__()
        self.output = output
        vars(self).update(kept)

    def forward(self, x):
        return self.output


class State(tuple):
    """A state as of norse: a tuple with a v."""

    v = torch.tensor([4.0, 4.0], requires_grad=True)


def full(value):
    return torch.full((2,), float(value), requires_grad=True)


@pytest.mark.parametrize(
    ("neuron", "known"),
    [
        pytest.param(Given((full(1), full(2))), [2], id="a potential that is returned"),
        pytest.param(Given((full(1), full(2), full(3))), [3], id="the last of three"),
        pytest.param(Given((full(1), State())), [4], id="of a state its v"),
        pytest.param(Given(full(1), v_seq=full(2), v=full(3), mem=full(4)), [2], id="v_seq"),
        pytest.param(Given(full(1), v_seq=None, v=full(3), mem=full(4)), [3], id="v"),
        pytest.param(Given(full(1), v=0.0, mem=full(4)), [4], id="mem"),
        pytest.param(
            Given(full(1), v_seq=full(2), v=full(3), step_mode="s"), [3], id="v of a single step"
        ),
        pytest.param(
            Given(full(1), v_seq=full(2), v=full(3), step_mode="m"), [2], id="v_seq of many"
        ),
        pytest.param(Given((full(1), full(2)), v_seq=full(3)), [2], id="returned before kept"),
        pytest.param(Given(([], None), mem=full(4)), [4], id="kept where none is returned"),
        pytest.param(Given([(full(1), full(2)), (full(1), full(3))]), [2, 3], id="a list"),
        pytest.param(Given((), mem=full(4)), [4], id="nothing is returned"),
    ],
)
def test_a_membrane_is_found_where_a_neuron_has_it(neuron, known):
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(neuron), "0", "membrane")
    neuron(full(0))
    assert [record.h.tolist() for record in chaos.layers[0].records] == [[h, h] for h in known]


@pytest.mark.parametrize(
    "output",
    [
        pytest.param([full(1), (full(1), full(2))], id="a step without"),
        pytest.param([(full(1), full(2)), full(1)], id="a last step without"),
    ],
)
def test_steps_of_which_one_has_no_membrane_are_refused(output):
    neuron = Given(output, v=full(3))
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(neuron), "0", "membrane")
    with pytest.raises(ValueError, match=r"^layer '0' \(Given\) has no membrane that is a float"):
        neuron(full(0))
    assert records_kept(chaos) == [0]


@pytest.mark.parametrize("read", ["output", "input"])
@pytest.mark.parametrize(
    ("values", "known"),
    [
        pytest.param((full(1), full(2)), [1], id="a tuple"),
        pytest.param(((full(3), full(1)), full(2)), [3], id="a tuple in a tuple"),
        pytest.param([[full(1), full(2)], full(3)], [1, 2, 3], id="a list in a list"),
        pytest.param([(full(1), full(4)), [(full(2), full(5))]], [1, 2], id="tuples in lists"),
    ],
)
def test_the_first_of_tuples_and_all_of_lists_are_read(read, values, known):
    model = nn.Identity()
    chaos = ChaoticLoss(3.0).attach(model, model, read)
    model(values)
    assert [record.h.tolist() for record in chaos.layers[0].records] == [[h, h] for h in known]


@pytest.mark.parametrize("output", [[], [None], ["text"], [torch.arange(3)], {"h": torch.ones(3)}])
def test_a_list_of_something_else_is_refused(output):
    model = nn.Identity()
    chaos = ChaoticLoss(1.0).attach(model, model)
    with pytest.raises(ValueError, match=r"has no output that is a float tensor"):
        model(output)
    assert records_kept(chaos) == [0]


def test_a_function_reads_module_inputs_and_output():
    model = Unusual()
    x = batch()
    chaos = ChaoticLoss(10.0)
    chaos.attach(model, "fc", lambda module, inputs, output: output * inputs[0] + module.bias)
    model(x)
    h = model.first(x)
    assert_same(model, chaos(), authors_loss([model.fc(h) * h + model.fc.bias]))


def test_several_reads_are_added_up():
    model = Unusual()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc", "input").attach(model, "pair")
    chaos.attach(model, "fc", lambda module, inputs, output: output * inputs[0] + module.bias)
    model(x)
    h = model.first(x)
    assert_same(model, chaos(), authors_loss([h, 2 * h, model.fc(h) * h + model.fc.bias]))


def test_a_layer_that_is_overwritten_in_place_is_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True))
    chaos = ChaoticLoss(10.0).attach(model, "0")
    model(batch(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"^layer '0' .*in place"):
        chaos()


def test_an_input_that_its_own_layer_overwrites_is_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True))
    chaos = ChaoticLoss(10.0).attach(model, "1", "input")
    model(batch(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"^layer '1' had its input changed in place"):
        chaos()


@pytest.mark.parametrize(
    ("read", "line"),
    [
        ("membrane", r"membrane that is a float tensor: attach to the neuron"),
        (lambda module, inputs, output: None, r"h that is a float tensor"),
        (lambda module, inputs, output: output > 0, r"h that is a float tensor"),
        (lambda module, inputs, output: [output], r"h that is a float tensor"),
    ],
    ids=["no membrane", "nothing", "a boolean tensor", "a list"],
)
def test_what_is_no_float_tensor_is_refused_and_not_kept(read, line):
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, "fc1", read)
    with pytest.raises(ValueError, match=rf"^layer 'fc1' \(Linear\) has no {line}"):
        model(batch())
    assert records_kept(chaos) == [0]


@pytest.mark.parametrize(
    ("layer", "read"), [("fc1", "output"), ("lif1", "membrane"), ("fc1", "input")]
)
def test_a_record_without_gradient_is_refused(layer, read):
    model = network()
    model.fc1.requires_grad_(read == "input")
    chaos = ChaoticLoss(3.0).attach(model, layer, read)
    model(batch())
    line = f"^layer '{layer}' gave {read} without a gradient: nothing before it is trained"
    with pytest.raises(ValueError, match=line):
        chaos()


@pytest.mark.parametrize(
    ("layer", "read"), [("fc1", "output"), ("lif1", "membrane"), ("fc1", "input")]
)
def test_a_record_may_have_its_gradient_from_the_input_alone(layer, read):
    model = network()
    model.fc1.requires_grad_(read == "input")
    x = batch().requires_grad_()
    chaos = ChaoticLoss(3.0).attach(model, layer, read)
    model(x)
    chaos().backward()
    assert x.grad.abs().max() > 0


def two_runs(first, second):
    """A layer that is read, and has run twice, each time as it is told."""
    fc = nn.Linear(6, 6, dtype=torch.float64)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    first(fc)
    second(fc)
    return chaos


def as_it_should(fc):
    fc(batch().requires_grad_())


def without_a_gradient(fc):
    fc.requires_grad_(False)
    fc(batch())
    fc.requires_grad_()


def overwritten(fc):
    fc(batch()).add_(1.0)


def gone_back(fc):
    fc(batch()).sum().backward()


def inside_a_transform(fc):
    grad(lambda x: fc(x).sum())(batch())


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("spoilt", "line"),
    [
        (without_a_gradient, "gave output without a gradient: nothing before it is trained"),
        (overwritten, "had its output changed in place after it ran: set inplace=False in what"),
        (gone_back, "went through a backward pass before the ChaoticLoss was called: call it once"),
        (inside_a_transform, "ran inside vmap or torch.func.grad: call the chaotic loss inside"),
    ],
)
def test_one_run_of_two_is_enough_to_refuse_them(spoilt, line, is_first):
    runs = (spoilt, as_it_should) if is_first else (as_it_should, spoilt)
    chaos = two_runs(*runs)
    with pytest.raises(ValueError, match=f"^layer '0' {line}"):
        chaos()
    assert two_runs(as_it_should, as_it_should)() > 0


def test_a_function_that_gives_no_gradient_is_called_h():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1", lambda module, inputs, output: output.detach())
    model(batch())
    with pytest.raises(ValueError, match=r"^layer 'fc1' gave h without a gradient: nothing"):
        chaos()


# What is kept


@pytest.mark.parametrize("mode", ["positional", "keyword"])
def test_inputs_are_kept_of_a_linear_layer_whose_output_is_read(mode):
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(3.0).attach(model, "*").attach(model, "0", "input")
    h = model[0](x.requires_grad_()) if mode == "positional" else model[0](input=x.requires_grad_())
    model[1](h)
    kept = [layer.records[0].inputs for layer in chaos.layers]
    assert kept[0] is x
    assert kept[1:] == [None, None]


def test_the_run_of_a_layer_of_neurons_is_kept_however_it_is_read():
    model = network()
    chaos = ChaoticLoss(3.0)
    for read in ("output", "input", "membrane"):
        chaos.attach(model, "lif1", read)
    for n in range(3):
        spikes = model[:2](batch(seed=n))
        for layer in chaos.layers:
            run_of_layer = layer.records[n].run
            assert torch.equal(run_of_layer.spikes, spikes)
            assert torch.equal(run_of_layer.v_seq, model.lif1.v_seq)
    seen = [[record.run.spikes for record in layer.records] for layer in chaos.layers]
    for first, second, third in zip(*seen, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


@pytest.mark.filterwarnings("ignore:every layer")
@pytest.mark.parametrize("read", ["output", "input"])
def test_a_run_in_eval_leaves_the_records_of_before_as_they_are(read):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "lif1", read)
    model(batch())
    (record,) = chaos.layers[0].records
    model.eval()(2 * batch())
    with torch.no_grad():
        model.train()(2 * batch())
    assert chaos.layers[0].records == [record]
    assert chaos() > 0


@pytest.mark.parametrize(
    ("case", "is_evaluation"),
    [("no_grad", False), ("switched off", False), ("eval", True), ("eval and no_grad", False)],
)
def test_only_of_layers_in_eval_mode_with_gradients_it_is_an_evaluation(case, is_evaluation):
    model = network()
    chaos = ChaoticLoss(0.0 if case == "switched off" else 3.0).attach(model, "fc1")
    model.train("eval" not in case)
    with torch.set_grad_enabled("no_grad" not in case):
        model(batch())
        (layer,) = chaos.layers
        assert layer.take() == Taken([], "", is_evaluation)


# When nothing is kept


def test_runs_under_no_grad_leave_nothing():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "fc2"])
    with torch.no_grad():
        for _ in range(100):
            model(batch())
        assert records_kept(chaos) == [0, 0]
        assert chaos() == 0


@pytest.mark.filterwarnings("ignore:every layer")
def test_runs_in_eval_leave_nothing_even_with_gradients():
    model = network().eval()
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "fc2"])
    model(batch())
    assert records_kept(chaos) == [0, 0]
    assert chaos() == 0


def test_training_goes_on_after_eval_and_no_grad():
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "fc2"])
    model.eval()
    model(x)
    with torch.no_grad():
        model(x)
    model.train()
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents))


def test_a_layer_in_eval_costs_nothing_beside_one_in_training():
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "fc2"])
    model.fc2.eval()
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents[:1]))


def test_called_under_no_grad_it_is_zero_and_forgets():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc*")
    model(batch())
    with torch.no_grad():
        assert chaos() == 0
    assert records_kept(chaos) == [0, 0]


def test_a_call_clears_the_records():
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    for _ in range(3):  # a stale record would fail: its graph is gone
        loss = model(x).var() + chaos()
        assert records_kept(chaos) == [0]
        known = rewritten(model, x)
        assert_same(model, loss, known.output.var() + authors_loss(known.currents[:1]))
        loss.backward()


def test_after_a_backward_pass_nothing_holds_the_graph():
    model = network()
    outputs = []
    chaos = ChaoticLoss(10.0).attach(model, "fc1", watching(outputs, weakref.ref))
    for _ in range(3):
        loss = model(batch()).var() + chaos()
        loss.backward()
    del loss
    for lif in (model.lif1, model.lif2):  # they hold on to their graph, too
        lif.v = None
        lif.v_seq = None
    gc.collect()
    assert [output() for output in outputs] == [None] * 3


# A layer that did not run

DID_NOT_RUN = "did not run in training mode since the last call: run the model"


def test_a_model_that_did_not_run_is_refused():
    chaos = ChaoticLoss(3.0).attach(network(), "fc*")
    with pytest.raises(ValueError, match=f"^layer 'fc1' {DID_NOT_RUN}"):
        chaos()


def test_one_layer_that_did_not_run_is_refused():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model.fc1(batch())
    with pytest.raises(ValueError, match=f"^layer 'fc2' {DID_NOT_RUN}"):
        chaos()


def test_after_a_refusal_a_whole_run_counts():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model.fc1(x)
    with pytest.raises(ValueError, match=f"^layer 'fc2' {DID_NOT_RUN}"):
        chaos()
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents, 3.0))


def test_a_run_counts_for_one_call():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model(batch())
    chaos()
    with pytest.raises(ValueError, match=f"^layer 'fc1' {DID_NOT_RUN}"):
        chaos()


@pytest.mark.filterwarnings("ignore:every layer")
def test_a_run_in_eval_counts_for_one_call():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model.eval()(batch())
    assert chaos() == 0
    with pytest.raises(ValueError, match=f"^layer 'fc1' {DID_NOT_RUN}"):
        chaos()


def test_a_step_forgets_in_which_mode_a_layer_ran():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    for mode in ("eval", "no_grad"):
        with torch.set_grad_enabled(mode == "eval"):
            model.train(mode == "no_grad")(batch())
        chaos.step()
        assert {layer.skipped_in for layer in chaos.layers} == {""}
        with pytest.raises(ValueError, match=f"^layer 'fc1' {DID_NOT_RUN}"):
            chaos()


def test_a_layer_that_is_switched_off_need_not_run():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1").attach(model, "fc2", z=0.0)
    h = model.fc1(batch())
    assert_same(model, chaos(), authors_loss([h], 3.0))


# Calls that come too late, or never


def run(model, times):
    for n in range(times):
        model(batch(T=1, N=1, seed=n))


def test_records_that_pile_up_are_warned_of_once():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    with pytest.warns(UserWarning, match=r"^layer 'fc1' ran 101 times .* ChaoticLoss") as caught:
        run(model, 250)
    assert len(caught) == 1
    assert records_kept(chaos) == [250, 250]


def test_a_hundred_runs_between_two_calls_are_not_warned_of():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            run(model, 100)
            chaos()


def test_runs_before_a_step_do_not_count():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            run(model, 60)
            chaos.step()


def test_few_runs_leave_the_number_that_is_usual():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    for times in (1, 30):
        run(model, times)
        chaos()
        assert {layer.many_runs for layer in chaos.layers} == {100}
    run(model, 51)
    chaos()
    assert {layer.many_runs for layer in chaos.layers} == {102}


def test_where_a_call_counts_many_runs_twice_as_many_are_usual():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    with pytest.warns(UserWarning, match="ran 101 times"):
        run(model, 150)
    chaos()
    assert {layer.many_runs for layer in chaos.layers} == {300}


TOO_LATE = (
    r"^layer 'fc1' went through a backward pass before the ChaoticLoss was called: call it once"
)


def after_the_backward_of_the_task(model, x):
    model(x).sum().backward()


def for_two_forward_passes(model, x):
    model(x).sum().backward()
    model(x)


def after_an_attack(model, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    model(x.detach() + 0.1 * gradient.sign())


too_late = pytest.mark.parametrize(
    "training_step",
    [after_the_backward_of_the_task, for_two_forward_passes, after_an_attack],
)


@too_late
def test_a_call_after_a_backward_pass_is_refused(training_step):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    training_step(model, batch())
    with pytest.raises(ValueError, match=TOO_LATE):
        chaos()


@too_late
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_so_it_is_of_a_compiled_model(training_step, backend):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    training_step(torch.compile(model, backend=backend), batch())
    with pytest.raises(ValueError, match=TOO_LATE):
        chaos()


def test_a_backward_pass_that_retains_the_graph_may_come_before():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model(x).var().backward(retain_graph=True)
    model.zero_grad()
    loss = chaos()
    assert_same(model, loss, authors_loss(rewritten(model, x).currents, 3.0))
    loss.backward()


def test_a_gradient_at_h_alone_frees_nothing_behind_it():
    model = network()
    x = batch()
    outputs = []
    chaos = ChaoticLoss(3.0).attach(model, "fc1", watching(outputs))
    loss = model(x).var()
    torch.autograd.grad(loss, outputs)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents[:1], 3.0))


def test_an_attack_is_forgotten_by_a_call_under_no_grad():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    after_an_attack(model, x)
    with torch.no_grad():
        chaos()
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents, 3.0))


# How long a hook lives


def hooked_by_others():
    """A network with two hooks of somebody else, and a list of their calls."""
    model = network()
    calls = []
    model.fc1.register_forward_hook(lambda module, args, output: calls.append("theirs"))
    model.lif2.register_forward_hook(
        lambda module, args, kwargs, output: calls.append("theirs"),
        with_kwargs=True,
    )
    return model, calls


def test_remove_leaves_the_model_as_it_was():
    model, calls = hooked_by_others()
    before = forward_hooks(model)
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "lif2"]).attach(model, "lif2", "membrane")
    assert forward_hooks(model) != before
    model(batch())
    chaos.remove()
    assert forward_hooks(model) == before
    assert chaos.report() == {}
    model(batch())
    assert calls == ["theirs"] * 4


def test_what_was_attached_and_is_removed_is_forgotten():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    (hook,) = chaos.layers
    model(batch())
    chaos.remove()
    assert hook.records == []
    model.fc2.register_forward_hook(hook, with_kwargs=True)  # as what was traced may hold on to it
    model(batch())
    assert hook.records == []


def test_after_a_removal_the_model_is_not_kept_alive():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    (chaos_layer,) = chaos.layers
    fc1 = weakref.ref(model.fc1)
    chaos.remove()
    del model, chaos_layer
    gc.collect()
    assert fc1() is None
    assert chaos.z == 10.0


def test_a_chaotic_loss_without_layers_is_refused():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos.remove()
    with pytest.raises(ValueError, match=r"^no layers: attach"):
        chaos()


def test_layers_may_be_attached_again_for_the_length_of_a_with():
    model, _ = hooked_by_others()
    x = batch()
    before = forward_hooks(model)
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "lif2"])
    chaos.remove()
    with chaos.attach(model, "fc1") as entered:
        assert entered is chaos
        model(x)
        assert_same(model, chaos(), authors_loss(rewritten(model, x).currents[:1]))
    assert forward_hooks(model) == before


def test_an_exception_inside_a_with_leaves_the_model_as_it_was():
    model, _ = hooked_by_others()
    before = forward_hooks(model)
    with pytest.raises(ZeroDivisionError), ChaoticLoss(10.0).attach(model, "fc1"):
        1 / 0  # noqa: B018
    assert forward_hooks(model) == before


def test_a_chaotic_loss_that_nobody_holds_leaves_the_model():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    chaos = ChaoticLoss(10.0).attach(model, "fc1")  # the cell of a notebook, run again
    gc.collect()
    assert len(model.fc1._forward_hooks) == 1
    model(batch())
    assert records_kept(chaos) == [1]


def test_state_dict_of_the_model_does_not_change():
    model = network()
    names = list(model.state_dict())
    chaos = ChaoticLoss(1.0).attach(model, "*")
    assert list(model.state_dict()) == names
    assert len(chaos.layers) == len(list(model.named_modules())) - 1  # all but the model itself


# Copies


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def saved_by_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


copies_of_a_model = pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled, saved_by_torch])


@copies_of_a_model
def test_a_copy_of_a_model_leaves_no_record(copy_of):
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "lif2", "membrane")
    model(x)
    twin = copy_of(model)
    twin(x)
    assert records_kept(chaos) == [1, 1]
    copied_hooks = [hook for module in twin.modules() for hook in module._forward_hooks.values()]
    assert not any(hook.records for hook in copied_hooks)
    assert all(hook.is_adrift for hook in copied_hooks)  # there is nobody to read for
    known = rewritten(model, x)
    assert_same(model, chaos(), authors_loss([known.currents[0], known.before_reset[1]]))


@copies_of_a_model
def test_a_copy_of_a_model_may_be_attached_by_itself(copy_of):
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "lif2", "membrane")
    model(x)
    twin = copy_of(model)
    another = ChaoticLoss(10.0).attach(twin, "fc1").attach(twin, "lif2", "membrane")
    twin(x)
    known = rewritten(twin, x)
    assert_same(twin, another(), authors_loss([known.currents[0], known.before_reset[1]]))
    assert records_kept(chaos) == [1, 1]


@pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled])
def test_a_copied_chaotic_loss_reports_by_the_same_names(copy_of):
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "fc1", "input")
    assert list(copy_of(chaos).report()) == list(chaos.report()) == ["fc1", "fc1 (input)"]


@pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled])
def test_a_copied_chaotic_loss_is_removed_without_the_first(copy_of):
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "fc1", "input")
    with copy_of(chaos) as twin:
        pass
    assert not twin.layers
    model(batch())
    assert records_kept(chaos) == [1, 1]


class Training:
    """What a script may copy as one."""

    def __init__(self, model, chaos):
        self.model = model
        self.chaos = chaos


def through_an_object(model, chaos):
    twin = copy.deepcopy(Training(model, chaos))
    return twin.model, twin.chaos


def through_a_model_that_holds_it(model, chaos):
    model.chaos = chaos
    twin = copy.deepcopy(model)
    del model.chaos
    return twin, twin.__dict__.pop("chaos")


copies_of_both = pytest.mark.parametrize(
    "copy_both",
    [
        pytest.param(lambda *both: copy.deepcopy(both), id="deepcopy"),
        pytest.param(lambda *both: copy.deepcopy(both[::-1])[::-1], id="deepcopy, loss first"),
        pytest.param(lambda *both: copy.deepcopy(copy.deepcopy(both)), id="copy of a copy"),
        pytest.param(lambda *both: pickled(both), id="pickle"),
        pytest.param(lambda *both: pickled(list(both[::-1]))[::-1], id="pickle, loss first"),
        pytest.param(lambda *both: saved_by_torch(dict(enumerate(both))).values(), id="torch.save"),
        pytest.param(through_an_object, id="inside an object"),
        pytest.param(through_a_model_that_holds_it, id="inside the model"),
    ],
)


def annealed_pair():
    """A model and its chaotic loss, with records and a history."""
    model = network()
    chaos = ChaoticLoss(12.0, beta=0.5).attach(model, "fc1").attach(model, "fc2", "input", z=8.0)
    chaos.attach(model, "lif2", "membrane", z=4.0)
    chaos.step()
    chaos.z /= 3
    model(batch(seed=5))
    return model, chaos


def known_loss_of(model, x, factor=1 / 6):
    known = rewritten(model, x)
    spikes = model.lif1(known.currents[0])
    strengths = [12.0 * factor, 8.0 * factor, 4.0 * factor]
    layers = [known.currents[0], spikes, known.before_reset[1]]
    return sum(authors_loss([h], z) for h, z in zip(layers, strengths, strict=True))


@copies_of_both
def test_copied_together_they_stay_attached_to_each_other(copy_both):
    model, chaos = annealed_pair()
    chaos.step()
    x = batch()
    twin, twin_chaos = copy_both(model, chaos)
    for factor in (1 / 12, 1 / 24):
        twin(x)
        assert records_kept(twin_chaos) == [1, 1, 1]
        assert_same(twin, twin_chaos(), known_loss_of(twin, x, factor))
        twin_chaos.step()
    assert twin_chaos.steps == chaos.steps + 2


@copies_of_both
def test_a_copy_leaves_the_first_alone(copy_both):
    model, chaos = annealed_pair()
    x = batch(seed=5)  # what the model has run on
    twin, twin_chaos = copy_both(model, chaos)
    twin(batch())
    twin_chaos.step()
    twin_chaos.z = 1.0
    twin_chaos.remove()
    assert_same(model, chaos(), known_loss_of(model, x))


@copies_of_both
def test_the_hooks_of_a_copy_leave_its_model(copy_both):
    model, chaos = annealed_pair()
    for leave in ("remove", "forget"):
        twin, twin_chaos = copy_both(model, chaos)
        twin(batch())
        assert any(hooks for hooks, _ in forward_hooks(twin))
        if leave == "remove":
            twin_chaos.remove()
        del twin_chaos
        gc.collect()
        assert not any(hooks for hooks, _ in forward_hooks(twin))
        assert not any(module._forward_pre_hooks for module in twin.modules())


@copies_of_both
def test_a_copy_trains_as_the_first(copy_both):
    pairs = [annealed_pair()]
    pairs.append(copy_both(*pairs[0]))
    for model, chaos in pairs:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for n in range(25):
            chaos.step()
            optimizer.zero_grad()
            (model(batch(seed=n)).var() + chaos()).backward()
            optimizer.step()
    (first, chaos), (twin, twin_chaos) = pairs
    assert not torch.equal(first.fc1.weight, network().fc1.weight)
    for expected, weight in zip(first.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert twin_chaos.report() == chaos.report()


def test_the_critical_z_of_a_copy_is_that_of_its_layer():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    twin, twin_chaos = copy.deepcopy((model, chaos))
    for both in ((model, chaos), (twin, twin_chaos)):
        loss_of(*both[:2], batch())
    assert twin_chaos.critical_z(0.1) == chaos.critical_z(0.1)
    assert isinstance(twin_chaos.critical_z(0.1)["fc1"], float)


def test_a_copy_is_not_attached_twice():
    twin, twin_chaos = copy.deepcopy(annealed_pair())
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already"):
        twin_chaos.attach(twin, "fc1")


@copies_of_both
def test_the_report_travels_with_a_copy(copy_both):
    model, chaos = annealed_pair()
    chaos()
    report = chaos.report()
    assert report["fc1"]["mean_s"] > 0
    _twin, twin_chaos = copy_both(model, chaos)
    assert twin_chaos.report() == report


def test_in_another_process_they_stay_attached():
    model, chaos = annealed_pair()
    x = batch()
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as pool:
        loss = pool.submit(loss_of, model, chaos, x).result()
    assert loss == pytest.approx(known_loss_of(model, x).item(), rel=1e-12)


WITHOUT_ITS_MODEL = r"^ChaoticLoss is a copy without its model: attach it again"


@pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled, saved_by_torch])
def test_a_chaotic_loss_copied_alone_says_so_until_it_is_attached(copy_of):
    model, chaos = annealed_pair()
    x = batch()
    alone = copy_of(chaos)
    model(x)
    with pytest.raises(ValueError, match=WITHOUT_ITS_MODEL):
        alone()
    twin = copy_of(model)
    twin(x)
    with pytest.raises(ValueError, match=WITHOUT_ITS_MODEL):
        alone()
    alone.attach(twin, "fc1").attach(twin, "fc2", "input", z=8.0)
    alone.attach(twin, "lif2", "membrane", z=4.0)
    twin(x)
    assert_same(twin, alone(), known_loss_of(twin, x))


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match=r"copy.deepcopy\(\(model, chaos\)\)"):
        copy.copy(ChaoticLoss(1.0))


@pytest.mark.parametrize("copy_of", [copy.deepcopy, pickled, saved_by_torch])
def test_a_function_that_reads_a_layer_is_copied_by_its_name(copy_of):
    model = network()
    x = batch()
    twin, twin_chaos = copy_of((model, ChaoticLoss(3.0).attach(model, "fc1", read_doubled)))
    twin(x)
    assert_same(twin, twin_chaos(), authors_loss([2 * rewritten(twin, x).currents[0]], 3.0))


def test_a_deep_copy_keeps_a_function_without_a_name():
    model = network()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc1", lambda module, inputs, output: 2 * output)
    twin, twin_chaos = copy.deepcopy((model, chaos))
    twin(x)
    assert_same(twin, twin_chaos(), authors_loss([2 * rewritten(twin, x).currents[0]], 3.0))


class Scaled(nn.Module):
    """A model with a method that reads one of its layers."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6, dtype=torch.float64)
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x):
        return self.fc(x)

    def scaled(self, module, inputs, output):
        return self.scale * output


def test_a_method_of_the_model_reads_with_the_copy():
    model = Scaled()
    x = batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc", model.scaled)
    twin, twin_chaos = copy.deepcopy((model, chaos))
    with torch.no_grad():
        twin.scale.fill_(5.0)
    twin(x)
    assert_same(twin, twin_chaos(), authors_loss([twin.scale * twin.fc(x)], 3.0))


class Reader(nn.Module):
    """A module that reads a layer."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, module, inputs, output):
        return self.factor * output


def test_a_module_that_reads_is_that_of_the_copy():
    model = network()
    reader = Reader()
    chaos = ChaoticLoss(3.0).attach(model, "fc1", reader)
    twin_reader, twin, twin_chaos = copy.deepcopy((reader, model, chaos))
    with torch.no_grad():
        twin_reader.factor.fill_(5.0)
    h = twin.fc1(batch())
    assert_same(twin.fc1, twin_chaos(), authors_loss([5.0 * h], 3.0))


def test_a_module_that_reads_and_is_not_copied_along_is_missed_when_it_is_needed():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1", Reader())
    twin, _twin_chaos = copy.deepcopy((model, chaos))
    with pytest.raises(ValueError, match=LOST):
        twin(batch())


LOST = r"^layer 'fc1?' was read by a function that could not be copied along: attach the copied"


@pytest.mark.parametrize("copy_of", [pickled, saved_by_torch])
def test_a_function_that_a_pickle_cannot_hold_is_missed_when_it_is_needed(copy_of):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1", lambda module, inputs, output: 2 * output)
    twin, _twin_chaos = copy_of((model, chaos))
    with pytest.raises(ValueError, match=LOST):
        twin(batch())
    copy_of(model)(batch())  # which is attached to nothing


def test_a_method_of_a_model_that_is_copied_later_is_missed_when_it_is_needed():
    model = Scaled()
    chaos = ChaoticLoss(3.0).attach(model, "fc", model.scaled)
    _twin_chaos, twin = copy.deepcopy((chaos, model))
    with pytest.raises(ValueError, match=LOST):
        twin(batch())


def test_a_pickle_is_loaded_where_its_function_is_not_found():
    model = network()
    ours = b"helpers\nread_doubled"
    hook = ChaoticLoss(3.0).attach(model, "fc1", read_doubled)
    saved = pickle.dumps((model, hook), protocol=2).replace(
        b"helpers:read_doubled", b"helpers:read_no_more"
    )
    assert ours not in saved
    twin, _twin_chaos = pickle.loads(saved)
    with pytest.raises(ValueError, match=LOST):
        twin(batch())


# Checkpointing and autocast


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_checkpointed_layers_are_recorded_once(reduction):
    model = network(3)
    chaos = ChaoticLoss(3.0, beta=0.9, reduction=reduction)
    chaos.attach(model, "fc*").attach(model, "lif2", "membrane")
    for n in range(3):  # what the backward pass recorded would show in the next loss
        x = batch(seed=n)
        h = checkpoint(model[:2], x, use_reentrant=False)
        out = checkpoint(model[2:], h, use_reentrant=False)
        loss = out.var() + chaos()
        known = rewritten(model, x)
        layers = [*known.currents, known.before_reset[1]]
        known_loss = known.output.var() + authors_loss(layers, 3.0 * 0.9**n, reduction)
        assert_same(model, loss, known_loss)
        loss.backward()
        assert records_kept(chaos) == [0] * 4
        chaos.step()


def test_reentrant_checkpointing_is_refused():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    checkpoint(model, batch().requires_grad_(), use_reentrant=True)
    line = r"^layer 'fc1' ran under no_grad: with checkpoint\(\) set use_reentrant=False$"
    with pytest.raises(ValueError, match=line):
        chaos()


def under_autocast(dtypes):
    """A model, and the chaotic loss of its first layer in half precision and in full."""
    model = network(dtype=torch.float32)
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(10.0, clamp=(-10, 9.9))
    chaos.attach(model, "fc1", watching(dtypes, lambda output: output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        loss = chaos()
    return model, loss, authors_loss(rewritten(model, x).currents[:1], clamp=(-10, 9.9))


def test_autocast_gives_a_float32_loss_close_to_the_exact_one():
    dtypes = []
    _, loss, known = under_autocast(dtypes)
    assert dtypes == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(known.item(), rel=2**-8)


def test_autocast_gives_a_gradient_close_to_the_exact_one():
    model, loss, known = under_autocast([])
    (ours,) = torch.autograd.grad(loss, model.fc1.weight)
    (theirs,) = torch.autograd.grad(known, model.fc1.weight)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05 * theirs.abs().max().item())


# torch.compile


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("attached_to", ["model", "wrapper"])
def test_a_compiled_model_anneals_as_the_plain_one(attached_to):
    model = network()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    chaos = ChaoticLoss(3.0, beta=0.5, cutoff=1.0)
    chaos.attach({"model": model, "wrapper": compiled}[attached_to], "fc*")
    chaos.attach(model, "lif1", "membrane")
    for n, z in enumerate([3.0, 1.5, 0.0]):
        x = batch(seed=n)
        known = rewritten(model, x)
        layers = [*known.currents, known.before_reset[0]]
        loss = compiled(x).var() + chaos()
        assert_same(model, loss, known.output.var() + authors_loss(layers, z))
        with torch.no_grad():  # evaluated between two steps
            compiled(x)
        assert records_kept(chaos) == [0] * 3
        chaos.step()
    chaos.remove()
    assert_same(model, compiled(x).var(), known.output.var())


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
def test_the_default_compiler():
    model = network()
    x = batch(T=2)
    chaos = ChaoticLoss(3.0).attach(model, "fc*").attach(model, "lif1", "membrane")
    known = rewritten(model, x)
    layers = [*known.currents, known.before_reset[0]]
    loss = torch.compile(model, fullgraph=True)(x).var() + chaos()
    assert_same(model, loss, known.output.var() + authors_loss(layers, 3.0), 1e-11)


class Followed(nn.Module):
    """A layer, and a function that overwrites what the layer gave."""

    def __init__(self, follow):
        super().__init__()
        self.fc = nn.Linear(6, 6, dtype=torch.float64)
        self.follow = follow

    def forward(self, x):
        return self.follow(self.fc(x))


def set_a_column(h):
    h[..., 0] = 0.0
    return 2 * h


in_place = pytest.mark.parametrize(
    "follow",
    [
        pytest.param(nn.ReLU(inplace=True), id="relu"),
        pytest.param(nn.Dropout(0.5, inplace=True), id="dropout"),
        pytest.param(lambda h: h.add_(1.0), id="add"),
        pytest.param(lambda h: h.view(-1).mul_(2.0).tanh(), id="a view"),
        pytest.param(set_a_column, id="a column"),
    ],
)


@in_place
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_layer_counts_as_it_was_before_a_change_in_place(follow, backend):
    model = Followed(follow)
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc")
    torch.compile(model, backend=backend)(x)
    assert_same(model, chaos(), authors_loss([nn.functional.linear(x, *model.fc.parameters())]))


@in_place
def test_an_uncompiled_one_is_refused(follow):
    model = Followed(follow)
    chaos = ChaoticLoss(10.0).attach(model, "fc")
    model(batch())
    with pytest.raises(ValueError, match=r"^layer 'fc' .*in place"):
        chaos()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=needs_compiler)]
)
def test_a_compiled_layer_that_overwrites_its_input_is_read_before(backend):
    model = nn.Sequential(nn.Linear(6, 6, dtype=torch.float64), nn.ReLU(inplace=True))
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "1", "input")
    torch.compile(model, backend=backend)(x)
    assert_same(model, chaos(), authors_loss([model[0](x)]))


class Experiment:
    """A network in one compiled form, by back-propagation alone or with the chaotic loss."""

    def __init__(self, attached=True):
        self.model = network()
        self.chaos = ChaoticLoss(3.0)
        if attached:
            self.attach()
        self.compiled = torch.compile(self.model, backend="aot_eager")

    def attach(self):
        self.chaos.attach(self.model, "fc*")

    def run(self):
        x = batch()
        output = self.compiled(x)
        if self.chaos.layers:
            known = rewritten(self.model, x)
            assert_same(self.model, self.chaos(), authors_loss(known.currents, 3.0))
        output.sum().backward()


def bp_then_csbp():
    Experiment(attached=False).run()
    return Experiment()


def attached_after_a_compiled_step():
    experiment = Experiment(attached=False)
    experiment.run()
    experiment.attach()
    return experiment


def csbp_bp_csbp():
    first = Experiment()
    first.run()
    Experiment(attached=False).run()
    assert records_kept(first.chaos) == [0, 0]
    return Experiment()


def attached_anew():
    experiment = Experiment()
    experiment.run()
    experiment.chaos.remove()
    experiment.run()
    experiment.attach()
    return experiment


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "history",
    [bp_then_csbp, attached_after_a_compiled_step, csbp_bp_csbp, attached_anew],
)
def test_after_other_compiled_code_the_one_line_of_the_message_makes_it_work(history):
    experiment = history()
    with pytest.raises(ValueError, match=r"^layer 'fc1' .*torch.compiler.reset\(\) once after"):
        experiment.run()
    torch.compiler.reset()
    experiment.run()
    experiment.run()


# Quantisation and export


def linear_pair():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))


readings = pytest.mark.parametrize(("layer", "read"), [("0", "output"), ("2", "input")])


def attached_pair(layer, read):
    model = linear_pair()
    return model, ChaoticLoss(10.0).attach(model, layer, read), batch(dtype=torch.float32)


def known_of_pair(model, x, read):
    h = model[0](x)
    return authors_loss([torch.relu(h) if read == "input" else h])


@pytest.mark.filterwarnings("ignore")
@readings
@pytest.mark.parametrize("inplace", [True, False])
def test_training_aware_of_quantisation(layer, read, inplace):
    model, chaos, x = attached_pair(layer, read)
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    prepared = torch.ao.quantization.prepare_qat(model, inplace=inplace)
    trained = prepared if inplace else model  # the copy is attached to nothing
    if not inplace:
        prepared(x)
    assert records_kept(chaos) == [0]
    trained(x)
    loss = chaos()
    trained.apply(torch.ao.quantization.disable_observer)  # the same scales once more
    torch.testing.assert_close(loss, known_of_pair(trained, x, read), rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore")
@readings
@pytest.mark.parametrize("is_copied", [True, False])
def test_dynamic_quantisation_leaves_no_record(layer, read, is_copied):
    model, chaos, x = attached_pair(layer, read)
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model) if is_copied else model)
    quantised(x)
    assert records_kept(chaos) == [0]
    model(x)
    assert_same(model, chaos(), known_of_pair(model, x, read), 1e-5)


def export_strictly(model, x):
    torch.export.export(model, (x,), strict=True)


def export_loosely(model, x):
    torch.export.export(model, (x,), strict=False)


def trace_by_fx(model, x):
    torch.fx.symbolic_trace(nn.Sequential(model))


def run_without_values(model, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model(mode.from_tensor(x))


@pytest.mark.filterwarnings("ignore")
@readings
@pytest.mark.parametrize(
    "export",
    [export_strictly, export_loosely, torch.jit.trace, trace_by_fx, run_without_values],
)
def test_an_export_in_training_mode_leaves_no_record(layer, read, export):
    model, chaos, x = attached_pair(layer, read)
    export(model, x)
    assert records_kept(chaos) == [0]
    model(x)
    assert_same(model, chaos(), known_of_pair(model, x, read), 1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_block_that_is_traced_through_leaves_no_record():
    model = nn.Sequential(linear_pair())
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(10.0).attach(model, "0")
    torch.fx.symbolic_trace(model)
    assert records_kept(chaos) == [0]
    model(x)
    assert_same(model, chaos(), authors_loss([model[0](x)]), 1e-5)


# vmap and torch.func.grad


class PerSample:
    """A model with a chaotic loss as a function of its parameters, and three samples for it."""

    def __init__(self):
        self.model = network()
        self.xs = torch.stack([batch(seed=n) for n in range(3)])
        self.chaos = (
            ChaoticLoss(3.0).attach(self.model, "fc*").attach(self.model, "lif2", "membrane")
        )
        self.parameters = dict(self.model.named_parameters())

    def loss(self, parameters, x):
        return functional_call(self.model, parameters, (x,)).var() + self.chaos()

    def known_loss(self, x):
        known = rewritten(self.model, x)
        return known.output.var() + authors_loss([*known.currents, known.before_reset[1]], 3.0)

    def assert_is_gradient(self, gradients, x):
        known = torch.autograd.grad(self.known_loss(x), list(self.parameters.values()))
        for name, expected in zip(self.parameters, known, strict=True):
            atol = 1e-12 * expected.abs().max().item()
            torch.testing.assert_close(gradients[name], expected, rtol=0, atol=atol)


def test_losses_per_sample_by_vmap_equal_the_loop():
    case = PerSample()
    parameters = {name: p.detach() for name, p in case.parameters.items()}
    losses = vmap(case.loss, (None, 0))(parameters, case.xs)
    for loss, x in zip(losses, case.xs, strict=True):
        assert loss.item() == pytest.approx(case.known_loss(x).item(), rel=1e-12)


def test_gradients_per_sample_by_vmap_equal_the_loop():
    case = PerSample()
    together = vmap(grad(case.loss), (None, 0))(case.parameters, case.xs)
    for n, x in enumerate(case.xs):
        case.assert_is_gradient({name: values[n] for name, values in together.items()}, x)


def test_gradients_by_grad_are_those_of_autograd():
    case = PerSample()
    for x in case.xs:
        case.assert_is_gradient(grad(case.loss)(case.parameters, x), x)


@pytest.mark.parametrize(
    ("transform", "samples"),
    [
        pytest.param(grad, batch(), id="grad"),
        pytest.param(lambda f: vmap(f, (None, 0)), torch.stack([batch(), batch()]), id="vmap"),
    ],
)
def test_called_outside_a_transformed_function_is_refused(transform, samples):
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).var()

    transform(loss)(dict(model.named_parameters()), samples)
    line = r"^layer 'fc1' ran inside vmap or torch.func.grad: call the chaotic loss inside"
    with pytest.raises(ValueError, match=line):
        chaos()


# The private names of torch


def test_a_replica_of_data_parallelism_does_not_take_the_place_of_its_layer():
    fc = nn.Linear(6, 6, dtype=torch.float64)
    chaos = ChaoticLoss(3.0).attach(nn.Sequential(fc), "0")
    replica = fc._replicate_for_data_parallel()
    replica.weight = fc.weight * 1.0
    replica.bias = fc.bias * 1.0
    assert (is_replica(replica), is_replica(fc)) == (True, False)
    h = replica(batch())
    assert chaos.layers[0].module is fc
    assert_same(fc, chaos(), authors_loss([h], 3.0))


class Exponential(torch.autograd.Function):
    """exp, which saves what it needs by the public way."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y


@pytest.mark.parametrize(
    ("h_of", "is_seen"),
    [
        pytest.param(lambda x: x.exp(), True, id="saves its result"),
        pytest.param(Exponential.apply, True, id="saves by save_for_backward"),
        pytest.param(lambda x: x.exp().clone(), True, id="a copy, which saves nothing"),
        pytest.param(lambda x: x.exp().view(-1).clone(), True, id="a copy of a view"),
        pytest.param(lambda x: x + 1.0, False, id="has saved nothing at all"),
        pytest.param(lambda x: x, False, id="has no graph"),
    ],
)
def test_that_a_graph_is_gone_shows_in_what_it_has_saved(h_of, is_seen):
    h = h_of(torch.ones(3, requires_grad=True))
    assert not compiled_graph_is_gone(h)
    h.sum().backward(retain_graph=True)
    assert not compiled_graph_is_gone(h)
    h.sum().backward()
    assert compiled_graph_is_gone(h) == is_seen


def test_whether_a_backward_pass_is_running():
    seen = []
    x = torch.ones(3, requires_grad=True)
    x.register_hook(lambda gradient: seen.append(in_backward_pass()))
    assert not in_backward_pass()
    x.sum().backward()
    assert seen == [True]
    assert not in_backward_pass()


def test_what_belongs_to_a_transform_and_has_left_it():
    seen = []
    kept = []
    outside = torch.ones(3, requires_grad=True)

    def loss(x):
        seen.append([is_transformed(x), has_left_its_transform(x), is_transformed(outside)])
        kept.append(x)
        return (x * outside).sum()

    grad(loss)(torch.ones(3))
    vmap(loss)(torch.ones(2, 3))
    assert seen == [[True, False, False]] * 2
    assert [has_left_its_transform(x) for x in (*kept, outside)] == [True, True, False]


def test_whose_gradient_a_tensor_has_inside_a_transform():
    seen = []
    outside = torch.ones(3, requires_grad=True)

    def loss(x):
        products = (x, outside, x * outside, x.detach(), outside.detach())
        seen.append([has_outer_gradient(value) for value in products])
        return (x * outside).sum()

    grad(loss)(torch.ones(3))
    grad(loss)(torch.ones(3, requires_grad=True))
    assert seen == [[False, True, True, False, False], [True, True, True, False, False]]


def test_what_stands_for_a_tensor_has_no_values():
    mode = FakeTensorMode()
    assert has_no_values(mode.from_tensor(torch.ones(3)))
    assert not has_no_values(torch.ones(3))
    assert not has_no_values(None)


class Counter:
    """A hook that is an object, and one that is a method of it."""

    def __call__(self, module, args, kwargs, output):
        pass

    def before(self, module, args, kwargs):
        pass


def test_one_hook_is_removed_wherever_it_is_and_the_others_stay():
    fc = nn.Linear(2, 2)
    fc.register_forward_pre_hook(lambda module, args: None)
    fc.register_forward_hook(lambda module, args, kwargs, output: None, with_kwargs=True)
    others = hooks_of(fc)
    kwargs_of_others = dict(fc._forward_hooks_with_kwargs)
    counter = Counter()
    for _ in range(2):
        fc.register_forward_pre_hook(counter.before, with_kwargs=True)
        fc.register_forward_hook(counter, with_kwargs=True)
    fc.register_forward_hook(Counter(), with_kwargs=True)
    assert hooks_of(fc)[:3] == [others[0], counter.before, counter.before]
    assert len(hooks_of(fc)) == 7
    remove_hook(fc, counter)
    assert hooks_of(fc)[:2] == others
    assert len(hooks_of(fc)) == 3
    assert not fc._forward_pre_hooks_with_kwargs
    assert len(fc._forward_hooks_with_kwargs) == 2
    assert kwargs_of_others.items() <= fc._forward_hooks_with_kwargs.items()


def test_what_is_not_compiled_is_what_it_is():
    fc = nn.Linear(2, 2)
    assert uncompiled(fc) is fc
    assert uncompiled(torch.compile(fc, backend="eager")) is fc
