"""Bifurcations: where in z the map's fixed point and the cycles that double off it change.

Where none of a cycle's points is where BP acts, the map is that of the chaotic loss alone, which is
smooth. There a cycle can be followed from z to z, and each event is the root of a condition on its
points and its multiplier.
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

# In units of z_c = 1 / (lr I0 (1 - I0)), where w* loses its stability: from below its first event,
# w* being superstable at z_c / 2, to well above the cascade of doublings.
FIRST_Z = 0.4
LAST_Z = 3.0
STRIDE = 1e-4

LONGEST_PERIOD = 32

# Conditions, by place: each is zero at an event of the cycle.
DOUBLING = 0  # multiplier + 1
SUPERSTABLE = 1  # multiplier
BORDERS = 2  # from here on: each point minus the lower border of BP, then minus the upper

ROOT_TOLERANCE = 1e-14  # of z
AT_BORDER = 1e-9  # a point this close to a border lies on it, not inside

KICK = 1e-4  # off a cycle that has lost its stability
TRANSIENT = 10**6  # epochs until the new cycle, which attracts slowly just above its birth


class Bifurcation(NamedTuple):
    """An event of a cycle of the map.

    Attributes:
        kind: "period doubling" (of the smaller period; at 1 w* becomes stable), "superstable"
            (multiplier 0) or "border" (a point of the cycle meets the border of where BP acts).
        period: of the cycle, in epochs.
        z: strength of the chaotic loss at which it happens.
        epoch: of the annealed run that passes this z; NaN where z does not decay.
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

        w* = log(I0 / (1 - I0)) / 2,    multiplier of a cycle = product of df/dw over its points

    w* is followed upwards in z, and at each doubling the new cycle, up to period 32. The list ends
    early where Newton's method loses the cycle. Cycles born otherwise are not in it.

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

    Returns `Bifurcation`s downwards in z, to 1e-9 of it, in the order in which the annealed run
    meets them. Raises ValueError for a value out of range. Source: the published Example 1,
    doi:10.1093/nsr/nwae037; z of its period doubling at period 1 is 1 / (lr I0 (1 - I0)).

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
            branch.advance(roots.get(DOUBLING))
    return sorted(found, key=lambda event: -event.z)


@dataclass
class _Branch:
    """A cycle of the smooth map that is followed upwards in z."""

    bp: bool  # whether BP acts between the borders
    smooth: Map  # the map without BP
    low: float  # below it no neuron fires
    high: float  # above it every step's spike has a surrogate of zero
    z: float
    stride: float
    w: float  # a point of the cycle at z
    period: int

    @classmethod
    def at_rest(cls, params: Map) -> Self:
        """The branch of the fixed point w*, below its first event."""
        z_c = _critical_z(params)
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
        """Where within the next stride a condition becomes zero: z by the condition's place."""
        end = self.z + self.stride
        changed = (self._conditions(self.z) < 0) != (self._conditions(end) < 0)
        return {
            place: brentq(self._condition, self.z, end, args=(place,), xtol=ROOT_TOLERANCE)
            for place in np.flatnonzero(changed).tolist()
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

    def advance(self, doubling: float | None) -> None:
        """Go on by a stride, or past a doubling to the new cycle, which attracts."""
        if doubling is None:
            self.z += self.stride
        else:
            self.z = doubling + self.stride
            start = self.w + KICK
            orbit = orbit_diagram(self.z, start, TRANSIENT, keep=1, **self.smooth._asdict())
            self.w = orbit[0]
            self.period *= 2
        points, _ = find_cycle(self.w, self.z, self.period, self.smooth)
        self.w = points[0]

    def _conditions(self, z: float) -> np.ndarray:
        """All conditions on the cycle at z, [2 + 2 * period]."""
        points, multiplier = find_cycle(self.w, z, self.period, self.smooth)
        stability = [multiplier + 1, multiplier]
        return np.concatenate([stability, points - self.low, points - self.high])

    def _condition(self, z: float, place: int) -> float:
        return self._conditions(z)[place]


def _critical_z(params: Map) -> float:
    """The z at which w* loses its stability."""
    return 1 / (params.lr * params.I0 * (1 - params.I0))


def _epoch_of(z: float, start: float, beta: float) -> float:
    """The epoch at which an annealed run from z = start passes z; NaN if it does not decay."""
    if beta == 1:
        return math.nan
    return math.log(z / start) / math.log(beta)
