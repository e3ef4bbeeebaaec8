"""Experiment 4: its network, what each arm adds to BP, and what a cell holds."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from helpers import authors_loss, lif_by_hand
from scipy.integrate import solve_ivp
from torch import nn
from torch.nn import functional as F

from csbp_core import chaotic_loss, neuron
from study.experiments import experiment_4
from study.experiments.experiment_4 import (
    EVERY_ARM,
    Setting,
    choose_start,
    main,
    networks_of,
    run_cell,
)
from study.experiments.start import STARTS_FROM_DATA
from study.fashion_mnist import measurements
from study.fashion_mnist.images import FashionMNIST, Images, Split
from study.fashion_mnist.measurements import accuracy, activity, robustness
from study.fashion_mnist.network import (
    Output,
    TemporalBatchNorm,
    new_image_network,
    set_currents,
)
from study.fashion_mnist.training import (
    Addition,
    AuthorsCSBP,
    OnFc1,
    QuadraticPull,
    annealed,
    fc1_stability,
    train,
)
from study.protocol import SPLITS, Networks, digest
from study.training.flow import with_ones
from study.training.robustness import NOISES, Draw

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = 20_000
SMALL = {"channels": (2, 3), "features": 5}
SETTING = Setting(images=100, epochs=1, **SMALL)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Compiling takes longer than all that is run here; the spikes are the same."""
    monkeypatch.setattr(neuron, "COMPILE_FROM", math.inf)


def made_images(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(number, 28, 28, generator=generator)
    return Images(x, torch.arange(number) % 10)


IMAGES = made_images(100)
DATA = FashionMNIST(train=made_images(150, seed=1), test=made_images(30, seed=2))


@pytest.fixture
def net():
    return new_image_network(SEED, **SMALL)


# The network


@pytest.mark.parametrize("is_still", [False, True])
def test_temporal_batch_norm_is_batch_norm_over_samples_and_steps_times_a_factor(is_still):
    x = torch.randn(4, 6, 3, 5, 5, dtype=torch.float64)
    if is_still:
        x = x[:1].expand(4, -1, -1, -1, -1)
    factors = torch.rand(4, dtype=torch.float64)
    ours = TemporalBatchNorm(3, steps=4).double()
    known = nn.BatchNorm3d(3).double()
    for norm in (ours.norm, known):
        nn.init.constant_(norm.weight, 0.7)
        nn.init.constant_(norm.bias, 0.2)
    ours.p.data.copy_(factors)
    y = ours(x[:1] if is_still else x)
    expected = known(x.permute(1, 2, 0, 3, 4)).permute(2, 0, 1, 3, 4)
    torch.testing.assert_close(y, factors.view(4, 1, 1, 1, 1) * expected)
    torch.testing.assert_close(ours.norm.running_mean, known.running_mean)


def layer_by_hand(current):
    zeros = np.zeros_like(current)
    return lif_by_hand(current, zeros, zeros[0], zeros, 0.25, 1.0, 1.0, detach_reset=False)


def pooled_by_hand(spikes):
    *rest, height, width = spikes.shape
    return spikes.reshape(*rest, height // 2, 2, width // 2, 2).mean((-3, -1))


@torch.no_grad()
def test_the_network_is_its_layers_one_after_the_other(net):
    set_currents(net, mean=0.5, spread=2.0)
    output = net.double().eval()(IMAGES.x[:7].double())
    assert output.spikes[1].mean() > 0.01  # there is something to compare
    x = IMAGES.x[:7].double().unsqueeze(1).repeat(4, 1, 1, 1)
    factor = 2 / math.sqrt(1 + 1e-5)  # mean 0 and variance 1 have been averaged before training
    current = (0.5 + factor * net.conv1(x)).unflatten(0, (4, 7))
    first = layer_by_hand(current.numpy())
    pooled = torch.from_numpy(pooled_by_hand(first.spikes))
    current = (0.5 + factor * net.conv2(pooled.flatten(0, 1))).unflatten(0, (4, 7))
    second = layer_by_hand(current.numpy())
    features = net.fc1(torch.from_numpy(pooled_by_hand(second.spikes)).flatten(2))
    np.testing.assert_allclose(output.potential, first.v, atol=1e-12)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, net.fc2(features).mean(0))


def test_a_start_from_the_data_has_its_mean_and_spread(net):
    set_currents(net, mean=0.25, spread=0.5)
    currents = []
    for norm in (net.norm1, net.norm2):
        norm.register_forward_hook(lambda module, inputs, output: currents.append(output))
    net(IMAGES.x)
    for current in currents:
        spread, mean = torch.std_mean(current, (0, 1, 3, 4), correction=0)
        torch.testing.assert_close(mean, torch.full_like(mean, 0.25), rtol=0, atol=1e-4)
        torch.testing.assert_close(spread, torch.full_like(spread, 0.5), rtol=0, atol=1e-3)


# What an arm adds


def trained(net, addition):
    """The parameters after one epoch of one batch, that is one step at the full rate."""
    train(net, addition, Split(IMAGES, IMAGES.at(torch.arange(0))), seed=0)
    return [parameter.detach() for parameter in net.parameters()]


def stepped(net, loss_of):
    """The parameters after one step of descent on a loss, by hand."""
    output = net(IMAGES.x)
    loss = F.cross_entropy(output.logits, IMAGES.y) + loss_of(output)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    pairs = zip(net.parameters(), gradients, strict=True)
    return [p.detach() - 0.1 * (g + 5e-4 * p.detach()) for p, g in pairs]


def authors(output):
    return authors_loss([output.potential, output.features], z=15.0, clamp=(-10.0, 9.9))


def parabolas(output):
    rest = 10 * math.log(0.65 / 0.35)
    stiffness = 15 * 0.15 / (10 * rest)
    pulled = (output.potential, output.features)
    return sum((stiffness / 2 * (h - rest) ** 2).mean() for h in pulled)


@pytest.mark.parametrize(
    ("addition", "loss"),
    [(Addition, lambda output: 0.0), (AuthorsCSBP, authors), (QuadraticPull, parabolas)],
    ids=["bp", "csbp", "quadratic"],
)
def test_a_step_is_the_gradient_of_the_loss_as_it_is_written(net, addition, loss):
    with torch.no_grad():
        net.fc1.bias.mul_(200)  # some h beyond the clamp
    twin = copy.deepcopy(net)
    assert (twin(IMAGES.x).features.abs() > 10).any()
    twin = copy.deepcopy(net)
    found = trained(net, addition(net, epochs=1))
    for ours, known in zip(found, stepped(twin, loss), strict=True):
        torch.testing.assert_close(ours, known, rtol=0, atol=2e-6)


def test_momentum_the_cosine_and_the_order_of_batches_are_those_of_a_loop_by_hand(net):
    data = Split(made_images(200, seed=3), IMAGES)
    ours, twin = net.double(), copy.deepcopy(net)
    data = Split(*(images._replace(x=images.x.double()) for images in data))
    history = train(ours, Addition(ours, epochs=2), data, seed=SEED)
    momenta = [torch.zeros_like(p) for p in twin.parameters()]
    generator = torch.Generator().manual_seed(SEED)
    orders = torch.cat([torch.randperm(200, generator=generator) for _ in range(2)])
    for step, rows in enumerate(orders.split(100)):
        lr = 0.1 * (1 + math.cos(math.pi * step / 4)) / 2
        loss = F.cross_entropy(twin(data.train.x[rows]).logits, data.train.y[rows])
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, m, g in zip(twin.parameters(), momenta, gradients, strict=True):
                m.mul_(0.9).add_(g + 5e-4 * p)
                p.sub_(lr * m)
    for found, known in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, known)
    assert history.curve[-1] == accuracy(twin, data.held_out)


def output_of(h):
    """An output whose potential and features are a tensor."""
    return Output(logits=h, potential=h, pooled=h, features=h, spikes=[])


@pytest.mark.parametrize("epoch", [0, 2])
def test_the_quadratic_pull_has_the_minimum_of_the_chaotic_loss_and_its_slope_at_zero(net, epoch):
    addition = QuadraticPull(net, epochs=4)
    addition.epoch = epoch
    at = torch.tensor([0.0, 10 * math.log(0.65 / 0.35)], requires_grad=True)
    (slopes,) = torch.autograd.grad(addition.loss(output_of(at)), at)
    z = 15 * 0.01 ** (epoch / 4)
    chaotic = 2 * chaotic_loss(at, z)  # of the potential and of the features
    (known,) = torch.autograd.grad(chaotic, at)
    torch.testing.assert_close(slopes, known, rtol=1e-5, atol=1e-7)


def test_z_of_csbp_falls_to_a_hundredth_as_that_of_its_control(net):
    addition = AuthorsCSBP(net, epochs=4)
    strengths = []
    for _ in range(4):
        net(IMAGES.x[:20])
        addition.chaos()
        strengths.append(addition.chaos.z)
        addition.end_epoch()
    assert strengths == pytest.approx([annealed(15.0, epoch, 4) for epoch in range(4)])
    assert addition.chaos.z == pytest.approx(0.15)


def on_fc1(net, z, is_flow):
    """What is added to fc1's gradient, `[features, fan_in + 1]`, and its weights and inputs."""
    fc1 = net.fc1
    output = net(IMAGES.x)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    addition = OnFc1(net, epochs=1, z_start=z, is_flow=is_flow)
    addition.add_gradient(output, lr=0.1)
    changed = [name for name, p in net.named_parameters() if p.grad.any()]
    assert changed == ["fc1.weight", "fc1.bias"]
    added = torch.cat([fc1.weight.grad, fc1.bias.grad.unsqueeze(1)], dim=1)
    theta = torch.cat([fc1.weight, fc1.bias.unsqueeze(1)], dim=1).detach()
    return added, theta, with_ones(output.pooled.detach().flatten(0, 1))


def test_csbp_on_fc1_adds_the_gradient_of_the_chaotic_loss_with_its_inputs_held(net):
    added, theta, inputs = on_fc1(net, z=300.0, is_flow=False)
    theta.requires_grad_()
    (known,) = torch.autograd.grad(chaotic_loss(inputs @ theta.T, 300.0, I0=0.525), theta)
    torch.testing.assert_close(added, known)


def test_inner_flow_on_fc1_adds_what_arrives_where_the_differential_equation_does(net):
    z = fc1_stability(net, IMAGES, I0=0.525).critical_z
    added, theta, inputs = on_fc1(net, z, is_flow=True)
    X = inputs.double().numpy()

    def field(_, flat):
        h = X @ flat.reshape(theta.shape).T
        excess = 1 / (1 + np.exp(-h / 10)) - 0.525
        return (-z * excess.T @ X / (10 * h.size)).ravel()

    start = theta.double().numpy().ravel()
    solved = solve_ivp(field, (0, 0.1), start, rtol=1e-8, atol=1e-10).y[:, -1]
    known = (start - solved).reshape(theta.shape) / 0.1
    np.testing.assert_allclose(added, known, rtol=0, atol=1e-3 * np.abs(known).max())
    plain_step, *_ = on_fc1(net, z, is_flow=False)
    assert (plain_step - added).norm() > 0.1 * added.norm()  # at z_c they differ


def test_the_strength_on_fc1_falls_from_its_own_start_to_the_same_end():
    assert [annealed(15_000.0, epoch, 5) for epoch in (0, 1, 5)] == pytest.approx(
        [15_000.0, 1500.0, 0.15]
    )


def test_fc1_is_measured_by_the_eigenvalue_of_its_inputs(net):
    before = copy.deepcopy(net.state_dict())
    found = fc1_stability(net, IMAGES)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    rows = with_ones(net(IMAGES.x).pooled.detach().flatten(0, 1)).double().numpy()
    lambda_max = np.linalg.eigvalsh(rows.T @ rows)[-1] / len(rows)
    assert found.lambda_max == pytest.approx(lambda_max, rel=1e-5)
    known = (3.8 / 0.1 - 5e-4) * 100 * SMALL["features"] / (0.65 * 0.35 * lambda_max)
    assert found.critical_z == pytest.approx(known, rel=1e-5)


# Measurements


def test_rate_and_dead_neurons_are_those_of_all_images(net):
    found = activity(net, DATA.test)
    with torch.no_grad():
        spikes = net.eval()(DATA.test.x).spikes
    assert found.rate == pytest.approx([float(layer.mean()) for layer in spikes], abs=1e-6)
    dead = [float((layer.sum((0, 1)) == 0).float().mean()) for layer in spikes]
    assert found.dead == pytest.approx(dead)
    assert max(dead) > 0


def test_images_are_tested_in_parts_as_in_one_go(net, monkeypatch):
    with torch.no_grad():
        right = net.eval()(DATA.test.x).logits.argmax(1) == DATA.test.y
    monkeypatch.setattr(measurements, "AT_ONCE", 7)
    assert accuracy(net, DATA.test) == pytest.approx(float(right.float().mean()))


@torch.no_grad()
def test_noise_is_that_of_the_split_on_pixels_and_that_of_the_seed_on_weights(net):
    set_currents(net, mean=0.5, spread=2.0)
    logits = net.eval()(DATA.test.x).logits
    net.fc2.bias.sub_(logits.mean(0))  # or all images would be of one class
    images = DATA.test._replace(y=net(DATA.test.x).logits.argmax(1))
    found = robustness(net, images, seed=SEED, split=3)
    assert found["weights"] != robustness(net, images, seed=SEED + 1, split=3)["weights"]
    assert found["inputs"] != robustness(net, images, seed=SEED, split=4)["inputs"]
    parameters = [p.detach() for p in net.parameters()]
    for level in range(3):
        right = {"inputs": [], "weights": []}
        for number in range(5):
            (x,) = Draw("inputs", level, number).noisy([images.x], 3)
            right["inputs"].append(net(x).logits.argmax(1) == images.y)
            twin = copy.deepcopy(net)
            noisy = Draw("weights", level, number).noisy(parameters, SEED)
            nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(noisy), twin.parameters())
            right["weights"].append(twin(images.x).logits.argmax(1) == images.y)
        for kind, answers in right.items():
            known = torch.stack(answers).double().mean()
            assert found[kind][level] == pytest.approx(float(known))
    assert [len(found[kind]) for kind in found] == [len(NOISES[kind].levels) for kind in found]


# Cells


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(measurements, "DRAWS", 1)


NETWORKS = Networks(seeds=[SEED, SEED + 1], splits=[1, 2])


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("arm", EVERY_ARM)
def test_a_cell_repeats_and_holds_what_json_can(arm):
    start = (0.5, 0.5) if arm == "bp_data" else None
    cell = run_cell(arm, DATA, NETWORKS, SETTING, start)
    assert json.loads(json.dumps(cell, allow_nan=False))["seeds"] == NETWORKS.seeds
    assert cell == run_cell(arm, DATA, NETWORKS, SETTING, start)
    assert np.array(cell["curve"]).shape == (1, 2)
    assert np.array(cell["rate"]).shape == (2, 2)
    assert np.array(cell["robustness"]["weights"]).shape == (3, 2)
    adds = {"bp": 0, "bp_data": 0}.get(arm, 1)
    assert (np.array(cell["added_loss"]) > 0).all() == adds
    assert len(cell["gradient_share"]) == (arm == "csbp")


@pytest.mark.usefixtures("few_draws")
def test_a_network_of_a_cell_is_as_if_trained_alone():
    together = run_cell("csbp", DATA, NETWORKS, SETTING)
    alone = run_cell("csbp", DATA, Networks([SEED + 1], [2]), SETTING)
    for name in ("accuracy", "curve", "added_loss", "dead"):
        np.testing.assert_array_equal(np.array(together[name])[..., 1:], np.array(alone[name]))


@pytest.mark.usefixtures("few_draws")
def test_without_images_to_hold_out_there_is_no_curve():
    cell = run_cell("bp", DATA, Networks([SEED], [1]), SETTING._replace(images=150))
    assert cell["curve"] == [[None]]


def test_the_final_networks_are_three_for_each_split_and_one_on_fc1_alone():
    seeds = [seed for number in SPLITS for seed in networks_of("bp", number).seeds]
    assert seeds == list(range(1000, 1024))
    firsts = [networks_of("fc1_csbp", number) for number in SPLITS]
    assert firsts == [Networks([seed], [split]) for split, seed in enumerate(seeds[::3], start=1)]


def test_the_start_is_the_one_with_the_best_mean_on_held_out_images(monkeypatch):
    accuracies = iter([0.5, 0.7, 0.9, 0.3, 0.8, 0.4])  # two networks from each of three starts
    seen = []

    def recorded(net, addition, split, seed):
        norm = net.norm2.norm
        seen.append((seed, norm.bias[0].item(), norm.weight[0].item()))
        return experiment_4.History([0.0, next(accuracies)], [])

    monkeypatch.setattr(experiment_4, "train", recorded)
    chosen = choose_start(DATA, SETTING, NETWORKS)
    assert seen == [(seed, *start) for start in STARTS_FROM_DATA for seed in NETWORKS.seeds]
    assert chosen["start_from_data"] == STARTS_FROM_DATA[0]  # the first of three with a mean of .6
    assert [choice["accuracy"] for choice in chosen["choices"]] == [
        [0.5, 0.7],
        [0.9, 0.3],
        [0.8, 0.4],
    ]


# The command


@pytest.fixture
def loaded(monkeypatch):
    """No files are needed: whatever the folder, these images are in it."""
    monkeypatch.setattr(experiment_4, "load", lambda folder, given_as: DATA)


SMALL_OPTIONS = ["--images", "100", "--channels", "2", "3", "--features", "5", "--epochs", "1"]


@pytest.mark.usefixtures("few_draws", "loaded")
def test_the_command_writes_a_cell_with_its_provenance(tmp_path):
    start = tmp_path / "start.json"
    start.write_text(json.dumps({"start_from_data": [0.25, 0.5], "choices": []}))
    out = tmp_path / "cell.json"
    given = ["--split", "2", "--networks", "1", "--start", str(start), "--data", "x"]
    main(["train", "bp_data", *given, *SMALL_OPTIONS, "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    expected = run_cell("bp_data", DATA, Networks([1003], [2]), SETTING, (0.25, 0.5))
    assert cell["added_loss"] == expected["added_loss"]
    assert (cell["accuracy"], cell["seeds"]) == (expected["accuracy"], [1003])
    assert (cell["device"], cell["images"]) == ("cpu", 100)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("arm", "options", "reason"),
    [
        ("bp", ["--images", "105"], "images = 105: must be a multiple of 10"),
        ("bp", ["--epochs", "0"], "epochs = 0: must be an integer in [1, inf)"),
        ("bp", ["--networks", "4"], "networks = 4: must be an integer in [1, 3]"),
        ("bp", ["--channels", "0", "4"], "channels[0] = 0: must be an integer in [1, inf)"),
        ("bp", ["--start", "start.json"], "--start = start.json: bp_data has one, no other arm"),
        ("bp_data", [], "--start = None: bp_data has one, no other arm does"),
        ("bp_data", ["--start", "nowhere.json"], "--start = nowhere.json: must be"),
        ("bp", ["--images", "1000"], "images of a class = 100: class 0 has no more than 15"),
    ],
)
def test_bad_options_are_one_line(arm, options, reason, tmp_path, capsys):
    words = ["train", arm, "--split", "1", "--data", "x", *options]
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "cell.json")])
    said = capsys.readouterr().err
    assert said.startswith(f"study.experiments.experiment_4: {reason}")
    assert said.count("\n") == 1


def test_a_cell_of_another_command_is_no_start(tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"start_from_data": None}))
    words = ["train", "bp_data", "--split", "1", "--data", "x", "--start", str(other)]
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "cell.json")])
    assert "must be what study.experiments.experiment_4 start wrote" in capsys.readouterr().err


def test_a_start_is_for_bp_data_alone():
    with pytest.raises(ValueError, match=r"start_from_data = None: bp_data has one"):
        run_cell("bp_data", DATA, NETWORKS, SETTING)
    with pytest.raises(ValueError, match=r"start_from_data = \(0.5, 0.5\)"):
        run_cell("csbp", DATA, NETWORKS, SETTING, (0.5, 0.5))
