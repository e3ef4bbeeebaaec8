"""What the results say: pure functions from results to plain rows, written before the numbers.

Per task and arm, against BP on the same seeds: the mean difference in test accuracy with its 95 % t interval, and a sign-flip
permutation test. p values are corrected by Holm's method over the arms of one task, a task being a family of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MARGIN = 0.02  # the accuracy to be reached: BP's median final validation accuracy less this
RESAMPLES = 20_000

Cells = Mapping[str, Mapping[str, Mapping[str, Any]]]  # cells[task][arm]


def paired(arm: ArrayLike, bp: ArrayLike) -> dict[str, float]:
    """Mean difference of paired accuracies `[seeds]`, its 95 % t interval and the p value of random sign flips."""
    d = np.asarray(arm, dtype=float) - np.asarray(bp, dtype=float)
    half = float(stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5)
    test = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True, rng=np.random.default_rng(0)
    )
    return {
        "difference": float(d.mean()),
        "low": float(d.mean() - half),
        "high": float(d.mean() + half),
        "p": float(test.pvalue),
    }


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """p values corrected for their number by Holm's step-down method."""
    p_, out = np.asarray(p, dtype=float), np.empty(len(p))
    rank = np.argsort(p_)
    out[rank] = np.maximum.accumulate(np.minimum(1, p_[rank] * np.arange(len(p_), 0, -1)))
    return out


def target(bp_validation: ArrayLike) -> float:
    """The accuracy to be reached, from BP's validation accuracies `[seeds, validations]`."""
    return float(np.median(np.asarray(bp_validation, dtype=float)[:, -1])) - MARGIN


def first_epochs(validation: ArrayLike, goal: float, every: int = 1) -> list[int | None]:
    """The first validated epoch at which each seed of `[seeds, validations]` reaches the goal, None for never."""
    reached = np.asarray(validation, dtype=float) >= goal - 1e-9  # accuracies are rounded
    return [int(row.argmax() + 1) * every if row.any() else None for row in reached]


def mean(numbers: Sequence[float | None]) -> float | None:
    """The mean of the finite numbers, stored as None where not finite."""
    finite = [number for number in numbers if number is not None]
    return float(np.mean(finite)) if finite else None


def rows(cells: Cells) -> list[dict[str, Any]]:
    """A row per task and arm, in the order of the results: the table of the study."""
    out = []
    for task, arms in cells.items():
        compared = {arm: paired(cell["accuracy"], arms["bp"]["accuracy"]) for arm, cell in arms.items() if arm != "bp"}
        corrected = dict(zip(compared, holm([row["p"] for row in compared.values()]).tolist(), strict=True))
        for arm, cell in arms.items():
            times = [np.inf if epoch is None else epoch for epoch in cell["first_epoch"]]
            median = float(np.median(times))
            row = {"task": task, "arm": arm, "lr": cell["lr"], "z": cell["z"], "epochs": cell["epochs"]}
            row |= {"accuracy": mean(cell["accuracy"]), **compared.get(arm, {}), "p_holm": corrected.get(arm)}
            row |= {"epochs_to_target": median if np.isfinite(median) else None, "reached": float(np.mean(np.isfinite(times)))}
            row |= {key: mean(cell[key]) for key in ("dead", "rate", "mean_s", "exponent")}
            out.append(row)
    return out
