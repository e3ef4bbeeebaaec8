"""Spiking networks, the arms of the experiment, and the training of many networks at once."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from csbp_core import LIF, chaotic_loss, critical_z
from csbp_core.loss import largest_eigenvalue

from .data import Data, digits, randman, xor

MOMENTUM, I0, SCALE = 0.9, 0.65, 10.0
REST = SCALE * math.log(I0 / (1 - I0))  # where the chaotic loss is least
ARMS = ("bp", "csbp", "high", "constant", "quadratic", "matched", "noise", "membrane")


class Net(nn.Module):
    """Layers of LIF neurons and a linear readout averaged over time.

    Shape: x `[T, N, *]`, or `[N, *]` if it is presented `static` times. Returns logits `[N, classes]` and of every hidden layer
    the current `[T, N, *]`, the potential after the reset at the last step `[N, *]` and the spikes `[T, N, *]`. The first
    current of a static input, the same at every step, is `[1, N, *]`; means over it are the same.
    """

    def __init__(self, hidden: Sequence[nn.Module], readout: nn.Module, static: int = 0) -> None:
        super().__init__()
        self.hidden, self.readout, self.static = nn.ModuleList(hidden), readout, static
        self.neurons = nn.ModuleList(LIF(decay=0.5, backend="eager") for _ in hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        read: list[tuple[Tensor, Tensor, Tensor]] = []
        for layer, neuron in zip(self.hidden, self.neurons, strict=True):
            static = self.static and not read
            h = layer(x).unsqueeze(0) if static else layer(x)
            x = neuron(h.expand(self.static, *h.shape[1:]) if static else h)
            read.append((h, neuron.v, x))  # type: ignore[arg-type]
        return self.readout(x.mean(0).flatten(1)), read  # a linear readout of the mean is the mean of the readouts


def dense(sizes: Sequence[int], static: int = 0, gain: float = 1.0) -> Net:
    """A network of linear layers, `sizes` from inputs to classes; hidden weights start at `gain` times torch's."""
    *hidden, readout = (nn.Linear(wide, high) for wide, high in itertools.pairwise(sizes))
    with torch.no_grad():
        for layer in hidden:
            layer.weight *= gain
    return Net(hidden, readout, static)


class Task(NamedTuple):
    """What is trained on what, and for how long."""

    data: Callable[[], Data]
    net: Callable[[], Net]
    epochs: int = 20  # nominal, the length of the annealing and the most that tuning may choose
    batch: int = 50
    every: int = 1  # epochs from one validation to the next
    seeds: int = 64  # of the final runs
    tuning: int = 180  # networks trained to choose the settings
    solve: bool = False  # accuracy is 1 if everything is right, else 0


# torch's own start leaves the deeper layers and those that see single spikes silent; anything that pulls h up would win there
spikes = functools.partial(randman, alpha=1.0, time_steps=10)
TASKS = {
    "digits_1": Task(digits, lambda: dense((64, 64, 10), static=4)),
    "digits_3": Task(digits, lambda: dense((64, 64, 64, 64, 10), static=4, gain=2.0)),
    "digits_conv": Task(
        functools.partial(digits, image=True), lambda: Net([nn.Conv2d(1, 4, 3)], nn.Linear(4 * 6 * 6, 10), static=4)
    ),
    "randman_1": Task(spikes, lambda: dense((20, 64, 5), gain=3.0)),
    "randman_3": Task(spikes, lambda: dense((20, 64, 64, 64, 5), gain=3.0)),
    "xor": Task(xor, lambda: dense((2, 4, 2), static=8), epochs=400, batch=4, every=10, seeds=256, tuning=1500, solve=True),
}


def new_net(task: Task, seed: int) -> Net:
    """The network of a seed, at its start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.net()


@functools.cache
def order(seed: int, n: int, epochs: int) -> Tensor:
    """The order of the samples in every epoch, `[epochs, n]`, fixed by the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(n, generator=generator) for _ in range(epochs)])


def pull(arm: str, read: list[tuple[Tensor, Tensor, Tensor]], z: Tensor) -> Tensor:
    """The term that an arm adds to the loss of each network, `[S]`: a mean over every hidden layer `[S, *]`, summed up."""
    if arm == "bp":
        return torch.zeros(len(z))
    terms = []
    for h, v, _ in read:
        h = v if arm == "membrane" else h
        strength = z.view(-1, *[1] * (h.dim() - 1))
        if arm in ("quadratic", "matched"):  # to the same rest, with the slope of the chaotic loss at h = 0
            k = (strength * (I0 - 0.5) / SCALE / REST).to(h.dtype)
            terms.append(k / 2 * (h - REST).square())
        else:
            terms.append(chaotic_loss(h, strength, I0, SCALE, "none"))
    return torch.stack([term.flatten(1).mean(1) for term in terms]).sum(0)


def norms(tensor: Tensor) -> Tensor:
    """The norm of each network's part of a tensor, `[S, 1, ..]`."""
    return tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1))


def matched_noise(seeds: Sequence[int], n: int, like: Sequence[Tensor]) -> list[Tensor]:
    """Random directions, fixed by seed and step number, with the norm that `like` has per network and tensor."""
    sizes = [tensor[0].numel() for tensor in like]  # below, a seed of 32 bits, all that the generator reads
    draws = [torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed * 2**16 + n)) for seed in seeds]
    parts = torch.stack(draws).split(sizes, dim=1)
    noise = [part.to(tensor.dtype).view_as(tensor) for part, tensor in zip(parts, like, strict=True)]
    return [part * (norms(tensor) / norms(part)) for part, tensor in zip(noise, like, strict=True)]


class Training:
    """S networks in one vectorised run, by stochastic gradient descent with momentum; their gradients do not mix.

    Args:
        arm: of `ARMS`. "high" starts at twice the network's own critical z and ends where `z` ends; "noise" replaces the
            chaotic loss's gradient by a random one of the same norm.
        seeds: one per network, of its start, its batches and its noise.
        lr, z: a number, or one per network; z falls to a hundredth in `epochs` epochs, except in "constant".
    """

    def __init__(
        self, task: Task, arm: str, seeds: Sequence[int], lr: float | Sequence[float], z: float | Sequence[float] = 1.0,
        epochs: int | None = None, dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.task, self.arm, self.seeds, self.dtype = task, arm, list(seeds), dtype
        self.epochs = epochs or task.epochs
        self.lr, z_end = (torch.as_tensor(v, dtype=torch.float64).expand(len(self.seeds)) for v in (lr, z))
        self.data = Data(*(part.to(dtype) if part.is_floating_point() else part for part in task.data()))
        self.order = torch.stack([order(seed, len(self.data.y_train), self.epochs) for seed in self.seeds])
        self.steps = len(self.data.y_train) // task.batch  # per epoch
        self.net = task.net()
        self.names = [name for name, _ in self.net.named_parameters()]
        self.z = 2 * self.critical() if arm == "high" else z_end
        self.beta = torch.ones(()) if arm == "constant" else (z_end / 100 / self.z) ** (1 / self.epochs)

    def start(self) -> list[Tensor]:
        """The state: all parameters, then their momenta, each `[S, *]`."""
        nets = [dict(new_net(self.task, seed).named_parameters()) for seed in self.seeds]
        weights = [torch.stack([net[name].detach() for net in nets]).to(self.dtype) for name in self.names]
        return weights + [torch.zeros_like(w) for w in weights]

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """What every network sees at step n, x `[S, N, *]` and y `[S, N]`."""
        epoch, place = divmod(n, self.steps)
        rows = self.order[:, epoch, place * self.task.batch : (place + 1) * self.task.batch]
        return self.data.x_train[rows], self.data.y_train[rows]

    def forward(self, weights: Sequence[Tensor], x: Tensor):
        """One network, x `[N, *]` or `[N, T, *]`."""
        x = x if self.net.static else x.transpose(0, 1)
        return functional_call(self.net, dict(zip(self.names, weights, strict=True)), (x,))

    def gradients(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """What the optimizer gets for every parameter at step n, `[S, *]`."""

        weights = [w.detach().requires_grad_() for w in weights]
        x, y = self.batch(n)
        logits, read = torch.vmap(self.forward)(weights, x)
        task_loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / self.task.batch
        chaos = pull(self.arm, read, self.z * self.beta ** (n // self.steps)).sum()
        if self.arm != "noise":
            return list(torch.autograd.grad(task_loss + chaos, weights))
        own = torch.autograd.grad(task_loss, weights, retain_graph=True)
        chaotic = torch.autograd.grad(chaos, weights, materialize_grads=True)  # zero at the readout
        return [g + noise for g, noise in zip(own, matched_noise(self.seeds, n, chaotic), strict=True)]

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n; a pure function."""
        weights, momenta = state[: len(self.names)], state[len(self.names) :]
        gradients = self.gradients(weights, n)
        momenta = [MOMENTUM * m + g for m, g in zip(momenta, gradients, strict=True)]
        lrs = [self.lr.to(self.dtype).view(-1, *[1] * (w.dim() - 1)) for w in weights]
        return [w - lr * m for w, lr, m in zip(weights, lrs, momenta, strict=True)] + momenta

    def critical(self) -> Tensor:
        """The smallest critical z of each network's hidden layers at its start, on its first batch, `[S]`."""
        out = []
        for seed, lr, x in zip(self.seeds, self.lr.tolist(), self.batch(0)[0].float(), strict=True):
            net = new_net(self.task, seed)
            x = x if net.static else x.transpose(0, 1)
            with torch.no_grad():
                read = net(x)[1]
            inputs = [x, *(spikes for _, _, spikes in read)]
            limits = [
                critical_z(largest_eigenvalue(layer, [x]), lr, MOMENTUM, I0, SCALE, "mean", h.numel())
                for layer, x, (h, _, _) in zip(net.hidden, inputs, read, strict=False)
            ]
            out.append(min(limits))
        return torch.tensor(out, dtype=torch.float64)

    @torch.no_grad()
    def evaluate(self, state: list[Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Of every network, `[S]`: accuracy, share of hidden neurons that never spike, spikes per neuron and step, mean s."""

        def one(*weights):
            logits, read = self.forward(weights, x)
            rates = torch.cat([spikes.mean((0, 1)).flatten() for _, _, spikes in read])
            s = torch.stack([torch.sigmoid(h / SCALE).mean() for h, _, _ in read])
            return (logits.argmax(1) == y).double().mean(), (rates == 0).double().mean(), rates.mean(), s.mean()

        accuracy, dead, rate, mean_s = torch.vmap(one, chunk_size=8)(*state[: len(self.names)])
        accuracy = (accuracy == 1).double() if self.task.solve else accuracy
        return {"accuracy": accuracy, "dead": dead, "rate": rate, "mean_s": mean_s}

    def train(self, epochs: int | None = None) -> tuple[list[Tensor], Tensor]:
        """The state after `epochs` (the nominal number), and the validation accuracies on the way, `[validations, S]`."""
        state, curve = self.start(), []
        for epoch in range(epochs or self.epochs):
            for n in range(epoch * self.steps, (epoch + 1) * self.steps):
                state = self.step(state, n)
            if (epoch + 1) % self.task.every == 0:
                curve.append(self.evaluate(state, self.data.x_val, self.data.y_val)["accuracy"])
        return state, torch.stack(curve)
