"""Figures and the numbers beside them: one set-up call, files that are the same bytes every time, provenance."""

import contextlib
import io
import json
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MultipleLocator

from csbp_core.checks import check

_above = Path(__file__).resolve().parents[1]
ROOT = _above if (_above / "notebooks").is_dir() else Path.cwd()  # the project, or wherever an installed package is used


def setup(output_dir: str | Path, seed: int = 0) -> Path:
    """Fix one torch thread, seeds and style; make and return the folder, relative to the project's root. Raises ValueError."""
    check("seed", seed, "[0, 4294967295]", integer=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)
    plt.style.use(["default", {"svg.hashsalt": "csbp", "legend.frameon": False}])
    return writable_folder(ROOT / output_dir)


def writable_folder(folder: Path) -> Path:
    """Make a folder if it is not there; raises ValueError, one line, if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"output_dir = {str(folder)!r}: must be a folder that can be written ({error.strerror})") from None
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole or not at all: written aside, then renamed."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(content)
    aside.replace(path)


def plot_weight(w: np.ndarray) -> tuple[plt.Figure, plt.Axes]:
    """The published figure: the weight over the epochs, 600 x 400 pixels, in the published geometry."""
    fig, ax = plt.subplots(figsize=(6, 4), dpi=100, gridspec_kw={"left": 0.15, "bottom": 0.2, "right": 0.9, "top": 0.9})
    ax.scatter(range(len(w)), w, s=3)
    ax.tick_params(labelsize=15)
    ax.set_xlabel("epoch", fontsize=16)  # as wide as the published Calibri at 20
    ax.set_ylabel("$w$", fontsize=20)
    ax.locator_params(axis="y", nbins=9)
    if 1000 < len(w) <= 10000:  # else the published ticks are none, or too many
        ax.xaxis.set_major_locator(MultipleLocator(1000))
    ax.grid()
    return fig, ax


def save_figure(fig: plt.Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg: no dates, fixed ids, so the same figure gives the same bytes."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        fig.savefig(content := io.BytesIO(), format=kind, metadata=metadata)
        replace_file(path.with_suffix(f".{kind}"), content.getvalue())


def record(path: Path, *, notebook: str, parameters: dict, results: dict) -> None:
    """Write `path`.json: key numbers and what they were made with. Raises ValueError for NaN and inf, unknown to JSON."""
    paths = ["csbp_core", "csbp_notebooks", f"notebooks/{notebook}.ipynb"]
    provenance = {
        "notebook": notebook,
        "parameters": parameters,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", "matplotlib")},
        "torch_threads": torch.get_num_threads(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "commit": (commit := _git("log", "-1", "--format=%H", "--", *paths) or None),
        "dirty": bool(_git("status", "--porcelain", "--", *paths)) if commit else None,
    }
    content = {"results": results, "provenance": provenance}
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=lambda array: array.tolist())
    except ValueError:
        raise ValueError("results: must be finite numbers; the run has diverged, try a smaller lr or z") from None
    replace_file(path.with_suffix(".json"), text.encode() + b"\n")


def _git(*arguments: str) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10).stdout.strip()
    return ""


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
