"""Exponents of a layer alone, against the multipliers of its linear map, and of made-up growth."""

import json
import math

import numpy as np
import pytest
import torch

from study.chaos import of_a_layer
from study.chaos.of_a_layer import LayerAlone, layer_exponent, main, run_cell
from study.protocol import PROTOCOL, Networks, digest
from study.tasks.tasks import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = Networks(seeds=[20_000, 20_001], splits=[13, 13])


@pytest.fixture
def xor():
    """A twentieth of the training."""
    return TASKS["xor"]._replace(epochs=200)


def multipliers_at_rest(layer):
    """Moduli of gradient descent with momentum about h = h*, in each direction of the inputs."""
    x, _ = layer.run.batch(0)
    X = torch.cat([x[0], torch.ones(4, 1)], dim=1).double().numpy()
    curvature = layer.I0 * (1 - layer.I0) / (100 * 4 * 4) * np.linalg.eigvalsh(X.T @ X)
    steep = layer.lr * float(layer.z[0]) * curvature
    return [np.abs(np.roots([1, -(1.9 - each), 0.9])).max() for each in steep]


def test_below_the_critical_z_it_is_the_largest_multiplier(xor):
    layer = LayerAlone(xor, "inside", 0.9, 0.4, NETWORKS)
    known = math.log(max(multipliers_at_rest(layer)))
    found = layer.exponents()
    assert found.layer.tolist() == pytest.approx([known] * 2, abs=5e-3)
    assert found.one_twin.tolist() == pytest.approx([known] * 2, abs=5e-3)
    assert found.chaotic.tolist() == [0.0, 0.0]


def test_at_twice_the_critical_z_the_layer_is_chaotic(xor):
    found = LayerAlone(xor, "inside", 2.0, 0.4, NETWORKS).exponents()
    assert found.layer.min() > 0.1
    assert found.chaotic.min() > 0


def test_z_is_the_ratio_times_that_at_which_a_multiplier_leaves_the_circle(xor):
    for ratio, is_stable in ((0.98, True), (1.02, False)):
        layer = LayerAlone(xor, "published", ratio, 0.4, NETWORKS)
        assert (max(multipliers_at_rest(layer)) < 1) == is_stable


def test_another_learning_rate_gives_the_same_orbit(xor):
    layers = [LayerAlone(xor, "inside", 2.0, lr, NETWORKS) for lr in (0.4, 0.8)]
    states = [layer.start() for layer in layers]
    for n in range(20):
        states = [layer.step(state, n) for layer, state in zip(layers, states, strict=True)]
    torch.testing.assert_close(states[0][0], states[1][0])


def test_neurons_by_themselves_go_where_their_layer_goes(xor):
    layer = LayerAlone(xor, "inside", 2.0, 0.4, NETWORKS)
    state = layer.start()
    neurons = [part.flatten(0, 1) for part in state]
    for n in range(5):
        state = layer.step(state, n)
        neurons = layer.step_of_neurons(neurons, n)
    for part, of_neurons in zip(state, neurons, strict=True):
        assert torch.equal(part.flatten(0, 1), of_neurons)


def test_no_neuron_feels_another(xor):
    layer = LayerAlone(xor, "inside", 2.0, 0.4, NETWORKS)
    theta, momentum = layer.start()
    moved = theta.clone()
    moved[0, 0] += 1
    first = layer.step([theta, momentum], 0)[0]
    second = layer.step([moved, momentum], 0)[0]
    assert not torch.equal(first[0, 0], second[0, 0])
    assert torch.equal(first[0, 1:], second[0, 1:])
    assert torch.equal(first[1], second[1])


def test_a_systems_exponent_is_that_of_a_vector_of_all_its_parts():
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.5, 1.8, size=(60, 3, 4))  # [steps, S, parts]
    distances = np.linalg.norm(factors.cumprod(axis=0), axis=2)  # of a vector that starts as ones
    known = np.log(distances[-1] / distances[19]) / 40
    np.testing.assert_allclose(layer_exponent(np.log(factors), 20), known, rtol=1e-9)


def test_ratios_and_networks_are_those_of_the_protocol():
    text = " ".join(PROTOCOL.read_text().split())
    assert "16 networks of a split that is used nowhere else (13)" in text
    assert Networks(list(range(20_000, 20_016)), [13] * 16) == of_a_layer.NETWORKS
    assert {0.9, 2.0} < set(of_a_layer.RATIOS)


@pytest.fixture
def short(monkeypatch, xor):
    monkeypatch.setitem(of_a_layer.TASKS, "xor", xor._replace(epochs=20))


def test_the_command_writes_every_rest_and_ratio(short, tmp_path, monkeypatch):
    monkeypatch.setattr(of_a_layer, "NETWORKS", NETWORKS)
    out = tmp_path / "cell.json"
    main(["xor", "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    places = [(layer["rest"], layer["ratio"]) for layer in cell["layers"]]
    assert places == [
        (rest, ratio)
        for rest in ("inside", "published")
        for ratio in (0.9, 1.1, 1.5, 2.0, 3.0, 4.0)
    ]
    for layer in cell["layers"]:
        assert np.shape([layer[name] for name in ("exponent", "chaotic", "one_twin")]) == (3, 2)
    assert json.loads(json.dumps(run_cell("xor", NETWORKS)))["layers"] == cell["layers"]


def test_a_task_with_more_layers_is_refused():
    with pytest.raises(ValueError, match="name = 'digits_3': must be one of digits_1, randman_1"):
        run_cell("digits_3", NETWORKS)
