"""Which notebook a figure is of, so that none replaces another's."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .files import NOTEBOOKS

CLAIMS = "CSBP_CLAIMS"  # the environment variable that names the folder of `claim`


def refuse_files_of_others(name: str, folder: Path, files: Iterable[str]) -> None:
    """Refuse to write what another notebook has written, of this csbp-run or of an earlier one.

    Args:
        name: of the notebook that has run.
        folder: where its figures and numbers go.
        files: their names.

    Raises ValueError, one line.
    """
    for file in files:
        target = folder / file
        owners = {claim(file, name), recorded_owner(target)} - {None, name}
        for owner in owners:
            if (NOTEBOOKS / f"{owner}.ipynb").exists():  # else it has a new name since
                raise ValueError(
                    f"{target} is of {owner}: nothing was replaced; "
                    "take another folder, --output FOLDER, or another name for the file"
                )


def claim(file: str, name: str) -> str | None:
    """Take the name of a file for a notebook, where several notebooks share a folder.

    Returns the notebook that has it, or None where each has a folder of its own.
    """
    claims = os.environ.get(CLAIMS)
    if claims is None or not Path(claims).is_dir():  # inherited, and its csbp-run has ended
        return None
    taken = Path(claims, file)
    with contextlib.suppress(FileExistsError):
        # Unlike a file with the name in it, a link is never there without what it says.
        taken.symlink_to(name)
    return os.readlink(taken)


def recorded_owner(target: Path) -> str | None:
    """The notebook that a file is of, as the numbers beside it say; None where none do.

    A figure goes with the numbers of its own name, or else with those of the longest name that
    its own begins with: "loss_why.png" with "loss.json".
    """
    if not target.exists():
        return None
    beside = sorted(target.parent.glob("*.json"), key=lambda path: len(path.stem), reverse=True)
    owners = (recorded_notebook(path) for path in beside if begins_with(target.name, path.stem))
    return next(filter(None, owners), None)


def begins_with(name: str, stem: str) -> bool:
    """Whether a file's name begins with another's, and that one does not end within a word."""
    return name.startswith(stem) and not name[len(stem) :][:1].isalnum()


def recorded_notebook(path: Path) -> str | None:
    """The notebook that a JSON with numbers says it is of, None for any other file."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(path.read_bytes())["provenance"]["notebook"]
    return None


@contextlib.contextmanager
def claims() -> Iterator[None]:
    """Give the processes of this csbp-run a folder for what `claim` takes."""
    with tempfile.TemporaryDirectory(prefix="csbp-") as folder:
        os.environ[CLAIMS] = folder
        try:
            yield
        finally:
            del os.environ[CLAIMS]
