"""How the exponents along trainings are drawn: tasks side by side, spikes held above."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from csbp_notebooks.figures import headline
from csbp_notebooks.palette import BP, CSBP

from ..findings.figures import SMALL, WIDTH, ZERO, legend_below, say_unfinished
from ..tasks.tasks import TASKS
from .answers import claim, power
from .measured import FLIPPING, HELD, Along, Trainings
from .of_training import ARMS, D0, PARTS

COLOURS = {"bp": BP, "csbp": CSBP}
MARKERS = {"bp": "s", "csbp": "o"}
ASIDE = {"bp": -0.14, "csbp": 0.14}  # of the whole number of a fifth
NAMES = {
    "bp": "BP: a network, and the mean of all",
    "csbp": "CSBP at its tuned z: likewise",
}


def exponents_figure(trainings: Trainings) -> Figure:
    """The exponent in every fifth of the training, with spikes held and with spikes that flip.

    Args:
        trainings: the cells that are there; a panel without any is called unfinished.
    """
    fig, axes = plt.subplots(
        2, len(TASKS), figsize=(WIDTH, 5.4), layout="constrained", sharex=True, sharey=True
    )
    for row, distance in zip(axes, (HELD, FLIPPING), strict=True):
        for ax, task in zip(row, TASKS, strict=True):
            _draw(ax, trainings, task, distance)
    for ax, task in zip(axes[0], TASKS, strict=True):
        ax.set_title(task, fontsize=SMALL)
    axes[0, 0].set_ylabel(f"exponent per step,\nspikes held ($d_0$ = {power(D0[HELD])})")
    axes[1, 0].set_ylabel(f"exponent per step,\nspikes flip ($d_0$ = {power(D0[FLIPPING])})")
    for ax in axes[1]:
        ax.set_xlabel("fifth", fontsize=SMALL)
    headline(fig, claim(trainings))
    marks = [
        Line2D([], [], color=COLOURS[arm], marker=MARKERS[arm], markersize=4, label=NAMES[arm])
        for arm in ARMS
    ]
    marks.append(Line2D([], [], ls="none", label="fifth: of the training, its steps in five parts"))
    marks.append(Line2D([], [], **ZERO, label="0: above it, nearly equal networks part"))
    legend_below(fig, marks, columns=2)
    return fig


def _draw(ax: Axes, trainings: Trainings, task: str, distance: int) -> None:
    """Both arms of a task at one distance."""
    ax.axhline(0, **ZERO)
    present = [trainings[task, arm] for arm in ARMS if (task, arm) in trainings]
    for along in present:
        _draw_arm(ax, along, distance)
    if not present:
        say_unfinished(ax)
    ax.set_xticks(range(1, PARTS + 1))
    ax.tick_params(labelsize=SMALL)


def _draw_arm(ax: Axes, along: Along, distance: int) -> None:
    """A mark per network and fifth, and a line through the means."""
    exponents = along.exponent[:, distance]  # [parts, networks]
    places = np.arange(1, PARTS + 1) + ASIDE[along.arm]
    colour = COLOURS[along.arm]
    ax.plot(places, exponents, MARKERS[along.arm], color=colour, alpha=0.7, markersize=2.5)
    ax.plot(places, exponents.mean(axis=1), color=colour, lw=1.2)
