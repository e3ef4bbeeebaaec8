"""The map against torch's autograd of the trained neuron, finite differences, closed forms and known maps."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from csbp_core import dynamics, lif_step, train_single_neuron

I0, W_STAR = 0.65, math.log(0.65 / 0.35) / 2
GRID = np.sort(np.random.default_rng(5).uniform(-8, 6, 2400))
FINE = np.sort(np.random.default_rng(6).uniform(0.3, 1.1, 1200))  # where BP acts, at the published neuron
NEURONS = [
    {},
    {"time_steps": 10},
    {"rate_steps": 20},
    {"decay": 0.5, "gamma": 0.7, "v_threshold": 1.3},
    {"decay": 0.9, "gamma": 2.0, "v_threshold": 0.4, "time_steps": 7, "rate_steps": 3},
]


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_gradient_and_step_are_those_of_autograd(neuron):
    w = np.concatenate([GRID, FINE])
    options = dict(w0=w, b0=w, dtype=torch.float64, literal=False, **neuron)
    bp = train_single_neuron("bp", 2, lr=1.0, **options).w
    np.testing.assert_allclose(dynamics.gradient(w, **neuron), bp[0] - bp[1], rtol=0, atol=1e-12)
    csbp = train_single_neuron("csbp", 2, lr=0.8, z=7.3, I0=0.6, **options).w
    np.testing.assert_allclose(dynamics.step(w, 7.3, lr=0.8, I0=0.6, **neuron), csbp[1], rtol=0, atol=1e-12)
    assert np.abs(bp[0] - bp[1]).max() > 0.1


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_slope_is_the_central_difference_on_smooth_pieces(neuron):
    w, h = np.concatenate([GRID, FINE]), 1e-6
    slope = dynamics.slope(w, 5.0, **neuron)
    ends = [dynamics.slope(w + shift, 5.0, **neuron) for shift in (-h, h)]
    steps = [dynamics.step(w + shift, 5.0, **neuron) for shift in (-h, h)]
    smooth = (np.abs(ends[1] - ends[0]) < 1e-3) & (np.abs(steps[1] - steps[0]) < 1e-3)
    assert smooth.mean() > 0.98
    difference = (steps[1] - steps[0]) / (2 * h)
    np.testing.assert_allclose(slope[smooth], difference[smooth], rtol=0, atol=1e-6)


def test_start_of_the_published_run_lies_on_a_jump():
    assert dynamics.step(0.5, 10.0) == pytest.approx(-3.5649858, abs=1e-7)
    assert dynamics.step(np.nextafter(0.5, 1), 10.0) == pytest.approx(-7.03, abs=0.005)


def test_annealed_run_is_the_trained_neuron_for_the_first_epochs():
    run = train_single_neuron("csbp", 20, dtype=torch.float64, literal=False)
    np.testing.assert_allclose(dynamics.anneal(0.5, epochs=20)[:, 0], run.w, rtol=0, atol=1e-6)


def test_orbits_are_iterated_steps():
    z = np.linspace(0.5, 11, 21)
    w, expected = np.full(21, 0.5), []
    for n in range(15):
        if n >= 5:
            expected.append(w)
        w = dynamics.step(w, z)
    np.testing.assert_array_equal(dynamics.orbit_diagram(z, transient=5, keep=10), np.array(expected).T)
    both = dynamics.orbit_diagram(z[:, None], w0=[0.5, 1.5], transient=5, keep=10)
    np.testing.assert_array_equal(both[:, 0], np.array(expected).T)
    assert both.shape == (21, 2, 10)


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_exponent_at_rest_is_its_closed_form(z):
    exact = math.log(abs(1 - 2 * z * I0 * (1 - I0)))
    assert dynamics.lyapunov(z, W_STAR) == pytest.approx(exact, abs=1e-12)
    assert dynamics.lyapunov(z, 0.3, transient=20000) == pytest.approx(exact, abs=1e-9)


def test_exponents_measured_elsewhere():
    assert dynamics.lyapunov(10.0, transient=5000) == pytest.approx(-0.473, abs=1e-3)
    tail = dynamics.orbit_diagram(10.0, transient=5000, keep=6)
    np.testing.assert_allclose(tail[3:], tail[:3], atol=1e-9)
    assert dynamics.lyapunov(7.5, transient=5000, steps=20000) > 0.2


@pytest.mark.parametrize(
    ("r", "exponent", "tolerance"),
    [
        (4.0, math.log(2), 2e-3),
        (3.2, math.log(abs(-(3.2**2) + 2 * 3.2 + 4)) / 2, 1e-9),  # a 2-cycle: multiplier 4 + 2 r - r**2
    ],
)
def test_the_iteration_finds_the_exponents_of_the_logistic_map(monkeypatch, r, exponent, tolerance):
    monkeypatch.setattr(dynamics, "_epoch", lambda x, r, _: (r * x * (1 - x), r * (1 - 2 * x)))
    found = dynamics._iterate.py_func(np.linspace(0.11, 0.39, 9), np.full(9, r), None, 1.0, 1000, 20000, np.empty((0, 0)), True)
    assert found.mean() == pytest.approx(exponent, abs=tolerance)


def test_a_superstable_orbit_has_a_finite_exponent():
    z = 1 / (2 * I0 * (1 - I0))  # the multiplier of w* is zero, or as good as zero
    assert -710 < dynamics.lyapunov(z, W_STAR) < -30


def update(w, z=1.0):
    """One update of the torch neuron with b = w, differentiable in w."""

    def loss(w, b):
        v = k = count = torch.zeros_like(w)
        for _ in range(20):
            v, k = lif_step(w + b, v, k, decay=0.2)
            count = count + k
        s = torch.sigmoid(w + b)
        return (count / 10) ** 2 - z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))

    return w - torch.func.grad(loss)(w, w)


def test_double_backward_is_a_trap_and_forward_over_reverse_is_not():
    w = torch.tensor(W_STAR, dtype=torch.float64)
    exact = float(dynamics.slope(W_STAR, 1.0))
    assert exact == pytest.approx(1 - 2 * I0 * (1 - I0), abs=1e-12)
    assert torch.func.grad(update)(w).item() == pytest.approx(-10.5, abs=0.1)  # the surrogate, sent through the spike twice
    for start in (W_STAR, 0.45, 0.6, 0.9, -2.0):
        w = torch.tensor(start, dtype=torch.float64)
        _, tangent = torch.func.jvp(update, (w,), (torch.ones_like(w),))
        assert tangent.item() == pytest.approx(float(dynamics.slope(start, 1.0)), abs=1e-10)


def test_two_trajectories_give_the_exponent():
    for z, w in ((2.0, 0.7), (5.5, 0.5), (7.5, 0.5)):
        near, distance, growth, path = torch.tensor(w, dtype=torch.float64), 1e-9, [], []
        for n in range(120):
            far = near + distance
            if n >= 60:
                path.append(near.item())
            near, far = update(near, z), update(far, z)
            if n >= 60:
                growth.append(math.log(abs(far - near) / distance))
        slopes = np.log(np.abs(dynamics.slope(path, z)))  # along the same path: z = 7.5 is chaotic
        assert np.median(np.abs(growth - slopes)) < 1e-5
        if z < 7:  # where every path is the same
            assert np.mean(growth) == pytest.approx(dynamics.lyapunov(z, w, 60, 60), abs=1e-3)


def test_bifurcations_of_the_published_run():
    found = {(event.kind, event.period): event for event in dynamics.bifurcations()}
    known = {  # found with independent code, to the digits that agree; the epochs to those of facts measured elsewhere
        ("border w = 1", 8): (7.0025178659, 712.5),
        ("period doubling", 4): (6.9890728523, 716.3),
        ("superstable", 4): (6.6480388604, 816.3),
        ("period doubling", 2): (6.2889782584, 927.3),
        ("superstable", 2): (5.1157669136, 1340.2),
        ("border w = 1", 2): (5.0391589646, 1370.3),
        ("border w = 0.4", 2): (4.4100699186, 1637.0),
        ("period doubling", 1): (1 / (I0 * (1 - I0)), 1643.5),
        ("superstable", 1): (1 / (2 * I0 * (1 - I0)), 3029.5),
    }
    assert found.keys() == known.keys()
    for key, (z, epoch) in known.items():
        assert found[key].z == pytest.approx(z, abs=1e-9)
        assert found[key].epoch == pytest.approx(epoch, abs=0.06)
    for (kind, period), event in found.items():  # each root, seen again in the orbits on its two sides
        w0 = 0.3 if event.z < 4.5 else 0.5  # near w*, or on the main branch
        below, above = dynamics.orbit_diagram([event.z - 2e-3, event.z + 2e-3], w0, 300_000, 2 * period)
        if kind == "period doubling":
            assert np.abs(below[period:] - below[:period]).max() < 1e-9
            assert np.abs(above[period:] - above[:period]).max() > 1e-3
        elif kind == "superstable":
            assert dynamics.lyapunov(event.z, below[0], 5000) < -5
        elif kind.startswith("border"):  # the 2-cycle of the main branch lives above its border, the others below theirs
            side = event.z + (1e-6 if event.z == found["border w = 1", 2].z else -1e-6)
            near = np.abs(dynamics.orbit_diagram(side, w0, 300_000, period) - float(kind.split("=")[1]))
            assert near.min() < 1e-3
            assert period == len(np.unique(near.round(6)))


def test_bifurcations_of_other_maps():
    """With lr = 0.1 the cycles that BP does not touch live at ten times the z; no other list warns, or is out of order."""
    slow = [(e.kind, e.period) for e in dynamics.bifurcations(100.0, lr=0.1)]
    assert slow.count(("border w = 0.4", 2)) == 1
    assert slow.count(("period doubling", 1)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in ({"decay": 1.0}, {"I0": 0.8}, {"gamma": 5.0, "v_threshold": 0.1}, {"lr": 20.0}):
            for z in (0.3, 10.0, 1e4):
                at = [event.z for event in dynamics.bifurcations(z, **settings)]
                assert at == sorted(at, reverse=True)
                assert all(0 < one < z for one in at)


def test_bifurcations_of_a_branch_that_is_lost():
    """The list ends there, and is right so far: the map of the chaotic loss is the same for 1 - I0, with -w."""
    for one, other in ((0.05, 0.95), (0.01, 0.99)):
        events, mirrored = (dynamics.bifurcations(1e4, I0=target, bp=False) for target in (one, other))
        shared = min(len(events), len(mirrored))
        assert shared >= 6
        for event, mirror in zip(events[-shared:], mirrored[-shared:], strict=True):
            assert (event.kind, event.period) == (mirror.kind, mirror.period)
            assert event.z == pytest.approx(mirror.z, rel=1e-9)


def test_period_doubling_of_the_4_cycle_follows_the_square_root_law():
    (event,) = (e for e in dynamics.bifurcations() if (e.kind, e.period) == ("period doubling", 4))
    z = event.z + np.array([2e-4, 4e-4, 8e-4])
    orbits = dynamics.orbit_diagram(z, 0.3, 1_000_000, 8)
    split = np.abs(orbits[:, 4:] - orbits[:, :4]).max(1) ** 2
    intercept = np.polyfit(split, z, 2)[-1]  # where the two halves of the 8-cycle meet
    assert event.z == pytest.approx(intercept, abs=2e-6)


def test_without_bp_the_cascade_goes_on():
    kinds = [(event.kind, event.period) for event in dynamics.bifurcations(bp=False)]
    assert ("period doubling", 16) in kinds
    assert not any(kind.startswith("border") for kind, _ in kinds)


def test_the_collapse_between_the_bursts():
    path = dynamics.anneal(0.5)[:, 0]
    z = 10 * 0.9995 ** np.arange(4000)
    contraction = np.log(np.abs(dynamics.slope(path, z)))[740:1371].sum()
    assert -330 < contraction < -260  # -303 where it was first measured; the end of burst 1 differs between machines
    many = dynamics.anneal(np.random.default_rng(2).uniform(-6, 4, 200), epochs=1201)[1200]
    phases = np.unique(many.round(9))
    np.testing.assert_allclose(phases, (-0.254, 1.252), atol=0.002)


def test_the_end_of_burst_2_in_distribution():
    """Against the map written in NumPy from its equations, with noise of its own."""
    rng, z, w = np.random.default_rng(1), 10.0, np.full(1500, 0.5)
    paths = np.empty((2300, 1500))
    for n in range(2300):
        paths[n] = w
        m, fired, u, k, count, total = np.zeros_like(w), False, np.zeros_like(w), np.zeros_like(w), 0, 0
        for _ in range(20):
            u = 1 + 0.2 * np.where(fired, 0, u) - 0.2 * m * k
            m = np.where(fired, 0, 0.2 * m) + 2 * w
            fired = m > 1
            k = np.maximum(0, 1 - np.abs(m - 1)) * u
            count, total = count + fired, total + k
        w = w - z * (1 / (1 + np.exp(-2 * w)) - I0) - 2 * count / 100 * total
        w *= 1 + 2.0**-24 * rng.standard_normal(1500)
        z *= 0.9995
    ours = dynamics.anneal(np.full(6000, 0.5), epochs=2300, noise=2.0**-24)
    ends = [2300 - np.argmax((np.abs(part - W_STAR) > 0.05)[::-1], axis=0) for part in (paths, ours)]
    assert ks_2samp(*ends).pvalue > 1e-3
    assert 1655 < np.median(ends[1]) < 1677
    assert np.percentile(ends[1], 1) < 1690 < 1873 < np.percentile(ends[1], 99)


def test_noise_is_its_own_and_repeats():
    w0 = np.full(19, 0.5)
    by_z = dynamics.anneal(0.5, z=[10.0, 8.0, 6.0], epochs=30, noise=1e-3, seed=1)
    np.testing.assert_array_equal(by_z[:, 1], dynamics.anneal([0.5] * 3, z=8.0, epochs=30, noise=1e-3, seed=1)[:, 1])
    one, again = (dynamics.anneal(w0, epochs=300, noise=2.0**-24, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(dynamics.anneal(w0[:5], epochs=300, noise=2.0**-24, seed=3), one[:, :5])
    assert len(np.unique(one[-1])) == 19
    first = dynamics.anneal(w0, epochs=2, noise=2.0**-24, seed=3)[1] / dynamics.step(0.5, 10.0) - 1
    assert 0.3 < first.std() / 2.0**-24 < 2


def test_finite_time_exponent_is_the_mean_over_the_window():
    exponents = dynamics.finite_time_lyapunov(0.5, epochs=300, window=40)
    path, z = dynamics.anneal(0.5, epochs=300)[:, 0], 10 * 0.9995 ** np.arange(300)
    growth = np.log(np.abs(dynamics.slope(path, z)))
    assert exponents.shape == (300,)
    assert np.isnan(exponents[:39]).all()
    assert dynamics.finite_time_lyapunov(0.5, beta=1e-300, epochs=9, window=1)[-1] == 0  # z is 0, as anneal allows
    np.testing.assert_allclose(exponents[[39, 150, 299]], [growth[:40].mean(), growth[111:151].mean(), growth[260:].mean()])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: dynamics.orbit_diagram(0.0), r"z = 0.0: must be a number in \(0, inf\)"),
        (lambda: dynamics.orbit_diagram([]), "z is empty"),
        (lambda: dynamics.orbit_diagram([1.0, float("nan")]), r"z\[1\] = nan: must be"),
        (lambda: dynamics.orbit_diagram(1.0, keep=0), r"keep = 0: must be an integer in \[1, inf\)"),
        (lambda: dynamics.orbit_diagram(1.0, transient=-1), r"transient = -1: must be an integer in \[0, inf\)"),
        (lambda: dynamics.lyapunov(1.0, steps=0), r"steps = 0: must be an integer in \[1, inf\)"),
        (lambda: dynamics.lyapunov(-1.0), r"z = -1.0: must be"),
        (lambda: dynamics.anneal(0.5, beta=1.5), r"beta = 1.5: must be a number in \(0, 1\]"),
        (lambda: dynamics.anneal(0.5, beta=0.0), r"beta = 0.0: must be"),
        (lambda: dynamics.anneal(0.5, noise=-1e-8), r"noise = -1e-08: must be a number in \[0, inf\)"),
        (lambda: dynamics.anneal([]), "w0 is empty"),
        (lambda: dynamics.anneal(0.5, noise=1e-7, seed=-1), r"seed = -1: must be an integer in \[0, inf\)"),
        (lambda: dynamics.anneal(0.5, epochs=0), "epochs = 0: must be"),
        (lambda: dynamics.finite_time_lyapunov(0.5, window=5000), r"window = 5000: must be an integer in \[1, 4000\]"),
        (lambda: dynamics.anneal([0.5, 0.6], z=[1.0, 2.0, 3.0]), "must be numbers or 1-d and of one length"),
        (lambda: dynamics.anneal(0.5, beta=[0.9, 0.8]), r"beta = \[0.9, 0.8\]: must be a number"),
        (lambda: dynamics.step(0.5, 1.0, bp="no"), "bp = 'no': must be one of True, False"),
        (lambda: dynamics.step(0.5, 1.0, bp=1), "bp = 1: must be one of True, False"),
        (lambda: dynamics.anneal(0.5, 0), r"^z = 0: must be a number in \(0, inf\)"),
        (lambda: dynamics.finite_time_lyapunov([0.5, 0.6]), r"w0 = \[0.5, 0.6\]: must be a number"),
        (lambda: dynamics.gradient(float("inf")), "w = inf: must be"),
        (lambda: dynamics.gradient(0.5, tau=2), "unknown setting 'tau': must be one of lr, I0, bp"),
        (lambda: dynamics.step(0.5, 1.0, I0=1.0), r"I0 = 1.0: must be a number in \(0, 1\)"),
        (lambda: dynamics.bifurcations(z=-1.0), r"z = -1.0: must be"),
        (lambda: dynamics.bifurcations(beta=2.0), r"beta = 2.0: must be"),
    ],
)
def test_refuses_bad_input(call, line):
    with pytest.raises(ValueError, match=line):
        call()
