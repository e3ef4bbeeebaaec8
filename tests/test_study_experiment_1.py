"""A cell of experiment 1: what it holds, that it repeats, and that every network is its own."""

import json

import numpy as np
import pytest

from csbp_notebooks.files import ROOT
from study.experiments import experiment_1
from study.experiments.experiment_1 import (
    ANNEALINGS,
    RATIOS,
    RESTS,
    Condition,
    grid,
    main,
    run_condition,
)
from study.protocol import FLOW_STEPS, PROTOCOL, Networks, digest
from study.tasks.tasks import TASKS
from study.training.overshoot import RULES, layer_critical_z

NETWORKS = Networks(seeds=[0, 1, 2], splits=[1, 1, 2])
CONDITION = Condition(rest="inside", annealing="20/20", ratio=2.0, lr=0.4, z_tuned=0.5)


@pytest.fixture(autouse=True)
def short_xor(monkeypatch):
    """Twenty epochs, of a step each."""
    task = TASKS["xor"]._replace(epochs=20, every=1)
    monkeypatch.setitem(experiment_1.TASKS, "xor", task)


@pytest.fixture
def cell():
    return run_condition("xor", CONDITION, NETWORKS)


def test_a_cell_holds_every_rule_and_a_number_per_network(cell):
    assert list(cell["rules"]) == list(RULES)
    for found in cell["rules"].values():
        for name in ("accuracy", "rate", "dead", "zero_surrogate"):
            assert np.shape(found[name]) == (3,)
            assert 0 <= min(found[name]) <= max(found[name]) <= 1
        assert len(found["curve"]) == 20


def test_a_cell_repeats(cell):
    assert cell == run_condition("xor", CONDITION, NETWORKS)


def test_z_starts_at_the_ratio_times_the_critical_z_of_each_networks_split(cell):
    z_c = [layer_critical_z(TASKS["xor"], split, 0.4, 0.525) for split in NETWORKS.splits]
    assert cell["z_start"] == pytest.approx([2 * limit for limit in z_c], rel=1e-6)


def test_longer_trainings_go_on_where_z_has_arrived():
    longer = run_condition("xor", CONDITION._replace(annealing="20/60"), NETWORKS)
    assert len(longer["rules"]["csbp"]["curve"]) == 60


def test_the_rest_points_are_where_the_protocol_says():
    rest = {name: 10 * np.log(I0 / (1 - I0)) for name, I0 in RESTS.items()}
    assert rest == pytest.approx({"inside": 1.0, "published": 6.19}, abs=2e-3)


def test_the_grid_is_that_of_the_protocol():
    text = PROTOCOL.read_text()
    assert "{.003, .03, .3, 1, 2, 4}" in text
    assert RATIOS == (0.003, 0.03, 0.3, 1.0, 2.0, 4.0)
    assert list(ANNEALINGS) == ["5/20", "10/20", "20/20", "20/60", "held/20"]
    assert len(grid()) == len(set(grid())) == 2 * 4 * 6 + 3
    assert {place.ratio for place in grid() if place.annealing == "held/20"} == {1.0, 2.0, 4.0}


def test_the_committed_cells_have_the_steps_of_the_flow_that_the_protocol_asks_for():
    cells = list((ROOT / "study/results/experiment_1").glob("*/*.json"))
    assert cells
    for path in cells:
        halved = 2 if path.stem == "halved_steps" else 1
        found = json.loads(path.read_text())["substeps"]
        assert found == halved * FLOW_STEPS[path.parent.name], path


OPTIONS = {"--rest": "inside", "--annealing": "5/20", "--ratio": "1"}


@pytest.fixture
def tuned(tmp_path):
    """What tuning has written for csbp."""
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"task": "xor", "arm": "csbp", "lr": 0.4, "z": 0.5}))
    return path


def run_command(tuned, out, **changed):
    options = {**OPTIONS, "--csbp": str(tuned), "--out": str(out)}
    options |= {f"--{name}": value for name, value in changed.items()}
    main(["xor", *(word for pair in options.items() for word in pair)])


def test_the_command_writes_the_cell_with_the_protocol_it_was_made_by(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_1, "final_networks", lambda name: NETWORKS)
    out = tmp_path / "cell.json"
    run_command(tuned, out)
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    assert {"commit", "dirty", "seconds", "cpu_seconds"} <= set(cell["provenance"])
    condition = CONDITION._replace(annealing="5/20", ratio=1.0, substeps=FLOW_STEPS["xor"])
    expected = run_condition("xor", condition, NETWORKS)
    assert {key: cell[key] for key in expected} == json.loads(json.dumps(expected))


def test_more_substeps_are_times_those_of_the_study(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_1, "final_networks", lambda name: NETWORKS)
    out = tmp_path / "cell.json"
    run_command(tuned, out, substeps="2")
    assert json.loads(out.read_text())["substeps"] == 2 * FLOW_STEPS["xor"]


def test_every_task_of_the_experiment_has_its_steps_of_the_flow():
    assert FLOW_STEPS.keys() == set(experiment_1.TASK_NAMES)


def refusal(tuned, out, capsys, **changed):
    with pytest.raises(SystemExit) as error:
        run_command(tuned, out, **changed)
    assert error.value.code == 2
    assert not out.exists()
    return capsys.readouterr().err


def test_a_ratio_out_of_range_is_one_line(tuned, tmp_path, capsys):
    said = refusal(tuned, tmp_path / "cell.json", capsys, ratio="0")
    assert said == "study.experiments.experiment_1: ratio = 0.0: must be a number in (0, inf)\n"


def test_what_was_tuned_for_another_task_or_arm_is_refused_in_one_line(tuned, tmp_path, capsys):
    tuned.write_text(json.dumps({"task": "digits_1", "arm": "csbp", "lr": 0.4, "z": 0.5}))
    said = refusal(tuned, tmp_path / "cell.json", capsys)
    must = f"--csbp = {tuned}: must be what study.experiments.tuning wrote for xor csbp"
    assert said == f"study.experiments.experiment_1: {must}\n"


@pytest.mark.parametrize("name", ["lr", "z_tuned"])
def test_a_learning_rate_or_a_z_out_of_range_is_refused(name):
    condition = CONDITION._replace(**{name: -1.0})
    with pytest.raises(ValueError, match=rf"{name} = -1.0: must be a number in \(0, inf\)"):
        run_condition("xor", condition, NETWORKS)
