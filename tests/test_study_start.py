"""The start from the data is the one from which bp does best, and all tuning from it uses it."""

import json

import pytest
import torch

from study.experiments import start, tuning
from study.experiments.start import STARTS_FROM_DATA, choose_start
from study.experiments.tuning import Conditions, tune
from study.protocol import PROTOCOL, digest
from study.training.arms import Candidate


@pytest.fixture
def planted(monkeypatch):
    """Stand-in trainings, whose accuracy is known for every start; and what was asked."""

    def stand_in(accuracies):
        asked = []

        def curves(task, conditions, candidates, networks):
            asked.append(conditions)
            accuracy = accuracies.get(conditions.start_from_data, 0.0)
            made = {}
            for lr, z in candidates:
                lacking = 0.1 * abs(lr - 0.2)  # best at a rate of .2
                made[Candidate(lr, z)] = torch.full((60, networks), accuracy - lacking)
            return made

        monkeypatch.setattr(tuning, "validation_curves", curves)
        return asked

    return stand_in


@pytest.mark.parametrize("best", STARTS_FROM_DATA)
def test_the_start_with_the_largest_accuracy_of_bp_is_chosen(planted, best):
    asked = planted({best: 0.9})
    chosen = choose_start("digits_1")
    assert chosen["start_from_data"] == best
    assert set(asked) == {Conditions("bp", start) for start in STARTS_FROM_DATA}


def test_of_equally_good_starts_the_first_is_chosen(planted):
    planted({(0.0, 1.0): 0.9, (0.25, 0.5): 0.9})
    assert choose_start("digits_1")["start_from_data"] == (0.0, 1.0)


def test_every_starts_own_choice_is_kept(planted):
    planted({(0.0, 1.0): 0.9})
    choices = choose_start("digits_1")["choices"]
    conditions = [Conditions("bp", start) for start in STARTS_FROM_DATA]
    assert choices == [tune("digits_1", start, None) for start in conditions]


def test_the_starts_are_those_of_the_protocol():
    assert "{(.5, .5), (0, 1), (.25, .5)}" in PROTOCOL.read_text()
    assert STARTS_FROM_DATA == ((0.5, 0.5), (0.0, 1.0), (0.25, 0.5))


# The commands, of the start and of what is tuned from it


@pytest.fixture
def chosen(planted, tmp_path):
    """The start that the command wrote, (0, 1), and what is asked from then on."""
    asked = planted({(0.0, 1.0): 0.9})
    path = tmp_path / "start.json"
    start.main(["digits_1", "--out", str(path)])
    asked.clear()
    return path, asked


def tuned(path, out, *arguments):
    tuning.main(["digits_1", *arguments, "--start", str(path), "--out", str(out)])
    return json.loads(out.read_text())


def test_the_command_writes_the_start_with_the_protocol_it_was_chosen_by(chosen):
    path, _ = chosen
    written = json.loads(path.read_text())
    assert written["start_from_data"] == [0.0, 1.0]
    assert written["provenance"]["protocol"] == digest()
    assert len(written["choices"]) == len(STARTS_FROM_DATA)


def test_bp_from_the_chosen_start_is_not_tuned_twice(chosen, tmp_path):
    path, asked = chosen
    bp = tuned(path, tmp_path / "bp.json", "bp")
    assert asked == []
    expected = json.loads(json.dumps(tune("digits_1", Conditions("bp", (0.0, 1.0)), None)))
    assert {key: bp[key] for key in expected} == expected


def test_every_arm_and_schedule_is_tuned_from_the_chosen_start(chosen, tmp_path):
    path, asked = chosen
    for schedule in ("constant", "cosine"):
        bp = tmp_path / f"bp_{schedule}.json"
        tuned(path, bp, "bp", "--schedule", schedule)
        made = tuned(path, tmp_path / "csbp.json", "csbp", "--bp", str(bp), "--schedule", schedule)
        assert (made["arm"], made["start_from_data"]) == ("csbp", [0.0, 1.0])
        assert made["schedule"] == schedule
    assert {conditions.start_from_data for conditions in asked} == {(0.0, 1.0)}


def refusal(capsys, path, out, *arguments):
    with pytest.raises(SystemExit) as error:
        tuned(path, out, *arguments)
    assert error.value.code == 2
    assert not out.exists()
    return capsys.readouterr().err


def test_a_rate_from_another_start_or_schedule_is_refused_in_one_line(chosen, tmp_path, capsys):
    path, _ = chosen
    bp, out = tmp_path / "bp.json", tmp_path / "csbp.json"
    tuning.main(["digits_1", "bp", "--out", str(bp)])  # from torch's start
    said = f"study.experiments.tuning: --bp = {bp}: must be of the same start and schedule\n"
    assert refusal(capsys, path, out, "csbp", "--bp", str(bp)) == said
    tuned(path, bp, "bp")
    assert refusal(capsys, path, out, "csbp", "--bp", str(bp), "--schedule", "cosine") == said


@pytest.mark.parametrize("wrong", [{"task": "xor", "choices": []}, {"task": "digits_1", "lr": 0.1}])
def test_a_start_of_another_task_or_none_is_refused_in_one_line(tmp_path, capsys, wrong):
    path = tmp_path / "start.json"
    path.write_text(json.dumps(wrong))
    said = f"--start = {path}: must be what study.experiments.start wrote for digits_1"
    assert (
        refusal(capsys, path, tmp_path / "bp.json", "bp") == f"study.experiments.tuning: {said}\n"
    )
