"""Cells from the command line, their results file, and the Snakefile that runs them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from study import analysis, cell, collect, plan
from study.arms import ARMS, Arm, chaos_on_current, needed_arms
from study.tasks import TASKS

ROOT = Path(__file__).parents[1]
SMALL = ["--seeds", "3", "--epochs", "2", "--tuning", "18"]
pytestmark = pytest.mark.usefixtures("one_thread")


# cells


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
    ],
)
def test_numbers_too_small_for_a_cell_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cell.run_cell("xor", "bp", **settings)


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
def test_a_new_arm_is_in_the_plan_of_the_snakefile(capsys):
    plan.main()
    assert json.loads(capsys.readouterr().out)["needs"]["new"] == ["bp", "constant"]


# results


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
        collect.main(folder / "runs", folder / "results.json")
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


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """What Snakemake would run in a fresh clone."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "study", clone / "study")
    command = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile"]
    command += ["--dry-run", "--printshellcmds"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    return done.stdout + done.stderr


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
