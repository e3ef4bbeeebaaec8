"""Contrasts between two arms over several splits: estimate, intervals, tests, verdicts.

As `study/PROTOCOL.md` fixes it: differences seed by seed are averaged within a split, and the means
of the splits are analysed by Student's t. All differences are in points, per cent of the test set.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

LEVEL = 0.05  # of both tests
POWER = 0.8
MOST_ERRORS = 30.0  # more than any number of splits, from two on, needs for that power

HELPS = "helps"
HURTS = "hurts"
EQUIVALENT = "equivalent"
CANNOT_TELL = "cannot tell"


class Contrast(NamedTuple):
    """What the split means say about the difference between two arms.

    Attributes:
        estimate: their mean.
        low: lower end of its 95 % interval.
        high: upper end of the same.
        low_90: lower end of its 90 % interval, which lies within the margin where both one-sided
            tests reject at .05.
        high_90: upper end of the same.
        p_difference: of the two-sided t test against no difference.
        p_equivalence: the larger of the two one-sided tests' against the margin; 1 without one.
        smallest: the difference that the first test would find with 80 % power.
    """

    estimate: float
    low: float
    high: float
    low_90: float
    high_90: float
    p_difference: float
    p_equivalence: float
    smallest: float


def split_means(differences: ArrayLike, splits: ArrayLike) -> np.ndarray:
    """The mean over the seeds of every split, in the order of their numbers.

    Args:
        differences: of paired seeds, `[seeds]`.
        splits: the split of each seed, integers, `[seeds]`.

    Example:
        >>> split_means([1.0, 3.0, 5.0, 5.0], [1, 1, 2, 2]).tolist()
        [2.0, 5.0]
    """
    values = np.asarray(differences, dtype=float)
    labels = np.asarray(splits)
    return np.array([values[labels == split].mean() for split in np.unique(labels)])


def contrast(means: ArrayLike, margin: float | None = None) -> Contrast:
    """Analyse the differences between two arms.

    Args:
        means: of the splits, in points, `[splits]`, at least two.
        margin: what counts as no difference, in points, > 0; None where nothing has been fixed.

    Example:
        >>> found = contrast([0.1, -0.1, 0.2, 0.0], margin=0.5)
        >>> round(found.estimate, 3), found.p_difference > 0.4, found.p_equivalence < 0.01
        (0.05, True, True)
    """
    values = np.asarray(means, dtype=float)
    estimate = float(values.mean())
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    freedom = len(values) - 1
    half_width = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    half_width_90 = float(stats.t.ppf(1 - LEVEL, freedom)) * error
    return Contrast(
        estimate=estimate,
        low=estimate - half_width,
        high=estimate + half_width,
        low_90=estimate - half_width_90,
        high_90=estimate + half_width_90,
        p_difference=2 * _upper_tail(abs(estimate), error, freedom),
        p_equivalence=_equivalence(estimate, error, freedom, margin),
        smallest=smallest_difference(error, freedom),
    )


def _upper_tail(distance: float, error: float, freedom: int) -> float:
    """The chance of an estimate that far above its true value; at most 1/2 for distances >= 0."""
    if error == 0:  # all splits agree
        return (1 - float(np.sign(distance))) / 2
    return float(stats.t.sf(distance / error, freedom))


def _equivalence(estimate: float, error: float, freedom: int, margin: float | None) -> float:
    """The p value of two one-sided tests: the estimate lies between both margins."""
    if margin is None:
        return 1.0
    return _upper_tail(margin - abs(estimate), error, freedom)


def smallest_difference(error: float, freedom: int) -> float:
    """The true difference that the two-sided t test finds with 80 % power.

    Args:
        error: standard error of the estimate, >= 0.
        freedom: degrees of freedom, >= 1.

    Example:
        >>> round(smallest_difference(1.0, 7), 2)
        3.27
    """
    return error * _errors_for_power(freedom)


@functools.cache
def _errors_for_power(freedom: int) -> float:
    """The same for a standard error of one."""
    limit = stats.t.ppf(1 - LEVEL / 2, freedom)

    def lack_of_power(errors: float) -> float:
        # a significant difference of the wrong sign finds nothing
        return float(stats.nct.sf(limit, freedom, errors)) - POWER

    return float(optimize.brentq(lack_of_power, 0.0, MOST_ERRORS))


def verdicts(contrasts: Mapping[str, Contrast]) -> dict[str, str]:
    """The verdict on every primary contrast of one experiment, by its name.

    The p values of both tests are corrected for the number of contrasts, each test by itself.

    Example:
        >>> found = {"xor": contrast([5.0, 5.1, 4.9, 5.0]), "digits": contrast([0.1, -0.1, 0.1], 1)}
        >>> verdicts(found)
        {'xor': 'helps', 'digits': 'equivalent'}
    """
    differences = holm([found.p_difference for found in contrasts.values()])
    equivalences = holm([found.p_equivalence for found in contrasts.values()])
    pairs = zip(differences.tolist(), equivalences.tolist(), strict=True)
    p_values = dict(zip(contrasts, pairs, strict=True))
    return {name: verdict(found.estimate, *p_values[name]) for name, found in contrasts.items()}


def verdict(estimate: float, p_difference: float, p_equivalence: float) -> str:
    """What two corrected p values say: a difference within the margin counts as none."""
    if p_equivalence < LEVEL:
        return EQUIVALENT
    if p_difference < LEVEL:
        return HELPS if estimate > 0 else HURTS
    return CANNOT_TELL


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
