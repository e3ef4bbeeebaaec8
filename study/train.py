"""The training of many networks at once, in the way of an arm.

PyTorch's `vmap` runs S networks of one shape as one, so a step of 32 takes little longer than one
of a few. Everything that differs between them has a first dimension S: parameters, batches,
learning rates, strengths.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from csbp_core import critical_z, largest_eigenvalue
from csbp_core.checks import check_choice

from .arms import ARMS as ARMS, I0, SCALE
from .networks import Net, NetOutput, per_network
from .tasks import TASKS as TASKS, Task as Task, new_net as new_net

MOMENTUM = 0.9
ANNEALING = 100  # z falls to a hundredth
NETWORKS_AT_ONCE = 8  # tested in one go, to save memory


@functools.cache
def sample_order(seed: int, samples: int, epochs: int) -> Tensor:
    """The order of the samples in every epoch, `[epochs, samples]`, fixed by the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(samples, generator=generator) for _ in range(epochs)]
    return torch.stack(orders)


def smallest_critical_z(net: Net, x: Tensor, lr: float) -> float:
    """The smallest critical z of a network's hidden layers, for training on a batch.

    Args:
        net: one network.
        x: the batch, as `net.forward` takes it.
        lr: learning rate, > 0.
    """
    with torch.no_grad():
        layers = net(x).layers
    inputs = [x, *(layer.spikes for layer in layers[:-1])]
    limits = []
    for drive, layer_input, layer in zip(net.hidden, inputs, layers, strict=True):
        limits.append(
            critical_z(
                lambda_max=largest_eigenvalue(drive, [layer_input]),
                lr=lr,
                momentum=MOMENTUM,
                I0=I0,
                scale=SCALE,
                reduction="mean",
                numel=layer.current.numel(),
            )
        )
    return min(limits)


class Training:
    """S networks in one vectorised run, by stochastic gradient descent with momentum.

    Their gradients do not mix: a network trains as it would alone. The state is a list of tensors
    `[S, *]`, all parameters and then their momenta, and `step` is a pure function of it.

    Args:
        task: of `TASKS`, or like them.
        arm: the name of one of `ARMS`.
        seeds: integers, one per network, of its start, its batches and its noise. S is their
            number.
        lr: learning rate, > 0; a number, or one per network.
        z: strength, >= 0; a number, or one per network. It falls to a hundredth in `epochs` epochs,
            unless the arm does otherwise.
        epochs: the length of the annealing, >= 1; the task's own if None.
        dtype: of parameters and inputs.

    Attributes: `data`, the task's; `steps`, the updates of an epoch; `z`, where each strength
    starts, and `beta`, what it is multiplied by after every epoch, `[S]`.

    Raises ValueError for an unknown arm.

    Example:
        >>> run = Training(TASKS["xor"], "csbp", seeds=[0, 1], lr=0.1, z=5.0)
        >>> state, curve = run.train(epochs=20)
        >>> curve.shape  # [validations, S]
        torch.Size([2, 2])
    """

    def __init__(
        self,
        task: Task,
        arm: str,
        seeds: Sequence[int],
        lr: float | Sequence[float],
        z: float | Sequence[float] = 1.0,
        epochs: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_choice("arm", arm, ARMS)
        self.task = task
        self.arm = ARMS[arm]
        self.seeds = list(seeds)
        self.dtype = dtype
        self.epochs = epochs or task.epochs
        self.lr = self._one_per_network(lr)
        self.data = task.data().to(dtype)
        samples = len(self.data.y_train)
        self.steps = samples // task.batch  # per epoch
        orders = [sample_order(seed, samples, self.epochs) for seed in self.seeds]
        self.order = torch.stack(orders)  # [S, epochs, samples]
        self.net = task.net()  # a shell: `forward` calls it with the parameters of a network
        self.names = [name for name, _ in self.net.named_parameters()]
        self.z, self.beta = self._annealing(self._one_per_network(z))

    def start(self) -> list[Tensor]:
        """The state before the first step: parameters, then their momenta, each `[S, *]`."""
        nets = [dict(new_net(self.task, seed).named_parameters()) for seed in self.seeds]
        weights = []
        for name in self.names:
            stacked = torch.stack([net[name].detach() for net in nets])  # [S, *]
            weights.append(stacked.to(self.dtype))
        momenta = [torch.zeros_like(weight) for weight in weights]
        return weights + momenta

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n; a pure function."""
        weights = state[: len(self.names)]
        momenta = state[len(self.names) :]
        gradients = self.gradients(weights, n)
        momenta = [MOMENTUM * m + g for m, g in zip(momenta, gradients, strict=True)]
        lr = self.lr.to(self.dtype)
        weights = [w - per_network(lr, w) * m for w, m in zip(weights, momenta, strict=True)]
        return weights + momenta

    def gradients(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """What the optimizer gets for every parameter at step n, `[S, *]`."""
        weights = [weight.detach().requires_grad_() for weight in weights]
        x, y = self.batch(n)
        logits, layers = torch.vmap(self.forward)(weights, x)  # [S, N, classes], layers of [S, *]
        errors = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
        task_loss = errors / self.task.batch  # a mean for each network, summed over them
        epoch = n // self.steps
        added_loss = self.arm.added_loss(layers, self.z * self.beta**epoch).sum()
        if self.arm.replace_gradient is None:
            return list(torch.autograd.grad(task_loss + added_loss, weights))
        task_gradients = torch.autograd.grad(task_loss, weights, retain_graph=True)
        # The readout does not enter the added loss: its gradient is zero, not None.
        added_gradients = torch.autograd.grad(added_loss, weights, materialize_grads=True)
        replaced = self.arm.replace_gradient(added_gradients, self.seeds, n)
        return [task + added for task, added in zip(task_gradients, replaced, strict=True)]

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """What every network sees at step n: x `[S, N, *]` and y `[S, N]`."""
        epoch, place = divmod(n, self.steps)
        first = place * self.task.batch
        rows = self.order[:, epoch, first : first + self.task.batch]  # [S, N]
        return self.data.x_train[rows], self.data.y_train[rows]

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> NetOutput:
        """What one network gives: its parameters, and x `[N, *]` or `[N, T, *]`."""
        parameters = dict(zip(self.names, weights, strict=True))
        return functional_call(self.net, parameters, (self.net.time_first(x),))

    def train(self, epochs: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Train from the start.

        Args:
            epochs: to be trained, at most those of the annealing, which is also the default.

        Returns the state, and the validation accuracies on the way, `[validations, S]`.
        """
        state = self.start()
        curve = []
        for epoch in range(epochs or self.epochs):
            for n in range(epoch * self.steps, (epoch + 1) * self.steps):
                state = self.step(state, n)
            if (epoch + 1) % self.task.every == 0:
                measured = self.evaluate(state, self.data.x_val, self.data.y_val)
                curve.append(measured["accuracy"])
        return state, torch.stack(curve)

    @torch.no_grad()
    def evaluate(self, state: list[Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Test every network.

        Args:
            state: of `train` or `step`.
            x: samples, `[n, *]` or `[n, T, *]`; the same for all networks.
            y: their classes, `[n]`.

        Returns, `[S]` each: `accuracy`; `dead`, the share of hidden neurons that never spike;
        `rate`, spikes per neuron and step; `mean_s`, the mean of sigmoid(h / scale) over all
        layers.
        """

        def measure(*weights: Tensor) -> dict[str, Tensor]:  # of one network
            logits, layers = self.forward(weights, x)
            rates = torch.cat([layer.spikes.mean((0, 1)).flatten() for layer in layers])
            s = torch.stack([torch.sigmoid(layer.current / SCALE).mean() for layer in layers])
            return {
                "accuracy": (logits.argmax(1) == y).double().mean(),
                "dead": (rates == 0).double().mean(),
                "rate": rates.mean(),
                "mean_s": s.mean(),
            }

        weights = state[: len(self.names)]
        measured = torch.vmap(measure, chunk_size=NETWORKS_AT_ONCE)(*weights)
        if self.task.solve:
            measured["accuracy"] = (measured["accuracy"] == 1).double()
        return measured

    def critical(self) -> Tensor:
        """The smallest critical z of each network's layers, at its start and first batch, `[S]`."""
        first_batches, _ = self.batch(0)  # [S, N, *]
        limits = []
        for seed, lr, x in zip(self.seeds, self.lr.tolist(), first_batches.float(), strict=True):
            net = new_net(self.task, seed)
            limits.append(smallest_critical_z(net, net.time_first(x), lr))
        return torch.tensor(limits, dtype=torch.float64)

    def _annealing(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Where z starts, `[S]`, and what it is multiplied by after every epoch."""
        start = z
        if self.arm.times_critical is not None:
            start = self.arm.times_critical * self.critical()
        if not self.arm.anneals:
            return start, torch.ones(())
        end = z / ANNEALING
        return start, (end / start) ** (1 / self.epochs)

    def _one_per_network(self, value: float | Sequence[float]) -> Tensor:
        """A number, or one for every network, as `[S]`: float64, cast where it is used."""
        return torch.as_tensor(value, dtype=torch.float64).expand(len(self.seeds))
