"""The minus of print, which is longer than a hyphen: before numbers, and between what is compared.

Source code writes it as `MINUS`, since nobody can tell the two apart there.
"""

from __future__ import annotations

MINUS = "\u2212"


def less(first: str, second: str) -> str:
    """A difference in words.

    Args:
        first: the side with the plus sign.
        second: what it is compared with.

    Example:
        >>> less("CSBP", "BP") == "CSBP \u2212 BP"
        True
    """
    return f"{first} {MINUS} {second}"


def with_minus(number: str) -> str:
    """A number that was formatted, its hyphen as a minus.

    Args:
        number: of one number or several, and no words with hyphens.

    Example:
        >>> with_minus(f"{-0.5:+.2f}") == "\u22120.50"
        True
    """
    return number.replace("-", MINUS)
