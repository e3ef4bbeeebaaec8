"""Put the sources of the web site together, and build it.

The sources lie as in the repository, so that the links of its pages and notebooks hold: pages of
this folder at the root, and beside them what the repository has already.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sphinx.cmd.build import build_main

from csbp_notebooks.files import NOTEBOOKS, ROOT

from .explorer import explorer_fragment
from .gallery import gallery_page, read_figures
from .mathml import write_font
from .notebook_pages import fold_code_in
from .repository_pages import for_site
from .verdicts import verdicts_page

DOCS = ROOT / "docs"
IMAGES = ROOT / "images"
EXPLORER = ROOT / "csbp_notebooks" / "explorer"
SITE = ROOT / "build" / "site"

# What the repository has already: pages, and what pages link to.
PAGES = (
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "study/PROTOCOL.md",
    "study/RESULTS.md",
)
FILES = ("CITATION.cff", "sweeps/example.yaml")
FOLDERS = ("examples", "images", "notebooks")


def assemble(source: Path) -> None:
    """Put the sources together; what is in their folder is removed.

    Args:
        source: the folder.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    fold_code_in(source / "notebooks")
    copy_files([*PAGES, *FILES], source)
    shutil.copytree(IMAGES, source / "extra" / "images")
    write_font(source / "static" / "formulas.woff")
    shutil.copy(EXPLORER / "explorer.css", source / "static")
    write(source / "explorer.html", explorer_fragment(EXPLORER / "explorer.js"))
    write(source / "gallery.md", gallery_page(read_figures(IMAGES, NOTEBOOKS)))
    write(source / "verdicts.md", verdicts_page(IMAGES))
    for name in PAGES:
        page = source / name
        write(page, for_site(page.read_text(encoding="utf-8"), page.parent))


def copy_files(names: Iterable[str], source: Path) -> None:
    """Copy files of the repository to the same places among the sources."""
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)


def write(path: Path, content: str) -> None:
    """Write a page that was made here."""
    path.write_text(content, encoding="utf-8")


def build(site: Path) -> Path:
    """Build the site; a warning is an error.

    Args:
        site: the folder for its sources, its pages, and what Sphinx keeps in between.

    Returns the folder with the pages. Raises RuntimeError, one line, where Sphinx has found
    something wrong, which it has printed.
    """
    source = site / "source"
    pages = site / "html"
    assemble(source)
    shutil.rmtree(pages, ignore_errors=True)
    options = ["-W", "--keep-going", "--quiet", "-d", site / "doctrees"]
    if build_main([str(word) for word in [*options, source, pages]]) != 0:
        raise RuntimeError("the site was not built: Sphinx has found what stands above")
    return pages


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the site into build/site/html, and say so."""
    try:
        pages = build(SITE)
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"docs: {error}")
    print(f"{pages / 'index.html'} opens it in a browser")


if __name__ == "__main__":
    main()
