"""Two trajectories against the exact map, closed forms, hand-written steps, and each other."""

import copy
import inspect
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from csbp_core import LIF, ChaoticLoss, chaotic_loss, dynamics, largest_lyapunov, lif_step

pytestmark = pytest.mark.usefixtures("one_thread")

Z = (1.0, 3.0, 5.5, 6.5, 7.5, 8.0, 9.0, 10.0)  # frozen z; the exponent is positive at 7.5 and 8
TINY = np.finfo(float).tiny


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random_numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


# Example 1


def map_step(state, z):
    """A step of the exact map, on a state of one tensor."""
    (w,) = state
    return [torch.from_numpy(dynamics.step(w.numpy(), z))]


@pytest.fixture(scope="module")
def example_1():
    """Growth in the exact map, [steps, distances, z], and the map's exponents from its slope."""
    start = dynamics.orbit_diagram(Z, transient=1000, keep=1)[:, 0]
    growth = largest_lyapunov(
        lambda state, n: map_step(state, Z),
        [torch.from_numpy(start)],
        steps=2000,
        d0=[1e-9, 1e-8],
        rows=True,
    )
    return growth, dynamics.lyapunov(Z)  # the same orbits


def test_example_1_in_the_exact_map(example_1):
    growth, exact = example_1
    assert growth.shape == (2000, 2, len(Z))
    np.testing.assert_allclose(growth.mean(0), [exact, exact], rtol=0, atol=1e-5)


def test_example_1_is_chaotic_where_it_should_be(example_1):
    _, exact = example_1
    assert [z for z, exponent in zip(Z, exact, strict=True) if exponent > 0] == [7.5, 8.0]
    assert np.abs(exact).min() > 0.05


def neuron_loss(w, b, z):
    v = k = count = torch.zeros_like(w)
    for _ in range(20):
        v, k = lif_step(w + b, v, k, decay=0.2)
        count = count + k
    bp = ((count / 10) ** 2).sum()
    return bp + chaotic_loss(w + b, z, scale=1.0, reduction="none").sum()


def log_slopes(path, z):
    """log |f'| of the exact map at every step of the training itself.

    `path` is where both twin and training were: the training's call is the second of each step.
    """
    return np.log(np.abs(dynamics.slope(path[1::2], z)))


def test_example_1_in_the_trained_neuron():
    """Each step is held against the map where the neuron is, so that chaos cannot part the two."""
    z = double(2.0, 5.5, 7.5, 8.0)
    path = []

    def step(state, n):
        w = state[0].clone().requires_grad_()
        # b = w, and has the same gradient
        (gradient,) = torch.autograd.grad(neuron_loss(w, w.detach(), z), w)
        path.append(state[0].numpy())
        return [w - gradient]

    start = torch.from_numpy(dynamics.orbit_diagram(z.numpy(), keep=1)[:, 0])
    growth = largest_lyapunov(step, [start], steps=200, d0=1e-8, rows=True)
    slopes = log_slopes(path, z.numpy())
    assert np.median(np.abs(growth - slopes)) < 1e-6
    np.testing.assert_allclose(growth.mean(0), slopes.mean(0), rtol=0, atol=1e-5)
    assert (growth.mean(0) > 0).tolist() == [False, False, True, True]


def neuron_as_a_model(z):
    """Growth in a model of one neuron with its optimizer, and log |f'| of the map where it was."""
    model = nn.Linear(1, 1).double()
    nn.init.constant_(model.weight, 0.3)
    nn.init.constant_(model.bias, 0.3)
    path = []

    def loss(model, n):
        path.append(model.weight.item())
        return neuron_loss(model.weight[0], model.bias, z)

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    growth = largest_lyapunov(loss, (model, optimizer), steps=300, d0=1e-8)
    return growth[50:], log_slopes(path, z)[50:]


def test_example_1_as_a_model_at_rest_has_the_exponent_0():
    """w - b never changes, so in two dimensions the exponent is 0 where the map's is negative."""
    growth, slopes = neuron_as_a_model(3.0)
    assert slopes.mean() == pytest.approx(-1.00786, abs=1e-4)
    np.testing.assert_allclose(growth, 0, rtol=0, atol=1e-6)


def test_example_1_as_a_model_in_chaos_has_the_maps_exponent():
    growth, slopes = neuron_as_a_model(7.5)
    assert np.median(np.abs(growth - slopes)) < 1e-5
    assert growth.mean() == pytest.approx(slopes.mean(), abs=1e-2)
    assert growth.mean() > 0.2


# Known exponents


def test_logistic_map():
    growth = largest_lyapunov(
        lambda state, n: [4 * state[0] * (1 - state[0])], [double(0.2)], steps=20000, d0=1e-9
    )
    assert growth.shape == (20000,)
    assert growth.mean() == pytest.approx(math.log(2), abs=1e-3)


def test_an_unstable_line():
    growth = largest_lyapunov(lambda state, n: [-1.7 * state[0]], [double(1.0, 2.0)], steps=5)
    np.testing.assert_allclose(growth, math.log(1.7), rtol=0, atol=1e-8)


class LinearModel:
    """Least squares, whose gradient descent has known multipliers."""

    def __init__(self, lr, momentum):
        self.x = random_numbers(30, 3, seed=1) * double(1.5, 0.8, 0.4)
        self.y = self.x.sum(1, keepdim=True)
        self.hessian = self.x.T @ self.x / 30
        self.lr = lr
        self.momentum = momentum

    def log_of_largest_multiplier(self):
        """From the companion matrix of (weights, velocity)."""
        hessian = self.hessian.numpy()
        identity = np.eye(3)
        companion = np.block(
            [
                [identity - self.lr * hessian, -self.lr * self.momentum * identity],
                [hessian, self.momentum * identity],
            ]
        )
        return math.log(np.abs(np.linalg.eigvals(companion)).max())

    def growth_of_model(self):
        model = nn.Linear(3, 1, bias=False).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum)
        return largest_lyapunov(
            lambda model, n: ((model(self.x) - self.y) ** 2).mean() / 2,
            (model, optimizer),
            steps=400,
            d0=[1e-6, 1e-3],
        )

    def growth_of_function(self):
        def step(state, n):
            weights, velocity = state
            velocity = weights @ self.hessian + self.momentum * velocity
            return [weights - self.lr * velocity, velocity]

        start = [torch.randn(1, 3).double(), torch.zeros(1, 3).double()]
        return largest_lyapunov(step, start, steps=400, displace=1)


every_momentum = pytest.mark.parametrize("momentum", [0.0, 0.6])
every_rate = pytest.mark.parametrize("lr", [0.05, 0.9])


@every_momentum
@every_rate
def test_linear_model_has_the_log_of_its_largest_multiplier(lr, momentum):
    case = LinearModel(lr, momentum)
    growth = case.growth_of_model()
    assert growth[300:].mean(0) == pytest.approx(case.log_of_largest_multiplier(), abs=2e-3)


@every_momentum
@every_rate
def test_linear_model_as_a_function_has_it_too(lr, momentum):
    case = LinearModel(lr, momentum)
    growth = case.growth_of_function()
    assert growth[300:].mean() == pytest.approx(case.log_of_largest_multiplier(), abs=2e-3)


def test_the_direction_of_a_real_multiplier_is_reached():
    case = LinearModel(lr=0.05, momentum=0.0)
    growth = case.growth_of_model()
    np.testing.assert_allclose(growth[-1], case.log_of_largest_multiplier(), rtol=0, atol=1e-6)


# A spiking network


class SpikingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 12)
        self.neuron = LIF(backend="eager")
        self.second = nn.Linear(12, 3)
        self.output = LIF(backend="eager")

    def forward(self, x):
        spikes = self.neuron(self.first(x))
        return self.output(self.second(spikes)).mean(0)


class Training(NamedTuple):
    net: SpikingNet
    optimizer: torch.optim.Optimizer
    x: Tensor  # [T, N, C]
    y: Tensor  # [N]


def spiking_training(momentum):
    torch.manual_seed(0)
    net = SpikingNet().double()
    x = torch.randn(6, 20, 5).double()
    y = torch.randint(3, (20,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=momentum)
    return Training(net, optimizer, x, y)


def test_initial_distances_agree_on_a_spiking_network():
    """Three decades of d0 agree to 1e-5 (7e-7 measured); a distance that flips spikes does not."""
    net, optimizer, x, y = spiking_training(momentum=0.0)

    def loss(net, n):
        with ChaoticLoss(50.0).attach(net, "first") as chaos:
            return nn.functional.cross_entropy(net(x), y) + chaos()

    distances = [1e-11, 1e-10, 1e-9, 1e-8, 1e-3]
    growth = largest_lyapunov(loss, (net, optimizer), steps=150, d0=distances)
    exponents = growth.mean(0)
    assert np.ptp(exponents[:4]) < 1e-5
    assert np.median(np.ptp(growth[:, 1:4], axis=1)) < 1e-5
    assert abs(exponents[4] - exponents[2]) > 1e-2
    assert growth.std() > 1e-3


# The caller's training


def bits(value):
    """A nested structure with every tensor as its bytes."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [bits(part) for part in value]
    return value


def bits_of_training(net, optimizer):
    gradients = [p.grad for p in net.parameters()]
    return bits((net.state_dict(), optimizer.state_dict(), gradients))


@pytest.mark.parametrize("steps_before", [0, 1])
def test_the_callers_model_optimiser_and_gradients_are_left_alone(steps_before):
    net, optimizer, x, y = spiking_training(momentum=0.9)
    net.append = nn.BatchNorm1d(3).double()  # with buffers, one of them an integer
    optimizer.add_param_group({"params": net.append.parameters()})

    def loss(net, n):
        return nn.functional.cross_entropy(net.append(net(x)), y)

    def train_once():
        loss(net, 0).backward()
        optimizer.step()

    for _ in range(steps_before):
        train_once()
    before = bits_of_training(net, optimizer)
    growth = largest_lyapunov(loss, (net, optimizer), steps=5)
    assert np.ptp(growth) > 0
    assert bits_of_training(net, optimizer) == before
    train_once()
    assert bits(net.state_dict()) != before[0]  # the comparison can fail


class Seen(NamedTuple):
    """What a loss was called with."""

    n: int
    weight: Tensor
    noise: Tensor


class NoisyTraining:
    """A linear model with a random number in its loss, which notes its calls."""

    STEPS = 4

    def __init__(self):
        torch.manual_seed(0)
        self.seen = []
        self.model = nn.Linear(2, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(4)

    def loss(self, model, n):
        noise = torch.rand(())
        self.seen.append(Seen(n, model.weight.detach().clone(), noise))
        return ((model(torch.ones(2)) + noise) ** 2).sum()

    def shadowed(self):
        """The calls of training and two twins; per step the twins come first."""
        d0 = [1e-3, 1e-2]
        largest_lyapunov(self.loss, (self.model, self.optimizer), self.STEPS, d0)
        return self.seen

    def plain(self):
        """The calls of training alone."""
        for n in range(self.STEPS):
            self.optimizer.zero_grad()
            self.loss(self.model, n).backward()
            self.optimizer.step()
        return self.seen


def test_every_step_is_seen_by_the_training_and_its_twins():
    seen = NoisyTraining().shadowed()
    assert [call.n for call in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_reference_is_the_training_itself():
    shadowed = NoisyTraining().shadowed()
    plain = NoisyTraining().plain()
    for n, call in enumerate(plain):
        first_twin, _, reference = shadowed[3 * n : 3 * n + 3]
        assert torch.equal(reference.weight, call.weight)
        assert not torch.equal(first_twin.weight, call.weight)


def test_training_and_twins_draw_the_random_numbers_of_training_alone():
    shadowed = NoisyTraining().shadowed()
    plain = NoisyTraining().plain()
    for n, call in enumerate(plain):
        assert all(torch.equal(other.noise, call.noise) for other in shadowed[3 * n : 3 * n + 3])


def test_random_numbers_go_on_as_after_training_alone():
    NoisyTraining().shadowed()
    after_shadowed = torch.rand(())
    NoisyTraining().plain()
    assert torch.equal(after_shadowed, torch.rand(()))


# Rows


class Coupled:
    """Three systems that mix numbers within a row, with a counter that no distance sees."""

    ROWS = 3

    def __init__(self):
        self.mix = random_numbers(4, 4, seed=2)
        self.w = random_numbers(self.ROWS, 4, seed=3)
        self.m = torch.zeros(self.ROWS, 4).double()
        self.count = torch.zeros(self.ROWS).long()

    def step(self, state, n):
        w, m, count = state
        m = 0.5 * m + torch.sin(3 * w) @ self.mix + 0.1 * (n % 3)
        return [w - 0.7 * m, m, count + 1]

    def growth(self, d0, **settings):
        state = [self.w, self.m, self.count]
        return largest_lyapunov(self.step, state, steps=60, d0=d0, rows=True, **settings)


def test_rows_equal_separate_runs():
    case = Coupled()
    together = case.growth([1e-9, 1e-6])
    assert together.shape == (60, 2, 3)
    assert np.ptp(together.mean(0)[0]) > 0.01
    for i in range(case.ROWS):
        state = [case.w[i], case.m[i], torch.tensor(0)]
        alone = largest_lyapunov(case.step, state, steps=60, d0=[1e-9, 1e-6])
        # matmul rounds as it likes, over 1e-9
        np.testing.assert_allclose(together[:, :, i], alone, rtol=0, atol=1e-4)


def test_a_distance_alone_grows_as_among_others():
    case = Coupled()
    together = case.growth([1e-9, 1e-6])
    alone = case.growth(1e-6)
    assert alone.shape == (60, 3)
    np.testing.assert_array_equal(alone, together[:, 1])


def test_another_seed_is_another_direction():
    case = Coupled()
    assert np.abs(case.growth(1e-6, seed=1)[0] - case.growth(1e-6)[0]).min() > 1e-3


def test_rows_of_a_model_under_adam():
    """Adam counts its steps in a tensor without rows."""

    class Stack(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.w = nn.Parameter(w)

    def loss(model, n):
        w = model.w
        return torch.cos(2 * w).sum() + (w[..., 0] * w[..., 1] ** 2).sum()

    def growth(w, rows):
        model = Stack(w.clone())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return largest_lyapunov(loss, (model, optimizer), steps=40, d0=1e-7, rows=rows)

    w = random_numbers(3, 4, seed=5)
    together = growth(w, rows=True)
    assert together.shape == (40, 3)
    assert np.ptp(together.mean(0)) > 1e-3
    for i in range(3):
        # alone, the counter has no part either: it is the same in both copies
        alone = growth(w[i], rows=False)
        np.testing.assert_allclose(together[:, i], alone, rtol=0, atol=1e-6)


def test_a_row_that_overflows_leaves_the_others_alone():
    growth = largest_lyapunov(
        lambda state, n: [state[0] * double(1e80, 0.5)], [double(1.0, 1.0)], steps=6, rows=True
    )
    assert np.isnan(growth[:, 0]).tolist() == [False] * 3 + [True] * 3
    np.testing.assert_allclose(growth[:, 1], math.log(0.5), atol=1e-9)


def test_an_overflow_without_rows_is_refused():
    line = r"^distance after step 3\[0\] = nan: must be a number in \[0, inf\)$"
    with pytest.raises(ValueError, match=line):
        largest_lyapunov(lambda state, n: [state[0] * 1e80], [double(1.0)], steps=6)


# Dropout and Adam


class Dropout:
    """A model that contracts at every mask: a growth above 0 means that the twins saw two masks."""

    def __init__(self):
        torch.manual_seed(0)
        self.x = torch.randn(40, 6).double()
        self.y = torch.randn(40, 1).double()
        self.model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 1)).double()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)

    def loss(self, model, n):
        return ((model(self.x) - self.y) ** 2).mean()

    def growth(self, loss, steps, d0):
        return largest_lyapunov(loss, (self.model, self.optimizer), steps, d0)


def test_dropout_masks_are_shared():
    case = Dropout()
    growth = case.growth(case.loss, steps=100, d0=[1e-8, 1e-4])
    assert growth.max() < 0
    np.testing.assert_allclose(growth[:, 0], growth[:, 1], rtol=0, atol=1e-5)


def test_dropout_masks_of_their_own_would_show():
    case = Dropout()
    seeds = iter(range(10**6))

    def loss_with_own_mask(model, n):
        torch.manual_seed(next(seeds))
        return case.loss(model, n)

    assert case.growth(loss_with_own_mask, steps=20, d0=1e-8).mean() > 1


UNDER_ADAM = {"steps": 150, "d0": 1e-7, "seed": 3}


class AdamByHand:
    """A quadratic loss under Adam, as a model with torch's optimizer and as a function."""

    SCALE = double(3.0, 1.0, 0.3)
    LR = 0.02

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1, bias=False).double()
        self.w = self.model.weight.detach().clone()
        self.zero = torch.zeros(1, 3).double()

    def step(self, state, n):
        w, m, v, count = state
        gradient = self.SCALE * w
        m = m + 0.1 * (gradient - m)
        v = 0.999 * v + 0.001 * gradient**2
        count = count + 1
        t = int(count)
        rate = self.LR / (1 - 0.9**t)
        return [w - rate * m / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v, count]

    def growth_of_model(self):
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.LR)
        return largest_lyapunov(
            lambda model, n: (self.SCALE * model.weight**2).sum() / 2,
            (self.model, optimizer),
            **UNDER_ADAM,
        )

    def growth_of_function(self):
        state = [self.w, self.zero, self.zero, torch.tensor(0)]
        return largest_lyapunov(self.step, state, displace=1, **UNDER_ADAM)

    def growth_without_moments(self):
        def step(state, n):
            return self.step([state[0], self.zero, self.zero, n], n)[:1]

        return largest_lyapunov(step, [self.w], **UNDER_ADAM)


def test_adam_is_shadowed_with_its_moments():
    case = AdamByHand()
    growth = case.growth_of_model()
    assert growth.std() > 1e-2
    np.testing.assert_allclose(growth, case.growth_of_function(), rtol=0, atol=1e-6)


class Momentum(nn.Module):
    """A weight that is pulled to a trace of itself, which is kept in a buffer."""

    def __init__(self, w, trace):
        super().__init__()
        self.w = nn.Parameter(w)
        self.register_buffer("trace", trace)
        self.register_buffer("count", torch.tensor(0))

    def loss(self):
        self.trace = 0.5 * self.trace + self.w.detach() ** 2
        self.count += 1
        return (self.w * torch.sin(self.trace + 0.1 * self.count)).sum()


def test_a_model_is_shadowed_with_its_buffers():
    """As a function of tensors with the buffer among them."""
    w = double(0.3, -0.8)
    trace = double(0.1, 0.2)
    model = Momentum(w.clone(), trace.clone())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    settings = {"steps": 25, "d0": 1e-7}
    growth = largest_lyapunov(lambda model, n: model.loss(), (model, optimizer), **settings)

    def step(state, n):
        w, trace = state
        trace = 0.5 * trace + w**2
        return [w - 0.4 * torch.sin(trace + 0.1 * (n + 1)), trace]

    known = largest_lyapunov(step, [w, trace], displace=1, **settings)
    np.testing.assert_allclose(growth, known, rtol=0, atol=1e-5)
    assert growth.std() > 0.1


def test_moments_that_are_forgotten_would_show():
    case = AdamByHand()
    assert np.abs(case.growth_without_moments() - case.growth_of_model()).max() > 0.1


# A twin that meets the reference


def test_twins_that_always_meet_the_reference_are_the_smallest_distance_apart():
    growth = largest_lyapunov(
        lambda state, n: [0 * state[0] + 0.5], [double(1.0, 3.0)], steps=4, d0=1e-3
    )
    np.testing.assert_allclose(growth, math.log(TINY / (1e-3 * math.sqrt(10))), rtol=1e-12)


def test_a_twin_that_meets_the_reference_starts_afresh():
    factors = [3, 0, 3, 3]
    growth = largest_lyapunov(
        lambda state, n: [state[0] * factors[n]], [double(1.0, 3.0)], steps=4, d0=1e-3
    )
    assert -710 < growth[1] < -690
    # after the zero, growth is seen again
    np.testing.assert_allclose(growth[[0, 2, 3]], math.log(3), rtol=0, atol=1e-9)


def test_a_superstable_orbit_has_a_finite_exponent():
    z = 1 / (2 * 0.65 * 0.35)  # the multiplier of w* is zero
    w_star = double(math.log(0.65 / 0.35) / 2)
    growth = largest_lyapunov(lambda state, n: map_step(state, z), [w_star], steps=50, d0=1e-9)
    # an ulp of w* over d0: what float64 can tell from zero
    assert -710 < growth.mean() < -14


# Distances


class Shrinking:
    """A step that works in place on numbers and a counter, and notes where it was."""

    def __init__(self, *numbers):
        self.state = [torch.tensor(numbers), torch.tensor(7)]
        self.path = []

    def step(self, state, n):
        self.path.append(state[0].clone())
        state[0].mul_(0.9)
        state[1].add_(1)
        return state

    def growth(self, steps):
        return largest_lyapunov(self.step, self.state, steps, d0=1e-2)

    def distance_before(self, n):
        """Between twin and training, which are called in this order."""
        return (self.path[2 * n] - self.path[2 * n + 1]).norm().item()


def test_steps_may_work_in_place():
    case = Shrinking(3.0, 4.0)
    growth = case.growth(steps=3)
    assert growth.dtype == np.float64
    np.testing.assert_allclose(growth, math.log(0.9), rtol=0, atol=1e-4)
    assert [given.tolist() for given in case.state] == [[3.0, 4.0], 7]


def test_the_distance_is_relative_to_the_start_and_does_not_shrink_with_the_state():
    case = Shrinking(3.0, 4.0)
    case.growth(steps=3)
    for n in range(3):
        assert case.distance_before(n) == pytest.approx(5e-2, rel=1e-4)


def test_the_distance_from_zero_is_absolute():
    case = Shrinking(0.0, 0.0)
    case.growth(steps=1)
    assert case.distance_before(0) == pytest.approx(1e-2, rel=1e-4)


ROUNDED = "the distance d0 is lost in rounding"


def growth_of(numbers, dtype, d0, factor=1.5, **settings):
    return largest_lyapunov(
        lambda state, n: [factor * state[0]],
        [torch.tensor(numbers, dtype=dtype)],
        steps=5,
        d0=d0,
        **settings,
    )


@pytest.mark.parametrize(
    ("numbers", "dtype", "d0", "settings"),
    [
        ([1.0, 2.0], torch.float32, 1e-9, {}),
        ([1.0, 2.0], torch.float32, [1e-3, 1e-9], {}),  # one of the twins
        ([1.0, 2.0], torch.float32, 1e-9, {"rows": True}),
        ([1.0, 2.0], torch.bfloat16, 1e-4, {}),
        ([1.0, 2.0], torch.float64, 1e-18, {}),
        ([0.0, 0.0], torch.float16, 1e-9, {}),  # below the smallest number
    ],
)
def test_a_distance_that_rounds_away_is_warned_of_once(numbers, dtype, d0, settings):
    with pytest.warns(UserWarning, match=ROUNDED) as warned:
        growth_of(numbers, dtype, d0, **settings)
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_a_distance_that_rounds_away_later_on_is_warned_of():
    grown = [1.0]

    def step(state, n):
        grown.append(state[0].abs().max().item())
        return [state[0] + 10.0**n]

    start = [torch.zeros(2)]  # the distance is taken once, from here
    with pytest.warns(UserWarning, match=ROUNDED) as warned:
        largest_lyapunov(step, start, steps=6, d0=1e-4)
    assert len(warned) == 1
    assert max(grown) > 1000  # whose neighbours in float32 are 6e-5 apart


def test_a_distance_of_a_model_that_rounds_away_is_warned_of():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match=ROUNDED):
        largest_lyapunov(
            lambda model, n: model(torch.ones(2)).square().sum(), (model, optimizer), 2, 1e-10
        )


@pytest.mark.parametrize(
    ("numbers", "dtype", "d0"),
    [
        ([1.0, 2.0], torch.float32, 1e-6),
        ([1.0, 2.0], torch.float64, 1e-14),
        ([0.0, 0.0], torch.float32, 1e-9),
        ([1e30, 1.0], torch.float64, 1e-9),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_distance_that_is_there_is_not_warned_of(numbers, dtype, d0):
    growth_of(numbers, dtype, d0)


# Bad input


class Unlike(NamedTuple):
    """A model and an optimizer that do not belong together."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


def with_optimizer_of(other_of):
    model = nn.Linear(1, 1)
    return Unlike(model, torch.optim.SGD(other_of(model), lr=0.1))


UNLIKE = {
    "another model": lambda model: nn.Linear(1, 1).parameters(),
    "a copy": lambda model: copy.deepcopy(model).parameters(),
    "one more": lambda model: [*model.parameters(), nn.Parameter(torch.zeros(1))],
    "another group": lambda model: [
        {"params": model.parameters()},
        {"params": [nn.Parameter(torch.zeros(1))]},
    ],
    "one replaced since": lambda model: replaced(model),
}


def replaced(model):
    old = list(model.parameters())
    model.weight = nn.Parameter(torch.zeros(1, 1))
    return old


@pytest.mark.parametrize("other_of", UNLIKE.values(), ids=UNLIKE)
def test_refuses_an_optimizer_of_other_parameters(other_of):
    line = "^the optimizer holds parameters that the model does not have: both must come together$"
    with pytest.raises(ValueError, match=line):
        largest_lyapunov(
            lambda model, n: model(torch.ones(1)).sum(), with_optimizer_of(other_of), 2
        )


def test_an_optimizer_of_some_of_the_parameters_is_fine():
    given = with_optimizer_of(lambda model: [model.weight])
    growth = largest_lyapunov(
        lambda model, n: model(torch.ones(1)).square().sum(), given, 2, d0=1e-3
    )
    assert np.isfinite(growth).all()


def quadratic(model, n):
    return model(torch.ones(1)).square().sum()


def test_refuses_an_optimizer_that_needs_a_closure():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"^the step of LBFGS needs a closure: write"):
        largest_lyapunov(quadratic, (model, torch.optim.LBFGS(model.parameters())), 2)


@pytest.mark.parametrize("displace", [1, 2, 0])
def test_refuses_to_choose_what_is_displaced_of_a_model(displace):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=f"^displace = {displace}: is for a state of tensors"):
        largest_lyapunov(quadratic, (model, optimizer), 2, displace=displace)


def test_refuses_a_model_with_something_else():
    with pytest.raises(ValueError, match=r"^optimizer = list: must be one of torch.optim"):
        largest_lyapunov(quadratic, (nn.Linear(1, 1), [torch.zeros(1)]), 2)


@pytest.mark.parametrize("order", ["optimizer first", "numbers"])
def test_refuses_a_state_that_is_neither(order):
    model = nn.Linear(1, 1)
    swapped = (torch.optim.SGD(model.parameters(), lr=0.1), model)
    state = {"optimizer first": swapped, "numbers": [1.0, 2.0]}[order]
    with pytest.raises(ValueError, match=r"^state must be a list of tensors, or \(model, optim"):
        largest_lyapunov(quadratic, state, 2)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"steps": 0}, r"steps = 0: must be an integer in \[1, inf\)"),
        ({"seed": -1}, r"seed = -1: must be an integer in \[0, inf\)"),
        ({"seed": 0.5}, r"seed = 0.5: must be an integer in \[0, inf\)"),
        ({"d0": math.inf}, r"d0 = inf: must be a number in \(0, inf\)"),
        ({"steps": 2.0}, r"steps = 2.0: must be an integer in \[1, inf\)"),
        ({"rows": "False"}, "rows = 'False': must be True or False"),
        ({"rows": 1}, "rows = 1: must be True or False"),
        ({"state": [torch.tensor(1)]}, "state has no floating point tensor, whose distance .*"),
        ({"displace": 0}, r"displace = 0: must be an integer in \[1, 1\]"),
        ({"displace": 2}, r"displace = 2: must be an integer in \[1, 1\]"),
        ({"displace": -1}, r"displace = -1: must be an integer in \[1, 1\]"),
        ({"displace": True}, r"displace = True: must be an integer in \[1, 1\]"),
        (
            {"state": [double(1.0), torch.tensor(1), double(2.0)], "displace": 3},
            r"displace = 3: must be an integer in \[1, 2\]",
        ),
        ({"d0": 0.0}, r"d0 = 0.0: must be a number in \(0, inf\)"),
        ({"d0": [1e-6, -1.0]}, r"d0\[1\] = -1.0: must be a number in \(0, inf\)"),
        ({"d0": []}, r"d0 is empty: must be a number in \(0, inf\)"),
        (
            {"state": [double(1.0), double(math.nan)]},
            r"state\[0, 1\] = nan: must be a number in \(-inf, inf\)",
        ),
        (
            {"step": lambda state, n: [state[0] / (2 - n) * 0]},
            r"distance after step 2\[0\] = nan: must be a number in \[0, inf\)",
        ),
    ],
)
def test_refuses_bad_input(arguments, line):
    given = {"step": lambda state, n: state, "state": [double(1.0)], "steps": 5}
    with pytest.raises(ValueError, match=f"^{line}$"):
        largest_lyapunov(**{**given, **arguments})


def test_defaults_are_the_documented_ones():
    parameters = inspect.signature(largest_lyapunov).parameters
    assert {name: p.default for name, p in parameters.items() if p.default is not p.empty} == {
        "d0": 1e-6,
        "rows": False,
        "seed": 0,
        "displace": None,
    }


@pytest.mark.parametrize("d0", [1e-6, [1e-6], [[1e-6, 1e-5, 1e-4], [1e-6, 1e-5, 1e-4]]])
@pytest.mark.parametrize("rows", [False, True])
def test_shape_is_that_of_the_distances_and_rows(d0, rows):
    growth = largest_lyapunov(
        lambda state, n: [1.7 * state[0]],
        [random_numbers(4, 2, seed=1)],
        steps=3,
        d0=d0,
        rows=rows,
    )
    assert growth.shape == (3, *np.shape(d0), *([4] if rows else []))
    np.testing.assert_allclose(growth, math.log(1.7), rtol=0, atol=1e-6)


def test_one_step_is_enough():
    growth = largest_lyapunov(lambda state, n: [3 * state[0]], [double(1.0)], steps=1)
    np.testing.assert_allclose(growth, [math.log(3)], rtol=0, atol=1e-9)


def first_direction(state, **settings):
    """Where a twin starts from the state, per tensor, in units of the distance."""
    seen = []

    def step(state, n):
        seen.append([t.clone() for t in state])
        return state

    largest_lyapunov(step, state, steps=1, d0=1e-3, **settings)
    twin, reference = seen
    return [(t - r) / 1e-3 for t, r in zip(twin, reference, strict=True)]


def test_all_tensors_start_displaced_unless_told_how_many():
    state = [double(3.0), torch.tensor(2), double(4.0), double(12.0)]
    for displace, moved in {None: 3, 3: 3, 2: 2, 1: 1}.items():
        parts = first_direction(state, displace=displace)
        displaced = [parts[0], parts[2], parts[3]]
        assert [bool(part.any()) for part in displaced] == [True] * moved + [False] * (3 - moved)
        norm = math.hypot(*[3.0, 4.0, 12.0][:moved])
        assert torch.cat(displaced).norm().item() == pytest.approx(norm, rel=1e-6)
        assert not parts[1].any()


def test_rows_start_in_one_direction_each_at_its_own_distance():
    w = double(3.0, 4.0, 0.0, 12.0, 5.0, 0.0).reshape(3, 2)
    (part,) = first_direction([w], rows=True)
    distances = part.norm(dim=1)
    np.testing.assert_allclose(distances, [5, 12, 5], rtol=1e-9)
    directions = part / distances[:, None]
    np.testing.assert_allclose(directions, directions[[0, 0, 0]], rtol=1e-9)


def test_a_gradient_left_over_has_no_part_in_a_step():
    model = nn.Linear(1, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fresh = largest_lyapunov(quadratic_of_double, (model, optimizer), 4)
    quadratic_of_double(model, 0).backward()
    assert model.weight.grad is not None
    np.testing.assert_array_equal(
        largest_lyapunov(quadratic_of_double, (model, optimizer), 4), fresh
    )
    # at rest along w - b, and by 1 - 2 * 2 * 0.1 along w + b
    assert math.log(0.6) < fresh[0] < fresh[-1] < 0


def quadratic_of_double(model, n):
    return model(torch.ones(1).double()).square().sum()


def test_the_old_path_works():
    from csbp_core.lyapunov import largest_lyapunov as by_the_old_path

    assert by_the_old_path is largest_lyapunov
