"""Cells by hand and from the command line, their results file, and the Snakefile that runs them."""

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from study import analysis, cell, collect, command, plan
from study.arms import ARMS, Arm, Candidate, chaos_on_current, needed_arms
from study.tasks import TASKS

ROOT = Path(__file__).parents[1]
SMALL = ["--seeds", "3", "--epochs", "2", "--tuning", "18"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def committed():
    """The results of the study, by task and arm."""
    return json.loads((ROOT / "study" / "results.json").read_text())["results"]


# a cell by hand: the training is made up, so that what must come of it is known


RISING = [0.1, 0.2, 0.3]


class MadeUpTraining:
    """Stands in for `Training`: it keeps what it is given, and what it finds is known.

    Two of its steps per epoch multiply every number of the state, one per network, by a factor.
    """

    curve = None  # validation accuracies, `[validations, networks]`; None for `RISING` in all
    factors = None  # `[steps, networks]`, or one for all networks: `[steps, 1]`
    made = ()  # all that were made

    steps = 2
    data = types.SimpleNamespace(x_test="x of the test set", y_test="y of the test set")

    def __init__(self, task, arm, seeds, lr, z, dtype=torch.float32):
        self.task, self.arm, self.seeds, self.lr, self.dtype = task, arm, list(seeds), lr, dtype
        self.z_given = z
        self.z = torch.full((len(self.seeds),), 0.25, dtype=torch.float64)
        self.epochs = self.tested = None
        self.states = []
        MadeUpTraining.made.append(self)

    def train(self, epochs=None):
        self.epochs = epochs
        curve = [[accuracy] * len(self.seeds) for accuracy in RISING]
        return "the state", torch.tensor(curve if self.curve is None else self.curve)

    def evaluate(self, state, x, y):
        self.tested = (state, x, y)
        return {
            "accuracy": torch.tensor([0.5, 0.7]),
            "dead": torch.tensor([0.1, 0.2]),
            "rate": torch.tensor([0.3, 0.4]),
            "mean_s": torch.tensor([0.6, float("nan")]),
        }

    def start(self):
        return [torch.ones(len(self.seeds), 1, dtype=torch.float64)]

    def step(self, state, n):
        (x,) = state
        self.states.append((n, x.clone()))
        return [x * torch.tensor(self.factors[n], dtype=torch.float64)[:, None]]


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(cell, "Training", MadeUpTraining)
    monkeypatch.setattr(MadeUpTraining, "made", [])
    monkeypatch.setattr(MadeUpTraining, "curve", None)
    monkeypatch.setattr(MadeUpTraining, "factors", np.ones((400, 1)))
    return MadeUpTraining


CANDIDATES = [Candidate(0.1, 1.0), Candidate(0.2, 5.0), Candidate(0.4, 2.0)]
# Two seeds of each candidate, next to each other. The second one's mean is best at the third
# validation, 0.6; the best single network is one of the third; were the columns read the other way
# round, as three seeds of two candidates or every third column, others would be chosen.
CURVE = [
    [0.1, 0.2, 0.3, 0.3, 0.2, 0.2],
    [0.2, 0.3, 0.4, 0.4, 0.9, 0.1],
    [0.3, 0.3, 0.8, 0.4, 0.5, 0.5],
    [0.3, 0.4, 0.5, 0.5, 0.4, 0.4],
]
SEVEN_TO_TUNE = TASKS["xor"]._replace(tuning=7, every=10)  # among three: one is left over


def test_tuning_chooses_the_candidate_and_the_epoch_of_the_best_mean(made_up):
    made_up.curve = CURVE
    setting, _ = cell.tune(SEVEN_TO_TUNE, "csbp", CANDIDATES)
    assert setting == cell.Setting(lr=0.2, z=5.0, epochs=30)  # third validation, every 10 epochs


def test_tuning_tells_the_best_mean_of_every_candidate(made_up):
    made_up.curve = CURVE
    _, table = cell.tune(SEVEN_TO_TUNE, "csbp", CANDIDATES)
    assert table == [
        {"lr": 0.1, "z": 1.0, "best": 0.35},
        {"lr": 0.2, "z": 5.0, "best": 0.6},
        {"lr": 0.4, "z": 2.0, "best": 0.5},
    ]


def test_of_equal_means_the_first_candidate_and_its_first_epoch_are_chosen(made_up):
    made_up.curve = [
        [0.5, 0.5, 0.75, 0.75, 0.5, 0.5],
        [0.5, 1.0, 0.5, 0.5, 0.5, 0.5],
        [1.0, 0.5, 0.5, 0.5, 0.75, 0.75],
    ]
    setting, _ = cell.tune(SEVEN_TO_TUNE, "csbp", CANDIDATES)
    assert setting == cell.Setting(lr=0.1, z=1.0, epochs=20)


def test_all_candidates_are_tuned_on_the_same_seeds(made_up):
    made_up.curve = CURVE
    cell.tune(SEVEN_TO_TUNE, "csbp", CANDIDATES)
    (run,) = made_up.made
    assert (run.task, run.arm, run.epochs) == (SEVEN_TO_TUNE, "csbp", None)
    assert run.seeds == [10_000, 10_001] * 3
    assert run.lr == [0.1, 0.1, 0.2, 0.2, 0.4, 0.4]
    assert run.z_given == [1.0, 1.0, 5.0, 5.0, 2.0, 2.0]


@pytest.mark.parametrize("name", TASKS)
def test_networks_are_tested_that_had_no_part_in_tuning(made_up, name):
    cell.run_cell(name, "bp")
    tuning, final, exponents = made_up.made
    assert len(tuning.seeds) == TASKS[name].tuning  # 6 candidates share them out without a rest
    assert final.seeds == list(range(TASKS[name].seeds))
    assert set(final.seeds).isdisjoint(tuning.seeds)
    assert exponents.seeds == final.seeds[:8]


def test_a_cell_is_made_of_the_setting_that_tuning_chose(made_up, monkeypatch):
    setting = cell.Setting(lr=0.3, z=7.0, epochs=2)
    table = [{"lr": 0.3, "z": 7.0, "best": 0.9}]
    monkeypatch.setattr(cell, "tune", lambda task, arm, candidates: cell.Tuned(setting, table))
    made_up.curve = [[0.1, 0.2], [0.3, 0.40000049]]  # [validations, seeds]
    made_up.factors = [[2.0], [2.0], [4.0], [1.0]]
    bp = {"task": "xor", "arm": "bp", "lr": 0.1}
    found = cell.run_cell("xor", "csbp", {"bp": bp}, seeds=2, epochs=40, lyapunov_seeds=1)
    final, exponents = made_up.made
    assert (final.seeds, final.lr, final.z_given, final.epochs) == ([0, 1], 0.3, 7.0, 2)
    assert final.tested == ("the state", "x of the test set", "y of the test set")
    assert exponents.seeds == [0]
    assert final.task == exponents.task == TASKS["xor"]._replace(seeds=2, epochs=40)
    exponent = found.pop("exponent")
    quarters = found.pop("exponent_quarters")
    assert exponent == pytest.approx([math.log(16) / 4], abs=2e-6)
    assert quarters == [pytest.approx([math.log(2), math.log(2), math.log(4), 0], abs=2e-6)]
    assert found == {
        "task": "xor",
        "arm": "csbp",
        "nominal_epochs": 40,
        "every": 10,
        "lr": 0.3,
        "z": 7.0,
        "epochs": 2,
        "tuning": table,
        "z_start": [0.25, 0.25],
        "validation": [[0.1, 0.3], [0.2, 0.4]],  # [seeds, validations]
        "accuracy": [0.5, 0.7],
        "dead": [0.1, 0.2],
        "rate": [0.3, 0.4],
        "mean_s": [0.6, None],
    }


def test_without_other_numbers_a_cell_has_those_of_its_task(made_up):
    cell.run_cell("xor", "bp")
    assert all(run.task == TASKS["xor"] for run in made_up.made)


def test_other_numbers_replace_those_of_the_task():
    resized = cell.resized(TASKS["xor"], seeds=5, epochs=20, tuning=6)
    assert resized == TASKS["xor"]._replace(seeds=5, epochs=20, tuning=6)


def test_an_arm_can_take_over_the_setting_of_another(made_up):
    given = {"csbp": {"lr": 0.3, "z": 7.0, "epochs": 4}}
    chosen = cell.choose(TASKS["xor"], "matched", given)
    assert chosen == (cell.Setting(lr=0.3, z=7.0, epochs=4), [])
    assert not made_up.made  # nothing was trained for it


def test_exponents_are_those_of_known_multipliers(made_up):
    """Two networks whose every step multiplies by known factors: 6 steps in quarters of 2 2 1 1."""
    factors = np.array([[2, 1, 4, 0.5, 3, 1], [0.5, 0.5, 0.25, 1, 2, 8]]).T  # [steps, networks]
    made_up.factors = factors
    setting = cell.Setting(lr=0.3, z=7.0, epochs=3)
    found = cell.exponents(TASKS["xor"], "csbp", [4, 9], setting)
    growth = np.log(factors)
    quarters = [growth[0:2].mean(0), growth[2:4].mean(0), growth[4], growth[5]]
    np.testing.assert_allclose(found["exponent"], growth.mean(0), atol=2e-6)
    np.testing.assert_allclose(found["exponent_quarters"], np.transpose(quarters), atol=2e-6)


def test_exponents_are_of_the_whole_training_from_a_distance_of_1e_9_in_float64(made_up):
    setting = cell.Setting(lr=0.3, z=7.0, epochs=3)
    made_up.factors = np.full((6, 2), 2.0)
    cell.exponents(TASKS["xor"], "csbp", [4, 9], setting)
    (run,) = made_up.made
    assert (run.task, run.arm, run.seeds) == (TASKS["xor"], "csbp", [4, 9])
    assert (run.lr, run.z_given, run.dtype) == (0.3, 7.0, torch.float64)
    assert [n for n, _ in run.states] == [n for n in range(6) for _ in ("twin", "training")]
    (_, twin), (_, training) = run.states[:2]
    apart = ((twin - training) / training).abs().flatten()
    assert apart.tolist() == pytest.approx([1e-9, 1e-9], rel=1e-3)


@pytest.mark.parametrize(
    ("number", "stored"),
    [(0.12345649, 0.123456), (0.1234567, 0.123457), (-np.inf, None), (np.nan, None), (3, 3.0)],
)
def test_numbers_are_stored_with_six_decimals_or_as_none(number, stored):
    assert cell.plain(torch.tensor(number, dtype=torch.float64)) == stored
    assert cell.plain(np.array([[number, 1.0]])) == [[stored, 1.0]]


# the arms and tasks are those of the committed results


def test_tuning_looks_where_it_did_for_the_committed_results(committed):
    for cells_of_task in committed.values():
        for arm, results in cells_of_task.items():
            tried = [(candidate["lr"], candidate["z"]) for candidate in results["tuning"]]
            tuned = ARMS[arm].settings_from is None
            assert tried == (ARMS[arm].candidates(cells_of_task) if tuned else [])


def test_tasks_are_as_long_and_as_many_as_in_the_committed_results(committed):
    for name, cells_of_task in committed.items():
        for results in cells_of_task.values():
            assert results["nominal_epochs"] == TASKS[name].epochs
            assert results["every"] == TASKS[name].every
            assert len(results["accuracy"]) == TASKS[name].seeds


@pytest.mark.parametrize(
    ("name", "networks"), [*((name, 180) for name in TASKS if name != "xor"), ("xor", 1500)]
)
def test_most_arms_tune_18_candidates_with_ten_seeds_each_or_83(name, networks):
    """Notebook 08 says so: ten seeds each, and for BP's six candidates 30."""
    assert TASKS[name].tuning == networks


def test_arms_that_others_need_come_first():
    assert needed_arms() == ["bp", "csbp"]


def test_an_arm_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARMS["csbp"].anneals = False


# the command line


@pytest.fixture
def asked(monkeypatch):
    """What the command line asks `run_cell` for; the cell is an empty one."""
    calls = []

    def run_cell(*names, **settings):
        calls.append((names, settings, torch.get_num_threads()))
        return {"made": "up"}

    monkeypatch.setattr(cell, "run_cell", run_cell)
    return calls


def test_the_command_line_asks_for_the_cell_that_it_names(asked, tmp_path):
    bp = tmp_path / "bp.json"
    bp.write_text('{"lr": 0.1}')
    out = tmp_path / "new" / "folder" / "csbp.json"
    torch.set_num_threads(2)  # `one_thread` puts it back
    sizes = ["--seeds", "3", "--epochs", "20", "--tuning", "18"]
    cell.main(["xor", "csbp", "--out", str(out), f"--bp={bp}", *sizes])
    names = ("xor", "csbp", {"bp": {"lr": 0.1}})
    assert asked == [(names, {"seeds": 3, "epochs": 20, "tuning": 18}, 1)]
    assert json.loads(out.read_text())["made"] == "up"


def test_without_numbers_the_command_line_leaves_them_to_the_task(asked, tmp_path):
    cell.main(["xor", "bp", "--out", str(tmp_path / "bp.json")])
    assert asked == [(("xor", "bp", {}), {"seeds": None, "epochs": None, "tuning": None}, 1)]


@pytest.mark.usefixtures("asked")
def test_a_cell_is_written_as_one_line_with_where_and_how_long(monkeypatch, tmp_path):
    clock = iter([100.0, 102.3456])
    times = types.SimpleNamespace(perf_counter=lambda: next(clock), process_time=lambda: 1.2345)
    monkeypatch.setattr(command, "time", times)
    cell.main(["xor", "bp", "--out", str(tmp_path / "bp.json")])
    text = (tmp_path / "bp.json").read_text()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    provenance = json.loads(text)["provenance"]
    assert (provenance["seconds"], provenance["cpu_seconds"]) == (2.3, 1.2)
    assert list(provenance["versions"])[-3:] == ["torch", "numpy", "scikit-learn"]
    assert "cpu" in provenance


def test_a_cell_that_json_does_not_know_is_not_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cell, "run_cell", lambda *names, **settings: {"rate": float("nan")})
    with pytest.raises(SystemExit):
        cell.main(["xor", "bp", "--out", str(tmp_path / "bp.json")])
    assert "Out of range float values are not JSON compliant" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xr", "bp", "--out", "a.json"], "argument task: invalid choice: 'xr'"),
        (["xor", "pb", "--out", "a.json"], "argument arm: invalid choice: 'pb'"),
        (["xor", "bp"], "the following arguments are required: --out"),
        (["xor", "bp", "--out", "a.json", "--seeds", "x"], "argument --seeds: invalid int value"),
    ],
)
def test_a_command_line_that_names_no_cell_is_refused(asked, arguments, message, capsys):
    with pytest.raises(SystemExit):
        cell.main(arguments)
    assert message in capsys.readouterr().err
    assert asked == []


def test_the_help_says_what_every_option_is():
    text = cell.command_line().format_help()
    for said in (
        "\npython -m study.cell digits_1 csbp --out csbp.json --bp runs/study/digits_1/bp.json\n",
        r"--out OUT +the JSON to write\n",
        r"--bp BP +JSON of the bp cell\n",
        r"--csbp CSBP +JSON of the csbp cell\n",
        r"--tuning TUNING +if not the task's own\n",
    ):
        assert re.search(said, text), said


@pytest.fixture
def unreadable(tmp_path):
    """A folder with files that are no cells, and nothing that could be written in `file`."""
    (tmp_path / "text.json").write_text("not JSON")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--bp={}/no.json", "--bp = {}/no.json: must be the JSON of a cell, .*No such file"),
        ("--csbp={}/no.json", "--csbp = {}/no.json: must be the JSON of a cell, .*No such file"),
        ("--bp={}/folder", "--bp = {}/folder: must be the JSON of a cell, .*Is a directory"),
        ("--bp={}/text.json", "--bp = {}/text.json: must be the JSON of a cell, as study.cell"),
        ("--bp={}/bytes.json", "--bp = {}/bytes.json: must be the JSON of a cell, as study.cell"),
        ("--bp={}/list.json", "--bp = {}/list.json: must be the JSON of a cell, as study.cell"),
        ("--bp={}/other.json", "bp = the cell None None: must be the cell xor bp"),
        ("--out={}/folder", "--out = {}/folder: must be a file, not a folder"),
        ("--out={}/file/a.json", "--out = {}/file/a.json: must be in a folder that can be written"),
        ("--seeds=0", "arm = 'csbp': needs the bp cell of the same task"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(made_up, unreadable, options, message, capsys):
    out = unreadable / "csbp.json"
    with pytest.raises(SystemExit) as stopped:
        cell.main(["xor", "csbp", f"--out={out}", options.format(unreadable)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("study.cell: " + message.format(re.escape(str(unreadable))), line)
    assert not made_up.made
    assert not out.exists()


# small cells


def run_small(folder, arm, name):
    """A cell of digits_1 with few seeds and two epochs, by the command line."""
    known = [(needed, folder / f"{needed}.json") for needed in needed_arms()]
    given = [f"--{needed}={path}" for needed, path in known if path.exists()]
    out = folder / f"{name}.json"
    cell.main(["digits_1", arm, "--out", str(out), *given, *SMALL])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def cells(folder):
    """All arms of digits_1, in the order of the study."""
    return {arm: run_small(folder, arm, name=arm) for arm in ARMS}


@pytest.mark.parametrize("arm", ["csbp", "noise"])
def test_a_cell_repeats(folder, cells, arm):
    again = run_small(folder, arm, name="again")
    assert again.pop("provenance")
    assert again == {key: value for key, value in cells[arm].items() if key != "provenance"}


@pytest.mark.parametrize(
    ("arm", "candidates"),
    [
        ("bp", 6),
        ("csbp", 18),
        ("high", 5),
        ("constant", 18),
        ("quadratic", 18),
        ("matched", 0),
        ("noise", 5),
        ("membrane", 15),
    ],
)
def test_every_arm_has_its_candidates(cells, arm, candidates):
    assert len(cells[arm]["tuning"]) == candidates


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "matched"])
def test_the_learning_rate_is_that_of_a_candidate(cells, arm):
    assert cells[arm]["lr"] in {candidate["lr"] for candidate in cells[arm]["tuning"]}


@pytest.mark.parametrize("arm", ARMS)
def test_no_more_epochs_than_the_nominal_ones(cells, arm):
    assert cells[arm]["epochs"] <= 2


@pytest.mark.parametrize("arm", ARMS)
def test_a_cell_has_a_validation_per_seed_and_epoch(cells, arm):
    assert np.shape(cells[arm]["validation"]) == (3, cells[arm]["epochs"])


@pytest.mark.parametrize("arm", ARMS)
def test_a_cell_has_the_exponents_of_four_quarters(cells, arm):
    assert np.shape(cells[arm]["exponent_quarters"]) == (3, 4)


def test_bp_has_no_strength(cells):
    assert cells["bp"]["z"] is None


@pytest.mark.parametrize("arm", ["high", "noise"])
def test_high_and_noise_take_the_strength_of_csbp(cells, arm):
    assert cells[arm]["z"] == cells["csbp"]["z"]


@pytest.mark.parametrize("key", ["lr", "z", "epochs"])
def test_matched_takes_the_settings_of_csbp(cells, key):
    assert cells["matched"][key] == cells["csbp"][key]


def test_a_cell_says_which_others_it_needs():
    with pytest.raises(ValueError, match="arm = 'noise': needs the bp cell and the csbp cell"):
        cell.run_cell("digits_1", "noise", {})


def test_a_cell_does_not_ask_for_what_is_there():
    with pytest.raises(ValueError, match="arm = 'noise': needs the csbp cell of the same task"):
        cell.run_cell("digits_1", "noise", {"bp": {"lr": 0.1}})


@pytest.mark.parametrize(("task", "arm"), [("xor", "bp"), ("digits_1", "constant")])
def test_the_cell_of_another_task_or_arm_is_refused(task, arm):
    message = f"bp = the cell {task} {arm}: must be the cell digits_1 bp"
    with pytest.raises(ValueError, match=message):
        cell.run_cell("digits_1", "csbp", {"bp": {"task": task, "arm": arm, "lr": 0.1}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds = 0: must be an integer in"),
        ({"epochs": 0}, "epochs = 0: must be an integer in"),
        ({"epochs": 5}, "epochs = 5: must be an integer in"),  # XOR is validated every 10
        ({"tuning": 5}, "tuning = 5: must be an integer in"),  # 6 candidates
        ({"lyapunov_seeds": 0}, "lyapunov_seeds = 0: must be an integer in"),
        ({"seeds": 2.5}, "seeds = 2.5: must be an integer in"),
        ({"epochs": 10.5}, "epochs = 10.5: must be an integer in"),
        ({"tuning": 6.5}, "tuning = 6.5: must be an integer in"),
        ({"lyapunov_seeds": 2.5}, "lyapunov_seeds = 2.5: must be an integer in"),
    ],
)
def test_numbers_too_small_for_a_cell_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cell.run_cell("xor", "bp", **settings)


def test_as_few_networks_as_there_are_candidates_will_do(made_up):
    cell.run_cell("xor", "bp", seeds=1, tuning=6, lyapunov_seeds=1)
    assert [len(run.seeds) for run in made_up.made] == [6, 1, 1]


@pytest.mark.parametrize(
    ("task", "arm", "message"),
    [
        ("xr", "bp", "name = 'xr': must be one of digits_1, "),
        ("xor", "pb", "arm = 'pb': must be one of bp, csbp, "),
    ],
)
def test_unknown_names_are_refused(task, arm, message):
    with pytest.raises(ValueError, match=message):
        cell.run_cell(task, arm)


# a new arm


@pytest.fixture
def new_arm(monkeypatch):
    """An arm like csbp, which needs `constant` first, as its one entry makes it."""
    arm = Arm("new", pull=chaos_on_current, needs=("bp", "constant"))
    monkeypatch.setitem(ARMS, arm.name, arm)


@pytest.mark.usefixtures("new_arm")
def test_a_new_arm_is_run_by_its_name(folder, cells):
    new = run_small(folder, "new", name="new")
    for key in ("lr", "z", "tuning", "accuracy", "exponent"):
        assert new[key] == cells["csbp"][key]


@pytest.mark.usefixtures("new_arm")
def test_a_new_arm_is_in_the_plan_of_the_snakefile():
    assert list(plan.plan({})["needs"]["new"]) == ["bp", "constant"]


# results


def made_up_cell(arm, validation, **entries):
    """A cell as `run_cell` gives it, with two seeds."""
    return {
        "task": "xor",
        "arm": arm,
        "nominal_epochs": 20,
        "every": 5,
        "lr": 0.1,
        "z": 1.0,
        "epochs": 15,
        "tuning": [{"lr": 0.1, "z": 1.0, "best": 0.5}],
        "z_start": [1.23456, 2.0],
        "validation": validation,
        "accuracy": [0.5, 0.7],
        "dead": [0.1, 0.2],
        "rate": [0.3, 0.4],
        "mean_s": [0.6, None],
        "exponent": [0.01, None],
        "exponent_quarters": [[0.123456, None, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]],
        "provenance": {},
        **entries,
    }


def test_what_is_kept_of_a_cell():
    bp = made_up_cell("bp", [[0.1, 0.4, 0.9000049], [0.2, 0.5, 0.7]])
    high = made_up_cell("high", [[0.1, 0.9, 0.1], [0.1, 0.2, 0.1000037]], lr=0.2)
    merged = collect.merge({"xor": {"bp": bp, "high": high}})["xor"]
    goal = 0.780002  # the median of the last validations, 0.8000025, less 0.02, in six decimals
    same = ("nominal_epochs", "every", "lr", "z", "epochs", "tuning", "accuracy", "dead", "rate")
    assert merged["bp"] == {
        **{key: bp[key] for key in (*same, "mean_s", "exponent")},
        "exponent_quarters": [[0.1235, None, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]],
        "z_start": None,
        "target": goal,
        "first_epoch": [15, None],
        "validation_mean": [0.15, 0.45, 0.800002],
    }
    assert list(merged) == ["bp", "high"]
    assert merged["high"]["lr"] == 0.2
    assert merged["high"]["target"] == goal  # BP's
    assert merged["high"]["first_epoch"] == [10, None]
    assert merged["high"]["validation_mean"] == [0.1, 0.55, 0.100002]
    assert merged["high"]["z_start"] == [1.235, 2.0]


@pytest.mark.parametrize("number", [None, 1.23456])
def test_numbers_are_rounded_and_none_stays(number):
    assert collect.rounded(number, 2) == (None if number is None else 1.23)


def test_results_without_a_cell_are_refused_in_one_line(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        collect.command([str(folder / "nowhere"), str(folder / "results.json")])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    path = folder / "nowhere" / "digits_1" / "bp.json"
    assert line.startswith(f"study.collect: bp = {path}: must be the JSON of a cell")
    assert not (folder / "results.json").exists()


def test_the_help_of_the_results_says_how_they_are_made(capsys):
    with pytest.raises(SystemExit):
        collect.command(["--help"])
    text = capsys.readouterr().out
    for said in (
        "\npython -m study.collect runs/study study/results.json\n",
        r"folder +where the cells are, as task/arm.json\n",
        r"out +the JSON to write\n",
    ):
        assert re.search(said, text), said


def test_the_results_file_has_what_is_kept_and_where_it_was_made(results, cells):
    parts = json.loads(results[0])
    kept = collect.merge({"digits_1": cells})["digits_1"]
    assert parts["results"] == {task: kept for task in TASKS}
    made = {arm: found["provenance"] for arm, found in cells.items()}
    assert parts["provenance"] == {task: made for task in TASKS}


@pytest.fixture(scope="module")
def results(cells, tmp_path_factory):
    """The file of a study whose tasks all gave the cells of digits_1, written twice."""
    folder = tmp_path_factory.mktemp("collected")
    for task in TASKS:
        (folder / "runs" / task).mkdir(parents=True)
        for arm in ARMS:
            (folder / "runs" / task / f"{arm}.json").write_text(json.dumps(cells[arm]))
    written = []
    for _ in range(2):
        collect.command([str(folder / "runs"), str(folder / "results.json")])
        written.append((folder / "results.json").read_bytes())
    return written


@pytest.fixture(scope="module")
def rows(results):
    return analysis.rows(json.loads(results[0])["results"])


def test_the_same_cells_give_the_same_bytes(results):
    assert results[0] == results[1]


def test_committed_results_are_as_they_would_be_written():
    text = (ROOT / "study" / "results.json").read_text()
    parts = json.loads(text)
    results = collect.lines(parts["results"])
    provenance = collect.lines(parts["provenance"])
    assert text == f'{{"results": {results},\n"provenance": {provenance}}}\n'


def test_only_high_keeps_where_each_network_started(results):
    for arms in json.loads(results[0])["results"].values():
        assert [arm for arm, kept in arms.items() if kept["z_start"] is not None] == ["high"]


def test_the_table_has_a_row_per_task_and_arm(rows):
    expected = [(task, arm) for task in TASKS for arm in ARMS]
    assert [(row["task"], row["arm"]) for row in rows] == expected


def test_rows_give_mean_accuracies(rows, cells):
    for row in rows:
        assert row["accuracy"] == pytest.approx(np.mean(cells[row["arm"]]["accuracy"]))


def test_rows_give_differences_to_bp(rows, cells):
    bp = np.mean(cells["bp"]["accuracy"])
    for row in rows:
        if row["arm"] == "bp":
            assert "difference" not in row
        else:
            assert row["difference"] == pytest.approx(np.mean(cells[row["arm"]]["accuracy"]) - bp)


def test_p_values_are_corrected(rows):
    for row in rows:
        if row["arm"] != "bp":
            assert row["p"] <= row["p_holm"] <= 1


# the Snakefile


def snakemake(clone, *targets):
    """What Snakemake would run in a clone."""
    command = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile"]
    command += ["--dry-run", "--printshellcmds", "--", *targets]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory):
    """The study without the committed cells of the second one."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "study", clone / "study", ignore=shutil.ignore_patterns("results"))
    return clone


@pytest.fixture(scope="module")
def dry_run(fresh_clone):
    return snakemake(fresh_clone)


def test_a_fresh_clone_has_all_cells_to_run(dry_run):
    """The committed results must not look finished: their cells are not there."""
    assert re.search(rf"^cell\s+{len(TASKS) * len(ARMS)}$", dry_run, re.M), dry_run


def test_the_snakefile_runs_every_task_and_arm(dry_run):
    commands = re.findall(r"-m study\.cell (\S+) (\S+) --out (\S+)", dry_run)
    expected = {(task, arm, f"runs/study/{task}/{arm}.json") for task in TASKS for arm in ARMS}
    assert set(commands) == expected


def test_the_snakefile_gives_every_cell_those_that_it_needs(dry_run):
    for task, arm, given in re.findall(r"-m study\.cell (\S+) (\S+) --out \S+ ?(.*)", dry_run):
        needed = [f"--{name} runs/study/{task}/{name}.json" for name in ARMS[arm].needs]
        assert given.strip() == " ".join(needed)


def second_study():
    """The files of the second study, as its protocol lists its tasks, arms and conditions."""
    files = set()
    for task in ("digits_1", "randman_1", "xor"):
        of_task = f"experiment_1/{task}"
        files.add(f"{of_task}/halved_steps")
        for rest, annealing, ratio in itertools.product(
            ("inside", "published"),
            ("5-20", "10-20", "20-20", "20-60"),
            ("0.003", "0.03", "0.3", "1.0", "2.0", "4.0"),
        ):
            files.add(f"{of_task}/{rest}_{annealing}_{ratio}")
        files |= {f"{of_task}/inside_held-20_{ratio}" for ratio in ("1.0", "2.0", "4.0")}
    for task in ("digits_1", "digits_3", "digits_conv", "randman_1", "randman_3", "xor"):
        files |= {f"tuning/{task}/start", f"tuning/{task}/now_constant/quadratic_membrane"}
        files.add(f"experiment_2/{task}/now_constant/csbp_resummed")
        for start, schedule in itertools.product(("now", "data"), ("constant", "cosine")):
            for arm in ("bp", "csbp", "membrane", "firing_rate"):
                files.add(f"tuning/{task}/{start}_{schedule}/{arm}")
                files.add(f"experiment_2/{task}/{start}_{schedule}/{arm}")
            files.add(f"experiment_2/{task}/{start}_{schedule}/bp_at_csbp_lr")
        for control in ("quadratic_membrane", "times_1", "times_10", "times_100"):
            files.add(f"experiment_3/{task}/{control}")
    files.add("experiment_4/start")
    for arm in ("bp", "csbp", "quadratic", "bp_data", "fc1_csbp", "fc1_inner_flow"):
        files |= {f"experiment_4/{arm}/split_{split}" for split in range(1, 9)}
    return {f"study/results/{file}.json" for file in files}


def test_the_snakefile_runs_every_cell_of_the_second_study(dry_run):
    made = re.findall(r"-m study\..* --out (study/results/\S+)", dry_run)
    assert set(made) == second_study()


def test_bp_at_the_rate_of_csbp_and_the_noise_floor_get_the_settings_of_csbp(dry_run):
    given = re.findall(r"-m study\.experiment_2 (\S+) (\S+) --tuned (\S+) --out (\S+)", dry_run)
    assert len(given) == 6 * (4 * 5 + 1)
    for task, arm, tuned, out in given:
        conditions = out.split("/")[-2]
        tuned_as = "csbp" if arm in ("bp_at_csbp_lr", "csbp_resummed") else arm
        assert tuned == f"study/results/tuning/{task}/{conditions}/{tuned_as}.json"


def test_only_networks_that_start_from_the_images_get_their_start(dry_run):
    given = re.findall(r"-m study\.experiment_4 train (\S+) .* --data (\S+) (.*)--out", dry_run)
    assert len(given) == 6 * 8
    for arm, data, start in given:
        is_from_data = arm == "bp_data"
        assert data == "/usr/share/datasets/fashion-mnist"
        assert start.strip() == "--start study/results/experiment_4/start.json" * is_from_data


def test_committed_cells_are_not_run_again_whatever_the_order_of_their_files_in_time(
    fresh_clone, tmp_path
):
    clone = tmp_path / "clone"
    shutil.copytree(fresh_clone / "study", clone / "study")
    for age, file in enumerate(sorted(second_study())):  # settings later than what used them
        path = clone / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 + age, 1e9 + age))
    said = snakemake(clone, *(f"experiment_{number}" for number in (1, 2, 3, 4)))
    assert "-m study.experiment" not in said
    assert "-m study.tuning" not in said
