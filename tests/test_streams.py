"""What is said where a stream is closed, full, or lacks a letter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csbp_notebooks.files import ROOT

SAY = """\
import sys
from csbp_notebooks.streams import prepare_streams, say
prepare_streams()
say("caf\u00e9", sys.stdout)
"""


def python(code, **settings):
    """Run code in a Python of its own, for its streams are those of a process."""
    command = [sys.executable, "-S", "-c", code]  # -S: no site-packages
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **settings)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a stream that takes nothing")
def test_what_a_full_disk_does_not_take_is_said_on_stderr():
    with Path("/dev/full").open("w") as full:
        done = python(SAY, stdout=full)
    assert done.returncode == 0
    assert done.stderr in ("caf\u00e9\n", "caf\\xe9\n")


def test_what_a_closed_pipe_does_not_take_is_said_on_stderr():
    reader, writer = os.pipe()
    os.close(reader)
    done = python(SAY, stdout=writer)
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr in ("caf\u00e9\n", "caf\\xe9\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a stream that takes nothing")
def test_where_neither_takes_it_nothing_happens():
    code = SAY.replace("prepare_streams()", "sys.stderr = open('/dev/full', 'w')")
    with Path("/dev/full").open("w") as full:
        assert python(code, stdout=full).returncode == 0


def test_a_letter_that_the_stream_lacks_is_spelled_out():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = python(SAY, stdout=subprocess.PIPE, env=environment)
    assert done.stdout == "caf\\xe9\n"
    assert done.stderr == ""


# What it starts has streams, too; and none is what was opened since.
STREAMS = """\
import os, subprocess, sys
from csbp_notebooks.streams import prepare_streams
prepare_streams()
print("lost")
print("lost", file=sys.stderr)
assert sys.stdin.read() == ""
child = "import sys; sys.exit(None in (sys.stdin, sys.stdout, sys.stderr))"
sys.exit(subprocess.run([sys.executable, "-S", "-c", child]).returncode)
"""


@pytest.mark.skipif(os.name == "nt", reason="nothing can be closed before Python starts")
@pytest.mark.parametrize("closed", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_streams_lead_nowhere(closed):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    done = python(STREAMS, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=close)
    assert done.returncode == 0
