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


def test_p_value_of_many_seeds_is_that_of_scipys_random_sign_flips(noise):
    """The same to the last digit: 20,000 flips, drawn in a way that is fixed."""
    differences = noise[3]
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert 0.01 < test.pvalue < 1
    assert analysis.paired(differences, np.zeros(64))["p"] == test.pvalue


def test_no_p_value_is_below_that_of_the_flips_that_were_tried():
    """All 64 seeds gain: no flip but the given one goes as far, on either side, of 20,001."""
    row = analysis.paired(0.9 + np.arange(64) / 1e4, np.full(64, 0.5))
    assert row["p"] == pytest.approx(2 / 20_001)


def test_right_and_wrong_count_as_one_and_zero():
    row = analysis.paired([True, True, True], [True, False, False])
    assert row["difference"] == pytest.approx(2 / 3)


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


def test_holm_of_one_or_none_changes_nothing():
    assert analysis.holm([0.04]).tolist() == [0.04]
    assert analysis.holm([]).tolist() == []


def test_holm_is_the_largest_of_the_scaled_ones_up_to_it():
    p = np.random.default_rng(2).random(7) / 20
    expected = []
    for value in p:
        smaller = p[p <= value]
        scaled = [min(1, other * (7 - np.sum(p < other))) for other in smaller]
        expected.append(max(scaled))
    assert analysis.holm(p).tolist() == pytest.approx(expected)


def test_holm_ends_at_1():
    assert analysis.holm([0.6, 0.9]).tolist() == [1.0, 1.0]


def test_first_epochs_counts_epochs_between_validations():
    validation = [[0.1, 0.9, 0.8], [0.1, 0.2, 0.3], [0.9, 0.1, 0.1]]
    assert analysis.first_epochs(validation, 0.9, every=5) == [10, None, 5]


def test_target_is_below_the_median_of_the_last_validation():
    assert analysis.target([[0.1, 0.9], [0.2, 0.8], [0.3, 0.95]]) == pytest.approx(0.88)


def test_a_goal_is_reached_within_the_rounding_of_what_is_stored():
    assert analysis.first_epochs([[0.5, 0.9]], 0.9 + 0.9e-9) == [2]
    assert analysis.first_epochs([[0.1, 0.9 - 1e-9]], 0.9) == [2]
    assert analysis.first_epochs([[0.5, 0.9]], 0.9 + 1.1e-9) == [None]


def test_a_mean_is_of_what_is_finite():
    assert analysis.mean([1.0, None, 2.0, 6.0]) == 3.0
    assert analysis.mean([None, None]) is None


@pytest.mark.parametrize(
    ("epochs", "median", "share"),
    [
        ([4, 8, 6], 6.0, 1.0),
        ([4, None, 6, 8], 7.0, 0.75),  # never is later than all
        ([4, None, None], None, 1 / 3),
        ([None, None], None, 0.0),
    ],
)
def test_speed_is_the_median_epoch_and_the_share_that_reached_the_target(epochs, median, share):
    assert analysis.speed(epochs) == {"epochs_to_target": median, "reached": share}


# the table


def made_up_cell(accuracy, **entries):
    return {
        "lr": 0.1,
        "z": 2.0,
        "epochs": 15,
        "accuracy": accuracy,
        "first_epoch": [5, None, 10, 15],
        "dead": [0.0, 0.1, 0.2, 0.3],
        "rate": [0.2, 0.4, 0.2, 0.4],
        "mean_s": [0.5, None, 0.7, 0.6],
        "exponent": [0.01, 0.03],
        **entries,
    }


@pytest.fixture(scope="module")
def table():
    """Of two tasks; all four seeds of `gains` gain, p = 2 / 16, those of `mixed` 1 to each side."""
    bp = made_up_cell([0.5, 0.6, 0.7, 0.8], z=None)
    gains = made_up_cell([0.6, 0.7, 0.8, 0.9], lr=0.2, exponent=[None, None])
    mixed = made_up_cell([0.4, 0.7, 0.6, 0.9], first_epoch=[None] * 4)
    rows = analysis.rows({"one": {"bp": bp, "gains": gains, "mixed": mixed}, "two": {"bp": bp}})
    return {(row["task"], row["arm"]): row for row in rows}


def test_the_table_has_a_row_per_task_and_arm_in_their_order(table):
    assert list(table) == [("one", "bp"), ("one", "gains"), ("one", "mixed"), ("two", "bp")]


@pytest.mark.parametrize("task", ["one", "two"])
def test_the_row_of_bp_compares_it_with_nothing(table, task):
    row = dict(table[task, "bp"])
    means = {name: row.pop(name) for name in ("accuracy", "dead", "rate", "mean_s", "exponent")}
    expected = {"accuracy": 0.65, "dead": 0.15, "rate": 0.3, "mean_s": 0.6, "exponent": 0.02}
    assert means == pytest.approx(expected)
    assert row == {
        "task": task,
        "arm": "bp",
        "lr": 0.1,
        "z": None,
        "epochs": 15,
        "p_holm": None,
        "epochs_to_target": 12.5,
        "reached": 0.75,
    }


def test_the_row_of_an_arm_compares_it_with_bp(table):
    gains, mixed = table["one", "gains"], table["one", "mixed"]
    assert (gains["difference"], gains["p"]) == pytest.approx((0.1, 2 / 16))
    assert (mixed["difference"], mixed["p"]) == pytest.approx((0.0, 1.0))
    assert (gains["p_holm"], mixed["p_holm"]) == pytest.approx((2 * 2 / 16, 1.0))
    assert gains["low"] == pytest.approx(0.1)  # no scatter
    assert (gains["lr"], gains["z"], gains["epochs"]) == (0.2, 2.0, 15)
    assert gains["exponent"] is None
    assert mixed["epochs_to_target"] is None
