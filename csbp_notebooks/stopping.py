"""Being told to stop: what was started ends, too, and the exit code says by which signal."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from types import FrameType

import psutil

# SIGINT is Ctrl-C. SIGHUP comes when the terminal closes; there is none on Windows.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
PATIENCE = 5  # seconds until what was asked to end is killed


class Stopped(SystemExit):
    """The process was told to stop. As SystemExit, which no event loop keeps to itself."""

    code: int


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP raise Stopped, with the exit code 128 + signal.

    One that is ignored stays so: nohup asks for that, and a shell for what runs in its background.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _stop(number: int, _: FrameType | None) -> None:
    """Raise Stopped, once: another signal must not stop the cleaning up."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    # Every task of an event loop that is left behind would be told about.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    raise Stopped(128 + number)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal part what takes a moment and belongs together."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_children() -> None:
    """Ask all that this process started to end, wait, and kill what is left, and its children."""
    itself = psutil.Process(os.getpid())
    asked = itself.children()
    all_of_them = itself.children(recursive=True)
    for child in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, left = psutil.wait_procs(all_of_them, timeout=PATIENCE)
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, timeout=PATIENCE)
