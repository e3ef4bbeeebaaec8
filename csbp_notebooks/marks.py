"""Parts of a page that code writes: between marks that a reader does not see, in short lines."""

from __future__ import annotations

import re
import textwrap

WIDTH = 118  # of a line
NO_BREAK_SPACE = "\u00a0"
SIGNS = ("- ", "+ ", "% ")
END = r"[-+\u2212]?[\d.,]*\d"  # of an interval
SPACE_OF_INTERVAL = rf" (?=\[{END}, {END}\])|(?<=,) (?={END}\])| (?=\u00b1 )|(?<=\u00b1) "


def replace_block(text: str, maker: str, name: str, content: str) -> str:
    """The text with `content` between its one pair of marks of that name.

    Args:
        text: a page, Markdown.
        maker: the command that writes the part, which its first mark names.
        name: of the part.
        content: whole lines.

    Raises ValueError, one line, where the pair is not there, there twice, or the
    wrong way round.

    Example:
        >>> page = "a\\n<!-- make b: c -->\\nold\\n<!-- end: c -->\\nd\\n"
        >>> replace_block(page, "make b", "c", "new\\n") == page.replace("old", "new")
        True
    """
    start = f"<!-- {maker}: {name} -->\n"
    end = f"<!-- end: {name} -->\n"
    is_pair = text.count(start) == text.count(end) == 1
    if not is_pair or text.index(start) > text.index(end):
        raise ValueError(f"must have {start.strip()} and {end.strip()} once each, in this order")
    before, rest = text.split(start)
    _, after = rest.split(end)
    return before + start + content + end + after


def keep_intervals(text: str) -> str:
    """The text with no-break spaces where no line may end: before and in [a, b], about a \u00b1.

    Example:
        >>> keep_intervals("up +0.2 [0.1, 0.3] there") == "up +0.2\u00a0[0.1,\u00a00.3] there"
        True
    """
    return re.sub(SPACE_OF_INTERVAL, NO_BREAK_SPACE, text)


def in_lines(text: str, first: str = "", others: str = "") -> str:
    """A paragraph in lines, none too long, none that begins with a sign, intervals kept whole.

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
    text = keep_intervals(text)
    for sign in SIGNS:
        text = text.replace(f" {sign}", f"{NO_BREAK_SPACE}{sign}")
    return wrapper.fill(text) + "\n"
