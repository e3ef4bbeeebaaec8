"""The map iterated: at a frozen z, and annealed."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from ..checks import check
from .arguments import checked_map, flatten
from .kernels import TINY, evaluate_slope, iterate_exponents, iterate_orbits

FROZEN = 1.0  # the beta that keeps z
NO_NOISE = np.empty((0, 0))


def orbit_diagram(
    z: ArrayLike,
    w0: ArrayLike = 0.5,
    transient: int = 1000,
    keep: int = 500,
    *,
    lr: float = 1.0,
    I0: float = 0.65,
    bp: bool = True,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> np.ndarray:
    """Orbits at frozen z, after a transient: w before each epoch that is kept.

    ::

        w <- f(w; z)

    Args:
        z: strength of the chaotic loss, > 0, a number or an array.
        w0: weight to start from, a number or an array; `z` and `w0` broadcast. For m starts at each
            of n z take `z[:, None]` with `w0` `[m]`, which gives `[n, m, keep]`.
        transient: epochs that are not kept, >= 0.
        keep: epochs that are kept, >= 1.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 `[*, keep]`, where * is the shape that `z` and `w0` have together. Raises
    ValueError for a value out of range. Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> orbit_diagram([3.0, 5.5], keep=3).round(3).tolist()  # at rest, and a 2-cycle
        [[0.31, 0.31, 0.31], [-0.256, 1.258, -0.256]]
    """
    check("z", z, "(0, inf)", array=True)
    check("w0", w0, "(-inf, inf)", array=True)
    check("transient", transient, "[0, inf)", integer=True)
    check("keep", keep, "[1, inf)", integer=True)
    (w0, z), shape = flatten(w0, z)
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    orbits = iterate_orbits(w0, z, params, FROZEN, int(transient), int(keep), NO_NOISE)
    return orbits.reshape(*shape, keep)


def lyapunov(
    z: ArrayLike,
    w0: ArrayLike = 0.5,
    transient: int = 1000,
    steps: int = 2000,
    *,
    lr: float = 1.0,
    I0: float = 0.65,
    bp: bool = True,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> np.ndarray:
    """The Lyapunov exponent at frozen z: how fast orbits that start side by side part.

    ::

        lambda = mean of ln |df/dw| over `steps` epochs

    Args:
        z: strength of the chaotic loss, > 0, a number or an array.
        w0: weight to start from, a number or an array; `z` and `w0` broadcast.
        transient: epochs before the first that counts, >= 0.
        steps: epochs that count, >= 1.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 of the shape that `z` and `w0` have together, per epoch: below zero at rest and
    on a cycle, above zero in chaos. ``|df/dw|`` is floored at the smallest normal float64, so that
    a superstable orbit, too, has a finite exponent: about -708 at the lowest. Raises ValueError for
    a value out of range. Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> (lyapunov([3.0, 7.5]) > 0).tolist()
        [False, True]
    """
    check("z", z, "(0, inf)", array=True)
    check("w0", w0, "(-inf, inf)", array=True)
    check("transient", transient, "[0, inf)", integer=True)
    check("steps", steps, "[1, inf)", integer=True)
    (w0, z), shape = flatten(w0, z)
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    return iterate_exponents(w0, z, params, int(transient), int(steps)).reshape(shape)


def anneal(
    w0: ArrayLike,
    z: ArrayLike = 10.0,
    beta: float = 0.9995,
    epochs: int = 4000,
    noise: float = 0.0,
    seed: int = 0,
    *,
    lr: float = 1.0,
    I0: float = 0.65,
    bp: bool = True,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> np.ndarray:
    """Annealed runs: z decays after every epoch, and w may be kicked.

    ::

        w <- f(w; z) (1 + noise N(0, 1)),    z <- beta z

    The noise of a run depends on `seed`, on `epochs` and on its place among the runs, and not on
    how many runs come after it.

    Args:
        w0: weight to start from, a number or 1-d.
        z: strength of the chaotic loss in the first epoch, > 0, a number or 1-d, as long as `w0`.
        beta: factor of `z` per epoch, in (0, 1].
        epochs: length of the run, >= 1.
        noise: size of the kicks, relative to w, >= 0; 2**-24 imitates the rounding of float32.
        seed: of the noise, >= 0.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 `[epochs, n]`, the weight before each epoch; numbers as `w0` and `z` give n = 1.
    Raises ValueError for a value out of range. Source: the published Example 1,
    doi:10.1093/nsr/nwae037.

    Example:
        >>> anneal([0.5, 0.6], epochs=3).shape
        (3, 2)
        >>> anneal(0.5, epochs=3)[:, 0].round(3).tolist()
        [0.5, -3.565, 2.924]
    """
    check("w0", w0, "(-inf, inf)", array=True)
    check("z", z, "(0, inf)", array=True)
    check("beta", beta, "(0, 1]")
    check("epochs", epochs, "[1, inf)", integer=True)
    check("noise", noise, "[0, inf)")
    check("seed", seed, "[0, inf)", integer=True)
    lengths = {np.size(w0), np.size(z)} - {1}
    if np.ndim(w0) > 1 or np.ndim(z) > 1 or len(lengths) > 1:
        raise ValueError(
            f"shapes {np.shape(w0)} of w0 and {np.shape(z)} of z: "
            "must be numbers or 1-d and of one length"
        )
    (w0, z), (runs,) = flatten(np.atleast_1d(w0), z)
    kicks = NO_NOISE
    if noise > 0:
        # Drawn run by run, so that further runs leave the noise of the first ones as it is.
        kicks = noise * np.random.default_rng(seed).standard_normal((runs, epochs))
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    return iterate_orbits(w0, z, params, float(beta), 0, int(epochs), kicks).T


def finite_time_lyapunov(
    w0: float,
    z: float = 10.0,
    beta: float = 0.9995,
    epochs: int = 4000,
    window: int = 50,
    *,
    lr: float = 1.0,
    I0: float = 0.65,
    bp: bool = True,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> np.ndarray:
    """The Lyapunov exponent along an annealed run, over a trailing window.

    ::

        lambda_t = mean of ln |df/dw| over the `window` epochs that end with t

    Args:
        w0: weight to start from.
        z: strength of the chaotic loss in the first epoch, > 0.
        beta: factor of `z` per epoch, in (0, 1].
        epochs: length of the run, >= 1.
        window: epochs that a mean runs over, from 1 to `epochs`.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 `[epochs]`, NaN before the first full window, ``|df/dw|`` floored as in
    `lyapunov`. Raises ValueError for a value out of range. Source: the published Example 1,
    doi:10.1093/nsr/nwae037.

    Example:
        >>> exponents = finite_time_lyapunov(0.5, epochs=2000, window=100)
        >>> exponents.shape, float(exponents[98])
        ((2000,), nan)
        >>> float(exponents[999]) < 0
        True
    """
    check("w0", w0, "(-inf, inf)")
    check("z", z, "(0, inf)")
    check("epochs", epochs, "[1, inf)", integer=True)
    check("window", window, f"[1, {epochs}]", integer=True)
    check("beta", beta, "(0, 1]")
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    w = anneal(w0, z, beta, epochs, **params._asdict())[:, 0].copy()
    slopes = evaluate_slope(w, z * beta ** np.arange(epochs), params)
    growth = np.log(np.maximum(np.abs(slopes), TINY))
    means = sliding_window_view(growth, window).mean(-1)  # [epochs - window + 1]
    return np.concatenate([np.full(window - 1, np.nan), means])
