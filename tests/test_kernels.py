"""The kernels of csbp_core.dynamics and numba's threads: forked children, and calls at once."""

import multiprocessing
import os

import numba
import numpy as np
import pytest

from csbp_core import dynamics
from csbp_core.dynamics.kernels import THREADS, ThreadedKernel

Z = np.linspace(1.0, 9.0, 40)
SECONDS = 60  # a child that hangs fails the test

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes fork here")


def exponents(z):
    return dynamics.lyapunov(z, transient=10, steps=50)


def step_twice(z):
    return 2 * z


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
