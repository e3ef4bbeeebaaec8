"""The map against autograd of the trained neuron, finite differences, closed forms, known maps."""

import inspect
import json
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
from helpers import lif_by_hand
from scipy.stats import ks_2samp

import csbp_core
from csbp_core import dynamics, lif_step, train_single_neuron
from csbp_core.dynamics import kernels
from csbp_notebooks.files import ROOT

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
    # gamma < decay * v_threshold: a neuron that fires may be further than gamma below threshold
    {"decay": 0.9, "gamma": 0.6, "time_steps": 5},
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


@pytest.mark.parametrize(("gamma", "v_threshold"), [(1.0, 1.0), (0.25, 1.0), (0.5, 2.0)])
def test_at_threshold_and_at_the_ends_of_the_triangle_the_gradient_is_exact(gamma, v_threshold):
    """The potential of the first step is 2 w; in binary fractions nothing is rounded."""
    potentials = v_threshold + gamma * np.array([-1, -0.5, 0, 0.5, 1, 1.5])
    settings = {"decay": 0.5, "time_steps": 4, "gamma": gamma, "v_threshold": v_threshold}
    known = []
    for current in potentials:
        x = np.full(4, current)
        zero = np.zeros(4)
        run = lif_by_hand(x, zero + 1, 0, zero, 0.5, v_threshold, gamma, detach_reset=False)
        known.append(2 * run.spikes.sum() / 100 * run.grad_x.sum())
    gradient = dynamics.gradient(potentials / 2, **settings)
    np.testing.assert_allclose(gradient, known, rtol=1e-14, atol=1e-15)
    assert not gradient[4:].any()


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

    monkeypatch.setattr(kernels, "chaotic_step", logistic)
    starts = np.linspace(0.11, 0.39, 9)
    iterate = kernels.iterate_exponents.py_func
    params = dynamics.Map(bp=False)
    found = iterate(starts, np.full(9, r), params, transient=1000, steps=20000)
    assert found.mean() == pytest.approx(exponent, abs=tolerance)


def test_a_superstable_orbit_has_a_finite_exponent():
    """For I0 = 1/2 and z = 2 the multiplier of w* = 0 is zero exactly, and is floored."""
    assert dynamics.slope(0.0, 2.0, I0=0.5) == 0
    floor = math.log(np.finfo(float).tiny)
    assert floor == pytest.approx(-708.3964, abs=1e-4)
    exponent = dynamics.lyapunov(2.0, 0.0, transient=3, steps=64, I0=0.5)
    assert exponent == pytest.approx(floor, rel=1e-12)
    along_a_run = dynamics.finite_time_lyapunov(0.0, 2.0, 1.0, epochs=3, window=1, I0=0.5)
    np.testing.assert_allclose(along_a_run, floor, rtol=1e-12)


def test_an_orbit_that_is_almost_superstable_has_its_own_exponent():
    exponent = dynamics.lyapunov(Z_SUPERSTABLE, W_STAR)
    slope = abs(dynamics.slope(W_STAR, Z_SUPERSTABLE))
    assert -710 < exponent < -30
    assert exponent == pytest.approx(math.log(max(slope, np.finfo(float).tiny)), rel=0.1)


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


def test_the_recorded_share_of_chaos_is_that_of_the_orbits_that_do_not_repeat():
    """An orbit on a cycle repeats itself, and one with a positive exponent does not."""
    found = json.loads((ROOT / "images" / "bifurcation.json").read_text())["results"]
    falling = 10 * 0.9995 ** np.arange(0, 2400, 3)  # each z that notebook 04 holds
    held = falling[falling > Z_C]
    starts = np.linspace(-6, 4, 12)
    orbits = dynamics.orbit_diagram(held[:, None], starts, transient=3000, keep=128)
    repeats = np.zeros(orbits.shape[:2], dtype=bool)  # [z, starts]
    for period in range(1, 65):
        moved = np.abs(orbits[..., period:] - orbits[..., :-period]).max(axis=-1)
        repeats |= moved < 1e-6
    share = 1 - repeats.mean()
    assert found["chaotic_share_at_frozen_z"] == pytest.approx(share, abs=0.005)


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
    doublings = [event.period for event in found if event.kind == "period doubling"]
    assert doublings == [32, 16, 8, 4, 2, 1]
    superstable = [event.period for event in found if event.kind == "superstable"]
    assert superstable == doublings
    assert all(event.kind != "border" for event in found)
    z = [event.z for event in found if event.kind == "period doubling"]
    ratio = (z[2] - z[3]) / (z[1] - z[2])
    assert ratio == pytest.approx(4.669, rel=0.02)  # Feigenbaum's constant


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


# Every constant of the map is another one than by default, and none is like another.
SETTINGS = {
    "lr": 0.8,
    "I0": 0.6,
    "bp": True,
    "time_steps": 7,
    "rate_steps": 3,
    "decay": 0.9,
    "v_threshold": 0.4,
    "gamma": 2.0,
}


def run_by_steps(w, z, beta, epochs, settings):
    """w before each epoch, and the slope there, by single steps."""
    path = []
    slopes = []
    for _ in range(epochs):
        path.append(w)
        slopes.append(dynamics.slope(w, z, **settings))
        w = dynamics.step(w, z, **settings)
        z = z * beta
    return np.array(path), np.array(slopes)


@pytest.mark.parametrize("bp", [True, False])
def test_settings_reach_every_function_of_orbits(bp):
    settings = {**SETTINGS, "bp": bp}
    frozen, slopes = run_by_steps(0.5, 7.0, 1.0, 9, settings)
    orbit = dynamics.orbit_diagram(7.0, transient=4, keep=5, **settings)
    np.testing.assert_array_equal(orbit, frozen[4:])
    exponent = dynamics.lyapunov(7.0, transient=4, steps=5, **settings)
    assert exponent == pytest.approx(np.log(np.abs(slopes[4:])).mean(), rel=1e-12)
    annealed, slopes = run_by_steps(0.5, 7.0, 0.9, 9, settings)
    run = dynamics.anneal(0.5, 7.0, 0.9, epochs=9, **settings)
    np.testing.assert_array_equal(run[:, 0], annealed)
    exponents = dynamics.finite_time_lyapunov(0.5, 7.0, 0.9, epochs=9, window=1, **settings)
    np.testing.assert_allclose(exponents, np.log(np.abs(slopes)), rtol=1e-9)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_constant_changes_the_orbit(setting):
    """So that the test above would see one that is lost."""
    changed = {**SETTINGS, setting: dynamics.Map._field_defaults[setting]}
    if setting == "bp":
        changed["bp"] = False
    orbits = [dynamics.orbit_diagram(7.0, transient=0, keep=9, **s) for s in (SETTINGS, changed)]
    assert np.abs(orbits[0] - orbits[1]).max() > 1e-3


def test_slope_and_step_without_bp_are_those_of_the_chaotic_loss():
    w = np.linspace(-2, 2, 9)
    s = 1 / (1 + np.exp(-2 * w))
    settings = {**SETTINGS, "bp": False}
    step = w - 0.8 * 5 * (s - 0.6)
    np.testing.assert_allclose(dynamics.step(w, 5.0, **settings), step, rtol=1e-12, atol=1e-14)
    slope = 1 - 0.8 * 5 * 2 * s * (1 - s)
    np.testing.assert_allclose(dynamics.slope(w, 5.0, **settings), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [SETTINGS, {"decay": 0.5, "time_steps": 3, "gamma": 0.75}])
def test_borders_are_where_bp_begins_and_ends_to_act(settings):
    found = dynamics.bifurcations(40.0, **settings)
    borders = {event.border for event in found if event.kind == "border"}
    assert borders
    for border in borders:
        sides = dynamics.gradient(border + 1e-7 * np.array([-1, 1]), **settings)
        assert np.count_nonzero(sides) == 1


def test_without_bp_the_step_size_scales_z():
    """f depends on lr z alone."""
    known = dynamics.bifurcations(30.0, 0.99, bp=False)
    slow = dynamics.bifurcations(300.0, 0.99, lr=0.1, bp=False)
    assert len(known) >= 10
    assert [event.name for event in slow] == [event.name for event in known]
    np.testing.assert_allclose([event.z / 10 for event in slow], [e.z for e in known], rtol=1e-9)
    np.testing.assert_allclose([e.epoch for e in slow], [e.epoch for e in known], atol=1e-5)


def test_only_what_lies_below_z_is_returned():
    z = dynamics.bifurcations(5.0)[0].z
    assert [event.z for event in dynamics.bifurcations(z * (1 + 1e-9))][:1] == [z]
    assert dynamics.bifurcations(z)[0].z < z


def test_names_of_events():
    assert dynamics.Bifurcation("border", 2, 4.0, 1.0, border=0.4).name == "border w = 0.4"
    assert dynamics.Bifurcation("border", 2, 4.0, 1.0, border=0.0).name == "border w = 0"
    assert dynamics.Bifurcation("superstable", 1, 2.0, 1.0).name == "superstable"


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


def positional_defaults(function):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        and parameter.default is not inspect.Parameter.empty
    }


def test_defaults_are_the_published_and_documented_ones():
    run = {"z": 10.0, "beta": 0.9995}
    assert {function.__name__: positional_defaults(function) for function in FUNCTIONS} == {
        "gradient": {},
        "step": {},
        "slope": {},
        "orbit_diagram": {"w0": 0.5, "transient": 1000, "keep": 500},
        "lyapunov": {"w0": 0.5, "transient": 1000, "steps": 2000},
        "anneal": {**run, "epochs": 4000, "noise": 0.0, "seed": 0},
        "finite_time_lyapunov": {**run, "epochs": 4000, "window": 50},
        "bifurcations": run,
    }
    assert dynamics.Map()._asdict() == {
        "lr": 1.0,
        "I0": 0.65,
        "bp": True,
        "time_steps": 20,
        "rate_steps": 10,
        "decay": 0.2,
        "v_threshold": 1.0,
        "gamma": 1.0,
    }


SHAPES = [((), ()), ((3,), ()), ((), (2, 3)), ((2, 1), (3,)), ((1,), (1,))]


@pytest.mark.parametrize(("shape_of_w", "shape_of_z"), SHAPES)
def test_shapes_are_those_of_numpys_broadcasting(shape_of_w, shape_of_z):
    w = np.full(shape_of_w, 0.5)
    z = np.full(shape_of_z, 3.0)
    shape = np.broadcast_shapes(shape_of_w, shape_of_z)
    assert dynamics.gradient(w).shape == w.shape
    assert dynamics.step(w, z).shape == dynamics.slope(w, z).shape == shape
    assert dynamics.lyapunov(z, w, 1, 2).shape == shape
    assert dynamics.orbit_diagram(z, w, 1, 2).shape == (*shape, 2)


def test_a_run_may_have_one_z_and_many_starts_or_the_reverse():
    assert dynamics.anneal([0.5], [3.0, 4.0], epochs=2).shape == (2, 2)
    assert dynamics.anneal([0.5, 0.6], [3.0], epochs=2).shape == (2, 2)
    assert dynamics.anneal([0.5, 0.6], [3.0, 4.0], epochs=2).shape == (2, 2)


def test_what_is_given_is_left_alone():
    w = np.full(9, 0.5)
    z = np.full(9, 7.0)
    dynamics.anneal(w, z, epochs=5)
    dynamics.orbit_diagram(z, w, 3, 2)
    dynamics.lyapunov(z, w, 3, 2)
    assert (w == 0.5).all()
    assert (z == 7.0).all()


def test_the_first_and_the_last_epoch_of_a_window():
    whole = dynamics.finite_time_lyapunov(0.5, epochs=6, window=6)
    assert np.isnan(whole).tolist() == [True] * 5 + [False]
    single = dynamics.finite_time_lyapunov(0.5, epochs=6, window=1)
    assert whole[-1] == pytest.approx(single.mean(), rel=1e-12)


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
        (lambda: dynamics.bifurcations(beta=0.0), r"beta = 0.0: must be a number in \(0, 1\]"),
        (lambda: dynamics.bifurcations(z=0.0), r"z = 0.0: must be a number in \(0, inf\)"),
        (lambda: dynamics.step(0.5, 0.0), r"^z = 0.0: must be a number in \(0, inf\)"),
        (lambda: dynamics.step([0.5, math.nan], 1.0), r"^w\[1\] = nan: must be"),
        (lambda: dynamics.slope(0.5, [1.0, 0.0]), r"^z\[1\] = 0.0: must be"),
        (lambda: dynamics.slope(math.inf, 1.0), "^w = inf: must be"),
        (lambda: dynamics.orbit_diagram(1.0, math.inf), "^w0 = inf: must be"),
        (lambda: dynamics.orbit_diagram(1.0, keep=1.5), "^keep = 1.5: must be an integer"),
        (lambda: dynamics.orbit_diagram(1.0, transient=0.5), "^transient = 0.5: must be an int"),
        (lambda: dynamics.lyapunov(1.0, math.nan), "^w0 = nan: must be"),
        (lambda: dynamics.lyapunov(1.0, transient=-1), r"^transient = -1: must be an integer in"),
        (lambda: dynamics.lyapunov(1.0, transient=1.5), "^transient = 1.5: must be an integer"),
        (lambda: dynamics.lyapunov(1.0, steps=1.5), "^steps = 1.5: must be an integer"),
        (lambda: dynamics.anneal(math.nan), "^w0 = nan: must be"),
        (lambda: dynamics.anneal(0.5, epochs=1.5), "^epochs = 1.5: must be an integer"),
        (lambda: dynamics.anneal(0.5, seed=0.5), "^seed = 0.5: must be an integer"),
        (lambda: dynamics.anneal([[0.5]]), "must be numbers or 1-d and of one length"),
        (lambda: dynamics.anneal(0.5, [[1.0]]), "must be numbers or 1-d and of one length"),
        (lambda: dynamics.finite_time_lyapunov(0.5, window=0), "^window = 0: must be an integer"),
        (lambda: dynamics.finite_time_lyapunov(0.5, window=1.5), "^window = 1.5: must be an int"),
        (lambda: dynamics.finite_time_lyapunov(0.5, epochs=0), "^epochs = 0: must be an integer"),
        (lambda: dynamics.finite_time_lyapunov(0.5, epochs=1.5), "^epochs = 1.5: must be an int"),
        (lambda: dynamics.finite_time_lyapunov(0.5, 0.0), "^z = 0.0: must be"),
        (lambda: dynamics.finite_time_lyapunov(0.5, [1.0]), r"^z = \[1.0\]: must be a number"),
        (lambda: dynamics.finite_time_lyapunov(0.5, beta=1.1), "^beta = 1.1: must be"),
    ],
)
def test_refuses_bad_input(call, line):
    with pytest.raises(ValueError, match=line):
        call()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
        ({"I0": 0.0}, r"I0 = 0.0: must be a number in \(0, 1\)"),
        ({"I0": 1.0}, r"I0 = 1.0: must be a number in \(0, 1\)"),
        ({"bp": 1}, "bp = 1: must be True or False"),
        ({"time_steps": 0}, r"time_steps = 0: must be an integer in \[1, inf\)"),
        ({"time_steps": 2.5}, r"time_steps = 2.5: must be an integer in \[1, inf\)"),
        ({"rate_steps": 0}, r"rate_steps = 0: must be an integer in \[1, inf\)"),
        ({"rate_steps": 2.5}, r"rate_steps = 2.5: must be an integer in \[1, inf\)"),
        ({"decay": -0.1}, r"decay = -0.1: must be a number in \[0, 1\]"),
        ({"decay": 1.1}, r"decay = 1.1: must be a number in \[0, 1\]"),
        ({"v_threshold": 0.0}, r"v_threshold = 0.0: must be a number in \(0, inf\)"),
        ({"gamma": 0.0}, r"gamma = 0.0: must be a number in \(0, inf\)"),
    ],
)
def test_every_function_refuses_a_map_out_of_range(function, settings, line):
    needed = {"w": 0.5, "w0": 0.5, "z": 1.0}
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in needed.items() if name in parameters}
    with pytest.raises(ValueError, match=f"^{line}$"):
        function(**given, **settings)


def test_accepts_the_ends_that_are_allowed():
    assert dynamics.step(0.5, 1.0, decay=0, time_steps=1, rate_steps=1) == pytest.approx(
        0.5 - (1 / (1 + math.exp(-1)) - I0)
    )
    assert np.isfinite(dynamics.gradient(0.5, decay=1))
    assert dynamics.orbit_diagram(1.0, 0.3, transient=0, keep=1).tolist() == [0.3]
    assert dynamics.anneal(0.3, beta=1, epochs=1).tolist() == [[0.3]]
