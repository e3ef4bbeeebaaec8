"""What the front page says by name: numbers out of the files beside the figures, and links."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csbp_notebooks.signs import typeset
from csbp_notebooks.verdicts import opening_answers


def facts(images: Path) -> dict[str, str]:
    """The numbers and the three answers, as text by the name that the page calls them.

    Args:
        images: the folder with the JSON files that `record` has written.

    Raises FileNotFoundError, KeyError or ValueError where a file lacks one of them.
    """
    example1 = _recorded(images, "example1")
    found = {"bp_epochs": str(example1["results"]["epochs_until_settled"])}
    for name, run in (("bp", example1), ("csbp", _recorded(images, "example2"))):
        found[f"{name}_lr"] = f"{run['provenance']['parameters']['lr']:g}"
    for name, answer in zip(("real", "helps", "chaos"), opening_answers(images), strict=True):
        found[f"{name}_short"] = answer.short
        found[f"{name}_plain"] = typeset(answer.plain)
    return found


def _recorded(images: Path, name: str) -> Mapping[str, Any]:
    """What a notebook wrote beside a figure."""
    return json.loads((images / f"{name}.json").read_text(encoding="utf-8"))


def where_to_run(repository: str | None) -> str:
    """Where the notebooks can be run, Markdown.

    Args:
        repository: "owner/name" on GitHub; None where the site is built anywhere else.
    """
    if repository is None:
        return "In a clone of the project, `make lab` opens the notebooks."
    source = f"https://github.com/{repository}"
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/notebooks"
    return f"[The source]({source}) is on GitHub, and [Binder]({binder}) runs its notebooks."


def address(repository: str | None) -> str:
    """How to get the project, a sentence that the commands of an install follow.

    Args:
        repository: "owner/name" on GitHub; None where the site is built anywhere else.
    """
    if repository is None:
        return "In a clone of the project:"
    return f"`git clone https://github.com/{repository}`, and in that folder:"
