"""The largest Lyapunov exponent of any training, from trajectories that start next to each other.

The method is that of Benettin, Galgani and Strelcyn 1976, doi:10.1103/PhysRevA.14.2338: a twin of
the training starts every step at a small distance from it, and the logarithm of the growth of that
distance is measured before the twin is pulled back. No derivative is taken, so the exponent is that
of the training as it runs, whatever stands in for the derivative of a spike.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from .checks import check

TINY = float(np.finfo(float).tiny)  # the distance that two equal states count as


def largest_lyapunov(
    step: Callable[[list[Tensor], int], Sequence[Tensor]] | Callable[[nn.Module, int], Tensor],
    state: Sequence[Tensor] | tuple[nn.Module, Optimizer],
    steps: int,
    d0: ArrayLike = 1e-6,
    *,
    rows: bool = False,
    seed: int = 0,
    displace: int | None = None,
) -> np.ndarray:
    """Logarithm of the growth, per step, of the distance to a twin that starts each step at `d0`.

    ::

        growth[n] = log(distance after step n / distance before it)

    Its mean over the steps is the largest Lyapunov exponent per step.

    Args:
        step: how training goes on. For a state of tensors a function (state, n) -> state; for a
            model and its optimizer a function (model, n) -> loss, after which the optimizer steps.
            Training and twins see the same n and the same global random numbers of torch.
        state: where training starts: a list of all the tensors that it carries from step to step,
            or (model, optimizer). Both are copied and left alone. A ChaoticLoss is not copied with
            a model: attach it inside `step`, as below.
        steps: how many, >= 1.
        d0: the distance before each step, > 0, relative to the norm of what is displaced at the
            start, or absolute if that is zero; or an array, with a twin for each. Large distances
            flip spikes, so use float64 and about 1e-9.
        rows: whether the first dimension of every tensor counts independent systems, each with a
            distance of its own.
        seed: of the direction in which twins start, an integer >= 0.
        displace: how many of the tensors with numbers of a state start displaced, the first ones;
            None for all. (Moments of Adam must stay positive.) Of a model it is the parameters.

    Returns an array `[steps, *d0.shape]`, for `rows` `[steps, *d0.shape, rows]`. Two equal states
    count as 2.2e-308 apart. A row that overflows is NaN from there on.

    Raises ValueError for a value out of range, a state that is not finite, or without `rows` a
    distance that is not finite any more.

    Example:
        The logistic map at r = 4, whose exponent is ln 2:

        >>> def logistic(state, n):
        ...     (x,) = state
        ...     return [4 * x * (1 - x)]
        >>> start = [torch.tensor([0.2], dtype=torch.float64)]
        >>> growth = largest_lyapunov(logistic, start, steps=5000, d0=1e-9)
        >>> bool(abs(growth.mean() - np.log(2)) < 0.01)
        True

        A network with an annealed chaotic loss:

        >>> from csbp_core import LIF, ChaoticLoss
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), LIF(), nn.Linear(8, 2)).double()
        >>> x = torch.randn(5, 20, 4, dtype=torch.float64)  # [T, N, inputs]
        >>> y = torch.arange(20) % 2
        >>> def loss(model, n):
        ...     with ChaoticLoss(z=20 * 0.99**n).attach(model, "0") as chaos:
        ...         return nn.functional.cross_entropy(model(x).mean(0), y) + chaos()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> largest_lyapunov(loss, (model, optimizer), steps=100, d0=1e-9).shape
        (100,)
    """
    check("steps", steps, "[1, inf)", integer=True)
    check("d0", d0, "(0, inf)", array=True)
    check("seed", seed, "[0, inf)", integer=True)
    training = _as_system(step, state, rows, displace)
    start = training.displaceable()  # [rows, numbers]
    check("state", start, "(-inf, inf)", array=True)
    norm = start.norm(dim=1)
    # [twins, rows]: the distance of every twin in every row
    d = torch.outer(start.new_tensor(d0).flatten(), torch.where(norm > 0, norm, 1.0))
    direction = _random_direction(start, seed)
    growth = _measure_growth(training, d, direction, steps)
    shape = (steps, *np.shape(d0))
    if rows:
        shape = (*shape, d.shape[1])
    return growth.reshape(shape)


def _measure_growth(training: _System, d: Tensor, direction: Tensor, steps: int) -> np.ndarray:
    """Benettin's method, on several twins at once: [steps, twins, rows]."""
    twins = [training.copy() for _ in range(len(d))]
    numbers = training.vector().shape[1]
    growth = np.empty((steps, *d.shape))
    apart = d.new_zeros(*d.shape, numbers)  # [twins, rows, numbers]
    for n in tqdm(range(steps), desc="exponent", disable=None, leave=False):
        # in a random direction at first, and again where a twin has met the training
        met = apart.norm(dim=2) == 0
        apart[met, : len(direction)] = direction.roll(n)
        # pull every twin back to its distance
        apart = apart * (d / apart.norm(dim=2)).unsqueeze(2)
        for twin, displacement in zip(twins, apart, strict=True):
            twin.move_to(training, displacement)
        # one step of all
        for twin in reversed(twins):
            with torch.random.fork_rng():
                twin.step(n)
        training.step(n)  # last, so that it leaves the random numbers as training alone does
        # how far they have come apart
        apart = torch.stack([twin.vector() for twin in twins]) - training.vector()
        distance = apart.norm(dim=2)
        growth[n] = (distance.clamp_min(TINY) / d).log().cpu()
        if not training.rows:
            check(f"distance after step {n}", distance[:, 0], "[0, inf)", array=True)
    return growth


class _System(ABC):
    """A training that can be copied, moved and stepped."""

    rows: bool
    displaced: int | None  # how many tensors start displaced

    @abstractmethod
    def carried(self) -> list[Tensor]:
        """All tensors that training carries from step to step, those that start displaced first."""

    @abstractmethod
    def step(self, n: int) -> None:
        """Go on by one step."""

    @abstractmethod
    def copy(self) -> Self:
        """Another one at the same place."""

    def moving(self) -> list[Tensor]:
        """The carried tensors that a distance is measured in; counters have no part in it."""
        tensors = [t.detach() for t in self.carried() if t.is_floating_point()]
        if self.rows:
            tensors = [t for t in tensors if t.dim() > 0]
        return tensors

    def vector(self) -> Tensor:
        """All that moves, as one vector per row: [rows, numbers]."""
        return self._as_vector(self.moving())

    def displaceable(self) -> Tensor:
        """What starts displaced, as one vector per row: [rows, numbers]."""
        return self._as_vector(self.moving()[: self.displaced])

    def move_to(self, training: Self, displacement: Tensor) -> None:
        """Go to where the training is, and from there by a displacement [rows, numbers]."""
        targets = training.moving()
        sizes = [t.numel() // len(displacement) for t in targets]
        parts = displacement.split(sizes, dim=1)
        for t, target, part in zip(self.moving(), targets, parts, strict=True):
            t.copy_(target + part.reshape(target.shape))  # [rows, *] from [rows, size]

    def _as_vector(self, tensors: list[Tensor]) -> Tensor:
        parts = []
        for t in tensors:
            rows = len(t) if self.rows else 1
            parts.append(t.double().reshape(rows, -1))  # [rows, size]
        return torch.cat(parts, dim=1)


class _TensorSystem(_System):
    """A step function on tensors: its state is all that it carries."""

    def __init__(
        self,
        function: Callable[[list[Tensor], int], Sequence[Tensor]],
        state: Sequence[Tensor],
        rows: bool,
        displaced: int | None,
    ) -> None:
        self.function = function
        self.state = [t.detach().clone() for t in state]
        self.rows = rows
        self.displaced = displaced

    def carried(self) -> list[Tensor]:
        return self.state

    def step(self, n: int) -> None:
        # cloned, since a function may hand back what it keeps, or one tensor twice
        self.state = [t.detach().clone() for t in self.function(self.state, n)]

    def copy(self) -> Self:
        return type(self)(self.function, self.state, self.rows, self.displaced)


class _ModelSystem(_System):
    """A model and its optimizer: parameters, buffers, and the optimizer's moments."""

    def __init__(
        self,
        loss: Callable[[nn.Module, int], Tensor],
        model: nn.Module,
        optimizer: Optimizer,
        rows: bool,
    ) -> None:
        self.loss = loss
        # in one copy, so that the optimizer's parameters are the model's
        self.model, self.optimizer = copy.deepcopy((model, optimizer))
        self.rows = rows
        self.displaced = len(self.parameters())

    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def carried(self) -> list[Tensor]:
        slots = [value for slot in self.optimizer.state.values() for value in slot.values()]
        moments = [value for value in slots if torch.is_tensor(value)]
        return [*self.parameters(), *self.model.buffers(), *moments]

    def step(self, n: int) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model, n).backward()
        self.optimizer.step()

    def copy(self) -> Self:
        return type(self)(self.loss, self.model, self.optimizer, self.rows)


def _as_system(step: Any, state: Any, rows: bool, displace: int | None) -> _System:
    """The adapter for what `largest_lyapunov` was given."""
    if isinstance(state[0], nn.Module):
        model, optimizer = state
        return _ModelSystem(step, model, optimizer, rows)
    return _TensorSystem(step, state, rows, displace)


def _random_direction(start: Tensor, seed: int) -> Tensor:
    """Where twins start: one random number for each number of a row, [numbers]."""
    generator = torch.Generator().manual_seed(int(seed))
    return torch.randn(start.shape[1], generator=generator, dtype=torch.double).to(start)
