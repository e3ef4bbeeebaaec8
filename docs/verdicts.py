"""The page of verdicts: what became of every claim, and where that was found."""

from __future__ import annotations

import re
from pathlib import Path

from csbp_notebooks.files import ROOT
from csbp_notebooks.signs import typeset
from csbp_notebooks.verdict_text import as_page
from csbp_notebooks.verdicts import verdicts
from study.protocol import ON_NONE, WHEN_IT_WAS_FIXED

INTRODUCTION = """\
# Verdicts

What the paper and its code claim, where, what we measured, and what became of the claim; with the
notebook that measures it, and the file in `tests/` that guards it. Where it says *not claimed*, the
claim is one that a reader might make for them. `csbp-run --verdicts` shows the same table.

"""

STUDY = f"""
Whether training gains anything was asked in four experiments with controls that decide, by a
[protocol](study/PROTOCOL.md); the baselines of the first three are tuned, the fourth has the
authors' settings. {WHEN_IT_WAS_FIXED}
{ON_NONE} [Notebook 8](notebooks/08_does_chaos_help.ipynb)
draws what came out, and [all contrasts](study/RESULTS.md) stand on a page of their own.
"""


def verdicts_page(images: Path) -> str:
    """The page, Markdown.

    Args:
        images: the folder with a JSON file per figure.
    """
    table = typeset(as_page(verdicts(images)))
    table = table.replace("`tests/", "`")  # said above; the column is narrow
    readme = (ROOT / "README.md").read_text("utf-8")
    return INTRODUCTION + table + STUDY + words_in(readme)


def words_in(readme: str) -> str:
    """The list of README that explains the words of the verdicts, and where its links lead.

    Args:
        readme: README.

    Raises ValueError, one line, where that list is not there once.
    """
    lists = [text for text in readme.split("\n\n") if text.startswith("* *Best BP*: ")]
    if len(lists) != 1:
        raise ValueError("README.md must have one list that begins with *Best BP*: ")
    links = re.findall(r"^\[\d\d\]: .*$", readme, re.MULTILINE)
    return "\n" + "\n\n".join([*lists, "\n".join(links)]) + "\n"
