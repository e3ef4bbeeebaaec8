"""What the hooks of a ChaoticLoss read and keep, how long they live, and how torch treats them."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from helpers import (
    assert_same,
    authors_loss,
    batch,
    forward_hooks,
    network,
    records_kept,
    rewritten,
    watching,
)
from torch import nn
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


def test_a_run_in_eval_counts_for_one_call():
    model = network()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    model.eval()(batch())
    assert chaos() == 0
    with pytest.raises(ValueError, match=f"^layer 'fc1' {DID_NOT_RUN}"):
        chaos()


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


@pytest.mark.usefixtures("fresh_compiler")
def test_attached_after_a_compiled_model_has_run_is_refused():
    model = network()
    compiled = torch.compile(model, backend="eager")
    compiled(batch())
    chaos = ChaoticLoss(1.0).attach(compiled, "fc1")
    compiled(batch())
    with pytest.raises(ValueError, match=r"attach before torch.compile"):
        chaos()


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
