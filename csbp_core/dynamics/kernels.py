"""Everything that numba compiles: the scalar map, and the loops over many starts and epochs.

It stands in one file because numba's cache on disk looks at the file of a kernel alone: a change to
a function that a kernel elsewhere calls would go unnoticed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

# Independent orbits that a thread advances together: each waits for its own exp, so eight of them
# hide each other's latency.
LANES = 8

TINY = float(np.finfo(float).tiny)  # floor of |f'|: a superstable orbit has a finite exponent

JUST_BELOW = 1 - 1e-12  # how close to firing a current may come and still be said never to fire

NEWTON_STEPS = 60
NEWTON_TOLERANCE = 1e-13  # of a cycle's point, relative above 1


class Map(NamedTuple):
    """What an epoch of training does not change.

    Attributes:
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.
    """

    lr: float = 1.0
    I0: float = 0.65
    bp: bool = True
    time_steps: int = 20
    rate_steps: int = 10
    decay: float = 0.2
    v_threshold: float = 1.0
    gamma: float = 1.0


def jit(**options: Any) -> Callable[[Callable], Any]:
    """Compile a function at its first call, and keep the result on disk where that is possible.

    Numba keeps it beside the source or in the user's cache folder, and refuses to compile at all
    where it can write to neither, as in a container that runs as nobody. Then it is compiled anew
    in every process.
    """

    def decorate(function: Callable) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function ...: no locator available"
            return njit(**options)(function)

    return decorate


@jit(inline="always")
def bp_gradient(w: float, params: Map) -> tuple[float, float]:
    """G(w), by the surrogate and with the reset's path, and its true derivative dG/dw.

    G is run forward in time, by two kinds of derivatives of the potential m that are not the same:

        u, k     derivatives by the current s through the surrogate: dm/ds, and dk/ds of a spike
        dm       true derivative of m by w, in which a spike has derivative zero
        du, dk   true derivatives of u and k by w
    """
    current = 2 * w
    threshold = params.v_threshold
    decay = params.decay
    never_fires = current <= threshold * (1 - decay) * JUST_BELOW
    surrogate_is_zero = current >= threshold + params.gamma  # at every step, and each of them fires
    if never_fires or surrogate_is_zero:
        return 0.0, 0.0

    m = dm = u = du = k = dk = 0.0
    sum_k = sum_dk = 0.0
    fired = False
    count = 0
    for _ in range(params.time_steps):
        if fired:  # the reset cuts m, but not u: the surrogate's gradient passes through it
            u = 1 - decay * m * k
            du = -decay * (dm * k + m * dk)
            m = current
            dm = 2.0
        else:
            u = 1 + decay * (u - m * k)
            du = decay * (du - dm * k - m * dk)
            m = decay * m + current
            dm = decay * dm + 2
        fired = m > threshold
        if fired:
            count += 1
        surrogate = max(0.0, params.gamma - abs(m - threshold)) / params.gamma**2
        if surrogate == 0:
            dsurrogate = 0.0
        elif fired:  # the falling side of the triangle
            dsurrogate = -dm / params.gamma**2
        else:
            dsurrogate = dm / params.gamma**2
        k = surrogate * u
        dk = dsurrogate * u + surrogate * du
        sum_k += k
        sum_dk += dk
    outer = 2 * count / params.rate_steps**2  # dL_bp/d(sum of spikes)
    return outer * sum_k, outer * sum_dk


@jit(inline="always")
def epoch(w: float, z: float, params: Map) -> tuple[float, float]:
    """f(w; z) and df/dw; what a caller does not use is not computed."""
    gradient = 0.0
    curvature = 0.0
    s = 1 / (1 + math.exp(-2 * w))
    if params.bp:
        gradient, curvature = bp_gradient(w, params)
    following = w - params.lr * (z * (s - params.I0) + gradient)
    slope = 1 - params.lr * (2 * z * s * (1 - s) + curvature)
    return following, slope


@jit(parallel=True)
def evaluate_gradient(w: np.ndarray, params: Map) -> np.ndarray:
    """G at each w [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i], _ = bp_gradient(w[i], params)
    return out


@jit(parallel=True)
def evaluate_step(w: np.ndarray, z: np.ndarray, params: Map) -> np.ndarray:
    """f at each pair of w and z [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i], _ = epoch(w[i], z[i], params)
    return out


@jit(parallel=True)
def evaluate_slope(w: np.ndarray, z: np.ndarray, params: Map) -> np.ndarray:
    """df/dw at each pair of w and z [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        _, out[i] = epoch(w[i], z[i], params)
    return out


@jit(parallel=True)
def iterate_orbits(
    w0: np.ndarray,
    z0: np.ndarray,
    params: Map,
    beta: float,
    transient: int,
    keep: int,
    noise: np.ndarray,
) -> np.ndarray:
    """The orbits [n, keep] from each w0 and z0 [n], after a transient.

    After each epoch z *= beta, and w *= 1 + noise [n, transient + keep]; an empty array is none.
    """
    orbits = np.empty((len(w0), keep))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w = w0[first : first + lanes].copy()
        z = z0[first : first + lanes].copy()
        for t in range(transient + keep):
            for i in range(lanes):
                if t >= transient:
                    orbits[first + i, t - transient] = w[i]
                w[i], _ = epoch(w[i], z[i], params)
                if len(noise) > 0:
                    w[i] *= 1 + noise[first + i, t]
                z[i] *= beta
    return orbits


@jit(parallel=True)
def iterate_exponents(
    w0: np.ndarray,
    z: np.ndarray,
    params: Map,
    transient: int,
    steps: int,
) -> np.ndarray:
    """Means [n] of log |df/dw| over `steps` epochs after a transient, from each w0 and z [n]."""
    exponents = np.zeros(len(w0))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w = w0[first : first + lanes].copy()
        for _ in range(transient):
            for i in range(lanes):
                w[i], _ = epoch(w[i], z[first + i], params)
        for _ in range(steps):
            for i in range(lanes):
                w[i], slope = epoch(w[i], z[first + i], params)
                exponents[first + i] += math.log(max(abs(slope), TINY)) / steps
    return exponents


@jit()
def find_cycle(w: float, z: float, period: int, params: Map) -> tuple[np.ndarray, float]:
    """Points [period] and multiplier of the cycle near w, by Newton's method on f^period(w) - w.

    Raises ArithmeticError where there is none.
    """
    points = np.empty(period)
    for _ in range(NEWTON_STEPS):
        end = w
        multiplier = 1.0
        for i in range(period):
            points[i] = end
            end, slope = epoch(end, z, params)
            multiplier *= slope
        if abs(end - w) <= NEWTON_TOLERANCE * max(1.0, abs(w)):
            return points, multiplier
        w -= (end - w) / (multiplier - 1)
    raise ArithmeticError("no cycle there")
