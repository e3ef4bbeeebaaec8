"""The blocks of examples/RECIPES.md: each runs, and trains as the same training written by hand."""

import os
import re
import socket
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import snntorch
import torch
from helpers import Spike, authors_loss
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from csbp_notebooks.files import ROOT

EXAMPLES = ROOT / "examples"
PROCESSES = 2
LIMIT = 100  # seconds

Z = 10.0
EPOCHS = 4
BATCHES = 5
STEPS = EPOCHS * BATCHES
BETA = 0.01 ** (1 / STEPS)

TITLE = re.compile(r"^## (.*)$", re.M)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)

# By what runs them; the last are excerpts of scripts that tests/test_examples.py runs.
HERE = (
    "Anneal once per batch",
    "Anneal once per epoch",
    "Accumulate gradients",
    "AMP with a scaler, in snnTorch",
    "LBFGS",
    "SAM",
)
SHARED = ("DDP", "FSDP2")
EXCERPTS = {"Lightning": "with_lightning.py", "accelerate": "with_accelerate.py"}


def read_blocks():
    """The first block, and those of each recipe by its title."""
    text = (EXAMPLES / "RECIPES.md").read_text()
    head, *parts = TITLE.split(text)
    (start,) = BLOCK.findall(head)
    titles, bodies = parts[::2], parts[1::2]
    blocks = {title: BLOCK.findall(body) for title, body in zip(titles, bodies, strict=True)}
    return start, blocks


START, RECIPES = read_blocks()


def run(code):
    """What the first block and more code leave behind, as attributes."""
    names = {}
    exec(compile(START + code, "RECIPES.md", "exec"), names)
    return SimpleNamespace(**names)


DOUBLE = "import torch\n\ntorch.set_default_dtype(torch.float64)\n"


@pytest.fixture
def double(one_thread):
    """Numbers of double precision, whose rounding no tolerance has to hide."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def start(double):
    """The network, the batches and the optimizer that every recipe starts from."""
    return run("")


# The same by hand


def hidden_current(model, x):
    """What a recipe reads as h: the output of the first linear layer."""
    weight, bias = model[0].parameters()
    return x @ weight.T + bias


def whole_loss(model, x, y, z):
    """The loss of a recipe, from the equations: LIF with decay 1/2, and the published expression.

    Args:
        model: the network of the first block, whose parameters are used, and nothing else.
        x: [T, N, 8].
        y: classes, [N].
        z: strength.
    """
    current = hidden_current(model, x)
    weight, bias = model[2].parameters()
    v = k = torch.zeros_like(current[0])
    logits = 0
    for current_t in current:
        v = v * 0.5 * (1 - k) + current_t
        k = Spike.apply(v - 1)
        logits = logits + k @ weight.T + bias
    return cross_entropy(logits / len(x), y) + authors_loss([current], z)


def train_by_hand(start, strength, update=None):
    """Train the network of the first block.

    Args:
        start: what that block left.
        strength: z as a function of the number of the epoch and of the update.
        update: a function of (x, y, z) that trains on one batch; None for gradient descent.
    """

    def descend(x, y, z):
        start.optimizer.zero_grad()
        whole_loss(start.model, x, y, z).backward()
        start.optimizer.step()

    updates = 0
    for epoch in range(EPOCHS):
        for x, y in start.batches:
            (update or descend)(x, y, strength(epoch, updates))
            updates += 1


def by_updates(epoch, updates):
    return Z * BETA**updates


def by_epochs(epoch, updates):
    return Z * 0.01 ** (epoch / EPOCHS)


def assert_same_weights(model, expected, atol=1e-12):
    """Two networks have the same weights but for rounding; they are of about one."""
    for weight, known in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(weight, known, rtol=0, atol=atol)


# The page


def test_every_block_of_the_page_is_run_or_is_an_excerpt_of_a_script_that_is():
    assert set(RECIPES) == {*HERE, *SHARED, *EXCERPTS}
    assert all(RECIPES.values())


@pytest.mark.parametrize("title", EXCERPTS)
def test_an_excerpt_stands_in_its_script(title):
    (block,) = RECIPES[title]
    source = (EXAMPLES / EXCERPTS[title]).read_text()
    assert any(textwrap.indent(block, " " * depth) in source for depth in (0, 4, 8, 12))


def test_the_losses_of_a_recipe_matter(start):
    """Else a recipe without one of them would pass, too."""
    x, y = start.batches[0]
    parameters = list(start.model.parameters())
    gradients = [torch.autograd.grad(whole_loss(start.model, x, y, z), parameters) for z in (0, Z)]
    norms = [torch.cat([part.flatten() for part in gradient]).norm() for gradient in gradients]
    assert 1.05 < norms[1] / norms[0] < 10


# Annealing, accumulation


@pytest.mark.parametrize(
    ("title", "strength"),
    [
        ("Anneal once per batch", by_updates),
        ("Anneal once per epoch", by_epochs),
        ("Accumulate gradients", by_updates),
    ],
)
def test_a_recipe_trains_as_by_hand_and_z_ends_where_it_should(start, title, strength):
    recipe = run(*RECIPES[title])
    train_by_hand(start, strength)
    assert_same_weights(recipe.model, start.model)
    assert recipe.chaos.z == pytest.approx(Z / 100)


@pytest.mark.parametrize(
    ("title", "old", "new"),
    [
        ("Anneal once per batch", " + chaos()", ""),
        ("Anneal once per batch", "chaos.step()", "pass"),
        ("Accumulate gradients", "(loss / micro_batches)", "loss"),
        ("Accumulate gradients", ".backward()\n", ".backward()\n            chaos.step()\n"),
    ],
)
def test_a_recipe_with_a_wrong_line_does_not(start, title, old, new):
    (block,) = RECIPES[title]
    assert block.count(old) == 1
    recipe = run(block.replace(old, new))
    train_by_hand(start, by_updates)
    with pytest.raises(AssertionError):
        assert_same_weights(recipe.model, start.model, atol=1e-3)


# AMP with a scaler, in snnTorch


def train_snntorch_by_hand(start, model):
    """The recipe's training in float32, without a scaler, one tensor [T, N, 32] for h."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def update(x, y, z):
        current = model["fc1"](x)
        potential = torch.zeros_like(current[0])
        logits = 0
        for current_t in current:
            spikes, potential = model["lif"](current_t, potential)
            logits = logits + model["fc2"](spikes)
        optimizer.zero_grad()
        (cross_entropy(logits / len(x), y) + authors_loss([current], z)).backward()
        optimizer.step()

    train_by_hand(start, by_updates, update)


def snntorch_network():
    """The recipe's network before its training."""
    run("")  # the same random numbers
    layers = {"fc1": nn.Linear(8, 32), "lif": snntorch.Leaky(0.5), "fc2": nn.Linear(32, 3)}
    return nn.ModuleDict(layers)


@pytest.fixture
def single(one_thread):
    """The same in single precision, which autocast starts from."""
    return run("")


def test_amp_with_a_scaler_trains_as_float32_without(single):
    recipe = run(*RECIPES["AMP with a scaler, in snnTorch"])
    expected = snntorch_network()
    first = torch.nn.utils.parameters_to_vector(expected.parameters()).detach()
    train_snntorch_by_hand(single, expected)
    ours, theirs = (
        torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        for model in (recipe.model, expected)
    )
    assert (ours - theirs).norm() < 0.05 * (theirs - first).norm()
    assert not torch.equal(ours, theirs)
    assert recipe.scaler.get_scale() > 1
    assert recipe.chaos.z == pytest.approx(Z / 100)


def test_the_chaotic_loss_is_scaled_and_divided_again(single):
    (block,) = RECIPES["AMP with a scaler, in snnTorch"]
    exact = run(block.replace("torch.float16)", "torch.float16, enabled=False)"))
    expected = snntorch_network()
    train_snntorch_by_hand(single, expected)
    assert_same_weights(exact.model, expected, atol=1e-5)


# LBFGS, SAM


def test_lbfgs_meets_one_function_in_each_step(start):
    recipe = run(*RECIPES["LBFGS"])
    assert recipe.chaos.calls > 2 * recipe.total_steps
    assert recipe.chaos.steps == recipe.total_steps

    model = start.model
    x, y = start.batches[0]
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=0.1, max_iter=5, line_search_fn="strong_wolfe"
    )
    for step in range(6):

        def closure(z=Z * 0.01 ** (step / 6)):
            optimizer.zero_grad()
            loss = whole_loss(model, x, y, z)
            loss.backward()
            return loss

        optimizer.step(closure)
    # its line search multiplies differences of rounding
    assert_same_weights(recipe.model, model, atol=1e-9)


def shifted_by(model, loss, rho=0.05):
    """The parameters of a model, shifted by rho in the direction of the gradient of a loss."""
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt()
    pairs = zip(model.named_parameters(), gradients, strict=True)
    return {name: p.detach() + rho * gradient / norm for (name, p), gradient in pairs}


class Whole(nn.Module):
    """A network whose output is the whole loss of a recipe."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y, z):
        return whole_loss(self.model, x, y, z)


def sam_update(start):
    """An update by SAM, from its definition: the gradient is that at the shifted weights."""
    loss = Whole(start.model)

    def update(x, y, z):
        shifted = shifted_by(loss, loss(x, y, z))
        for weight in shifted.values():
            weight.requires_grad_()
        functional_call(loss, shifted, (x, y, z)).backward()
        for name, parameter in loss.named_parameters():
            parameter.grad = shifted[name].grad
        start.optimizer.step()

    return update


def test_sam_sees_h_at_the_weights_and_then_at_the_shifted_weights(start):
    recipe = run(RECIPES["SAM"][0])
    train_by_hand(start, by_updates, sam_update(start))
    assert_same_weights(recipe.model, start.model)
    assert recipe.chaos.z == pytest.approx(Z / 100)


def test_sam_without_the_second_h_differs(start):
    block = RECIPES["SAM"][0]
    call = "(loss_of(x, y) + chaos()).backward()  # h at the shifted weights"
    assert block.count(call) == 1
    recipe = run(block.replace(call, "loss_of(x, y).backward()"))
    train_by_hand(start, by_updates, sam_update(start))
    with pytest.raises(AssertionError):
        assert_same_weights(recipe.model, start.model, atol=1e-3)


def test_the_first_pass_of_sam_may_leave_the_chaotic_loss_out(double):
    whole, forgetting = RECIPES["SAM"]
    again = "(loss_of(x, y) + chaos()).backward()\n"
    recipe = run(whole + "optimizer.zero_grad()\n" + forgetting + "optimizer.zero_grad()\n" + again)
    expected = torch.autograd.grad(
        whole_loss(recipe.model, recipe.x, recipe.y, recipe.chaos.z), recipe.parameters
    )
    for parameter, gradient in zip(recipe.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_first_pass_that_nobody_took_is_refused(one_thread):
    block = RECIPES["SAM"][0] + "loss_of(x, y).backward()\nloss_of(x, y) + chaos()\n"
    with pytest.raises(ValueError, match="went through a backward pass before"):
        run(block)


# DDP, FSDP2


@pytest.mark.parametrize("title", SHARED)
def test_two_processes_train_as_one_by_hand(start, tmp_path, title):
    script = tmp_path / "recipe.py"
    script.write_text(DOUBLE + START + "".join(RECIPES[title]))
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, script],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    train_by_hand(start, by_updates)
    for name, weight in start.model.state_dict().items():
        torch.testing.assert_close(saved["model"][name], weight, rtol=0, atol=1e-12)
    assert saved["chaos"]["steps"] == STEPS


@pytest.fixture
def one_process(monkeypatch, tmp_path):
    """What torchrun tells a process that trains alone; files go into a folder of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    world = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("one_process", "double")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
def test_a_layer_is_sharded_before_or_after_it_is_attached(tmp_path):
    (block,) = RECIPES["FSDP2"]
    attach = re.search(r"^total_steps = .*\n^chaos = .*\n", block, re.M)[0]
    first = block.replace(attach, "").replace("for layer in", f"{attach}for layer in")
    assert first.index("attach(") < first.index("fully_shard(layer)")
    weights = []
    for code in (block, first):
        run(code)
        weights.append(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    for name, weight in weights[0].items():
        assert torch.equal(weights[1][name], weight)


@pytest.mark.usefixtures("one_process", "double")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
def test_critical_z_of_a_sharded_layer_is_that_of_the_whole_one():
    (block,) = RECIPES["FSDP2"]
    found = run(block).limits["0"]
    (plain,) = RECIPES["Anneal once per batch"]
    expected = run(plain + "limits = chaos.critical_z(optimizer)\n").limits["0"]
    assert found == pytest.approx(expected, rel=1e-5)
