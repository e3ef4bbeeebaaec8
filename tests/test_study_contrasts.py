"""The contrasts over splits, held against scipy and against made studies with a known answer."""

import numpy as np
import pytest
from scipy import stats

from study.contrasts import (
    CANNOT_TELL,
    EQUIVALENT,
    HELPS,
    HURTS,
    contrast,
    holm,
    smallest_difference,
    split_means,
    verdict,
    verdicts,
)

SPLITS = 8
STUDIES = 1000
MARGIN = 0.5
SPREAD = 0.2  # of a split's mean, in points


@pytest.fixture(scope="module")
def noise():
    """Split means of studies without an effect, `[studies, splits]`."""
    return np.random.default_rng(0).normal(0, SPREAD, (STUDIES, SPLITS))


def share(means, wanted):
    """Of how many studies the verdict on a single contrast is the wanted one."""
    found = [verdicts({"task": contrast(study, MARGIN)})["task"] for study in means]
    return np.mean([verdict == wanted for verdict in found])


def test_seeds_are_averaged_within_their_split():
    differences = [1.0, 2.0, 30.0, 5.0, 10.0]
    assert split_means(differences, [2, 2, 1, 3, 1]).tolist() == [20.0, 1.5, 5.0]


def test_estimate_interval_and_p_value_equal_scipy(noise):
    found = contrast(noise[0], MARGIN)
    test = stats.ttest_1samp(noise[0], 0)
    assert found.estimate == pytest.approx(noise[0].mean())
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (found.low_90, found.high_90) == pytest.approx(tuple(test.confidence_interval(0.90)))
    assert found.p_difference == pytest.approx(test.pvalue)


def test_p_value_of_equivalence_is_the_larger_of_two_one_sided_ones(noise):
    study = noise[1] + 0.1
    below = stats.ttest_1samp(study, -MARGIN, alternative="greater").pvalue
    above = stats.ttest_1samp(study, MARGIN, alternative="less").pvalue
    assert contrast(study, MARGIN).p_equivalence == pytest.approx(max(below, above))


def test_equivalence_is_the_90_per_cent_interval_within_the_margin(noise):
    for study in noise[:100] + 0.4:
        found = contrast(study, MARGIN)
        is_within = found.low_90 > -MARGIN and found.high_90 < MARGIN
        assert (found.p_equivalence < 0.05) == is_within


def test_without_a_margin_nothing_is_equivalent():
    assert contrast([0.0, 0.1, -0.1]).p_equivalence == 1


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([2.0, 2.0, 2.0], HELPS),
        ([-2.0, -2.0, -2.0], HURTS),
        ([0.0, 0.0, 0.0], EQUIVALENT),
        ([0.5, 0.5, 0.5], HELPS),  # at the margin is not within it
        ([2.0, -2.0, 2.0], CANNOT_TELL),
    ],
)
def test_verdicts_where_splits_agree_to_the_last_digit_and_where_not(means, expected):
    assert verdicts({"task": contrast(means, MARGIN)}) == {"task": expected}


def test_a_planted_effect_is_found_as_often_as_the_power_says(noise):
    """An effect of the size that is found with 80 % power; the margin is out of the way."""
    error = SPREAD / SPLITS**0.5
    effect = smallest_difference(error, SPLITS - 1)
    found = [contrast(study).p_difference < 0.05 for study in noise + effect]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)  # three standard errors


def test_a_planted_effect_beyond_the_margin_helps_and_its_negative_hurts(noise):
    assert share(noise + 1.0, HELPS) > 0.99
    assert share(noise - 1.0, HURTS) > 0.99


def test_a_planted_equivalence_is_found(noise):
    assert share(noise, EQUIVALENT) > 0.99


def test_where_there_is_no_effect_hardly_one_study_in_twenty_sees_one(noise):
    """Spread so wide that no study can be equivalent either."""
    wide = noise * 10
    assert share(wide, HELPS) + share(wide, HURTS) == pytest.approx(0.05, abs=0.021)
    assert share(wide, EQUIVALENT) < 0.05


def test_an_effect_at_the_margin_is_called_equivalent_in_one_study_of_twenty(noise):
    assert share(noise + MARGIN, EQUIVALENT) == pytest.approx(0.05, abs=0.021)


def test_of_six_contrasts_without_an_effect_one_is_seen_in_one_study_of_twenty():
    """Holm's method holds the chance of any false difference; the margin is out of the way."""
    means = np.random.default_rng(1).normal(0, 1, (STUDIES, 6, SPLITS))
    seen = 0
    for study in means:
        found = {str(task): contrast(splits, 1e-9) for task, splits in enumerate(study)}
        seen += any(verdict in (HELPS, HURTS) for verdict in verdicts(found).values())
    assert seen / STUDIES == pytest.approx(0.05, abs=0.021)


def test_of_six_contrasts_at_the_margin_one_is_equivalent_in_one_study_of_twenty():
    """Holm's method holds the chance of any false equivalence: each is as large as the margin."""
    sides = np.array([1, -1, 1, -1, 1, -1])[:, np.newaxis]
    means = np.random.default_rng(2).normal(0, SPREAD, (STUDIES, 6, SPLITS)) + MARGIN * sides
    called = 0
    for study in means:
        found = {str(task): contrast(splits, MARGIN) for task, splits in enumerate(study)}
        called += EQUIVALENT in verdicts(found).values()
    assert called / STUDIES == pytest.approx(0.05, abs=0.021)


def test_a_difference_within_the_margin_counts_as_none():
    assert verdict(0.1, p_difference=0.001, p_equivalence=0.001) == EQUIVALENT
    assert verdict(0.1, p_difference=0.001, p_equivalence=0.06) == HELPS


# The correction


def test_holm_corrects_and_keeps_the_order():
    corrected = holm([0.01, 0.04, 0.03, 0.005]).tolist()
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_one_or_none_changes_nothing():
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []


def test_holm_is_the_largest_of_the_scaled_ones_up_to_it():
    p = np.random.default_rng(2).random(7) / 20
    expected = []
    for value in p:
        smaller = p[p <= value]
        scaled = [min(1, other * (7 - np.sum(p < other))) for other in smaller]
        expected.append(max(scaled))
    assert holm(p).tolist() == pytest.approx(expected)


def test_holm_ends_at_1():
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
