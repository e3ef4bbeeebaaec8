"""A sweep as its YAML file asks for it: a notebook at every point of a grid, all of it checked."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from .collection import choose
from .files import NOTEBOOKS, ROOT
from .parameters import did_you_mean, known_parameters
from .provenance import PACKAGES, VERSIONED, versions
from .run import prepare

SPACED = ("from", "to", "points", "scale")  # what describes evenly spaced values
SCALES: dict[str, Callable] = {"lin": np.linspace, "log": np.geomspace}
COUNTED = (".py", ".json")  # of the files in a package, sources and results
NAME_LENGTH = 80  # of what a point's folder says of its parameters


class Figure(NamedTuple):
    """What a sweep's figure shows."""

    x: str  # a parameter of the grid
    y: str | None  # the other one, or None where the grid has no other
    values: list[str]  # of the gathered numbers; each is a panel
    log: bool  # whether the axis of a curve is logarithmic


class Point(NamedTuple):
    """A run of the notebook."""

    name: str  # of its folder
    varied: dict[str, Any]  # the parameters of the grid, and the seed
    given: list[tuple[str, str]]  # all parameters that are not at their defaults, as csbp-run takes

    def __str__(self) -> str:
        varied = ", ".join(f"{key} = {value}" for key, value in self.varied.items())
        return varied or "the one point"


class Sweep(NamedTuple):
    """A sweep, everything about it checked."""

    file: Path  # its YAML file
    notebook: str
    fixed: dict[str, str]  # parameters that are the same at every point, as text
    varied: dict[str, list[Any]]  # of every parameter of the grid, and of the seed, its values
    gather: list[str] | None  # names of results; None is all numbers
    figure: Figure | None
    points: list[Point]

    @property
    def name(self) -> str:
        """What its folder and its table are called."""
        return self.file.stem

    @property
    def asked(self) -> list[str]:
        """The names of results that the file asks for, of which a notebook may have none."""
        if self.gather is not None:
            return self.gather
        return [] if self.figure is None else self.figure.values

    @property
    def folder(self) -> Path:
        """Where everything goes that the sweep makes."""
        return ROOT / "runs" / "sweeps" / self.name


def read_sweep(path: Path) -> Sweep:
    """Read the YAML file of a sweep and check every point as csbp-run does; nothing is made yet.

    Args:
        path: the file; `sweeps/example.yaml` shows what it may hold.

    Raises ValueError, one line, that names the file and, for a bad parameter, the point.
    """
    try:
        if not re.fullmatch(r"\w[\w.-]*", path.stem, re.ASCII):
            must = "must have letters, digits, _, - and . alone, since it names a folder"
            raise ValueError(f"the name of the file {must}")
        return _sweep_of(path, _content(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _content(path: Path) -> Any:
    """What a YAML file holds; ValueError, one line, where it cannot be read."""
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ValueError(f"is not YAML{place} ({problem})") from None


def _sweep_of(path: Path, content: Any) -> Sweep:
    """The sweep that a file's content asks for."""
    known = ("notebook", "parameters", "grid", "seeds", "gather", "figure")
    content = _mapping("the file", content, known, needed=("notebook", "grid"))
    notebook = str(content["notebook"])
    choose((notebook,))
    fixed = _mapping("parameters", content.get("parameters", {}))
    fixed = {key: _text(f"parameters: {key}", value) for key, value in fixed.items()}
    grid = _mapping("grid", content["grid"])
    if "seeds" in content:
        if "seed" not in known_parameters(NOTEBOOKS / f"{notebook}.ipynb"):
            raise ValueError(f"seeds: {notebook} has no parameter seed")
        if "seed" in grid:
            raise ValueError("seeds: the grid has seed already")
        grid = grid | {"seed": content["seeds"]}
    texts = {key: _values(notebook, key, value) for key, value in grid.items()}
    for key in texts:
        if key in fixed:
            raise ValueError(f"{key} stands in both parameters and grid")
    points = _points(notebook, fixed, texts)
    varied = {key: _unique(point.varied[key] for point in points) for key in texts}
    gather = _names("gather", content["gather"]) if "gather" in content else None
    figure = _figure(content["figure"], varied, gather) if "figure" in content else None
    return Sweep(path, notebook, fixed, varied, gather, figure, points)


def _mapping(
    place: str, value: Any, known: Iterable[str] | None = None, needed: Iterable[str] = ()
) -> dict[str, Any]:
    """A mapping with names as its keys.

    Args:
        place: what the message calls it.
        value: what stands there.
        known: the keys that it may have; None is any.
        needed: those that it must have.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{place} = {value!r}: must be a mapping of names")
    for key in value:
        if known is not None and key not in known:
            names = ", ".join(known)
            raise ValueError(
                f"unknown key {key!r} in {place}{did_you_mean(key, known)}: it may have {names}"
            )
    for key in needed:
        if key not in value:
            raise ValueError(f"{place} lacks the key {key!r}")
    return value


def _names(place: str, value: Any) -> list[str]:
    """A list of names."""
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise ValueError(f"{place} = {value!r}: must be a list of names")
    return value


def _text(place: str, value: Any) -> str:
    """A value as csbp-run takes it."""
    if not isinstance(value, str | int | float):  # a boolean is an int
        raise ValueError(f"{place} = {value!r}: must be a number, text, True or False")
    return str(value)


def _values(notebook: str, key: str, value: Any) -> list[str]:
    """The values of a parameter of the grid, as text: those of a list, or evenly spaced ones."""
    place = f"grid: {key}"
    if isinstance(value, dict):
        kinds = known_parameters(NOTEBOOKS / f"{notebook}.ipynb")
        is_integer = key in kinds and kinds[key].kind == "int"
        numbers = _spaced(place, value)
        return [str(round(number) if is_integer else number) for number in numbers]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{place} = {value!r}: must be a list, or {{from, to, points, scale}}")
    return [_text(place, part) for part in value]


def _spaced(place: str, value: dict) -> list[float]:
    """Evenly spaced numbers, both ends included, to twelve digits."""
    from csbp_core.checks import check, check_choice  # not at the top: torch comes with it

    _mapping(place, value, SPACED, needed=SPACED[:3])
    scale = value.get("scale", "lin")
    check_choice(f"{place}: scale", scale, tuple(SCALES))
    ends = []
    for end in ("from", "to"):
        number = _number(f"{place}: {end}", value[end])
        check(f"{place}: {end}", number, "(0, inf)" if scale == "log" else "(-inf, inf)")
        ends.append(number)
    check(f"{place}: points", value["points"], "[2, 1000000]", integer=True)
    return [float(f"{number:.12g}") for number in SCALES[scale](*ends, value["points"])]


def _number(place: str, value: Any) -> float:
    """A number, also one that YAML takes for text, as it does 1e-3."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{place} = {value!r}: must be a number") from None


def _points(notebook: str, fixed: dict[str, str], grid: dict[str, list[str]]) -> list[Point]:
    """Every combination of the grid, checked as csbp-run does."""
    points: dict[str, Point] = {}
    for values in itertools.product(*grid.values()):
        varied = dict(zip(grid, values, strict=True))
        given = [*fixed.items(), *varied.items()]
        place = ", ".join(f"{key} = {text}" for key, text in varied.items())
        if "output_dir" in dict(given):
            raise ValueError("output_dir cannot be set: every point has a folder of its own")
        try:
            run = prepare(notebook, tuple(given), None)
        except ValueError as error:
            raise ValueError(f"point {place}: {error}") from None
        parameters = {key: run.parameters[key] for key, _ in given}
        point = Point(
            _name(parameters, varied),
            {key: parameters[key] for key in varied},
            given,
        )
        if point.name in points:
            raise ValueError(f"point {place} comes twice")
        points[point.name] = point
    return list(points.values())


def _name(parameters: Mapping[str, Any], varied: Iterable[str]) -> str:
    """The name of a point's folder: what varies, for the eye, and a digest of all parameters."""
    words = []
    for key in varied:
        value = parameters[key]
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        words.append(re.sub(r"[^A-Za-z0-9.+-]", "_", f"{key}_{text}"))
    content = json.dumps(parameters, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()[:8]
    return f"{'_'.join(words)[:NAME_LENGTH]}-{digest}"


def _unique(values: Iterable[Any]) -> list[Any]:
    """Values without repetition, in the order in which they first come."""
    return list(dict.fromkeys(values))


def _figure(content: Any, varied: Mapping[str, list[Any]], gather: list[str] | None) -> Figure:
    """The figure that is asked for."""
    _mapping("figure", content, ("x", "y", "values", "log"), needed=("x", "values"))
    x, y = content["x"], content.get("y")
    axes = [x] if y is None else [x, y]
    for axis in axes:
        _check_axis(axis, varied)
    if x == y:
        raise ValueError(f"figure: x and y are both {x}")
    mixed = [key for key in varied if key not in (*axes, "seed")]
    if mixed:
        shown = " and ".join(axes)
        raise ValueError(f"figure: shows {shown}; points that differ in {mixed[0]} would be mixed")
    values = _names("figure: values", content["values"])
    for name in values:
        if gather is not None and name not in gather:
            names = ", ".join(gather)
            near = did_you_mean(name, gather)
            raise ValueError(f"figure: values: {name!r} is not gathered{near}: there are {names}")
    log = _names("figure: log", content["log"]) if "log" in content else []
    if log and y is not None:
        raise ValueError("figure: log: is for a curve over x; with y every cell has the same size")
    for axis in log:
        if axis != x:
            raise ValueError(f"figure: log: {axis!r} is not x")
        if min(varied[x]) <= 0:
            raise ValueError(f"figure: log: {x} has values that are not above 0")
    return Figure(x, y, values, bool(log))


def _check_axis(axis: Any, varied: Mapping[str, list[Any]]) -> None:
    """Refuse an axis that is no parameter of the grid, or has no numbers."""
    if axis not in varied:
        names = ", ".join(varied)
        near = did_you_mean(str(axis), varied)
        raise ValueError(f"figure: {axis!r} is no parameter of the grid{near}: it has {names}")
    if any(isinstance(value, str | bool) or not math.isfinite(value) for value in varied[axis]):
        raise ValueError(f"figure: {axis} is not a number")


def code_digest(notebook: str) -> str:
    """A digest of all but the parameters that a notebook's numbers depend on.

    That is the code in its cells, every source of the project's packages that it names, with the
    results that lie beside the sources, and the versions of the packages that a figure's numbers
    name. Outputs stored in the notebook, and the modules of the sweep itself, which no notebook
    uses, do not count.

    Args:
        notebook: its name, without its suffix.

    Returns twelve hexadecimal digits.
    """
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    named = [name for name in PACKAGES if re.search(rf"\b{name}\b", "\n".join(sources))]
    digest = hashlib.sha256(json.dumps([sources, versions(*VERSIONED)]).encode())
    for package in named:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix not in COUNTED or _is_of_sweeps(path):
                continue
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _is_of_sweeps(path: Path) -> bool:
    """Whether a source is one of the sweep itself."""
    return path.parent.name == "csbp_notebooks" and path.name.startswith("sweep")
