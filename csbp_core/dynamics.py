"""The exact map behind Example 1, in plain scalar loops compiled by numba: one epoch of training is w -> f(w; z).

With w = b and x = 1 the input current is s = 2 w. An epoch of CSBP, in which `Map` holds all that stays and z decays, is

    f(w; z) = w - lr (z (sigmoid(2 w) - I0) + G(w)),    z <- beta z,    G = dL_bp/dw with L_bp = (sum_t k_t / rate_steps)**2
    m_t = d m_(t-1) (1 - k_(t-1)) + s,    k_t = [m_t > v_threshold],    dk/dm := max(0, gamma - |m - v_threshold|) / gamma**2

Every public function takes the settings of `Map` as keywords, computes in float64 and raises ValueError for a value out of
range. No code is shared with `single_neuron`: each is the other's oracle. Exponents come from the true derivative of f, in
which a spike has derivative zero; double backward is wrong here. Source: the published Example 1, doi:10.1093/nsr/nwae037.
"""

import math
from collections import namedtuple
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from ._old_checks import RANGES, check, check_all, check_choice

Array = NDArray[np.float64]
LANES = 8  # independent orbits advanced together by a thread: each waits for its own exp, so they hide each other's latency
TINY = float(np.finfo(float).tiny)  # floor of |f'|: the exponent of a superstable orbit is finite
NO_NOISE, POSITIVE = np.empty((0, 0)), RANGES | {"z": "(0, inf)"}
Map = namedtuple(
    "Map", "lr I0 bp time_steps rate_steps decay v_threshold gamma", defaults=(1.0, 0.65, True, 20, 10, 0.2, 1.0, 1.0)
)  # bp: with the BP gradient, or without
Bifurcation = NamedTuple("Bifurcation", [("kind", str), ("period", int), ("z", float), ("epoch", float)])


def _map(settings: dict) -> Map:
    """The settings, checked, each of its default's type: all calls share one compilation."""
    if unknown := set(settings) - set(Map._fields):
        raise ValueError(f"unknown setting {min(unknown)!r}: must be one of {', '.join(Map._fields)}")
    check_choice("bp", settings.get("bp", True), (True, False))
    check_all(**{name: value for name, value in settings.items() if name != "bp"})
    return Map(**{name: type(Map._field_defaults[name])(value) for name, value in settings.items()})


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


@njit(cache=True, inline="always")
def _epoch(w, z, p):
    """f(w; z) and df/dw; what a caller does not use is not computed."""
    s = 1 / (1 + math.exp(-2 * w))
    bp, bend = _bp(w, p) if p.bp else (0.0, 0.0)
    return w - p.lr * (z * (s - p.I0) + bp), 1 - p.lr * (2 * z * s * (1 - s) + bend)


@njit(cache=True, parallel=True)
def _evaluate(w, z, p, what):
    """G, f or df/dw (what = 0, 1, 2) at each of `w` and `z` [n]."""
    out = np.empty(len(w))
    for i in prange(len(w)):
        out[i] = _bp(w[i], p)[0] if what == 0 else _epoch(w[i], z[i], p)[what - 1]
    return out


@njit(cache=True, parallel=True)
def _iterate(w0, z0, p, beta, skip, keep, noise, exponent):
    """The orbits [n, keep] after `skip` steps or, for `exponent`, their mean log |f'| [n, 1]."""
    out = np.zeros((len(w0), 1 if exponent else keep))
    for block in prange((len(w0) + LANES - 1) // LANES):
        first = block * LANES
        lanes = min(LANES, len(w0) - first)
        w, z = w0[first : first + lanes].copy(), z0[first : first + lanes].copy()
        for t in range(skip + keep):
            for i in range(lanes):
                if exponent and t >= skip:
                    w[i], slope = _epoch(w[i], z[i], p)
                    out[first + i, 0] += math.log(max(abs(slope), TINY)) / keep
                else:
                    if t >= skip:
                        out[first + i, t - skip] = w[i]
                    w[i] = _epoch(w[i], z[i], p)[0]
                if noise.shape[0]:
                    w[i] *= 1 + noise[first + i, t]
                z[i] *= beta
    return out


def _apply(kernel, w: ArrayLike, z: ArrayLike, settings: dict, *rest) -> Array:
    """What `kernel` makes of `w` and `z`, broadcast, in their shape."""
    check_all(("w", "z"), POSITIVE, w=w, z=z)
    w, z = (np.array(a, dtype=float) for a in np.broadcast_arrays(w, z))
    out = kernel(w.ravel(), z.ravel(), _map(settings), *rest)
    return out.reshape(w.shape + out.shape[1:])[()]


def gradient(w: ArrayLike, **settings) -> Array:
    """G(w) = dL_bp/dw by the surrogate, reset path included; the shape of `w`."""
    return _apply(_evaluate, w, 1.0, settings, 0)


def step(w: ArrayLike, z: ArrayLike, **settings) -> Array:
    """One epoch, f(w; z); `w` and `z` broadcast."""
    return _apply(_evaluate, w, z, settings, 1)


def slope(w: ArrayLike, z: ArrayLike, **settings) -> Array:
    """df/dw on the smooth pieces of f, spikes held fixed; `w` and `z` broadcast."""
    return _apply(_evaluate, w, z, settings, 2)


def orbit_diagram(z: ArrayLike, w0: ArrayLike = 0.5, transient: int = 1000, keep: int = 500, **settings) -> Array:
    """Orbits at frozen `z` after a transient: `[len(z), keep]`; `z` and `w0` broadcast, `z[:, None]` takes several starts."""
    check_all(("z", "w0"), POSITIVE, z=z, w0=w0, transient=transient, keep=keep)
    return _apply(_iterate, w0, z, settings, 1.0, int(transient), int(keep), NO_NOISE, False)


def lyapunov(z: ArrayLike, w0: ArrayLike = 0.5, transient: int = 1000, steps: int = 2000, **settings) -> Array:
    """Lyapunov exponent at frozen `z`, the mean of log |df/dw| over `steps` epochs after a transient: `[len(z)]`, per epoch."""
    check_all(("z", "w0"), POSITIVE, z=z, w0=w0, transient=transient, steps=steps)
    return _apply(_iterate, w0, z, settings, 1.0, int(transient), int(steps), NO_NOISE, True)[..., 0]


def anneal(
    w0: ArrayLike, z: ArrayLike = 10.0, beta: float = 0.9995, epochs: int = 4000, noise: float = 0.0, seed: int = 0, **settings
) -> Array:
    """Annealed runs `[epochs, n]` from each start `w0`: z *= beta, and w *= 1 + noise * N(0, 1), after every epoch.

    A run's noise depends on `seed` and its place in `w0` alone; rounding in float32 is of the size noise = 2**-24.
    """
    check_all(("w0", "z"), POSITIVE, w0=w0, z=z, beta=beta, epochs=epochs, noise=noise, seed=seed)
    if np.ndim(w0) > 1 or np.ndim(z) > 1 or len({np.size(w0), np.size(z)} - {1}) > 1:
        raise ValueError(f"shapes {np.shape(w0)} of w0 and {np.shape(z)} of z: must be numbers or 1-d and of one length")
    w0, z = np.broadcast_arrays(np.atleast_1d(w0), z)
    kicks = noise * np.random.default_rng(seed).standard_normal((w0.size, epochs)) if noise else NO_NOISE
    return _apply(_iterate, w0, z, settings, float(beta), 0, int(epochs), kicks, False).T


def finite_time_lyapunov(
    w0: float, z: float = 10.0, beta: float = 0.9995, epochs: int = 4000, window: int = 50, **settings
) -> Array:
    """Mean log |df/dw| over the last `window` epochs of an annealed run: `[epochs]`, NaN before the first full window."""
    check_all((), POSITIVE, w0=w0, z=z, epochs=epochs)
    check("window", window, f"[1, {epochs}]", integer=True)
    w = anneal(w0, z, beta, epochs, **settings)[:, 0].copy()
    growth = np.log(np.maximum(np.abs(_evaluate(w, z * beta ** np.arange(epochs), _map(settings), 2)), TINY))
    return np.r_[np.full(window - 1, np.nan), np.lib.stride_tricks.sliding_window_view(growth, window).mean(-1)]


@njit(cache=True)
def _cycle(w, z, period, p):
    """Points and multiplier of the cycle near `w`, by Newton's method on f^period(w) - w; ArithmeticError if there is none."""
    points = np.empty(period)
    for _ in range(60):
        v, multiplier = w, 1.0
        for i in range(period):
            points[i] = v
            v, slope = _epoch(v, z, p)
            multiplier *= slope
        if abs(v - w) <= 1e-13 * max(1.0, abs(w)):
            return points, multiplier
        w -= (v - w) / (multiplier - 1)
    raise ArithmeticError("no cycle there")


def bifurcations(z: float = 10.0, beta: float = 0.9995, **settings) -> list[Bifurcation]:
    """What happens below z to w* and to the cycles that double off it, where none of their points is where BP acts.

    There the map is that of the chaotic loss alone, which is smooth: w* is followed upwards and at each doubling the new
    cycle, up to period 32; the list ends early where Newton's method loses the cycle. Cycles born otherwise are not in it.
    Returns them downwards in z, to 1e-9 of it, with the epoch of the annealed run (NaN for beta = 1): "period doubling" (of the
    smaller period; at 1 w* becomes stable), "superstable" (multiplier 0), "border w = 1" and the like (a point meets it).
    """
    check_all((), POSITIVE, z=z, beta=beta)
    p = _map(settings)
    smooth, z_c, found = p._replace(bp=False), 1 / (p.lr * p.I0 * (1 - p.I0)), []
    low, high = p.v_threshold / 2 / sum(p.decay**t for t in range(p.time_steps)), (p.v_threshold + p.gamma) / 2
    w, period, at, stride = math.log(p.I0 / (1 - p.I0)) / 2, 1, 0.4 * z_c, 1e-4 * z_c

    def conditions(z: float) -> Array:  # each is zero at an event of the cycle that is followed
        points, multiplier = _cycle(w, z, period, smooth)
        return np.r_[multiplier + 1, multiplier, points - low, points - high]

    with suppress(ArithmeticError):
        while at < min(z, 3 * z_c) and period <= 32:
            changed = np.flatnonzero((conditions(at) < 0) != (conditions(at + stride) < 0)).tolist()
            roots = {i: brentq(lambda z, i=i: conditions(z)[i], at, at + stride, xtol=1e-14) for i in changed}
            kinds = ["period doubling", "superstable"] + period * [f"border w = {low:g}"] + period * [f"border w = {high:g}"]
            for i, root in roots.items():
                points = _cycle(w, root, period, smooth)[0]
                inside = (points > low + 1e-9) & (points < high - 1e-9)
                if root < z and (not inside.any() if p.bp else i < 2):
                    found.append(Bifurcation(kinds[i], period, root, math.log(root / z) / (math.log(beta) or math.nan)))
            at = roots.get(0, at) + stride
            if 0 in roots:  # on to the new cycle, which attracts
                w, period = orbit_diagram(at, w + 1e-4, 10**6, 1, **smooth._asdict())[0], 2 * period
            w = _cycle(w, at, period, smooth)[0][0]
    return sorted(found, key=lambda event: -event.z)
