"""What pytest and the notebooks' kernels that it starts run under: no setting of the user's.

Here and not in tests/, so that it also serves `pytest --nbval notebooks/NAME.ipynb`.
"""

import os
import tempfile

import pytest

from csbp_notebooks.user_settings import OF_KERNELS, given_up, has_home

# How a figure is drawn, what a kernel runs first and where it is looked for, colours in what is
# printed. Without a backend of the user's, a kernel takes its own, which shows figures inline.
DROPPED = ("MPLBACKEND", "PYTHONSTARTUP", "JUPYTER_PATH", "FORCE_COLOR", "PY_COLORS")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment for as long as pytest runs; its workers inherit it."""
    if hasattr(config, "workerinput"):
        return
    scratch = tempfile.TemporaryDirectory(prefix="csbp-pytest-", ignore_cleanup_errors=True)
    environment = pytest.MonkeyPatch()
    config.add_cleanup(scratch.cleanup)
    config.add_cleanup(environment.undo)
    for variable in [*DROPPED, *given_up()]:
        environment.delenv(variable, raising=False)
    for variable in OF_KERNELS:
        environment.setenv(variable, scratch.name)
    environment.setenv("MATPLOTLIBRC", os.devnull)  # as good as an empty one
    if not has_home():
        environment.setenv("HOME", scratch.name)
