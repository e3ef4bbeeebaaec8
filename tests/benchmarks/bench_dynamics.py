"""Speed of Example 1, in neuron-epochs per second: one neuron at a time, in a batch, as a map.

`make bench` runs this and writes the table of BENCHMARKS.md. Every way runs once per round, so that
all of them see the same machine; medians over the rounds. Autograd runs on one torch thread, the
compiled map on all cores, and so does the exp that the last row has for its limit.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import pytest
import torch
from helpers import document_neuron

from csbp_core import dynamics, train_single_neuron

ROUNDS = 5
Z = np.linspace(1, 12, 10_000)
PICTURE = np.linspace(0.006, 12, 2000)


class Way(NamedTuple):
    """A way to train neurons, and how much of it is one run."""

    neurons: int
    neuron_epochs: int
    run: Callable[[], object]


def one_by_one(train, n, epochs):
    for start in np.linspace(0.1, 0.9, n):
        train("csbp", epochs, w0=float(start), b0=float(start), lr=1.0)


def batch(n, epochs):
    start = np.linspace(0.1, 0.9, n)
    train_single_neuron("csbp", epochs, w0=start, b0=start)


def orbits(z, transient, keep):
    dynamics.orbit_diagram(z, transient=transient, keep=keep)


def picture():
    dynamics.orbit_diagram(PICTURE, transient=1000, keep=1000)
    dynamics.lyapunov(PICTURE, transient=1000, steps=1000)


def exps(w, epochs):
    out = np.empty_like(w)
    for _ in range(epochs):
        np.exp(w, out)


def exps_on_all_cores(epochs):
    threads = numba.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for part in np.array_split(Z, threads):
            pool.submit(exps, part, epochs)


WAYS = {
    "the document's way, torch modules": Way(1, 100, lambda: one_by_one(document_neuron, 1, 100)),
    "one at a time": Way(1, 100, lambda: one_by_one(train_single_neuron, 1, 100)),
    "one at a time, n = 100": Way(100, 200, lambda: one_by_one(train_single_neuron, 100, 2)),
    "batch, n = 100": Way(100, 10_000, lambda: batch(100, 100)),
    "batch, n = 10,000": Way(10_000, 200_000, lambda: batch(10_000, 20)),
    "batch, n = 1,000,000": Way(1_000_000, 2_000_000, lambda: batch(1_000_000, 2)),
    "map, n = 1": Way(1, 200_000, lambda: orbits(7.5, 199_000, 1000)),
    "map, n = 100": Way(100, 2_000_000, lambda: orbits(Z[::100], 19_900, 100)),
    "map, n = 10,000": Way(10_000, 10_000_000, lambda: orbits(Z, 900, 100)),
    "map, n = 1,000,000": Way(1_000_000, 20_000_000, lambda: orbits(np.repeat(Z, 100), 15, 5)),
    "picture: 2000 by 2000 and its exponents": Way(2000, 4_000_000, picture),
    "NumPy's exp alone, n = 10,000": Way(10_000, 10_000_000, lambda: exps_on_all_cores(1000)),
}
ORDER = [(turn, name) for turn in range(ROUNDS) for name in WAYS]


@pytest.mark.parametrize(("turn", "name"), ORDER)
def test_speed(benchmark, turn, name):
    torch.set_num_threads(1)
    way = WAYS[name]
    if turn == 0:
        way.run()  # compile, allocate
    benchmark.extra_info.update(name=name, neurons=way.neurons, neuron_epochs=way.neuron_epochs)
    benchmark.pedantic(way.run, rounds=1, iterations=1)
