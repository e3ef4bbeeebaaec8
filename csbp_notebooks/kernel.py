"""Running a notebook in a kernel that no setting of the user's reaches."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill

from .files import ROOT
from .parameters import for_papermill
from .provenance import RUNNING

# What must not reach the kernel: where it is looked for, what it runs first, how figures look.
DROPPED = ("JUPYTER_PATH", "PYTHONSTARTUP", "MATPLOTLIBRC")


def execute(path: Path, parameters: dict[str, Any], name: str) -> nbformat.NotebookNode:
    """Run a notebook where it lies, with a progress bar on a terminal, and return it.

    Args:
        path: the notebook, in a scratch folder; it is written after every cell.
        parameters: what to set, by name; none puts in no cell.
        name: of the notebook that it is a copy of.

    The kernel starts in the project's folder, which Python then searches first.
    """
    with environment(path.parent, name):
        return papermill.execute_notebook(
            for_papermill(path),
            for_papermill(path),
            parameters,
            kernel_name="python3",  # this Python, whichever one a notebook was last opened with
            progress_bar=sys.stderr.isatty(),
            cwd=ROOT,
            # A kernel grumbles on the terminal when it is told to stop.
            extra_arguments=["--log-level=CRITICAL"],
        )


@contextlib.contextmanager
def environment(scratch: Path, name: str) -> Iterator[None]:
    """Set the environment variables that a kernel needs, for as long as it runs.

    Args:
        scratch: a folder that can be written; for what Jupyter and IPython leave, and in place of
            a home that cannot be written.
        name: of the notebook.
    """
    before = dict(os.environ)
    own = scratch / "home"
    own.mkdir(exist_ok=True)
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[variable] = str(own)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ[RUNNING] = name
    # Before what else is on the path: it would be imported, and not the folder the kernel is in.
    path = [str(ROOT), before.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if not has_home():
        os.environ["HOME"] = str(own)
    for variable in DROPPED:
        os.environ.pop(variable, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def has_home() -> bool:
    """Whether the user has a home that can be written."""
    try:
        return os.access(Path.home(), os.W_OK)
    except RuntimeError:  # there is none, nor a user of that number
        return False
