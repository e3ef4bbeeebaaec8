"""How a figure is made: one set-up call, the style, and files that repeat byte for byte."""

import io
import textwrap
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import ArrayLike

from csbp_core.checks import check

from .files import ROOT, replace_file, replace_files, writable_folder
from .marks import NO_BREAK_SPACE, keep_intervals
from .provenance import record
from .signs import as_printed

__all__ = [
    "ROOT",  # of .files, as replace_file and writable_folder are; here is their old import path
    "add_axis_of_z",
    "headline",
    "plot_weight",
    "record",  # of .provenance, likewise
    "replace_file",
    "save_figure",
    "setup",
    "show_figure",
    "writable_folder",
]

STYLE = {
    "svg.hashsalt": "csbp",  # makes the ids in an SVG repeat
    "legend.frameon": False,
    "font.size": 11,  # 8 or more where a page shows a figure of 9 inches at 80 %
    "axes.titlesize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
}
HEADLINE = 12  # points
LETTERS_PER_INCH = 10.8  # of a headline, on average


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


def add_axis_of_z(
    ax: Axes, z: float, beta: float, place: Literal["top", "bottom"] | float = "top"
) -> None:
    """Give an axis of epochs a second one, of the strength z beta^epoch.

    Args:
        ax: the axes, its limits set, from epoch 0 on.
        z: the strength at epoch 0, above 0.
        beta: its factor per epoch, in (0, 1).
        place: "top", "bottom", or a height in heights of the axes.
    """
    epochs = ax.get_xlim()[1]
    least = z * beta**epochs

    def z_at(epoch: ArrayLike) -> np.ndarray:
        return z * beta ** np.asarray(epoch)

    def epoch_at(strength: ArrayLike) -> np.ndarray:
        return np.log(np.maximum(strength, least * beta**epochs) / z) / np.log(beta)

    axis = ax.secondary_xaxis(place, functions=(z_at, epoch_at), xlabel="$z$")
    ticks = np.asarray(MaxNLocator(10, steps=[1, 2, 5, 10]).tick_values(least, z))
    ticks = ticks[(ticks >= least) & (ticks <= z)]
    if least < 0.1 * z:  # they would crowd at one end
        ticks = z_at(np.linspace(0, epochs, 6))
    axis.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])


def headline(fig: plt.Figure, claim: str) -> str:
    """Write what a figure says above it, in as many lines as its width asks for.

    Args:
        fig: the figure; with layout="constrained" its axes make room.
        claim: a sentence, its numbers computed; its signs become those of print.

    Returns the claim as plain text, for the alt text.
    """
    claim = as_printed(claim)
    letters = int(fig.get_figwidth() * LETTERS_PER_INCH)
    whole = keep_intervals(claim)
    lines = textwrap.fill(whole, letters, break_long_words=False, break_on_hyphens=False)
    lines = lines.replace(NO_BREAK_SPACE, " ")
    fig.suptitle(lines, x=0.01, ha="left", fontsize=HEADLINE)
    return claim.replace("$", "").replace("^", "")


def save_figure(fig: plt.Figure, path: Path) -> None:
    """Write a figure as PNG and SVG; the same figure gives the same bytes, without any date.

    Args:
        fig: the figure.
        path: the files, without their suffix.

    Its layout is settled first, once for all: another draw may move it by a hair, and not always
    by the same one.

    Raises OSError, one line, where they cannot be written; both old files are kept then.
    """
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    replace_files(
        {
            path.with_name(f"{path.name}.png"): _drawn(fig, "png", {"Software": None}),
            path.with_name(f"{path.name}.svg"): _drawn(fig, "svg", {"Date": None, "Creator": None}),
        }
    )


def show_figure(fig: plt.Figure, alt: str) -> None:
    """Show a figure in a notebook, as it is saved, and close it.

    Args:
        fig: the figure.
        alt: what it says, in words, for those who do not see it, with the signs of print; stored
            beside the picture, in the output's metadata, where JupyterLab, nbconvert and Sphinx
            look for it.
    """
    display(Image(_drawn(fig, "png", {"Software": None}), alt=as_printed(alt)))
    plt.close(fig)


def _drawn(fig: plt.Figure, kind: str, metadata: dict[str, None]) -> bytes:
    """A figure as the content of a file."""
    content = io.BytesIO()
    fig.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()
