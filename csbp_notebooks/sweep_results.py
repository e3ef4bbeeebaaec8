"""What a sweep has found: its table, a row a point, and its figure."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import matplotlib.pyplot as plt
import numpy as np

from .figures import save_figure, setup
from .files import replace_file
from .parameters import did_you_mean
from .sweep_plan import Figure, Sweep

MISSING = "0.85"  # the grey of a point that has no number


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


def provenance_in(folder: Path) -> dict[str, Any]:
    """What the numbers in a folder were made with, besides parameters: one run has made them all.

    Args:
        folder: of a point.
    """
    first = min(folder.glob("*.json"))
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


def chosen_names(gather: list[str] | None, rows: Sequence[Row]) -> list[str]:
    """The names of the results that the table has.

    Args:
        gather: those that are asked for; None is every single number, of lists none.
        rows: all points.

    Raises ValueError, one line, for a name that none of the points that are done has.
    """
    known: dict[str, Any] = {}
    for row in rows:
        for name, value in (row.results or {}).items():
            if known.get(name) is None:
                known[name] = value
    if gather is None:
        return [name for name, value in known.items() if _is_number(value) and not _listed(name)]
    for name in gather:
        if known and name not in known:
            single = [key for key in known if not _listed(key)]
            near = did_you_mean(name, known)
            raise ValueError(
                f"gather: no point has a result {name!r}{near}: there are {', '.join(single)}"
            )
    return gather


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

    Returns the files. Raises ValueError, one line, for a result that no point has.
    """
    names = chosen_names(sweep.gather, rows)
    if sweep.figure:
        chosen_names(sweep.figure.values, rows)
    path = sweep.folder / f"{sweep.name}.csv"
    replace_file(path, table(rows, names).encode())
    json_file = _write_provenance(sweep, rows)
    if sweep.figure is None:
        return [path, json_file]

    setup(sweep.folder)
    plt.switch_backend("agg")
    fig = draw(sweep.figure, rows)
    fig.suptitle(f"{sweep.notebook}, {what_a_point_is(sweep.figure, rows)}", fontsize=10)
    save_figure(fig, sweep.folder / sweep.name)
    plt.close(fig)
    return [path, json_file, *(path.with_suffix(suffix) for suffix in (".png", ".svg"))]


def _write_provenance(sweep: Sweep, rows: Sequence[Row]) -> Path:
    """Write what the table was made with, and the numbers of the figure."""
    content = {
        "results": {} if sweep.figure is None else _shown(sweep.figure, rows),
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


def what_a_point_is(figure: Figure, rows: Sequence[Row]) -> str:
    """How many runs a place of the figure shows, how many are done, and what grey is."""
    runs = Counter(_place(figure, row) for row in rows)
    most = max(runs.values())
    shown = f"median of up to {most} runs" if most > 1 else "one run a point"
    done = sum(row.results is not None for row in rows)
    return f"{shown}, {done} of {len(rows)} done; grey: no number"


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
    """Draw a panel for each result: a heat map over x and y, or a curve over x.

    Args:
        figure: what it shows.
        rows: all points.
    """
    count = len(figure.values)
    fig, axes = plt.subplots(
        1,
        count,
        figsize=(1 + 4 * count, 4),
        squeeze=False,
        layout="constrained",
    )
    x = sorted({row.varied[figure.x] for row in rows})
    for ax, name in zip(axes[0], figure.values, strict=True):
        grid = np.array(medians(figure, rows, name), dtype=float)  # None is NaN
        ax.set_xlabel(figure.x)
        if figure.x in figure.log:
            ax.set_xscale("log")
        if figure.y is None:
            ax.plot(x, grid[0], marker="o")
            ax.set_ylabel(name)
        else:
            y = sorted({row.varied[figure.y] for row in rows})
            _draw_map(ax, figure, x, y, grid)
            ax.set_title(name, fontsize=10)
    return fig


def _draw_map(
    ax: plt.Axes, figure: Figure, x: Sequence[float], y: Sequence[float], grid: np.ndarray
) -> None:
    """Draw a heat map, each cell around its point; `grid` is [y, x]."""
    if figure.y in figure.log:
        ax.set_yscale("log")
    ax.set_ylabel(str(figure.y))
    ax.set_facecolor(MISSING)
    mesh = ax.pcolormesh(
        edges(x, figure.x in figure.log),
        edges(y, figure.y in figure.log),
        np.ma.masked_invalid(grid),
    )
    ax.figure.colorbar(mesh, ax=ax)


def edges(centres: Sequence[float], log: bool) -> np.ndarray:
    """Where cells end that lie around their centres: half-way between two of them.

    Args:
        centres: [n], rising, n at least 1.
        log: whether half-way is meant in the logarithm.

    Returns [n + 1]; the first and the last cell are symmetric, a single one has width 1.

    Example:
        >>> edges([1, 2, 4], log=False).tolist()
        [0.5, 1.5, 3.0, 5.0]
    """
    places = np.log(centres) if log else np.asarray(centres, dtype=float)
    middles = (places[1:] + places[:-1]) / 2
    half = (places[1] - places[0]) / 2 if len(places) > 1 else 0.5
    last_half = (places[-1] - places[-2]) / 2 if len(places) > 1 else 0.5
    found = np.array([places[0] - half, *middles, places[-1] + last_half])
    return np.exp(found) if log else found
