"""The strength z over a training: it falls by beta at every step, and may be set on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Stretch(NamedTuple):
    """Steps in which z falls by one beta and nobody sets it.

    step: the first of them.
    z: the common strength at that step.
    factor: what the strengths that layers have of their own are multiplied by at that step.
    beta: the factor of every further step.
    """

    step: int
    z: float
    factor: float
    beta: float

    def after(self, step: int) -> Stretch:
        """The same law, seen from a later step."""
        decay = self.beta ** (step - self.step)
        return Stretch(step, self.z * decay, self.factor * decay, self.beta)


class Annealing:
    """The schedule of z, of all layers.

    In each stretch, from the step at which it begins::

        z(step) = z_start * factor * beta**(step - begin)

    Setting z or beta begins a new stretch: it acts from then on, and the past stays as it was.

    Args:
        z_start: the common strength at the start, >= 0.
        beta: factor per step, in (0, 1].

    Example:
        >>> annealing = Annealing(8.0, beta=0.5)
        >>> annealing.set_z(3.0, step=2, strengths=[])
        >>> [annealing.z_at(step) for step in range(5)]
        [8.0, 4.0, 3.0, 1.5, 0.75]
    """

    def __init__(self, z_start: float, beta: float) -> None:
        self.z_start = z_start
        self.stretches = [Stretch(step=0, z=z_start, factor=1.0, beta=beta)]

    @property
    def beta(self) -> float:
        """The factor of z per step, now."""
        return self.stretches[-1].beta

    def z_at(self, step: int, z_start: float | None = None) -> float:
        """The strength after a number of steps: the common one, or of a layer with its own."""
        stretch = self._stretch_of(step)
        decay = stretch.beta ** (step - stretch.step)
        if z_start is None or z_start == self.z_start:
            return stretch.z * decay
        return z_start * stretch.factor * decay

    def set_z(self, z: float, step: int, strengths: Iterable[float]) -> None:
        """Set the common strength; those of other layers are multiplied by the same number.

        Args:
            z: the common strength from `step` on, >= 0.
            step: the number of steps until now.
            strengths: those at the start, of all layers.

        Raises ValueError if there is no such number: the common strength is zero, and a layer has
        another.
        """
        now = self.stretches[-1]
        if now.z > 0:
            factor = now.factor / now.z * z  # no beta**n, which may have underflowed
        elif any(strength not in (0, self.z_start) for strength in strengths):
            raise ValueError(
                f"z = {z}: the common strength is 0 and layers have their own, which cannot be "
                "scaled with it: remove() and attach them with another z"
            )
        else:
            factor = 1.0
        self._begin(Stretch(step, z, factor, now.beta))

    def set_beta(self, beta: float, step: int) -> None:
        """Set the factor of every step from `step` on, in (0, 1]."""
        now = self.stretches[-1].after(step)
        self._begin(now._replace(beta=beta))

    def state(self) -> list[tuple]:
        """The stretches, for a state dictionary."""
        return [tuple(stretch) for stretch in self.stretches]

    def load(self, stretches: Iterable[Sequence]) -> None:
        """Go on with the stretches that `state` gave."""
        self.stretches = [Stretch(*stretch) for stretch in stretches]

    def _stretch_of(self, step: int) -> Stretch:
        begun = [stretch for stretch in self.stretches if stretch.step <= step]
        return begun[-1]

    def _begin(self, stretch: Stretch) -> None:
        if self.stretches[-1].step == stretch.step:  # set twice at one step: the last one counts
            self.stretches.pop()
        self.stretches.append(stretch)
