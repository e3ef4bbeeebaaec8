"""The two commands of README, and the install that both begin with, in a fresh clone.

`make bench` runs this and writes the table of BENCHMARKS.md and a sentence of README. What is
timed is the last commit. How long the install takes depends on the network, and on what pip has
kept of earlier ones.
"""

import subprocess

import pytest

from csbp_notebooks.files import ROOT

COMMANDS = ("make venv", "make figures", "make test")  # in this order


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone without a .venv."""
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_speed(benchmark, command, clone):
    benchmark.extra_info["name"] = command
    words = command.split()
    benchmark.pedantic(
        subprocess.run,
        args=(words,),
        kwargs={"cwd": clone, "check": True, "capture_output": True},
        rounds=1,
    )
