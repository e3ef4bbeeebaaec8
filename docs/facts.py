"""What the front page says by name: numbers out of the files beside the figures, and links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def facts(images: Path) -> dict[str, str]:
    """The numbers, as text by the name that the page calls them.

    Args:
        images: the folder with the JSON files that `record` has written.

    Raises FileNotFoundError or KeyError where a file lacks one of them.
    """
    bp = results_of(images / "example1.json")
    csbp = results_of(images / "example2.json")
    burst = results_of(images / "burst_end.json")
    study = results_of(images / "does_chaos_help.json")
    verdicts = study["verdicts"]
    percentiles = burst["percentiles_of_the_end"]
    noisy_runs = recorded(images / "burst_end.json")["provenance"]["parameters"]["runs"]
    numbers = {
        "bp_epochs": bp["epochs_until_settled"],
        "features": len(csbp["statements_that_hold"]),
        "features_checked": csbp["statements_checked"],
        "noisy_runs": f"{noisy_runs:,}",
        "noisy_runs_with_all": f"{burst['runs_with_all_statements']:,}",
        "burst_median": round(percentiles["50"]),
        "burst_early": round(percentiles["5"]),
        "burst_late": round(percentiles["95"]),
        "burst_published": burst["end_of_second_burst"]["published"],
        "burst_rank": round(burst["percentile_rank"]["published"]),
        "tasks": len(verdicts),
        "helps": sum(row["CSBP"] == "helps" for row in verdicts),
        "hurts": sum(row["CSBP"] == "hurts" for row in verdicts),
        "chaos_is_why": sum(row["so at the same settings"] == "yes" for row in verdicts),
        "networks": f"{study['networks']:,}",
    }
    return {name: str(number) for name, number in numbers.items()}


def results_of(path: Path) -> dict[str, Any]:
    """What a notebook has recorded beside its figure."""
    return recorded(path)["results"]


def recorded(path: Path) -> dict[str, Any]:
    """The same with its provenance."""
    return json.loads(path.read_text(encoding="utf-8"))


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
