"""How a figure is made: one set-up call, the style, and files that repeat byte for byte."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MultipleLocator

from csbp_core.checks import check

from .files import ROOT, replace_file, replace_files, writable_folder
from .provenance import record

__all__ = [
    "ROOT",  # of .files, as replace_file and writable_folder are; here is their old import path
    "plot_weight",
    "record",  # of .provenance, likewise
    "replace_file",
    "save_figure",
    "setup",
    "writable_folder",
]

STYLE = {"svg.hashsalt": "csbp", "legend.frameon": False}  # the salt makes ids in an SVG repeat


def setup(output_dir: str | Path, seed: int = 0) -> Path:
    """Fix what a float32 run and a picture depend on, and make the folder for its figures.

    Args:
        output_dir: the folder; a relative path starts at the project's root.
        seed: of torch and NumPy, an integer in [0, 2**32 - 1].

    Returns the folder. Sets one torch thread, both seeds and the plotting style. Raises ValueError
    for a seed out of range or a folder that cannot be written.
    """
    check("seed", seed, "[0, 4294967295]", integer=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)
    plt.style.use(["default", STYLE])
    return writable_folder(ROOT / output_dir)


def plot_weight(w: np.ndarray) -> tuple[plt.Figure, plt.Axes]:
    """Draw the published figure: the weight over the epochs, 600 x 400 pixels, same geometry.

    Args:
        w: the weight before each update, [epochs].

    Returns the figure and its axes.
    """
    margins = {"left": 0.15, "bottom": 0.2, "right": 0.9, "top": 0.9}
    fig, ax = plt.subplots(figsize=(6, 4), dpi=100, gridspec_kw=margins)
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
    """Write a figure as PNG and SVG; the same figure gives the same bytes, without any date.

    Args:
        fig: the figure.
        path: the files, without their suffix.

    Raises OSError, one line, where they cannot be written; both old files are kept then.
    """
    replace_files(
        {
            path.with_name(f"{path.name}.png"): _drawn(fig, "png", {"Software": None}),
            path.with_name(f"{path.name}.svg"): _drawn(fig, "svg", {"Date": None, "Creator": None}),
        }
    )


def _drawn(fig: plt.Figure, kind: str, metadata: dict[str, None]) -> bytes:
    """A figure as the content of a file."""
    content = io.BytesIO()
    fig.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
