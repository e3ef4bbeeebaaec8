"""The gallery: a page with every figure, what it checks and what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat

CLAIM = "**The claim.** "  # how the paragraph of a notebook begins that says what it checks


class Figure(NamedTuple):
    """A figure of the collection, with the pictures beside it."""

    name: str
    notebook: str  # its name, without the suffix
    title: str
    claim: str  # Markdown
    measured: str
    alt: dict[str, str]  # what each picture shows, by the picture's name; this figure's comes first

    @property
    def beside(self) -> list[str]:
        """The names of the other pictures of its notebook."""
        return [picture for picture in self.alt if picture != self.name]


def read_figures(images: Path, notebooks: Path) -> list[Figure]:
    """The figures, in the order of their notebooks.

    Args:
        images: a folder with a JSON file per figure, as `record` writes it.
        notebooks: the folder with the notebooks that the files name.

    Raises KeyError for a file without a summary, or without the alt texts of its pictures, and
    ValueError for a notebook without a title or a claim.
    """
    figures = [read_figure(path, notebooks) for path in images.glob("*.json")]
    return sorted(figures, key=lambda figure: figure.notebook)


def read_figure(path: Path, notebooks: Path) -> Figure:
    """The figure that a JSON file belongs to; see `read_figures`."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    notebook = recorded["provenance"]["notebook"]
    results = recorded["results"]
    paragraphs = paragraphs_of(notebooks / f"{notebook}.ipynb")
    return Figure(
        name=path.stem,
        notebook=notebook,
        title=title_in(paragraphs, notebook),
        claim=claim_in(paragraphs, notebook),
        measured=results["summary"],
        alt=results["alt"],
    )


def paragraphs_of(path: Path) -> list[str]:
    """The paragraphs of a notebook's first cell."""
    first_cell = nbformat.read(path, as_version=4).cells[0].source
    return [paragraph.replace("\n", " ") for paragraph in first_cell.split("\n\n")]


def title_in(paragraphs: Sequence[str], notebook: str) -> str:
    """The title of a notebook, without its number."""
    found = re.fullmatch(r"# (?:\d+\. )?(.+)", paragraphs[0])
    if found is None:
        raise ValueError(f"{notebook} has no title: its first line must be `# Title`")
    return found.group(1)


def claim_in(paragraphs: Iterable[str], notebook: str) -> str:
    """The claim that a notebook checks, a paragraph of Markdown."""
    for paragraph in paragraphs:
        if paragraph.startswith(CLAIM):
            # Where lines of code follow in the notebook, the sentence ends here.
            return re.sub(":$", ".", paragraph.removeprefix(CLAIM))
    raise ValueError(f"{notebook} has no claim: a paragraph of its first cell must begin {CLAIM!r}")


INTRODUCTION = """\
# Gallery

Every figure of the collection: what is claimed, and what was measured. With each are the notebook
that makes it, the picture as SVG, its numbers as JSON with what they were made with, and the other
pictures of that notebook. A picture leads to its SVG, which can be enlarged.
"""

OVERVIEW = """
::::{{grid}} 2 3 3 3
:gutter: 2
:class-container: overview

{cards}
::::
"""

CARD = """\
:::{{grid-item-card}}
:link: {place}
:link-type: ref
:img-top: images/{name}.png
:img-alt: {alt}
{title}
:::
"""

ENTRY = """
({place})=
## {title}

**Claim.** {claim}

{picture}

**Measured.** {measured}.

{links}

{others}
"""

OTHERS = """\
::::{{grid}} 1 1 2 2
:gutter: 2

{others}
::::
"""

OTHER = """\
:::{{grid-item}}
{picture}
:::
"""

PICTURE = """\
```{{image}} images/{name}.png
:alt: {alt}
:target: images/{name}.svg
```
"""


def gallery_page(figures: Sequence[Figure]) -> str:
    """The page, Markdown: all figures at a glance, and an entry for each."""
    entries = [entry(figure) for figure in figures]
    return INTRODUCTION + overview(figures) + "".join(entries)


def overview(figures: Iterable[Figure]) -> str:
    """Every figure, small, with its title, as a link to its entry."""
    cards = [
        CARD.format(
            place=place_of(figure),
            name=figure.name,
            alt=quoted(figure.alt[figure.name]),
            title=figure.title,
        )
        for figure in figures
    ]
    return OVERVIEW.format(cards="".join(cards))


def place_of(figure: Figure) -> str:
    """The name of its entry within the page, for links."""
    return f"figure-{figure.name}"


def entry(figure: Figure) -> str:
    """What the page has on a figure."""
    return ENTRY.format(
        place=place_of(figure),
        title=figure.title,
        claim=figure.claim,
        picture=picture(figure.name, figure.alt[figure.name]),
        measured=figure.measured,
        links=links_of(figure),
        others=others_of(figure),
    )


def others_of(figure: Figure) -> str:
    """The other pictures of its notebook, two in a row; nothing where there are none."""
    if not figure.beside:
        return ""
    pictures = [picture(name, figure.alt[name]) for name in figure.beside]
    return OTHERS.format(others="".join(OTHER.format(picture=shown) for shown in pictures))


def picture(name: str, alt: str) -> str:
    """A picture, which leads to itself as a drawing that can be enlarged."""
    return PICTURE.format(name=name, alt=quoted(alt))


def quoted(text: str) -> str:
    """A text of any signs, on one line, as YAML reads it whole."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


def links_of(figure: Figure) -> str:
    """To the notebook, the numbers and the drawing. What is no page of Sphinx is linked in HTML."""
    files = f"images/{figure.name}"
    return (
        f"[Notebook](notebooks/{figure.notebook}.ipynb) · "
        f'<a href="{files}.svg">SVG</a> · <a href="{files}.json">JSON</a>'
    )
