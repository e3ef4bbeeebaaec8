"""README for the page of the package: with absolute links, as nothing lies beside it there."""

from __future__ import annotations

import os
import re
import sys

from csbp_notebooks.files import ROOT, replace_file

MARKDOWN = re.compile(r"(\]\()(?!\w+:|#)([^)\s]+)(\))")
HTML = re.compile(r'((?:src|href)=")(?!\w+:|#)([^"]+)(")')
REFERENCE = re.compile(r"^(\[[^\]]+\]: )(?!\w+:|#)(\S+)()$", re.MULTILINE)
PICTURES = (".png", ".svg")


def with_absolute_links(readme: str, repository: str, version: str) -> str:
    """A README with absolute links in place of relative ones.

    Args:
        readme: Markdown, with HTML in it.
        repository: "owner/name" on GitHub.
        version: a tag, branch or commit.

    Example:
        >>> with_absolute_links("[01](notebooks/01.ipynb)", "lab/csbp", "v1")
        '[01](https://github.com/lab/csbp/blob/v1/notebooks/01.ipynb)'
    """

    def absolute(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        kind = "raw" if target.endswith(PICTURES) else "blob"
        return f"{before}https://github.com/{repository}/{kind}/{version}/{target}{after}"

    for kind_of_link in (MARKDOWN, HTML, REFERENCE):
        readme = kind_of_link.sub(absolute, readme)
    return readme


def main() -> None:
    """Rewrite README.md in place, in a checkout on GitHub of which a package will be built."""
    try:
        repository = os.environ["GITHUB_REPOSITORY"]
        version = os.environ["GITHUB_REF_NAME"]
    except KeyError as error:
        sys.exit(f"docs.long_description: {error.args[0]} is not set: it is for a GitHub workflow")
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    replace_file(path, with_absolute_links(readme, repository, version).encode())


if __name__ == "__main__":
    main()
