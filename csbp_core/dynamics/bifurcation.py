"""Bifurcations: where in z the map's fixed point and the cycles that double off it change.

Where BP is zero at every point of a cycle, the cycle is one of the chaotic loss alone, whose map is
smooth. It can be followed from z to z, and each event is the root of a condition on its points and
its multiplier.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy.optimize import brentq

from ..checks import check
from .arguments import checked_map
from .kernels import Map, find_cycle
from .orbits import orbit_diagram

# In units of z_c, where w* loses its stability. Scan from 0.4 z_c (the first event is at 0.5 z_c,
# where w* is superstable) to 3 z_c, where the doublings are over.
FIRST_Z = 0.4
LAST_Z = 3.0
STRIDE = 1e-4

# Along the cascade each cycle lives over a range of z about 4.7 times shorter than the one before:
# some 15 strides for period 32, three for period 64.
LONGEST_PERIOD = 32

# Indices into `_Branch._conditions`, each of which is zero at an event of the cycle.
DOUBLING = 0  # multiplier + 1
SUPERSTABLE = 1  # multiplier
BORDERS = 2  # from here on: each point minus the lower border of BP, then minus the upper

ROOT_TOLERANCE = 1e-14  # of z, absolute
AT_BORDER = 1e-9  # a point this close to a border lies on it, not inside

KICK = 1e-4  # off a cycle that has lost its stability
TRANSIENT = 10**6  # epochs to reach the new cycle, which attracts slowly just above its birth


class Bifurcation(NamedTuple):
    """An event of a cycle of the map.

    Attributes:
        kind: "period doubling" (multiplier -1), "superstable" (multiplier 0) or "border" (a point
            of the cycle meets a border of where BP acts).
        period: of the cycle, in epochs. For "period doubling" it is the one before the doubling: as
            z falls through the event of period 1, w* becomes stable.
        z: strength of the chaotic loss at which it happens.
        epoch: at which the annealed run passes this z, fractional; NaN where z does not decay.
        border: the w that the point meets; None for the other kinds.
    """

    kind: str
    period: int
    z: float
    epoch: float
    border: float | None = None

    @property
    def name(self) -> str:
        """The kind in words, with its border: "border w = 0.4", or "superstable"."""
        if self.border is None:
            return self.kind
        return f"{self.kind} w = {self.border:g}"


def bifurcations(
    z: float = 10.0,
    beta: float = 0.9995,
    *,
    lr: float = 1.0,
    I0: float = 0.65,
    bp: bool = True,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> list[Bifurcation]:
    """What happens below z to w* and to the cycles that double off it, where BP touches none.

    ::

        w* = ln(I0 / (1 - I0)) / 2,    multiplier of a cycle = product of df/dw over its points
        z_c = 1 / (lr I0 (1 - I0)),    where w* loses its stability

    w* is followed upwards in z, and from each doubling on the new cycle, up to period 32. The list
    ends at 3 z_c, where the doublings are over, or where Newton's method loses the cycle. Cycles
    born otherwise are not in it.

    Args:
        z: strength of the chaotic loss in the first epoch, > 0: only what lies below is returned.
        beta: factor of `z` per epoch, in (0, 1].
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns a `Bifurcation` for each, by falling z, the order in which the annealed run meets them;
    z is accurate to 1e-9, relative. Raises ValueError for a value out of range.

    Source: the published Example 1, doi:10.1093/nsr/nwae037; its period doubling of period 1 lies
    at z_c.

    Example:
        >>> for event in bifurcations(z=5.0):
        ...     print(f"{event.name}, period {event.period}, at z = {event.z:.4f}")
        border w = 0.4, period 2, at z = 4.4101
        period doubling, period 1, at z = 4.3956
        superstable, period 1, at z = 2.1978
    """
    check("z", z, "(0, inf)")
    check("beta", beta, "(0, 1]")
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    branch = _Branch.at_rest(params)
    last_z = min(z, LAST_Z * _critical_z(params))
    found = []
    with suppress(ArithmeticError):  # the cycle is lost, and what was found so far is right
        while branch.z < last_z and branch.period <= LONGEST_PERIOD:
            roots = branch.roots_ahead()
            for condition, root in roots.items():
                if branch.is_event(condition, root) and root < z:
                    kind, border = branch.kind_of(condition)
                    epoch = _epoch_of(root, z, beta)
                    found.append(Bifurcation(kind, branch.period, root, epoch, border))
            if DOUBLING in roots:
                branch.double_period(roots[DOUBLING])
            else:
                branch.advance()
    return sorted(found, key=lambda event: -event.z)


@dataclass
class _Branch:
    """A cycle of the smooth map that is followed upwards in z."""

    bp: bool  # whether BP acts between the borders
    smooth: Map  # the map without BP
    low: float  # up to this w the neuron does not fire
    high: float  # from this w on every step fires, where the surrogate is zero
    z: float
    stride: float
    w: float  # a point of the cycle at z
    period: int

    @classmethod
    def at_rest(cls, params: Map) -> Self:
        """The branch of the fixed point w*, below its first event."""
        z_c = _critical_z(params)
        # The potential after all steps without a spike, per unit of current.
        current_gain = sum(params.decay**t for t in range(params.time_steps))
        return cls(
            bp=params.bp,
            smooth=params._replace(bp=False),
            low=params.v_threshold / 2 / current_gain,
            high=(params.v_threshold + params.gamma) / 2,
            z=FIRST_Z * z_c,
            stride=STRIDE * z_c,
            w=math.log(params.I0 / (1 - params.I0)) / 2,
            period=1,
        )

    def roots_ahead(self) -> dict[int, float]:
        """Where within the next stride conditions become zero: {index of the condition: z}."""
        end = self.z + self.stride
        changed = (self._conditions(self.z) < 0) != (self._conditions(end) < 0)
        return {
            condition: brentq(self._condition, self.z, end, args=(condition,), xtol=ROOT_TOLERANCE)
            for condition in np.flatnonzero(changed).tolist()
        }

    def is_event(self, condition: int, z: float) -> bool:
        """Whether the root of a condition at z is an event of the map, BP included."""
        if not self.bp:
            return condition < BORDERS  # there is none to meet
        points, _ = find_cycle(self.w, z, self.period, self.smooth)
        inside = (points > self.low + AT_BORDER) & (points < self.high - AT_BORDER)
        return not inside.any()

    def kind_of(self, condition: int) -> tuple[str, float | None]:
        """The kind of event at the root of a condition, and the border that is met."""
        if condition == DOUBLING:
            return "period doubling", None
        if condition == SUPERSTABLE:
            return "superstable", None
        is_lower = condition < BORDERS + self.period
        return "border", self.low if is_lower else self.high

    def advance(self) -> None:
        """Go on by a stride, on the same cycle."""
        self.z += self.stride
        self._settle()

    def double_period(self, z: float) -> None:
        """Go on with the cycle of twice the period, which attracts, from a doubling at z.

        Events of the new cycle within one stride of the doubling are not looked for.
        """
        self.z = z + self.stride
        start = self.w + KICK
        orbit = orbit_diagram(self.z, start, TRANSIENT, keep=1, **self.smooth._asdict())
        self.w = orbit[0]
        self.period *= 2
        self._settle()

    def _settle(self) -> None:
        """Put w, which is near the cycle, on it."""
        points, _ = find_cycle(self.w, self.z, self.period, self.smooth)
        self.w = points[0]

    def _conditions(self, z: float) -> np.ndarray:
        """All conditions on the cycle at z, [2 + 2 * period]."""
        points, multiplier = find_cycle(self.w, z, self.period, self.smooth)
        stability = [multiplier + 1, multiplier]
        return np.concatenate([stability, points - self.low, points - self.high])

    def _condition(self, z: float, index: int) -> float:
        return self._conditions(z)[index]


def _critical_z(params: Map) -> float:
    """The z at which w* loses its stability."""
    return 1 / (params.lr * params.I0 * (1 - params.I0))


def _epoch_of(z: float, start: float, beta: float) -> float:
    """The epoch at which an annealed run from z = start passes z; NaN if it does not decay."""
    if beta == 1:
        return math.nan
    return math.log(z / start) / math.log(beta)
