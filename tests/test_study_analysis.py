"""The study's statistics, held against scipy, all sign flips by hand, and simulated seeds."""

import itertools

import numpy as np
import pytest
from scipy import stats

from study import analysis

RUNS = 100  # simulated studies of 64 seeds


@pytest.fixture(scope="module")
def noise():
    """Differences without an effect, `[studies, seeds]`."""
    return np.random.default_rng(1).normal(0, 0.01, (RUNS, 64))


@pytest.fixture(scope="module")
def without_effect(noise):
    return [analysis.paired(0.9 + differences, np.full(64, 0.9)) for differences in noise]


@pytest.fixture(scope="module")
def accuracies():
    """Ten seeds of an arm, and of BP."""
    rng = np.random.default_rng(0)
    bp = rng.normal(0.9, 0.02, 10)
    return bp + rng.normal(0.01, 0.015, 10), bp


def test_mean_and_interval_equal_scipy(accuracies):
    arm, bp = accuracies
    row = analysis.paired(arm, bp)
    low, high = stats.ttest_1samp(arm - bp, 0).confidence_interval(0.95)
    expected = ((arm - bp).mean(), low, high)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)


def test_p_value_equals_all_sign_flips_by_hand(accuracies):
    arm, bp = accuracies
    differences = arm - bp
    signs = np.array(list(itertools.product((1, -1), repeat=10)))  # [2**10, seeds]
    flipped = (differences * signs).mean(1)
    as_far = np.abs(flipped) >= abs(differences.mean()) - 1e-12
    assert analysis.paired(arm, bp)["p"] == pytest.approx(np.mean(as_far))


def test_paired_finds_an_effect(noise):
    found = analysis.paired(0.9 + 0.01 + noise[0], np.full(64, 0.9))
    assert found["low"] < 0.01 < found["high"]
    assert found["p"] < 1e-3


def test_paired_seldom_finds_an_effect_that_is_not_there(without_effect):
    found = sum(row["p"] < 0.05 for row in without_effect)
    assert found <= 11  # 5 expected; more with probability 0.4 %


def test_intervals_seldom_leave_out_the_truth(without_effect):
    outside = sum(row["low"] > 0 or row["high"] < 0 for row in without_effect)
    assert outside <= 11


def test_equal_accuracies_do_not_differ():
    row = analysis.paired([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert row == {"difference": 0, "low": 0, "high": 0, "p": 1}


def test_holm_corrects_and_keeps_the_order():
    corrected = analysis.holm([0.01, 0.04, 0.03, 0.005]).tolist()
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_ends_at_1():
    assert analysis.holm([0.6, 0.9]).tolist() == [1.0, 1.0]


def test_first_epochs_counts_epochs_between_validations():
    validation = [[0.1, 0.9, 0.8], [0.1, 0.2, 0.3], [0.9, 0.1, 0.1]]
    assert analysis.first_epochs(validation, 0.9, every=5) == [10, None, 5]


def test_target_is_below_the_median_of_the_last_validation():
    assert analysis.target([[0.1, 0.9], [0.2, 0.8], [0.3, 0.95]]) == pytest.approx(0.88)
