"""The kernels of csbp_core.dynamics: their arithmetic, and numba's threads."""

import math
import multiprocessing
import os

import numba
import numpy as np
import pytest

from csbp_core import dynamics
from csbp_core.dynamics import kernels
from csbp_core.dynamics.kernels import LANES, THREADS, ThreadedKernel

Z = np.linspace(1.0, 9.0, 40)
SECONDS = 60  # a child that hangs fails the test

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes fork here")


def exponents(z):
    return dynamics.lyapunov(z, transient=10, steps=50)


def step_twice(z):
    return 2 * z


# Arithmetic


def of_each(function, x):
    return np.array([function(value) for value in x.tolist()])


def test_exp_is_right_to_one_unit_in_the_last_place():
    x = np.random.default_rng(0).uniform(-708, 709.4, 20_000)
    x = np.concatenate([x, 1e-3 * x, 1e-9 * x, 1e-320 * x, [0.0, -0.0, -708.0, 709.4]])
    known = np.exp(x.astype(np.longdouble))
    found = of_each(kernels.exp, x)
    assert (np.abs(found - known) / np.spacing(found)).max() < 1


def test_exp_beyond_the_ends():
    lowest = kernels.exp(-708.0)
    assert 0 < lowest < 4e-308
    for x in (708.5, 1e4, 1e300, math.inf):
        assert kernels.exp(-x) == lowest
    for x in (709.8, 710.0, 1e4, math.inf):
        assert kernels.exp(x) == math.inf
    assert math.isnan(kernels.exp(math.nan))


W = np.concatenate([np.linspace(-400, 400, 801), np.linspace(0.35, 1.05, 501)])


@pytest.mark.parametrize("settings", [{}, {"decay": 0.9, "gamma": 0.6, "lr": 0.3}], ids=str)
def test_compiled_arithmetic_is_that_of_python(settings):
    """To the bit, so that orbits are the same on every machine: no sum is fused with a product."""
    params = kernels.Map(**settings)
    np.testing.assert_array_equal(of_each(kernels.exp, W), of_each(kernels.exp.py_func, W))
    for w in W.tolist():
        for function in (kernels.chaotic_step, kernels.step_and_slope):
            assert function(w, 7.3, params) == function.py_func(w, 7.3, params)
        function = kernels.bp_gradient
        assert function(w, params) == function.py_func(w, params)


@pytest.mark.parametrize("z", [1e-3, 1.0, 12.0, 100.0, 1e4, 1e6])
def test_a_step_is_the_formula_with_the_library_exp(z):
    """To the rounding of what it is the sum of."""
    w = W[W > -350]
    sigmoid = 1 / (1 + of_each(math.exp, -2 * w))
    known = w - (z * (sigmoid - 0.65) + dynamics.gradient(w))
    scale = np.maximum(np.abs(w), max(1, z / 100))
    error = np.abs(dynamics.step(w, z) - known)
    assert (error / scale).max() < 1e-13


def test_an_orbit_does_not_depend_on_those_beside_it():
    """Whether the processor takes its epoch with others, or alone as the last of an odd number."""
    z = np.linspace(0.5, 12, 2 * LANES + 11)
    together = dynamics.orbit_diagram(z, transient=0, keep=300)
    alone = [dynamics.orbit_diagram(value, transient=0, keep=300) for value in z]
    np.testing.assert_array_equal(together, alone)
    exponents = dynamics.lyapunov(z, transient=7, steps=300)
    alone = [dynamics.lyapunov(value, transient=7, steps=300) for value in z]
    np.testing.assert_array_equal(exponents, alone)


def test_split_is_frexp():
    x = np.concatenate([np.logspace(-307, 308, 999), [1.0, 2.0, 0.75, np.finfo(float).tiny]])
    for value in x.tolist():
        mantissa, exponent = kernels.split(value)
        half, known = math.frexp(value)
        assert (mantissa, exponent) == (2 * half, known - 1)
    assert math.isnan(kernels.split(math.nan)[0])


def test_an_exponent_is_the_mean_of_the_logarithms():
    z = np.linspace(0.5, 12, LANES + 1)
    path = dynamics.orbit_diagram(z, transient=0, keep=400)
    slopes = np.abs(dynamics.slope(path, z[:, None]))
    known = np.log(np.maximum(slopes, kernels.TINY)).mean(1)
    found = dynamics.lyapunov(z, transient=0, steps=400)
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-13)


# Threads


def results_of_every_kernel(_):
    """What every public function gives that runs on threads, and whether these were lost."""
    results = (
        dynamics.gradient(Z),
        dynamics.step(Z, Z),
        dynamics.slope(Z, Z),
        dynamics.orbit_diagram(Z, transient=10, keep=5),
        exponents(Z),
    )
    return THREADS.lost, results


@forks
def test_a_forked_child_gives_what_its_parent_gave():
    lost, expected = results_of_every_kernel(None)
    assert not lost
    with multiprocessing.get_context("fork").Pool(1) as pool:
        lost, results = pool.map_async(results_of_every_kernel, [None]).get(SECONDS)[0]
    assert lost
    for result, expectation in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, expectation)


def test_a_kernel_for_one_thread_does_not_overwrite_the_one_for_all_on_disk():
    kernels = [value for value in vars(dynamics.kernels).values() if type(value) is ThreadedKernel]
    assert len(kernels) == 5
    files = [
        compiled.stats.cache_path + compiled.py_func.__qualname__
        for kernel in kernels
        for compiled in (kernel.threaded, kernel.single)
    ]
    assert len(set(files)) == 2 * len(kernels)


@forks
def test_a_child_of_a_parent_without_threads_starts_its_own(monkeypatch):
    def not_started():
        raise ValueError("Threading layer is not initialized.")

    monkeypatch.setattr(numba, "threading_layer", not_started)
    monkeypatch.setattr(THREADS, "lost", False)
    THREADS.after_fork()
    assert not THREADS.lost


@pytest.mark.parametrize("lost", [False, True])
def test_threads_run_one_kernel_at_a_time_and_a_child_that_lost_them_waits_for_none(
    monkeypatch, lost
):
    """Where neither OpenMP nor TBB is found, two at once end the process."""
    kernel = ThreadedKernel(step_twice)
    monkeypatch.setattr(THREADS, "lost", lost)
    monkeypatch.setattr(kernel, "threaded", lambda _: ("threaded", THREADS.lock.locked()))
    monkeypatch.setattr(kernel, "single", lambda _: ("single", THREADS.lock.locked()))
    assert kernel(Z) == (("single", False) if lost else ("threaded", True))
    assert not THREADS.lock.locked()
