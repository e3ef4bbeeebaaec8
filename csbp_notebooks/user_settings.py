"""What of a user's settings would reach a kernel, and which of their folders can be written.

For csbp-run and for pytest, which starts kernels, too; so it imports nothing that takes long.
"""

import os
from pathlib import Path

# What a kernel leaves, and what it reads of the user's, such as IPython's start-up files.
OF_KERNELS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")

# Folders that are given up where they cannot be written: Matplotlib warns of that in a notebook.
WRITTEN = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def given_up() -> list[str]:
    """The environment variables of `WRITTEN` that name a folder that cannot be written."""
    return [
        variable
        for variable in WRITTEN
        if variable in os.environ and not is_writable(os.environ[variable])
    ]


def has_home() -> bool:
    """Whether the user has a home that can be written."""
    try:
        return is_writable(Path.home())
    except RuntimeError:  # there is none, nor a user of that number
        return False


def is_writable(folder: str | Path) -> bool:
    """Whether a folder is there and can be written."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK)
