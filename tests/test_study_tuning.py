"""Tuning finds the best setting of trainings whose validation curves are known."""

import json

import numpy as np
import pytest
import torch

from study.experiments import tuning
from study.experiments.tuning import Conditions, best_of, choose, main, validation_curves
from study.protocol import PROTOCOL, digest
from study.tasks.tasks import TASKS
from study.training.arms import Candidate
from study.training.train import Training

TASK = TASKS["digits_1"]
BP = Conditions("bp")
EPOCHS = 60  # three times the task's own
NETWORKS = 4


@pytest.fixture
def known(monkeypatch):
    """Stand-in trainings: their accuracy is best at a given lr, z and epoch; and what was asked."""

    def stand_in(best_lr, best_z, best_epoch):
        asked = []

        def curves(task, conditions, candidates, networks):
            asked.extend(candidates)
            epochs = torch.arange(1, EPOCHS + 1)[:, None].expand(-1, networks)
            lacking = 1e-3 * (epochs - best_epoch).abs()
            made = {}
            for lr, z in candidates:
                distance = abs(torch.tensor(lr / best_lr).log2()) + abs(
                    torch.tensor(z / best_z).log2()
                )
                made[Candidate(lr, z)] = 0.9 - 0.1 * distance - lacking
            return made

        monkeypatch.setattr(tuning, "validation_curves", curves)
        return asked

    return stand_in


def test_the_best_pair_and_its_epoch_are_found(known):
    known(best_lr=0.2, best_z=4.0, best_epoch=25)
    choice = choose(TASK, BP, [0.1, 0.2, 0.4], [2.0, 4.0, 8.0], networks=NETWORKS)
    assert (choice.lr, choice.z, choice.epochs) == (0.2, 4.0, 25)
    assert choice.accuracy == pytest.approx(0.9 - 0.0012)  # of 25 and two epochs on either side
    assert choice.at_an_end == []
    assert len(choice.table) == 9


def test_a_grid_goes_on_by_factors_of_two_until_the_best_is_inside(known):
    asked = known(best_lr=0.8, best_z=1.0, best_epoch=25)
    choice = choose(TASK, BP, [0.1, 0.2], [1.0], networks=NETWORKS)
    assert choice.lr == 0.8
    assert choice.at_an_end == []
    assert [candidate.lr for candidate in asked] == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_it_goes_on_three_times_and_then_says_that_the_choice_is_at_an_end(known):
    asked = known(best_lr=1e-6, best_z=1e6, best_epoch=25)
    choice = choose(TASK, BP, [0.1, 0.2], [1.0, 2.0], networks=NETWORKS)
    assert (choice.lr, choice.z) == (0.1 / 8, 16.0)
    assert choice.at_an_end == ["lr", "z"]
    assert len(asked) == len(set(asked)) == 5 * 5


def test_a_grid_of_one_value_stays_so(known):
    known(best_lr=0.2, best_z=100.0, best_epoch=25)
    choice = choose(TASK, BP, [0.1, 0.2, 0.4], [1.0], networks=NETWORKS)
    assert choice.z == 1.0
    assert choice.at_an_end == []


def test_an_epoch_near_the_longest_is_reported(known):
    known(best_lr=0.2, best_z=1.0, best_epoch=EPOCHS)
    assert choose(TASK, BP, [0.1, 0.2, 0.4], [1.0], networks=NETWORKS).at_an_end == ["epochs"]


def test_a_cosine_schedule_is_trained_to_its_end(known):
    known(best_lr=0.2, best_z=1.0, best_epoch=10)
    cosine = Conditions("bp", schedule="cosine")
    choice = choose(TASK, cosine, [0.1, 0.2, 0.4], [1.0], networks=NETWORKS)
    assert choice.epochs == EPOCHS
    assert choice.accuracy == pytest.approx(0.9 - 0.05)
    assert choice.at_an_end == []


def test_of_equal_candidates_the_smaller_z_and_then_the_smaller_lr_is_chosen():
    same = torch.full((3, NETWORKS), 0.5)
    pairs = [(0.2, 1.0), (0.1, 2.0), (0.1, 1.0), (0.2, 2.0)]
    curves = {Candidate(lr, z): same for lr, z in pairs}
    assert best_of(curves, TASK, BP).candidate == (0.1, 1.0)
    assert best_of(curves, TASK, BP).epochs == 1


def test_of_equal_candidates_one_inside_the_grids_comes_before_a_smaller_z():
    same = torch.full((3, NETWORKS), 0.5)
    rates, strengths = (0.1, 0.2, 0.4), (1.0, 2.0, 4.0)
    curves = {Candidate(lr, z): same for lr in rates for z in strengths}
    assert best_of(curves, TASK, BP).candidate == (0.2, 2.0)


def test_of_equal_candidates_the_fastest_comes_first():
    level = torch.ones(20, NETWORKS)
    slow = level.clone()
    slow[:8] = 0.0
    curves = {Candidate(lr, 1.0): slow for lr in (0.1, 0.2)} | {Candidate(0.4, 1.0): level}
    assert best_of(curves, TASK, BP).candidate == (0.4, 1.0)
    assert best_of(curves, TASK, BP).epochs == 1


def test_candidates_that_tie_do_not_extend_a_grid(monkeypatch):
    asked = []

    def all_right(task, conditions, candidates, networks):
        asked.extend(candidates)
        return {candidate: torch.ones(EPOCHS, networks) for candidate in candidates}

    monkeypatch.setattr(tuning, "validation_curves", all_right)
    choice = choose(TASK, BP, [0.1, 0.2, 0.4], [1.0, 2.0, 4.0], networks=NETWORKS)
    assert (choice.lr, choice.z, choice.at_an_end) == (0.2, 2.0, [])
    assert len(asked) == 9


def test_the_mean_over_networks_and_five_validations_is_what_counts():
    """Against a moving average by NumPy; a lucky validation alone does not win."""
    rng = np.random.default_rng(0)
    curve = torch.as_tensor(rng.random((20, NETWORKS)))
    curve[11] = 1.0
    means = curve.mean(1).numpy()
    kernel = np.ones(5)
    expected = np.convolve(means, kernel, "same") / np.convolve(np.ones(20), kernel, "same")
    best = best_of({Candidate(0.1, 1.0): curve}, TASK, BP)
    assert best.epochs == 1 + int(expected.argmax())
    assert best.accuracy == pytest.approx(expected.max())


def test_the_first_epoch_that_lacks_no_more_than_the_tolerance_is_chosen():
    rising = torch.linspace(0.8, 0.9, 11)[:, None].expand(-1, NETWORKS)  # .01 a validation
    curves = {Candidate(0.1, 1.0): rising}
    # smoothed: .01 a validation as far as .87, then .875 and .88 where the window ends
    assert best_of(curves, TASK, BP).epochs == 11
    assert best_of(curves, TASK, BP, tolerance=0.0101).epochs == 9
    assert best_of(curves, TASK, BP, tolerance=0.0201).epochs == 8


def test_every_candidate_has_the_same_networks_on_the_tuning_splits(monkeypatch):
    monkeypatch.setattr(tuning, "AT_ONCE", 8)  # two candidates at once
    monkeypatch.setattr(tuning, "LONGEST", 1)
    task = TASKS["xor"]._replace(epochs=20)
    candidates = [Candidate(lr, 5.0) for lr in (0.1, 0.2, 0.4)]
    curves = validation_curves(task, Conditions("csbp"), candidates, NETWORKS)
    assert list(curves) == candidates
    seeds = [10_000, 10_001, 10_002, 10_003]
    for (lr, z), curve in curves.items():
        run = Training(task, "csbp", seeds, lr, z, epochs=20, splits=[9, 10, 11, 12])
        assert torch.equal(curve, run.train()[1])


# The command


def test_the_command_tunes_bp_and_then_an_arm_around_its_rate(known, tmp_path):
    asked = known(best_lr=0.2, best_z=3.0, best_epoch=25)
    bp, csbp = tmp_path / "bp.json", tmp_path / "csbp.json"
    main(["digits_1", "bp", "--out", str(bp)])
    assert {candidate.lr for candidate in asked} == {0.1, 0.2, 0.4, 0.8}
    asked.clear()
    main(["digits_1", "csbp", "--bp", str(bp), "--out", str(csbp)])
    assert {candidate.lr for candidate in asked} == {0.1, 0.2, 0.4}
    made = json.loads(csbp.read_text())
    assert (made["task"], made["arm"], made["lr"], made["z"]) == ("digits_1", "csbp", 0.2, 3.0)
    assert made["provenance"]["protocol"] == digest()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["csbp"], "--bp is missing: csbp is tuned around the rate of bp"),
        (["csbp", "--bp", "nowhere.json"], "--bp = nowhere.json: must be the JSON of a cell"),
    ],
)
def test_an_arm_without_the_rate_of_bp_is_refused_in_one_line(arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["digits_1", *arguments, "--out", str(tmp_path / "out.json")])
    assert error.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_rate_that_was_tuned_for_another_task_is_refused_in_one_line(tmp_path, capsys):
    bp = tmp_path / "bp.json"
    bp.write_text(json.dumps({"task": "xor", "arm": "bp", "lr": 0.1}))
    with pytest.raises(SystemExit):
        main(["digits_1", "csbp", "--bp", str(bp), "--out", str(tmp_path / "out.json")])
    must = f"--bp = {bp}: must be what study.experiments.tuning wrote for digits_1 bp"
    assert capsys.readouterr().err == f"study.experiments.tuning: {must}\n"


def test_what_is_tuned_starts_with_the_grids_of_the_protocol():
    text = " ".join(PROTOCOL.read_text().split())
    assert "Learning rates begin with .1, .2, .4, .8 for BP" in text
    assert tuning.LEARNING_RATES == (0.1, 0.2, 0.4, 0.8)
    assert "BP's rate times .5, 1, 2" in text
    assert tuning.FACTORS == (0.5, 1, 2)
    assert "1, 3, 10, 30 for csbp on the output" in text
    assert tuning.STRENGTHS["csbp"] == (1, 3, 10, 30)
    on_membrane = "3, 10, 30, 100 for csbp on the membrane and the quadratic pull on it"
    assert on_membrane in text
    assert tuning.STRENGTHS["membrane"] == (3, 10, 30, 100)
    assert tuning.STRENGTHS["quadratic_membrane"] == (3, 10, 30, 100)
    assert "1, 10, 100 for the regulariser" in text
    assert tuning.STRENGTHS["firing_rate"] == (1, 10, 100)
