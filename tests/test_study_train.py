"""Many networks at once, held against one network at a time; and what the arms do to training."""

import functools
import math
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional as F

from csbp_core import chaotic_loss, critical_z
from study.arms import ARMS, Arm, matched_noise, norms
from study.networks import LayerOutput
from study.tasks import TASKS, new_net
from study.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 20


class Setting(NamedTuple):
    """What one network is trained with."""

    seed: int
    lr: float
    z: float


def train_alone(task, arm, setting, dtype):
    """A plain training loop of one network: its parameters after 20 steps."""
    net = new_net(task, setting.seed).to(dtype)
    loaded = task.data()
    optimizer = torch.optim.SGD(net.parameters(), lr=setting.lr, momentum=0.9)
    generator = torch.Generator().manual_seed(setting.seed)
    samples = len(loaded.y_train)
    for n in range(STEPS):
        epoch, place = divmod(n, samples // task.batch)
        if place == 0:
            batches = torch.randperm(samples, generator=generator).split(task.batch)
        x = loaded.x_train[batches[place]].to(dtype)
        y = loaded.y_train[batches[place]]
        z = setting.z * 0.01 ** (epoch / task.epochs)
        logits, layers = net(x if net.static else x.transpose(0, 1))
        loss = F.cross_entropy(logits, y)
        for layer, neurons in zip(layers, net.neurons, strict=True):
            if arm == "csbp":
                loss = loss + chaotic_loss(layer.current, z)
            elif arm == "membrane":
                loss = loss + chaotic_loss(neurons.v, z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def train_together(task, arm, settings, dtype=torch.float64):
    """The parameters of all networks after 20 steps, `[S, *]` each."""
    seeds, lrs, zs = zip(*settings, strict=True)
    run = Training(task, arm, seeds, lrs, zs, dtype=dtype)
    state = functools.reduce(run.step, range(STEPS), run.start())
    return state[: len(run.names)]


# many networks at once


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("arm", ["bp", "csbp", "membrane"])
@pytest.mark.parametrize("name", ["digits_1", "digits_3", "digits_conv", "randman_1"])
def test_together_they_train_as_each_alone(name, arm, dtype, tolerance):
    task = TASKS[name]._replace(batch=100)
    settings = [Setting(0, 0.05, 5.0), Setting(5, 0.1, 5.0), Setting(9, 0.1, 20.0)]
    together = train_together(task, arm, settings, dtype)
    for i, setting in enumerate(settings):
        alone = train_alone(task, arm, setting, dtype)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i], theirs, rtol=0, atol=tolerance)


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
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(TASKS["xor"], "csbp", [0, 1], **{"lr": 0.1, "z": 5.0, **settings})


def test_bp_does_not_look_at_the_strength():
    Training(TASKS["xor"], "bp", [0], 0.1, z=0.0)


@pytest.mark.parametrize("epochs", [0, 9, 21])
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


# the quadratic pull

REST = 10 * math.log(0.65 / 0.35)


def slope(arm, h):
    """The derivative of what an arm adds, at z = 3, by each of 120 currents that are all h."""
    current = torch.full((1, 4, 5, 6), h, dtype=torch.float64, requires_grad=True)
    layer = LayerOutput(current, potential=current, spikes=current)
    added = ARMS[arm].added_loss([layer], torch.tensor([3.0], dtype=torch.float64))
    return torch.autograd.grad(added, current)[0]


def test_quadratic_has_the_slope_of_the_chaotic_loss_at_zero():
    torch.testing.assert_close(slope("quadratic", 0.0), slope("csbp", 0.0))


def test_slope_of_the_chaotic_loss_at_zero():
    assert slope("csbp", 0.0)[0, 0, 0, 0] == pytest.approx(3 * (0.5 - 0.65) / 10 / 120)


@pytest.mark.parametrize("arm", ["quadratic", "csbp"])
def test_pulls_rest_at_the_same_place(arm):
    zero = torch.zeros(1, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(slope(arm, REST), zero, rtol=0, atol=1e-15)


# noise


def added_gradients(arm, step=4):
    """What an arm adds to the gradient of BP, for two seeds at their start."""
    task = TASKS["digits_3"]
    bp = Training(task, "bp", [0, 1], 0.1, 5.0, dtype=torch.float64)
    run = Training(task, arm, [0, 1], 0.1, 5.0, dtype=torch.float64)
    weights = bp.start()[: len(bp.names)]
    pairs = zip(run.gradients(weights, step), bp.gradients(weights, step), strict=True)
    return [gradient - bp_gradient for gradient, bp_gradient in pairs]


def cosine(one, other):
    return float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def test_noise_has_the_norms_of_the_chaotic_gradient():
    for noise, chaos in zip(added_gradients("noise"), added_gradients("csbp"), strict=True):
        torch.testing.assert_close(norms(noise), norms(chaos))


def test_noise_is_another_for_another_seed():
    noise = added_gradients("noise")[0]  # [seeds, *]
    assert abs(cosine(noise[0], noise[1])) < 0.1


def test_noise_is_another_at_another_step():
    noise = added_gradients("noise", step=4)[0]
    later = added_gradients("noise", step=5)[0]
    assert abs(cosine(noise[0], later[0])) < 0.1


def test_noise_has_no_direction_in_common_with_the_chaotic_gradient():
    noise = added_gradients("noise")[0]
    chaos = added_gradients("csbp")[0]
    assert abs(cosine(noise[0], chaos[0])) < 0.1


@pytest.mark.parametrize(("seed", "step", "name"), [(2**16, 0, "seeds"), (0, 2**16, "n")])
def test_noise_beyond_the_seeds_of_the_generator_is_refused(seed, step, name):
    with pytest.raises(ValueError, match=rf"{name}(\[0\])? = 65536: must be an integer in"):
        matched_noise([torch.ones(1, 3)], [seed], step)


def test_an_arm_without_a_pull_has_no_gradient_to_replace():
    with pytest.raises(ValueError, match="arm = 'new': has no pull"):
        Arm("new", replace_gradient=matched_noise)


# how the strength falls


def eigenvalue_and_rows(x):
    """lambda_max of the first layer's X^T X in 4 time steps, X written out, and the rows of X."""
    if x.dim() == 4:  # an image: [N, 1, 8, 8]
        x = F.unfold(x, 3).transpose(1, 2).flatten(0, 1)  # [N * positions, 9]
    with_bias = torch.cat([x, torch.ones(len(x), 1)], 1).repeat(4, 1).double()
    return float(torch.linalg.eigvalsh(with_bias.T @ with_bias)[-1]), len(with_bias)


@pytest.mark.parametrize(("name", "channels"), [("digits_1", 64), ("digits_conv", 4)])
def test_high_starts_at_twice_the_critical_z(name, channels):
    lrs = [0.1, 0.2]
    run = Training(TASKS[name], "high", [0, 1], lrs, 5.0)
    x, _ = run.batch(0)
    for i, lr in enumerate(lrs):
        lambda_max, rows = eigenvalue_and_rows(x[i])
        limit = critical_z(lambda_max, lr, 0.9, reduction="mean", numel=rows * channels)
        assert float(run.z[i]) == pytest.approx(2 * limit, rel=1e-4)


@pytest.mark.parametrize("name", ["digits_1", "digits_conv"])
def test_high_ends_where_csbp_ends(name):
    task = TASKS[name]
    run = Training(task, "high", [0, 1], [0.1, 0.2], 5.0)
    end = torch.full((2,), 5.0 / 100, dtype=torch.float64)
    torch.testing.assert_close(run.z * run.beta**task.epochs, end)


def test_constant_stays_where_it_starts():
    run = Training(TASKS["digits_1"], "constant", [0], 0.1, 5.0)
    assert (run.z * run.beta**7).tolist() == [5.0]
