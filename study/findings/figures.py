"""How the findings of the study are drawn: a figure per question, its claim as the title.

Filled marks are what the primary contrasts are about, and the largest of them has the verdict. A
band is the margin: a difference that is shown to lie in it counts as none. Axes are linear.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from csbp_core.single_neuron import DEFAULT_LR
from csbp_notebooks.figures import headline
from csbp_notebooks.palette import (
    BP,
    CONTROL,
    CRITICAL,
    CRITICAL_LINE,
    CSBP,
    CSBP_MEMBRANE,
    NEUTRAL,
)
from csbp_notebooks.signs import less

from ..experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from ..experiments.experiment_3 import TIMES
from ..experiments.experiment_4 import FC1_ARMS, networks_of
from ..protocol import EVERY_MARGIN, IMAGES, SEEDS, SPLITS
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import Findings
from .answers import (
    STARTS_UNDER_NOISE,
    changes_under_noise,
    does_chaos_help,
    does_csbp_help,
    does_the_form_matter,
    does_the_recipe_help,
    is_it_robust,
    less_substeps,
)
from .cells import substeps_path
from .measured import DECISIVE
from .numbers import difference, interval, numbers
from .rows import BEST_BP, Label, Row, label_at, label_on_images
from .secondary import PAIRS_ON_IMAGES
from .verdicts import CANNOT_BE_INTEGRATED, UNFINISHED
from .words import (
    AS_NOW,
    CONDITIONS,
    FROM_DATA,
    OVER_BEST_BP,
    WITHOUT_OVERSHOOT,
    gains_as_now,
    groups,
    over_bp,
    rows_by_label,
    so_far_as_now,
    verdicts_of,
)

SMALL = 10  # points, the least
WIDTH = 9.0  # inches; a page shows it at 80 % or more, so that 10 points are 8 or more there

# How many networks an arm of a task is.
NETWORKS = SEEDS | {IMAGES: sum(len(networks_of("csbp", split).seeds) for split in SPLITS)}

MARGIN: dict[str, Any] = {"color": NEUTRAL, "alpha": 0.45, "lw": 0}
AT_CRITICAL: dict[str, Any] = {**CRITICAL_LINE, "lw": 1}
ZERO: dict[str, Any] = {"color": "k", "lw": 0.8}


class Style(NamedTuple):
    """How a contrast is marked.

    Attributes:
        colour: of its mark and interval.
        marker: as matplotlib names it.
        is_filled: whether the mark is.
        is_primary: whether it has a verdict: it is larger then, with a black edge.
    """

    colour: str
    marker: str = "o"
    is_filled: bool = True
    is_primary: bool = False

    def keywords(self) -> dict[str, Any]:
        """For `errorbar` and `Line2D`."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 9 if self.is_primary else 5,
            "markerfacecolor": self.colour if self.is_filled else "w",
            "markeredgecolor": "k" if self.is_primary else self.colour,
            "linestyle": "none",
        }


PRIMARY = Style(CSBP, is_primary=True)


def mark(style: Style, label: str) -> Line2D:
    """A mark for a legend."""
    return Line2D([], [], label=label, **style.keywords())


def margin_mark(
    label: str = "margin: equivalent if shown, by one-sided tests, to lie in it",
) -> Patch:
    """The margin's band for a legend."""
    return Patch(**MARGIN, label=label)


def bars_mark() -> Line2D:
    """What bars, brackets and n are, for a legend: words alone."""
    return Line2D([], [], ls="none", label="bars, [ ]: 95 % intervals; n: networks per arm")


def draw_upright(ax: Axes, place: float, row: Row, style: Style) -> ErrorbarContainer:
    """A contrast and its 95 % interval at a place of the horizontal axis."""
    return ax.errorbar(place, row.found.estimate, yerr=_lengths(row), capsize=2, **style.keywords())


def draw_lying(ax: Axes, place: float, row: Row, style: Style, unit: float = 1.0) -> None:
    """The same at a place of the vertical axis, in so many points."""
    ax.errorbar(
        row.found.estimate / unit,
        place,
        xerr=_lengths(row) / unit,
        capsize=2,
        **style.keywords(),
    )


def _lengths(row: Row) -> np.ndarray:
    """How far the interval reaches below and above the estimate, `[2, 1]`."""
    found = row.found
    return np.array([[found.estimate - found.low], [found.high - found.estimate]])


def legend_below(fig: Figure, marks: Sequence[Artist], columns: int) -> None:
    """All marks of a figure, below it."""
    fig.legend(handles=marks, loc="outside lower center", ncols=columns, fontsize=SMALL)


def alt(fig: Figure, shows: str) -> str:
    """What a figure says, in words: its claim, and what it shows."""
    claim = fig.get_suptitle().replace("\n", " ").replace("$", "").rstrip(".")
    return f"{claim}. Figure: {shows}."


def say_unfinished(ax: Axes) -> None:
    """That a panel has nothing to show yet."""
    ax.text(0.5, 0.62, UNFINISHED, transform=ax.transAxes, ha="center", fontsize=SMALL)


def verdict_text(row: Row | None) -> str:
    """A primary contrast in two lines."""
    if row is None:
        return UNFINISHED
    return f"{numbers(row)}\n{row.verdict}"


# The answers

FARTHEST = 10  # margins; what lies farther off is written at the edge


def answers_figure(found: Findings, weights: Mapping[str, np.ndarray]) -> Figure:
    """What CSBP does to one neuron; what it gains over BP; and what of that is overshoot.

    Args:
        found: the findings.
        weights: of one neuron, `[epochs]` each, by "BP" and by "CSBP".
    """
    fig, (neuron, gain, overshoot) = plt.subplots(
        1, 3, figsize=(WIDTH, 5), layout="constrained", width_ratios=[4, 3, 3]
    )
    for name, colour in (("CSBP", CSBP), ("BP", BP)):
        neuron.plot(weights[name], ".", markersize=2, color=colour)
    neuron.set(xlabel="epoch", ylabel="weight $w$", title="One neuron learns to be silent")
    neuron.legend(
        handles=[
            mark(Style(CSBP), f"by CSBP, lr {DEFAULT_LR['csbp']:g}"),
            mark(Style(BP), f"by BP, lr {DEFAULT_LR['bp']:g}"),
        ],
        loc="upper right",
    )

    rows = rows_by_label(found)
    over_best = {task: rows.get(over_bp(task, FROM_DATA)) for task in TASKS}
    over_best[IMAGES] = rows.get(label_on_images("csbp", BASELINE))
    _draw_in_margins(gain, over_best)
    gain.set_title(
        f"Does it help? CSBP, tuned,\nfrom data-driven weights,\nless best BP ({IMAGES}:\n"
        "the authors' recipe, less BP)",
        fontsize=SMALL,
    )
    over_flow = {
        task: rows.get(label_at(task, DECISIVE, "csbp", "inner flow")) for task in ONE_LAYER_TASKS
    }
    _draw_in_margins(overshoot, over_flow)
    overshoot.set_title(
        "Is it the chaos? CSBP from\n2 $z_c$ at $h^*$ = 1, less\nthe pull without overshoot",
        fontsize=SMALL,
        loc="right",
    )

    least, most = min(NETWORKS.values()), max(NETWORKS.values())
    helps = does_csbp_help(found).short
    headline(fig, f"Does CSBP help? {helps}. Is it the chaos? {does_chaos_help(found).short}.")
    marks = [
        mark(
            PRIMARY,
            f"difference in test accuracy, 95 % interval; {least} to {most} networks per arm",
        ),
        margin_mark("margin, \u00b1 points: equivalent if shown, by one-sided tests, to lie in it"),
    ]
    legend_below(fig, marks, columns=1)
    return fig


def _draw_in_margins(ax: Axes, by_task: Mapping[str, Row | None]) -> None:
    """Primary contrasts in units of their margins, a line per task from the top."""
    ax.axvspan(-1, 1, **MARGIN)
    ax.axvline(0, **ZERO)
    for place, (task, row) in enumerate(by_task.items()):
        if row is None:
            continue
        margin = EVERY_MARGIN[task]
        if max(abs(row.found.low), abs(row.found.high)) > FARTHEST * margin:
            _write_at_the_edge(ax, place, row, margin)
        else:
            draw_lying(ax, place, row, PRIMARY, unit=margin)
    names = [
        f"{task}:\n{UNFINISHED if row is None else row.verdict}, \u00b1{EVERY_MARGIN[task]:g}"
        for task, row in by_task.items()
    ]
    ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("difference / margin")


def _write_at_the_edge(ax: Axes, place: float, row: Row, margin: float) -> None:
    """A contrast too far off to be drawn, in margins, with an arrow towards it."""
    edge = np.sign(row.found.estimate) * FARTHEST
    ends = (edge, place), (0.7 * edge, place)
    ax.annotate("", *ends, arrowprops={"color": CSBP, "arrowstyle": "->"})
    words = f"{difference(row.found.estimate / margin, 0)} margins\n"
    words += interval(row.found.low / margin, row.found.high / margin, 0)
    side = "left" if edge < 0 else "right"
    ax.text(edge, place - 0.08, words, color=CSBP, ha=side, va="bottom", fontsize=SMALL)
    ax.set_xlim(min(edge, -2) - 0.2, max(edge, 2) + 0.2)


# Experiment 1

OVERSHOOT = {
    "inside": Style(CSBP),
    "published": Style(CSBP, "^", is_filled=False),
}

PUBLISHED = "$h^*$ = 6.19, as published (an arrow: beyond the axis)"
ASIDE = 0.24  # of the published rest point, so that both are seen

# By rule: what overshoots is blue and round; what acts outside of the momentum is open.
RULE_STYLES = {
    "bp": (Style(BP, "s"), "-"),
    "csbp": (Style(CSBP), "-"),
    "inner flow": (Style(CONTROL, "D"), "-"),
    "outer flow": (Style(CONTROL, "D", is_filled=False), "--"),
    "kick": (Style(CSBP, is_filled=False), "--"),
    "noise": (Style(CONTROL, "x"), ":"),
}
RULE_NAMES = {
    "bp": "bp: back-propagation alone",
    "csbp": "csbp: the chaotic loss, inside the momentum",
    "inner flow": f"inner flow: {WITHOUT_OVERSHOOT}",
    "outer flow": "outer flow: inner flow outside of the momentum",
    "kick": "kick: csbp outside of the momentum",
    "noise": "noise: inner flow and random directions",
}
# A contrast from which each rule's accuracy is read, and which of its sides it is.
SIDE_OF_RULE = {
    "bp": (("csbp", BASELINE), 1),
    "csbp": (("csbp", "inner flow"), 0),
    "inner flow": (("csbp", "inner flow"), 1),
    "outer flow": (("kick", "outer flow"), 1),
    "kick": (("kick", "outer flow"), 0),
    "noise": (("noise", "inner flow"), 0),
}


def overshoot_figure(found: Findings) -> Figure:
    """csbp less inner flow over z0 / z_c, and the accuracies of all rules; a column per task."""
    rows = rows_by_label(found)
    fig, axes = plt.subplots(2, 3, figsize=(WIDTH, 7.4), layout="constrained", sharex=True)
    for (upper, lower), task in zip(axes.T, ONE_LAYER_TASKS, strict=True):
        _draw_overshoot(upper, rows, task)
        _draw_rules(lower, rows, task)
        upper.set_title(f"{task}, n = {NETWORKS[task]}\n{_primary_line(rows, task)}")
        lower.set_xticks(range(len(RATIOS)), [f"{ratio:g}" for ratio in RATIOS])
        lower.set_xlim(-0.4, len(RATIOS) - 0.2)  # room for the numbers beside the last arrows
        lower.set(xlabel="$z_0 / z_c$", ylim=(0, 103))
    axes[0, 0].set_ylabel(f"{less('csbp', 'inner flow')}, points")
    axes[1, 0].set_ylabel("test accuracy, %, $h^*$ = 1")
    headline(fig, does_chaos_help(found).claim.replace("z_c", "$z_c$"))
    marks = [
        mark(PRIMARY, "above: primary contrast, $h^*$ = 1, $z_0$ = 2 $z_c$"),
        mark(OVERSHOOT["inside"], "above: $h^*$ = 1, inside the surrogate's support"),
        mark(OVERSHOOT["published"], f"above: {PUBLISHED}{_where_unfinished(rows)}"),
        bars_mark(),
        margin_mark(),
        Line2D([], [], **AT_CRITICAL, label="$z_c$: csbp unstable from here on"),
        Line2D([], [], color=BP, lw=1, label="best BP (its own rate and epochs)"),
    ]
    for rule, (style, line) in RULE_STYLES.items():
        keywords = style.keywords() | {"linestyle": line}
        marks.append(Line2D([], [], label=RULE_NAMES[rule], **keywords))
    legend_below(fig, marks, columns=2)
    return fig


def _where_unfinished(rows: Mapping[Label, Row]) -> str:
    """In which tasks the published rest point is not there yet, in brackets; may be empty."""
    published = DECISIVE._replace(rest="published")
    labels = {task: label_at(task, published, "csbp", "inner flow") for task in ONE_LAYER_TASKS}
    tasks = [task for task, label in labels.items() if label not in rows]
    return f"\n({UNFINISHED}: {', '.join(tasks)})" if tasks else ""


def _primary_line(rows: Mapping[Label, Row], task: str) -> str:
    """The decisive contrast of a task in one line."""
    row = rows.get(label_at(task, DECISIVE, "csbp", "inner flow"))
    return verdict_text(row).replace("\n", ": ")


def _draw_overshoot(ax: Axes, rows: Mapping[Label, Row], task: str) -> None:
    """csbp less inner flow at both rest points, on an axis for the inner one."""
    ax.axhspan(-EVERY_MARGIN[task], EVERY_MARGIN[task], **MARGIN)
    ax.axhline(0, **ZERO)
    ax.axvline(RATIOS.index(1.0), **AT_CRITICAL)
    inside = _over_flow(rows, task, "inside")
    limits = _limits(inside.values(), EVERY_MARGIN[task])
    ax.set_ylim(limits)
    primary = RATIOS.index(DECISIVE.ratio)
    for place, row in inside.items():
        draw_upright(ax, place, row, PRIMARY if place == primary else OVERSHOOT["inside"])
    for place, row in _over_flow(rows, task, "published").items():
        if limits[0] < row.found.estimate < limits[1]:
            draw_upright(ax, place + ASIDE, row, OVERSHOOT["published"])
        else:
            _point_beyond(ax, place, row, limits)


def _over_flow(rows: Mapping[Label, Row], task: str, rest: str) -> dict[int, Row]:
    """csbp less inner flow at a rest point, by the place of z0 / z_c; those that are there."""
    found = {}
    for place, ratio in enumerate(RATIOS):
        there = DECISIVE._replace(rest=rest, ratio=ratio)
        row = rows.get(label_at(task, there, "csbp", "inner flow"))
        if row is not None:
            found[place] = row
    return found


def _limits(rows: Iterable[Row], margin: float) -> tuple[float, float]:
    """Those of an axis that holds some contrasts, their intervals and the margin."""
    ends = [-margin, margin]
    for row in rows:
        ends += [end for end in (row.found.low, row.found.high) if math.isfinite(end)]
        ends.append(row.found.estimate)
    room = 0.08 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _point_beyond(ax: Axes, place: float, row: Row, limits: tuple[float, float]) -> None:
    """An arrow towards a contrast that is beyond the axis, with its number."""
    low, high = limits
    tip, end = (0.98, 0.8) if row.found.estimate >= high else (0.02, 0.2)
    heights = [low + part * (high - low) for part in (tip, end)]
    ax.annotate(
        difference(row.found.estimate, 0),
        xy=(place + ASIDE, heights[0]),
        xytext=(place + ASIDE, heights[1]),
        arrowprops={"color": CSBP, "arrowstyle": "->"},
        color=CSBP,
        fontsize=SMALL,
        ha="center",
        va="top" if tip > end else "bottom",
    )


def _draw_rules(ax: Axes, rows: Mapping[Label, Row], task: str) -> None:
    """The accuracies of all rules over z0 / z_c, at the inner rest point."""
    ax.axvline(RATIOS.index(1.0), **AT_CRITICAL)
    for rule, (style, line) in RULE_STYLES.items():
        (first, second), side = SIDE_OF_RULE[rule]
        found = {}
        for place, ratio in enumerate(RATIOS):
            row = rows.get(label_at(task, DECISIVE._replace(ratio=ratio), first, second))
            if row is not None:
                found[place] = row.means[side]
        keywords = style.keywords() | {"linestyle": line, "lw": 1}
        ax.plot(list(found), list(found.values()), **keywords)
    best = rows.get(label_at(task, DECISIVE, "csbp", BEST_BP))
    if best is not None:
        ax.axhline(best.means[1], color=BP, lw=1)


# Experiment 2

CONDITION_STYLES = {
    "data, constant": Style(CSBP, "o"),
    "data, cosine": Style(CSBP, "s"),
    "now, constant": Style(CSBP, "o", is_filled=False),
    "now, cosine": Style(CSBP, "s", is_filled=False),
}
CONDITION_NAMES = {
    "data, constant": "data-driven weights, constant rate",
    "data, cosine": "data-driven, cosine",
    "now, constant": "torch's weights, constant rate",
    "now, cosine": "torch's, cosine",
}
STEP = 0.19  # between the conditions of a task, whose places are whole numbers


def dead_neurons_figure(found: Findings) -> Figure:
    """csbp less the best BP under four conditions, in margins, and dead neurons beside it."""
    rows = rows_by_label(found)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 8.4), layout="constrained", sharey=True, width_ratios=[3, 2]
    )
    left.axvspan(-1, 1, **MARGIN)
    left.axvline(0, **ZERO)
    for task_place, task in enumerate(TASKS):
        for number, condition in enumerate(CONDITIONS):
            place = task_place + (number - 1.5) * STEP
            _draw_over_bp(left, place, rows.get(over_bp(task, condition)), condition)
            _draw_dead(right, place, rows.get(over_bp(task, condition, measure="dead")), condition)
    primary = {task: rows.get(over_bp(task, FROM_DATA)) for task in TASKS}
    _label_tasks(left, primary)
    left.set_xlabel(f"{less('csbp', 'best BP')}, in margins of the task")
    right.axvline(0, **ZERO)
    right.set_xlabel("hidden neurons that never spike\non the test samples, %")
    verdicts = groups(verdicts_of(found, "2"))
    ahead = f"above zero in {len(gains_as_now(rows))} of {len(TASKS)} tasks{so_far_as_now(rows)}"
    headline(
        fig,
        f"Does CSBP help, or is it dead neurons? {OVER_BEST_BP} at a constant rate: from torch's "
        f"weights, interval {ahead}; from data-driven weights: {verdicts}",
    )
    marks = [
        mark(
            CONDITION_STYLES[FROM_DATA]._replace(is_primary=True), "primary: data-driven, constant"
        ),
        *(mark(CONDITION_STYLES[name], CONDITION_NAMES[name]) for name in CONDITIONS),
        bars_mark(),
        margin_mark(),
        mark(Style(BP), "right: silent after BP"),
        mark(Style(CSBP), "right: silent after csbp"),
    ]
    legend_below(fig, marks, columns=2)
    return fig


def _draw_over_bp(ax: Axes, place: float, row: Row | None, condition: str) -> None:
    """csbp less the best BP under one condition."""
    if row is not None:
        style = CONDITION_STYLES[condition]._replace(is_primary=condition == FROM_DATA)
        draw_lying(ax, place, row, style, unit=EVERY_MARGIN[row.label.task])


def _draw_dead(ax: Axes, place: float, row: Row | None, condition: str) -> None:
    """The share of dead neurons after csbp and after the best BP, joined."""
    if row is None:
        return
    csbp, bp = row.means
    ax.plot([csbp, bp], [place, place], color=NEUTRAL, lw=1, zorder=1)
    style = CONDITION_STYLES[condition]
    ax.plot(bp, place, **style._replace(colour=BP).keywords())
    ax.plot(csbp, place, **style.keywords())


def _label_tasks(ax: Axes, primary: Mapping[str, Row | None]) -> None:
    """Name each task with its margin and its primary contrast, from the top."""
    names = [
        f"{task}, n = {NETWORKS[task]}\nmargin {EVERY_MARGIN[task]:g} points\n{verdict_text(row)}"
        for task, row in primary.items()
    ]
    ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    ax.set_ylim(len(names) - 0.5, -0.5)
    for place in range(1, len(names)):
        ax.axhline(place - 0.5, color=NEUTRAL, lw=0.5)


# Experiment 3

MEMBRANE = Style(CSBP_MEMBRANE)
CANNOT = Style(CRITICAL, "X")


def membrane_figure(found: Findings) -> Figure:
    """The membrane form less a quadratic pull, in margins; less its sub-steps, a panel per task."""
    fig = plt.figure(figsize=(WIDTH, 7), layout="constrained")
    grid = fig.add_gridspec(2, 4, width_ratios=[1.7, 1, 1, 1])
    left = fig.add_subplot(grid[:, 0])
    rows = {row.label.task: row for row in found.primary if row.label.experiment == "3"}
    left.axvspan(-1, 1, **MARGIN)
    left.axvline(0, **ZERO)
    for place, task in enumerate(TASKS):
        if task in rows:
            is_refused = rows[task].verdict == CANNOT_BE_INTEGRATED
            style = (CANNOT if is_refused else MEMBRANE)._replace(is_primary=True)
            draw_lying(left, place, rows[task], style, unit=EVERY_MARGIN[task])
    _label_tasks(left, {task: rows.get(task) for task in TASKS})
    left.set_xlabel(f"{less('membrane', 'quadratic pull')},\nin margins of the task")
    for number, task in enumerate(TASKS):
        ax = fig.add_subplot(grid[number // 3, 1 + number % 3])
        _draw_substeps(ax, found, task)
        if number % 3 == 0:
            sides = less("membrane", "the same update")
            ax.set_ylabel(f"{sides}\nin small pieces, points", fontsize=SMALL)
    headline(fig, does_the_form_matter(found).claim)
    marks = [
        mark(MEMBRANE._replace(is_primary=True), "primary contrast, at the tuned z"),
        mark(MEMBRANE, "right, no verdict: what jumping in one update does"),
        bars_mark(),
        margin_mark(),
    ]
    if None in found.integrated.values():
        marks.append(mark(CANNOT, "cannot be integrated: no number of pieces is enough"))
    legend_below(fig, marks, columns=2)
    return fig


def _draw_substeps(ax: Axes, found: Findings, task: str) -> None:
    """The membrane form less its sub-steps at three strengths."""
    ax.axhspan(-EVERY_MARGIN[task], EVERY_MARGIN[task], **MARGIN)
    ax.axhline(0, **ZERO)
    rows = less_substeps(found)
    for place, times in enumerate(TIMES):
        row = rows.get((task, times))
        if row is None:
            words: dict[str, Any] = {
                "rotation": 90,
                "ha": "center",
                "va": "bottom",
                "fontsize": SMALL,
            }
            ax.text(place, 0.04, UNFINISHED, transform=ax.get_xaxis_transform(), **words)
            continue
        is_integrated = found.integrated[substeps_path(task, times)] is not None
        draw_upright(ax, place, row, MEMBRANE if is_integrated else CANNOT)
    ax.set_xticks(range(len(TIMES)), [f"{times}" for times in TIMES])
    ax.set(xlim=(-0.5, len(TIMES) - 0.5), xlabel="$z$ / tuned $z$")
    ax.set_title(task)
    ax.tick_params(labelsize=SMALL)


# Experiment 4

NAMES_ON_IMAGES = {
    "bp": "BP",
    "bp_data": "BP from data-driven weights",
    "csbp": "csbp",
    "quadratic": "quadratic pull",
    "fc1_csbp": "csbp on fc1 from $z_c$",
    "fc1_inner_flow": "inner flow there",
}


def recipe_figure(found: Findings) -> Figure:
    """All contrasts by the authors' recipe, in points; that from z_c has an axis of its own."""
    rows = rows_by_label(found)
    by_recipe = [pair for pair in PAIRS_ON_IMAGES if pair != FC1_ARMS]
    fig, (upper, lower) = plt.subplots(
        2, 1, figsize=(WIDTH, 5.2), height_ratios=(len(by_recipe), 1.4), layout="constrained"
    )
    _draw_pairs(upper, rows, by_recipe)
    upper.set_title("by the recipe")
    _draw_pairs(lower, rows, [FC1_ARMS])
    lower.set_title("on the output of fc1 alone, z falling from $z_c$ (other scale)")
    lower.set_xlabel("difference in test accuracy, points")
    headline(fig, does_the_recipe_help(found).claim)
    marks: list[Artist] = [mark(Style(CSBP, is_primary=True), "primary contrast"), bars_mark()]
    shown = [rows.get(label_on_images(*pair)) for pair in PAIRS_ON_IMAGES]
    if any(row is not None and row.verdict is None for row in shown):
        marks += [
            mark(Style(CSBP), "csbp, no verdict"),
            mark(Style(CONTROL), "control, no verdict"),
        ]
    marks.append(margin_mark())
    legend_below(fig, marks, columns=2)
    return fig


def _draw_pairs(ax: Axes, rows: Mapping[Label, Row], pairs: Sequence[tuple[str, str]]) -> None:
    """Contrasts between arms on images, one below the other."""
    ax.axvspan(-EVERY_MARGIN[IMAGES], EVERY_MARGIN[IMAGES], **MARGIN)
    ax.axvline(0, **ZERO)
    names = []
    for place, (first, second) in enumerate(pairs):
        row = rows.get(label_on_images(first, second))
        networks = len(SPLITS) if first in FC1_ARMS else NETWORKS[IMAGES]
        sides = less(NAMES_ON_IMAGES[first], NAMES_ON_IMAGES[second])
        names.append(f"{sides} (n = {networks})")
        if row is None:
            names[-1] += f"\n{UNFINISHED}"
            continue
        style = Style(CSBP if "csbp" in first else CONTROL, is_primary=row.verdict is not None)
        draw_lying(ax, place, row, style)
        names[-1] += f"\n{numbers(row)}"
    ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    ax.set_ylim(len(names) - 0.5, -0.5)


# Robustness


HOW_TO_READ = f"""change: of {less("csbp", "best BP")} 
({IMAGES}: {less("csbp", "BP")})
above 0: CSBP's lead grows
inputs: sd of the noise
jitter: sd, in time steps
deletion: share left out
weights: relative sd
bars: 95 % intervals
n: networks per arm"""


def robustness_figure(found: Findings) -> Figure:
    """How csbp less BP changes under every kind and level of noise; a panel per task."""
    fig, axes = plt.subplots(2, 4, figsize=(WIDTH, 6.4), layout="constrained")
    rows = changes_under_noise(found, STARTS_UNDER_NOISE)
    for ax, task in zip(axes.flat, EVERY_MARGIN, strict=False):
        _draw_changes(ax, [row for row in rows if row.label.task == task])
        ax.axhspan(-EVERY_MARGIN[task], EVERY_MARGIN[task], **MARGIN)
        ax.axhline(0, **ZERO)
        ax.set_title(f"{task}, n = {NETWORKS[task]}")
        ax.tick_params(labelsize=SMALL)
    for ax in axes[:, 0]:
        ax.set_ylabel("change, points")
    headline(fig, is_it_robust(found).claim)
    marks = [
        mark(CONDITION_STYLES[FROM_DATA], "from data-driven weights"),
        mark(
            CONDITION_STYLES[AS_NOW],
            f"from torch's weights\n({IMAGES}: the recipe)",
        ),
        margin_mark("margin of the task"),
        Line2D([], [], ls="none", label=HOW_TO_READ),
    ]
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(handles=marks, loc="center", fontsize=SMALL)
    return fig


def _draw_changes(ax: Axes, rows: Sequence[Row]) -> None:
    """The changes of one task, a place per kind and level."""
    measures = list(dict.fromkeys(row.label.measure for row in rows))
    for row in rows:
        is_from_data = row.label.condition == FROM_DATA
        aside = -0.12 if is_from_data else 0.12
        style = CONDITION_STYLES[FROM_DATA if is_from_data else AS_NOW]
        draw_upright(ax, measures.index(row.label.measure) + aside, row, style)
    names = [measure.removesuffix(" - none") for measure in measures]
    ax.set_xticks(range(len(names)), names, rotation=90)
    if not rows:
        say_unfinished(ax)
