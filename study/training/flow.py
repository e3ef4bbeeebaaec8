"""The chaotic loss of one layer followed without overshoot: its gradient flow, and its steps.

A layer with frozen inputs X has currents ``h = X theta^T``. X has a row per sample and time step,
and a last column of ones, for the bias. The chaotic loss of that batch, for z = 1 and as a mean,
and its gradient are::

    C(theta) = mean(-I0 log s - (1 - I0) log(1 - s)),    s = sigmoid(h / scale)
    grad C = (s - I0)^T X / (scale numel)

Everything is for S networks at once, which do not mix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..tasks.networks import per_network
from .arms import SCALE

LARGEST_STEP = 0.5  # of a Runge-Kutta step, over the time in which the stiffest direction decays

CURRENTS_AT_ONCE = 2**19  # about as many as stay in the cache of one core from one step to the next


def with_ones(inputs: Tensor) -> Tensor:
    """Inputs `[S, rows, fan_in]` with a last column of ones, for the bias."""
    ones = inputs.new_ones(*inputs.shape[:-1], 1)
    return torch.cat([inputs, ones], dim=-1)


def gradient(theta: Tensor, inputs: Tensor, I0: float) -> Tensor:
    """grad C, `[S, units, fan_in + 1]`.

    Args:
        theta: weights and, as the last column, biases, `[S, units, fan_in + 1]`.
        inputs: X, `[S, rows, fan_in + 1]`, its last column ones.
        I0: in (0, 1).
    """
    h = inputs @ theta.mT  # [S, rows, units]
    excess = torch.sigmoid_(h.div_(SCALE)).sub_(I0)
    numel = h[0].numel()
    # The product in this order is the faster one.
    return (inputs.mT @ excess).mT.contiguous().div_(SCALE * numel)


def stiffness(inputs: Tensor, units: int) -> Tensor:
    """An upper bound of the curvature of C in any direction, `[S]`.

    It is lambda_max(X^T X) / (4 scale^2 numel), with the Frobenius norm of X^T X for its largest
    eigenvalue: that is never smaller, and hardly larger where the bias dominates.
    """
    rows = inputs.shape[1]
    gram = inputs.mT @ inputs  # [S, fan_in + 1, fan_in + 1]
    return torch.linalg.matrix_norm(gram) / (4 * SCALE**2 * rows * units)


def flow(
    theta: Tensor,
    inputs: Tensor,
    z: Tensor,
    time: Tensor,
    I0: float,
    substeps: int = 1,
) -> Tensor:
    """Where ``d theta / dt = -z grad C(theta)`` arrives from theta in a time.

    By the classical Runge-Kutta method of order 4, in steps of at most half the time in which the
    stiffest direction decays. All networks take as many steps as the one that needs most.

    Args:
        theta: `[S, units, fan_in + 1]`, as in `gradient`.
        inputs: X, `[S, rows, fan_in + 1]`.
        z: strength, `[S]`.
        time: `[S]`.
        I0: in (0, 1).
        substeps: so many times more steps, to see that there are enough.
    """
    rows, units = inputs.shape[1], theta.shape[1]
    decays = z * time * stiffness(inputs, units)  # [S], of the stiffest direction
    steps = substeps * max(1, math.ceil(float(decays.max()) / LARGEST_STEP))
    length = per_network(-z * time / steps, theta).to(theta.dtype)
    networks = max(1, CURRENTS_AT_ONCE // (rows * units))
    groups = zip(
        theta.split(networks),
        inputs.split(networks),
        length.split(networks),
        strict=True,
    )
    return torch.cat([_runge_kutta(*group, I0, steps) for group in groups])


def _runge_kutta(theta: Tensor, inputs: Tensor, length: Tensor, I0: float, steps: int) -> Tensor:
    """Where theta arrives in so many steps.

    Args:
        theta: as in `flow`.
        inputs: as in `flow`.
        length: of a step, -z times the time that it takes, `[S, 1, 1]`.
        I0: in (0, 1).
        steps: >= 1.
    """
    for _ in range(steps):
        k1 = gradient(theta, inputs, I0)
        k2 = gradient(theta + length / 2 * k1, inputs, I0)
        k3 = gradient(theta + length / 2 * k2, inputs, I0)
        k4 = gradient(theta + length * k3, inputs, I0)
        theta = theta + length / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return theta
