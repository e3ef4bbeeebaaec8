"""The parameters of a notebook, given as text and checked before anything runs."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import papermill

from .files import NOTEBOOKS

_INTERVAL = re.compile(r"\bin ([\[(][^\])]+[\])])")  # of a comment like "in (0, 1]; factor of z"
_CHOICES = re.compile(r"\bone of ([\w, ]+)")  # of a comment like "one of sum, mean; over what"
# In an interval, "inf" and perhaps another parameter; the e of 1e6 is none.
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")


class Parameter(NamedTuple):
    """What a notebook says of a parameter, in a line like `z: float = 1.0  # in (0, 1]; strength`.

    Attributes:
        kind: the name of its type, "None" where it has none.
        default: as it is written.
        comment: behind it, "" where there is none.
    """

    kind: str
    default: str
    comment: str


def known_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name: what its cell tagged `parameters` sets.

    Raises whatever reading a file that is no notebook raises.
    """
    inspected = papermill.inspect_notebook(for_papermill(path))
    return {
        name: Parameter(said["inferred_type_name"], said["default"], said["help"])
        for name, said in inspected.items()
    }


def for_papermill(path: Path) -> str:
    """A path as papermill wants it, which takes what stands in braces for a parameter."""
    return str(path).replace("{", "{{").replace("}", "}}")


def parse_parameters(name: str, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read parameters by the types and the ranges that the notebook states for them.

    A line of the notebook's first code cell, `beta: float = 0.9995  # in (0, 1]; factor of z`,
    says the type and, in the comment, the range; "one of a, b" lists choices. A range may name
    another parameter, `z_min: float = 0.5  # in (0, z_max); smallest z`: what holds in the run is
    compared, given or not.

    Args:
        name: the notebook's name, without its suffix.
        given: pairs of a parameter's name and its value as text.

    Returns the values by name. Raises ValueError, one line, for an unknown name or one that comes
    twice, for text that is not of the type, and for a value out of range.
    """
    known = known_parameters(NOTEBOOKS / f"{name}.ipynb")
    parameters: dict[str, Any] = {}
    for key, text in given:
        if key not in known:
            suggestion = did_you_mean(key, known)
            names = ", ".join(known)
            raise ValueError(f"unknown parameter {key!r} of {name}{suggestion}: it has {names}")
        if key in parameters:
            raise ValueError(f"{key} is given twice: as {parameters[key]!r} and as {text!r}")
        value = _convert(key, text, known[key].kind)
        _check_range(key, value, known[key])
        parameters[key] = value
    _check_relations(known, parameters)
    return parameters


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest, as " (did you mean ...?)", or "" where none is near."""
    nearest = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def _convert(key: str, text: str, kind: str) -> Any:
    """The value that a text stands for, by the name of its type."""
    must = "True or False" if kind == "bool" else f"of type {kind}"
    try:
        return _READERS[kind](text)
    except (KeyError, ValueError):
        raise ValueError(f"{key} = {text!r}: must be {must}") from None


def _read_bool(text: str) -> bool:
    """Python's own spelling and no other; bool("False") would be True."""
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


_READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": _read_bool,
}


def _check_range(key: str, value: Any, parameter: Parameter) -> None:
    """Refuse a value outside of what the parameter's comment allows, relations left aside."""
    if parameter.kind in ("int", "float"):
        related = _parameters_in(_interval(parameter))
        allowed = "(-inf, inf)" if related else _interval(parameter)
        _check_number(key, value, allowed, parameter)
        return
    choices = _CHOICES.search(parameter.comment)
    if choices:
        _check_choice(key, value, re.findall(r"\w+", choices[1]))
    elif value == "":
        raise ValueError(f"{key} is empty: must be text")
    check_text(key, str(value))


def _check_number(key: str, value: Any, allowed: str, parameter: Parameter) -> None:
    """Refuse a number outside of an interval."""
    # Not at the top: with csbp_core comes torch, which takes longer than all else that is checked.
    from csbp_core.checks import check

    check(key, value, allowed, integer=parameter.kind == "int")


def _check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse what is none of the choices."""
    from csbp_core.checks import check_choice  # likewise

    check_choice(key, value, choices)


def check_text(name: str, text: str) -> None:
    """Refuse what no notebook can hold, as the name of a file may be; ValueError, one line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} = {text!r}: must be text that UTF-8 can write") from None


def _check_relations(known: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Refuse values that each are fine, but not beside the others that will hold."""
    for key, parameter in known.items():
        others = _parameters_in(_interval(parameter))
        if parameter.kind in ("int", "float") and others:
            values = {name: _value_that_holds(name, known, given) for name in [key, *others]}
            _check_relation(key, parameter, values)


def _check_relation(key: str, parameter: Parameter, values: Mapping[str, Any]) -> None:
    """Refuse a value outside of an interval whose ends are among the values."""

    def number(name: re.Match[str]) -> str:
        return str(values.get(name[0], name[0]))  # "inf" stays as it is

    def name_and_number(name: re.Match[str]) -> str:
        return f"{name[0]} = {values[name[0]]!r}" if name[0] in values else name[0]

    numbers = _NAME.sub(number, _interval(parameter))
    named = _NAME.sub(name_and_number, _interval(parameter))
    try:
        _check_number(key, values[key], numbers, parameter)
    except ValueError as error:
        raise ValueError(str(error).replace(numbers, named)) from None


def _interval(parameter: Parameter) -> str:
    """The range that a number's comment states."""
    interval = _INTERVAL.search(parameter.comment)
    return interval[1] if interval else "(-inf, inf)"


def _parameters_in(interval: str) -> list[str]:
    """The names of parameters in an interval like "(0, z_max)"."""
    return [name for name in _NAME.findall(interval) if name != "inf"]


def _value_that_holds(name: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> Any:
    """What a parameter will be in the run: what is given, or else its default."""
    if name in given:
        return given[name]
    if name not in known:
        raise ValueError(f"{name} stands in a parameter's range, but is no parameter")
    return _convert(name, known[name].default, known[name].kind)
