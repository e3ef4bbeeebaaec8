import ast
import functools
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from csbp_core import chaotic_loss, critical_z
from study import analysis, cell, collect, data, train
from study.train import ARMS, TASKS, Training

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")


# data


def test_split_is_disjoint_stratified_and_fixed():
    y = np.arange(1797) % 10
    parts = data.split(np.arange(1797)[:, None], y)
    rows = torch.cat(parts[::2]).flatten().tolist()
    assert [len(part) for part in parts[::2]] == [1000, 297, 500]
    assert sorted(rows) == list(range(1797))
    for x, labels in zip(parts[::2], parts[1::2], strict=True):
        assert np.array_equal(labels, y[x.flatten().long()])
        assert np.ptp(np.bincount(labels)) <= 1
    assert all(torch.equal(*pair) for pair in zip(parts, data.split(np.arange(1797)[:, None], y), strict=True))


def test_digits():
    flat, image = data.digits(), data.digits(image=True)
    assert flat.x_train.shape == (1000, 64)
    assert (flat.x_train.min(), flat.x_train.max()) == (0, 1)
    assert torch.equal(image.x_test.flatten(1), flat.x_test)


def test_randman_every_unit_spikes_once_and_classes_differ():
    made, again, other = data.randman(), data.randman(), data.randman(seed=1)
    for x in made[::2]:
        assert x.shape[1:] == (20, 20)
        assert torch.equal(x.sum(1), torch.ones(len(x), 20))
    assert all(torch.equal(*pair) for pair in zip(made, again, strict=True))
    assert not torch.equal(made.x_train, other.x_train)
    times, y = made.x_train.argmax(1), made.y_train
    assert (times.min(), times.max()) == (0, 19)
    nearest = torch.cdist(times.float(), times.float()).fill_diagonal_(math.inf).argmin(1)
    assert (y[nearest] == y).float().mean() > 0.9  # one curve per class, apart from the others'


def test_manifold_is_smooth_and_alpha_says_how():
    grid = np.linspace(0, 1, 2001)[:, None]
    smooth, rough = (data.manifold(grid, 50, alpha, np.random.default_rng(0)) for alpha in (2.0, 0.5))
    assert np.array_equal(smooth.min(0), np.zeros(50))
    assert np.array_equal(smooth.max(0), np.ones(50))
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.02
    assert np.abs(np.diff(rough, axis=0)).sum() > 5 * np.abs(np.diff(smooth, axis=0)).sum()
    waves = np.stack([np.ones(2001), np.sin(2 * np.pi * grid[:, 0]), np.cos(2 * np.pi * grid[:, 0])], 1)
    one = data.manifold(grid, 5, 2.0, np.random.default_rng(0), cutoff=1)  # a single wave, shifted
    np.testing.assert_allclose(waves @ np.linalg.lstsq(waves, one)[0], one, atol=1e-12)


# many networks at once


def ordinary(task, arm, seed, lr, z, steps, dtype):
    """A plain training loop of one network: its parameters after `steps` steps."""
    net, loaded = train.new_net(task, seed).to(dtype), task.data()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    generator, per_epoch = torch.Generator().manual_seed(seed), 1000 // task.batch
    for n in range(steps):
        epoch, place = divmod(n, per_epoch)
        if place == 0:
            rows = torch.randperm(1000, generator=generator).split(task.batch)
        x, y = loaded.x_train[rows[place]].to(dtype), loaded.y_train[rows[place]]
        logits, read = net(x if net.static else x.transpose(0, 1))
        loss = F.cross_entropy(logits, y)
        for (h, _, _), neuron in zip(read, net.neurons, strict=True):
            if arm != "bp":
                loss = loss + chaotic_loss(neuron.v if arm == "membrane" else h, z * 0.01 ** (epoch / task.epochs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def vectorised(task, arm, seeds, lr, z, steps, dtype=torch.float64):
    run = Training(task, arm, seeds, lr, z, dtype=dtype)
    state = functools.reduce(run.step, range(steps), run.start())
    return state[: len(state) // 2]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("arm", ["bp", "csbp", "membrane"])
@pytest.mark.parametrize("name", ["digits_1", "digits_3", "digits_conv", "randman_1"])
def test_equals_separate_runs(name, arm, dtype, tolerance):
    task, seeds, lrs, zs = TASKS[name]._replace(batch=100), (0, 5, 9), (0.05, 0.1, 0.1), (5.0, 5.0, 20.0)
    together = vectorised(task, arm, seeds, lrs, zs, 20, dtype)
    for i, setting in enumerate(zip(seeds, lrs, zs, strict=True)):
        for ours, theirs in zip(together, ordinary(task, arm, *setting, 20, dtype), strict=True):
            torch.testing.assert_close(ours[i], theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("arm", ARMS)
def test_a_seed_does_not_depend_on_its_neighbours(arm):
    alone = vectorised(TASKS["digits_1"], arm, [7], 0.1, 5.0, 20)
    among = vectorised(TASKS["digits_1"], arm, [3, 7, 8], 0.1, 5.0, 20)
    for one, many in zip(alone, among, strict=True):
        torch.testing.assert_close(one[0], many[1], rtol=0, atol=1e-10)


def test_xor_and_what_is_measured():
    run = Training(TASKS["xor"], "bp", range(20), 0.1)
    state, curve = run.train(100)
    assert curve.shape == (10, 20)
    measured = run.evaluate(state, run.data.x_test, run.data.y_test)
    assert torch.equal(measured["accuracy"], curve[-1])
    for i in range(20):
        net = TASKS["xor"].net()
        net.load_state_dict({name: p[i] for name, p in zip(run.names, state, strict=False)})
        logits, ((h, _, spikes),) = net(run.data.x_test)
        solved = (logits.argmax(1) == run.data.y_test).all()
        silent = (spikes.sum((0, 1)) == 0).double().mean()
        expected = torch.stack([solved.double(), silent, spikes.mean(), torch.sigmoid(h / 10).mean()])
        torch.testing.assert_close(torch.stack([value[i].double() for value in measured.values()]), expected.double())


# the arms


def test_quadratic_has_the_rest_and_the_slope_of_the_chaotic_loss():
    z, rest = torch.tensor([3.0], dtype=torch.float64), 10 * math.log(0.65 / 0.35)
    slopes = {}
    for at in (0.0, rest):
        h = torch.full((1, 4, 5, 6), at, dtype=torch.float64, requires_grad=True)
        for arm in ("quadratic", "csbp"):
            (slopes[arm, at],) = torch.autograd.grad(train.pull(arm, [(h, h, h)], z), h)
    torch.testing.assert_close(slopes["quadratic", 0.0], slopes["csbp", 0.0])
    assert slopes["csbp", 0.0][0, 0, 0, 0] == pytest.approx(3 * (0.5 - 0.65) / 10 / 120)
    for arm in ("quadratic", "csbp"):
        torch.testing.assert_close(slopes[arm, rest], torch.zeros(1, 4, 5, 6, dtype=torch.float64), rtol=0, atol=1e-15)


def test_noise_has_the_norms_of_the_chaotic_gradient():
    runs = {arm: Training(TASKS["digits_3"], arm, [0, 1], 0.1, 5.0, dtype=torch.float64) for arm in ("bp", "csbp", "noise")}
    weights = runs["bp"].start()[:8]
    bp, csbp, noise = (run.gradients(weights, 4) for run in runs.values())
    for g, with_chaos, with_noise in zip(bp, csbp, noise, strict=True):
        torch.testing.assert_close(train.norms(with_noise - g), train.norms(with_chaos - g))
    first, second = noise[0] - bp[0], runs["noise"].gradients(weights, 5)[0] - runs["bp"].gradients(weights, 5)[0]
    for one, other in ((first[0], first[1]), (first[0], second[0]), (first[0], csbp[0][0] - bp[0][0])):
        assert abs(F.cosine_similarity(one.flatten(), other.flatten(), dim=0)) < 0.1  # new per seed and step, no pull


@pytest.mark.parametrize("name", ["digits_1", "digits_conv"])
def test_high_starts_at_twice_the_critical_z_and_ends_where_csbp_ends(name):
    task = TASKS[name]
    run = Training(task, "high", [0, 1], [0.1, 0.2], 5.0)
    for i, lr in enumerate((0.1, 0.2)):
        x = run.batch(0)[0][i]
        X = F.unfold(x, 3).transpose(1, 2).flatten(0, 1) if x.dim() == 4 else x
        X = torch.cat([X, torch.ones(len(X), 1)], 1).repeat(4, 1).double()  # 4 time steps
        channels = 4 if x.dim() == 4 else 64
        limit = critical_z(float(torch.linalg.eigvalsh(X.T @ X)[-1]), lr, 0.9, reduction="mean", numel=len(X) * channels)
        assert float(run.z[i]) == pytest.approx(2 * limit, rel=1e-4)
    torch.testing.assert_close(run.z * run.beta**task.epochs, torch.full((2,), 0.05, dtype=torch.float64))
    constant = Training(task, "constant", [0], 0.1, 5.0)
    assert (constant.z * constant.beta**7).tolist() == [5.0]


# analysis


def test_paired_equals_scipy_and_all_sign_flips_by_hand():
    rng = np.random.default_rng(0)
    bp = rng.normal(0.9, 0.02, 10)
    arm = bp + rng.normal(0.01, 0.015, 10)
    row, d = analysis.paired(arm, bp), arm - bp
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((d.mean(), low, high))
    flipped = np.array([np.mean(d * signs) for signs in itertools.product((1, -1), repeat=10)])
    assert row["p"] == pytest.approx(np.mean(np.abs(flipped) >= abs(d.mean()) - 1e-12))


def test_paired_finds_an_effect_and_no_effect():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.01, (100, 64))
    found = analysis.paired(0.9 + 0.01 + noise[0], np.full(64, 0.9))
    assert found["low"] < 0.01 < found["high"]
    assert found["p"] < 1e-3
    none = [analysis.paired(0.9 + d, np.full(64, 0.9)) for d in noise]
    assert sum(row["p"] < 0.05 for row in none) <= 11  # 5 expected; more with probability 0.4 %
    assert sum(row["low"] > 0 or row["high"] < 0 for row in none) <= 11
    assert analysis.paired([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]) == {"difference": 0, "low": 0, "high": 0, "p": 1}


def test_holm_first_epoch_and_target():
    assert analysis.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert analysis.holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert analysis.first_epochs([[0.1, 0.9, 0.8], [0.1, 0.2, 0.3], [0.9, 0.1, 0.1]], 0.9, every=5) == [10, None, 5]
    assert analysis.target([[0.1, 0.9], [0.2, 0.8], [0.3, 0.95]]) == pytest.approx(0.88)


# cells


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """All arms of digits_1 with few seeds and two epochs, by the command line."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("study")

    def make(arm, name):
        known = [f"--{other}={folder / other}.json" for other in ("bp", "csbp") if (folder / f"{other}.json").exists()]
        small = "--seeds 3 --epochs 2 --tuning 18".split()
        cell.main(["digits_1", arm, "--out", str(folder / f"{name}.json"), *known, *small])
        return json.loads((folder / f"{name}.json").read_text())

    return make, {arm: make(arm, arm) for arm in ARMS}


def test_a_cell_repeats(mini):
    make, cells = mini
    for arm in ("csbp", "noise"):
        again = make(arm, "again")
        assert again.pop("provenance")
        assert again == {key: value for key, value in cells[arm].items() if key != "provenance"}


def test_cells_and_table(mini, tmp_path):
    _, cells = mini
    for arm, one in cells.items():
        assert arm == "matched" or one["lr"] in {row["lr"] for row in one["tuning"]}, arm
        assert len(one["tuning"]) == {"bp": 6, "high": 5, "noise": 5, "membrane": 15, "matched": 0}.get(arm, 18)
        assert np.shape(one["validation"]) == (3, one["epochs"])
        assert np.shape(one["exponent_quarters"]) == (3, 4)
        assert one["epochs"] <= 2
    assert cells["bp"]["z"] is None
    assert cells["high"]["z"] == cells["noise"]["z"] == cells["csbp"]["z"]
    assert [cells["matched"][key] for key in ("lr", "z", "epochs")] == [cells["csbp"][key] for key in ("lr", "z", "epochs")]
    for task in TASKS:
        (tmp_path / "runs" / task).mkdir(parents=True)
        for arm in ARMS:
            (tmp_path / "runs" / task / f"{arm}.json").write_text(json.dumps(cells[arm]))
    written = []
    for _ in range(2):
        collect.main(tmp_path / "runs", tmp_path / "results.json")
        written.append((tmp_path / "results.json").read_bytes())
    assert written[0] == written[1]
    rows = analysis.rows(json.loads(written[0])["results"])
    assert [(row["task"], row["arm"]) for row in rows] == [(task, arm) for task in TASKS for arm in ARMS]
    for row, (arm, one) in zip(rows, cells.items(), strict=False):
        assert row["accuracy"] == pytest.approx(np.mean(one["accuracy"]))
        if arm != "bp":
            assert row["difference"] == pytest.approx(np.mean(one["accuracy"]) - np.mean(cells["bp"]["accuracy"]))
            assert row["p"] <= row["p_holm"] <= 1


def test_snakefile_names_all_cells():
    text = (ROOT / "study" / "Snakefile").read_text()
    for name, names in (("TASKS", TASKS), ("ARMS", ARMS)):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} = "))
        assert ast.literal_eval(line.split(" = ")[1]) == list(names)


def test_arms_that_build_on_others_say_so():
    with pytest.raises(ValueError, match="arm = 'noise': needs the bp cell"):
        cell.candidates("noise", {"lr": 0.1}, None)


def test_a_fresh_clone_has_all_cells_to_run(tmp_path):
    """The committed results must not look finished: their cells are not there."""
    shutil.copytree(ROOT / "study", tmp_path / "study")
    line = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile", "--dry-run", "--quiet", "rules"]
    dry = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(rf"^cell\s+{len(TASKS) * len(ARMS)}$", dry.stdout + dry.stderr, re.M), dry.stderr
