"""Cells in shards: which networks a shard has, and how the shards of a cell become the cell.

python -m study.experiments.shards 1-2.json 2-2.json --out cell.json

The networks that are trained in one run do not mix, so that a network's numbers are the same, bit
for bit, in whichever shard it is; what a cell holds of all networks together is made here. Of an
odd number the last one may round differently: its few numbers end outside of a vector of the
processor. No shard has that.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csbp_core.checks import check, check_choice

from .. import command
from ..command import read_cell
from ..protocol import SPLITS, Networks
from ..training.outcome import mean_curve

COUNTS = (1, 2, 4, 8)  # of shards: each has all networks of as many splits

PER_NETWORK = (
    "seeds",
    "splits",
    "accuracy",
    "rate",
    "dead",
    "zero_surrogate",
    "epochs_to_solution",
    "curve",
    "robustness",
)
SUMMED = ("seconds", "cpu_seconds")  # of the provenance
OF_THE_MACHINE = ("cpu", "cpu_capability")  # likewise: a cluster may have several


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Let a command line say how many of a task's final networks are trained."""
    parser.add_argument("--seeds", type=int, help="the first so many of every split, if not all")


def add_shard(parser: argparse.ArgumentParser) -> None:
    """Let a command line ask for a shard instead of the cell."""
    parser.add_argument(
        "--shard",
        type=int,
        nargs=2,
        metavar=("NUMBER", "COUNT"),
        help="train that shard's networks alone; study.experiments.shards makes the cell of all",
    )


def first_seeds(networks: Networks, seeds: int | None) -> Networks:
    """The first networks of every split.

    Args:
        networks: of which.
        seeds: how many of every split, >= 1, or all where it has fewer; None for all.

    Example:
        >>> first_seeds(Networks(seeds=[7, 8, 9, 10], splits=[1, 1, 2, 2]), 1)
        Networks(seeds=[7, 9], splits=[1, 2])
    """
    if seeds is None:
        return networks
    check("seeds", seeds, "[1, inf)", integer=True)
    seen: Counter[int] = Counter()
    pairs = []
    for seed, split in zip(*networks, strict=True):
        seen[split] += 1
        if seen[split] <= seeds:
            pairs.append((seed, split))
    return _of_pairs(pairs)


def shard_of(networks: Networks, number: int, count: int) -> Networks:
    """The networks of one shard.

    Args:
        networks: of all shards, on the splits of the protocol.
        number: of the shard, in [1, count].
        count: of shards, one of `COUNTS`.

    Raises ValueError, one line, for a number out of range, and where the shard would have an odd
    number of networks.

    Example:
        >>> shard_of(Networks(seeds=[7, 8, 9], splits=[1, 5, 8]), 2, 2)
        Networks(seeds=[8, 9], splits=[5, 8])
    """
    check_choice("count", count, COUNTS)
    check("number", number, f"[1, {count}]", integer=True)
    size = len(SPLITS) // count
    splits = SPLITS[(number - 1) * size : number * size]
    shard = _of_pairs([pair for pair in zip(*networks, strict=True) if pair[1] in splits])
    size = len(shard.seeds)
    if size % 2 and count > 1:
        raise ValueError(f"{count} shards of {size} networks: must be an even number of networks")
    return shard


def _of_pairs(pairs: Sequence[tuple[int, int]]) -> Networks:
    """Networks from the seed and the split of each."""
    return Networks([seed for seed, _ in pairs], [split for _, split in pairs])


def gathered(shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cell that its shards come to.

    Args:
        shards: at least one, in order: numbers per network, a network's last in each list, of those
            in `PER_NETWORK`; all else is the same in all of them.

    Returns the same of all networks, but of `curve`, `[validations][networks]`, the mean over them.

    Raises ValueError, one line, for shards that are not of one cell.
    """
    cell = {}
    for name in shards[0]:
        entries = [shard.get(name) for shard in shards]
        if name in PER_NETWORK:
            cell[name] = _joined(entries)
        else:
            cell[name] = _same(name, entries)
    cell["curve"] = mean_curve(cell["curve"])
    return cell


def _joined(entries: Sequence[Any]) -> Any:
    """Numbers of the networks of one shard after those of the other, within what holds them."""
    first = entries[0]
    if isinstance(first, dict):
        return {key: _joined([entry[key] for entry in entries]) for key in first}
    if isinstance(first[0], list):
        return [_joined(rows) for rows in zip(*entries, strict=True)]
    return list(itertools.chain(*entries))


def _same(name: str, entries: Sequence[Any]) -> Any:
    """What all shards have alike."""
    for entry in entries:
        if entry != entries[0]:
            raise ValueError(
                f"{name} = {entry}, {entries[0]}: must be the same in all shards of a cell;"
                " remove those of this one, to have them made again"
            )
    return entries[0]


def gathered_files(paths: Sequence[Path]) -> dict[str, Any]:
    """The cell of shards that were written, with its provenance.

    Seconds are those of all shards together, and processors those of any.

    Args:
        paths: the JSON of every shard, in any order.

    Raises ValueError, one line, for shards that are not all shards of one cell.
    """
    shards = [read_cell("shard", path, writer="a command with --shard") for path in paths]
    for path, shard in zip(paths, shards, strict=True):
        if "shard" not in shard:
            raise ValueError(f"shard = {path}: must be written with --shard")
    shards.sort(key=lambda shard: shard["shard"])
    count = len(shards)
    numbers = [shard.pop("shard") for shard in shards]
    if numbers != [[number, count] for number in range(1, count + 1)]:
        raise ValueError(f"shards = {numbers}: must be all shards of a cell, each once")
    provenance = _provenance([shard.pop("provenance") for shard in shards])
    return {**gathered(shards), "provenance": provenance}


def _provenance(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all shards were made with."""
    merged: dict[str, Any] = {}
    for name in found[0]:
        entries: list[Any] = [provenance.get(name) for provenance in found]
        if name in SUMMED:
            merged[name] = round(sum(entries), 1)
        elif name in OF_THE_MACHINE:
            merged[name] = ", ".join(sorted(set(entries)))
        else:
            merged[name] = _same(name, entries)
    return {**merged, "shards": len(found)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Gather from the command line; bad input is one line on stderr and exit code 2."""
    parser = command.parser(__doc__)
    parser.add_argument("shards", type=Path, nargs="+", help="the JSON of every shard")
    options = parser.parse_args(arguments)
    with command.bad_input_in_one_line("study.experiments.shards"):
        command.check_out(options.out)
        command.write(options.out, gathered_files(options.shards))


if __name__ == "__main__":
    main()
