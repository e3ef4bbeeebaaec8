"""The page of verdicts: what became of every claim, and where that was found."""

from __future__ import annotations

from pathlib import Path

from csbp_notebooks.verdict_text import as_page
from csbp_notebooks.verdicts import verdicts

INTRODUCTION = """\
# Verdicts

What the paper and its code claim, where, what we measured, and what became of the claim; with the
notebook that measures it and the test that guards it. `csbp-run --verdicts` shows the same table.

"""

STUDY = """
Whether training gains anything was asked in four experiments, with tuned baselines and controls
that decide, by a [protocol](study/PROTOCOL.md) that was fixed before they ran.
[Notebook 8](notebooks/08_does_chaos_help.ipynb) draws what came out, and
[all contrasts](study/RESULTS.md) stand on a page of their own.
"""


def verdicts_page(images: Path) -> str:
    """The page, Markdown.

    Args:
        images: the folder with a JSON file per figure.
    """
    return INTRODUCTION + as_page(verdicts(images)) + STUDY
