"""Formulas as MathML, which browsers draw themselves: no script, nothing from another host.

The size of brackets and roots comes from the font, and few devices have one for mathematics. So
the site brings its own: STIX Two Math, which ziamath installs, reduced to the signs of formulas.
"""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

from docutils import nodes
from fontTools import subset
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

FONT = distribution("ziamath").locate_file("ziamath/fonts/STIXTwoMath-Regular.ttf")

# Blocks of Unicode, first and last sign. Browsers draw a variable by the sign of its italic.
SIGNS = (
    (0x0020, 0x00FF),  # Latin
    (0x0370, 0x03FF),  # Greek
    (0x2010, 0x2064),  # punctuation, primes, invisible operators
    (0x210E, 0x210E),  # the italic h
    (0x2190, 0x2194),  # arrows
    (0x2200, 0x22FF),  # operators
    (0x1D434, 0x1D467),  # italic Latin
    (0x1D6E2, 0x1D71B),  # italic Greek
)

# TeX leaves a thin space on both sides of a function's name: before what it is applied to, without
# brackets, and after a factor. A command is taken whole: the last letter of \cdot is no factor.
NAME = r"\\(?:log|ln|exp|max|min)(?![A-Za-z])"
BEFORE_ARGUMENT = re.compile(rf"({NAME})(?=\s*(?:[A-Za-z0-9]|\\[dt]?frac))")
AFTER_FACTOR = re.compile(rf"(\\[A-Za-z]+|(?P<factor>[A-Za-z0-9)}}]))(?=\s*{NAME})")

# The star of a keyboard is raised already, so as an exponent it stands too high: TeX has another.
KEYBOARD_STAR = "<mo>&#x0002A;</mo>"
STAR = "<mo>&#x02217;</mo>"


def write_font(path: Path) -> None:
    """Write the font of the formulas, as WOFF; its license, the OFL, is kept inside."""
    options = subset.Options()
    options.flavor = "woff"
    options.layout_features = ["*"]
    options.name_IDs = ["*"]
    font = subset.load_font(str(FONT), options)
    reduced = subset.Subsetter(options)
    reduced.populate(unicodes=[sign for first, last in SIGNS for sign in range(first, last + 1)])
    reduced.subset(font)
    subset.save_font(font, str(path), options)


def mathml(formula: str, display: str) -> str:
    """A formula of LaTeX as MathML, "inline" or "block"."""
    spaced = BEFORE_ARGUMENT.sub(r"\1\\,", formula)
    spaced = AFTER_FACTOR.sub(_with_space, spaced)
    return convert(spaced, display=display).replace(KEYBOARD_STAR, STAR)


def _with_space(found: re.Match[str]) -> str:
    """What stands before a function's name, and a thin space if that is a factor."""
    if found["factor"] is None:
        return found.group()
    return rf"{found['factor']}\,"


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, which scrolls where a phone is too narrow for it."""
    formula = mathml(node.astext(), "block")
    writer.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
