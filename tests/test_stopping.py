"""A signal to stop, and what becomes of the processes that were started."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys

import psutil
import pytest
from helpers import signals_heard

from csbp_notebooks import stopping
from csbp_notebooks.stopping import Stopped, end_children, stoppable, undisturbed


@pytest.fixture(autouse=True)
def heard():
    """Signals are heard, whatever these tests run under."""
    with signals_heard():
        yield


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_is_raised_with_its_exit_code(number, code):
    before = signal.getsignal(number)
    with stoppable(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.code == code
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_does_not_stop_the_cleaning_up(first):
    with stoppable():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)


def test_tasks_that_are_left_behind_are_not_told_about(caplog):
    logger = logging.getLogger("asyncio")
    logger.setLevel(logging.NOTSET)
    with stoppable(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    loop = asyncio.new_event_loop()
    try:
        loop.create_future().set_exception(ValueError("nobody asks for it"))
        gc.collect()
        assert caplog.records == []
    finally:
        loop.close()
        logger.setLevel(logging.NOTSET)


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_parts_what_belongs_together(number):
    before = signal.getsignal(number)
    with stoppable():
        during = signal.getsignal(number)
        with undisturbed():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) == during
    assert signal.getsignal(number) == before


# A child that starts a grandchild, says its number, and waits.
PARENT = """\
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_DFL if sys.argv[1] == "heeds" else signal.SIG_IGN)
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("manners", ["heeds", "ignores"])
def test_children_and_theirs_end(manners, monkeypatch):
    monkeypatch.setattr(stopping, "PATIENCE", 0.5)
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", PARENT, manners], stdout=subprocess.PIPE, text=True
    )
    grandchild = psutil.Process(int(child.stdout.readline()))
    end_children()
    expected = signal.SIGTERM if manners == "heeds" else signal.SIGKILL
    assert child.wait() in (-expected, 0)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_without_children_nothing_happens():
    end_children()
