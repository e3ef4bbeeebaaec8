"""The parameters of a notebook, given as text and checked before anything runs."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

import papermill

from csbp_core.checks import check, check_choice

from .files import NOTEBOOKS

_INTERVAL = re.compile(r"\bin ([\[(][^\])]+[\])])")  # of a comment like "in (0, 1]; factor of z"
_CHOICES = re.compile(r"\bone of ([\w, ]+)")  # of a comment like "one of sum, mean; over what"


def parse_parameters(name: str, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read parameters by the types and the ranges that the notebook states for them.

    A line of the notebook's first code cell, `beta: float = 0.9995  # in (0, 1]; factor of z`,
    says the type and, in the comment, the range; "one of a, b" lists choices.

    Args:
        name: the notebook's name, without its suffix.
        given: pairs of a parameter's name and its value as text.

    Returns the values by name. Raises ValueError, one line, for an unknown name, for text that
    is not of the type, and for a value out of range.
    """
    known = papermill.inspect_notebook(NOTEBOOKS / f"{name}.ipynb")
    parameters = {}
    for key, text in given:
        if key not in known:
            suggestion = did_you_mean(key, known)
            names = ", ".join(known)
            raise ValueError(f"unknown parameter {key!r} of {name}{suggestion}: it has {names}")
        kind = known[key]["inferred_type_name"]
        value = _convert(key, text, kind)
        _check_range(key, value, kind, comment=known[key]["help"])
        parameters[key] = value
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


def _check_range(key: str, value: Any, kind: str, comment: str) -> None:
    """Refuse a value outside of what the parameter's comment allows."""
    if kind in ("int", "float"):
        interval = _INTERVAL.search(comment)
        allowed = interval[1] if interval else "(-inf, inf)"
        check(key, value, allowed, integer=kind == "int")
        return
    choices = _CHOICES.search(comment)
    if choices:
        check_choice(key, value, re.findall(r"\w+", choices[1]))
    elif value == "":
        raise ValueError(f"{key} is empty: must be text")
