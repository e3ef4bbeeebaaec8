"""Speed of Example 1, in neuron-epochs per second: one neuron at a time, batched autograd, the compiled map.

`make bench` runs this and writes results.json and the README's table. Every way runs once per round, so that all of them see
the same machine; medians over the rounds. Autograd runs on one torch thread, the map on all cores.
"""

import numpy as np
import pytest
import torch
from reference import document_neuron

from csbp_core import dynamics, train_single_neuron

ROUNDS = 5
Z = np.linspace(1, 12, 10_000)
PICTURE = np.linspace(0.006, 12, 2000)


def one_by_one(train, n, epochs):
    for start in np.linspace(0.1, 0.9, n):
        train("csbp", epochs, w0=float(start), b0=float(start), lr=1.0)


def batch(n, epochs):
    start = np.linspace(0.1, 0.9, n)
    train_single_neuron("csbp", epochs, w0=start, b0=start)


def picture():
    dynamics.orbit_diagram(PICTURE, transient=1000, keep=1000)
    dynamics.lyapunov(PICTURE, transient=1000, steps=1000)


# name: (number of neurons, neuron-epochs, what to run)
CASES = {
    "the document's way, torch modules": (1, 100, lambda: one_by_one(document_neuron, 1, 100)),
    "one at a time": (1, 100, lambda: one_by_one(train_single_neuron, 1, 100)),
    "one at a time, n = 100": (100, 200, lambda: one_by_one(train_single_neuron, 100, 2)),
    "batch, n = 100": (100, 10_000, lambda: batch(100, 100)),
    "batch, n = 10^4": (10_000, 200_000, lambda: batch(10_000, 20)),
    "batch, n = 10^6": (1_000_000, 2_000_000, lambda: batch(1_000_000, 2)),
    "map, n = 1": (1, 200_000, lambda: dynamics.orbit_diagram(7.5, transient=199_000, keep=1000)),
    "map, n = 100": (100, 2_000_000, lambda: dynamics.orbit_diagram(Z[::100], transient=19_900, keep=100)),
    "map, n = 10^4": (10_000, 10_000_000, lambda: dynamics.orbit_diagram(Z, transient=900, keep=100)),
    "map, n = 10^6": (1_000_000, 20_000_000, lambda: dynamics.orbit_diagram(np.repeat(Z, 100), transient=15, keep=5)),
    "picture: 2000 x 2000 and its exponents": (2000, 4_000_000, picture),
}


@pytest.mark.parametrize(("turn", "name"), [(turn, name) for turn in range(ROUNDS) for name in CASES])
def test_speed(benchmark, turn, name):
    torch.set_num_threads(1)
    neurons, work, run = CASES[name]
    if turn == 0:
        run()  # compile, allocate
    benchmark.extra_info.update(name=name, neurons=neurons, neuron_epochs=work)
    benchmark.pedantic(run, rounds=1, iterations=1)
