"""Pages of the repository, such as its README, as pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s#:]+)(?:#[^)]*)?\)")
WIDTH = re.compile(r'width="(\d+%)"')


def for_site(page: str, folder: Path) -> str:
    """A page without what GitHub takes and the site cannot.

    Args:
        page: Markdown.
        folder: the one that the page lies in, among the sources of the site.

    A link to what is no file there, such as a folder, becomes its text alone; and a width in per
    cent, which HTML has no attribute for, becomes a style.

    Example:
        >>> for_site("see [the profiles](sweeps/profiles).", Path("/nowhere"))
        'see the profiles.'
    """

    def kept(link: re.Match[str]) -> str:
        if (folder / link["target"]).is_file():
            return link.group()
        return link["text"]

    return WIDTH.sub(r'style="width: \1"', LINK.sub(kept, page))
