"""What a sweep has found: its table, a row a point, and its figure."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm

from .figures import headline, save_figure, setup
from .files import replace_file
from .parameters import did_you_mean
from .provenance import flat
from .sweep_plan import Figure, Sweep

MISSING = "0.85"  # the grey of a point that has no number
MOST_WRITTEN = 50  # cells of a map that has its numbers in them
MOST_TICKS = 20  # of an axis of a map

# Inches.
PAGE = 9.0  # wide
NARROWEST = 4.5  # figure, so that its headline has lines of some length
LETTER = 0.09  # of a number in a cell, or below it
BESIDE = 1.6  # a map: its ticks and its colours
BELOW = 1.0  # and above it
ABOVE = 0.4  # all panels, for the headline


class Row(NamedTuple):
    """A point and what it found."""

    varied: dict[str, Any]  # the parameters of the grid, and the seed
    results: dict[str, Any] | None  # by name, `flat`; None where the point is not done
    provenance: dict[str, Any] | None = None  # of its numbers, but for the parameters; likewise


def read_row(varied: dict[str, Any], folder: Path) -> Row:
    """A point that is done.

    Args:
        varied: its parameters of the grid.
        folder: where its notebook recorded what it found.
    """
    return Row(varied, results_in(folder), provenance_in(folder))


def provenance_in(folder: Path) -> dict[str, Any] | None:
    """What the numbers in a folder were made with, besides parameters: one run has made them all.

    Args:
        folder: of a point.

    Returns None where the notebook recorded nothing.
    """
    first = min(folder.glob("*.json"), default=None)
    if first is None:
        return None
    provenance = json.loads(first.read_bytes())["provenance"]
    return {name: value for name, value in provenance.items() if name != "parameters"}


def results_in(folder: Path) -> dict[str, Any]:
    """All results that a notebook recorded in a folder, `flat`.

    Where it wrote several JSON files, names begin with that of the file.

    Args:
        folder: of a point.
    """
    files = sorted(folder.glob("*.json"))
    by_file = {path.stem: json.loads(path.read_bytes())["results"] for path in files}
    if len(by_file) == 1:
        (results,) = by_file.values()
        return flat(results)
    return flat(by_file)


def known_results(rows: Iterable[Row]) -> dict[str, Any]:
    """Every result that a point has, by name, with a value of it: None only where all are.

    Args:
        rows: all points.
    """
    known: dict[str, Any] = {}
    for row in rows:
        for name, value in (row.results or {}).items():
            if known.get(name) is None:
                known[name] = value
    return known


def chosen_names(asked: list[str] | None, rows: Iterable[Row]) -> list[str]:
    """Those names that are asked for and that a point has a result of.

    Args:
        asked: the names; None is every single number, of lists none.
        rows: all points.
    """
    known = known_results(rows)
    if asked is None:
        return [name for name, value in known.items() if _is_number(value) and not _listed(name)]
    return [name for name in asked if name in known]


def refuse_unknown_names(sweep: Sweep, rows: Iterable[Row], over: bool) -> None:
    """Refuse a name of `gather`, or of the figure, that no point has a result of.

    Args:
        sweep: the sweep.
        rows: the points so far.
        over: whether no others come; until then a name that leads into a list is let pass, since
            lists may be longer at another point.

    Raises ValueError, one line, with the file, the name and what there is.
    """
    known = known_results(rows)
    for name in sweep.asked:
        if not known or name in known or (_listed(name) and not over):
            continue
        place = "figure: values" if sweep.gather is None else "gather"
        single = ", ".join(key for key in known if not _listed(key))
        near = did_you_mean(name, known)
        raise ValueError(
            f"{sweep.file}: {place}: no point has a result {name!r}{near}: there are {single}"
        )


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a result is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(name: str) -> bool:
    """Whether a name leads into a list."""
    return any(part.isdigit() for part in name.split("."))


def table(rows: Iterable[Row], names: Sequence[str]) -> str:
    """The table as CSV: parameters, then results; empty where there is none.

    Args:
        rows: all points.
        names: of the results.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow([*row.varied, *names])
        results = row.results or {}
        writer.writerow([*row.varied.values(), *(results.get(name) for name in names)])
    return text.getvalue()


def write_results(sweep: Sweep, rows: Sequence[Row]) -> list[Path]:
    """Write a sweep's table, what it was made with, and where it has one its figure, PNG and SVG.

    The JSON names the code and the machines of the points, not those of this process, which may be
    others.

    Args:
        sweep: the sweep.
        rows: all of its points.

    Returns the files. A name that no point has a result of is left out.
    """
    names = chosen_names(sweep.gather, rows)
    figure = _figure_of(sweep, rows)
    path = sweep.folder / f"{sweep.name}.csv"
    replace_file(path, table(rows, names).encode())
    json_file = _write_provenance(sweep, figure, rows)
    if figure is None:
        return [path, json_file]

    setup(sweep.folder)
    plt.switch_backend("agg")
    fig = draw(figure, rows)
    headline(fig, title_of(sweep, figure, rows))
    save_figure(fig, sweep.folder / sweep.name)
    plt.close(fig)
    return [path, json_file, *(path.with_suffix(suffix) for suffix in (".png", ".svg"))]


def _figure_of(sweep: Sweep, rows: Sequence[Row]) -> Figure | None:
    """The figure with the panels that can be drawn; None where there are none."""
    if sweep.figure is None:
        return None
    values = chosen_names(sweep.figure.values, rows)
    return sweep.figure._replace(values=values) if values else None


def _write_provenance(sweep: Sweep, figure: Figure | None, rows: Sequence[Row]) -> Path:
    """Write what the table was made with, and the numbers of the figure."""
    content = {
        "results": {} if figure is None else _shown(figure, rows),
        "provenance": {
            "notebook": sweep.notebook,
            "parameters": {**sweep.fixed, **sweep.varied},
            "points": made_with(rows),
        },
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path = sweep.folder / f"{sweep.name}.json"
    replace_file(path, text.encode() + b"\n")
    return path


def made_with(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What the points were made with that are done, each with how many of them: `count`.

    Args:
        rows: all points.

    Example:
        >>> made_with([Row({"z": z}, {"w": 1}, {"commit": "f593b85"}) for z in (1, 2)])
        [{'count': 2, 'commit': 'f593b85'}]
    """
    provenances = [row.provenance for row in rows if row.provenance is not None]
    distinct: list[dict[str, Any]] = []
    for provenance in provenances:
        if provenance not in distinct:
            distinct.append(provenance)
    return [{"count": provenances.count(provenance), **provenance} for provenance in distinct]


def title_of(sweep: Sweep, figure: Figure, rows: Sequence[Row]) -> str:
    """What was run, how many runs a place of the figure shows, and what grey is, if there is any.

    Args:
        sweep: the sweep.
        figure: what is drawn of it.
        rows: all points.
    """
    one_word = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # no line ends there
    fixed = ", ".join(f"{name}{one_word}{text}" for name, text in sweep.fixed.items())
    what = f"{sweep.notebook} with {fixed}" if fixed else sweep.notebook
    runs = Counter(_place(figure, row) for row in rows)
    most = max(runs.values())
    shown = f"median of up to {most} runs" if most > 1 else "one run a point"
    done = sum(row.results is not None for row in rows)
    medians_of_all = itertools.chain(*(medians(figure, rows, name) for name in figure.values))
    has_gap = figure.y is not None and None in itertools.chain(*medians_of_all)
    grey = "; grey: no number" if has_gap else ""
    return f"{what}: {shown}, {done} of {len(rows)} done{grey}"


def _shown(figure: Figure, rows: Sequence[Row]) -> dict[str, Any]:
    """The numbers of the figure: its axes in rising order, and by result the medians over them."""
    axes = {
        name: sorted({row.varied[name] for row in rows}) for name in (figure.x, figure.y) if name
    }
    return {"axes": axes, **{name: medians(figure, rows, name) for name in figure.values}}


def medians(figure: Figure, rows: Iterable[Row], name: str) -> list[list[float | None]]:
    """The median of a result over all points at the same place of the figure.

    Args:
        figure: which parameters span it.
        rows: all points.
        name: of the result.

    Returns the medians by y, then x, both in rising order; None where no point has a number.
    """
    numbers: dict[tuple, list[float]] = {}
    for row in rows:
        here = numbers.setdefault(_place(figure, row), [])
        value = (row.results or {}).get(name)
        if _is_number(value):
            here.append(value)
    columns = sorted({x for x, _ in numbers})
    lines = sorted({y for _, y in numbers})
    return [
        [float(np.median(numbers[x, y])) if numbers.get((x, y)) else None for x in columns]
        for y in lines
    ]


def _place(figure: Figure, row: Row) -> tuple[Any, Any]:
    """Where a point lies in the figure; 0 on an axis that it lacks."""
    return row.varied[figure.x], 0 if figure.y is None else row.varied[figure.y]


def draw(figure: Figure, rows: Sequence[Row]) -> plt.Figure:
    """Draw a panel for each result: a map over x and y, or a curve over x.

    Args:
        figure: what it shows.
        rows: all points.
    """
    if figure.y is None:
        return _draw_curves(figure, rows)
    return _draw_maps(figure, rows)


def _panels(names: Sequence[str], width: float, height: float) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure with a panel for each name, side by side where a page is wide enough for two.

    Args:
        names: of the results.
        width: of a panel, in inches.
        height: likewise.
    """
    columns = min(len(names), max(1, int(PAGE / width)))
    lines = math.ceil(len(names) / columns)
    fig, axes = plt.subplots(
        lines,
        columns,
        figsize=(max(columns * width, NARROWEST), lines * height + ABOVE),
        squeeze=False,
        layout="constrained",
    )
    panels = axes.ravel().tolist()
    for ax in panels[len(names) :]:
        ax.remove()
    return fig, panels[: len(names)]


def _draw_curves(figure: Figure, rows: Sequence[Row]) -> plt.Figure:
    """Draw each result as a curve over x."""
    x = sorted({row.varied[figure.x] for row in rows})
    fig, panels = _panels(figure.values, width=4.5, height=3.2)
    for ax, name in zip(panels, figure.values, strict=True):
        (numbers,) = medians(figure, rows, name)
        ax.plot(x, np.array(numbers, dtype=float), marker="o", color="black")  # None is NaN
        ax.set_xlabel(figure.x)
        ax.set_ylabel(name)
        if figure.log:
            ax.set_xscale("log")
    return fig


def _draw_maps(figure: Figure, rows: Sequence[Row]) -> plt.Figure:
    """Draw each result as a map over x and y, its numbers in its cells where they fit."""
    grids = [np.array(medians(figure, rows, name), dtype=float) for name in figure.values]
    lines, columns = grids[0].shape
    longest = max(len(_digits(number)) for grid in grids for number in grid.flat)
    cell = LETTER * (longest + 1)  # inches that a number needs
    is_written = grids[0].size <= MOST_WRITTEN and columns * cell <= PAGE - BESIDE
    width = BESIDE + max(columns * cell, 2.0) if is_written else BESIDE + 3.0
    height = BELOW + (max(lines * 0.4, 1.2) if is_written else 2.6)
    fig, panels = _panels(figure.values, width, height)
    for ax, name, grid in zip(panels, figure.values, grids, strict=True):
        mesh = _draw_map(ax, grid)
        _name_cells(ax, figure, rows, room=(width - BESIDE) / columns)
        ax.set_title(name)
        if is_written:
            _write_numbers(ax, mesh, grid)
    return fig


def _draw_map(ax: plt.Axes, grid: np.ndarray) -> QuadMesh:
    """Draw a grid of cells of equal size, [y, x]; what has no number is grey."""
    ax.set_facecolor(MISSING)
    shown = np.ma.masked_invalid(grid)
    has_both_signs = shown.count() > 0 and shown.min() < 0 < shown.max()
    norm = CenteredNorm() if has_both_signs else None
    colours = "RdBu_r" if has_both_signs else "cividis"
    gap = 1 if shown.size <= MOST_WRITTEN else 0
    mesh = ax.pcolormesh(shown, cmap=colours, norm=norm, edgecolors="white", linewidth=gap)
    if shown.count() > 0:
        ax.figure.colorbar(mesh, ax=ax)
    return mesh


def _name_cells(ax: plt.Axes, figure: Figure, rows: Sequence[Row], room: float) -> None:
    """Write the values of x and y at their cells, which are `room` inches wide."""
    for axis, parameter in ((ax.xaxis, figure.x), (ax.yaxis, str(figure.y))):
        values = sorted({row.varied[parameter] for row in rows})
        step = math.ceil(len(values) / MOST_TICKS)
        labels = [_as_written(value) for value in values[::step]]
        axis.set_ticks(np.arange(len(values))[::step] + 0.5, labels)
        axis.set_tick_params(length=0)
        axis.set_label_text(parameter)
        needed = LETTER * (max(map(len, labels)) + 1)
        if axis is ax.xaxis and needed > step * room:
            ax.tick_params(axis="x", rotation=90)
    ax.spines[:].set_visible(False)


def _as_written(value: float) -> str:
    """A value of the grid, of a float six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_numbers(ax: plt.Axes, mesh: QuadMesh, grid: np.ndarray) -> None:
    """Write each number into its cell, light on dark and dark on light."""
    for (line, column), number in np.ndenumerate(grid):
        red, green, blue, _ = mesh.to_rgba(number)
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # luma of ITU-R BT.601
        ax.text(
            column + 0.5,
            line + 0.5,
            _digits(number),
            ha="center",
            va="center",
            fontsize=10,
            color="white" if is_dark else "black",
        )


def _digits(number: float) -> str:
    """A number as its cell shows it: three digits, of whole numbers up to a million all."""
    if math.isnan(number):
        return ""
    if number == round(number) and abs(number) < 1e6:
        return f"{number:.0f}"
    return f"{number:.3g}"
