"""The verdicts as text: for a terminal, for the site, and in README.

python -m csbp_notebooks.verdict_text    writes README's parts anew (make verdicts)
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

from tabulate import tabulate

from .files import ROOT, replace_file
from .marks import in_lines, replace_block
from .verdicts import (
    OpeningAnswer,
    Verdict,
    cost_of_study,
    opening_answers,
    read_found,
    rule_for_z,
    two_runs,
    verdicts,
)

IMAGES = ROOT / "images"
README = ROOT / "README.md"
MAKER = "make verdicts"
WIDEST = 100  # columns of a terminal that are used


# A terminal, and the site


def as_terminal(found: Iterable[Verdict]) -> str:
    """The verdicts for a terminal of any width."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    claim = textwrap.TextWrapper(width, break_on_hyphens=False)
    below = textwrap.TextWrapper(
        width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    return "\n\n".join(
        "\n".join(
            [
                claim.fill(f"{row.claim} ({row.published}): {row.verdict.upper()}"),
                below.fill(row.measured),
                below.fill(f"{row.notebook}, {row.test}"),
            ]
        )
        for row in found
    )


def as_page(found: Iterable[Verdict]) -> str:
    """The verdicts as a table of Markdown, for a page beside the notebooks' folder."""
    rows = [
        (
            row.claim,
            f"**{row.verdict}**",
            row.measured,
            row.published,
            f"{link_to(row.notebook)}, `{row.test}`",
        )
        for row in found
    ]
    columns = ("claim", "verdict", "what we measured", "published in", "notebook, test")
    return tabulate(rows, columns, "pipe", disable_numparse=True) + "\n"


# README


def verdicts_as_list(found: Iterable[Verdict]) -> str:
    """The verdicts as a list of Markdown."""
    return "".join(
        item(
            f"*{row.claim}* ({row.published}): **{row.verdict}**: {row.measured}. "
            f"{link_to(row.notebook)}, `{row.test}`"
        )
        for row in found
    )


def answers_as_list(found: Iterable[OpeningAnswer]) -> str:
    """The three answers as a list of Markdown, for a page that defines its links at its end."""
    return "".join(
        item(f"**{answer.question} {answer.short}.** {answer.plain} [{answer.notebook[:2]}]")
        for answer in found
    )


def picture_of_answers(images: Path) -> str:
    """The picture of the answers, in HTML, with what it says in words.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where the words are not there.
    """
    alt = read_found(images, "does_chaos_help")["alt"]["answers"]
    return '<img src="images/answers.png" width="100%"\n' + in_lines(f'alt="{escape(alt)}">')


def link_to(notebook: str) -> str:
    """A link to a notebook by its number, for a page at the root."""
    return f"[{notebook[:2]}](notebooks/{notebook}.ipynb)"


def item(text: str) -> str:
    """A list's item."""
    return in_lines(text, first="* ", others="  ")


def readme_with(text: str, images: Path) -> str:
    """README with what the numbers say.

    Args:
        text: README.
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there, or the marks around a part.
    """
    answers = answers_as_list(opening_answers(images))
    parts = {
        "answers": f"{answers}\n{picture_of_answers(images)}",
        "runs": in_lines(two_runs(images)),
        "claims": verdicts_as_list(verdicts(images)) + f"\n{in_lines(cost_of_study(images))}",
        "rule for z": in_lines(rule_for_z(images)),
    }
    for name, content in parts.items():
        text = replace_block(text, MAKER, name, content)
    return text


def main() -> None:
    """Write README's parts anew; what is wrong is one line on stderr, and README stays."""
    try:
        text = readme_with(README.read_text("utf-8"), IMAGES)
        replace_file(README, text.encode())
    except (OSError, ValueError) as error:
        sys.exit(f"make verdicts: {error}")


if __name__ == "__main__":
    main()
