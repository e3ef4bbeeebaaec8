"""The verdicts as text: for a terminal, for the site, and in README.

python -m csbp_notebooks.verdict_text    writes README's parts anew (make verdicts)
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

from tabulate import tabulate

from .files import ROOT, replace_file
from .marks import replace_block
from .verdicts import Answer, Verdict, read_numbers, three_answers, two_runs, verdicts

IMAGES = ROOT / "images"
README = ROOT / "README.md"
MAKER = "make verdicts"
WIDTH = 118  # of a line in README
NO_BREAK_SPACE = "\u00a0"
SIGNS = ("- ", "+ ", "% ")


def as_terminal(found: Iterable[Verdict]) -> str:
    """The verdicts as a table for a terminal."""
    rows = [
        (row.claim, row.published, row.measured, row.verdict, f"{row.notebook}\n{row.test}")
        for row in found
    ]
    columns = ("claim", "where", "measured", "verdict", "notebook and test")
    widths = [26, 18, 40, 20, None]
    return tabulate(rows, columns, "grid", maxcolwidths=widths, disable_numparse=True)


def as_page(found: Iterable[Verdict]) -> str:
    """The verdicts as a table of Markdown, for a page beside the notebooks' folder."""
    rows = [
        (
            row.claim,
            row.published,
            row.measured,
            f"**{row.verdict}**",
            f"[{row.notebook[:2]}]({link_to(row.notebook)}), `{row.test}`",
        )
        for row in found
    ]
    columns = ("claim", "where", "what we measured", "verdict", "notebook, test")
    return tabulate(rows, columns, "pipe", disable_numparse=True) + "\n"


def as_list(found: Iterable[Verdict]) -> str:
    """The verdicts as a list of Markdown, for README."""
    return "".join(
        item(
            f"*{row.claim}* ({row.published}): **{row.verdict}**: {row.measured}. "
            f"[{row.notebook[:2]}]({link_to(row.notebook)}), `{row.test}`"
        )
        for row in found
    )


def answers_as_list(found: Iterable[Answer]) -> str:
    """The three answers as a list of Markdown, for README."""
    return "".join(
        item(
            f"**{answer.question} {answer.short}.** {answer.because}. "
            f"[{answer.notebook[:2]}]({link_to(answer.notebook)})"
        )
        for answer in found
    )


def picture(images: Path) -> str:
    """The picture of the answers, in HTML, with what it says in words."""
    alt = read_numbers(images)["does_chaos_help"]["alt"]["answers"]
    quoted = escape(alt, quote=False).replace('"', "&quot;")
    return '<img src="images/answers.png" width="100%"\n' + in_lines(f'alt="{quoted}">')


def link_to(notebook: str) -> str:
    """The path of a notebook, from the root."""
    return f"notebooks/{notebook}.ipynb"


def item(text: str) -> str:
    """A list's item, no line too long."""
    return in_lines(text, first="* ", others="  ")


def in_lines(text: str, first: str = "", others: str = "") -> str:
    """A paragraph in lines, none too long, and none that begins with a sign.

    At the start of a line, a minus would begin a list, and a per cent sign a comment of MyST.

    Args:
        text: the paragraph.
        first: what its first line begins with.
        others: what all others do.
    """
    wrapper = textwrap.TextWrapper(
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for sign in SIGNS:
        text = text.replace(f" {sign}", f"{NO_BREAK_SPACE}{sign}")
    return wrapper.fill(text) + "\n"


# README


def readme_with(text: str, images: Path) -> str:
    """README with what the numbers say.

    Args:
        text: README.
        images: the folder with a JSON file per figure.
    """
    parts = {
        "answers": answers_as_list(three_answers(images)) + "\n" + picture(images),
        "runs": in_lines(two_runs(images)),
        "claims": as_list(verdicts(images)),
    }
    for name, content in parts.items():
        text = replace_block(text, MAKER, name, content)
    return text


def main() -> None:
    """Write README's parts anew."""
    try:
        text = readme_with(README.read_text("utf-8"), IMAGES)
        replace_file(README, text.encode())
    except (OSError, ValueError) as error:
        sys.exit(f"csbp_notebooks.verdict_text: README.md: {error}")


if __name__ == "__main__":
    main()
