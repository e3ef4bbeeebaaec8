"""Bad input gets one line: the parameter's name, its value and what is allowed."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

# NumPy's letters for the types of signed and unsigned integers and floating point numbers.
DTYPE_KINDS = {"an integer": "iu", "a number": "iuf"}

LARGEST_INTEGER = 2**63 - 1  # that NumPy, and with it everything behind a check, can hold


def check(
    name: str,
    value: Any,
    allowed: str,
    *,
    integer: bool = False,
    array: bool = False,
) -> None:
    """Refuse anything but a number inside an interval.

    Args:
        name: the parameter's name, for the message.
        value: what was given: a number, or for `array` also a list, a NumPy array or a tensor.
        allowed: the interval as it is written in mathematics, "(0, 1]" or "[0, inf)".
        integer: whether only an integer will do; 3.0 is none.
        array: whether many numbers will do, each of which must lie inside; an empty array is
            refused.

    Raises ValueError, one line, for a number outside, NaN, text, a boolean or None; of an array it
    names the first element that is outside. So it does for a tensor that requires a gradient: as a
    setting it would be read once, and never trained.

    Example:
        >>> check("beta", 0.5, "(0, 1]")
        >>> check("beta", 1.5, "(0, 1]")
        Traceback (most recent call last):
        ValueError: beta = 1.5: must be a number in (0, 1]
    """
    kind = "an integer" if integer else "a number"
    must = f"must be {kind} in {allowed}"
    if _is_plain(value, integer) and _inside(value, allowed):
        return  # the usual case, without NumPy: a small step makes several checks
    _refuse_trainable(name, value, must)
    numbers = _as_array(value)
    is_many = numbers.ndim > 0
    if numbers.dtype.kind not in DTYPE_KINDS[kind] or (is_many and not array):
        raise ValueError(f"{name} = {value!r}: {must}")
    if numbers.size == 0:
        raise ValueError(f"{name} is empty: {must}")
    outside = np.argwhere(~_inside(numbers, allowed))
    if len(outside) > 0:
        index = outside[0].tolist()  # [] for a single number
        place = index or ""
        raise ValueError(f"{name}{place} = {numbers[tuple(index)].item()!r}: {must}")


def check_choice(name: str, value: Any, choices: Iterable) -> None:
    """Refuse a value that is none of the choices, or equal to one but of another type (1 for True).

    Args:
        name: the parameter's name, for the message.
        value: what was given.
        choices: what is allowed.

    Raises ValueError, one line.

    Example:
        >>> check_choice("reduction", "max", ("mean", "sum"))
        Traceback (most recent call last):
        ValueError: reduction = 'max': must be one of mean, sum
    """
    choices = tuple(choices)
    types = tuple(map(type, choices))
    if not isinstance(value, types) or value not in choices:
        names = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name} = {value!r}: must be one of {names}")


def check_flag(name: str, value: Any) -> None:
    """Refuse anything but True and False, such as the text "False", which counts as true.

    Args:
        name: the parameter's name, for the message.
        value: what was given; NumPy's booleans will do.

    Raises ValueError, one line.

    Example:
        >>> check_flag("literal", "false")
        Traceback (most recent call last):
        ValueError: literal = 'false': must be True or False
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} = {value!r}: must be True or False")


def _is_plain(value: Any, integer: bool) -> bool:
    """Whether a value is a number of Python's own, of the kind that is wanted."""
    if type(value) is int:  # a bool is an int, too, but not of this type
        return abs(value) <= LARGEST_INTEGER
    return type(value) is float and not integer


def _refuse_trainable(name: str, value: Any, must: str) -> None:
    """Refuse a tensor that is meant to be trained: as a setting it would stay as it is."""
    if getattr(value, "requires_grad", False):
        raise ValueError(f"{name} requires a gradient: {must}, which is not trained")


def _as_array(value: Any) -> np.ndarray:
    """The value as an array, of text if it is no array of numbers."""
    if hasattr(value, "detach"):  # a tensor, on any device
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.double()  # NumPy does not know bfloat16
        return value.numpy()
    try:
        return np.asarray(value)
    except ValueError:  # a ragged list
        return np.asarray(str(value))


def _inside(numbers: Any, allowed: str) -> Any:
    """Which of the numbers, or whether the number, lies in an interval, "(0, 1]"; NaN in none."""
    low, high = _ends(allowed)
    inside = (low < numbers) & (numbers < high)
    if allowed[0] == "[":
        inside |= numbers == low
    if allowed[-1] == "]":
        inside |= numbers == high
    return inside


@functools.cache
def _ends(allowed: str) -> tuple[float, float]:
    """The ends of an interval that is written "(0, 1]"."""
    low, high = allowed[1:-1].split(",")
    return float(low), float(high)
