"""What the commands of the study share: one line for bad input, a record with its provenance."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csbp_notebooks.files import replace_file, writable_folder
from csbp_notebooks.provenance import commit, machine, versions

# What the numbers depend on: not the whole of `study/`, where the results lie, too.
CODE = ["csbp_core", "csbp_notebooks", "study/*.py"]

DIGITS = 6  # decimals that are stored


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of a command line that has `--out`; the description is shown as it is written."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(made)
    return made


def add_out(parser: argparse.ArgumentParser) -> None:
    """Let a command line, or one of its parts, say where the record is written."""
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")


def run(
    name: str,
    parser: argparse.ArgumentParser,
    make: Callable[[argparse.Namespace], dict[str, Any]],
    arguments: Sequence[str] | None,
    **provenance: Any,
) -> None:
    """Make what the command line asks for, and write it with its provenance to `--out`.

    Bad input is one line on stderr and exit code 2.

    Args:
        name: of the command, in that line.
        parser: of the command line, with an option `--out`.
        make: makes the record, as JSON knows it, from the options; raises ValueError, one line.
        arguments: those of the command line; None for the process's own.
        provenance: what the record's provenance holds besides.
    """
    options = parser.parse_args(arguments)
    with bad_input_in_one_line(name):
        _make(options, make, provenance)


@contextlib.contextmanager
def bad_input_in_one_line(name: str) -> Iterator[None]:
    """End with a ValueError's line on stderr and exit code 2; `name` is that of the command."""
    try:
        yield
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)


def _make(
    options: argparse.Namespace,
    make: Callable[[argparse.Namespace], dict[str, Any]],
    provenance: dict[str, Any],
) -> None:
    """Make the record and write it."""
    # Snakemake runs as many commands at once as there are cores; and a sum that is not shared out
    # among threads rounds in the same way whenever it is repeated.
    torch.set_num_threads(1)
    start = time.perf_counter()
    check_out(options.out)  # now rather than after the training
    code = commit(CODE)  # likewise: it may be another by then
    record = make(options)
    record["provenance"] = {
        **provenance,
        **code,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "versions": versions("torch", "numpy", "scikit-learn"),
        **machine(),
    }
    write(options.out, record)


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its provenance, whole or not at all."""
    replace_file(path, json.dumps(record, allow_nan=False).encode() + b"\n")


def check_out(path: Path) -> None:
    """Make the folder of a file to be written; ValueError, one line, if it cannot be written."""
    if path.is_dir():
        raise ValueError(f"--out = {path}: must be a file, not a folder")
    try:
        writable_folder(path.parent)
    except ValueError:
        raise ValueError(f"--out = {path}: must be in a folder that can be written") from None


def read_cell(name: str, path: Path, writer: str) -> dict[str, Any]:
    """A cell that was written before.

    Args:
        name: what the path was given as, for the message.
        path: the JSON that a command wrote.
        writer: that command, for the message.

    Raises ValueError, one line, if there is no such file or it holds no cell.
    """
    must = f"{name} = {path}: must be the JSON of a cell, as {writer} writes it"
    try:
        cell = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{must} ({error.strerror})") from None
    except ValueError:  # neither text nor JSON
        raise ValueError(must) from None
    if not isinstance(cell, dict):
        raise ValueError(must)
    return cell


def plain(numbers: np.ndarray | Tensor) -> Any:
    """Numbers as JSON knows them: rounded to 6 decimals, None where not finite.

    Example:
        >>> plain(torch.tensor([0.5, float("nan")]))
        [0.5, None]
    """
    array = np.asarray(numbers, dtype=float)
    rounded = np.asarray(np.round(array, DIGITS), dtype=object)
    rounded[~np.isfinite(array)] = None
    return rounded.tolist()
