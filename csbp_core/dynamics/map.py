"""One epoch of the map, at any w and z: its gradient, its step and its slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check
from .arguments import checked_map, flatten
from .kernels import evaluate_gradient, evaluate_slope, evaluate_step


def gradient(
    w: ArrayLike,
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
    """The gradient of the BP loss at w = b by the surrogate, with the gradient through the reset.

    ::

        G(w) = dL_bp/ds at s = 2 w,    L_bp = (sum_t k_t / rate_steps)**2

    With x = 1 it is the gradient by w at fixed b, and that by b: s = w + b is the input current. It
    is not the derivative of L_bp along w = b, which would be twice as large.

    Args:
        w: the weight, a number or an array of any shape.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 of the shape of `w`; `lr`, `I0` and `bp` do not change it. Raises ValueError for
    a value out of range. Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> gradient([0.0, 0.7, 1.5]).round(3).tolist()
        [0.0, 4.139, 0.0]
    """
    check("w", w, "(-inf, inf)", array=True)
    (w,), shape = flatten(w)
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    return evaluate_gradient(w, params).reshape(shape)[()]


def step(
    w: ArrayLike,
    z: ArrayLike,
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
    """One epoch of training.

    ::

        f(w; z) = w - lr (z (sigmoid(2 w) - I0) + G(w))

    Args:
        w: the weight, a number or an array of any shape.
        z: strength of the chaotic loss, > 0, a number or an array; `w` and `z` broadcast.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 of the shape that `w` and `z` have together. Raises ValueError for a value out
    of range. Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> step(0.7, [1.0, 10.0]).round(3).tolist()
        [-3.591, -4.961]
    """
    check("w", w, "(-inf, inf)", array=True)
    check("z", z, "(0, inf)", array=True)
    (w, z), shape = flatten(w, z)
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    return evaluate_step(w, z, params).reshape(shape)[()]


def slope(
    w: ArrayLike,
    z: ArrayLike,
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
    """The true derivative of an epoch along w = b, df/dw.

    ::

        df/dw = 1 - lr (2 z sigma (1 - sigma) + dG/dw),    sigma = sigmoid(2 w)

    Spikes are held fixed: where one appears or vanishes f jumps, and the jump is ignored.

    Args:
        w: the weight, a number or an array of any shape.
        z: strength of the chaotic loss, > 0, a number or an array; `w` and `z` broadcast.
        lr: step size, > 0.
        I0: what the chaotic loss pulls sigmoid(2 w) to, in (0, 1).
        bp: whether the BP gradient acts beside the chaotic loss.
        time_steps: number of simulated time steps, >= 1.
        rate_steps: what the count of spikes is divided by, >= 1.
        decay: leak factor, in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate's triangle, > 0, in units of the potential.

    Returns float64 of the shape that `w` and `z` have together. Raises ValueError for a value out
    of range. Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> slope(0.0, [1.0, 2.0, 3.0]).round(3).tolist()
        [0.5, 0.0, -0.5]
    """
    check("w", w, "(-inf, inf)", array=True)
    check("z", z, "(0, inf)", array=True)
    (w, z), shape = flatten(w, z)
    params = checked_map(lr, I0, bp, time_steps, rate_steps, decay, v_threshold, gamma)
    return evaluate_slope(w, z, params).reshape(shape)[()]
