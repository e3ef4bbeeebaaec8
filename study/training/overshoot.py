"""Experiment 1 of `PROTOCOL.md`: csbp beside trainings that differ from it in overshoot alone.

For networks with one hidden layer, whose inputs are the data: there the chaotic loss C of the
step's batch is a function of that layer's weights alone, and its gradient flow can be followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from csbp_core import critical_z
from csbp_core.checks import check, check_choice

from ..tasks.networks import per_network
from ..tasks.tasks import Task
from .arms import SCALE
from .flow import flow, gradient, with_ones
from .train import MOMENTUM, Training

RULES = ("bp", "csbp", "inner flow", "outer flow", "kick", "noise")

NOISE_SEEDS = 2**16  # and as many steps: together the 32 bits that a generator reads


def layer_critical_z(task: Task, split: int, lr: float, I0: float) -> float:
    """The critical z of a task's one hidden layer, from all training inputs of a split.

    It is proportional to 1 / lr, and stays as it is in training, as the inputs do.
    """
    data = task.data(split)
    rows = with_ones(_rows(data.x_train.double().unsqueeze(0)))[0]  # [rows, fan_in + 1]
    drive = task.net().hidden[0]
    assert isinstance(drive, nn.Linear)
    lambda_max = float(torch.linalg.eigvalsh(rows.T @ rows)[-1])
    numel = len(rows) * drive.out_features
    return critical_z(lambda_max, lr, MOMENTUM, I0, SCALE, "mean", numel)


def _rows(x: Tensor) -> Tensor:
    """Samples `[S, N, fan_in]` or `[S, N, T, fan_in]` as rows, `[S, N * T, fan_in]`."""
    return x.flatten(1, -2)


class FallingZ(NamedTuple):
    """The strength of the chaotic loss over the epochs: held, falling geometrically, held again.

    Attributes:
        start: where each network's begins, > 0, `[S]`.
        end: where it arrives and stays, > 0; one that starts below it stays where it is.
        annealing: epochs in which it falls, >= 1.
        holds: epochs before it begins to fall, >= 0.
    """

    start: Sequence[float]
    end: float
    annealing: int
    holds: int = 0

    def at(self, epoch: int) -> Tensor:
        """The strength of each network in an epoch, counted from 0; float64, `[S]`.

        Example:
            >>> z = FallingZ(start=[8.0, 1.0], end=2.0, annealing=2)
            >>> [z.at(epoch).tolist() for epoch in range(4)]
            [[8.0, 1.0], [4.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
        """
        start = torch.as_tensor(self.start, dtype=torch.float64)
        end = start.clamp(max=self.end)
        passed = min(1.0, max(0, epoch - self.holds) / self.annealing)
        return start * (end / start) ** passed


class Overshoot(Training):
    """S networks with one hidden layer, trained by one of `RULES`.

    With theta for that layer's weights and biases, g for the gradient of the task's loss, p for the
    momentum, and Phi_t(theta) for where ``d theta / dt = -z grad C(theta)`` arrives in a time t, a
    step is ``p <- m p + g + a`` and ``theta <- theta - lr p``, with::

        bp            a = 0
        csbp          a = z grad C(theta)
        inner flow    a = (theta - Phi_lr(theta)) / lr
        noise         the same, and a random direction with the norm that the difference between the
                      two lines above it had at this step of the same network's training by csbp
        outer flow    a = 0, then theta <- Phi_t(theta), t = lr / (1 - m)
        kick          a = 0, then theta <- theta - t z grad C(theta), with the same t

    Args:
        task: of `TASKS`, with one hidden layer.
        rule: one of `RULES`.
        seeds: of `Training`.
        splits: the split of each network's data.
        lr: learning rate, > 0.
        z: strength of the chaotic loss, and how it falls.
        I0: what the chaotic loss pulls s to, in (0, 1).
        epochs: of the training, >= `z.holds + z.annealing`.
        excess: for the rule "noise", what a training by csbp recorded, `[steps, S]`.
        substeps: of the flow, so many times more than are needed.
        momentum: m, in [0, 1).
        dtype: of parameters and inputs.

    Attributes:
        falling_z: as given by `z`, which of a `Training` is another number.
        excess: norms of z grad C(theta) - (theta - Phi_lr(theta)) / lr, for each step and network,
            if `record` is set before training by csbp.
    """

    def __init__(
        self,
        task: Task,
        rule: str,
        seeds: Sequence[int],
        splits: Sequence[int],
        *,
        lr: float | Sequence[float],
        z: FallingZ,
        I0: float,
        epochs: int,
        excess: Tensor | None = None,
        substeps: int = 1,
        momentum: float = MOMENTUM,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_choice("rule", rule, RULES)
        check("z.start", z.start, "(0, inf)", array=True)
        check("z.end", z.end, "(0, inf)")
        check("z.holds", z.holds, "[0, inf)", integer=True)
        check("z.annealing", z.annealing, f"[1, {epochs - z.holds}]", integer=True)
        if (rule == "noise") != (excess is not None):
            raise ValueError(f"excess = {excess}: must be given for the rule 'noise', and no other")
        super().__init__(
            task,
            "bp",  # what the rule adds is added here
            seeds=seeds,
            splits=splits,
            lr=lr,
            epochs=epochs,
            momentum=momentum,
            dtype=dtype,
        )
        self.rule = rule
        self.falling_z = z
        self.I0 = I0
        self.substeps = substeps
        self.given_excess = excess
        self.record = False
        self.excess: list[Tensor] = []

    def z_at(self, n: int) -> Tensor:
        """The strength at step n, the same in all steps of an epoch, `[S]`."""
        return self.falling_z.at(n // self.steps)

    def step(self, state: list[Tensor], n: int) -> list[Tensor]:
        """The state after step n."""
        state = super().step(state, n)
        if self.rule not in ("outer flow", "kick"):
            return state
        theta = _theta(state)
        inputs = self._inputs(n)
        time = self.lr / (1 - self.momentum)
        if self.rule == "kick":
            kick = self._kick(theta, inputs, self.z_at(n))
            theta = theta - per_network(time, theta).to(theta.dtype) * kick
        else:
            theta = flow(theta, inputs, self.z_at(n), time, self.I0, self.substeps)
        return [*_weight_and_bias(theta), *state[2:]]

    def gradients(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """What the optimizer gets for every parameter: of the task, and what the rule adds."""
        gradients = super().gradients(weights, n)
        if self.rule in ("csbp", "inner flow", "noise"):
            added = _weight_and_bias(self._added(_theta(weights), self._inputs(n), n))
            for position, part in enumerate(added):
                gradients[position] = gradients[position] + part
        return gradients

    def _added(self, theta: Tensor, inputs: Tensor, n: int) -> Tensor:
        """What the rule adds to the gradient by theta at step n."""
        z = self.z_at(n)
        if self.rule == "csbp":
            kick = self._kick(theta, inputs, z)
            if self.record:
                self.excess.append((kick - self._inner(theta, inputs, z)).flatten(1).norm(dim=1))
            return kick
        added = self._inner(theta, inputs, z)
        if self.given_excess is not None:
            added = added + per_network(self.given_excess[n], theta) * self._directions(theta, n)
        return added

    def _kick(self, theta: Tensor, inputs: Tensor, z: Tensor) -> Tensor:
        """z grad C(theta)."""
        return per_network(z, theta).to(theta.dtype) * gradient(theta, inputs, self.I0)

    def _inner(self, theta: Tensor, inputs: Tensor, z: Tensor) -> Tensor:
        """(theta - Phi_lr(theta)) / lr."""
        arrived = flow(theta, inputs, z, self.lr, self.I0, self.substeps)
        return (theta - arrived) / per_network(self.lr, theta).to(theta.dtype)

    def _directions(self, theta: Tensor, n: int) -> Tensor:
        """Random directions of norm one, fixed by a network's seed and the step."""
        drawn = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed * NOISE_SEEDS + n)
            drawn.append(torch.randn(theta.shape[1:], generator=generator, dtype=theta.dtype))
        directions = torch.stack(drawn)
        return directions / per_network(directions.flatten(1).norm(dim=1), directions)

    def _inputs(self, n: int) -> Tensor:
        """The hidden layer's inputs at step n, with ones for the bias, `[S, rows, fan_in + 1]`."""
        x, _ = self.batch(n)
        return with_ones(_rows(x))


def _theta(weights: Sequence[Tensor]) -> Tensor:
    """The hidden layer's weights and, as the last column, biases: `[S, units, fan_in + 1]`."""
    weight, bias = weights[:2]
    return torch.cat([weight, bias.unsqueeze(2)], dim=2)


def _weight_and_bias(theta: Tensor) -> list[Tensor]:
    """The two parts of theta."""
    return [theta[:, :, :-1], theta[:, :, -1]]
