"""What the results say: pure functions from results to plain rows, written before the numbers.

Per task and arm, against BP on the same seeds: the mean difference in test accuracy with its 95 % t
interval, and a sign-flip permutation test. p values are corrected by Holm's method over the arms
of one task, a task being a family of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .arms import BASELINE

MARGIN = 0.02  # the accuracy to be reached: BP's median final validation accuracy less this
ROUNDING = 1e-9  # stored accuracies are rounded: what is so near the goal has reached it
UPPER_TAIL = 0.975  # of a 95 % interval
RESAMPLES = 20_000
AT_ONCE = 1_000  # resamples: as many as a processor's cache holds; their number changes no p value
MEANS = ("dead", "rate", "mean_s", "exponent")  # of which a row gives the mean over the seeds

Cell = Mapping[str, Any]
CellsByTask = Mapping[str, Mapping[str, Cell]]  # cells[task][arm]


class Comparison(TypedDict):
    """An arm against BP: the mean difference in accuracy, its 95 % interval, and a p value."""

    difference: float
    low: float
    high: float
    p: float


def paired(arm: ArrayLike, bp: ArrayLike) -> Comparison:
    """Compare paired accuracies: mean difference, 95 % t interval, p value of random sign flips.

    Args:
        arm: accuracies of an arm, `[seeds]`, at least 2.
        bp: those of the arm that it is compared with, on the same seeds.

    Example:
        >>> comparison = paired([0.93, 0.95, 0.94], [0.92, 0.92, 0.92])
        >>> {name: round(value, 3) for name, value in comparison.items()}
        {'difference': 0.02, 'low': -0.005, 'high': 0.045, 'p': 0.25}
    """
    differences = np.asarray(arm, dtype=float) - np.asarray(bp, dtype=float)
    seeds = len(differences)
    quantile = stats.t.ppf(UPPER_TAIL, seeds - 1)
    half_width = float(quantile * differences.std(ddof=1) / seeds**0.5)
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=AT_ONCE,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    mean_difference = differences.mean()
    return {
        "difference": float(mean_difference),
        "low": float(mean_difference - half_width),
        "high": float(mean_difference + half_width),
        "p": float(test.pvalue),
    }


def holm(p: Sequence[float]) -> np.ndarray:
    """p values corrected for their number by Holm's step-down method, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p, dtype=float)
    rank = np.argsort(p_values)
    hypotheses_left = np.arange(len(p_values), 0, -1)
    scaled = np.minimum(1, p_values[rank] * hypotheses_left)
    corrected = np.empty(len(p_values))
    corrected[rank] = np.maximum.accumulate(scaled)  # none below one that was smaller before
    return corrected


def target(bp_validation: ArrayLike) -> float:
    """The accuracy to be reached, from BP's validation accuracies `[seeds, validations]`."""
    final = np.asarray(bp_validation, dtype=float)[:, -1]
    return float(np.median(final)) - MARGIN


def first_epochs(validation: ArrayLike, goal: float, every: int = 1) -> list[int | None]:
    """The first validated epoch at which each seed reaches the goal, None for never.

    Args:
        validation: accuracies, `[seeds, validations]`.
        goal: an accuracy in [0, 1].
        every: epochs from one validation to the next.

    Example:
        >>> first_epochs([[0.1, 0.9, 0.8], [0.1, 0.2, 0.3]], goal=0.9, every=5)
        [10, None]
    """
    reached = np.asarray(validation, dtype=float) >= goal - ROUNDING
    return [int(seed.argmax() + 1) * every if seed.any() else None for seed in reached]


def mean(numbers: Sequence[float | None]) -> float | None:
    """The mean of the finite numbers, which are those not stored as None; None if there is none."""
    finite = [number for number in numbers if number is not None]
    if not finite:
        return None
    return float(np.mean(finite))


def rows(cells: CellsByTask) -> list[dict[str, Any]]:
    """A row per task and arm, in the order of the results: the table of the study.

    Args:
        cells: the `results` of `study/results.json`, by task and arm.

    Returns rows of `task`, `arm`, the chosen `lr`, `z` and `epochs`, the mean test `accuracy`;
    but for BP `difference`, `low`, `high` and `p` of `paired`; `p_holm`; the median of the
    `epochs_to_target` (None for never) and the share of seeds that `reached` it; and the means of
    `dead`, `rate`, `mean_s` and `exponent`.
    """
    table = []
    for task, arms in cells.items():
        comparisons = compare(arms)
        p_values = [comparison["p"] for comparison in comparisons.values()]
        corrected = dict(zip(comparisons, holm(p_values).tolist(), strict=True))
        for arm, cell in arms.items():
            table.append(
                {
                    "task": task,
                    "arm": arm,
                    "lr": cell["lr"],
                    "z": cell["z"],
                    "epochs": cell["epochs"],
                    "accuracy": mean(cell["accuracy"]),
                    **comparisons.get(arm, {}),
                    "p_holm": corrected.get(arm),
                    **speed(cell["first_epoch"]),
                    **{name: mean(cell[name]) for name in MEANS},
                }
            )
    return table


def compare(arms: Mapping[str, Cell]) -> dict[str, Comparison]:
    """Every arm of a task against BP."""
    baseline = arms[BASELINE]["accuracy"]
    others = {arm: cell for arm, cell in arms.items() if arm != BASELINE}
    return {arm: paired(cell["accuracy"], baseline) for arm, cell in others.items()}


def speed(first_epoch: Sequence[int | None]) -> dict[str, float | None]:
    """How soon the target was reached: the median over the seeds, and the share that did."""
    times = [np.inf if epoch is None else epoch for epoch in first_epoch]
    median = float(np.median(times))
    return {
        "epochs_to_target": median if np.isfinite(median) else None,
        "reached": float(np.mean(np.isfinite(times))),
    }
