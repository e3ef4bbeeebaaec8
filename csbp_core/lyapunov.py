"""The largest Lyapunov exponent of any training, from trajectories that start next to each other.

The method is that of Benettin, Galgani and Strelcyn 1976, doi:10.1103/PhysRevA.14.2338: a twin of
the training starts every step at a small distance from it, and the logarithm of the growth of that
distance is measured before the twin is pulled back. Since it is pulled back along the line on which
it has come apart, that line turns into the direction that grows fastest. The step of training is
never linearised, so surrogate gradients do not mislead the exponent.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from .checks import check, check_flag

# A twin that is off its distance by more than this share of it has been rounded away.
ROUNDED_AWAY = 0.5

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
    """Logarithm of the growth, in every step, of the distance between a training and its twin.

    ::

        growth[n] = log(distance after step n / distance before it)

    The twin is put back to the distance `d0` before every step. The mean of the growth is the
    largest Lyapunov exponent, in natural logarithms per step; where settings change on the way, as
    under annealing, that of this stretch of training. In the first steps the twin still turns into
    the direction that grows fastest: `growth[k:].mean(0)` leaves them out.

    Args:
        step: how training goes on. For a state of tensors a function (state, n) -> state; for a
            model and its optimizer a function (model, n) -> loss, after which the optimizer steps.
            It runs once for every twin and then for the training, with the same n and the same
            random numbers of torch's global generators; whatever else it draws or keeps is not
            copied. A ChaoticLoss is not copied with a model: attach it inside, as below.
        state: where training starts: a list of all the tensors that it carries from step to step,
            or (model, optimizer). Both are copied and left alone.
        steps: how many, >= 1.
        d0: the distance before each step, > 0, as a multiple of the norm of what is displaced,
            taken once at the start (or as it is, if that norm is zero); or an array, with a twin
            for each. Distances are Euclidean, over all floating point numbers carried.
            A large distance flips spikes in the twin, a small one is lost in float32 (which is
            warned of): use float64 and about 1e-9.
        rows: whether the first dimension of every tensor counts R independent systems, each with a
            distance of its own.
        seed: of the direction in which twins start, an integer >= 0.
        displace: for a state of tensors, how many of the floating point ones start displaced,
            counted from the first; None for all. Leave out what a displacement could make
            negative, such as Adam's second moments. Of a model it is always the parameters alone,
            and this must be None.

    Returns an array `[steps, *d0.shape]`, for `rows` `[steps, *d0.shape, R]`. Where twin and
    training become equal the distance counts as 2.2e-308, about -700 in the logarithm, and the twin
    starts again in another direction. A row that overflows is NaN from there on.

    Raises ValueError for a value out of range, for an optimizer that holds other parameters than
    the model's or needs a closure, for displaced tensors that are not finite, or without `rows` for
    a distance that is not finite any more.

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
    check_flag("rows", rows)
    reference = _as_system(step, state, rows, displace)
    start = reference.displaceable()  # [rows, numbers]
    check("state", start, "(-inf, inf)", array=True)
    norm = start.norm(dim=1)
    # [twins, rows]: the distance of every twin in every row
    d = torch.outer(start.new_tensor(d0).flatten(), torch.where(norm > 0, norm, 1.0))
    direction = _random_direction(start, seed)
    growth = _measure_growth(reference, d, direction, steps)
    shape = (steps, *np.shape(d0))
    if rows:
        shape = (*shape, d.shape[1])
    return growth.reshape(shape)


def _measure_growth(reference: _System, d: Tensor, direction: Tensor, steps: int) -> np.ndarray:
    """Benettin's method, on several twins at once: [steps, twins, rows]."""
    twins = [reference.copy() for _ in range(len(d))]
    numbers = reference.vector().shape[1]
    growth = np.empty((steps, *d.shape))
    separation = d.new_zeros(*d.shape, numbers)  # [twins, rows, numbers]
    has_warned = False
    for n in tqdm(range(steps), desc="exponent", disable=None, leave=False):
        # All have met before the first step, and a twin may meet the reference again later: it
        # leaves in the random direction, rolled so that it is not the one that has just collapsed.
        # What is displaced stands first in the vector.
        has_met = separation.norm(dim=2) == 0
        separation[has_met, : len(direction)] = direction.roll(n)
        # rescale
        separation = separation * (d / separation.norm(dim=2)).unsqueeze(2)
        for twin, displacement in zip(twins, separation, strict=True):
            twin.move_to(reference, displacement)
        if not has_warned:
            has_warned = _warn_if_rounded_away(reference, twins, d)
        # evolve: twins on a fork of the random numbers, so that all see the same ones, and the
        # reference last, so that the generators end where training alone would leave them
        for twin in reversed(twins):
            with torch.random.fork_rng():
                twin.step(n)
        reference.step(n)
        # measure
        separation = _separation(reference, twins)
        distance = separation.norm(dim=2)
        growth[n] = (distance.clamp_min(TINY) / d).log().cpu()
        if not reference.rows:  # else the other rows go on
            only_row = distance[:, 0]
            check(f"distance after step {n}", only_row, "[0, inf)", array=True)
    return growth


def _separation(reference: _System, twins: Sequence[_System]) -> Tensor:
    """What parts the twins from the reference: [twins, rows, numbers]."""
    return torch.stack([twin.vector() for twin in twins]) - reference.vector()


def _warn_if_rounded_away(reference: _System, twins: Sequence[_System], d: Tensor) -> bool:
    """Warn if twins, just put to their distances d [twins, rows], are not there."""
    placed = _separation(reference, twins).norm(dim=2)
    is_off = ((placed - d).abs() > ROUNDED_AWAY * d).any()
    if is_off:
        warnings.warn(
            "the distance d0 is lost in rounding: take a larger one, or a training in float64",
            stacklevel=4,
        )
    return bool(is_off)


class _System(ABC):
    """A training that can be copied, moved and stepped."""

    rows: bool
    displaced_tensors: int | None  # how many start displaced; None for all

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
        """The carried tensors that distances are measured in: those of floating point."""
        tensors = [t.detach() for t in self.carried() if t.is_floating_point()]
        if self.rows:
            # a number that belongs to no row, like Adam's count of steps, is the same everywhere
            tensors = [t for t in tensors if t.dim() > 0]
        return tensors

    def vector(self) -> Tensor:
        """All that moves, as one vector per row: [rows, numbers]."""
        return self._as_vector(self.moving())

    def displaceable(self) -> Tensor:
        """What starts displaced, as one vector per row: [rows, numbers]."""
        return self._as_vector(self.moving()[: self.displaced_tensors])

    def move_to(self, reference: Self, displacement: Tensor) -> None:
        """Go to where another system is, and from there by a displacement [rows, numbers]."""
        targets = reference.moving()
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
        displaced_tensors: int | None,
    ) -> None:
        self.function = function
        self.state = [t.detach().clone() for t in state]
        self.rows = rows
        self.displaced_tensors = displaced_tensors

    def carried(self) -> list[Tensor]:
        return self.state

    def step(self, n: int) -> None:
        # cloned: `move_to` writes into these, and the function may have kept one or given it twice
        self.state = [t.detach().clone() for t in self.function(self.state, n)]

    def copy(self) -> Self:
        return type(self)(self.function, self.state, self.rows, self.displaced_tensors)


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
        self.displaced_tensors = len(self.parameters())

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
        if displace is not None:
            raise ValueError(
                f"displace = {displace!r}: is for a state of tensors; of a model it is the "
                "parameters that start displaced"
            )
        _refuse_optimizer(optimizer, model)
        return _ModelSystem(step, model, optimizer, rows)
    if not all(isinstance(t, Tensor) for t in state):
        raise ValueError("state must be a list of tensors, or (model, optimizer)")
    floating = sum(t.is_floating_point() for t in state)
    if floating == 0:
        raise ValueError("state has no floating point tensor, whose distance could grow")
    if displace is not None:
        check("displace", displace, f"[1, {floating}]", integer=True)
    return _TensorSystem(step, state, rows, displace)


def _refuse_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Refuse what is no optimizer of this model, or cannot step after a backward pass."""
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"optimizer = {type(optimizer).__name__}: must be one of torch.optim")
    parameters = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not all(id(p) in parameters for p in held):
        raise ValueError(
            "the optimizer holds parameters that the model does not have: both must come together"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"the step of {type(optimizer).__name__} needs a closure: write the training as a step "
            "function on tensors"
        )


def _random_direction(start: Tensor, seed: int) -> Tensor:
    """Where twins start: one random number for each number of a row, [numbers]."""
    generator = torch.Generator().manual_seed(int(seed))
    return torch.randn(start.shape[1], generator=generator, dtype=torch.double).to(start)
