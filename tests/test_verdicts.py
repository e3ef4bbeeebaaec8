"""The verdicts on the claim, in made-up cells whose answer the rule leaves no doubt about."""

import dataclasses
import json

import pytest

from csbp_notebooks.files import ROOT
from study.analysis import rows
from study.verdicts import (
    LEVEL,
    count_networks,
    effect_on_accuracy,
    is_better,
    judge,
    verdicts,
)

SEEDS = 12
LOW_AND_HIGH = [0.6, 0.7] * (SEEDS // 2)


def shifted(points, scatter=0.001):
    """Accuracies of every seed, so many points above `LOW_AND_HIGH`, with a little scatter."""
    return [
        accuracy + points / 100 + scatter * (-1) ** seed
        for seed, accuracy in enumerate(LOW_AND_HIGH)
    ]


def cell(accuracy, exponent=0.01):
    """A cell of the study's results, with what the analysis reads of it."""
    return {
        "lr": 0.1,
        "z": 1.0,
        "epochs": 20,
        "accuracy": accuracy,
        "first_epoch": [1] * len(accuracy),
        "dead": [0.0] * len(accuracy),
        "rate": [0.3] * len(accuracy),
        "mean_s": [0.5] * len(accuracy),
        "exponent": [exponent] * 8,
    }


def arms(csbp, quadratic, matched, exponent):
    """The cells of a task: how many points each arm is above BP, and the exponent of csbp's."""
    return {
        "bp": cell(shifted(0), exponent=0.01),
        "csbp": cell(shifted(csbp), exponent),
        "quadratic": cell(shifted(quadratic)),
        "matched": cell(shifted(matched)),
    }


def verdict_on(**settings):
    cells = {"made_up": arms(**settings)}
    (verdict,) = verdicts(cells, rows(cells))
    return verdict


def test_a_sure_gain_helps():
    assert effect_on_accuracy(0.01, p=0.049) == "helps"


def test_a_sure_loss_hurts():
    assert effect_on_accuracy(-0.01, p=0.049) == "hurts"


@pytest.mark.parametrize("difference", [-0.5, 0.0, 0.5])
def test_at_the_level_there_is_no_difference(difference):
    assert effect_on_accuracy(difference, p=LEVEL) == "no difference"


@pytest.mark.parametrize(
    ("difference", "p", "better"),
    [(0.01, 0.049, True), (0.01, 0.05, False), (-0.01, 0.001, False), (0.0, 0.001, False)],
)
def test_better_is_a_positive_difference_below_the_level(difference, p, better):
    assert is_better({"difference": difference, "low": -1.0, "high": 1.0, "p": p}) is better


def test_chaos_is_why_where_csbp_beats_both_pulls_and_its_exponent_is_larger():
    verdict = verdict_on(csbp=3, quadratic=1, matched=1, exponent=0.02)
    assert verdict.task == "made_up"
    assert verdict.effect == "helps"
    assert verdict.difference == pytest.approx(0.03)
    assert verdict.over_quadratic["difference"] == pytest.approx(0.02)
    assert verdict.over_matched["difference"] == pytest.approx(0.02)
    assert verdict.exponent_above_bp
    assert verdict.chaos_is_why
    assert verdict.so_at_same_settings


def test_chaos_is_not_why_where_the_exponent_is_no_larger():
    verdict = verdict_on(csbp=3, quadratic=1, matched=1, exponent=0.01)
    assert verdict.effect == "helps"
    assert not verdict.exponent_above_bp
    assert not verdict.chaos_is_why
    assert not verdict.so_at_same_settings


def test_chaos_is_not_why_where_the_pull_does_as_well():
    verdict = verdict_on(csbp=3, quadratic=3, matched=3, exponent=0.02)
    assert verdict.effect == "helps"
    assert not verdict.chaos_is_why
    assert not verdict.so_at_same_settings


def test_the_tuned_pull_and_the_one_at_the_same_settings_are_judged_apart():
    only_tuned = verdict_on(csbp=3, quadratic=1, matched=5, exponent=0.02)
    only_matched = verdict_on(csbp=3, quadratic=5, matched=1, exponent=0.02)
    assert (only_tuned.chaos_is_why, only_tuned.so_at_same_settings) == (True, False)
    assert (only_matched.chaos_is_why, only_matched.so_at_same_settings) == (False, True)


def test_chaos_is_not_why_where_csbp_hurts():
    verdict = verdict_on(csbp=-1, quadratic=-3, matched=-3, exponent=0.02)
    assert verdict.effect == "hurts"
    assert not verdict.chaos_is_why
    assert not verdict.so_at_same_settings


def test_the_difference_to_bp_is_judged_by_the_corrected_p_value():
    task = arms(csbp=3, quadratic=1, matched=1, exponent=0.02)
    bp = {"exponent": 0.01}
    csbp = {"difference": 0.03, "p": 0.01, "p_holm": 0.07, "exponent": 0.02}
    verdict = judge("made_up", task, csbp, bp)
    assert verdict.effect == "no difference"
    assert not verdict.chaos_is_why


@pytest.mark.parametrize(
    ("difference", "p", "effect"),
    [(1e-6, 0.0, "helps"), (-1e-6, 0.0, "hurts"), (1.0, 0.0500001, "no difference")],
)
def test_the_size_of_a_difference_does_not_matter(difference, p, effect):
    assert effect_on_accuracy(difference, p) == effect
    better = is_better({"difference": difference, "low": 0.0, "high": 0.0, "p": p})
    assert better is (effect == "helps")


def test_no_difference_neither_helps_nor_hurts():
    assert effect_on_accuracy(0.0, p=0.001) == "no difference"


def test_a_verdict_does_not_change():
    verdict = verdict_on(csbp=3, quadratic=1, matched=1, exponent=0.02)
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.effect = "hurts"


def test_verdicts_keep_the_order_of_the_tasks():
    task = arms(csbp=3, quadratic=1, matched=1, exponent=0.02)
    cells = {"second": task, "first": task}
    assert [verdict.task for verdict in verdicts(cells, rows(cells))] == ["second", "first"]


def test_every_arm_and_seed_is_a_network():
    cells = {"a": arms(3, 1, 2, 0.02), "b": arms(3, 1, 2, 0.02)}
    assert count_networks(cells) == 2 * 4 * SEEDS


def test_a_matched_run_that_is_the_quadratic_one_counts_once():
    cells = {"a": arms(3, 1, 2, 0.02), "b": arms(3, 1, 1, 0.02)}
    assert count_networks(cells) == (4 + 3) * SEEDS


def test_the_study_is_judged_as_its_notebook_has_recorded():
    cells = json.loads((ROOT / "study" / "results.json").read_text())["results"]
    recorded = json.loads((ROOT / "images" / "does_chaos_help.json").read_text())["results"]
    found = [
        {
            "task": verdict.task,
            "CSBP": verdict.effect,
            "p": f"{verdict.over_quadratic['p']:.4f}",
            "p matched": f"{verdict.over_matched['p']:.4f}",
            "exponent above BP's": "yes" if verdict.exponent_above_bp else "no",
            "chaos is why": "yes" if verdict.chaos_is_why else "no",
            "so at the same settings": "yes" if verdict.so_at_same_settings else "no",
        }
        for verdict in verdicts(cells, rows(cells))
    ]
    assert [{name: row[name] for name in found[0]} for row in recorded["verdicts"]] == found
    assert recorded["networks"] == count_networks(cells)
