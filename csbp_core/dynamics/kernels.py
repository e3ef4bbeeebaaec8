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

# Independent orbits that a thread advances together. Within one orbit every epoch waits for the exp
# of the epoch before; the other seven fill that wait.
LANES = 8

TINY = float(np.finfo(float).tiny)  # floor of |df/dw|: a superstable orbit has a finite exponent

# Factor of v_threshold (1 - decay), the current up to which the neuron never fires. Currents nearer
# to it than this run the loop, which decides exactly.
JUST_BELOW = 1 - 1e-12

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


@jit(inline="always")
def bp_gradient(w: float, params: Map) -> tuple[float, float]:
    """G(w) and its true derivative dG/dw, run forward in time with the potential m and spikes k.

    Subscripts are derivatives: s by the current s = 2 w through the surrogate, where dk/dm is the
    triangle h(m); w the true one by w, in which a spike has derivative zero; sw first the one, then
    the other. All start from zero. From what the step before left comes::

        m_s  = 1 + decay (m_s (1 - k) - m k_s)
        m_sw = decay (m_sw (1 - k) - m_w k_s - m k_sw)
        m    = decay m (1 - k) + s
        m_w  = decay m_w (1 - k) + 2

    and from these, in the same step::

        k    = [m > v_threshold]
        k_s  = h(m) m_s
        k_sw = h'(m) m_w m_s + h(m) m_sw

    With the loss (count / rate_steps)**2, at the end::

        G = dL_dcount sum_t k_s,    dG/dw = dL_dcount sum_t k_sw
    """
    current = 2 * w
    threshold = params.v_threshold
    decay = params.decay
    # Without a spike m rises to current / (1 - decay) in infinitely many steps: a shortcut that is
    # safe for any number of them. The exact border, in bifurcation.py, is the sum over time_steps.
    never_fires = current <= threshold * (1 - decay) * JUST_BELOW
    # From here on every step fires, with m = current, where the surrogate is zero.
    surrogate_is_zero = current >= threshold + params.gamma
    if never_fires or surrogate_is_zero:
        return 0.0, 0.0

    m = m_w = m_s = m_sw = k_s = k_sw = 0.0
    sum_k_s = sum_k_sw = 0.0
    fired = False
    count = 0
    for _ in range(params.time_steps):
        # m_s and m_sw come first: they need m and m_w of the step before.
        if fired:  # m (1 - k) is zero; of its derivatives, those of 1 - k are left: -m k_s
            m_s = 1 - decay * m * k_s
            m_sw = -decay * (m_w * k_s + m * k_sw)
            m = current
            m_w = 2.0
        else:
            m_s = 1 + decay * (m_s - m * k_s)
            m_sw = decay * (m_sw - m_w * k_s - m * k_sw)
            m = decay * m + current
            m_w = decay * m_w + 2
        fired = m > threshold
        if fired:
            count += 1
        surrogate = max(0.0, params.gamma - abs(m - threshold)) / params.gamma**2  # h(m)
        if surrogate == 0:
            surrogate_w = 0.0
        elif fired:  # the falling side of the triangle
            surrogate_w = -m_w / params.gamma**2
        else:
            surrogate_w = m_w / params.gamma**2
        k_s = surrogate * m_s
        k_sw = surrogate_w * m_s + surrogate * m_sw
        sum_k_s += k_s
        sum_k_sw += k_sw
    dL_dcount = 2 * count / params.rate_steps**2
    return dL_dcount * sum_k_s, dL_dcount * sum_k_sw


@jit(inline="always")
def step_and_slope(w: float, z: float, params: Map) -> tuple[float, float]:
    """f(w; z) and df/dw; inlined, so that what a caller does not use is not computed."""
    gradient = 0.0
    gradient_w = 0.0
    sigmoid = 1 / (1 + math.exp(-2 * w))
    if params.bp:
        gradient, gradient_w = bp_gradient(w, params)
    following = w - params.lr * (z * (sigmoid - params.I0) + gradient)
    slope = 1 - params.lr * (2 * z * sigmoid * (1 - sigmoid) + gradient_w)
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
        for t in range(transient + keep):
            for i in range(lanes):
                if t >= transient:
                    orbits[first + i, t - transient] = w[i]
                w[i], _ = step_and_slope(w[i], z[i], params)
                if len(noise) > 0:
                    w[i] *= 1 + noise[first + i, t]
                z[i] *= beta
    return orbits


@ThreadedKernel
def iterate_exponents(
    w0: np.ndarray,
    z: np.ndarray,
    params: Map,
    transient: int,
    steps: int,
) -> np.ndarray:
    """Means [n] of ln ``|df/dw|`` over `steps` epochs after a transient, from each w0 and z [n]."""
    exponents = np.zeros(len(w0))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w = w0[first : first + lanes].copy()
        for _ in range(transient):
            for i in range(lanes):
                w[i], _ = step_and_slope(w[i], z[first + i], params)
        for _ in range(steps):
            for i in range(lanes):
                w[i], slope = step_and_slope(w[i], z[first + i], params)
                exponents[first + i] += math.log(max(abs(slope), TINY)) / steps
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
