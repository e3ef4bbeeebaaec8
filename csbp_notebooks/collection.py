"""Which notebooks there are: those of the collection, and strays that merely lie beside them."""

import sys
from collections.abc import Iterable
from pathlib import Path

from .files import NOTEBOOKS
from .parameters import did_you_mean, known_parameters


def choose(names: tuple[str, ...]) -> list[str]:
    """The notebooks that are asked for, each once.

    Args:
        names: of notebooks, without their suffix, or `("all",)` for the collection. Strays are
            passed over then, and one line on stderr names them.

    Raises ValueError, one line, for one that is not there or cannot be run.
    """
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    if not known:
        raise ValueError(f"no notebooks in {NOTEBOOKS}: run csbp-run in the project's folder")
    if names == ("all",):
        return _collection(known)
    for name in names:
        if name not in known:
            suggestion = did_you_mean(name, known)
            raise ValueError(f"unknown notebook {name!r}{suggestion}: there are {', '.join(known)}")
        home(name)
    return list(dict.fromkeys(names))


def home(name: str) -> str:
    """The folder that a notebook writes to unless told otherwise, as it says itself.

    That of a notebook of the collection is "runs/NAME"; that of a copy is still the original's.
    Raises ValueError, one line, for what has no such parameter or is no notebook.
    """
    path = NOTEBOOKS / f"{name}.ipynb"
    try:
        known = known_parameters(path)
    except Exception as error:  # whatever reading a file that is no notebook may raise
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path.name} cannot be read as a notebook ({reason})") from None
    if "output_dir" not in known:
        raise ValueError(f"{path.name} has no cell tagged `parameters` that sets output_dir")
    return known["output_dir"].default.strip("\"'")


def refuse_stray(name: str) -> None:
    """Refuse what is not of the collection; ValueError, one line, that says why."""
    where = home(name)
    if Path(where) != Path("runs", name):
        raise ValueError(f"{name}.ipynb sets output_dir to {where!r}, and not to 'runs/{name}'")


def _collection(names: Iterable[str]) -> list[str]:
    """Those of the collection; what is passed over is said on stderr."""
    chosen = []
    strays = []
    for name in names:
        try:
            refuse_stray(name)
            chosen.append(name)
        except ValueError as error:
            strays.append(str(error))
    if strays:
        print(f"csbp-run: passed over: {'; '.join(strays)}", file=sys.stderr)
    if not chosen:
        raise ValueError(f"no notebook of the collection in {NOTEBOOKS}")
    return chosen
