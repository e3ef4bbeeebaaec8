"""Running a notebook in a kernel that no setting of the user's reaches."""

import contextlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import nbformat
import papermill

from .files import ROOT
from .parameters import for_papermill
from .provenance import PACKAGES, at_start
from .user_settings import OF_KERNELS, given_up, has_home, is_writable

# What must not reach the kernel: where it is looked for, what it runs first, how figures look.
DROPPED = ("JUPYTER_PATH", "PYTHONSTARTUP", "MATPLOTLIBRC")

# Where a program looks if the variable is not set.
IN_HOME = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config"}

RUN_AT_START = ("sitecustomize", "usercustomize")  # every Python that starts runs these modules


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
    for variable in OF_KERNELS:
        os.environ[variable] = str(own)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ.update(at_start(name))
    os.environ["PYTHONPATH"] = os.pathsep.join(python_path(before.get("PYTHONPATH", "")))
    if not has_home():
        os.environ["HOME"] = str(own)
    for variable in [*DROPPED, *given_up()]:
        os.environ.pop(variable, None)
    for variable, folder in IN_HOME.items():
        if variable not in os.environ and cannot_be_used(Path.home() / folder):
            os.environ[variable] = str(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def python_path(of_the_user: str) -> list[str]:
    """The folders that a kernel's Python searches before all others.

    Args:
        of_the_user: PYTHONPATH as it is, which may hold all that is installed: it cannot go.

    The project's is first: what else is on the path would be imported, and not the folder that
    the kernel is in.
    """
    entries = filter(None, of_the_user.split(os.pathsep))
    # The kernel starts elsewhere: there, a relative one would be another.
    return list(dict.fromkeys([str(ROOT), *map(os.path.abspath, entries)]))


def refuse_shadows() -> None:
    """Refuse a file in the project's folder that a kernel would import in place of another module.

    Python searches that folder first, so a scratch file random.py there would be taken for the
    standard library's. Raises ValueError, one line, that names it.
    """
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    for _, name, _ in pkgutil.iter_modules([str(ROOT)]):
        if name in (*PACKAGES, "conftest"):
            continue
        other = PathFinder.find_spec(name, elsewhere)
        if name in RUN_AT_START or (other and other.has_location):
            here = PathFinder.find_spec(name, [str(ROOT)])
            file = here.origin if here else name
            line = f"{file} must not lie there: kernels would take it for the module {name!r}"
            raise ValueError(f"{line}{_where_else(other)}")


def _where_else(other: ModuleSpec | None) -> str:
    """Where the module is that a file hides, and what to ask if that is in another checkout."""
    if other is None or other.origin is None:
        return ""
    root = Path(other.origin).resolve().parent.parent  # of a package in a checkout
    is_checkout = all((root / package).is_dir() for package in PACKAGES)
    question = "; is this environment installed from another checkout?" if is_checkout else ""
    return f" of {other.origin}{question}"


def cannot_be_used(folder: Path) -> bool:
    """Whether a folder, or Matplotlib's in it, is there and cannot be written."""
    both = (folder, folder / "matplotlib")
    return any(os.path.exists(path) and not is_writable(path) for path in both)
