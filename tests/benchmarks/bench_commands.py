"""The two commands of README, and the install that both begin with, in a fresh clone.

`make bench` runs this and writes the table of BENCHMARKS.md and a sentence of README. What is
timed is the last commit. How long the install takes depends on the network, and on what pip has
kept of earlier ones.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from csbp_notebooks.files import ROOT

COMMANDS = ("make venv", "make figures", "make test")  # in this order

# What the make that runs this hands on to the makes that it starts.
OF_THE_OUTER_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")


@pytest.fixture(scope="module")
def clone():
    """A clone without a .venv, which goes at the end: with one it takes gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, path], check=True)
        yield path


def run(command, folder):
    """Run a command as in a new terminal; where it fails, show what it said."""
    environment = {name: os.environ[name] for name in os.environ if name not in OF_THE_OUTER_MAKE}
    done = subprocess.run(
        command.split(), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_speed(benchmark, command, clone):
    benchmark.extra_info["name"] = command
    benchmark.pedantic(run, args=(command, clone), rounds=1)
