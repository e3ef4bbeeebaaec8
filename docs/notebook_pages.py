"""Notebooks as pages of the site: their code folded, their pictures described and linked."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx

FOLDED = "hide-input"  # what MyST-NB calls a cell whose code is seen at a click
SHOWN = "parameters"  # what a reader may change stays in sight


def fold_code(notebook: nbformat.NotebookNode) -> None:
    """Fold all code but the parameters.

    Args:
        notebook: the copy that becomes a page; it is changed.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and SHOWN not in tags:
            cell.metadata["tags"] = [*tags, FOLDED]


def fold_code_in(folder: Path) -> None:
    """Fold the code of every notebook of a folder, the copies that become pages."""
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        fold_code(notebook)
        nbformat.write(notebook, path)


def alt_texts(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the pictures of a notebook show, by the SHA-256 of their bytes.

    MyST-NB names a picture by it, and leaves out the text that is stored beside the picture.
    """
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = b64decode(output.data["image/png"])
                described = output.metadata.get("image/png", {})
                texts[hashlib.sha256(picture).hexdigest()] = described.get("alt", "")
    return texts


def drawings(images: Path) -> dict[str, str]:
    """The file with the drawing of a picture, by the SHA-256 of the picture's bytes.

    Args:
        images: a folder with figures, each as PNG and as SVG.
    """
    names = {}
    for picture in images.glob("*.png"):
        names[hashlib.sha256(picture.read_bytes()).hexdigest()] = f"{picture.stem}.svg"
    return names


def describe_pictures(app: Sphinx, page: nodes.document) -> None:
    """Give each picture of a notebook its text, and a link to its drawing, which can be enlarged.

    What is no recorded figure has no drawing, and leads to itself in full size.
    """
    source = Path(page["source"])
    if source.suffix != ".ipynb":
        return
    texts = alt_texts(nbformat.read(source, as_version=nbformat.NO_CONVERT))
    drawn = drawings(Path(app.srcdir) / "images")
    up = "../" * app.env.docname.count("/")
    for picture in list(page.findall(nodes.image)):
        name = PurePosixPath(picture["uri"])
        if name.stem in texts:
            picture["alt"] = texts[name.stem]
            larger = f"images/{drawn[name.stem]}" if name.stem in drawn else f"_images/{name.name}"
            link = nodes.reference(refuri=f"{up}{larger}", reftitle="opens larger")
            picture.replace_self(link)
            link += picture


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-read", describe_pictures)
    return {"parallel_read_safe": True}
