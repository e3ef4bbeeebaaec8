"""From what a user gives to what a kernel takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check, check_flag
from .kernels import Map


def checked_map(
    lr: float,
    I0: float,
    bp: bool,
    time_steps: int,
    rate_steps: int,
    decay: float,
    v_threshold: float,
    gamma: float,
) -> Map:
    """The settings as a `Map`; refuses a value out of range."""
    check_flag("bp", bp)
    check("lr", lr, "(0, inf)")
    check("I0", I0, "(0, 1)")
    check("time_steps", time_steps, "[1, inf)", integer=True)
    check("rate_steps", rate_steps, "[1, inf)", integer=True)
    check("decay", decay, "[0, 1]")
    check("v_threshold", v_threshold, "(0, inf)")
    check("gamma", gamma, "(0, inf)")
    # Each of its default's type, whatever number was given: all calls share one compilation.
    return Map(
        lr=float(lr),
        I0=float(I0),
        bp=bool(bp),
        time_steps=int(time_steps),
        rate_steps=int(rate_steps),
        decay=float(decay),
        v_threshold=float(v_threshold),
        gamma=float(gamma),
    )


def flatten(*arrays: ArrayLike) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """The arrays, broadcast, each a fresh flat float64 copy [n], and the shape they share."""
    alike = np.broadcast_arrays(*arrays)
    return [np.array(array, dtype=float).ravel() for array in alike], alike[0].shape
