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
from importlib.metadata import distribution, version
from pathlib import Path
from types import ModuleType
from typing import Any

from .files import ROOT, replace_file
from .signs import as_printed

PACKAGES = ("csbp_core", "csbp_notebooks", "study")  # the project's own
VERSIONED = ("torch", "numpy", "matplotlib")  # packages whose versions are recorded

# The environment variables in which csbp-run says which notebook it runs, and what git said when
# it started: the commit, and the hash of the notebook's file.
RUNNING = "CSBP_NOTEBOOK"
STARTED_AT = "CSBP_COMMIT"
STARTED_AS = "CSBP_BLOB"

IMPORTED_AT = time.time()
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


def record(path: Path, *, notebook: str, parameters: dict, results: dict) -> None:
    """Write `path`.json: the key numbers of a notebook and what they were made with.

    Args:
        path: the file, without its suffix; usually that of the figure.
        notebook: the notebook's name, without its suffix. Where csbp-run runs it, its own name is
            recorded, so that a copy does not pass for the original.
        parameters: what it ran with, usually `notebook_parameters()`.
        results: numbers, text, lists, dictionaries, NumPy arrays and tensors. What it has under
            `summary`, a sentence, and `alt`, a dictionary of them, is recorded with the signs of
            print; all else as it is.

    Raises ValueError for NaN and inf, for which JSON has no word, and TypeError for other objects
    that JSON does not know; both in one line that says where.
    """
    import torch  # csbp-run needs `at_start` alone, and not to wait a second for torch

    notebook = os.environ.get(RUNNING, notebook)
    provenance = {
        "notebook": notebook,
        "parameters": for_json(parameters, "parameters"),
        "versions": versions(*VERSIONED),
        "torch_threads": torch.get_num_threads(),
        **machine(),
        **code_of(notebook),
        **from_pythonpath(),
    }
    content = {"results": for_json(printed(results), "results"), "provenance": provenance}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(path.with_name(f"{path.name}.json"), text.encode() + b"\n")


def printed(results: dict) -> dict:
    """Results whose sentences, those under `summary` and `alt`, have the signs of print.

    Example:
        >>> printed({"last": "-1", "summary": "it rises by 5%"})
        {'last': '-1', 'summary': 'it rises by 5 %'}
    """
    sentences: dict[str, Any] = {}
    if "summary" in results:
        sentences["summary"] = as_printed(results["summary"])
    if "alt" in results:
        sentences["alt"] = {name: as_printed(text) for name, text in results["alt"].items()}
    return results | sentences


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


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """What JSON holds, by the names that lead to it, with a dot between them.

    Args:
        value: a result; of lists each place has its number.
        name: what leads to it.

    Example:
        >>> flat({"w": {"last": 0.3, "first": [0.5, 0.4]}})
        {'w.last': 0.3, 'w.first.0': 0.5, 'w.first.1': 0.4}
    """
    if isinstance(value, dict):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= flat(part, f"{name}.{key}" if name else str(key))
    return found


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
    import torch  # likewise

    return {"cpu": cpu_model(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def at_start(notebook: str) -> dict[str, str]:
    """What csbp-run tells a kernel, as environment variables; "" for what git does not know.

    Args:
        notebook: its name, without its suffix.

    Once the notebook records something, its file, the commit and the branch may be others.
    """
    return {
        RUNNING: notebook,
        STARTED_AT: _git("rev-parse", "--verify", "--quiet", "HEAD") or "",
        STARTED_AS: _git("hash-object", "--", f"notebooks/{notebook}.ipynb") or "",
    }


def code_of(notebook: str) -> dict[str, Any]:
    """The commit of the code that ran, with `dirty` as in `commit`.

    Args:
        notebook: its name, without its suffix.

    Both are None where a package was not imported from the project's folder, but from another one
    on Python's path or from an installed wheel, or where one whose version is recorded was not
    imported from what is installed; `imported` then says from where.

    Under csbp-run the commit is of what was checked out when it started, whatever was committed
    since. Code that was edited after it was imported is dirty, and so is a notebook that started
    as another file than that of the commit.
    """
    expected = {name: ROOT / name for name in PACKAGES}
    expected |= {name: installed(name) for name in VERSIONED}
    imported = {name: origin(sys.modules[name]) for name in expected if name in sys.modules}
    foreign = {name: str(path) for name, path in imported.items() if path != expected[name]}
    if foreign:
        return {"commit": None, "dirty": None, "imported": foreign}
    own = [name for name in PACKAGES if name in imported]
    file = f"notebooks/{notebook}.ipynb"
    start = os.environ.get(STARTED_AT) or "HEAD"
    found = commit([*own, file], start)
    if found["commit"] and (changed_since_import(own) or started_as_another(file, start)):
        found["dirty"] = True
    return found


def installed(package: str) -> Path:
    """Where the distribution whose version is recorded has its package."""
    return Path(str(distribution(package).locate_file(package))).resolve()


def origin(module: ModuleType) -> Path:
    """The folder that a package was imported from; of a module that is none, its file."""
    places = [*getattr(module, "__path__", []), getattr(module, "__file__", None)]
    return Path(str(places[0])).resolve()


def from_pythonpath() -> dict[str, Any]:
    """What was imported from folders of PYTHONPATH, of which no version need tell.

    Returns `pythonpath`, with the names of the modules by folder; nothing where there are none. The
    project's own folder does not count.
    """
    entries = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    folders = {os.path.abspath(entry) for entry in entries if Path(entry).resolve() != ROOT}
    found: dict[str, list[str]] = {}
    for name, module in sorted(sys.modules.items()):
        file = Path(str(getattr(module, "__file__", None)))
        package = file.parent if file.stem == "__init__" else file
        if "." not in name and str(package.parent) in folders:
            found.setdefault(str(package.parent), []).append(name)
    names = {folder: ", ".join(modules) for folder, modules in found.items()}
    return {"pythonpath": names} if names else {}


def changed_since_import(packages: Iterable[str]) -> bool:
    """Whether a file of these packages may be another than what this process imported from it."""
    modules = [
        module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages
    ]
    files = [getattr(module, "__file__", None) for module in modules]
    return any(_changed(Path(file)) for file in files if file)


def _changed(file: Path) -> bool:
    """Whether a file is gone, or younger than the import of this module."""
    if not file.exists():
        return True
    status = file.stat()
    # The second one cannot be set, as the first is by what puts a file back.
    return max(status.st_mtime, status.st_ctime) > IMPORTED_AT


def started_as_another(file: str, start: str) -> bool:
    """Whether csbp-run started with another content of a file than that of a commit.

    Args:
        file: the notebook's, from the project's folder.
        start: the commit.
    """
    content = os.environ.get(STARTED_AS)
    return bool(content) and content != _git(
        "rev-parse", "--verify", "--quiet", f"{start}:./{file}"
    )


def commit(paths: list[str], start: str = "HEAD") -> dict[str, Any]:
    """The last commit that touched any of the paths, and whether they have changed since.

    Args:
        paths: from the project's folder.
        start: the commit from which to look back.

    Both are None outside of a git repository, `dirty` also where git does not answer in time.
    """
    last = _git("log", "-1", "--format=%H", start, "--", *paths)
    if not last:
        return {"commit": None, "dirty": None}
    new = _git("ls-files", "--others", "--exclude-standard", "--", *paths)
    # A user's own setting may let it name files that were merely touched.
    refresh = ("-c", "diff.autoRefreshIndex=true")
    changed = _git(*refresh, "diff", "--name-only", "--no-ext-diff", start, "--", *paths)
    if new is None or changed is None:
        return {"commit": last, "dirty": None}
    return {"commit": last, "dirty": bool(new or changed)}


def _git(*arguments: str) -> str | None:
    """What git prints in the project's folder, None where it fails."""
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
        if done.returncode == 0:
            return done.stdout.strip()
    return None
