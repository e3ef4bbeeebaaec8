"""The arms of the study, its training methods: BP, CSBP, and what CSBP is held against.

Each is one entry of `ARMS`, or of `EVERY_ARM` alone where only the second study trains it, which is
all that the rest of the study knows of it. A new arm is an entry in a list at the end, and a
function of a layer unless one of those below will do::

    def cubic(layer: LayerOutput, z: Tensor) -> Tensor:
        h = layer.current  # [S, T, N, *]
        return per_network(z, h).to(h.dtype) * h.abs() ** 3

    Arm("cubic", pull=cubic),
"""

from __future__ import annotations

import functools
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csbp_core import chaotic_loss
from csbp_core.checks import check

from .networks import LayerOutput, mean_per_network, per_network

I0 = 0.65
SCALE = 10.0
REST = SCALE * math.log(I0 / (1 - I0))  # where the chaotic loss is least

LOWEST_RATE = 0.1  # r0 of `firing_rate`, in spikes per step

BASELINE = "bp"  # the arm that all others are compared with

# Where tuning looks: at these learning rates for the baseline, and for the other arms at the rate
# chosen for the baseline times a factor: 3 factors if z is tuned too, 5 if only the rate is.
LEARNING_RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
FACTORS = (0.5, 1, 2)
MORE_FACTORS = (0.25, 0.5, 1, 2, 4)
STRENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
# The same z is another pull on a potential than on a current: a grid of its own, wide and coarse.
MEMBRANE_STRENGTHS = (2.0, 6.0, 20.0, 60.0, 200.0)
UNUSED_STRENGTH = 1.0  # of an arm that adds nothing

SEEDS = 2**16  # of `matched_noise`, and as many steps: together the 32 bits that a generator reads

Cells = Mapping[str, Mapping[str, Any]]  # by arm, what `study.cell.run_cell` gave for the same task


class Candidate(NamedTuple):
    """Settings to be tried: the learning rate, and the strength z of what is added to the loss."""

    lr: float
    z: float


# What an arm adds to the loss: its `pull`


def chaos_on_current(layer: LayerOutput, z: Tensor) -> Tensor:
    """The chaotic loss of the neurons' currents, a mean per network."""
    return chaos_of_each(layer.current, z)


def chaos_on_membrane(layer: LayerOutput, z: Tensor) -> Tensor:
    """The chaotic loss of the membrane potentials after the last reset, a mean per network."""
    return chaos_of_each(layer.potential, z)


def chaos_of_each(h: Tensor, z: Tensor) -> Tensor:
    """The mean chaotic loss of each network's part of h `[S, *]`, `[S]`."""
    # Under vmap it is a mean, which takes fewer passes over h than its elements would.
    return torch.vmap(functools.partial(chaotic_loss, I0=I0, scale=SCALE))(h, z)


def quadratic(layer: LayerOutput, z: Tensor) -> Tensor:
    """A pull without chaos: a parabola that shares two things with the chaotic loss.

    It has the same minimum h*, and the same slope at h = 0; k is its stiffness::

        L = k / 2 (h - h*)**2,    h* = scale * logit(I0),    k = z (I0 - 1/2) / (scale h*)
    """
    return parabola(layer.current, z)


def quadratic_on_membrane(layer: LayerOutput, z: Tensor) -> Tensor:
    """The same parabola, of the membrane potentials after the last reset."""
    return parabola(layer.potential, z)


def parabola(h: Tensor, z: Tensor) -> Tensor:
    """The parabola of `quadratic` for every element of h `[S, *]`."""
    stiffness = per_network(z, h) * (I0 - 0.5) / SCALE / REST
    return stiffness.to(h.dtype) / 2 * (h - REST).square()


def firing_rate(layer: LayerOutput, z: Tensor) -> Tensor:
    """A regulariser that wakes silent neurons and leaves all others alone.

    With a neuron's mean spikes over the batch and the time steps for its rate::

        L = z mean(max(0, r0 - rate)**2),    r0 = 0.1, the mean over the layer's neurons

    Returns it for each network, `[S]`.
    """
    rate = layer.spikes.mean((1, 2))  # [S, *]
    shortfall = (LOWEST_RATE - rate).clamp(min=0)
    return z.to(rate.dtype) * mean_per_network(shortfall.square())


# What an arm makes of the gradient of its pull: `replace_gradient`


def norms(tensor: Tensor) -> Tensor:
    """The norm of each network's part of a gradient or noise `[S, *]`, as `[S, 1, ..]`."""
    return per_network(tensor.flatten(1).norm(dim=1), tensor)


def matched_noise(gradients: Sequence[Tensor], seeds: Sequence[int], n: int) -> list[Tensor]:
    """Random directions with the norms of the gradients, per network and tensor.

    Args:
        gradients: of every parameter, `[S, *]`.
        seeds: one per network, integers in [0, 2**16).
        n: the step, an integer in [0, 2**16). The noise is fixed by seed and step.

    Returns tensors like `gradients`. Raises ValueError for a seed or a step out of range, which
    would have the noise of others.
    """
    check("seeds", seeds, f"[0, {SEEDS})", integer=True, array=True)
    check("n", n, f"[0, {SEEDS})", integer=True)
    sizes = [gradient[0].numel() for gradient in gradients]
    draws = []
    for seed in seeds:
        seed_of_step = seed * SEEDS + n
        generator = torch.Generator().manual_seed(seed_of_step)
        draws.append(torch.randn(sum(sizes), generator=generator))
    parts = torch.stack(draws).split(sizes, dim=1)  # [S, numbers of a parameter] each
    matched = []
    for part, gradient in zip(parts, gradients, strict=True):
        noise = part.to(gradient.dtype).view_as(gradient)
        matched.append(noise * (norms(gradient) / norms(noise)))
    return matched


def as_they_are(gradients: Sequence[Tensor], seeds: Sequence[int], n: int) -> list[Tensor]:
    """The gradients themselves: they are taken apart from the task's and added to them later."""
    return list(gradients)


# Between which settings the tuning of an arm chooses: its `candidates`


def learning_rates(cells: Cells) -> list[Candidate]:
    """Learning rates alone, for an arm that adds nothing."""
    return [Candidate(lr, UNUSED_STRENGTH) for lr in LEARNING_RATES]


def around_baseline(cells: Cells, strengths: Sequence[float] = STRENGTHS) -> list[Candidate]:
    """Learning rates around the one chosen for the baseline, each with every strength."""
    lr = cells[BASELINE]["lr"]
    return [Candidate(lr * factor, z) for factor in FACTORS for z in strengths]


def at_strength_of_csbp(cells: Cells) -> list[Candidate]:
    """Learning rates around the one chosen for the baseline, at the strength chosen for csbp."""
    lr = cells[BASELINE]["lr"]
    z = cells["csbp"]["z"]
    return [Candidate(lr * factor, z) for factor in MORE_FACTORS]


@dataclass(frozen=True)
class Arm:
    """A training method.

    Attributes:
        name: in results, files and on the command line.
        pull: what it adds to the loss, of S networks at once: (layer, z) -> tensor, whose mean over
            each hidden layer is added. z is `[S]` and float64; the tensor has the dtype and shape
            of what is pulled, `[S, T, N, *]` for currents (`[S, 1, N, *]` in the first layer of a
            static input), `[S, N, *]` for potentials or a mean over time; or it is that mean
            already, `[S]`. None adds nothing.
        replace_gradient: what the optimizer gets in place of the gradient of `pull`:
            (gradients, seeds, step) -> gradients. None is that gradient itself.
        needs: the arms whose cells must be there first.
        candidates: the settings that tuning chooses from: (the cells it needs) -> candidates.
        settings_from: an arm whose chosen settings it takes over, so that nothing is tuned and
            `candidates` is not used; one of `needs`.
        times_critical: z starts at so many times each network's own critical z, which
            `study.train.smallest_critical_z` measures; None starts it at the chosen z.
        anneals: whether z falls in the course of training, from its start, whatever that is, to a
            hundredth of the chosen z; if not it stays at its start.

    Raises ValueError for a `replace_gradient` where there is no `pull` that has one.
    """

    name: str
    pull: Callable[[LayerOutput, Tensor], Tensor] | None = None
    replace_gradient: Callable[[Sequence[Tensor], Sequence[int], int], list[Tensor]] | None = None
    needs: tuple[str, ...] = (BASELINE,)
    candidates: Callable[[Cells], list[Candidate]] = around_baseline
    settings_from: str | None = None
    times_critical: float | None = None
    anneals: bool = True

    def __post_init__(self) -> None:
        if self.replace_gradient is not None and self.pull is None:
            raise ValueError(f"arm = {self.name!r}: has no pull whose gradient could be replaced")

    def added_loss(self, layers: Sequence[LayerOutput], z: Tensor) -> Tensor:
        """What it adds to the loss of each network, `[S]`.

        Args:
            layers: what every hidden layer gave, of S networks at once.
            z: strength of each network at this step, float64, `[S]`.

        Example:
            >>> ones = torch.ones(2, 4, 5, 6)  # 2 networks
            >>> layer = LayerOutput(current=ones, potential=ones[:, 0], spikes=ones)
            >>> ARMS["bp"].added_loss([layer], torch.tensor([5.0, 10.0]))
            tensor([0., 0.])
            >>> ARMS["csbp"].added_loss([layer], torch.tensor([5.0, 10.0]))
            tensor([3.3970, 6.7940])
        """
        if self.pull is None:
            return torch.zeros(len(z))
        means = [mean_per_network(self.pull(layer, z)) for layer in layers]
        return torch.stack(means).sum(0)

    def check_needs(self, cells: Cells, task: str) -> None:
        """Raise ValueError, one line, if a cell that it needs is not there or is another.

        Args:
            cells: what there is, by the arm that each is said to be of.
            task: the name of the task that all must be of.
        """
        missing = [f"the {name} cell" for name in self.needs if name not in cells]
        if missing:
            needed = " and ".join(missing)
            raise ValueError(f"arm = {self.name!r}: needs {needed} of the same task")
        for name in self.needs:
            found = (cells[name].get("task"), cells[name].get("arm"))
            if found != (task, name):
                given = " ".join(str(part) for part in found)
                raise ValueError(f"{name} = the cell {given}: must be the cell {task} {name}")


_ARMS = (
    # Back-propagation alone.
    Arm("bp", needs=(), candidates=learning_rates),
    # The chaotic loss as the paper has it, annealed.
    Arm("csbp", pull=chaos_on_current),
    # z starts above the stability limit (its critical value), and ends where csbp's does.
    Arm(
        "high",
        pull=chaos_on_current,
        needs=("bp", "csbp"),
        candidates=at_strength_of_csbp,
        times_critical=2.0,
    ),
    # csbp without the annealing.
    Arm("constant", pull=chaos_on_current, anneals=False),
    # A pull to the same minimum without chaos, with settings tuned for this pull ...
    Arm("quadratic", pull=quadratic),
    # ... and with those tuned for csbp.
    Arm("matched", pull=quadratic, needs=("csbp",), settings_from="csbp"),
    # A gradient as large as that of the chaotic loss, in a random direction.
    Arm(
        "noise",
        pull=chaos_on_current,
        replace_gradient=matched_noise,
        needs=("bp", "csbp"),
        candidates=at_strength_of_csbp,
    ),
    # The chaotic loss of the potentials instead of the currents.
    Arm(
        "membrane",
        pull=chaos_on_membrane,
        candidates=functools.partial(around_baseline, strengths=MEMBRANE_STRENGTHS),
    ),
)
ARMS = {arm.name: arm for arm in _ARMS}

# What the second study trains besides; `study.tuning` has its own candidates for them.
_MORE_ARMS = (
    # csbp with its gradient summed in another order: the same mathematics, other rounding.
    Arm("csbp_resummed", pull=chaos_on_current, replace_gradient=as_they_are),
    # What CSBP may do at its tuned strength, wake silent neurons, and nothing else.
    Arm("firing_rate", pull=firing_rate),
    # A pull of the potentials to the same minimum without chaos.
    Arm("quadratic_membrane", pull=quadratic_on_membrane),
)
EVERY_ARM: Mapping[str, Arm] = ChainMap({arm.name: arm for arm in _MORE_ARMS}, ARMS)


def needed_arms() -> list[str]:
    """The arms whose cells some other arm needs, in the order of `ARMS`."""
    needed = {name for arm in ARMS.values() for name in arm.needs}
    return [name for name in ARMS if name in needed]
