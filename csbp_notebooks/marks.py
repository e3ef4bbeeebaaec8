"""A part of a page that code writes, between two marks that a reader does not see."""

from __future__ import annotations


def replace_block(text: str, maker: str, name: str, content: str) -> str:
    """The text with `content` between its one pair of marks of that name.

    Args:
        text: a page, Markdown.
        maker: the command that writes the part, which its first mark names.
        name: of the part.
        content: whole lines.

    Raises ValueError, one line, where the pair is not there, or there twice.

    Example:
        >>> page = "a\\n<!-- make b: c -->\\nold\\n<!-- end: c -->\\nd\\n"
        >>> replace_block(page, "make b", "c", "new\\n") == page.replace("old", "new")
        True
    """
    start = f"<!-- {maker}: {name} -->\n"
    end = f"<!-- end: {name} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"must have {start.strip()} and {end.strip()} once each")
    before, rest = text.split(start)
    _, after = rest.split(end)
    return before + start + content + end + after
