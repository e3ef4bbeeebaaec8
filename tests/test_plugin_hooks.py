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
        (lambda module, inputs, output: None, r".* that is a float tensor"),
        (lambda module, inputs, output: output > 0, r".* that is a float tensor"),
        (lambda module, inputs, output: [output], r".* that is a float tensor"),
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
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
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
