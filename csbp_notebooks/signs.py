"""Signs and symbols as print has them, in text that code has written.

Above all the minus, which is longer than a hyphen: before numbers, and between what is compared.
Source code writes it as `MINUS`, since nobody can tell the two apart there.
"""

from __future__ import annotations

import re

MINUS = "\u2212"

# The signs that print writes in its own way. Code and formulas come first, so that nothing is found
# inside of them; they stay as they are.
CODE_OR_FORMULA = r"`[^`]*`|\$[^$]*\$"
HYPHEN_OF_NUMBER = r"(?<![^\s(\[|])-(?=\.?\d|inf\b)"  # where a word may begin: not in "1-700"
PER_CENT = r"(?<=\d)%"
SIGN = re.compile(f"{CODE_OR_FORMULA}|{HYPHEN_OF_NUMBER}|{PER_CENT}")

SYMBOLS = {"z_c": "z_c", "h*": "h^*"}  # as a terminal shows them, and in a formula
SYMBOL = re.compile(rf"{CODE_OR_FORMULA}|(?P<factor>[\d.]+ )?(?P<symbol>\bz_c\b|\bh\*)")


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


def plus_minus(difference: float, error: float) -> str:
    """A difference and its error.

    Args:
        difference: is shown with its sign.
        error: half the width of an interval, >= 0, in the same unit.

    Example:
        >>> plus_minus(-0.5, 0.25) == "\u22120.50 \u00b1 0.25"
        True
    """
    return with_minus(f"{difference:+.2f} \u00b1 {error:.2f}")


def with_minus(number: str) -> str:
    """A number that was formatted, its hyphen as a minus.

    Args:
        number: of one number or several, and no words with hyphens.

    Example:
        >>> with_minus(f"{-0.5:+.2f}") == "\u22120.50"
        True
    """
    return number.replace("-", MINUS)


def as_printed(text: str) -> str:
    """A text whose negative numbers have a minus, and its per cent signs a space before them.

    Args:
        text: a sentence or a table, Markdown. What stands in it as code or as a formula, and the
            hyphens of words and of ranges, stay as they are.

    Example:
        >>> as_printed("w falls to -0.5 in epochs 1-700 (`w0=-1`)") == (
        ...     "w falls to \\u22120.5 in epochs 1-700 (`w0=-1`)"
        ... )
        True
        >>> as_printed(f"an accuracy of {0.926:.1%}")
        'an accuracy of 92.6 %'
    """
    return SIGN.sub(_as_printed, text)


def _as_printed(found: re.Match[str]) -> str:
    """What print has in the place of one sign, or of code and formulas."""
    if found[0] == "-":
        return MINUS
    if found[0] == "%":
        return " %"
    return found[0]


def typeset(text: str) -> str:
    """A text whose symbols are formulas.

    Args:
        text: a sentence or a table, Markdown. What stands in it as code or as a formula stays as it
            is.

    Example:
        >>> typeset("h* at 1, z falling from 0.5 z_c (`z_c`)")
        '$h^*$ at 1, z falling from $0.5 z_c$ (`z_c`)'
    """
    return SYMBOL.sub(_typeset, text)


def _typeset(found: re.Match[str]) -> str:
    """The formula in the place of one symbol, its factor with it; code and formulas as they are."""
    if found["symbol"] is None:
        return found[0]
    return f"${found['factor'] or ''}{SYMBOLS[found['symbol']]}$"
