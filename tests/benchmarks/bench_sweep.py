"""A plane of 400 points of z and beta in one call, and a point of it as a sweep runs it.

`make bench` runs this and writes the table of BENCHMARKS.md and a sentence of README.
"""

import subprocess
import sys

import numpy as np
import pytest
from benchmarks.turns import turns

from csbp_core import train_single_neuron
from csbp_notebooks.files import ROOT
from csbp_notebooks.findings import since

ROUNDS = 5
SIDE = 20
EPOCHS = 8000
NOTEBOOK = "02_single_neuron_csbp"


def one_call():
    """The plane of README."""
    z, beta = np.meshgrid(np.linspace(2, 20, SIDE), np.linspace(0.998, 0.9995, SIDE))
    run = train_single_neuron(epochs=EPOCHS, z=z.ravel(), beta=beta.ravel(), literal=False)
    stays = abs(run.w - run.w[-1]) <= 0.05
    assert len([since(holds) for holds in stays.T]) == SIDE**2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the point goes."""
    return tmp_path_factory.mktemp("point")


def one_point(folder):
    """A point through csbp-run, as a job of a sweep: a process and a kernel of its own."""
    command = [sys.executable, "-m", "csbp_notebooks.cli", NOTEBOOK, "--output", str(folder)]
    parameters = {"epochs": EPOCHS, "literal": False, "z": 12.0, "beta": 0.999}
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(("points", "turn", "way"), turns([""], ROUNDS, ["one call", "one point"]))
def test_speed(benchmark, points, turn, way, folder):
    benchmark.extra_info.update(name=way, setting=points)
    work = one_call if way == "one call" else lambda: one_point(folder)
    benchmark.pedantic(work, rounds=1, warmup_rounds=1 if turn == 0 else 0)
