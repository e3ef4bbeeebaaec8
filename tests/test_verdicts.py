"""The verdict on every claim follows from the numbers that the notebooks wrote."""

import json
import re
import shutil

import pytest

from csbp_notebooks import verdict_text
from csbp_notebooks.cli import main as csbp_run
from csbp_notebooks.files import ROOT
from csbp_notebooks.signs import with_minus
from csbp_notebooks.verdict_text import answers_as_list, readme_with
from csbp_notebooks.verdicts import (
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    cost_of_study,
    opening_answers,
    two_runs,
    verdicts,
)
from docs.facts import facts
from docs.verdicts import verdicts_page, words_in

IMAGES = ROOT / "images"
README = ROOT / "README.md"
ENDS = {"lr": 2.0, "bp_loss_zero_from_epoch": None, "last_w": 0.7}


@pytest.fixture
def images(tmp_path):
    """A copy of the committed numbers, to be changed."""
    for path in IMAGES.glob("*.json"):
        shutil.copy(path, tmp_path)
    return tmp_path


def change(images, name, change_results):
    """Change what a notebook is said to have found."""
    path = images / f"{name}.json"
    recorded = json.loads(path.read_text())
    change_results(recorded["results"])
    path.write_text(json.dumps(recorded))


def of(images, claim):
    """The one verdict on the claim that begins so."""
    (found,) = [row for row in verdicts(images) if row.claim.startswith(claim)]
    return found


def readme(images):
    """README, of the numbers in a folder."""
    return readme_with(README.read_text(), images)


# README and the committed numbers


def test_readme_says_what_the_numbers_say():
    assert readme_with(README.read_text(), IMAGES) == README.read_text()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("example1", "epochs_until_settled", 34),
        ("example2", "critical_z", 4.5),
        ("example2", "bp_alone", [ENDS, ENDS]),
        ("bifurcation", "chaotic_share_at_frozen_z", 0.25),
        ("burst_end", "runs_with_all_statements", 7),
        ("multi_layer", "epoch_weights_come_to_rest", 999),
        ("authors_settings", "z_over_critical_at_most", {"one": 0.5}),
        ("choose_z", "rule_for_z", {"in_short": "It is good.", "too_late": "It was."}),
    ],
)
def test_one_other_number_is_another_readme(images, name, key, value):
    assert readme(images) == readme(IMAGES)
    change(images, name, lambda results: results.update({key: value}))
    assert readme(images) != readme(IMAGES)


def test_another_verdict_of_the_study_is_another_readme(images):
    def overturn(results):
        results["answers"]["chaos"]["short"] = "Yes, in all 3 tasks"

    change(images, "does_chaos_help", overturn)
    assert readme(images) != readme(IMAGES)
    assert opening_answers(images)[2].short == "Yes, in all 3 tasks"
    assert of(images, "Chaos is what").verdict == "yes, in all 3 tasks"


def test_the_opening_answers_take_four_lines_of_readme_each():
    for answer in opening_answers(IMAGES):
        assert len(answers_as_list([answer]).splitlines()) <= 4


def test_the_opening_answers_are_the_plain_words_of_the_study(images):
    def say(results):
        results["answers"]["csbp"]["plain"] = "It does not."

    change(images, "does_chaos_help", say)
    assert opening_answers(images)[1].plain == "It does not."
    assert facts(images)["helps_plain"] == "It does not."
    lines = answers_as_list(opening_answers(images)).replace("\n ", "")
    assert "It does not. [08]\n" in lines


@pytest.mark.parametrize(
    ("here", "rank", "said"),
    [
        (1873, 95.9, "1873 here (later than 95 % of those"),
        (1999, 99.99, "1999 here (later than 99 % of those"),
        (None, None, "none here"),
    ],
)
def test_the_end_of_the_burst_here_has_its_rank_among_the_noisy_runs(images, here, rank, said):
    """A rank is rounded down: no run is later than all of those that one of them outlasts."""

    def end(results):
        results["end_of_second_burst"]["this machine"] = here
        results["percentile_rank"]["this machine"] = rank

    change(images, "burst_end", end)
    assert said in opening_answers(images)[0].plain


def test_no_hyphen_stands_for_a_minus_in_what_is_said(images):
    ends = [ENDS, ENDS | {"last_w": -0.7}]
    change(images, "example2", lambda results: results.update(bp_alone=ends))
    gains = {"a": {"difference": -1.5, "error": 1.0}}
    change(images, "authors_settings", lambda results: results.update(gains=gains))
    said = [row.measured for row in verdicts(images)] + [two_runs(images)]
    said += [answer.plain for answer in opening_answers(images)]
    assert not re.search(r"\s-|-\d", " ".join(said))
    assert with_minus("-1.50") in " ".join(said)
    assert with_minus("-0.70") in " ".join(said)


def test_per_cent_stands_off_from_its_number():
    said = [row.measured for row in verdicts(IMAGES)]
    assert not re.search(r"\d%", " ".join(said))


# The site


def test_the_front_page_has_the_learning_rate_of_both_runs(images):
    path = images / "example2.json"
    recorded = json.loads(path.read_text())
    recorded["provenance"]["parameters"]["lr"] = 0.25
    path.write_text(json.dumps(recorded))
    assert facts(images)["csbp_lr"] == "0.25"
    assert facts(images)["bp_lr"] == "0.001"


def test_the_words_below_the_answers_of_readme_stand_with_the_verdicts():
    (words,) = [text for text in README.read_text().split("\n\n") if text.startswith("* *Best BP*")]
    page = verdicts_page(IMAGES)
    assert words in page
    for number in re.findall(r"\[(\d\d)\](?!\()", words):
        assert f"\n[{number}]: notebooks/{number}_" in page


@pytest.mark.parametrize("readme", ["# Title\n", "* *Best BP*: a\n\n* *Best BP*: b\n"])
def test_a_readme_without_those_words_is_refused_in_one_line(readme):
    with pytest.raises(ValueError, match=r"README\.md must have one list that begins with"):
        words_in(readme)


# Every verdict


def test_every_verdict_names_a_notebook_and_a_test_that_are_there():
    for row in verdicts(IMAGES):
        assert (ROOT / "notebooks" / f"{row.notebook}.ipynb").is_file()
        assert (ROOT / row.test).is_file()


def test_no_row_of_readme_is_too_long():
    text = readme_with(README.read_text(), IMAGES)
    assert max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.parametrize(("missing", "is_said"), [(0, False), (3, True)])
def test_what_is_missing_of_the_study_is_said(images, missing, is_said):
    counts = {"missing": missing, "cells": 5}
    change(images, "does_chaos_help", lambda results: results.update(counts))
    assert (f"with {missing} of 5 not run yet" in cost_of_study(images)) == is_said


def test_the_hours_of_the_study_are_said(images):
    change(images, "does_chaos_help", lambda results: results.update(hours=7.6))
    said = cost_of_study(images)
    assert "took 8 hours of one core" in said
    assert "about 4 hours on 2 cores" in said


# Verdicts that follow from other numbers


def test_a_weight_that_ends_elsewhere_does_not_hold(images):
    assert of(images, "By BP").verdict == HOLDS
    change(images, "example1", lambda results: results["w"].update(last=0.43))
    assert of(images, "By BP").verdict == FAILS


def test_a_weight_that_never_settles_does_not_hold(images):
    change(images, "example1", lambda results: results.update(epochs_until_settled=None))
    assert of(images, "By BP").verdict == FAILS
    assert of(images, "By BP").measured.endswith("and never stays")


def test_with_a_feature_missing_the_figure_is_real_in_part(images):
    assert opening_answers(images)[0].short == "Its shape is"
    change(images, "example2", lambda results: results["statements_that_hold"].pop())
    assert opening_answers(images)[0].short == "In part"
    assert of(images, "By CSBP").verdict == HOLDS_IN_PART


def test_without_any_feature_nothing_holds(images):
    change(images, "example2", lambda results: results.update(statements_that_hold=[]))
    assert of(images, "By CSBP").verdict == FAILS
    assert opening_answers(images)[0].short == "No"


def test_one_noisy_run_without_a_feature_is_said(images):
    change(images, "burst_end", lambda results: results.update(runs=20481))
    assert of(images, "By CSBP").verdict == HOLDS_IN_PART


@pytest.mark.parametrize(
    ("share", "verdict", "cycles"),
    [(0.0, FAILS, False), (0.4, HOLDS_IN_PART, True), (1.0, HOLDS, False)],
)
def test_motion_is_chaotic_as_far_as_exponents_are_positive(images, share, verdict, cycles):
    change(images, "bifurcation", lambda found: found.update(chaotic_share_at_frozen_z=share))
    found = of(images, "While z is large")
    assert found.verdict == verdict
    assert ("cycles" in found.measured) == cycles


def test_a_run_that_never_rests_does_not_settle(images):
    change(images, "example2", lambda found: found.update({"settled_within_0.05_from_epoch": None}))
    found = of(images, "As z falls")
    assert found.verdict == FAILS
    assert found.measured.endswith("never rests")


def test_without_a_period_doubling_nothing_bifurcates(images):
    def without(results):
        results["events"] = [event for event in results["events"] if event["kind"] == "superstable"]

    change(images, "bifurcation", without)
    assert of(images, "As z falls").verdict == FAILS


@pytest.mark.parametrize(
    ("published", "verdict"), [(1690, "one run of many, rounding decides"), (900, FAILS)]
)
def test_the_published_end_of_the_burst_is_one_of_the_runs_or_none(images, published, verdict):
    change(
        images, "burst_end", lambda found: found["end_of_second_burst"].update(published=published)
    )
    assert of(images, "The second burst").verdict == verdict


@pytest.mark.parametrize("key", ["epoch_weights_come_to_rest", "epoch_at_critical_z"])
def test_weights_that_never_rest_do_not_hold(images, key):
    change(images, "multi_layer", lambda found: found.update({key: None}))
    assert of(images, "In a network").verdict == FAILS
    assert "None" not in of(images, "In a network").measured


def test_weights_that_rest_before_z_has_fallen_do_not_hold(images):
    change(images, "multi_layer", lambda found: found.update(epoch_weights_come_to_rest=0))
    assert of(images, "In a network").verdict == FAILS


def test_a_loss_that_never_becomes_zero_is_said(images):
    change(images, "example2", lambda found: found.update(bp_alone=[ENDS, ENDS]))
    assert "never brings its loss to zero for good, and w ends at 0.70" in two_runs(images)


@pytest.mark.parametrize(
    ("at_most", "where"),
    [
        ({"a, dropout 0": 1.2}, ""),
        ({"a, dropout 0": 0.1, "b, dropout 0": 0.1, "b, dropout 0.5": 1.2}, "a"),
        ({"a, dropout 0": 0.1, "b, dropout 0": 0.1, "b, dropout 0.5": 0.2}, "a and b"),
    ],
)
def test_a_training_is_excluded_only_where_its_strength_is_below_critical(images, at_most, where):
    change(images, "authors_settings", lambda found: found.update(z_over_critical_at_most=at_most))
    excluded = f"; not by fc1's own chaotic loss, its inputs held, in {where}" if where else ""
    assert of(images, "The published trainings").verdict == f"not known{excluded}"


def test_a_gain_counts_from_1_96_standard_errors_on(images):
    gains = {"a": {"difference": 1.95, "error": 1.0}, "b": {"difference": 1.97, "error": 1.0}}
    change(images, "authors_settings", lambda results: results.update(gains=gains))
    assert of(images, "It gained").verdict.startswith("beyond the error of its test set in 1 of 2")


# Faults


def test_a_number_that_is_not_there_is_named_in_one_line(images):
    change(images, "example2", lambda results: results.pop("critical_z"))
    with pytest.raises(
        ValueError, match=r"example2\.json has no critical_z: `make figures` writes"
    ):
        verdicts(images)


def test_a_number_that_is_null_is_named_in_one_line(images):
    change(images, "example2", lambda results: results.update(critical_z=None))
    with pytest.raises(ValueError, match=r"example2\.json: critical_z is null"):
        verdicts(images)


def test_an_answer_without_its_plain_words_is_named_in_one_line(images):
    def silence(results):
        del results["answers"]["chaos"]["plain"]

    change(images, "does_chaos_help", silence)
    with pytest.raises(ValueError, match=r"does_chaos_help\.json has no plain: `make figures`"):
        opening_answers(images)


@pytest.mark.parametrize(
    ("name", "outer", "key"),
    [
        ("does_chaos_help", "answers", "robust"),
        ("burst_end", "percentiles_of_the_end", "95"),
        ("burst_end", "end_of_second_burst", "this machine"),
        ("example1", "w", "last"),
    ],
)
def test_what_is_missing_within_a_number_is_named_in_one_line(images, name, outer, key):
    change(images, name, lambda results: results[outer].pop(key))
    with pytest.raises(ValueError, match=rf"{name}\.json has no {key}: `make figures` writes it"):
        verdicts(images)


def test_a_gain_without_its_error_is_named_in_one_line(images):
    gains = {"a": {"difference": 1.0}}
    change(images, "authors_settings", lambda results: results.update(gains=gains))
    with pytest.raises(ValueError, match=r"authors_settings\.json has no error"):
        verdicts(images)


def test_a_missing_rank_of_the_end_is_named_in_one_line(images):
    change(images, "burst_end", lambda results: results["percentile_rank"].clear())
    with pytest.raises(ValueError, match=r"burst_end\.json has no this machine"):
        opening_answers(images)


def test_a_file_that_is_not_there_is_named_in_one_line(images):
    (images / "multi_layer.json").unlink()
    with pytest.raises(ValueError, match=r"multi_layer\.json is not there"):
        verdicts(images)


@pytest.mark.parametrize("text", ["{", "{}"])
def test_a_file_of_something_else_is_named_in_one_line(images, text):
    (images / "multi_layer.json").write_text(text)
    with pytest.raises(ValueError, match=r"multi_layer\.json is not what a notebook records"):
        verdicts(images)


# The command


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_command_shows_every_claim_and_runs_nothing(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.argv", ["csbp-run", "--verdicts"])
    with pytest.raises(SystemExit) as end:
        csbp_run()
    assert not end.value.code
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    words = " ".join(shown.split())
    for row in verdicts(IMAGES):
        assert f"{row.claim} ({row.published}): {row.verdict.upper()} {row.measured}" in words
        assert f"{row.notebook}, {row.test}" in words


def test_the_command_says_in_one_line_what_is_not_there(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("csbp_notebooks.run.IMAGES", tmp_path)
    monkeypatch.setattr("sys.argv", ["csbp-run", "--verdicts"])
    with pytest.raises(SystemExit) as end:
        csbp_run()
    assert end.value.code == 2
    assert "example2.json is not there" in capsys.readouterr().err


def test_readme_is_written_anew_by_the_module(monkeypatch, tmp_path):
    page = tmp_path / "README.md"
    changed = README.read_text().replace("in 33 epochs", "in 32 epochs")
    assert changed != README.read_text()
    page.write_text(changed)
    monkeypatch.setattr(verdict_text, "README", page)
    verdict_text.main()
    assert page.read_text() == README.read_text()
