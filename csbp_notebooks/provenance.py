"""The numbers beside a figure, and what they were made with: code, parameters, machine."""

import contextlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .files import ROOT, replace_file


def record(path: Path, *, notebook: str, parameters: dict, results: dict) -> None:
    """Write `path`.json: the key numbers of a notebook and what they were made with.

    Args:
        path: the file, without its suffix; usually that of the figure.
        notebook: the notebook's name, without its suffix.
        parameters: what it ran with, usually `notebook_parameters()`.
        results: numbers, text, lists, dictionaries, NumPy arrays and tensors.

    Raises ValueError for NaN and inf, for which JSON has no word.
    """
    code = ["csbp_core", "csbp_notebooks", f"notebooks/{notebook}.ipynb"]
    provenance = {
        "notebook": notebook,
        "parameters": parameters,
        "versions": versions("torch", "numpy", "matplotlib"),
        "torch_threads": torch.get_num_threads(),
        **machine(),
        **commit(code),
    }
    content = {"results": results, "provenance": provenance}
    try:
        text = json.dumps(
            content,
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
            default=lambda array: array.tolist(),
        )
    except ValueError:
        raise ValueError(
            "results: must be finite numbers; the run has diverged, try a smaller lr or z"
        ) from None
    replace_file(path.with_suffix(".json"), text.encode() + b"\n")


def notebook_parameters() -> dict[str, Any]:
    """The parameters of the notebook that is running, all but `output_dir`, as they are now.

    Parameters are the names to which its cells give a type, as in `z: float = 10.0`; papermill
    sets the same names, without a type. Call it in the set-up cell, before another cell uses one
    of the names again.

    Returns the values by name. Raises RuntimeError outside of a notebook.
    """
    from IPython import get_ipython  # the study records provenance without IPython

    shell = get_ipython()
    if shell is None:
        raise RuntimeError("notebook_parameters() is for a running notebook; there is none")
    # Not from the history of cells, which is empty under nbval.
    typed = shell.user_module.__annotations__
    values = shell.user_ns
    return {name: values[name] for name in typed if name in values and name != "output_dir"}


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of installed packages."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def machine() -> dict[str, str]:
    """What rounding depends on: the processor, and the instructions that torch uses of it."""
    return {"cpu": cpu_model(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit(paths: list[str]) -> dict[str, Any]:
    """The last commit that touched any of the paths, and whether they have changed since.

    Both are None outside of a git repository.
    """
    last = _git("log", "-1", "--format=%H", "--", *paths)
    if not last:
        return {"commit": None, "dirty": None}
    return {"commit": last, "dirty": bool(_git("status", "--porcelain", "--", *paths))}


def _git(*arguments: str) -> str:
    """What git prints in the project's folder, "" where it cannot."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
        return done.stdout.strip()
    return ""
