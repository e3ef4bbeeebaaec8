"""The findings as `study/contrasts.json` holds them: put into JSON, and read again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..command import read_cell
from ..contrasts import Contrast
from .all_contrasts import Findings, Floor, chaos_helps
from .measured import AboveCritical, OfArm, OfRule, OfTuning
from .rows import Label, Row

# What is kept of a tuned setting.
OF_A_CHOICE = ("start_from_data", "lr", "z", "epochs", "accuracy", "at_an_end")


def for_json(found: Findings) -> dict[str, Any]:
    """The findings as JSON knows them."""
    return {
        "primary": [flat(row) for row in found.primary],
        "secondary": [flat(row) for row in found.secondary],
        "chaos_helps": chaos_helps(found),
        "noise_floor": [
            {
                "task": floor.task,
                **plain_numbers(floor.found),
                "spread": number(floor.spread),
                "height": None if floor.height is None else number(floor.height),
            }
            for floor in found.floors.values()
        ],
        "above_critical": [place._asdict() for place in found.above_critical],
        "tuned": [with_plain_numbers(task) for task in found.tuned],
        "rules": [with_plain_numbers(rule) for rule in found.rules],
        "arms_on_images": [with_plain_numbers(arm) for arm in found.arms_on_images],
        "integrated": found.integrated,
        "choices": {
            path: {name: choice[name] for name in OF_A_CHOICE}
            for path, choice in found.choices.items()
        },
        "missing": found.missing,
        "protocols": found.protocols,
        "commits": found.commits,
        "hours": {name: number(hours) for name, hours in found.hours.items()},
    }


def flat(row: Row) -> dict[str, Any]:
    """A row as one level of names and numbers.

    A secondary contrast is shown with its intervals alone.
    """
    numbers = plain_numbers(row.found)
    if row.verdict is None:
        del numbers["p_difference"], numbers["p_equivalence"]
    return {
        **row.label._asdict(),
        "mean_of_first": number(row.means[0]),
        "mean_of_second": number(row.means[1]),
        **numbers,
        "margin": row.margin,
        "below_floor": row.below_floor,
        "verdict": row.verdict,
    }


def with_plain_numbers(found: OfRule | OfArm | OfTuning) -> dict[str, Any]:
    """What was measured, as JSON knows it."""
    entries = found._asdict()
    for name, value in entries.items():
        if isinstance(value, float):
            entries[name] = number(value)
        elif name == "curve":
            entries[name] = [number(accuracy) for accuracy in value]
    return entries


def number(value: float) -> float | None:
    """A number of nine digits, as JSON knows it: None where it is not finite.

    Example:
        >>> number(2 / 3), number(float("nan"))
        (0.666666667, None)
    """
    return float(f"{value:.9g}") if math.isfinite(value) else None


def plain_numbers(found: Contrast) -> dict[str, float | None]:
    """The numbers of a contrast."""
    return {name: number(value) for name, value in found._asdict().items()}


def read_findings(file: Path) -> Findings:
    """The findings that were written before.

    What was not finite is NaN, where a contrast or a floor has it; settings that were tuned hold
    what is kept of them.

    Args:
        file: what `study.findings` wrote, usually `study/contrasts.json`.

    Raises ValueError, one line, if there is no such file or it holds no findings.
    """
    entries = read_cell("contrasts", file, "study.findings")
    try:
        return from_json(entries)
    except (KeyError, TypeError):
        must = "must be the JSON that study.findings writes, by the code as it is now"
        raise ValueError(f"contrasts = {file}: {must}") from None


def from_json(entries: Mapping[str, Any]) -> Findings:
    """The inverse of `for_json`."""
    floors = {entry["task"]: _floor(entry) for entry in entries["noise_floor"]}
    return Findings(
        primary=[_row(entry) for entry in entries["primary"]],
        secondary=[_row(entry) for entry in entries["secondary"]],
        floors=floors,
        above_critical=[AboveCritical(**entry) for entry in entries["above_critical"]],
        tuned=[OfTuning(**entry) for entry in entries["tuned"]],
        rules=[OfRule(**entry) for entry in entries["rules"]],
        arms_on_images=[_arm(entry) for entry in entries["arms_on_images"]],
        integrated=entries["integrated"],
        missing=entries["missing"],
        protocols=entries["protocols"],
        commits=entries["commits"],
        hours=entries["hours"],
        choices=entries["choices"],
    )


def _row(entry: Mapping[str, Any]) -> Row:
    """The inverse of `flat`."""
    return Row(
        label=Label(*(entry[name] for name in Label._fields)),
        means=(_finite(entry["mean_of_first"]), _finite(entry["mean_of_second"])),
        found=_contrast(entry),
        margin=entry["margin"],
        below_floor=entry["below_floor"],
        verdict=entry["verdict"],
    )


def _floor(entry: Mapping[str, Any]) -> Floor:
    """A noise floor, as it was before."""
    return Floor(entry["task"], _contrast(entry), _finite(entry["spread"]), entry["height"])


def _arm(entry: Mapping[str, Any]) -> OfArm:
    """The inverse of `with_plain_numbers`; what is null in any arm was never there."""
    always = {name: _finite(entry[name]) for name in ("critical_z_start", "critical_z_end")}
    return OfArm(**{**entry, **always})


def _contrast(entry: Mapping[str, Any]) -> Contrast:
    """The numbers of a contrast; NaN for p values, where only intervals are shown."""
    return Contrast(*(_finite(entry.get(name)) for name in Contrast._fields))


def _finite(value: float | None) -> float:
    """The inverse of `number`."""
    return math.nan if value is None else value
