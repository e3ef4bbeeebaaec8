"""Figures and the numbers beside them: one set-up call, files that are the same bytes every time, provenance."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import ArrayLike

from .checks import check

_above = Path(__file__).resolve().parents[1]
ROOT = _above if (_above / "notebooks").is_dir() else Path.cwd()  # the project, or wherever an installed package is used

STYLE: dict[str, Any] = {"svg.hashsalt": "csbp", "legend.frameon": False}


def setup(output_dir: str | Path, seed: int = 0) -> Path:
    """Fix what a figure depends on, one torch thread, the seeds and the style, and return the output folder.

    A relative `output_dir` starts at the project's root. Raises ValueError if the folder cannot be written.
    """
    check("seed", seed, "[0, 4294967295]", integer=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)
    plt.rcdefaults()
    plt.rcParams.update(STYLE)  # type: ignore[arg-type]
    return writable_folder(ROOT / output_dir)


def writable_folder(folder: Path) -> Path:
    """Make a folder if it is not there; raises ValueError, one line, if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"output_dir = {str(folder)!r}: must be a folder that can be written ({error.strerror})") from None
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole or not at all: written aside, then renamed."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(content)
    os.replace(aside, path)


def plot_weight(w: ArrayLike) -> tuple[Figure, Axes]:
    """The published figure: the weight over the epochs, 600 x 400 pixels, in the published geometry."""
    w = np.asarray(w)
    fig, ax = plt.subplots(figsize=(6, 4), dpi=100)
    fig.subplots_adjust(left=0.15, bottom=0.2, right=0.9, top=0.9)
    ax.scatter(range(len(w)), w, s=3)
    ax.tick_params(labelsize=15)
    ax.set_xlabel("epoch", fontsize=16)  # as wide as the published Calibri at 20
    ax.set_ylabel("$w$", fontsize=20)
    ax.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 2.5, 5, 10]))
    if 1000 < len(w) <= 10000:  # else the published ticks are none, or too many
        ax.xaxis.set_major_locator(MultipleLocator(1000))
    ax.grid()
    return fig, ax


def save_figure(fig: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg: no dates, fixed ids, so the same figure gives the same bytes."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=suffix[1:], metadata=metadata)
        replace_file(path.with_suffix(suffix), buffer.getvalue())


def record(path: Path, *, notebook: str, parameters: Mapping[str, object], results: Mapping[str, object]) -> None:
    """Write `path`.json: `results`, the key numbers of a figure, and `provenance`, what they were made with.

    Raises ValueError for a result that is not finite: JSON has no word for it.
    """
    paths = ["csbp_core", f"notebooks/{notebook}.ipynb"]
    provenance = {
        "notebook": notebook,
        "parameters": dict(parameters),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", "matplotlib")},
        "torch_threads": torch.get_num_threads(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "commit": (commit := _git("log", "-1", "--format=%H", "--", *paths) or None),
        "dirty": bool(_git("status", "--porcelain", "--", *paths)) if commit else None,
    }
    content = {"results": dict(results), "provenance": provenance}
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=lambda array: array.tolist())
    except ValueError:
        raise ValueError("results: must be finite numbers; the run has diverged, try a smaller lr or z") from None
    replace_file(path.with_suffix(".json"), text.encode() + b"\n")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
