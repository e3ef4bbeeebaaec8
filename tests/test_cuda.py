"""On a GPU: the neuron, the loss and the plug-in give what they give on the processor."""

import copy
import io
import math
from typing import NamedTuple

import pytest
import torch
from helpers import batch, network
from torch import nn

from csbp_core import LIF, ChaoticLoss, chaotic_loss
from csbp_core.loss import Law, Term, total_chaotic_loss

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

# 0.5 alone is a power of two, so that a product with it rounds nothing.
DECAYS = (0.5, 0.9, 0.2)


def random_numbers(*size, dtype=torch.float32, seed=0):
    """Random numbers on the processor, the same on every machine."""
    return torch.randn(*size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradient_of(lif, x, weights):
    """The spikes, and the gradient at x of their weighted sum."""
    x = x.detach().requires_grad_()
    spikes = lif(x)
    (gradient,) = torch.autograd.grad((spikes * weights).sum(), x)
    return spikes.detach(), gradient


# The neuron


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_every_spike_and_gradient_is_that_of_the_processors_steps(backend, dtype, decay):
    x = random_numbers(4, 2**18, dtype=dtype)
    weights = random_numbers(4, 2**18, dtype=dtype, seed=1)
    spikes, gradient = gradient_of(LIF(decay, backend="reference"), x, weights)
    ours, our_gradient = gradient_of(LIF(decay, backend=backend), x.cuda(), weights.cuda())
    assert torch.equal(ours.cpu(), spikes)
    torch.testing.assert_close(our_gradient.cpu(), gradient)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("backend", ["eager", "compiled"])
def test_every_potential_is_that_of_the_processors_steps(backend, decay):
    x = random_numbers(4, 2**16)
    known = LIF(decay, store_v_seq=True, backend="reference")
    ours = LIF(decay, store_v_seq=True, backend=backend)
    known(x)
    ours(x.cuda())
    assert torch.equal(ours.v_seq.cpu(), known.v_seq)
    assert torch.equal(ours.v.cpu(), known.v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_spikes_as_on_the_processor(dtype):
    x = random_numbers(4, 2**16).to(dtype)
    assert torch.equal(LIF(0.9)(x.cuda()).cpu(), LIF(0.9, backend="reference")(x))


def test_compiled_it_keeps_its_input_alone():
    x = random_numbers(4, 2**20).cuda().requires_grad_()
    lif = LIF(backend="compiled")
    lif(x).sum().backward()  # compiles
    lif.v = x.grad = None
    before = torch.cuda.memory_allocated()
    spikes = lif(x)
    assert torch.cuda.memory_allocated() - before == spikes.nbytes + lif.v.nbytes


def test_an_infinite_current_leaves_nan_as_on_the_processor():
    x = torch.full((3, 2), 0.75, device="cuda")
    x[0, 0] = math.inf
    lif = LIF(backend="compiled")
    assert lif(x).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert lif.v[0].isnan()


# The loss


def total_of_one(h):
    return total_chaotic_loss([Term(h, 10.0 / h.numel())], Law(0.65, 10.0))


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("function", [lambda h: chaotic_loss(h, 10.0), total_of_one])
def test_the_loss_and_its_gradient_are_those_of_float64_on_the_processor(function, is_compiled):
    h = 20 * random_numbers(64, 1000)
    h[0, :2] = torch.tensor([-1e4, 1e4])
    exact = h.double().requires_grad_()
    ours = h.cuda().requires_grad_()
    known = chaotic_loss(exact, 10.0)
    made = torch.compile(function)(ours) if is_compiled else function(ours)
    known.backward()
    made.backward()
    torch.testing.assert_close(made.item(), known.item(), rtol=1e-5, atol=0)
    # z (s - I0) / scale vanishes at h*, where float32 cannot be relatively exact
    largest = exact.grad.abs().max().item()
    torch.testing.assert_close(ours.grad.cpu().double(), exact.grad, rtol=0, atol=1e-6 * largest)


def test_a_strength_on_the_processor_goes_with_h_on_the_gpu():
    h = random_numbers(5, 3, dtype=torch.float64)
    z = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(chaotic_loss(h.cuda(), z).cpu(), chaotic_loss(h, z))


# The plug-in


class Step(NamedTuple):
    """A step of training, after its backward pass."""

    model: nn.Module
    chaos: ChaoticLoss
    loss: float

    def gradients(self):
        """All gradients, on the processor, one after the other."""
        return torch.cat([p.grad.flatten().cpu() for p in self.model.parameters()])


def step(model, x, device, layers=nn.Linear, read="output", autocast=None, scale=1.0):
    """A step of a copy of a model on a device; the loss is scaled for its backward pass."""
    model = copy.deepcopy(model).to(device)
    chaos = ChaoticLoss(10).attach(model, layers, read=read)
    with torch.autocast("cuda", autocast, enabled=autocast is not None):
        loss = model(x.to(device)).float().square().mean() + chaos()
    (scale * loss).backward()
    return Step(model, chaos, loss.item())


def relative_distance(ours, known):
    return ((ours - known).norm() / known.norm()).item()


@pytest.mark.parametrize(
    ("layers", "read"), [(nn.Linear, "output"), (LIF, "input"), (LIF, "membrane")]
)
def test_loss_gradients_and_numbers_reported_are_those_on_the_processor(layers, read):
    known = step(network(), batch(), "cpu", layers, read)
    ours = step(network(), batch(), "cuda", layers, read)
    assert ours.loss == pytest.approx(known.loss, rel=1e-12)
    assert relative_distance(ours.gradients(), known.gradients()) < 1e-12
    # s and the norms of gradients are float32 in a report
    assert ours.chaos.scalars() == pytest.approx(known.chaos.scalars(), rel=1e-6)


def test_the_critical_z_is_that_on_the_processor():
    known = step(network(), batch(), "cpu").chaos.critical_z(0.1, momentum=0.9)
    ours = step(network(), batch(), "cuda").chaos.critical_z(0.1, momentum=0.9)
    assert ours == pytest.approx(known, rel=1e-9)


def test_a_model_that_moves_to_the_gpu_stays_attached():
    model = network()
    chaos = ChaoticLoss(10).attach(model, nn.Linear)
    model(batch())
    known = chaos()
    model.cuda()(batch().cuda())
    assert chaos().item() == pytest.approx(known.item(), rel=1e-12)


def test_a_checkpoint_goes_from_the_gpu_to_the_processor():
    trained = step(network(), batch(), "cuda").chaos
    trained.step()
    trained.z /= 3
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    resumed = ChaoticLoss(10).attach(network(), nn.Linear)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert (resumed.z, resumed.steps, resumed.calls) == (10 / 3, 1, 1)
    assert resumed.report() == trained.report()


LAYER_DTYPES = [torch.bfloat16, torch.float16]


def wide_layer():
    """A layer without neurons, which would spike or not by a rounding, and its input."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32)), random_numbers(8, 16, 64)


@pytest.mark.parametrize("autocast", LAYER_DTYPES)
def test_under_autocast_it_is_near_float32(autocast):
    model, x = wide_layer()
    known = step(model, x, "cpu")
    ours = step(model, x, "cuda", autocast=autocast)
    assert ours.loss == pytest.approx(known.loss, rel=1e-2)
    assert relative_distance(ours.gradients(), known.gradients()) < 2e-2


@pytest.mark.parametrize("autocast", LAYER_DTYPES)
def test_a_scaled_loss_changes_neither_share_nor_gradient(autocast):
    model, x = wide_layer()
    scale = 2.0**12  # as a GradScaler scales
    known = step(model, x, "cpu")
    ours = step(model, x, "cuda", autocast=autocast, scale=scale)
    assert relative_distance(ours.gradients() / scale, known.gradients()) < 2e-2
    (report,) = ours.chaos.report().values()
    (expected,) = known.chaos.report().values()
    assert report["gradient_share"] == pytest.approx(expected["gradient_share"], rel=2e-2)


@pytest.mark.parametrize("autocast", LAYER_DTYPES)
def test_it_trains_with_a_grad_scaler(autocast):
    """Its loss alone brings s to I0: the mean of h to h*, as without half precision."""
    torch.manual_seed(0)
    model = nn.Linear(16, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
    scaler = torch.amp.GradScaler("cuda")
    chaos = ChaoticLoss(10).attach(model, nn.Linear)
    x = random_numbers(64, 16).cuda()
    for _ in range(100):
        with torch.autocast("cuda", autocast):
            model(x)
            loss = chaos()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    (s,) = [report["mean_s"] for report in chaos.report().values()]
    assert s == pytest.approx(0.65, abs=0.02)


def test_no_step_but_a_measured_one_waits_for_the_gpu():
    model = network(dtype=torch.float32).cuda()
    x = batch(dtype=torch.float32).cuda()
    chaos = ChaoticLoss(10).attach(model, nn.Linear)
    for _ in range(2):  # the first call is measured; libraries may wait as they start
        (model(x).square().mean() + chaos()).backward()
        chaos.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        (model(x).square().mean() + chaos()).backward()
        chaos.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert chaos.calls == 3


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_model_has_the_loss_of_the_model():
    model = network().cuda()
    x = batch().cuda()
    chaos = ChaoticLoss(10).attach(model, nn.Linear)
    model(x)
    known = chaos().item()
    torch.compile(model)(x)
    assert chaos().item() == pytest.approx(known, rel=1e-9)
