"""What pytest and the notebooks' kernels that it starts run under: no setting of the user's.

Here and not in tests/, so that it also serves `pytest --nbval notebooks/NAME.ipynb`.
"""

import os
import tempfile
from pathlib import Path

import pytest

# How a figure is drawn, what a kernel runs first and where it is looked for, colours in what is
# printed. Without a backend of the user's, a kernel takes its own, which shows figures inline.
DROPPED = ("MPLBACKEND", "PYTHONSTARTUP", "JUPYTER_PATH", "FORCE_COLOR", "PY_COLORS")

# What a kernel leaves, and what it reads of the user's, such as IPython's start-up files.
OF_KERNELS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")

# Folders that are given up where they cannot be written: Matplotlib warns of that in a notebook.
WRITTEN = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment for as long as pytest runs; its workers inherit it."""
    if hasattr(config, "workerinput"):
        return
    scratch = tempfile.TemporaryDirectory(prefix="csbp-pytest-", ignore_cleanup_errors=True)
    environment = pytest.MonkeyPatch()
    config.add_cleanup(scratch.cleanup)
    config.add_cleanup(environment.undo)
    for variable in DROPPED:
        environment.delenv(variable, raising=False)
    for variable in WRITTEN:
        if not is_writable(os.environ.get(variable, scratch.name)):
            environment.delenv(variable)
    for variable in OF_KERNELS:
        environment.setenv(variable, scratch.name)
    environment.setenv("MATPLOTLIBRC", os.devnull)  # as good as an empty one
    if not has_home():
        environment.setenv("HOME", scratch.name)


def has_home() -> bool:
    """Whether the user has a home that can be written."""
    try:
        return is_writable(Path.home())
    except RuntimeError:  # there is none, nor a user of that number
        return False


def is_writable(folder: str | Path) -> bool:
    """Whether a folder is there and can be written."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
