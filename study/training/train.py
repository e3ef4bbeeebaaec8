"""The training of many networks at once, by one training method (an *arm*, see `arms.py`).

S networks of one shape run as one, in products of S matrices at a time: a step of many small
networks takes much less than as many steps. Everything that differs between them has a first
dimension S: parameters, batches, learning rates, strengths of the added loss.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from csbp_core.checks import check, check_choice

from ..tasks.data import Data
from ..tasks.initialisation import set_from_data
from ..tasks.networks import Net, NetOutput, mean_per_network, per_network, run_together
from ..tasks.tasks import TASKS, Task, new_net
from .arms import ARMS, SCALE

# What is needed to use `Training` can be imported from here with it.
__all__ = ["ARMS", "MOMENTUM", "TASKS", "Task", "Training", "new_net"]

MOMENTUM = 0.9
ANNEALING = 100  # z ends at a hundredth of the chosen z
SCHEDULES = ("constant", "cosine")  # of the learning rate
SAMPLES_AT_ONCE = 500  # of all networks that are tested in one go: more do not fit a cache


@functools.cache
def sample_order(seed: int, samples: int, epochs: int) -> Tensor:
    """The order of the samples in every epoch, `[epochs, samples]`, fixed by the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(samples, generator=generator) for _ in range(epochs)]
    return torch.stack(orders)


def epochs_to_solution(curve: Tensor, task: Task) -> Tensor:
    """The epochs to each network's first validation without an error, `[networks]`; NaN if none.

    Args:
        curve: validation accuracies, `[validations, networks]`.
        task: how often it is validated.

    Example:
        >>> epochs_to_solution(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), TASKS["xor"])
        tensor([20., nan])
    """
    is_solved = curve == 1
    first = is_solved.int().argmax(0)  # of those that are never solved 0
    epochs = (first + 1.0) * task.every
    return epochs.where(is_solved.any(0), torch.nan)


class Training:
    """S networks in one vectorised run, by stochastic gradient descent with momentum.

    Their gradients do not mix: a network trains as it would alone. The state is a list of tensors
    `[S, *]`, all parameters and then their momenta, and `step` is a pure function of it.

    Args:
        task: of `TASKS`, or like them.
        arm: the name of one of `ARMS`.
        seeds: integers >= 0, one per network, each fixing its initial weights and batches. S is
            their number.
        lr: learning rate, > 0; a number, or one per network.
        z: strength of the added loss in the first epoch, > 0; a number, or one per network. In
            `epochs` epochs it falls to a hundredth; an arm that adds nothing does not use it.
        epochs: the length of the annealing, >= 1; the task's own if None.
        dtype: of parameters and inputs.
        splits: the split of the data that each network is trained and tested on; 0 for all if None.
        start_from_data: (mean, spread) of `set_from_data`, by which every network starts; None for
            torch's start.
        schedule: of the learning rate: "constant", or "cosine", which falls to zero over `epochs`.
        momentum: in [0, 1).

    Attributes:
        data: the samples of the first network's split.
        steps: updates per epoch, each on a full batch. The samples that are left over after the
            last full one are not used in that epoch.
        z: the strength of each network in the first epoch, float64, `[S]`.
        beta: what z is multiplied by after every epoch, float64, `[S]`.

    Raises ValueError for an unknown arm, or a number out of range.

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
        splits: Sequence[int] | None = None,
        start_from_data: tuple[float, float] | None = None,
        schedule: str = "constant",
        momentum: float = MOMENTUM,
    ) -> None:
        check_choice("arm", arm, ARMS)
        check_choice("schedule", schedule, SCHEDULES)
        check("momentum", momentum, "[0, 1)")
        self.task = task
        self.arm = ARMS[arm]
        self.seeds = list(seeds)
        self.dtype = dtype
        self.epochs = task.epochs if epochs is None else epochs
        check("epochs", self.epochs, "[1, inf)", integer=True)
        check("lr", lr, "(0, inf)", array=True)
        if self.arm.pull is not None:
            check("z", z, "(0, inf)", array=True)
        self.lr = self._one_per_network(lr)
        self.splits = [0] * len(self.seeds) if splits is None else list(splits)
        self.start_from_data = start_from_data
        self.schedule = schedule
        self.momentum = momentum
        self.data_of_split = {split: task.data(split).to(dtype) for split in set(self.splits)}
        self.data = self.data_of_split[self.splits[0]]
        samples = len(self.data.y_train)
        self.steps = samples // task.batch  # per epoch, without an incomplete last batch
        orders = [sample_order(seed, samples, self.epochs) for seed in self.seeds]
        self.order = torch.stack(orders)  # [S, epochs, samples]
        # A shell: `forward` runs it with the parameters of all networks, its own are never used.
        # They do advance torch's global random state, and with it notebook 07's order of samples in
        # the training whose reports it shows.
        self.net = task.net()
        self.names = [name for name, _ in self.net.named_parameters()]
        self._stack_training_data()
        self.z = self._one_per_network(z)
        self.beta = torch.full_like(self.z, 1 / ANNEALING) ** (1 / self.epochs)

    def _stack_training_data(self) -> None:
        """All splits' training samples in one tensor, and where in it each network's split is."""
        numbers = list(self.data_of_split)
        self._x_train = torch.stack([data.x_train for data in self.data_of_split.values()])
        self._y_train = torch.stack([data.y_train for data in self.data_of_split.values()])
        self._place_of_split = torch.tensor([[numbers.index(split)] for split in self.splits])

    def start(self) -> list[Tensor]:
        """The state before the first step: parameters, then their momenta, each `[S, *]`."""
        nets = [self._new_net(*pair) for pair in zip(self.seeds, self.splits, strict=True)]
        parameters = [dict(net.named_parameters()) for net in nets]
        weights = []
        for name in self.names:
            stacked = torch.stack([named[name].detach() for named in parameters])  # [S, *]
            weights.append(stacked.to(self.dtype))
        momenta = [torch.zeros_like(weight) for weight in weights]
        return weights + momenta

    def _new_net(self, seed: int, split: int) -> Net:
        """A network at its start."""
        net = new_net(self.task, seed)
        if self.start_from_data is not None:
            x = net.time_first(self.data_of_split[split].x_train)
            set_from_data(net, x.float(), *self.start_from_data)
        return net

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n, counted from 0 through all epochs; a pure function."""
        weights = state[: len(self.names)]
        momenta = state[len(self.names) :]
        gradients = self.gradients(weights, n)
        momenta = [self.momentum * m + g for m, g in zip(momenta, gradients, strict=True)]
        lr = self.lr_at(n).to(self.dtype)
        weights = [w - per_network(lr, w) * m for w, m in zip(weights, momenta, strict=True)]
        return weights + momenta

    def lr_at(self, n: int) -> Tensor:
        """The learning rate of each network at step n, `[S]`."""
        if self.schedule == "constant":
            return self.lr
        passed = n / (self.epochs * self.steps)  # of the training, in [0, 1)
        return self.lr * (1 + math.cos(math.pi * passed)) / 2

    def gradients(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """What the optimizer gets for every parameter at step n, `[S, *]`.

        Of the losses of the networks it takes the sum, not the mean: a network's weights enter its
        own term alone, so that the gradient by them is that of its own loss. Hence nothing mixes.
        """
        weights = [weight.detach().requires_grad_() for weight in weights]
        x, y = self.batch(n)
        logits, layers = self.forward(weights, x)
        errors = F.cross_entropy(logits.mT, y, reduction="sum")  # it wants [S, classes, N]
        task_loss = errors / self.task.batch  # for each network a mean, and their sum
        epoch = n // self.steps  # z is the same in all steps of an epoch
        added_loss = self.arm.added_loss(layers, self.z * self.beta**epoch).sum()
        if not self.arm.adds_gradients:
            return list(torch.autograd.grad(task_loss + added_loss, weights))
        task_gradients = torch.autograd.grad(task_loss, weights, retain_graph=True)
        # The readout does not enter the added loss: its gradient is zero, not None.
        added_gradients = torch.autograd.grad(added_loss, weights, materialize_grads=True)
        return [task + added for task, added in zip(task_gradients, added_gradients, strict=True)]

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """What every network sees at step n, counted from 0: x `[S, N, *]` and y `[S, N]`."""
        epoch, place = divmod(n, self.steps)
        first = place * self.task.batch
        rows = self.order[:, epoch, first : first + self.task.batch]  # [S, N]
        return self._x_train[self._place_of_split, rows], self._y_train[self._place_of_split, rows]

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> NetOutput:
        """What all networks give for x `[S, N, *]` or `[S, N, T, *]`, with these weights."""
        in_time = x if self.net.static else x.movedim(2, 0)  # [T, S, N, *]
        return run_together(self.net, weights, in_time)

    def train(self, epochs: int | None = None) -> tuple[list[Tensor], Tensor]:
        """Train from the start.

        Args:
            epochs: how many, at most those of the annealing, and all of them if None; at least the
                `every` of the task, so that there is a validation. Fewer than all stop early: z
                falls as it would have done.

        Returns the state, and the validation accuracies on the way, `[validations, S]`. Raises
        ValueError for too few epochs or too many.
        """
        epochs = self.epochs if epochs is None else epochs
        check("epochs", epochs, f"[{self.task.every}, inf)", integer=True)
        check("epochs", epochs, f"[1, {self.epochs}]", integer=True)
        state = self.start()
        curve = []
        for epoch in range(epochs):
            for n in range(epoch * self.steps, (epoch + 1) * self.steps):
                state = self.step(state, n)
            if (epoch + 1) % self.task.every == 0:
                curve.append(self.validate(state)["accuracy"])
        return state, torch.stack(curve)

    def validate(self, state: list[Tensor]) -> dict[str, Tensor]:
        """`evaluate` every network on the validation samples of its own split."""
        return self._by_split(state, lambda data: (data.x_val, data.y_val))

    def test(self, state: list[Tensor]) -> dict[str, Tensor]:
        """`evaluate` every network on the test samples of its own split."""
        return self._by_split(state, lambda data: (data.x_test, data.y_test))

    def _by_split(
        self,
        state: list[Tensor],
        samples: Callable[[Data], tuple[Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """Evaluate the networks of each split on samples of that split."""
        splits = torch.tensor(self.splits)
        measured: dict[str, Tensor] = {}
        for split, data in self.data_of_split.items():
            members = (splits == split).nonzero().flatten()
            found = self.evaluate([tensor[members] for tensor in state], *samples(data))
            for name, values in found.items():
                everywhere = measured.setdefault(name, values.new_empty(len(splits)))
                everywhere[members] = values
        return measured

    @torch.no_grad()
    def evaluate(self, state: list[Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Test every network.

        Args:
            state: what `train` or `step` gave.
            x: samples, `[n, *]` or `[n, T, *]`; the same for all networks of the state.
            y: their classes, `[n]`.

        Returns, `[S]` each:

        * `accuracy`: the share of right answers; for a task to be solved (`Task.solve`) 1 if all
          are right, else 0;
        * `dead`: the share of hidden neurons that spike for none of these samples;
        * `rate`: spikes per hidden neuron and time step;
        * `mean_s`: the mean of s = sigmoid(h / scale) in every hidden layer, averaged over the
          layers, a small one counting as much as a large one.
        """

        weights = state[: len(self.names)]
        at_once = max(1, SAMPLES_AT_ONCE // len(x))  # networks
        parts = []
        for some in zip(*(weight.split(at_once) for weight in weights), strict=True):
            parts.append(self._measure(some, x, y))
        measured = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if self.task.solve:
            measured["accuracy"] = (measured["accuracy"] == 1).double()
        return measured

    def _measure(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What `evaluate` returns, of the networks with these weights; accuracy always a share."""
        same_for_all = x.expand(len(weights[0]), *x.shape)  # [S, n, *]
        logits, layers = self.forward(weights, same_for_all)
        rates = [layer.spikes.mean((1, 2)).flatten(1) for layer in layers]  # [S, neurons] each
        rate = torch.cat(rates, dim=1)
        s = [mean_per_network(torch.sigmoid(layer.current / SCALE)) for layer in layers]
        return {
            "accuracy": (logits.argmax(2) == y).double().mean(1),
            "dead": (rate == 0).double().mean(1),
            "rate": rate.mean(1),
            "mean_s": torch.stack(s).mean(0),
        }

    def _one_per_network(self, value: float | Sequence[float]) -> Tensor:
        """A number, or one for every network, as float64 `[S]`; it is cast where it is used."""
        return torch.as_tensor(value, dtype=torch.float64).expand(len(self.seeds))
