"""What a cell of the study records of a training: how it went, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..command import plain
from .surrogate_share import zero_surrogate
from .train import Training, epochs_to_solution


def train_and_test(run: Training, epochs: int | None = None) -> tuple[list[Tensor], dict[str, Any]]:
    """Train networks from their start, and test them.

    Args:
        run: how, and which.
        epochs: after which training stops, z being where it is then; all of the run's if None.

    Returns the state, and as JSON knows it:

    * `accuracy`, `rate` and `dead` on the test samples, as `Training.evaluate` has them, and
      `zero_surrogate` over all hidden layers, at the end, `[networks]` each;
    * `curve`, the mean validation accuracy over the epochs;
    * `epochs_to_solution`, where a task is to be solved, `[networks]`, None for never.
    """
    state, found = train_and_test_each(run, epochs)
    return state, {**found, "curve": mean_curve(found["curve"])}


def train_and_test_each(
    run: Training,
    epochs: int | None = None,
) -> tuple[list[Tensor], dict[str, Any]]:
    """The same, but for `curve`: that of every network, unrounded, `[validations][networks]`."""
    state, curve = run.train(epochs)
    tested = run.test(state)
    found = {
        "accuracy": plain(tested["accuracy"]),
        "rate": plain(tested["rate"]),
        "dead": plain(tested["dead"]),
        "zero_surrogate": plain(zero_surrogate(run, state)),
        "curve": curve.tolist(),
    }
    if run.task.solve:
        found["epochs_to_solution"] = plain(epochs_to_solution(curve, run.task))
    return state, found


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean over the networks, `[validations]`, rounded.

    Args:
        curves: accuracies, `[validations][networks]`.

    Example:
        >>> mean_curve([[0.5, 1.0], [1.0, 1.0]])
        [0.75, 1.0]
    """
    return plain(torch.tensor(curves, dtype=torch.float64).mean(1))
