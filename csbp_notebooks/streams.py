"""What is said on stdout and stderr, wherever they lead and whether they are open or not."""

import contextlib
import os
import sys
from typing import TextIO

STREAMS = ("stdin", "stdout", "stderr")  # of the descriptors 0, 1 and 2


def prepare_streams() -> None:
    """Open streams that are closed, and let a letter that a terminal lacks be spelled out.

    A closed one (`>&-`) leaves its descriptor to whatever is opened next; it then reads and writes
    the null device.
    """
    for descriptor in range(len(STREAMS)):  # before anything else is opened
        if not _is_open(descriptor):
            _lead_nowhere(descriptor)
    for name in STREAMS:
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what somebody has put in its place may lack it
            stream.reconfigure(errors="backslashreplace")


def say(line: str, stream: TextIO) -> None:
    """Print a line; on stderr where the stream takes none, as on a full disk or a closed pipe.

    Args:
        line: without its end.
        stream: sys.stdout or sys.stderr.

    Raises nothing: what is told about has happened all the same.
    """
    try:
        print(line, file=stream, flush=True)
    except OSError:
        # Python would try again at its end, and fail with an exit code of its own.
        _lead_nowhere(stream.fileno())
        if stream is not sys.stderr:
            say(line, sys.stderr)


def _is_open(descriptor: int) -> bool:
    """Whether it is in use, if only by what was opened since."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _lead_nowhere(descriptor: int) -> None:
    """Let a descriptor, open or not, be one of the null device; programs that start inherit it."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.set_inheritable(descriptor, True)  # where it is the one that was just opened
        if null != descriptor:
            os.close(null)
