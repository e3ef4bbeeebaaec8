"""The authors' settings: what their logs allow, and a bound held against layers and their data."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import prose
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats
from torch import nn
from torch.nn import functional as F

from csbp_core import critical_z, largest_eigenvalue
from csbp_notebooks.files import ROOT
from study.experiments.authors import (
    ACCURACY_LOGS,
    CIFAR100,
    DVS_CIFAR10,
    LOSS_LOGS,
    AccuracyLog,
    Layer,
    critical_z_bound,
    gain,
    loss_per_z,
    measured_critical_z,
    sampling_error,
    undecided_loss,
    z_at_start,
)
from study.tasks.tasks import TASKS
from study.training.arms import CLAMP
from study.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")


def written_out(h):
    """The chaotic loss of an element for z = 1, as the authors have it."""
    s = 1 / (1 + np.exp(-h / 10))
    return -0.65 * np.log(s) - 0.35 * np.log(1 - s)


# The logged losses


def test_a_layers_loss_lies_between_its_extremes_under_the_clamp():
    h = np.linspace(*CLAMP, 100_001)
    assert tuple(loss_per_z()) == pytest.approx(
        (written_out(h).min(), written_out(h).max()), abs=1e-8
    )


def test_the_least_loss_is_where_a_minimiser_finds_it():
    found = optimize.minimize_scalar(written_out, bounds=CLAMP, method="bounded")
    assert loss_per_z().low == pytest.approx(found.fun, abs=1e-9)


def test_where_h_is_small_the_loss_is_ln_2():
    assert undecided_loss() == pytest.approx(math.log(2))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_z_that_made_a_loss_is_allowed_by_it(layers):
    rng = np.random.default_rng(layers)
    z = 15.0
    h = rng.normal(0, 6, size=(layers, 1000)).clip(*CLAMP)
    loss = z * written_out(h).mean(axis=1).sum()
    low, high = z_at_start(LOSS_LOGS[0]._replace(lowest=loss, highest=loss), layers)
    assert low <= z <= high


@pytest.mark.parametrize("end", [0, 1])
def test_an_end_of_the_interval_is_a_layer_at_an_end_of_its_loss(end):
    loss = 12.0 * loss_per_z()[end]
    interval = z_at_start(LOSS_LOGS[0]._replace(lowest=loss, highest=loss), layers=1)
    assert interval[1 - end] == pytest.approx(12.0)


def test_all_epochs_count_for_the_interval():
    steady = z_at_start(LOSS_LOGS[0]._replace(lowest=20.0, highest=20.0), layers=2)
    moving = z_at_start(LOSS_LOGS[0]._replace(lowest=19.0, highest=21.0), layers=2)
    assert steady.low < moving.low < moving.high < steady.high


def test_a_number_of_layers_below_one_is_refused():
    with pytest.raises(ValueError, match=r"layers = 0: must be an integer in \[1, inf\)"):
        z_at_start(LOSS_LOGS[0], layers=0)


# The bound


def measured(layer, x):
    """The critical z of a layer with these inputs, `[rows, fan_in]`, by its own function."""
    module = nn.Linear(layer.fan_in, layer.outputs).double()
    lambda_max = largest_eigenvalue(module, [x])
    return critical_z(
        lambda_max,
        layer.lr,
        layer.momentum,
        reduction="mean",
        numel=len(x) * layer.outputs,
        weight_decay=layer.weight_decay,
    )


ALMOST = 1 + 1e-5  # as well as the power iteration converges


@given(
    fan_in=st.integers(1, 20),
    rows=st.integers(1, 30),
    dropout=st.sampled_from([0.0, 0.25, 0.5]),
    largest_input=st.sampled_from([0.5, 1.0, 4.0]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_no_random_inputs_get_below_the_bound(fan_in, rows, dropout, largest_input, share, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, fan_in)) >= dropout
    is_largest = rng.random((rows, fan_in)) < share  # the rest anywhere below
    x = np.where(is_largest, 1.0, rng.random((rows, fan_in))) * largest_input * kept
    layer = Layer(fan_in, 3, lr=0.1, weight_decay=0.1, dropout=dropout, largest_input=largest_input)
    assert critical_z_bound(layer) <= measured(layer, torch.tensor(x / (1 - dropout))) * ALMOST


@given(
    fan_in=st.integers(1, 20),
    rows=st.integers(1, 30),
    outputs=st.integers(1, 5),
    dropout=st.sampled_from([0.0, 0.25]),
    weight_decay=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=30, deadline=None)
def test_inputs_that_are_all_largest_meet_it(fan_in, rows, outputs, dropout, weight_decay):
    layer = Layer(fan_in, outputs, lr=0.1, dropout=dropout, weight_decay=weight_decay)
    x = torch.full((rows, fan_in), 1 / (1 - dropout), dtype=torch.float64)
    assert critical_z_bound(layer) == pytest.approx(measured(layer, x), rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("arm", ["bp", "csbp"])
def test_no_trained_layers_spikes_get_below_it(arm, dropout):
    run = Training(TASKS["digits_1"], arm, [20_000], lr=0.2, z=30.0)
    state, _ = run.train(epochs=2)
    weights = state[: len(run.names)]
    x = run.data.x_train[:100].unsqueeze(0)  # [1, 100, 64]
    (hidden,) = run.forward(weights, x).layers
    spikes = hidden.spikes[0]  # [T, 100, 64]
    torch.manual_seed(0)
    rows = F.dropout(spikes.double().flatten(0, 1), dropout)
    layer = Layer(64, 10, lr=0.2, dropout=dropout)
    assert 0.1 < spikes.mean() < 0.9
    assert critical_z_bound(layer) < measured(layer, rows)


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_with_all_inputs_largest_descent_rests_below_it_alone(factor):
    layer = Layer(fan_in=3, outputs=2, lr=0.1, momentum=0.5, weight_decay=0.0)
    x = torch.ones(4, 3, dtype=torch.float64)
    torch.manual_seed(0)
    module = nn.Linear(3, 2).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    z = factor * critical_z_bound(layer)
    outputs = []
    for _ in range(2000):
        h = module(x)
        outputs.append(h.detach())
        optimizer.zero_grad()
        soft = torch.full_like(h, 0.65)
        (z * F.binary_cross_entropy_with_logits(h / 10, soft)).backward()
        optimizer.step()
    swing = float((outputs[-1] - outputs[-2]).abs().max())
    assert (swing < 1e-6) == (factor < 1)


def test_weight_decay_lowers_it_by_the_factor_of_the_protocol():
    decayed = Layer(8, 4, lr=0.1, momentum=0.9, weight_decay=2.0)
    ratio = critical_z_bound(decayed) / critical_z_bound(decayed._replace(weight_decay=0.0))
    assert ratio == pytest.approx(1 - 0.1 * 2.0 / (2 * 1.9))


@pytest.mark.parametrize(
    ("layer", "by_hand"),
    [
        (DVS_CIFAR10, (3.8 / 0.1 - 5e-4) * 100 * 1024 / (0.2275 * (2304 * 16 / 9 + 1))),
        (CIFAR100, (3.8 / 0.1 - 5e-4) * 100 * 256 / (0.2275 * 8193)),
    ],
)
def test_of_the_authors_layers_it_is_the_formula(layer, by_hand):
    assert critical_z_bound(layer) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"fan_in": 0}, r"fan_in = 0: must be an integer in \[1, inf\)"),
        ({"outputs": 0.5}, r"outputs = 0.5: must be an integer in \[1, inf\)"),
        ({"dropout": 1.0}, r"dropout = 1.0: must be a number in \[0, 1\)"),
        ({"largest_input": 0.0}, r"largest_input = 0.0: must be a number in \(0, inf\)"),
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
    ],
)
def test_a_layer_out_of_range_is_refused(changed, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        critical_z_bound(DVS_CIFAR10._replace(**changed))


# The logged accuracies


@pytest.mark.parametrize("log", ACCURACY_LOGS, ids=lambda log: log.data_set)
def test_the_sampling_error_is_that_of_the_binomial_distribution(log):
    correct = stats.binom(log.test_samples, log.without / 100)
    in_points = 100 * correct.std() / log.test_samples
    assert sampling_error(log.without, log.test_samples) == pytest.approx(in_points)


def test_a_gains_error_is_the_spread_of_differences_of_two_test_sets():
    log = AccuracyLog("made up", 400, 70.0, 75.0, 70.0, 75.0)
    rng = np.random.default_rng(0)
    rights = rng.binomial(400, [[0.75], [0.70]], size=(2, 200_000)) / 4  # in points
    drawn = rights[0] - rights[1]
    assert gain(log) == pytest.approx((drawn.mean(), drawn.std()), rel=0.01)


@pytest.mark.parametrize("log", ACCURACY_LOGS, ids=lambda log: log.data_set)
def test_the_best_epoch_is_above_the_mean_of_the_last(log):
    assert log.best_without > log.without
    assert log.best_with_csbp > log.with_csbp


# What experiment 4 measured


def test_before_experiment_4_nothing_is_measured(tmp_path):
    assert measured_critical_z(tmp_path / "missing") == {}


def test_what_csbps_networks_measured_is_read_and_no_other(tmp_path):
    cells = {
        "csbp_1": {"arm": "csbp", "fc1_start": [100.0, 110.0], "fc1_end": [80.0, 85.0]},
        "csbp_2": {"arm": "csbp", "fc1_start": [120.0, None], "fc1_end": [90.0, 95.0]},
        "bp_1": {"arm": "bp", "fc1_start": [1.0], "fc1_end": [1.0]},
    }
    for name, cell in cells.items():
        for when in ("fc1_start", "fc1_end"):
            cell[when] = {"critical_z": cell[when]}
        (tmp_path / f"{name}.json").write_text(json.dumps(cell))
    (tmp_path / "start.json").write_text(json.dumps({"start_from_data": [0, 1]}))
    assert measured_critical_z(tmp_path) == {
        "start": [100.0, 110.0, 120.0],
        "end": [80.0, 85.0, 90.0, 95.0],
    }


# What notebook 09 says in words


NOTEBOOK = "notebooks/09_the_authors_settings.ipynb"


def test_the_opening_of_09_is_what_it_records():
    recorded = json.loads((ROOT / "images" / "authors_settings.json").read_text())["results"]
    ratios = recorded["z_over_critical_at_most"]
    in_dvs = [ratio for name, ratio in ratios.items() if name.startswith("DVS-CIFAR10")]
    in_cifar100 = [ratio for name, ratio in ratios.items() if name.startswith("CIFAR100")]
    assert "below a hundredth of $z_c$ in DVS-CIFAR10, and below a tenth in CIFAR100" in prose(
        NOTEBOOK
    )
    assert max(in_dvs) < 0.01 < max(in_cifar100) < 0.1


def test_what_09_says_of_the_logged_losses_is_in_the_logs():
    words = prose(NOTEBOOK)
    logs = {log.data_set: log for log in LOSS_LOGS}
    assert "DVS-CIFAR10 with two layers and DVS-Gesture with one fit $z = 15$" in words
    for data_set, layers in (("DVS-CIFAR10", 2), ("DVS-Gesture", 1)):
        assert logs[data_set].first / (layers * undecided_loss()) == pytest.approx(15, abs=0.05)
    assert "the loss changes by less than a hundredth" in words
    for log in LOSS_LOGS:
        assert max(log.highest / log.first - 1, 1 - log.lowest / log.first) < 0.01
    assert "it would fall by seven hundredths" in words
    assert 1 - loss_per_z().low / undecided_loss() == pytest.approx(0.07, abs=0.005)


@pytest.mark.parametrize("times", [0.9, 1.1])
def test_a_heavy_ball_swings_past_its_rest_from_the_ratio_of_09_on(times):
    """On a parabola of curvature 1, where x = lr z lambda is 2 (1 + m) at z_c."""
    m = 0.9
    assert r"(1 - \sqrt m)^2 / (2 (1 + m))" in prose(NOTEBOOK)
    x = 2 * (1 + m) * times * (1 - math.sqrt(m)) ** 2 / (2 * (1 + m))
    h, p = 1.0, 0.0
    lowest = h
    for _ in range(2000):
        p = m * p + h
        h -= x * p
        lowest = min(lowest, h)
    assert (lowest < 0) == (times > 1)
    assert abs(h) < 1e-6  # it comes back
