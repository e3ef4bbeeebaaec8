"""Experiment 3 of `PROTOCOL.md`: the surrogate field of the membrane form, followed in sub-steps.

The gradient of the chaotic loss of the membrane is made by surrogates: it is a field that need not
be the gradient of anything, and its flow has no closed form. Sub-steps show whether a step of csbp
follows that flow, which is what a control without overshoot would do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csbp_core.checks import check

from ..tasks.networks import per_network
from ..tasks.tasks import Task
from .arms import ARMS
from .train import Training

MOST_SUBSTEPS = 16


class SubSteps(Training):
    """S networks trained by the arm "membrane" with its pull taken in n sub-steps.

    With theta for all parameters, g for the gradient of the task's loss at theta, p for the
    momentum, and C for the chaotic loss of the membrane on the step's batch, a mean over each
    hidden layer, summed over the layers, a step is::

        theta_0 = theta,    theta_(j+1) = theta_j - (lr / n) z grad C(theta_j)
        p <- m p + g + (theta - theta_n) / lr
        theta <- theta - lr p

    z is fixed within the step, and spikes are made anew at every sub-step. For n = 1 it is the arm
    itself, but for rounding; a large n follows the field.

    Args:
        task: of `TASKS`.
        substeps: n, an integer in [1, 16].
        seeds: of `Training`.
        splits: the split of each network's data.
        lr: learning rate, > 0.
        z: strength of the chaotic loss in the first epoch, > 0. In `epochs` epochs it falls to a
            hundredth.
        epochs: the length of the annealing, >= 1.
        dtype: of parameters and inputs.

    Raises ValueError for a number out of range.

    Example:
        >>> from study.tasks.tasks import TASKS
        >>> run = SubSteps(TASKS["xor"], 4, [0, 1], splits=[1, 2], lr=0.1, z=20.0, epochs=20)
        >>> state, curve = run.train()
        >>> curve.shape  # [validations, S]
        torch.Size([2, 2])
    """

    def __init__(
        self,
        task: Task,
        substeps: int,
        seeds: Sequence[int],
        splits: Sequence[int],
        lr: float,
        z: float,
        epochs: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check("substeps", substeps, f"[1, {MOST_SUBSTEPS}]", integer=True)
        check("z", z, "(0, inf)")
        # As "bp", so that `Training.gradients` gives the task's alone. z falls in the same way.
        super().__init__(task, "bp", seeds, lr, z, epochs=epochs, dtype=dtype, splits=splits)
        self.substeps = substeps
        self.pulling_arm = ARMS["membrane"]

    def gradients(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """What the optimizer gets for every parameter: of the task, and what the sub-steps add."""
        task_gradients = super().gradients(weights, n)
        pairs = zip(task_gradients, self.added(weights, n), strict=True)
        return [task + added for task, added in pairs]

    def added(self, weights: list[Tensor], n: int) -> list[Tensor]:
        """(theta - theta_n) / lr of every parameter at step n, `[S, *]`; of the readout's, zero.

        As the mean of the fields at the sub-steps, which is the same: the difference of two
        neighbouring float32 numbers, over lr, would be coarse where z is small.
        """
        x, _ = self.batch(n)
        epoch = n // self.steps
        z = self.z * self.beta**epoch
        lr = (self.lr_at(n) / self.substeps).to(self.dtype)  # of a sub-step
        total = [torch.zeros_like(weight) for weight in weights]
        for _ in range(self.substeps):
            field = self._field(weights, x, z)
            total = [sum_so_far + part for sum_so_far, part in zip(total, field, strict=True)]
            weights = [
                w - per_network(lr, w) * part for w, part in zip(weights, field, strict=True)
            ]
        return [part / self.substeps for part in total]

    def _field(self, weights: list[Tensor], x: Tensor, z: Tensor) -> Sequence[Tensor]:
        """z grad C by every parameter, `[S, *]`."""
        weights = [weight.detach().requires_grad_() for weight in weights]
        _, layers = self.forward(weights, x)
        pull = self.pulling_arm.added_loss(layers, z).sum()  # nothing mixes, as in `Training`
        return torch.autograd.grad(pull, weights, materialize_grads=True)
