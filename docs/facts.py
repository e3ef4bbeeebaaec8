"""What the front page says by name: numbers out of the files beside the figures, and links."""

from __future__ import annotations

import json
from pathlib import Path

from csbp_notebooks.verdicts import opening_answers


def facts(images: Path) -> dict[str, str]:
    """The numbers and the three answers, as text by the name that the page calls them.

    Args:
        images: the folder with the JSON files that `record` has written.

    Raises FileNotFoundError, KeyError or ValueError where a file lacks one of them.
    """
    example1 = json.loads((images / "example1.json").read_text(encoding="utf-8"))["results"]
    found = {"bp_epochs": str(example1["epochs_until_settled"])}
    for name, answer in zip(("real", "helps", "chaos"), opening_answers(images), strict=True):
        found[f"{name}_short"] = answer.short
        found[f"{name}_because"] = answer.because
    return found


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


def install(repository: str | None) -> str:
    """How to install the project, Markdown.

    Args:
        repository: "owner/name" on GitHub; None where the site is built anywhere else.
    """
    commands = "`pip install -e .`, or `make venv` for the tested versions of everything."
    if repository is None:
        return f"Install first: in a clone of the project, {commands}"
    return (
        f"Install first: `git clone https://github.com/{repository}`, and in that folder {commands}"
    )
