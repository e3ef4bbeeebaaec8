"""Many networks at once, held against one network at a time; and what the arms do to training."""

import functools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from csbp_core import chaotic_loss
from study.tasks.networks import LayerOutput, Net, convolutional, dense, per_network
from study.tasks.tasks import TASKS, new_net
from study.training.arms import ARMS, Arm
from study.training.train import Training, sample_order

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 20


# one network, by hand


class LayerByHand(NamedTuple):
    """A hidden layer, neurons in their places; with a copy of its input for the eigenvalue."""

    inputs: np.ndarray  # [T, N, *]
    current: np.ndarray  # [T, N, *]
    potential: np.ndarray  # after the reset at the last step, [N, *]
    spikes: np.ndarray  # [T, N, *]


def drive_by_hand(drive, x):
    """A linear layer, or a convolution of one channel, on one time step `[N, *]`."""
    weight = drive.weight.detach().numpy()
    bias = drive.bias.detach().numpy()
    if isinstance(drive, nn.Linear):
        return x @ weight.T + bias
    patches = np.lib.stride_tricks.sliding_window_view(x[:, 0], weight.shape[2:], axis=(1, 2))
    current = np.einsum("nijkl,okl->noij", patches, weight[:, 0])  # [N, channels, positions]
    return current + bias[:, None, None]


def net_by_hand(net, x):
    """Logits and layers of a network in plain NumPy: leak 0.5, threshold 1, hard reset to 0.

    x is `[T, N, *]`. The readout is called at every time step, and what it gives is averaged.
    """
    layers = []
    for drive in net.hidden:
        v = 0.0
        spiked = 0.0
        currents, spikes = [], []
        for x_now in x:
            currents.append(drive_by_hand(drive, x_now))
            v = 0.5 * v * (1 - spiked) + currents[-1]
            spiked = (v > 1).astype(float)
            spikes.append(spiked)
        spikes = np.stack(spikes)
        layers.append(LayerByHand(x, np.stack(currents), v * (1 - spiked), spikes))
        x = spikes
    outputs = [drive_by_hand(net.readout, step.reshape(len(step), -1)) for step in x]
    return sum(outputs) / len(outputs), layers


def some_input(name, samples=6):
    """Training samples of a task, as its network takes them, in float64."""
    task = TASKS[name]
    net = new_net(task, seed=3).double()
    with torch.no_grad():
        for drive in net.hidden:
            drive.weight *= 3  # so that every layer spikes
    x = net.time_first(task.data().x_train[:samples].double())
    in_time = np.stack([x.numpy()] * net.static) if net.static else x.numpy()
    return net, x, in_time


@pytest.mark.parametrize("name", TASKS)
def test_a_network_equals_a_loop_over_time_in_numpy(name):
    net, x, in_time = some_input(name)
    logits, layers = net(x)
    expected, by_hand = net_by_hand(net, in_time)
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-12)
    for i, (layer, known) in enumerate(zip(layers, by_hand, strict=True)):
        current, potential, spikes = (part.detach().numpy() for part in layer)
        once = net.static and i == 0  # a static input drives the same current at every step
        np.testing.assert_allclose(current, known.current[:1] if once else known.current)
        np.testing.assert_allclose(potential, known.potential, atol=1e-12)
        assert np.array_equal(spikes, known.spikes)
        assert spikes.any()


@pytest.mark.parametrize(
    ("name", "sizes", "steps", "gain", "batch"),
    [
        ("digits_1", (64, 64, 10), 4, 1.0, 50),
        ("digits_3", (64, 64, 64, 64, 10), 4, 2.0, 50),
        ("digits_conv", (9, 4 * 6 * 6, 10), 4, 1.0, 50),
        ("randman_1", (20, 64, 5), 10, 3.0, 50),
        ("randman_3", (20, 64, 64, 64, 5), 10, 3.0, 50),
        ("xor", (2, 4, 2), 8, 1.0, 4),
    ],
)
def test_the_networks_of_the_tasks(name, sizes, steps, gain, batch):
    """Their sizes, time steps and gain; torch draws a weight from +-1 / sqrt(inputs)."""
    run = Training(TASKS[name], "bp", range(30), 0.1)
    weights = run.start()[: len(run.names)]
    x, _ = run.batch(0)
    _, layers = run.forward(weights, x)
    spikes = [layer.spikes.flatten(3) for layer in layers]  # [S, T, N, neurons]
    assert [part.shape for part in spikes] == [(30, steps, batch, n) for n in sizes[1:-1]]
    assert weights[-1].shape == (30, sizes[-1])
    drives = weights[0::2]
    inputs = [weight[0, 0].numel() for weight in drives]
    assert inputs == list(sizes[:-1])
    largest = [float(w.abs().max()) * n**0.5 for w, n in zip(drives, inputs, strict=True)]
    assert largest == pytest.approx([gain] * (len(drives) - 1) + [1.0], rel=0.02)


def test_a_neuron_leaks_half_of_its_potential_in_a_step():
    net = Net([nn.Linear(1, 1)], nn.Linear(1, 1), static=4)
    for drive in (*net.hidden, net.readout):
        nn.init.ones_(drive.weight)
        nn.init.zeros_(drive.bias)
    logits, (layer,) = net(torch.tensor([[0.5], [0.75], [3.0]]))
    # 0.5, 0.75, 0.875, 0.9375;  0.75, 1.125 and from 0 again;  3 and from 0 again
    assert layer.spikes.squeeze(2).T.tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]]
    assert layer.potential.flatten().tolist() == [0.9375, 0.0, 0.0]
    assert logits.flatten().tolist() == [0.0, 0.5, 1.0]  # a mean over time


def test_only_an_input_without_time_is_left_as_it_is():
    x = torch.rand(5, 3, 2)  # [N, T, inputs]
    in_time = dense((2, 4, 2)).time_first(x)
    assert torch.equal(in_time, x.movedim(1, 0))
    assert dense((2, 4, 2), static=8).time_first(x) is x


def test_without_a_number_of_steps_inputs_have_a_time_dimension():
    assert dense((2, 4, 2)).static == 0
    assert Net([nn.Linear(2, 4)], nn.Linear(4, 2)).static == 0


def test_neurons_run_uncompiled_which_no_short_training_would_make_up_for():
    assert [neurons.backend for neurons in dense((2, 4, 4, 2)).neurons] == ["eager", "eager"]


@pytest.mark.parametrize(("gain", "expected"), [({}, 1.0), ({"gain": 3.0}, 3.0)])
def test_only_hidden_weights_are_scaled(gain, expected):
    torch.manual_seed(0)
    net = dense((2, 4, 3, 2), **gain)
    torch.manual_seed(0)
    layers = [nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(3, 2)]
    factors = [expected, expected, 1.0]
    for drive, layer, factor in zip([*net.hidden, net.readout], layers, factors, strict=True):
        torch.testing.assert_close(drive.weight, factor * layer.weight)
        assert torch.equal(drive.bias, layer.bias)


def test_the_convolution_has_four_channels_and_sees_an_image_for_four_steps():
    logits, (layer,) = convolutional()(torch.rand(5, 1, 8, 8))
    assert layer.current.shape == (1, 5, 4, 6, 6)
    assert layer.spikes.shape == (4, 5, 4, 6, 6)
    assert logits.shape == (5, 10)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4, 5)])
def test_a_number_per_network_multiplies_all_of_it(shape):
    tensor = torch.rand(shape)
    product = per_network(torch.tensor([2.0, 3.0]), tensor) * tensor
    assert product.shape == shape
    assert torch.equal(product, torch.stack([2 * tensor[0], 3 * tensor[1]]))


def test_the_network_of_a_seed_is_drawn_from_that_seed_alone():
    torch.manual_seed(5)
    expected = TASKS["xor"].net()
    torch.manual_seed(6)
    state = torch.get_rng_state()
    net = new_net(TASKS["xor"], 5)
    assert torch.equal(torch.get_rng_state(), state)
    for ours, known in zip(net.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, known)


# one network in a plain training loop


class Setting(NamedTuple):
    """What one network is trained with."""

    seed: int
    lr: float
    z: float


@functools.cache
def samples_of(data):
    """The samples of a task, made once."""
    return data()


def loss_alone(net, task, arm, setting, n, dtype):
    """The loss of one network at step n: in each epoch its own order of the samples."""
    loaded = samples_of(task.data)
    generator = torch.Generator().manual_seed(setting.seed)
    samples = len(loaded.y_train)
    epoch, place = divmod(n, samples // task.batch)
    for _ in range(epoch + 1):
        order = torch.randperm(samples, generator=generator)
    batch = order.split(task.batch)[place]
    x = loaded.x_train[batch].to(dtype)
    z = setting.z * 0.01 ** (epoch / task.epochs)
    logits, layers = net(x if net.static else x.transpose(0, 1))
    loss = F.cross_entropy(logits, loaded.y_train[batch])
    for layer, neurons in zip(layers, net.neurons, strict=True):
        if arm == "csbp":
            loss = loss + chaotic_loss(layer.current, z)
        elif arm == "membrane":
            loss = loss + chaotic_loss(neurons.v, z)
    return loss


def train_alone(task, arm, setting, dtype):
    """A plain training loop of one network: its parameters after 20 steps."""
    net = new_net(task, setting.seed).to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=setting.lr, momentum=0.9)
    for n in range(STEPS):
        optimizer.zero_grad()
        loss_alone(net, task, arm, setting, n, dtype).backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def train_together(task, arm, settings, dtype=torch.float64):
    """The parameters of all networks after 20 steps, `[S, *]` each."""
    seeds, lrs, zs = zip(*settings, strict=True)
    run = Training(task, arm, seeds, lrs, zs, dtype=dtype)
    state = functools.reduce(run.step, range(STEPS), run.start())
    return state[: len(run.names)]


# many networks at once


SETTINGS = [Setting(0, 0.05, 5.0), Setting(5, 0.1, 5.0), Setting(9, 0.1, 20.0)]
tasks_and_arms = pytest.mark.parametrize(
    ("name", "arm"),
    [
        (name, arm)
        for name in ("digits_1", "digits_3", "digits_conv", "randman_1")
        for arm in ("bp", "csbp", "membrane")
    ],
)


@tasks_and_arms
def test_together_they_train_as_each_alone(name, arm):
    """In float64: in float32 a spike at the threshold may flip, and after it all is different."""
    task = TASKS[name]._replace(batch=100)
    together = train_together(task, arm, SETTINGS)
    for i, setting in enumerate(SETTINGS):
        alone = train_alone(task, arm, setting, torch.float64)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i], theirs, rtol=0, atol=1e-10)


@tasks_and_arms
def test_in_float32_together_they_have_the_gradients_of_each_alone(name, arm):
    task = TASKS[name]._replace(batch=100)
    off = departures(task, arm, SETTINGS)
    assert np.median(off) < 1e-5
    # A flipped spike changes a gradient by more; one step and network in 200 has one.
    assert np.mean(off > 1e-4) < 0.1


def departures(task, arm, settings):
    """How far gradients in float32 are from those alone, relative to their norm, `[steps * S]`.

    At every step anew, from the weights that all have come to together.
    """
    seeds, lrs, zs = zip(*settings, strict=True)
    run = Training(task, arm, seeds, lrs, zs)
    state = run.start()
    off = []
    for n in range(STEPS):
        weights = state[: len(run.names)]
        together = run.gradients(weights, n)
        for i, setting in enumerate(settings):
            net = task.net()
            net.load_state_dict({name: w[i] for name, w in zip(run.names, weights, strict=True)})
            alone = loss_alone(net, task, arm, setting, n, torch.float32)
            expected = torch.autograd.grad(alone, list(net.parameters()))
            pairs = zip(together, expected, strict=True)
            off.append(max(float((g[i] - e).norm() / e.norm()) for g, e in pairs))
        state = run.step(state, n)
    return np.array(off)


@pytest.mark.parametrize("arm", ARMS)
def test_a_seed_does_not_depend_on_its_neighbours(arm):
    settings = [Setting(seed, 0.1, 5.0) for seed in (3, 7, 8)]
    alone = train_together(TASKS["digits_1"], arm, settings[1:2])
    among = train_together(TASKS["digits_1"], arm, settings)
    for single, many in zip(alone, among, strict=True):
        torch.testing.assert_close(single[0], many[1], rtol=0, atol=1e-10)


def test_an_unknown_arm_is_refused():
    with pytest.raises(ValueError, match=r"arm = 'chaos': must be one of bp, csbp, "):
        Training(TASKS["xor"], "chaos", [0], 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
        ({"z": [5.0, 0.0]}, r"z\[1\] = 0.0: must be a number in \(0, inf\)"),
        ({"epochs": 0}, r"epochs = 0: must be an integer in \[1, inf\)"),
        ({"epochs": 1.5}, r"epochs = 1.5: must be an integer in \[1, inf\)"),
        ({"lr": [0.1, -1.0]}, r"lr\[1\] = -1.0: must be a number in \(0, inf\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(TASKS["xor"], "csbp", [0, 1], **{"lr": 0.1, "z": 5.0, **settings})


def test_one_number_is_that_of_every_network():
    run = Training(TASKS["xor"], "csbp", [0, 1], 0.1, 5.0)
    assert (run.lr.tolist(), run.z.tolist()) == ([0.1, 0.1], [5.0, 5.0])


def test_without_other_settings_z_is_1_and_the_epochs_are_those_of_the_task():
    run = Training(TASKS["xor"], "csbp", [0], 0.1)
    assert (run.z.tolist(), run.epochs) == ([1.0], TASKS["xor"].epochs)
    assert run.start()[0].dtype == run.data.x_train.dtype == torch.float32


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs_of_a_training_replace_those_of_its_task(epochs):
    run = Training(TASKS["xor"], "csbp", [0], 0.1, epochs=epochs)
    assert run.order.shape == (1, epochs, 4)
    torch.testing.assert_close(run.z * run.beta**epochs, run.z / 100)


def test_samples_left_over_after_the_last_full_batch_are_not_used():
    run = Training(TASKS["digits_1"]._replace(batch=300), "bp", [0], 0.1)  # of 1000
    assert run.steps == 3
    x, y = run.batch(4)
    rows = sample_order(0, 1000, 20)[1, 300:600]  # second batch of the second epoch
    assert torch.equal(x, run.data.x_train[rows][None])
    assert torch.equal(y, run.data.y_train[rows][None])


def test_every_epoch_has_an_order_of_its_own_fixed_by_the_seed():
    orders = sample_order(7, 100, 3)
    assert torch.equal(orders.sort(1).values, torch.arange(100).expand(3, 100))
    assert len(orders.unique(dim=0)) == 3
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(orders[0], torch.randperm(100, generator=generator))
    assert torch.equal(orders[:2], sample_order(7, 100, 2))
    assert not torch.equal(orders[0], sample_order(8, 100, 3)[0])


def test_bp_does_not_look_at_the_strength():
    Training(TASKS["xor"], "bp", [0], 0.1, z=0.0)


@pytest.mark.parametrize("epochs", [0, 9, 21, 10.5])
def test_a_training_without_validation_or_beyond_the_annealing_is_refused(epochs):
    run = Training(TASKS["xor"], "bp", [0], 0.1, epochs=20)
    with pytest.raises(ValueError, match=f"epochs = {epochs}: must be an integer in"):
        run.train(epochs)


# what is measured


@pytest.fixture(scope="module")
def xor():
    """20 networks after 100 epochs of XOR: the run, its state and the validation accuracies."""
    run = Training(TASKS["xor"], "bp", range(20), 0.1)
    return run, *run.train(100)


def test_xor_is_validated_every_ten_epochs(xor):
    _, _, curve = xor
    assert curve.shape == (10, 20)


def test_the_last_validation_is_of_the_state_returned(xor):
    run, state, curve = xor
    tested = run.evaluate(state, run.data.x_test, run.data.y_test)  # for XOR the same samples
    assert torch.equal(tested["accuracy"], curve[-1])


def test_a_training_is_its_steps_and_is_validated_every_so_many_epochs():
    """Five epochs of two steps, a validation after the second and the fourth."""
    task = TASKS["xor"]._replace(batch=2, every=2)
    run = Training(task, "csbp", [0, 1, 2], 0.5, 5.0, epochs=6)
    state, curve = run.train(5)
    by_hand = run.start()
    accuracies = []
    for n in range(10):
        by_hand = run.step(by_hand, n)
        if n in (3, 7):
            accuracies.append(run.evaluate(by_hand, run.data.x_val, run.data.y_val)["accuracy"])
    assert torch.equal(curve, torch.stack(accuracies))
    for ours, known in zip(state, by_hand, strict=True):
        assert torch.equal(ours, known)


def test_validation_is_on_the_validation_samples():
    """All of whose classes are replaced, and with them the accuracy."""
    task = TASKS["xor"]._replace(every=1, solve=False)
    run = Training(task, "bp", range(4), 0.1)
    _, curve = run.train(1)
    run.data_of_split[0] = run.data._replace(y_val=1 - run.data.y_val)
    _, other = run.train(1)
    assert torch.equal(other, 1 - curve)


def test_without_a_number_training_goes_on_to_the_end_of_the_annealing():
    _, curve = Training(TASKS["xor"]._replace(every=1), "bp", [0], 0.1, epochs=3).train()
    assert curve.shape == (3, 1)


@pytest.fixture(scope="module")
def deep():
    """Networks with layers of two sizes, as they start: the run, weights, samples, classes."""
    task = TASKS["xor"]._replace(net=functools.partial(dense, (2, 3, 8, 2), static=5, gain=4.0))
    run = Training(task, "bp", range(10), 0.1)
    return run, run.start()[: len(run.names)], run.data.x_test, run.data.y_test


def by_hand(run, weights, i, x):
    """Logits and layers of network i in NumPy."""
    net = run.task.net()
    net.load_state_dict({name: w[i] for name, w in zip(run.names, weights, strict=True)})
    return net_by_hand(net.double(), np.stack([x.double().numpy()] * 5))


def test_what_is_measured_equals_that_by_hand(deep):
    """In layers of 3 and 8: dead and rate count neurons, the mean of s counts layers."""
    run, weights, x, y = deep
    measured = run.evaluate(weights, x, y)
    for i in range(10):
        logits, layers = by_hand(run, weights, i, x)
        spikes = np.concatenate([layer.spikes for layer in layers], axis=2)  # [T, N, 3 + 8]
        s = [1 / (1 + np.exp(-layer.current / 10)) for layer in layers]
        expected = {
            "accuracy": float((logits.argmax(1) == y.numpy()).all()),
            "dead": (spikes.sum((0, 1)) == 0).mean(),
            "rate": spikes.mean(),
            "mean_s": (s[0].mean() + s[1].mean()) / 2,
        }
        found = {name: float(values[i]) for name, values in measured.items()}
        assert found == pytest.approx(expected, abs=1e-6)
    assert len(measured["dead"].unique()) > 3


def test_accuracy_is_the_share_of_right_answers_where_not_all_must_be(deep):
    run, weights, x, y = deep
    shares = Training(run.task._replace(solve=False), "bp", range(10), 0.1)
    measured = shares.evaluate(weights, x, y)["accuracy"]
    expected = [(by_hand(run, weights, i, x)[0].argmax(1) == y.numpy()).mean() for i in range(10)]
    assert measured.tolist() == expected
    assert 0 < max(expected) < 1


def test_what_is_measured_equals_that_of_each_network(xor):
    run, state, _ = xor
    x, y = run.data.x_test, run.data.y_test
    measured = run.evaluate(state, x, y)
    assert list(measured) == ["accuracy", "dead", "rate", "mean_s"]
    for i in range(20):
        net = TASKS["xor"].net()
        net.load_state_dict({name: p[i] for name, p in zip(run.names, state, strict=False)})
        logits, (layer,) = net(x)
        expected = {
            "accuracy": (logits.argmax(1) == y).all().double(),
            "dead": (layer.spikes.sum((0, 1)) == 0).double().mean(),
            "rate": layer.spikes.mean().double(),
            "mean_s": torch.sigmoid(layer.current / 10).mean().double(),
        }
        found = {name: values[i].double() for name, values in measured.items()}
        torch.testing.assert_close(found, expected)


# what is added to the loss


def test_every_layer_counts_with_its_mean():
    """Of two layers of 1 and of 12 numbers, for two networks."""
    small = LayerOutput(*[torch.tensor([2.0, 4.0]).view(2, 1, 1, 1)] * 3)
    large = LayerOutput(*[torch.arange(24.0).view(2, 3, 2, 2)] * 3)
    arm = Arm("new", pull=lambda layer, z: per_network(z, layer.current) * layer.current)
    added = arm.added_loss([small, large], torch.tensor([1.0, 10.0]))
    assert added.tolist() == [1 * (2 + 5.5), 10 * (4 + 17.5)]


@pytest.mark.parametrize(("arm", "part"), [("csbp", 0), ("membrane", 1)])
def test_the_chaotic_loss_is_that_of_currents_or_of_potentials(arm, part):
    layer = LayerOutput(*torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0)))
    added = ARMS[arm].added_loss([layer], torch.tensor([5.0, 10.0]))
    s = torch.sigmoid(layer[part] / 10)
    loss = -(0.65 * torch.log(s) + 0.35 * torch.log(1 - s)).flatten(1).mean(1)
    torch.testing.assert_close(added, torch.tensor([5.0, 10.0]) * loss)


# the quadratic pull

REST = 10 * math.log(0.65 / 0.35)


def slope(arm, h):
    """The derivative of what an arm adds, at z = 3, by each of 120 currents that are all h."""
    current = torch.full((1, 4, 5, 6), h, dtype=torch.float64, requires_grad=True)
    layer = LayerOutput(current, potential=current, spikes=current)
    added = ARMS[arm].added_loss([layer], torch.tensor([3.0], dtype=torch.float64))
    return torch.autograd.grad(added, current)[0]


def test_quadratic_has_the_slope_of_the_chaotic_loss_at_zero():
    torch.testing.assert_close(slope("quadratic_membrane", 0.0), slope("csbp", 0.0))


def test_slope_of_the_chaotic_loss_at_zero():
    assert slope("csbp", 0.0)[0, 0, 0, 0] == pytest.approx(3 * (0.5 - 0.65) / 10 / 120)


@pytest.mark.parametrize("arm", ["quadratic_membrane", "csbp"])
def test_pulls_rest_at_the_same_place(arm):
    zero = torch.zeros(1, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(slope(arm, REST), zero, rtol=0, atol=1e-15)


def test_the_quadratic_pull_is_on_potentials():
    layer = LayerOutput(*torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0)))
    added = ARMS["quadratic_membrane"].added_loss([layer], torch.tensor([5.0, 10.0]))
    distances = (layer.potential - REST).square().flatten(1).mean(1)
    stiffness = torch.tensor([5.0, 10.0]) * 0.15 / 10 / REST
    torch.testing.assert_close(added, stiffness * distances / 2)


# the firing rate


def test_the_regulariser_adds_the_squared_shortfall_of_every_neurons_rate():
    """Four neurons of two samples in ten steps; rates .05, .1, .5 and 0, twice."""
    spikes = torch.zeros(2, 10, 2, 4)  # [S, T, N, neurons]
    spikes[:, 0, 0, 0] = 1
    spikes[:, 0, :, 1] = 1
    spikes[:, :, 0, 2] = 1
    layer = LayerOutput(current=spikes, potential=spikes[:, 0], spikes=spikes)
    added = ARMS["firing_rate"].added_loss([layer, layer], torch.tensor([1.0, 8.0]))
    mean = (0.05**2 + 0 + 0 + 0.1**2) / 4
    torch.testing.assert_close(added, torch.tensor([2 * mean, 16 * mean]))


def test_the_regulariser_of_a_convolution_counts_each_position_as_a_neuron():
    spikes = torch.zeros(1, 10, 5, 3, 2, 2)  # [S, T, N, channels, *positions]
    spikes[..., 0, 0] = 1
    layer = LayerOutput(current=spikes, potential=spikes[:, 0], spikes=spikes)
    added = ARMS["firing_rate"].added_loss([layer], torch.tensor([1.0]))
    torch.testing.assert_close(added, torch.tensor([0.1**2 * 3 / 4]))


# another order of summation


def test_csbp_in_another_order_of_summation_is_csbp_but_for_rounding():
    task = TASKS["digits_3"]
    runs = [Training(task, arm, [0, 1], 0.1, 5.0) for arm in ("csbp", "csbp_resummed")]
    weights = runs[0].start()[: len(runs[0].names)]
    pairs = zip(*(run.gradients(weights, 4) for run in runs), strict=True)
    off = [float((one - other).norm() / one.norm()) for one, other in pairs]
    assert 0 < max(off) < 1e-6


def test_an_arm_without_a_pull_has_no_gradient_to_add():
    with pytest.raises(ValueError, match="arm = 'new': has no pull"):
        Arm("new", adds_gradients=True)


# how the strength falls


@pytest.mark.parametrize("epochs", [5, 20])
def test_the_strength_falls_to_a_hundredth_over_the_epochs(epochs):
    run = Training(TASKS["digits_1"], "csbp", [0, 1], 0.1, [5.0, 10.0], epochs=epochs)
    assert (run.z * run.beta**epochs).tolist() == pytest.approx([0.05, 0.1])


# Splits, a start from the data, schedules


def test_a_network_trains_on_its_own_split_as_it_would_alone():
    task = TASKS["digits_1"]
    together = Training(task, "bp", [0, 1, 2], 0.1, splits=[2, 1, 2], epochs=1)
    alone = Training(task, "bp", [1], 0.1, splits=[1], epochs=1)
    ours, curve = together.train()
    theirs, its_curve = alone.train()
    for state, its_state in zip(ours, theirs, strict=True):
        torch.testing.assert_close(state[1:2], its_state, rtol=1e-4, atol=1e-5)
    assert curve[:, 1].tolist() == its_curve[:, 0].tolist()
    assert together.test(ours)["accuracy"][1] == alone.test(theirs)["accuracy"][0]


def test_every_network_is_tested_on_its_own_split():
    task = TASKS["digits_1"]
    run = Training(task, "bp", [0, 0, 0], 0.1, splits=[4, 3, 4])
    tested = run.test(run.start())["accuracy"]
    for place, split in enumerate(run.splits):
        net = new_net(task, 0)
        data = task.data(split)
        right = net(data.x_test).logits.argmax(1) == data.y_test
        assert tested[place] == right.double().mean()


def test_a_start_from_the_data_is_that_of_its_own_split():
    task = TASKS["digits_1"]
    run = Training(task, "bp", [0, 1], 0.1, splits=[1, 2], start_from_data=(0.25, 0.5))
    weights = run.start()[: len(run.names)]
    for place, split in enumerate(run.splits):
        x = task.data(split).x_train
        current = x @ weights[0][place].T + weights[1][place]  # [n, units]
        assert current.mean(0).numpy() == pytest.approx(0.25, abs=1e-4)
        assert current.std(0, correction=0).numpy() == pytest.approx(0.5, rel=1e-3)


def test_the_cosine_schedule_is_torchs():
    run = Training(TASKS["digits_1"], "bp", [0], 0.3, epochs=2, schedule="cosine")
    steps = 2 * run.steps
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for n in range(steps):
        assert float(run.lr_at(n)) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_schedule_or_a_momentum_that_is_none_is_refused():
    with pytest.raises(ValueError, match="schedule = 'linear': must be one of constant, cosine"):
        Training(TASKS["xor"], "bp", [0], 0.1, schedule="linear")
    with pytest.raises(ValueError, match=r"momentum = 1: must be a number in \[0, 1\)"):
        Training(TASKS["xor"], "bp", [0], 0.1, momentum=1)
