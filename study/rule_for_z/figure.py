"""How the rule for z is drawn: what training comes to over its first share, a line per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from csbp_core.plugin.measurement import FIRST_SHARE_LIMIT
from csbp_notebooks.figures import headline
from csbp_notebooks.palette import CRITICAL_LINE, PUBLISHED
from csbp_notebooks.signs import less, with_minus

from ..findings.figures import MARGIN, SMALL, WIDTH, ZERO, legend_below, margin_mark
from .answers import claim
from .comparison import SHARE_OF_README
from .measured import ALL_TASKS, Measured, OnTask
from .on_a_task import AUTHORS_Z, SHARES

LEAST = -5  # margins; what is below is drawn in a row of its task, under a break
GAP = 0.9  # margins, from the break to the first of these rows
ROW = 0.75  # margins, from one to the next
NAME = 0.8  # margins, the height of a name above its line
APART = 1.5  # margins above BP, from which a line has its name beside its marks, too

# The colours of the palette have a meaning each, and these lines are all of CSBP: they are told
# apart by a map from dark to light, and by marks.
COLOURS = plt.get_cmap("viridis")(np.linspace(0, 0.6, len(ALL_TASKS)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X")

AT_RULE: dict[str, Any] = {"color": "k", "lw": 1.5}
AT_LIMIT: dict[str, Any] = {**CRITICAL_LINE, "lw": 1.5}
AT_AUTHORS: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": PUBLISHED,
    "linestyle": "none",
}


class Line(NamedTuple):
    """The line of a task, as it is drawn.

    Attributes:
        shares: of the first report, rising.
        heights: CSBP less BP in margins, or the row of the task where that is below `LEAST`.
    """

    shares: np.ndarray
    heights: np.ndarray


def line_of(on_task: OnTask) -> Line:
    """The line of a task."""
    shares = np.array([trained.share for trained in on_task.trained])
    gains = np.array([on_task.over_bp(trained.accuracy) for trained in on_task.trained])
    return Line(shares, np.where(gains < LEAST, row_of(on_task.task), gains))


def row_of(task: str) -> float:
    """The height at which a task is drawn that has lost more than the axis shows."""
    return LEAST - GAP - ROW * ALL_TASKS.index(task)


def rule_figure(measured: Measured) -> Figure:
    """CSBP less BP over the share that the chaotic loss has in the first update's gradient."""
    fig, ax = plt.subplots(figsize=(WIDTH, 6.8), layout="constrained")
    ax.axhspan(-1, 1, **MARGIN)
    ax.axhline(0, **ZERO)
    ax.axvline(SHARE_OF_README, **AT_RULE)
    ax.axvline(FIRST_SHARE_LIMIT, **AT_LIMIT)
    for on_task in measured.tasks:
        _draw(ax, on_task)
    _name_lines(ax, measured)
    _set_axes(ax, measured)
    headline(fig, claim(measured))
    marks = [
        Line2D([], [], **AT_RULE, label=f"README's rule: {100 * SHARE_OF_README:g} %"),
        Line2D([], [], **AT_LIMIT, label=f"report() warns above {100 * FIRST_SHARE_LIMIT:g} %"),
        Line2D([], [], **AT_AUTHORS, label=f"the authors' z, {AUTHORS_Z:g}"),
        margin_mark("margin: counts as no difference to BP"),
        Line2D([], [], ls="none", label="a mark: mean over networks, validation data,"),
        Line2D([], [], ls="none", label="from torch's weights, at BP's learning rate"),
    ]
    legend_below(fig, marks, columns=2)
    return fig


def _draw(ax: Axes, on_task: OnTask) -> None:
    """The line of a task, and the authors' z on it."""
    place = ALL_TASKS.index(on_task.task)
    line = line_of(on_task)
    marks = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 6}
    ax.plot(line.shares, line.heights, lw=1.3, **marks)
    at_authors = line.shares == on_task.authors.share
    ax.plot(line.shares[at_authors], line.heights[at_authors], **AT_AUTHORS)


def _name_lines(ax: Axes, measured: Measured) -> None:
    """The name of every line at its end, and above a mark where it is far above BP."""
    lines = {on_task.task: line_of(on_task) for on_task in measured.tasks}
    name: dict[str, Any] = {"fontsize": SMALL, "textcoords": "offset points"}
    for task, line in lines.items():
        end = line.shares[-1], line.heights[-1]
        ax.annotate(task, end, xytext=(9, 0), va="center", annotation_clip=False, **name)
        if line.heights.max() > APART:
            mark = clearest_mark(line, [other for other in lines.values() if other is not line])
            at_mark = line.shares[mark], line.heights[mark]
            ax.annotate(task, at_mark, xytext=(0, 8), ha="center", **name)


def clearest_mark(line: Line, others: Sequence[Line]) -> int:
    """Where a name fits above a line: the mark at which it is farthest above all others.

    That is one between the first mark and the line of README's rule, so that the name is clear of
    both.
    """
    shares = np.log(line.shares)
    heights = [np.interp(shares, np.log(other.shares), other.heights) for other in others]
    above = line.heights - np.max(heights, axis=0)
    fits = line.shares < SHARE_OF_README
    fits[0] = False
    return int(np.where(fits, above, -np.inf).argmax())


def _set_axes(ax: Axes, measured: Measured) -> None:
    """Scales, their names, and the break below them.

    Up to the highest line; from the least share of the ladder on, and from the authors'.
    """
    highest = math.ceil(NAME + max(line_of(on_task).heights.max() for on_task in measured.tasks))
    least = min(SHARES[0], *(on_task.authors.share for on_task in measured.tasks))
    ax.set(xscale="log", xlim=(0.8 * least, 1), ylim=(row_of(ALL_TASKS[-1]) - ROW, highest))
    ticks = [0.001, 0.003, 0.01, 0.03, SHARE_OF_README, 0.1, 0.3, 0.6, 0.9]
    ax.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("share of the chaotic loss in the gradient at $h$, first update")
    heights = range(LEAST, highest + 1)
    ax.set_yticks(heights, [with_minus(f"{height:+d}") if height else "0" for height in heights])
    ax.set_ylabel(f"{less('CSBP', 'BP')}, in margins of the task", y=0.68)
    ax.axhline(LEAST - GAP / 2, color="k", lw=0.8, ls=(0, (1, 3)))
    words = with_minus(f"lost more than {-LEAST} margins:\na row per task, not to scale")
    ax.text(SHARES[0], LEAST - GAP - 2 * ROW, words, fontsize=SMALL, va="center")
