"""Everything that numba compiles: the scalar map, and the loops over many starts and epochs.

A cached kernel is compiled anew only if its own file changes, so everything that it calls must be
in that file.
"""

import math
import os
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, prange

# Independent orbits that a thread advances together. The processor takes several of them at once,
# and goes on with others while these wait for a result.
LANES = 32

TINY = float(np.finfo(float).tiny)  # floor of |df/dw|: a superstable orbit has a finite exponent

# Factor of v_threshold (1 - decay), the current up to which the neuron never fires. Currents nearer
# to it than this run the loop, which decides exactly.
JUST_BELOW = 1 - 1e-12

# For `exp`, which takes x from the first, where e**x is almost the smallest normal float64, to the
# second, where it is infinite.
LOWEST = -708.0
HIGHEST = 710.0
# x + ROUNDING is x rounded to an integer, which its last bits hold.
ROUNDING = 1.5 * 2.0**52
LN2 = math.log(2)
# The first ends in zero bits, so that its product with k is exact; the second is the rest of ln 2.
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
TERMS = tuple(1 / math.factorial(n) for n in range(14))

# A normal float64 > 0 is mantissa * 2**exponent, 1 <= mantissa < 2. Its last bits, as many as this,
# are those of the mantissa, and above them stands BIAS + exponent.
MANTISSA_BITS = 52
BIAS = 1023

NEWTON_STEPS = 60
NEWTON_TOLERANCE = 1e-13  # w is on a cycle where |f^period(w) - w| <= tolerance * max(1, |w|)


class Map(NamedTuple):
    """The constants of the map: what an epoch of training does not change.

    Attributes:
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient G acts beside the chaotic loss.
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


class Threads:
    """Whether this process may use numba's threads, and the lock that one kernel at a time holds.

    Which library runs them is numba's choice, and none of its choices bears everything: GNU's
    OpenMP ends a forked child that uses the threads its parent had started, numba's own workqueue
    ends a process that calls from two threads at once.

    Attributes:
        lock: held while numba's threads run a kernel.
        lost: whether this is a forked child whose parent had started them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lost = False

    def after_fork(self) -> None:
        """Note, in the child, what a fork leaves of the threads: nothing."""
        try:
            numba.threading_layer()
        except ValueError:  # "Threading layer is not initialized": the child may start its own
            return
        self.lost = True


THREADS = Threads()
if hasattr(os, "register_at_fork"):  # where processes fork, that is not on Windows
    os.register_at_fork(after_in_child=THREADS.after_fork)


class ThreadedKernel:
    """A kernel that runs on numba's threads or, in a forked child that has lost them, on one.

    The values are the same. As with `jit`, both are compiled at their first call.

    Attributes:
        py_func: the function as it is written.
        threaded: the same, compiled for all threads.
        single: the same, compiled for one.
    """

    def __init__(self, function: Any) -> None:
        self.py_func = function
        self.threaded = jit(parallel=True)(function)
        # A name of its own: numba's files on disk are told apart by names, and not by options.
        name = f"{function.__name__}_single"
        copy = types.FunctionType(function.__code__, function.__globals__, name)
        copy.__qualname__ = name
        self.single = jit()(copy)

    def __call__(self, *arguments: Any) -> np.ndarray:
        if THREADS.lost:
            return self.single(*arguments)
        with THREADS.lock:
            return self.threaded(*arguments)

    @property
    def signatures(self) -> list[tuple]:
        """The types of arguments that it is compiled for."""
        return self.threaded.signatures


@jit()
def exp(x: float) -> float:
    """e**x to one unit in the last place; no less than e**LOWEST, and infinite from 709.44 on.

    Unlike math.exp it has no branch and calls nothing, so that the processor can take several x at
    once; and it is made of sums and products, which every machine rounds alike::

        x = k ln 2 + r,    |r| <= ln 2 / 2,    e**x = 2**k e**r
        e**r = 1 + r + r**2 / 2! + ... + r**13 / 13!,    what is left out is below 1e-17

    Source: e_exp.c of Sun Microsystems' FDLIBM for k, r and ln 2 in two parts.
    """
    x = min(max(x, LOWEST), HIGHEST)
    rounded = x * (1 / LN2) + ROUNDING
    k = rounded - ROUNDING
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    # In groups of four terms, which do not wait for one another.
    r2 = r * r
    r4 = r2 * r2
    low = TERMS[2] + TERMS[3] * r + (TERMS[4] + TERMS[5] * r) * r2
    middle = TERMS[6] + TERMS[7] * r + (TERMS[8] + TERMS[9] * r) * r2
    high = TERMS[10] + TERMS[11] * r + (TERMS[12] + TERMS[13] * r) * r2
    series = 1 + (r + r2 * (low + r4 * (middle + r4 * high)))
    biased = np.float64(rounded).view(np.int64) + BIAS
    power = np.int64(biased << MANTISSA_BITS).view(np.float64)
    return series * power


@jit()
def split(x: float) -> tuple[float, np.int64]:
    """Mantissa and exponent of a normal x > 0: x = mantissa * 2**exponent, 1 <= mantissa < 2."""
    biased = np.float64(x).view(np.int64) >> MANTISSA_BITS
    power = np.int64(biased << MANTISSA_BITS).view(np.float64)
    return x / power, biased - BIAS


@jit()
def bp_acts(w: float, params: Map) -> bool:
    """Whether w is where G may be other than zero."""
    current = 2 * w
    # Without a spike m rises to current / (1 - decay) in infinitely many steps: a shortcut that is
    # safe for any number of them. The exact border, in bifurcation.py, is the sum over time_steps.
    never_fires = current <= params.v_threshold * (1 - params.decay) * JUST_BELOW
    # From here on every step fires, with m = current, where the surrogate is zero.
    surrogate_is_zero = current >= params.v_threshold + params.gamma
    return not (never_fires or surrogate_is_zero)


@jit(inline="always")
def lanes_of_bp(w: np.ndarray, params: Map, indices: np.ndarray) -> np.ndarray:
    """The indices of those w [n] on which BP acts, written into `indices` [n].

    No branch depends on w: in chaos the processor would guess it wrong time and again.
    """
    found = 0
    for i in range(len(w)):
        indices[found] = i  # the next index takes its place, unless BP acts on this one
        found += bp_acts(w[i], params)
    return indices[:found]


@jit(inline="always")
def bp_gradient(w: float, params: Map) -> tuple[float, float]:
    """G(w) and its true derivative dG/dw, run forward in time with the potential m and spikes k.

    Subscripts are derivatives: s by the current s = 2 w through the surrogate, where dk/dm is the
    triangle h(m); w the true one by w, in which a spike has derivative zero; sw first the one, then
    the other. In the first step m = s, m_w = 2, m_s = 1 and m_sw = 0. In each step::

        k    = [m > v_threshold]
        k_s  = h(m) m_s
        k_sw = h'(m) m_w m_s + h(m) m_sw

    and from one to the next, with r = m h(m), what the reset takes of a change of m, the potential
    m <- decay m (1 - k) + s and its derivatives::

        m_sw <- decay ((1 - k - r) m_sw - r_w m_s)
        m_s  <- decay (1 - k - r) m_s + 1
        m_w  <- decay (1 - k) m_w + 2

    With the loss (count / rate_steps)**2, at the end::

        G = dL_dcount sum_t k_s,    dG/dw = dL_dcount sum_t k_sw
    """
    if not bp_acts(w, params):
        return 0.0, 0.0

    current = 2 * w
    decay = params.decay
    threshold = params.v_threshold
    steepness = 1 / params.gamma**2  # |h'(m)|, the triangle's sides
    m = current
    m_w = 2.0
    m_s = 1.0
    m_sw = 0.0
    sum_k_s = 0.0
    sum_k_sw = 0.0
    count = 0
    for _ in range(params.time_steps):
        fired = m > threshold
        surrogate = steepness * max(0.0, params.gamma - abs(m - threshold))  # h(m)
        if surrogate == 0:
            surrogate_w = 0.0
        elif fired:  # the falling side of the triangle
            surrogate_w = -steepness * m_w
        else:
            surrogate_w = steepness * m_w
        sum_k_s += surrogate * m_s
        sum_k_sw += surrogate_w * m_s + surrogate * m_sw
        r = m * surrogate
        r_w = m_w * surrogate + m * surrogate_w
        if fired:
            count += 1
            m_sw = -decay * (r * m_sw + r_w * m_s)
            m_s = 1 - decay * r * m_s
            m_w = 2.0
            m = current
        else:
            m_sw = decay * ((1 - r) * m_sw - r_w * m_s)
            m_s = decay * (1 - r) * m_s + 1
            m_w = decay * m_w + 2
            m = decay * m + current
    dL_dcount = 2 * count / params.rate_steps**2
    return dL_dcount * sum_k_s, dL_dcount * sum_k_sw


@jit(inline="always")
def chaotic_step(w: float, z: float, params: Map) -> tuple[float, float]:
    """f(w; z) and df/dw of the chaotic loss alone.

    It has no branch, so that the processor takes several orbits at once; BP, which acts on few of
    them, comes apart.
    """
    sigmoid = 1 / (1 + exp(-2 * w))
    following = w - params.lr * (z * (sigmoid - params.I0))
    slope = 1 - params.lr * (2 * z * sigmoid * (1 - sigmoid))
    return following, slope


@jit(inline="always")
def step_and_slope(w: float, z: float, params: Map) -> tuple[float, float]:
    """f(w; z) and df/dw; inlined, so that what a caller does not use is not computed."""
    following, slope = chaotic_step(w, z, params)
    if params.bp:
        gradient, gradient_w = bp_gradient(w, params)
        following -= params.lr * gradient
        slope -= params.lr * gradient_w
    return following, slope


@ThreadedKernel
def evaluate_gradient(w: np.ndarray, params: Map) -> np.ndarray:
    """G at each w [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i], _ = bp_gradient(w[i], params)
    return out


@ThreadedKernel
def evaluate_step(w: np.ndarray, z: np.ndarray, params: Map) -> np.ndarray:
    """f at each pair of w and z [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i], _ = step_and_slope(w[i], z[i], params)
    return out


@ThreadedKernel
def evaluate_slope(w: np.ndarray, z: np.ndarray, params: Map) -> np.ndarray:
    """df/dw at each pair of w and z [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        _, out[i] = step_and_slope(w[i], z[i], params)
    return out


@ThreadedKernel
def iterate_orbits(
    w0: np.ndarray,
    z0: np.ndarray,
    params: Map,
    beta: float,
    transient: int,
    keep: int,
    noise: np.ndarray,
) -> np.ndarray:
    """The orbits [n, keep] from each w0 and z0 [n], after a transient: w before each epoch.

    After each epoch ``z *= beta``, and ``w *= 1 + noise`` with noise [n, transient + keep]; for no
    noise pass an array of length 0.
    """
    orbits = np.empty((len(w0), keep))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w = w0[first : first + lanes].copy()
        z = z0[first : first + lanes].copy()
        following = np.empty(lanes)
        indices = np.empty(lanes, np.int64)
        for t in range(transient + keep):
            if t >= transient:
                orbits[first : first + lanes, t - transient] = w
            for i in range(lanes):
                following[i], _ = chaotic_step(w[i], z[i], params)
                z[i] *= beta
            if params.bp:
                for i in lanes_of_bp(w, params, indices):
                    gradient, _ = bp_gradient(w[i], params)
                    following[i] -= params.lr * gradient
            w[:] = following
            if len(noise) > 0:
                w *= 1 + noise[first : first + lanes, t]
    return orbits


@ThreadedKernel
def iterate_exponents(
    w0: np.ndarray,
    z: np.ndarray,
    params: Map,
    transient: int,
    steps: int,
) -> np.ndarray:
    """Means [n] of ln ``|df/dw|`` over `steps` epochs after a transient, from each w0 and z [n].

    The sum of the logarithms is that of the product of all ``|df/dw|``, and such a product, which
    no float64 would hold, is ``growth * 2**doublings`` with 1 <= growth < 2.
    """
    exponents = np.empty(len(w0))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w = w0[first : first + lanes].copy()
        following = np.empty(lanes)
        slope = np.empty(lanes)
        indices = np.empty(lanes, np.int64)
        growth = np.ones(lanes)
        doublings = np.zeros(lanes)
        for t in range(transient + steps):
            for i in range(lanes):
                following[i], slope[i] = chaotic_step(w[i], z[first + i], params)
            if params.bp:
                for i in lanes_of_bp(w, params, indices):
                    gradient, gradient_w = bp_gradient(w[i], params)
                    following[i] -= params.lr * gradient
                    slope[i] -= params.lr * gradient_w
            w[:] = following
            if t >= transient:
                for i in range(lanes):
                    factor = max(abs(slope[i]), TINY)
                    growth[i], exponent = split(factor * growth[i])
                    doublings[i] += exponent
        total = np.log(growth) + LN2 * doublings
        exponents[first : first + lanes] = total / steps
    return exponents


@jit()
def find_cycle(w: float, z: float, period: int, params: Map) -> tuple[np.ndarray, float]:
    """Points [period] and multiplier of the cycle near w, by Newton's method on f^period(w) - w.

    Raises ArithmeticError where there is none: ZeroDivisionError, which is one, if the multiplier
    becomes 1.
    """
    points = np.empty(period)
    for _ in range(NEWTON_STEPS):
        end = w
        multiplier = 1.0
        for i in range(period):
            points[i] = end
            end, slope = step_and_slope(end, z, params)
            multiplier *= slope
        if abs(end - w) <= NEWTON_TOLERANCE * max(1.0, abs(w)):
            return points, multiplier
        w -= (end - w) / (multiplier - 1)  # the derivative of f^period(w) - w
    raise ArithmeticError("no cycle there")
