"""Attributes that a user may read and not set."""

from __future__ import annotations

from operator import attrgetter
from typing import Any


class ReadOnly:
    """An attribute that says, to whoever sets it, what to do instead.

    Args:
        path: where the object keeps its value, "_steps" or "_annealing.beta".
        instead: what to do instead.

    Example:
        >>> class Clock:
        ...     hours = ReadOnly("_hours", instead="call tick()")
        ...     _hours = 3
        >>> Clock().hours
        3
        >>> Clock().hours = 4
        Traceback (most recent call last):
        AttributeError: hours cannot be set: call tick()
    """

    def __init__(self, path: str, instead: str) -> None:
        self.value_of = attrgetter(path)
        self.instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, owner_type: type | None = None) -> Any:
        return self if owner is None else self.value_of(owner)

    def __set__(self, owner: Any, value: Any) -> None:
        raise AttributeError(f"{self.name} cannot be set: {self.instead}")
