"""The map against autograd of the trained neuron, finite differences, closed forms, known maps."""

import inspect
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

import csbp_core
from csbp_core import dynamics, lif_step, train_single_neuron
from csbp_core.dynamics import kernels

I0 = 0.65
W_STAR = math.log(I0 / (1 - I0)) / 2
Z_C = 1 / (I0 * (1 - I0))  # w* loses its stability
Z_SUPERSTABLE = Z_C / 2  # the multiplier of w* is zero, or as good as zero
FLOAT32 = 2.0**-24  # noise of the size of float32's rounding

GRID = np.sort(np.random.default_rng(5).uniform(-8, 6, 2400))
FINE = np.sort(np.random.default_rng(6).uniform(0.3, 1.1, 1200))  # where BP acts, as published
WEIGHTS = np.concatenate([GRID, FINE])
NEURONS = [
    {},
    {"time_steps": 10},
    {"rate_steps": 20},
    {"decay": 0.5, "gamma": 0.7, "v_threshold": 1.3},
    {"decay": 0.9, "gamma": 2.0, "v_threshold": 0.4, "time_steps": 7, "rate_steps": 3},
]
every_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=str)


# One epoch


@every_neuron
def test_gradient_is_that_of_autograd(neuron):
    settings = {"w0": WEIGHTS, "b0": WEIGHTS, "dtype": torch.float64, "literal": False, **neuron}
    before, after = train_single_neuron("bp", 2, lr=1.0, **settings).w
    gradient = dynamics.gradient(WEIGHTS, **neuron)
    np.testing.assert_allclose(gradient, before - after, rtol=0, atol=1e-12)
    assert np.abs(gradient).max() > 0.1


@every_neuron
def test_step_is_that_of_autograd(neuron):
    settings = {"w0": WEIGHTS, "b0": WEIGHTS, "dtype": torch.float64, "literal": False, **neuron}
    _, after = train_single_neuron("csbp", 2, lr=0.8, z=7.3, I0=0.6, **settings).w
    step = dynamics.step(WEIGHTS, 7.3, lr=0.8, I0=0.6, **neuron)
    np.testing.assert_allclose(step, after, rtol=0, atol=1e-12)


@every_neuron
def test_slope_is_the_central_difference_on_smooth_pieces(neuron):
    z = 5.0
    h = 1e-6
    slope_change = dynamics.slope(WEIGHTS + h, z, **neuron) - dynamics.slope(
        WEIGHTS - h, z, **neuron
    )
    change = dynamics.step(WEIGHTS + h, z, **neuron) - dynamics.step(WEIGHTS - h, z, **neuron)
    smooth = (np.abs(slope_change) < 1e-3) & (np.abs(change) < 1e-3)
    assert smooth.mean() > 0.98
    slope = dynamics.slope(WEIGHTS, z, **neuron)
    np.testing.assert_allclose(slope[smooth], change[smooth] / (2 * h), rtol=0, atol=1e-6)


def test_start_of_the_published_run_lies_on_a_jump():
    assert dynamics.step(0.5, 10.0) == pytest.approx(-3.5649858, abs=1e-7)
    assert dynamics.step(np.nextafter(0.5, 1), 10.0) == pytest.approx(-7.03, abs=0.005)


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


def test_double_backward_is_a_trap():
    """It sends the surrogate through the spike twice."""
    w = torch.tensor(W_STAR, dtype=torch.float64)
    exact = 1 - 2 * I0 * (1 - I0)
    assert dynamics.slope(W_STAR, 1.0) == pytest.approx(exact, abs=1e-12)
    assert torch.func.grad(update)(w).item() == pytest.approx(-10.5, abs=0.1)


@pytest.mark.parametrize("start", [W_STAR, 0.45, 0.6, 0.9, -2.0])
def test_slope_is_forward_over_reverse_through_torch(start):
    w = torch.tensor(start, dtype=torch.float64)
    _, tangent = torch.func.jvp(update, (w,), (torch.ones_like(w),))
    assert tangent.item() == pytest.approx(float(dynamics.slope(start, 1.0)), abs=1e-10)


# Orbits and exponents at frozen z


def test_orbits_are_iterated_steps():
    z = np.linspace(0.5, 11, 21)
    w = np.full(21, 0.5)
    path = []
    for _ in range(15):
        path.append(w)
        w = dynamics.step(w, z)
    expected = np.array(path[5:]).T  # [z, epochs]
    np.testing.assert_array_equal(dynamics.orbit_diagram(z, transient=5, keep=10), expected)
    both = dynamics.orbit_diagram(z[:, None], w0=[0.5, 1.5], transient=5, keep=10)
    assert both.shape == (21, 2, 10)
    np.testing.assert_array_equal(both[:, 0], expected)


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_exponent_at_rest_is_its_closed_form(z):
    exact = math.log(abs(1 - 2 * z * I0 * (1 - I0)))
    assert dynamics.lyapunov(z, W_STAR) == pytest.approx(exact, abs=1e-12)
    assert dynamics.lyapunov(z, 0.3, transient=20000) == pytest.approx(exact, abs=1e-9)


def test_exponents_measured_elsewhere():
    assert dynamics.lyapunov(10.0, transient=5000) == pytest.approx(-0.473, abs=1e-3)
    assert dynamics.lyapunov(7.5, transient=5000, steps=20000) > 0.2


def test_cycle_measured_elsewhere():
    tail = dynamics.orbit_diagram(10.0, transient=5000, keep=6)
    np.testing.assert_allclose(tail[3:], tail[:3], atol=1e-9)


@pytest.mark.parametrize(
    ("r", "exponent", "tolerance"),
    [
        (4.0, math.log(2), 2e-3),
        (3.2, math.log(abs(-(3.2**2) + 2 * 3.2 + 4)) / 2, 1e-9),  # 2-cycle: 4 + 2 r - r**2
    ],
)
def test_the_iteration_finds_the_exponents_of_the_logistic_map(monkeypatch, r, exponent, tolerance):
    def logistic(x, r, _):
        return r * x * (1 - x), r * (1 - 2 * x)

    monkeypatch.setattr(kernels, "step_and_slope", logistic)
    starts = np.linspace(0.11, 0.39, 9)
    iterate = kernels.iterate_exponents.py_func
    found = iterate(starts, np.full(9, r), None, transient=1000, steps=20000)
    assert found.mean() == pytest.approx(exponent, abs=tolerance)


def test_a_superstable_orbit_has_a_finite_exponent():
    assert -710 < dynamics.lyapunov(Z_SUPERSTABLE, W_STAR) < -30


@pytest.mark.parametrize(("z", "w"), [(2.0, 0.7), (5.5, 0.5), (7.5, 0.5)])
def test_two_trajectories_give_the_exponent(z, w):
    distance = 1e-9
    near = torch.tensor(w, dtype=torch.float64)
    path = []
    growth = []
    for _ in range(120):
        path.append(near.item())
        following = update(near, z)
        growth.append(math.log(abs(update(near + distance, z) - following) / distance))
        near = following
    slopes = np.log(np.abs(dynamics.slope(path, z)))  # along the same path: z = 7.5 is chaotic
    assert np.median(np.abs(growth - slopes)[60:]) < 1e-5
    if z < 7:  # where every path is the same
        exponent = dynamics.lyapunov(z, w, transient=60, steps=60)
        assert np.mean(growth[60:]) == pytest.approx(exponent, abs=1e-3)


# Bifurcations


def test_bifurcations_of_the_published_run():
    found = {(event.name, event.period): event for event in dynamics.bifurcations()}
    # Found with independent code, to the digits that agree; the epochs to those measured elsewhere.
    known = {
        ("border w = 1", 8): (7.0025178659, 712.5),
        ("period doubling", 4): (6.9890728523, 716.3),
        ("superstable", 4): (6.6480388604, 816.3),
        ("period doubling", 2): (6.2889782584, 927.3),
        ("superstable", 2): (5.1157669136, 1340.2),
        ("border w = 1", 2): (5.0391589646, 1370.3),
        ("border w = 0.4", 2): (4.4100699186, 1637.0),
        ("period doubling", 1): (Z_C, 1643.5),
        ("superstable", 1): (Z_SUPERSTABLE, 3029.5),
    }
    assert found.keys() == known.keys()
    for key, (z, epoch) in known.items():
        assert found[key].z == pytest.approx(z, abs=1e-9)
        assert found[key].epoch == pytest.approx(epoch, abs=0.06)


def main_branch_start(event):
    """A start whose orbit is the event's cycle: near w*, or on the main branch."""
    return 0.3 if event.z < 4.5 else 0.5


def events(kind):
    """The published run's events of one kind."""
    return [event for event in dynamics.bifurcations() if event.kind == kind]


def test_orbits_repeat_below_a_period_doubling_and_not_above():
    doublings = events("period doubling")
    assert len(doublings) == 3
    for event in doublings:
        sides = [event.z - 2e-3, event.z + 2e-3]
        start = main_branch_start(event)
        below, above = dynamics.orbit_diagram(sides, start, 300_000, 2 * event.period)
        assert np.abs(below[event.period :] - below[: event.period]).max() < 1e-9
        assert np.abs(above[event.period :] - above[: event.period]).max() > 1e-3


def test_exponents_dive_at_a_superstable_cycle():
    superstable = events("superstable")
    assert len(superstable) == 3
    for event in superstable:
        (point,) = dynamics.orbit_diagram(event.z - 2e-3, main_branch_start(event), 300_000, 1)
        assert dynamics.lyapunov(event.z, point, 5000) < -5


def test_a_point_of_the_cycle_meets_the_border():
    borders = events("border")
    assert len(borders) == 3
    for event in borders:
        # The 2-cycle of the main branch lives above its border, the others below theirs.
        is_main_2_cycle = event.name == "border w = 1" and event.period == 2
        side = event.z + (1e-6 if is_main_2_cycle else -1e-6)
        orbit = dynamics.orbit_diagram(side, main_branch_start(event), 300_000, event.period)
        distances = np.abs(orbit - event.border)
        assert distances.min() < 1e-3
        assert len(np.unique(distances.round(6))) == event.period


def test_bifurcations_of_a_slower_map():
    """With lr = 0.1 the cycles that BP does not touch live at ten times the z."""
    slow = Counter((event.name, event.period) for event in dynamics.bifurcations(100.0, lr=0.1))
    assert slow["border w = 0.4", 2] == 1
    assert slow["period doubling", 1] == 1


@pytest.mark.parametrize("z", [0.3, 10.0, 1e4])
@pytest.mark.parametrize(
    "settings",
    [{"decay": 1.0}, {"I0": 0.8}, {"gamma": 5.0, "v_threshold": 0.1}, {"lr": 20.0}],
    ids=str,
)
def test_no_list_of_bifurcations_warns_or_is_out_of_order(settings, z):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [event.z for event in dynamics.bifurcations(z, **settings)]
    assert found == sorted(found, reverse=True)
    assert all(0 < event_z < z for event_z in found)


@pytest.mark.parametrize("target", [0.05, 0.01])
def test_bifurcations_of_a_branch_that_is_lost(target):
    """The list ends there, and is right so far: for 1 - I0 the map is the same, with -w."""
    found = dynamics.bifurcations(1e4, I0=target, bp=False)
    mirrored = dynamics.bifurcations(1e4, I0=round(1 - target, 2), bp=False)
    shared = min(len(found), len(mirrored))
    assert shared >= 6
    for event, mirror in zip(found[-shared:], mirrored[-shared:], strict=True):
        assert (event.name, event.period) == (mirror.name, mirror.period)
        assert event.z == pytest.approx(mirror.z, rel=1e-9)


def test_period_doubling_of_the_4_cycle_follows_the_square_root_law():
    (event,) = (event for event in events("period doubling") if event.period == 4)
    z = event.z + np.array([2e-4, 4e-4, 8e-4])
    orbits = dynamics.orbit_diagram(z, 0.3, 1_000_000, 8)
    split = np.abs(orbits[:, 4:] - orbits[:, :4]).max(1) ** 2
    intercept = np.polyfit(split, z, 2)[-1]  # where the two halves of the 8-cycle meet
    assert event.z == pytest.approx(intercept, abs=2e-6)


def test_without_bp_the_cascade_goes_on():
    found = dynamics.bifurcations(bp=False)
    assert ("period doubling", 16) in [(event.kind, event.period) for event in found]
    assert all(event.kind != "border" for event in found)


def test_only_a_border_has_a_border():
    found = dynamics.bifurcations()
    assert {event.border for event in found if event.kind != "border"} == {None}
    borders = sorted({event.border for event in found if event.kind == "border"})
    assert borders == pytest.approx([0.4, 1.0], abs=1e-12)


def test_no_epoch_where_z_does_not_decay():
    assert all(math.isnan(event.epoch) for event in dynamics.bifurcations(5.0, beta=1.0))


# Annealed runs


def test_annealed_run_is_the_trained_neuron_for_the_first_epochs():
    run = train_single_neuron("csbp", 20, dtype=torch.float64, literal=False)
    ours = dynamics.anneal(0.5, epochs=20)[:, 0]
    np.testing.assert_allclose(ours, run.w, rtol=0, atol=1e-6)


def test_contraction_between_the_bursts():
    path = dynamics.anneal(0.5)[:, 0]
    z = 10 * 0.9995 ** np.arange(4000)
    contraction = np.log(np.abs(dynamics.slope(path, z)))[740:1371].sum()
    # -303 where it was first measured; the end of burst 1 differs between machines.
    assert -330 < contraction < -260


def test_every_run_is_on_the_2_cycle_between_the_bursts():
    starts = np.random.default_rng(2).uniform(-6, 4, 200)
    runs = dynamics.anneal(starts, epochs=1201)[1200]
    np.testing.assert_allclose(np.unique(runs.round(9)), (-0.254, 1.252), atol=0.002)


def runs_by_hand(epochs, runs):
    """Annealed runs [epochs, runs] in NumPy, from the equations, with noise of their own."""
    rng = np.random.default_rng(1)
    z = 10.0
    w = np.full(runs, 0.5)
    path = np.empty((epochs, runs))
    for n in range(epochs):
        path[n] = w
        m = u = k = np.zeros_like(w)
        fired = np.zeros_like(w, dtype=bool)
        count = total = 0.0
        for _ in range(20):
            u = 1 + 0.2 * np.where(fired, 0, u) - 0.2 * m * k
            m = np.where(fired, 0, 0.2 * m) + 2 * w
            fired = m > 1
            k = np.maximum(0, 1 - np.abs(m - 1)) * u
            count = count + fired
            total = total + k
        w = w - z * (1 / (1 + np.exp(-2 * w)) - I0) - 2 * count / 100 * total
        w *= 1 + FLOAT32 * rng.standard_normal(runs)
        z *= 0.9995
    return path


def ends_of_burst_2(path):
    """The first epoch of each run from which it stays near w*."""
    is_away = np.abs(path - W_STAR) > 0.05
    return len(path) - np.argmax(is_away[::-1], axis=0)


def test_the_end_of_burst_2_in_distribution():
    known = ends_of_burst_2(runs_by_hand(epochs=2300, runs=1500))
    ours = ends_of_burst_2(dynamics.anneal(np.full(6000, 0.5), epochs=2300, noise=FLOAT32))
    assert ks_2samp(known, ours).pvalue > 1e-3
    assert 1655 < np.median(ours) < 1677
    assert np.percentile(ours, 1) < 1690 < 1873 < np.percentile(ours, 99)


def test_noise_repeats():
    first = dynamics.anneal(np.full(19, 0.5), epochs=300, noise=FLOAT32, seed=3)
    second = dynamics.anneal(np.full(19, 0.5), epochs=300, noise=FLOAT32, seed=3)
    np.testing.assert_array_equal(first, second)


def test_noise_of_a_run_depends_on_its_place_alone():
    runs = dynamics.anneal(np.full(19, 0.5), epochs=300, noise=FLOAT32, seed=3)
    assert len(np.unique(runs[-1])) == 19
    fewer = dynamics.anneal(np.full(5, 0.5), epochs=300, noise=FLOAT32, seed=3)
    np.testing.assert_array_equal(fewer, runs[:, :5])
    by_z = dynamics.anneal(0.5, z=[10.0, 8.0, 6.0], epochs=30, noise=1e-3, seed=1)
    by_w0 = dynamics.anneal([0.5] * 3, z=8.0, epochs=30, noise=1e-3, seed=1)
    np.testing.assert_array_equal(by_z[:, 1], by_w0[:, 1])


def test_noise_is_as_large_as_asked():
    runs = dynamics.anneal(np.full(19, 0.5), epochs=2, noise=FLOAT32, seed=3)
    kicks = runs[1] / dynamics.step(0.5, 10.0) - 1
    assert 0.3 < kicks.std() / FLOAT32 < 2


def test_finite_time_exponent_is_the_mean_over_the_window():
    exponents = dynamics.finite_time_lyapunov(0.5, epochs=300, window=40)
    path = dynamics.anneal(0.5, epochs=300)[:, 0]
    growth = np.log(np.abs(dynamics.slope(path, 10 * 0.9995 ** np.arange(300))))
    assert exponents.shape == (300,)
    assert np.isnan(exponents[:39]).all()
    means = [growth[:40].mean(), growth[111:151].mean(), growth[260:].mean()]
    np.testing.assert_allclose(exponents[[39, 150, 299]], means)


def test_finite_time_exponent_where_z_is_rounded_to_zero():
    """As `anneal` allows it."""
    assert dynamics.finite_time_lyapunov(0.5, beta=1e-300, epochs=9, window=1)[-1] == 0


# What is asked for, and where


FUNCTIONS = [
    dynamics.gradient,
    dynamics.step,
    dynamics.slope,
    dynamics.orbit_diagram,
    dynamics.lyapunov,
    dynamics.anneal,
    dynamics.finite_time_lyapunov,
    dynamics.bifurcations,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_shows_the_settings_of_the_map_with_their_defaults(function):
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert keywords == dynamics.Map()._asdict()
    assert list(keywords) == list(dynamics.Map._fields)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'tau'"):
        dynamics.gradient(0.5, tau=2)


def test_settings_of_any_type_share_one_compilation():
    dynamics.step(0.5, 1.0)
    compiled = len(kernels.evaluate_step.signatures)
    dynamics.step(1, 2, lr=1, decay=0, gamma=np.float32(1), time_steps=np.int32(5))
    assert len(kernels.evaluate_step.signatures) == compiled


def test_works_where_nothing_can_be_written(tmp_path):
    """Numba finds no folder for its cache: files stand where it would make folders."""
    package = tmp_path / "csbp_core"
    source = Path(csbp_core.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "dynamics" / "__pycache__").touch()
    home = tmp_path / "home"
    home.touch()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "XDG_CACHE_HOME" and not name.startswith("NUMBA_CACHE")
    }
    done = subprocess.run(
        [sys.executable, "-c", "from csbp_core import dynamics; print(dynamics.step(0.5, 10.0))"],
        cwd=tmp_path,
        env={**environment, "HOME": str(home), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == dynamics.step(0.5, 10.0)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: dynamics.orbit_diagram(0.0), r"z = 0.0: must be a number in \(0, inf\)"),
        (lambda: dynamics.orbit_diagram([]), "z is empty"),
        (lambda: dynamics.orbit_diagram([1.0, float("nan")]), r"z\[1\] = nan: must be"),
        (
            lambda: dynamics.orbit_diagram(1.0, keep=0),
            r"keep = 0: must be an integer in \[1, inf\)",
        ),
        (
            lambda: dynamics.orbit_diagram(1.0, transient=-1),
            r"transient = -1: must be an integer in \[0, inf\)",
        ),
        (
            lambda: dynamics.lyapunov(1.0, steps=0),
            r"steps = 0: must be an integer in \[1, inf\)",
        ),
        (lambda: dynamics.lyapunov(-1.0), r"z = -1.0: must be"),
        (lambda: dynamics.anneal(0.5, beta=1.5), r"beta = 1.5: must be a number in \(0, 1\]"),
        (lambda: dynamics.anneal(0.5, beta=0.0), r"beta = 0.0: must be"),
        (
            lambda: dynamics.anneal(0.5, noise=-1e-8),
            r"noise = -1e-08: must be a number in \[0, inf\)",
        ),
        (lambda: dynamics.anneal([]), "w0 is empty"),
        (
            lambda: dynamics.anneal(0.5, noise=1e-7, seed=-1),
            r"seed = -1: must be an integer in \[0, inf\)",
        ),
        (lambda: dynamics.anneal(0.5, epochs=0), "epochs = 0: must be"),
        (
            lambda: dynamics.finite_time_lyapunov(0.5, window=5000),
            r"window = 5000: must be an integer in \[1, 4000\]",
        ),
        (
            lambda: dynamics.anneal([0.5, 0.6], z=[1.0, 2.0, 3.0]),
            "must be numbers or 1-d and of one length",
        ),
        (lambda: dynamics.anneal(0.5, beta=[0.9, 0.8]), r"beta = \[0.9, 0.8\]: must be a number"),
        (lambda: dynamics.step(0.5, 1.0, bp="no"), "bp = 'no': must be True or False"),
        (lambda: dynamics.step(0.5, 1.0, bp=1), "bp = 1: must be True or False"),
        (lambda: dynamics.anneal(0.5, 0), r"^z = 0: must be a number in \(0, inf\)"),
        (
            lambda: dynamics.finite_time_lyapunov([0.5, 0.6]),
            r"w0 = \[0.5, 0.6\]: must be a number",
        ),
        (lambda: dynamics.gradient(float("inf")), "w = inf: must be"),
        (lambda: dynamics.step(0.5, 1.0, I0=1.0), r"I0 = 1.0: must be a number in \(0, 1\)"),
        (lambda: dynamics.bifurcations(z=-1.0), r"z = -1.0: must be"),
        (lambda: dynamics.bifurcations(beta=2.0), r"beta = 2.0: must be"),
    ],
)
def test_refuses_bad_input(call, line):
    with pytest.raises(ValueError, match=line):
        call()
