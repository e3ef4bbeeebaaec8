"""What more than one benchmark runs: layers of neurons, chaotic losses, steps of training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from helpers import storages_kept
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from csbp_core import LIF, ChaoticLoss, chaotic_loss
from csbp_core.loss import Law, Term, total_chaotic_loss

Z, I0, SCALE = 10.0, 0.65, 10.0
CLAMP = (-10.0, 9.9)  # the authors' training code gives h outside no gradient
COPY = "copy"  # of the input; `tables.py` knows it by this name

# A layer of neurons


class Spike(torch.autograd.Function):
    """The document's ZIF: it keeps what that keeps."""

    @staticmethod
    def forward(ctx, u, gamma):
        k = (u > 0).float()
        ctx.save_for_backward(u, k, torch.tensor([gamma]))
        return k

    @staticmethod
    def backward(ctx, grad):
        u, _, gamma = ctx.saved_tensors
        triangle = 1 / gamma.item() ** 2 * (gamma.item() - u.abs()).clamp(min=0)
        return grad.clone() * triangle, None


def document(x):
    """The document's LIFSpike."""
    v = 0
    spikes = []
    for x_t in x:
        v = v * 0.5 + x_t
        k = Spike.apply(v - 1.0, 1.0)
        v = (1 - k) * v
        spikes.append(k)
    return torch.stack(spikes)


TRIANGLE = surrogate.PiecewiseQuadratic(alpha=1.0)
NODE = partial(
    neuron.LIFNode, tau=2.0, decay_input=False, surrogate_function=TRIANGLE, step_mode="m"
)


def spikingjelly(layer, x):
    """A run of SpikingJelly's layer, from rest."""
    functional.reset_net(layer)
    return layer(x)


class Way(NamedTuple):
    """A layer to run, and what of it must be that of `lif_step`."""

    run: Callable[[Tensor], Tensor]
    same_spikes: bool = True
    same_gradients: bool = True


def memory(way, x, peak):
    """What a layer keeps, without the input, too, which one before it may keep; and its peak."""
    storages = storages_kept(lambda: way.run(x))
    kept = sum(storages.values())
    of_input = storages.get(x.untyped_storage().data_ptr(), 0)
    return {
        "kept": kept / x.nbytes,
        "beyond_input": (kept - of_input) / x.nbytes,
        "peak": peak,
    }


def forward_and_backward(way, x, grad):
    """The gradient at x, from that at the spikes."""
    return torch.autograd.grad(way.run(x), x, grad)[0]


def assert_same(way, x, grad, made, allowed=0.0):
    """What the way says to be that of `lif_step` is; `made` is its gradient with respect to x.

    `allowed` is the share of numbers that may differ all the same.
    """
    reference = LIF(backend="reference")(x)
    if way.same_spikes:
        assert (way.run(x) != reference).double().mean() <= allowed
    if way.same_gradients:
        (expected,) = torch.autograd.grad(reference, x, grad)
        differs = ~torch.isclose(made, expected, atol=1e-5)
        assert differs.double().mean() <= allowed


# The chaotic loss of a layer


def authors(h):
    """The loss as in the authors' training code, without its limits for h."""
    s = torch.sigmoid(h / SCALE)
    return -(Z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))).mean()


def ours(h):
    return chaotic_loss(h, Z, I0, SCALE)


def of_the_plugin(h):
    """What a call of `ChaoticLoss` takes of all layers at once, here of one."""
    return total_chaotic_loss([Term(h, Z / h.numel())], Law(I0, SCALE))


AUTHORS = "the authors' expression"
PLUGIN = "`ChaoticLoss`"
LOSSES = {AUTHORS: authors, "`chaotic_loss`": ours, PLUGIN: of_the_plugin}


# A step of training

WAYS_TO_TRAIN = ("BP", "ours", "measured", "authors")  # "measured": ours, every call is measured


class Net(nn.Sequential):
    """Layers over a sequence [T, N, *]; gives its output and a list of what is read for CSBP.

    The authors' networks do the same. `read` is the type of the layers that are read.
    """

    def forward(self, x):
        sequence = x.shape[:2]  # [T, N]
        inner = []
        for layer in self:
            if isinstance(layer, LIF):
                x = layer(x)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, sequence)  # [T * N, *] in between
            if isinstance(layer, self.read):
                inner.append(x)
        return x.mean(0), inner


def digits(neuron):
    """64-64-64-10 on 6 steps of 128 images, every linear layer's output read."""
    net = Net(nn.Linear(64, 64), neuron(), nn.Linear(64, 64), neuron(), nn.Linear(64, 10), neuron())
    net.read = nn.Linear
    return net, torch.rand(128, 64).expand(6, -1, -1)


def vgg(neuron, images=16):
    """Six convolutions and a linear layer on 4 steps of images; the convolutions are read."""
    layers = []
    channels = 3
    for wide in (64, 128, 256):
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), neuron()]
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.BatchNorm2d(wide), neuron()]
        layers += [nn.AvgPool2d(2)]
        channels = wide
    net = Net(*layers, nn.Flatten(), nn.Linear(256 * 4 * 4, 10))
    net.read = nn.Conv2d
    return net, torch.randn(images, 3, 32, 32).expand(4, -1, -1, -1, -1)


def authors_of_all(inner):
    """The chaotic loss as in the authors' training code, on tensors that the model returns."""
    low, high = CLAMP
    loss = 0
    for h in inner:
        h = torch.where(h > low, h, low)
        s = torch.sigmoid(torch.where(h < high, h, high) / SCALE)
        loss = loss - (Z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))).mean()
    return loss


def training_step(way, model, x, y, autocast=False):
    """A step of training by this way, to be called; `autocast` runs the model in bfloat16."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    chaos = None
    if way in ("ours", "measured"):
        chaos = ChaoticLoss(Z).attach(model, model.read)

    def run():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            output, inner = model(x)
            loss = F.cross_entropy(output, y)
            if chaos:
                loss = loss + chaos()
            elif way == "authors":
                loss = loss + authors_of_all(inner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if chaos:
            chaos.step()
        return loss

    return run
