"""The Snakefile runs what the protocol asks for, each with what it needs, and nothing twice."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.chaos.of_training import ARMS
from study.experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from study.tasks.tasks import TASKS

ROOT = Path(__file__).parents[1]


def snakemake(clone, *targets):
    """What Snakemake would run in a clone."""
    command = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile"]
    command += ["--dry-run", "--printshellcmds", "--", *targets]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory):
    """The study without its committed cells."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "study", clone / "study", ignore=shutil.ignore_patterns("results"))
    return clone


@pytest.fixture(scope="module")
def dry_run(fresh_clone):
    return snakemake(fresh_clone)


def cells_of_the_protocol():
    """The files of the study, as its protocol lists its tasks, arms and conditions."""
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


def test_the_snakefile_runs_every_cell_of_the_protocol(dry_run):
    made = re.findall(r"-m study\..* --out (study/results/\S+)", dry_run)
    assert set(made) == cells_of_the_protocol()


def test_bp_at_the_rate_of_csbp_and_the_noise_floor_get_the_settings_of_csbp(dry_run):
    given = re.findall(
        r"-m study\.experiments\.experiment_2 (\S+) (\S+) --tuned (\S+) --out (\S+)", dry_run
    )
    assert len(given) == 6 * (4 * 5 + 1)
    for task, arm, tuned, out in given:
        conditions = out.split("/")[-2]
        tuned_as = "csbp" if arm in ("bp_at_csbp_lr", "csbp_resummed") else arm
        assert tuned == f"study/results/tuning/{task}/{conditions}/{tuned_as}.json"


def test_only_networks_that_start_from_the_images_get_their_start(dry_run):
    given = re.findall(
        r"-m study\.experiments\.experiment_4 train (\S+) .* --data (\S+) (.*)--out", dry_run
    )
    assert len(given) == 6 * 8
    for arm, data, start in given:
        is_from_data = arm == "bp_data"
        assert data == "/usr/share/datasets/fashion-mnist"
        assert start.strip() == "--start study/results/experiment_4/start.json" * is_from_data


def test_exponents_are_those_of_trainings_at_their_tuned_settings(fresh_clone):
    """And of the layers of experiment 1 by themselves, which need no setting."""
    said = snakemake(fresh_clone, "chaos_of_training")
    made = set(re.findall(r"-m study\.chaos\.(.*) --out study/results/chaos/(\S+)", said))
    known = {(f"of_a_layer {task}", f"of_a_layer/{task}.json") for task in ONE_LAYER_TASKS}
    for task, arm in itertools.product(TASKS, ARMS):
        tuned = f"study/results/tuning/{task}/now_constant/{arm}.json"
        known.add((f"of_training {task} {arm} --tuned {tuned}", f"of_training/{task}/{arm}.json"))
    assert made == known


def test_committed_cells_are_not_run_again_whatever_the_order_of_their_files_in_time(
    fresh_clone, tmp_path
):
    clone = tmp_path / "clone"
    shutil.copytree(fresh_clone / "study", clone / "study")
    # Settings are later than what used them.
    for age, file in enumerate(sorted(cells_of_the_protocol())):
        path = clone / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 + age, 1e9 + age))
    said = snakemake(clone, *(f"experiment_{number}" for number in (1, 2, 3, 4)))
    assert "-m study.experiments" not in said
