"""Exponents along a training and their causes, against linear maps whose multipliers are known."""

import json
import math

import numpy as np
import pytest
import torch

from study.chaos import of_training
from study.chaos.of_training import (
    Descent,
    curvature,
    ends_of_spectrum,
    follow,
    main,
    multiplier,
    run_cell,
    spikes_of,
)
from study.protocol import Networks, digest
from study.tasks.tasks import TASKS
from study.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

MOMENTUM = 0.9
LR = 0.1
LIMIT = 2 * (1 + MOMENTUM) / LR  # of a curvature, beyond which a step overshoots


def linear(curvatures):
    """Descent on ``sum c w^2 / 2`` from a network each, `[S, weights]`; it spikes where w > 0."""
    curvatures = torch.tensor(curvatures, dtype=torch.float64)

    def step(state, n):
        w, p = state
        p = MOMENTUM * p + curvatures * w
        return [w - LR * p, p]

    return Descent(step, lambda state, n: (state[0] > 0).double(), LR, MOMENTUM)


def start(networks, weights):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(networks, weights, generator=generator, dtype=torch.float64)
    return [w, torch.zeros_like(w)]


def at_rest(networks, weights):
    """Where a linear map stays, however fast everything beside it grows."""
    return [torch.zeros(networks, weights, dtype=torch.float64) for _ in range(2)]


CASES = {  # curvatures of one network, and those of the fastest direction
    "negative curvature": ([-3.0, 1.0, 5.0], -3.0),
    "overshoot": ([1.0, 5.0, 1.2 * LIMIT], 1.2 * LIMIT),
    "both, overshoot the faster": ([-0.1, 1.3 * LIMIT], 1.3 * LIMIT),
    "flat": ([0.0, 1.0], 0.0),
}


@pytest.mark.parametrize(("curvatures", "fastest"), CASES.values(), ids=CASES)
def test_the_growth_of_a_linear_map_is_its_largest_multiplier(curvatures, fastest):
    found = follow(linear([curvatures]), at_rest(1, len(curvatures)), steps=300)
    known = math.log(max(abs(np.roots([1, -(1 + MOMENTUM - LR * fastest), MOMENTUM]))))
    np.testing.assert_allclose(found.growth[100:].mean(0), known, atol=1e-4)


@pytest.mark.parametrize(("curvatures", "fastest"), CASES.values(), ids=CASES)
def test_the_steepness_along_the_difference_is_that_of_the_fastest_direction(curvatures, fastest):
    found = follow(linear([curvatures]), at_rest(1, len(curvatures)), steps=300, distances=[1e-3])
    np.testing.assert_allclose(found.steepness[-1], fastest / LIMIT, atol=1e-3)


def test_a_difference_turns_round_where_a_step_overshoots():
    descent = linear([[1.0, 1.2 * LIMIT], [1.0, -3.0]])
    found = follow(descent, at_rest(2, 2), steps=300, distances=[1e-9, 1e-3])
    np.testing.assert_allclose(found.turn[-1], [[-1, 1], [-1, 1]], atol=1e-6)


def test_the_share_of_flipped_spikes_is_that_of_the_states():
    stages = []

    def spikes(state, n):
        stages.append(state[0].clone())
        return (state[0] > 0).double()

    descent = linear([[1.0] * 50])._replace(spikes=spikes)
    found = follow(descent, start(1, 50), steps=3, distances=[1e-9, 1.0])
    assert (found.flipped[:, 0] == 0).all()
    for n in range(3):
        far, _, training = stages[3 * n : 3 * n + 3]  # twins from the last to the first
        by_hand = ((far > 0) != (training > 0)).double().mean()
        assert found.flipped[n, 1, 0] == by_hand > 0


# The spectrum


@pytest.mark.parametrize("seed", range(3))
def test_the_ends_of_a_spectrum_are_those_of_numpy(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(80, 80)) + np.diag(np.linspace(-60, 60, 80))  # not symmetric
    ends = ends_of_spectrum(
        lambda w: torch.from_numpy(matrix) @ w.sin(),  # whose J at 0 is the matrix
        torch.zeros(80, dtype=torch.float64),
    )
    known = np.linalg.eigvals(matrix)
    assert ends.steepest.real == pytest.approx(known.real.max(), rel=2e-3)
    assert ends.lowest.real == pytest.approx(known.real.min(), rel=2e-3)


@pytest.mark.parametrize("eigenvalue", [-2.0, 0.0, 1.0, 0.99 * LIMIT, 1.01 * LIMIT, 3 + 4j, 3 - 4j])
def test_a_multiplier_is_the_largest_eigenvalue_of_a_step(eigenvalue):
    step = [[1 - LR * eigenvalue, -LR * MOMENTUM], [eigenvalue, MOMENTUM]]  # of (w, p)
    known = max(np.linalg.eigvals(step), key=abs)
    assert abs(multiplier(eigenvalue, LR, MOMENTUM)) == pytest.approx(abs(known))


def test_a_step_is_unstable_beyond_the_limit_and_below_zero_alone():
    assert abs(multiplier(0.99 * LIMIT, LR, MOMENTUM)) < 1
    assert multiplier(1.01 * LIMIT, LR, MOMENTUM).real < -1
    assert multiplier(-0.01, LR, MOMENTUM).real > 1


# Of a training


def xor_run(seeds, arm="csbp"):
    splits = [13] * len(seeds)
    return Training(TASKS["xor"], arm, seeds, lr=0.4, z=5.0, dtype=torch.float64, splits=splits)


def test_the_spectrum_of_a_network_is_that_of_its_whole_matrix():
    run = xor_run([20_000, 20_001])
    state = run.start()
    for n in range(30):
        state = run.step(state, n)
    alone = xor_run([20_001])
    weights = [tensor[1:] for tensor in state[: len(run.names)]]
    columns = []
    for which, weight in enumerate(weights):
        for place in range(weight.numel()):
            both = []
            for sign in (-1, 1):
                moved = [other.clone() for other in weights]
                moved[which].view(-1)[place] += sign * 1e-8
                both.append(torch.cat([g.flatten() for g in alone.gradients(moved, 30)]))
            columns.append((both[1] - both[0]) / 2e-8)
    known = torch.linalg.eigvals(torch.stack(columns, dim=1))
    ends = curvature(alone, state, 1, 30)
    assert ends.steepest.real == pytest.approx(known.real.max().item(), rel=5e-3, abs=1e-6)
    assert ends.lowest.real == pytest.approx(known.real.min().item(), rel=5e-3, abs=1e-6)


def test_spikes_are_those_that_the_step_sees():
    run = xor_run([20_000, 20_001])
    spikes = spikes_of(run, run.start(), 7)
    x, _ = run.batch(7)
    (layer,) = run.forward(run.start()[: len(run.names)], x).layers
    assert spikes.shape == (2, 8 * 4 * 4)  # steps, samples, neurons
    assert torch.equal(spikes, layer.spikes.flatten(1))


# The command


NETWORKS = Networks(seeds=[20_000, 20_001], splits=[13, 13])


@pytest.fixture
def tuned(tmp_path):
    """What tuning has written for BP."""
    choice = {"task": "xor", "arm": "bp", "lr": 0.4, "z": 1.0, "epochs": 20}
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(choice | {"start_from_data": None, "schedule": "constant"}))
    return path


def test_the_command_writes_a_record_of_every_part(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(of_training, "NETWORKS", NETWORKS)
    out = tmp_path / "cell.json"
    main(["xor", "bp", "--tuned", str(tuned), "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    assert [part["epoch"] for part in cell["parts"]] == [0, 4, 8, 12, 16]
    for part in cell["parts"]:
        assert np.shape(part["exponent"]) == np.shape(part["flipped"]) == (6, 2)
        assert np.shape(part["steepness"]) == np.shape(part["growth_lowest"]) == (2,)
    again = run_cell("xor", "bp", json.loads(tuned.read_text()), NETWORKS)
    assert json.loads(json.dumps(again))["parts"] == cell["parts"]


@pytest.mark.parametrize(
    "changed", [{"schedule": "cosine"}, {"start_from_data": [0.5, 0.5]}], ids=["schedule", "start"]
)
def test_other_conditions_are_refused_in_one_line(tuned, tmp_path, capsys, changed):
    tuned.write_text(json.dumps(json.loads(tuned.read_text()) | changed))
    with pytest.raises(SystemExit):
        main(["xor", "bp", "--tuned", str(tuned), "--out", str(tmp_path / "cell.json")])
    must = "must be of torch's start and a constant rate"
    assert capsys.readouterr().err == f"study.chaos.of_training: --tuned = {tuned}: {must}\n"


def test_an_arm_that_is_not_looked_at_is_refused():
    with pytest.raises(ValueError, match="arm = 'membrane': must be one of bp, csbp"):
        run_cell("xor", "membrane", {}, NETWORKS)
