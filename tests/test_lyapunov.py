"""Two trajectories against the exact map, closed forms, hand-written steps, and each other."""

import copy
import math

import numba
import numpy as np
import pytest
import torch
from torch import nn

from csbp_core import LIF, ChaoticLoss, chaotic_loss, dynamics, lif_step
from csbp_core.lyapunov import largest_lyapunov

Z = (1.0, 3.0, 5.5, 6.5, 7.5, 8.0, 9.0, 10.0)  # frozen z; the exponent is positive at 7.5 and 8
TINY = np.finfo(float).tiny


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(threads[0])
    numba.set_num_threads(threads[1])


def test_example_1_in_the_exact_map():
    start = dynamics.orbit_diagram(Z, transient=1000, keep=1)[:, 0]
    growth = largest_lyapunov(lambda state, n: [torch.from_numpy(dynamics.step(state[0].numpy(), Z))],
                              [torch.from_numpy(start)], 2000, [1e-9, 1e-8], rows=True)  # fmt: skip
    exact = dynamics.lyapunov(Z)  # the same orbits
    assert growth.shape == (2000, 2, len(Z))
    np.testing.assert_allclose(growth.mean(0), [exact, exact], rtol=0, atol=1e-5)
    assert [z for z, exponent in zip(Z, exact, strict=True) if exponent > 0] == [7.5, 8.0]
    assert np.abs(exact).min() > 0.05


def neuron_loss(w, b, z):
    v = k = count = torch.zeros_like(w)
    for _ in range(20):
        v, k = lif_step(w + b, v, k, decay=0.2)
        count = count + k
    return ((count / 10) ** 2).sum() + chaotic_loss(w + b, z, scale=1.0, reduction="none").sum()


def test_example_1_in_the_trained_neuron():
    """Each step against log |f'| of the exact map where the neuron is, so that chaos does not part the two paths."""
    z, path = double(2.0, 5.5, 7.5, 8.0), []

    def step(state, n):
        w = state[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(neuron_loss(w, w.detach(), z), w)  # b = w, and has the same gradient
        path.append(state[0].numpy())
        return [w - gradient]

    start = torch.from_numpy(dynamics.orbit_diagram(z.numpy(), keep=1)[:, 0])
    growth = largest_lyapunov(step, [start], 200, 1e-8, rows=True)
    slopes = np.log(np.abs(dynamics.slope(path[1::2], z.numpy())))  # the reference's call is the second of each step
    assert np.median(np.abs(growth - slopes)) < 1e-6
    np.testing.assert_allclose(growth.mean(0), slopes.mean(0), rtol=0, atol=1e-5)
    assert (growth.mean(0) > 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize("z", [3.0, 7.5])
def test_example_1_as_a_model_and_an_optimiser(z):
    """w - b never changes, so training in two dimensions has the exponent 0 where the map's is negative."""
    model, path = nn.Linear(1, 1).double(), []
    nn.init.constant_(model.weight, 0.3)
    nn.init.constant_(model.bias, 0.3)

    def loss(model, n):
        path.append(model.weight.item())
        return neuron_loss(model.weight[0], model.bias, z)

    growth = largest_lyapunov(loss, (model, torch.optim.SGD(model.parameters(), lr=1.0)), 300, 1e-8)[50:]
    slopes = np.log(np.abs(dynamics.slope(path[1::2], z)))[50:]
    if z == 3.0:
        assert slopes.mean() == pytest.approx(-1.00786, abs=1e-4)
        np.testing.assert_allclose(growth, 0, rtol=0, atol=1e-6)
    else:
        assert np.median(np.abs(growth - slopes)) < 1e-5
        assert growth.mean() == pytest.approx(slopes.mean(), abs=1e-2)
        assert growth.mean() > 0.2


def test_logistic_map():
    growth = largest_lyapunov(lambda s, n: [4 * s[0] * (1 - s[0])], [double(0.2)], 20000, 1e-9)
    assert growth.shape == (20000,)
    assert growth.mean() == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("lr", [0.05, 0.9])
def test_linear_model_has_the_log_of_its_largest_multiplier(lr, momentum):
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1)).double() * double(1.5, 0.8, 0.4)
    y = x.sum(1, keepdim=True)
    model = nn.Linear(3, 1, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    hessian = (x.T @ x / 30).numpy()
    identity = np.eye(3)
    companion = np.block([[identity - lr * hessian, -lr * momentum * identity], [hessian, momentum * identity]])
    largest = np.abs(np.linalg.eigvals(companion)).max()
    growth = largest_lyapunov(lambda m, n: ((m(x) - y) ** 2).mean() / 2, (model, optimizer), 400, [1e-6, 1e-3])
    assert growth[300:].mean(0) == pytest.approx(math.log(largest), abs=2e-3)
    if lr == 0.05 and not momentum:  # a real multiplier: its direction is reached
        np.testing.assert_allclose(growth[-1], math.log(largest), rtol=0, atol=1e-6)
    functional = largest_lyapunov(
        lambda s, n: [s[0] - lr * (g := s[0] @ torch.from_numpy(hessian) + momentum * s[1]), g],
        [torch.randn(1, 3).double(), torch.zeros(1, 3).double()], 400, displace=1)  # fmt: skip
    assert functional[300:].mean() == pytest.approx(math.log(largest), abs=2e-3)
    if lr == 0.05 and not momentum:
        unstable = largest_lyapunov(lambda s, n: [-1.7 * s[0]], [double(1.0, 2.0)], 5)
        np.testing.assert_allclose(unstable, math.log(1.7), rtol=0, atol=1e-8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.neuron = nn.Linear(5, 12), LIF(backend="eager")
        self.second, self.output = nn.Linear(12, 3), LIF(backend="eager")

    def forward(self, x):
        return self.output(self.second(self.neuron(self.first(x)))).mean(0)


def network(momentum=0.9):
    torch.manual_seed(0)
    net, x, y = Net().double(), torch.randn(6, 20, 5).double(), torch.randint(3, (20,))
    return net, torch.optim.SGD(net.parameters(), lr=0.5, momentum=momentum), x, y


def test_initial_distances_agree_on_a_spiking_network():
    """Three decades of d0 agree to 1e-5 in the exponent (7e-7 measured); a distance that flips spikes does not."""
    net, optimizer, x, y = network(0.0)

    def loss(net, n):
        with ChaoticLoss(50.0).attach(net, "first") as chaos:
            return nn.functional.cross_entropy(net(x), y) + chaos()

    growth = largest_lyapunov(loss, (net, optimizer), 150, [1e-11, 1e-10, 1e-9, 1e-8, 1e-3])
    assert np.ptp(growth[:, :4].mean(0)) < 1e-5
    assert np.median(np.ptp(growth[:, 1:4], axis=1)) < 1e-5
    assert abs(growth.mean(0)[4] - growth.mean(0)[2]) > 1e-2
    assert growth.std() > 1e-3


def test_the_callers_model_optimiser_and_gradients_are_left_alone():
    net, optimizer, x, y = network()
    net.append = nn.BatchNorm1d(3).double()  # with buffers, one of them an integer
    optimizer.add_param_group({"params": net.append.parameters()})

    def loss(net, n):
        return nn.functional.cross_entropy(net.append(net(x)), y)

    for warm in (False, True):
        if warm:
            loss(net, 0).backward()
            optimizer.step()
        kept = copy.deepcopy((net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()]))
        growth = largest_lyapunov(loss, (net, optimizer), 5)
        assert np.ptp(growth) > 0
        now = net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()]
        assert bits(now) == bits(kept)
    loss(net, 0).backward()
    optimizer.step()
    assert bits(net.state_dict()) != bits(kept[0])


def bits(value):
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(one) for key, one in value.items()}
    return [bits(one) for one in value] if isinstance(value, list | tuple) else value


def test_the_reference_is_the_training_itself():
    """What a loss sees at step n is what plain training sees, random numbers included; the twins come before it."""
    seen = []

    def loss(model, n):
        noise = torch.rand(())
        seen.append((n, model.weight.detach().clone(), noise))
        return ((model(torch.ones(2)) + noise) ** 2).sum()

    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(4)
    largest_lyapunov(loss, (model, optimizer), 4, [1e-3, 1e-2])
    after = torch.rand(())
    assert [n for n, *_ in seen] == [n for n in range(4) for _ in range(3)]
    shadowed, seen = seen, []
    torch.manual_seed(4)
    for n in range(4):
        optimizer.zero_grad()
        loss(model, n).backward()
        optimizer.step()
        twins = shadowed[3 * n : 3 * n + 3]
        assert all(torch.equal(noise, seen[n][2]) for *_, noise in twins)
        assert torch.equal(twins[2][1], seen[n][1])
        assert not torch.equal(twins[0][1], seen[n][1])
    assert torch.equal(after, torch.rand(()))


def test_rows_equal_separate_runs():
    def step(state, n):
        w, m, count = state
        m = 0.5 * m + torch.sin(3 * w) @ mix + 0.1 * (n % 3)
        return [w - 0.7 * m, m, count + 1]

    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(2)).double()
    w, m, count = (
        torch.randn(3, 4, generator=torch.Generator().manual_seed(3)).double(),
        torch.zeros(3, 4).double(),
        torch.zeros(3),
    )
    together = largest_lyapunov(step, [w, m, count.long()], 60, [1e-9, 1e-6], rows=True)
    assert together.shape == (60, 2, 3)
    for i in range(3):
        alone = largest_lyapunov(step, [w[i], m[i], torch.tensor(0)], 60, [1e-9, 1e-6])
        np.testing.assert_allclose(together[:, :, i], alone, rtol=0, atol=1e-4)  # matmul rounds as it likes, over 1e-9
    assert np.ptp(together.mean(0)[0]) > 0.01
    one = largest_lyapunov(step, [w, m, count.long()], 60, 1e-6, rows=True)
    assert one.shape == (60, 3)
    np.testing.assert_array_equal(one, together[:, 1])
    other = largest_lyapunov(step, [w, m, count.long()], 60, 1e-6, rows=True, seed=1)
    assert np.abs(other[0] - one[0]).min() > 1e-3


def test_rows_of_a_model_under_adam():
    """Adam counts its steps in a tensor without rows."""

    class Stack(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.w = nn.Parameter(w)

    def loss(model, n):
        return torch.cos(2 * model.w).sum() + (model.w[..., 0] * model.w[..., 1] ** 2).sum()

    def growth(w, rows):
        model = Stack(w.clone())
        return largest_lyapunov(loss, (model, torch.optim.Adam(model.parameters(), lr=0.1)), 40, 1e-7, rows=rows)

    w = torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).double()
    together = growth(w, True)
    assert together.shape == (40, 3)
    for i in range(3):
        # alone, the counter has no part either: it is the same in both copies
        np.testing.assert_allclose(together[:, i], growth(w[i], False), rtol=0, atol=1e-6)
    assert np.ptp(together.mean(0)) > 1e-3


def test_a_row_that_overflows_leaves_the_others_alone():
    growth = largest_lyapunov(lambda s, n: [s[0] * double(1e80, 0.5)], [double(1.0, 1.0)], 6, rows=True)
    assert np.isnan(growth[:, 0]).tolist() == [False] * 3 + [True] * 3
    np.testing.assert_allclose(growth[:, 1], math.log(0.5), atol=1e-9)
    with pytest.raises(ValueError, match=r"^distance after step 3\[0\] = nan: must be a number in \[0, inf\)$"):
        largest_lyapunov(lambda s, n: [s[0] * 1e80], [double(1.0)], 6)


def test_dropout_masks_are_shared():
    """Contracting at every mask, so a growth above 0 in any step means that the twins saw two masks."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 6).double(), torch.randn(40, 1).double()
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    growth = largest_lyapunov(lambda m, n: ((m(x) - y) ** 2).mean(), (model, optimizer), 100, [1e-8, 1e-4])
    assert growth.max() < 0
    np.testing.assert_allclose(growth[:, 0], growth[:, 1], rtol=0, atol=1e-5)
    calls = iter(range(10**6))

    def own_masks(m, n):
        torch.manual_seed(next(calls))
        return ((m(x) - y) ** 2).mean()

    assert largest_lyapunov(own_masks, (model, optimizer), 20, 1e-8).mean() > 1  # what it would look like


def test_adam_is_shadowed_with_its_moments():
    scale, lr = double(3.0, 1.0, 0.3), 0.02

    def adam(state, n):
        w, m, v, count = state
        gradient = scale * w
        m, v, count = m + 0.1 * (gradient - m), 0.999 * v + 0.001 * gradient**2, count + 1
        t = int(count)
        return [w - lr / (1 - 0.9**t) * m / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v, count]

    model = nn.Linear(3, 1, bias=False).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    growth = largest_lyapunov(lambda m, n: (scale * m.weight**2).sum() / 2, (model, optimizer), 150, 1e-7, seed=3)
    w, zero = model.weight.detach(), torch.zeros(1, 3).double()
    by_hand = largest_lyapunov(adam, [w, zero, zero, torch.tensor(0)], 150, 1e-7, seed=3, displace=1)
    np.testing.assert_allclose(growth, by_hand, rtol=0, atol=1e-6)
    assert growth.std() > 1e-2
    forgetful = largest_lyapunov(lambda s, n: adam([s[0], zero, zero, n], n)[:1], [w], 150, 1e-7, seed=3)
    assert np.abs(forgetful - growth).max() > 0.1  # moments count


def test_a_twin_that_meets_the_reference_starts_afresh():
    growth = largest_lyapunov(lambda s, n: [0 * s[0] + 0.5], [double(1.0, 3.0)], 4, 1e-3)
    np.testing.assert_allclose(growth, math.log(TINY / (1e-3 * math.sqrt(10))), rtol=1e-12)
    some = largest_lyapunov(lambda s, n: [s[0] * (0 if n == 1 else 3)], [double(1.0, 3.0)], 4, 1e-3)
    np.testing.assert_allclose(some[[0, 2, 3]], math.log(3), rtol=0, atol=1e-9)  # after the zero, growth is seen again
    assert -710 < some[1] < -690
    superstable = 1 / (2 * 0.65 * 0.35)  # the multiplier of w* is zero
    w_star = double(math.log(0.65 / 0.35) / 2)
    growth = largest_lyapunov(lambda s, n: [torch.from_numpy(dynamics.step(s[0].numpy(), superstable))], [w_star], 50, 1e-9)
    assert -710 < growth.mean() < -14  # an ulp of w* over d0: what float64 can tell from zero


def test_distance_is_relative_to_what_is_displaced_and_steps_may_work_in_place():
    distances = []

    def step(state, n):
        distances.append(state[0].clone())
        state[0].mul_(0.9)
        state[1].add_(1)
        return state

    given = [torch.tensor([3.0, 4.0]), torch.tensor(7)]
    growth = largest_lyapunov(step, given, 3, 1e-2)
    assert [d.tolist() for d in given] == [[3.0, 4.0], 7]
    assert growth.dtype == np.float64
    for n in range(3):  # d0 does not shrink with the state
        assert (distances[2 * n] - distances[2 * n + 1]).norm().item() == pytest.approx(5e-2, rel=1e-4)
    np.testing.assert_allclose(growth, math.log(0.9), rtol=0, atol=1e-4)
    distances.clear()
    largest_lyapunov(step, [torch.zeros(2), torch.tensor(7)], 1, 1e-2)
    assert (distances[0] - distances[1]).norm().item() == pytest.approx(1e-2, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"steps": 0}, r"steps = 0: must be an integer in \[1, inf\)"),
        ({"steps": 2.0}, r"steps = 2.0: must be an integer in \[1, inf\)"),
        ({"d0": 0.0}, r"d0 = 0.0: must be a number in \(0, inf\)"),
        ({"d0": [1e-6, -1.0]}, r"d0\[1\] = -1.0: must be a number in \(0, inf\)"),
        ({"d0": []}, r"d0 is empty: must be a number in \(0, inf\)"),
        ({"state": [double(1.0), double(math.nan)]}, r"state\[0, 1\] = nan: must be a number in \(-inf, inf\)"),
        ({"step": lambda s, n: [s[0] / (2 - n) * 0]}, r"distance after step 2\[0\] = nan: must be a number in \[0, inf\)"),
    ],
)
def test_refuses_bad_input(arguments, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        largest_lyapunov(**{"step": lambda s, n: s, "state": [double(1.0)], "steps": 5, **arguments})
