"""The rule for z on images: reports in the course of a training, and a cell as the others are."""

import json
import math

import numpy as np
import pytest
import torch

from csbp_core import neuron
from study.experiments.experiment_4 import Setting
from study.fashion_mnist.images import FashionMNIST, Images, Split
from study.fashion_mnist.network import new_image_network
from study.fashion_mnist.training import AuthorsCSBP, Z, train
from study.protocol import IMAGES, Networks
from study.rule_for_z import on_images
from study.rule_for_z.comparison import compare
from study.rule_for_z.on_images import Reported, run_cell
from study.rule_for_z.reports import PROBE, SIGNS

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = 20_000
EPOCHS = 2
UPDATES = 22  # in all, so that there are two reports


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Compiling takes longer than all that is run here; the spikes are the same."""
    monkeypatch.setattr(neuron, "COMPILE_FROM", math.inf)


def made_images(number, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(number, 28, 28, generator=generator)
    return Images(x, torch.arange(number) % 10)


SPLIT = Split(train=made_images(100 * UPDATES // EPOCHS, seed=0), held_out=made_images(20, seed=1))


def reported(z):
    net = new_image_network(SEED, (2, 3), features=5)
    addition = Reported(net, EPOCHS, z)
    train(net, addition, SPLIT, SEED)
    return net, addition


def test_reading_reports_leaves_the_authors_training_as_it_is():
    ours, _ = reported(Z)
    theirs = new_image_network(SEED, (2, 3), features=5)
    train(theirs, AuthorsCSBP(theirs, EPOCHS), SPLIT, SEED)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_odds_of_the_first_report_are_proportional_to_z():
    first = [reported(z)[1].first_reports for z in (1.0, 7.0)]
    assert [len(reports) for reports in first] == [2, 2]  # calls 1 and 21
    weak, strong = (reports[0] / (1 - reports[0]) for reports in first)
    assert strong == pytest.approx(7 * weak, rel=1e-4)


def test_a_far_too_large_z_is_warned_of_and_a_small_one_is_not():
    assert [reported(1e-3)[1].first(sign) for sign in SIGNS] == [None] * len(SIGNS)
    assert reported(1e6)[1].first("share") == 1


def made_cell(jobs):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neuron, "COMPILE_FROM", math.inf)
        patch.setattr("study.rule_for_z.on_a_task.SHARES", (0.1, 0.9))
        data = FashionMNIST(made_images(2300, seed=2), made_images(10, seed=3))
        networks = Networks(seeds=[SEED, SEED + 1], splits=[9, 10])
        setting = Setting(images=2100, channels=(2, 3), features=5, epochs=1)
        made = run_cell(data, networks, setting, jobs)
    torch.set_num_threads(threads)
    return made


@pytest.fixture(scope="module")
def cell():
    return made_cell(jobs=1)


def test_two_processes_make_the_cell_of_one(cell):
    assert made_cell(jobs=2) == cell


def test_a_cell_has_the_ladder_that_its_own_first_reports_give(cell):
    assert np.shape(cell["first_reports"]) == (2, 2, 1)
    shares = np.ravel(cell["first_reports"][0])  # of both networks
    tenth = np.median(PROBE * (1 / 9) / (shares / (1 - shares)))
    ladder = {(each["name"], each["share"]): each for each in cell["trainings"]}
    assert ladder["share", 0.1]["z"] == pytest.approx(tenth, rel=1e-3)  # the cell rounds
    assert [each["name"] for each in cell["trainings"]] == [
        "bp",
        "share",
        "share",
        "authors",
        "probe",
    ]
    for each in cell["trainings"]:
        assert each["accuracy"] == pytest.approx(np.mean(each["accuracies"]))


def test_the_z_that_others_are_held_against_is_the_best_of_the_ladder(cell):
    trained = [each for each in cell["trainings"] if each["z"] is not None]
    best = max(each["accuracy"] for each in trained)
    assert cell["z_tuned"] == min(each["z"] for each in trained if each["accuracy"] == best)


def test_its_cell_is_compared_with_those_of_the_tasks(cell):
    other = json.loads(json.dumps(cell))
    other["task"] = "digits_1"
    found = compare([json.loads(json.dumps(cell)), other])["bp_lr"]
    assert set(found["without"]) == {IMAGES, "digits_1"}
    assert found["best_of_ladder"][IMAGES] == pytest.approx(0)  # that is its tuned z


def test_the_command_needs_the_data(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        on_images.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "cell.json")])
    must = f"--data = {tmp_path / 'none'}: must be a folder with the files of Fashion-MNIST"
    assert capsys.readouterr().err == f"study.rule_for_z.on_images: {must}\n"
