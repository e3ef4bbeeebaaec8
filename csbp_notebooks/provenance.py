"""The numbers beside a figure, and what they were made with: code, parameters, machine."""

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .files import ROOT, replace_file

PACKAGES = ("csbp_core", "csbp_notebooks", "study")  # the project's own
RUNNING = "CSBP_NOTEBOOK"  # the environment variable in which csbp-run says which notebook it runs
IMPORTED_AT = time.time()
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


def record(path: Path, *, notebook: str, parameters: dict, results: dict) -> None:
    """Write `path`.json: the key numbers of a notebook and what they were made with.

    Args:
        path: the file, without its suffix; usually that of the figure.
        notebook: the notebook's name, without its suffix. Where csbp-run runs it, its own name is
            recorded, so that a copy does not pass for the original.
        parameters: what it ran with, usually `notebook_parameters()`.
        results: numbers, text, lists, dictionaries, NumPy arrays and tensors.

    Raises ValueError for NaN and inf, for which JSON has no word, and TypeError for other objects
    that JSON does not know; both in one line that says where.
    """
    notebook = os.environ.get(RUNNING, notebook)
    provenance = {
        "notebook": notebook,
        "parameters": for_json(parameters, "parameters"),
        "versions": versions("torch", "numpy", "matplotlib"),
        "torch_threads": torch.get_num_threads(),
        **machine(),
        **code_of(notebook),
    }
    content = {"results": for_json(results, "results"), "provenance": provenance}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(path.with_name(f"{path.name}.json"), text.encode() + b"\n")


def for_json(value: Any, place: str) -> Any:
    """A result as JSON knows it, arrays and tensors as lists.

    Args:
        value: what `record` takes.
        place: where it stands, for the message.

    Raises ValueError and TypeError as `record` does.

    Example:
        >>> for_json({"w": [0.5, float("inf")]}, "results")
        Traceback (most recent call last):
        ValueError: results["w"][1] = inf: must be finite, JSON has no word for it
    """
    if hasattr(value, "tolist"):  # of NumPy or torch
        value = value.tolist()
    if isinstance(value, dict):
        return {key: for_json(part, f"{place}[{json.dumps(key)}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(part, f"{place}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} = {value}: must be finite, JSON has no word for it")
    if value is not None and not isinstance(value, str | float | int):
        kind = type(value).__name__
        raise TypeError(f"{place} is of type {kind}: must be a number, text, a list or a dict")
    return value


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


def code_of(notebook: str) -> dict[str, Any]:
    """The commit of the code that ran, with `dirty` as in `commit`.

    Args:
        notebook: its name, without its suffix.

    Both are None where a package was not imported from the project's folder, but from another one
    on Python's path or from an installed wheel; `imported` then says from where. Code that was
    edited after it was imported is dirty, whatever was committed since.
    """
    imported = {name: origin(sys.modules[name]) for name in PACKAGES if name in sys.modules}
    foreign = {name: str(path) for name, path in imported.items() if path != ROOT / name}
    if foreign:
        return {"commit": None, "dirty": None, "imported": foreign}
    found = commit([*imported, f"notebooks/{notebook}.ipynb"])
    if found["commit"] and changed_since_import(imported):
        found["dirty"] = True
    return found


def origin(package: ModuleType) -> Path:
    """The folder that a package was imported from."""
    return Path(next(iter(package.__path__))).resolve()


def changed_since_import(packages: Iterable[str]) -> bool:
    """Whether a file of these packages is younger than what this process imported from it."""
    modules = [
        module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages
    ]
    files = [Path(str(getattr(module, "__file__", None))) for module in modules]
    return any(file.exists() and file.stat().st_mtime > IMPORTED_AT for file in files)


def commit(paths: list[str]) -> dict[str, Any]:
    """The last commit that touched any of the paths, and whether they have changed since.

    Both are None outside of a git repository.
    """
    last = _git("log", "-1", "--format=%H", "--", *paths)
    if not last:
        return {"commit": None, "dirty": None}
    # A user's own settings may hide files that git does not know yet.
    changes = _git("status", "--porcelain", "--untracked-files=all", "--", *paths)
    return {"commit": last, "dirty": bool(changes)}


def _git(*arguments: str) -> str:
    """What git prints in the project's folder, "" where it cannot."""
    # Inside of a hook they name the repository that the hook is of.
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
        )
        return done.stdout.strip()
    return ""
