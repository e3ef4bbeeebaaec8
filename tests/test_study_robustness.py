"""Noise on inputs and on weights: how strong it is, whose it is, and what it does to accuracy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from study.protocol import final_networks
from study.tasks.data import Data
from study.tasks.networks import Net
from study.tasks.tasks import TASKS, Task
from study.training.robustness import (
    DRAWS,
    KINDS,
    NOISES,
    Draw,
    accuracy_in,
    deletion,
    gaussian,
    jitter,
    noisy_weights,
    relative,
    tested,
    with_noisy_inputs,
)
from study.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS, SPLITS = [20_000, 20_001, 20_002], [1, 2, 1]
STEPS = 10  # of randman's window


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def untrained(name, arm="bp", seeds=SEEDS, splits=SPLITS):
    """Networks at their start, where accuracy is not yet the same for all."""
    run = Training(TASKS[name], arm, seeds, 0.1, splits=splits)
    return run, run.start()


def spike_steps(x):
    """When every unit spikes, `[n, units]`, by NumPy; each must do so exactly once."""
    spikes = x.numpy()
    assert set(np.unique(spikes)) <= {0, 1}
    assert (spikes.sum(1) == 1).all()
    sample, step, unit = spikes.nonzero()
    steps = np.empty((len(spikes), spikes.shape[2]), dtype=int)
    steps[sample, unit] = step
    return steps


# how strong the noise is


@pytest.mark.parametrize("level", NOISES["inputs"].levels)
def test_noise_on_inputs_has_mean_zero_and_the_standard_deviation_of_its_level(level):
    x = torch.rand(500, 64, generator=generator(1))
    noise = (gaussian(x, level, generator()) - x).numpy()
    standard_error = level / np.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * standard_error
    assert noise.std() == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize("level", NOISES["weights"].levels)
def test_noise_on_weights_is_relative_to_each_weight(level):
    weight = torch.cat([torch.full((20_000,), 3.0), torch.full((20_000,), -0.01)])
    noise = (relative(weight, level, generator()) / weight - 1).numpy()
    for part in (noise[:20_000], noise[20_000:]):
        assert abs(part.mean()) < 4 * level / np.sqrt(part.size)
        assert part.std() == pytest.approx(level, rel=0.03)


def test_a_weight_of_zero_stays_zero():
    assert torch.equal(relative(torch.zeros(5), 0.2, generator()), torch.zeros(5))


@pytest.mark.parametrize("level", NOISES["deletion"].levels)
def test_every_spike_is_deleted_with_the_probability_of_the_level(level):
    x = TASKS["randman_1"].data(1).x_test
    left = deletion(x, level, generator())
    assert ((left == x) | (left == 0)).all()  # nothing new
    deleted = 1 - float(left.sum() / x.sum())
    standard_error = np.sqrt(level * (1 - level) / float(x.sum()))
    assert deleted == pytest.approx(level, abs=4 * standard_error)


# how a spike is moved


@pytest.mark.parametrize("level", NOISES["jitter"].levels)
def test_jitter_moves_every_spike_by_what_was_drawn_and_loses_none(level):
    x = TASKS["randman_1"].data(1).x_test
    drawn = torch.randn((500, 1, 20), generator=generator(3)).numpy()[:, 0]
    expected = np.clip(spike_steps(x) + np.round(level * drawn).astype(int), 0, STEPS - 1)
    assert np.array_equal(spike_steps(jitter(x, level, generator(3))), expected)


@pytest.mark.parametrize("level", NOISES["jitter"].levels)
def test_the_shifts_are_those_of_a_rounded_gaussian(level):
    """Far from both ends of a long window; a shift of k has the probability of k - .5 to k + .5."""
    x = torch.zeros(500, 101, 20)
    x[:, 50] = 1
    shifts = spike_steps(jitter(x, level, generator())) - 50
    for shift in (-2, -1, 0, 1, 2):
        probability = np.diff(norm.cdf([shift - 0.5, shift + 0.5], scale=level)).item()
        standard_error = np.sqrt(probability * (1 - probability) / shifts.size)
        assert np.mean(shifts == shift) == pytest.approx(probability, abs=4 * standard_error)


def test_a_spike_that_would_leave_the_window_stays_at_its_end():
    x = torch.zeros(200, STEPS, 2)
    x[:, 0, 0] = 1
    x[:, -1, 1] = 1
    steps = spike_steps(jitter(x, 1e6, generator()))
    assert set(np.unique(steps)) == {0, STEPS - 1}


def test_a_unit_that_does_not_spike_stays_silent_under_jitter():
    x = torch.zeros(50, STEPS, 3)
    x[:, 4, 1] = 1
    assert jitter(x, 2.0, generator()).sum((0, 1)).tolist() == [0, 50, 0]


# whose it is


def test_two_arms_have_the_same_noise():
    bp, weights = untrained("digits_1", "bp")
    csbp, same_weights = untrained("digits_1", "csbp")
    ours = noisy_weights(Draw("weights", 1, 2), bp, weights)
    theirs = noisy_weights(Draw("weights", 1, 2), csbp, same_weights)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for split in (1, 2):
        x = with_noisy_inputs(Draw("inputs", 1, 2), bp).data_of_split[split].x_test
        same_x = with_noisy_inputs(Draw("inputs", 1, 2), csbp).data_of_split[split].x_test
        assert torch.equal(x, same_x)


def test_no_two_draws_kinds_levels_or_owners_have_the_same_noise(monkeypatch):
    """All kinds made to give what their generator gives first."""
    firsts = []
    for kind, noise in list(NOISES.items()):

        def first(tensor, level, generator):
            return torch.randint(2**62, (), generator=generator)

        monkeypatch.setitem(NOISES, kind, noise._replace(add=first))
        for level in range(len(noise.levels)):
            for number in range(DRAWS):
                for owner in (0, 1, 2**16 - 1):
                    (value,) = Draw(kind, level, number).noisy([torch.zeros(1)], owner)
                    firsts.append(int(value))
    for seed in (0, 1, 2**16 - 1):  # those of the initial weights
        firsts.append(int(torch.randint(2**62, (), generator=generator(seed))))
    assert len(set(firsts)) == len(firsts) == (4 * 3 * DRAWS + 1) * 3


def test_noise_is_the_same_again_for_the_same_draw():
    x = torch.rand(5, 64)
    (once,) = Draw("inputs", 0, 0).noisy([x], 1)
    (again,) = Draw("inputs", 0, 0).noisy([x], 1)
    assert torch.equal(once, again)
    assert not torch.equal(once, x)


# what it does to accuracy


@pytest.mark.parametrize("name", ["digits_conv", "randman_3", "xor"])
def test_without_noise_the_accuracy_is_that_of_the_test(monkeypatch, name):
    for kind, noise in list(NOISES.items()):
        monkeypatch.setitem(NOISES, kind, noise._replace(levels=(0.0,)))
    run, state = untrained(name)
    plain = run.test(state)["accuracy"].tolist()
    assert tested(run, state, name) == {kind: [plain] for kind in KINDS[name]}


@pytest.mark.parametrize("name", ["digits_1", "randman_1"])
def test_the_accuracies_are_those_of_a_loop_over_networks_one_at_a_time(name):
    """The noise from the generators that the module names, the networks as torch runs them."""
    run, state = untrained(name)
    found = tested(run, state, name)
    for kind in KINDS[name]:
        for place in range(len(SEEDS)):
            shares = [share_alone(run, state, place, kind, draw) for draw in range(DRAWS)]
            # One sample of one draw may be elsewhere: sums round in another order.
            assert found[kind][2][place] == pytest.approx(np.mean(shares), abs=1.01 / 500 / DRAWS)


def share_alone(run, state, place, kind, draw):
    """The accuracy of one network in one draw of the last level, by a network of its own."""
    net = run.task.net()
    data = run.task.data(SPLITS[place])
    owner = SEEDS[place] if kind == "weights" else SPLITS[place]
    number = {"inputs": 1, "jitter": 2, "deletion": 3, "weights": 4}[kind]
    source = generator(((number * 3 + 2) * 5 + draw) * 2**16 + owner)
    x = data.x_test
    with torch.no_grad():
        for parameter, values in zip(net.parameters(), state, strict=False):
            parameter.copy_(values[place])
            if kind == "weights":
                parameter *= 1 + 0.2 * torch.randn(parameter.shape, generator=source)
        if kind == "inputs":
            x = x + 0.4 * torch.randn(x.shape, generator=source)
        if kind == "deletion":
            x = x * (torch.rand(x.shape, generator=source) >= 0.2)
        if kind == "jitter":
            x = jitter(x, 2.0, source)
        answers = net(net.time_first(x)).logits.argmax(1)
    return float((answers == data.y_test).double().mean())


SAMPLES = 4000
INPUT = 0.3  # of one class, and its negative of the other


def two_sides(split=0):
    """A single input: its sign is the class."""
    y = torch.arange(SAMPLES) % 2
    x = INPUT * (2.0 * y - 1).unsqueeze(1)
    return Data(x, y, x, y, x, y)


def sign_reader():
    """A neuron that spikes at every step if its input is positive, and a readout of that."""
    net = Net([nn.Linear(1, 1)], nn.Linear(1, 2), static=4)
    weights = ([[1e6]], [0.0], [[-1.0], [1.0]], [0.5, -0.5])
    with torch.no_grad():
        for parameter, values in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(values))
    return net


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_network_that_reads_a_sign_is_right_as_often_as_the_noise_leaves_it(level):
    run = Training(Task(two_sides, sign_reader), "bp", [20_000, 20_001], 0.1, splits=[1, 2])
    right = tested(run, run.start(), "digits_1")["inputs"][level]
    probability = norm.cdf(INPUT / NOISES["inputs"].levels[level])
    standard_error = np.sqrt(probability * (1 - probability) / (SAMPLES * DRAWS))
    assert right == pytest.approx([probability] * 2, abs=4 * standard_error)


def test_a_network_of_xor_is_right_in_a_draw_only_if_it_solves_all_four():
    run, _ = untrained("xor", seeds=[20_000], splits=[1])
    hidden = [[40.0, 40.0], [40.0, 40.0], [0.0, 0.0], [0.0, 0.0]]  # "or" and "and", as a spike
    bias = [-20.0, -60.0, -1.0, -1.0]
    readout = [[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.0, 0.0]]
    parameters = (hidden, bias, readout, [0.5, 0.0])
    weights = [torch.tensor([values]) for values in parameters]
    assert run.test(weights)["accuracy"].tolist() == [1]
    found = [float(accuracy_in(Draw("inputs", 2, draw), run, weights)) for draw in range(DRAWS)]
    by_hand = []
    for draw in range(DRAWS):
        (x,) = Draw("inputs", 2, draw).noisy([TASKS["xor"].data().x_test], 1)
        current = 40 * x.numpy().sum(1)
        says_one = (current > 20.5) & (current < 60.5)  # a spike comes, at the last step or before
        by_hand.append(float((says_one == [False, True, True, False]).all()))
    assert found == by_hand
    assert set(found) == {0, 1}
    assert tested(run, weights, "xor")["inputs"][2] == [pytest.approx(np.mean(found))]


def test_more_noise_on_weights_costs_a_trained_network_accuracy():
    run = Training(TASKS["digits_1"], "bp", SEEDS, 0.4, splits=SPLITS, epochs=3)
    state, _ = run.train()
    before = [tensor.clone() for tensor in state]
    means = [np.mean(level) for level in tested(run, state, "digits_1")["weights"]]
    clean = float(run.test(state)["accuracy"].mean())
    assert clean > means[1] > means[2]
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))


# its table, and what is refused


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_noise_and_its_seeds_are_in_range(name):
    static = ("inputs", "weights")
    spikes = ("jitter", "deletion", "weights")
    assert KINDS[name] == (spikes if name.startswith("randman") else static)
    assert max(final_networks(name).seeds) < 2**16


def test_an_unknown_task_or_a_seed_out_of_range_is_refused():
    run, state = untrained("xor", seeds=[2**16], splits=[0])
    with pytest.raises(ValueError, match="name = 'mnist': must be one of digits_1"):
        tested(run, state, "mnist")
    with pytest.raises(ValueError, match=r"seeds\[0\] = 65536: must be an integer in \[0, 65536\)"):
        tested(run, state, "xor")
