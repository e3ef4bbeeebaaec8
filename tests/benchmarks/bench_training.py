"""What examples/train.py takes: to load a batch, and an update by BP and by CSBP.

`make bench` runs this and writes the table of BENCHMARKS.md. The ways take two turns per round, in
a new order each time; the second counts. What CSBP adds is the median over the rounds of the
difference to the update by BP. The processes are not this one, so that all of them are alike.
"""

from functools import cache

import pytest
from benchmarks.team import WAYS, Job, Team
from benchmarks.turns import turns

JOBS = {
    "Fashion-MNIST": Job("fashion_mnist"),
    "Fashion-MNIST, 2 processes": Job("fashion_mnist", processes=2),
    "CIFAR10-DVS": Job("cifar10_dvs"),
}
ROUNDS = {
    "Fashion-MNIST": 41,
    "Fashion-MNIST, 2 processes": 41,
    "CIFAR10-DVS": 3,  # which take a minute
}


@cache
def team(setting):
    """The processes of a setting, started and ready."""
    return Team(JOBS[setting])


ORDER = [timing for setting, rounds in ROUNDS.items() for timing in turns([setting], rounds, WAYS)]


@pytest.mark.parametrize(("setting", "turn", "way"), ORDER)
def test_speed(benchmark, setting, turn, way):
    ready = team(setting)
    benchmark.extra_info.update(name=way, setting=setting)
    benchmark.extra_info[f"updates, {setting}"] = ready.updates
    benchmark.pedantic(ready.do, args=(way,), rounds=1, warmup_rounds=1)
    benchmark.extra_info[f"peak, {setting}"] = ready.peak
