"""Bad input gets one line: the parameter, its value and what is allowed."""

from collections.abc import Iterable
from typing import Any

import numpy as np

RANGES = {"beta": "(0, 1]", "I0": "(0, 1)", "decay": "[0, 1]", "momentum": "[0, 1)"}  # what is not named here is positive
RANGES |= dict.fromkeys(("w", "w0", "b0", "x", "target"), "(-inf, inf)") | dict.fromkeys(("z", "noise", "cutoff"), "[0, inf)")
COUNTS = dict.fromkeys(("epochs", "steps", "keep", "numel", "time_steps", "rate_steps"), 1) | {"transient": 0, "seed": 0}


def check(name: str, value: Any, allowed: str, *, integer: bool = False, scalar: bool = False) -> None:
    """Raise a one-line ValueError for a number, also in an array, outside an interval "(0, 1]", for NaN, text, booleans, []."""
    if hasattr(value, "detach"):
        value = (value.cpu().double() if value.is_floating_point() else value.cpu()).detach().numpy()
    must = f"must be {'an integer' if integer else 'a number'} in {allowed}"
    try:
        numbers = np.asarray(value)
    except ValueError:  # a ragged list
        numbers = np.asarray(str(value))
    if numbers.dtype.kind not in ("iu" if integer else "iuf") or ((integer or scalar) and numbers.ndim):
        raise ValueError(f"{name} = {value!r}: {must}")
    if numbers.size == 0:
        raise ValueError(f"{name} is empty: {must}")
    low, high = (float(end) for end in allowed[1:-1].split(","))
    inside = (numbers >= low) if allowed[0] == "[" else (numbers > low)
    inside &= (numbers <= high) if allowed[-1] == "]" else (numbers < high)
    if not inside.all():
        index = np.argwhere(~inside)[0].tolist()  # [] for a single number
        raise ValueError(f"{name}{index or ''} = {numbers[tuple(index)].item()!r}: {must}")


def check_all(arrays: Iterable[str] = (), ranges: dict[str, str] = RANGES, /, **values: Any) -> None:
    """Check each value against the range of its name; `arrays` names those that need not be single numbers."""
    for name, value in values.items():
        count = f"[{COUNTS[name]}, inf)" if name in COUNTS else None
        check(name, value, count or ranges.get(name, "(0, inf)"), integer=count is not None, scalar=name not in arrays)


def check_choice(name: str, value: Any, choices: Iterable) -> None:
    """Refuse a value that is none of the choices; raises ValueError in one line."""
    if not isinstance(value, tuple(map(type, choices))) or value not in choices:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(map(str, choices))}")
