"""What a cell of the second study records of a training: how it went, and how it ended."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .cell import plain
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
    state, curve = run.train(epochs)
    tested = run.test(state)
    found = {
        "accuracy": plain(tested["accuracy"]),
        "rate": plain(tested["rate"]),
        "dead": plain(tested["dead"]),
        "zero_surrogate": plain(zero_surrogate(run, state)),
        "curve": plain(curve.mean(1)),
    }
    if run.task.solve:
        found["epochs_to_solution"] = plain(epochs_to_solution(curve, run.task))
    return state, found
