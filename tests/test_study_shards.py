"""A cell in shards is the cell, number for number; and the Snakefile trains it so where asked."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

from csbp_notebooks.files import ROOT
from study.experiments import experiment_2, plan, shards
from study.experiments.experiment_2 import main
from study.experiments.shards import COUNTS, first_seeds, shard_of
from study.protocol import SEEDS, SPLITS, Networks, final_networks
from study.tasks.tasks import TASKS
from study.training.train import Training

EPOCHS = 20  # of xor, here; z falls over three times as many
NETWORKS = Networks(
    seeds=[20_000 + place for place in range(32)],
    splits=[1 + place // 4 for place in range(32)],
)


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("count", COUNTS)
def test_every_final_network_is_in_one_shard_and_all_are_of_one_size(name, count):
    networks = final_networks(name)
    parts = [shard_of(networks, number, count) for number in range(1, count + 1)]
    assert [seed for part in parts for seed in part.seeds] == networks.seeds
    assert [split for part in parts for split in part.splits] == networks.splits
    assert {len(part.seeds) for part in parts} == {SEEDS[name] // count}


def test_the_first_seeds_of_every_split_are_some_of_the_final_networks():
    few = first_seeds(final_networks("digits_1"), 2)
    assert few.splits == [split for split in SPLITS for _ in range(2)]
    assert few.seeds == [1000 + 8 * place + seed for place in range(8) for seed in range(2)]
    assert first_seeds(final_networks("digits_1"), 9) == final_networks("digits_1")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", TASKS)
def test_a_networks_weights_are_the_same_bit_for_bit_in_any_shard(name):
    networks = first_seeds(final_networks(name), 2)
    together = weights_of(name, networks)
    for number in (1, 8):
        shard = shard_of(networks, number, 8)
        places = [networks.seeds.index(seed) for seed in shard.seeds]
        for alone, among_all in zip(weights_of(name, shard), together, strict=True):
            assert torch.equal(alone, among_all[places])


def weights_of(name, networks):
    """Weights and momenta after the epochs to the first validation."""
    task = TASKS[name]
    run = Training(task, "csbp", networks.seeds, 0.2, 3.0, splits=networks.splits)
    state, _ = run.train(task.every)
    return state


# Gathering


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train xor as csbp, in a few epochs, by the command; what it wrote."""
    monkeypatch.setitem(experiment_2.TASKS, "xor", TASKS["xor"]._replace(epochs=EPOCHS, every=1))
    monkeypatch.setattr(experiment_2, "final_networks", lambda name: NETWORKS)
    tuned = tmp_path / "tuned.json"
    choice = {
        "task": "xor",
        "arm": "csbp",
        "start_from_data": None,
        "schedule": "constant",
        "lr": 0.4,
        "z": 3.0,
        "epochs": 30,
    }

    def command(name, *options, **changed):
        tuned.write_text(json.dumps(choice | changed))
        out = tmp_path / name
        main(["xor", "csbp", "--tuned", str(tuned), "--out", str(out), *map(str, options)])
        return out

    return command


def gather(*paths):
    """What the command makes of shards."""
    out = paths[0].with_name("gathered.json")
    shards.main([*map(str, paths), "--out", str(out)])
    return json.loads(out.read_text())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [2, 8])
def test_a_cell_from_shards_is_the_cell_bit_for_bit(train, count):
    parts = [train(f"{number}.json", "--shard", number, count) for number in range(1, count + 1)]
    whole = json.loads(train("whole.json").read_text())
    cell = gather(*reversed(parts))
    provenance = cell.pop("provenance")
    of_the_whole = whole.pop("provenance")
    assert json.dumps(cell) == json.dumps(whole)
    assert provenance["commit"] == of_the_whole["commit"]
    assert provenance["shards"] == count
    of_parts = [json.loads(part.read_text())["provenance"] for part in parts]
    assert provenance["seconds"] == pytest.approx(sum(part["seconds"] for part in of_parts))


@pytest.mark.usefixtures("one_thread")
def test_what_is_not_all_shards_of_one_cell_is_one_line(train, capsys):
    first = train("1.json", "--shard", 1, 2)
    second = train("2.json", "--shard", 2, 2)
    other = train("3.json", "--shard", 2, 2, z=4.0)
    whole = train("whole.json")
    for paths, line in (
        ([first], "shards = [[1, 2]]: must be all shards of a cell, each once"),
        ([first, second, second], "shards = [[1, 2], [2, 2], [2, 2]]: must be all shards"),
        ([first, other], "z = 4.0, 3.0: must be the same in all shards of a cell; remove those"),
        ([first, whole], f"shard = {whole}: must be written with --shard"),
    ):
        with pytest.raises(SystemExit) as error:
            gather(*paths)
        assert error.value.code == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"study.experiments.shards: {line}")
        assert printed.count("\n") == 1
        assert not first.with_name("gathered.json").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--shard", "1", "3"), "count = 3: must be one of 1, 2, 4, 8"),
        (("--shard", "3", "2"), "number = 3: must be an integer in [1, 2]"),
        (("--seeds", "0"), "seeds = 0: must be an integer in [1, inf)"),
    ],
)
def test_a_shard_that_there_cannot_be_is_one_line(train, capsys, options, line):
    with pytest.raises(SystemExit) as error:
        train("shard.json", *options)
    assert error.value.code == 2
    assert capsys.readouterr().err == f"study.experiments.experiment_2: {line}\n"


# The Snakefile


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The study and what was tuned, but no cell."""
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "study", clone / "study", ignore=shutil.ignore_patterns("results"))
    return clone


def dry_run(clone, config):
    """What Snakemake would run of experiment 2."""
    (clone / "mine.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile", "--dry-run"]
    command += ["--printshellcmds", "--rerun-triggers=mtime", "--configfile=mine.yaml"]
    return subprocess.run(
        [*command, "--", "experiment_2"], cwd=clone, capture_output=True, text=True
    )


SMALL = {"tasks": ["xor"], "arms": ["csbp", "membrane"], "seeds": 2, "shards": 4}


def test_a_config_says_which_cells_are_trained_in_how_many_shards(clone):
    printed = dry_run(clone, SMALL).stdout
    trained = re.findall(
        r"study\.experiments\.experiment_2 (\S+) (\S+) .* --out (\S+) (.*)", printed
    )
    gathered = re.findall(r"study\.experiments\.shards (.*) --out (\S+)", printed)
    assert len(trained) == 4 * len(gathered) == 4 * 2 * 4  # starts and schedules, arms, shards
    written = {path: options for _, _, path, options in trained}
    for paths, cell in gathered:
        assert re.fullmatch(r"runs/study_seeds_2/experiment_2/xor/\w+/(csbp|membrane)\.json", cell)
        assert [written[path] for path in paths.split()] == [
            f"--seeds 2 --shard {number} 4" for number in range(1, 5)
        ]


def test_a_cell_that_is_there_is_not_trained_again_in_shards(clone, tmp_path):
    shutil.copytree(clone / "study", tmp_path / "study")
    config = SMALL | {"seeds": "all"}
    printed = dry_run(tmp_path, config).stdout
    tuned = re.findall(r"study\.experiments\.(?:tuning|start) .* --out (\S+)", printed)
    missing, *there = re.findall(r"study\.experiments\.shards .* --out (\S+)", printed)
    for file in (*there, *tuned):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(tmp_path / there[0], (1e9, 1e9))  # older than what it was made of, as in a clone
    printed = dry_run(tmp_path, config).stdout
    assert re.findall(r"study\.experiments\.shards .* --out (\S+)", printed) == [missing]
    assert len(re.findall(r"-m study\.experiments\.experiment_2", printed)) == 4


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"tasks": ["mnist"]}, "tasks = 'mnist': must be one of digits_1, "),
        ({"arms": "bp"}, "arms = 'bp': must be all, or a list of names"),
        ({"seeds": 0}, "seeds = 0: must be an integer in [1, inf)"),
        ({"shards": 3}, "shards = 3: must be one of 1, 2, 4, 8"),
        ({"seeds": 3, "shards": 8}, "8 shards of 3 networks: must be an even number of networks"),
        ({"task": ["xor"]}, "key of the config = 'task': must be one of tasks, "),
    ],
)
def test_a_config_that_is_wrong_is_one_line(monkeypatch, capsys, config, line):
    monkeypatch.setattr(sys, "argv", ["plan", json.dumps(config)])
    with pytest.raises(SystemExit) as error:
        plan.main()
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"study.experiments.plan: {line}")
    assert printed.count("\n") == 1


def test_snakemake_ends_with_the_line_of_a_config_that_is_wrong(clone):
    done = dry_run(clone, {"shards": 3})
    assert done.returncode == 2
    assert "study.experiments.plan: shards = 3: must be one of 1, 2, 4, 8" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_config_in_the_project_asks_for_all():
    config = yaml.safe_load((ROOT / "study" / "config.yaml").read_text())
    assert plan.plan(config) == plan.plan({})
    assert set(config) | {"python"} == set(plan.KEYS)
