"""A cell of experiment 1: what it holds, that it repeats, and that every network is its own."""

import json

import numpy as np
import pytest

from study import experiment_1
from study.experiment_1 import ANNEALINGS, RATIOS, RESTS, Condition, main, run_condition
from study.overshoot import RULES, layer_critical_z
from study.protocol import PROTOCOL, Networks, digest
from study.tasks import TASKS

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
    assert list(ANNEALINGS) == ["5/20", "10/20", "20/20", "20/60"]


ARGUMENTS = ["--rest", "inside", "--annealing", "5/20", "--ratio", "1", "--lr", "0.4", "--z", "0.5"]


def test_the_command_writes_the_cell_with_the_protocol_it_was_made_by(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_1, "final_networks", lambda name: NETWORKS)
    out = tmp_path / "cell.json"
    main(["xor", *ARGUMENTS, "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    condition = CONDITION._replace(annealing="5/20", ratio=1.0)
    expected = run_condition("xor", condition, NETWORKS)
    assert {key: cell[key] for key in expected} == json.loads(json.dumps(expected))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--ratio", "0", "ratio = 0.0: must be a number in (0, inf)"),
        ("--lr", "-1", "lr = -1.0: must be a number in (0, inf)"),
        ("--z", "inf", "z_tuned = inf: must be a number in (0, inf)"),
    ],
)
def test_a_number_out_of_range_is_one_line(option, value, said, tmp_path, capsys):
    arguments = list(ARGUMENTS)
    arguments[arguments.index(option) + 1] = value
    with pytest.raises(SystemExit) as error:
        main(["xor", *arguments, "--out", str(tmp_path / "cell.json")])
    assert error.value.code == 2
    assert capsys.readouterr().err == f"study.experiment_1: {said}\n"
    assert not list(tmp_path.iterdir())
