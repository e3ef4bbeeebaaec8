"""The exact map behind Example 1, in plain scalar loops compiled by numba: one epoch of training is w -> f(w; z).

With w = b and x = 1 the input current is s = 2 w, and an epoch of CSBP is one step of a map whose parameter z decays,

    f(w; z) = w - lr (z (sigmoid(2 w) - I0) + G(w)),    z <- beta z,    G = dL_bp/dw with L_bp = (sum_t k_t / rate_steps)**2
    m_t = d m_(t-1) (1 - k_(t-1)) + s,    k_t = [m_t > v_threshold],    dk/dm := max(0, gamma - |m - v_threshold|) / gamma**2

Every function takes the settings of `Map` as keywords. Float64, no code shared with `single_neuron`: each is the other's
oracle. Exponents come from the true derivative of f, in which a spike has derivative zero; double backward is wrong here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from .checks import check

Array = NDArray[np.float64]
LANES = 8  # independent orbits advanced together by a thread: each waits for its own exp, so they hide each other's latency
TINY = float(np.finfo(float).tiny)  # floor of |f'|: the exponent of a superstable orbit is finite


class Map(NamedTuple):
    """The map's settings: learning rate, target of the chaotic loss, BP gradient on or off, and the neuron's."""

    lr: float = 1.0
    I0: float = 0.65
    bp: bool = True
    time_steps: int = 20
    rate_steps: int = 10
    decay: float = 0.2
    v_threshold: float = 1.0
    gamma: float = 1.0


def _map(settings: dict) -> Map:
    if unknown := set(settings) - set(Map._fields):
        raise ValueError(f"unknown setting {min(unknown)!r}: must be one of {', '.join(Map._fields)}")
    p = Map(**settings)
    for name in ("lr", "I0", "decay", "v_threshold", "gamma"):
        check(name, getattr(p, name), {"I0": "(0, 1)", "decay": "[0, 1]"}.get(name, "(0, inf)"), scalar=True)
    for name in ("time_steps", "rate_steps"):
        check(name, getattr(p, name), "[1, inf)", integer=True)
    if not isinstance(p.bp, bool):
        raise ValueError(f"bp = {p.bp!r}: must be True or False")
    neuron = int(p.time_steps), int(p.rate_steps), float(p.decay), float(p.v_threshold), float(p.gamma)
    return Map(float(p.lr), float(p.I0), p.bp, *neuron)  # one set of types, so one compilation


@njit(cache=True, inline="always")
def _bp(w, p):
    """G(w) and dG/dw, forward in time: u is the surrogate's derivative of m, a the true one; dk and du belong to a."""
    s, theta, d = 2 * w, p.v_threshold, p.decay
    if s <= theta * (1 - d) * (1 - 1e-12) or s >= theta + p.gamma:
        return 0.0, 0.0  # never fires, or fires at every step where the surrogate is zero
    m = a = u = du = k = dk = total = dtotal = 0.0
    fired, count = False, 0
    for _ in range(p.time_steps):
        if fired:  # the reset cuts m, but not u: the surrogate's gradient passes through it
            u, du = 1 - d * m * k, -d * (a * k + m * dk)
            m, a = s, 2.0
        else:
            u, du = 1 + d * (u - m * k), d * (du - a * k - m * dk)
            m, a = d * m + s, d * a + 2
        fired = m > theta
        count += fired
        surrogate = max(0.0, p.gamma - abs(m - theta)) / p.gamma**2
        bend = 0.0 if surrogate == 0 else (-a if fired else a) / p.gamma**2
        k, dk = surrogate * u, bend * u + surrogate * du
        total += k
        dtotal += dk
    outer = 2 * count / p.rate_steps**2
    return outer * total, outer * dtotal


@njit(cache=True)
def _step(w, z, p):
    pull = z * (1 / (1 + math.exp(-2 * w)) - p.I0)
    return w - p.lr * (pull + _bp(w, p)[0] if p.bp else pull)


@njit(cache=True)
def _slope(w, z, p):
    s = 1 / (1 + math.exp(-2 * w))
    pull = 2 * z * s * (1 - s)
    return 1 - p.lr * (pull + _bp(w, p)[1] if p.bp else pull)


@njit(cache=True, parallel=True)
def _evaluate(what, w, z, p):
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i] = _bp(w[i], p)[0] if what == 0 else _step(w[i], z[i], p) if what == 1 else _slope(w[i], z[i], p)
    return out


@njit(cache=True, parallel=True)
def _iterate(w0, z0, beta, skip, keep, noise, p, orbit, exponent):
    """Fill orbit [n, keep] and exponent [n], where they have rows, with orbits and with mean log |f'| after `skip` steps."""
    n = len(w0)
    for block in prange((n + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, n - first)
        w, z = w0[first : first + lanes].copy(), z0[first : first + lanes].copy()
        for t in range(skip + keep):
            for i in range(lanes):
                if t >= skip:
                    if orbit.shape[0]:
                        orbit[first + i, t - skip] = w[i]
                    if exponent.shape[0]:
                        exponent[first + i] += math.log(max(abs(_slope(w[i], z[i], p)), TINY)) / keep
                w[i] = _step(w[i], z[i], p)
                if noise.shape[0]:
                    w[i] *= 1 + noise[first + i, t]
                z[i] *= beta


def _vectorised(what: int, w: ArrayLike, z: ArrayLike, settings: dict) -> Array:
    check("w", w, "(-inf, inf)")
    check("z", z, "(0, inf)")
    w, z = (np.array(a, dtype=float) for a in np.broadcast_arrays(w, z))
    return _evaluate(what, w.ravel(), z.ravel(), _map(settings)).reshape(w.shape)[()]


def gradient(w: ArrayLike, **settings) -> Array:
    """G(w) = dL_bp/dw by the surrogate, reset path included; shape of `w`. ValueError for a value out of range."""
    return _vectorised(0, w, 1.0, settings)


def step(w: ArrayLike, z: ArrayLike, **settings) -> Array:
    """One epoch, f(w; z); `w` and `z` broadcast. ValueError for a value out of range."""
    return _vectorised(1, w, z, settings)


def slope(w: ArrayLike, z: ArrayLike, **settings) -> Array:
    """df/dw on the smooth pieces of f, spikes held fixed; `w` and `z` broadcast. ValueError for a value out of range."""
    return _vectorised(2, w, z, settings)


def _run(z, w0, beta, skip, keep, settings, *, noise=None, orbit=False, exponent=False) -> tuple[Array, Array]:
    check("z", z, "(0, inf)")
    check("w0", w0, "(-inf, inf)")
    check("beta", beta, "(0, 1]", scalar=True)
    w, z = (np.array(a, dtype=float) for a in np.broadcast_arrays(w0, z))
    n = w.size
    orbits, exponents = np.empty((n if orbit else 0, keep)), np.zeros(n if exponent else 0)
    noise = np.empty((0, 0)) if noise is None else noise
    _iterate(w.ravel(), z.ravel(), float(beta), skip, keep, noise, _map(settings), orbits, exponents)
    return orbits.reshape(*w.shape, keep) if orbit else orbits, exponents.reshape(w.shape) if exponent else exponents


def orbit_diagram(z: ArrayLike, w0: ArrayLike = 0.5, transient: int = 1000, keep: int = 500, **settings) -> Array:
    """Orbits at frozen `z` after a transient: `[len(z), keep]`; `z` and `w0` broadcast, `z[:, None]` takes several starts."""
    check("transient", transient, "[0, inf)", integer=True)
    check("keep", keep, "[1, inf)", integer=True)
    return _run(z, w0, 1.0, transient, keep, settings, orbit=True)[0]


def lyapunov(z: ArrayLike, w0: ArrayLike = 0.5, transient: int = 1000, steps: int = 2000, **settings) -> Array:
    """Lyapunov exponent at frozen `z`, the mean of log |df/dw| over `steps` epochs after a transient: `[len(z)]`, per epoch."""
    check("transient", transient, "[0, inf)", integer=True)
    check("steps", steps, "[1, inf)", integer=True)
    return _run(z, w0, 1.0, transient, steps, settings, exponent=True)[1]


def anneal(
    w0: ArrayLike, z: ArrayLike = 10.0, beta: float = 0.9995, epochs: int = 4000, noise: float = 0.0, seed: int = 0, **settings
) -> Array:
    """Annealed runs `[epochs, n]` from each start `w0`: z *= beta, and w *= 1 + noise * N(0, 1), after every epoch.

    A run's noise depends on `seed` and its place in `w0` alone; rounding in float32 is of the size noise = 2**-24.
    """
    check("epochs", epochs, "[1, inf)", integer=True)
    check("noise", noise, "[0, inf)", scalar=True)
    check("seed", seed, "[0, inf)", integer=True)
    check("w0", w0, "(-inf, inf)")
    if np.ndim(w0) > 1 or np.ndim(z) > 1 or len({np.size(w0), np.size(z)} - {1}) > 1:
        raise ValueError(f"shapes {np.shape(w0)} of w0 and {np.shape(z)} of z: must be numbers or 1-d and of one length")
    w0, z = np.broadcast_arrays(np.atleast_1d(w0), z)
    kicks = noise * np.random.default_rng(seed).standard_normal((w0.size, epochs)) if noise else None
    return _run(z, w0, beta, 0, epochs, settings, noise=kicks, orbit=True)[0].T


def finite_time_lyapunov(
    w0: float, z: float = 10.0, beta: float = 0.9995, epochs: int = 4000, window: int = 50, **settings
) -> Array:
    """Mean log |df/dw| over the last `window` epochs of an annealed run: `[epochs]`, NaN before the first full window."""
    check("w0", w0, "(-inf, inf)", scalar=True)
    check("z", z, "(0, inf)", scalar=True)
    check("epochs", epochs, "[1, inf)", integer=True)
    check("window", window, f"[1, {epochs}]", integer=True)
    w = anneal(w0, z, beta, epochs, **settings)[:, 0]
    growth = np.log(np.maximum(np.abs(slope(w, z * beta ** np.arange(epochs), **settings)), TINY))
    out = np.full(epochs, np.nan)
    out[window - 1 :] = np.lib.stride_tricks.sliding_window_view(growth, window).mean(-1)
    return out


class Bifurcation(NamedTuple):
    """An event on the way down in z: what happens to which cycle, at which z, and at which epoch of the annealed run."""

    kind: str
    period: int
    z: float
    epoch: float


def _cycle(w: float, z: float, period: int, p: Map) -> tuple[Array, float]:
    """Points and multiplier of the cycle near `w`, by Newton's method on f^period(w) - w; ArithmeticError if there is none."""
    for _ in range(60):
        points, multiplier, v = np.empty(period), 1.0, w
        for i in range(period):
            points[i] = v
            multiplier *= _slope(v, z, p)
            v = _step(v, z, p)
        if abs(v - w) <= 1e-13 * max(1.0, abs(w)):
            return points, multiplier
        w -= (v - w) / (multiplier - 1)
    raise ArithmeticError(f"no cycle of period {period} near w = {w} at z = {z}")


def bifurcations(z: float = 10.0, beta: float = 0.9995, **settings) -> list[Bifurcation]:
    """What happens below z to w* and to the cycles that double off it, where none of their points is where BP acts.

    Outside the window in which BP acts the map is that of the chaotic loss alone, which is smooth: w* is followed upwards
    there, at each doubling on to the new cycle, up to period 32. Kinds: "period doubling" (multiplier -1; the smaller period:
    w* becomes stable at 1), "superstable" (multiplier 0), "border w = 1" and the like (a point enters or leaves the window).
    Each is a root in z, to 1e-9 of its size. Returns them downwards in z; cycles that are born otherwise are not among them.
    ValueError for a value out of range.
    """
    check("z", z, "(0, inf)", scalar=True)
    check("beta", beta, "(0, 1]", scalar=True)
    p = _map(settings)
    smooth, z_c, found = p._replace(bp=False), 1 / (p.lr * p.I0 * (1 - p.I0)), []
    low, high = p.v_threshold / 2 / sum(p.decay**t for t in range(p.time_steps)), (p.v_threshold + p.gamma) / 2
    w, period, at, stride = math.log(p.I0 / (1 - p.I0)) / 2, 1, 0.4 * z_c, 1e-4 * z_c

    def conditions(z: float) -> Array:
        points, multiplier = _cycle(w, z, period, smooth)
        return np.r_[multiplier + 1, multiplier, points - low, points - high]

    before = conditions(at)
    while at < min(z, 3 * z_c) and period <= 32:
        after, doubled_at = conditions(at + stride), 0.0
        for i in np.flatnonzero(before * after < 0):
            root = brentq(lambda z, i=i: conditions(z)[i], at, at + stride, xtol=1e-14)
            points = _cycle(w, root, period, smooth)[0]
            inside = (points > low + 1e-9) & (points < high - 1e-9)
            kinds = ["period doubling", "superstable", *[f"border w = {low:g}"] * period, *[f"border w = {high:g}"] * period]
            if root < z and (not inside.any() if p.bp else i < 2):
                found.append((root, kinds[i], period))
            doubled_at = root if i == 0 else doubled_at
        at = doubled_at + stride if doubled_at else at + stride
        w, before = _cycle(w, at, period, smooth)[0][0], after
        if doubled_at:
            near = (_cycle(w + distance, at, 2 * period, smooth)[0] for distance in 0.3 ** np.arange(11, 0, -1))
            w, period = next(points[0] for points in near if abs(points[period] - points[0]) > 1e-5), 2 * period
            before = conditions(at)
    decay = math.log(beta) if beta < 1 else math.nan
    return [Bifurcation(kind, period, at, math.log(at / z) / decay) for at, kind, period in sorted(found, reverse=True)]
