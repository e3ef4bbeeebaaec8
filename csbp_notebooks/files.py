"""Folders that can be written, and files that are replaced whole or not at all."""

import tempfile
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]

# The project's folder, or wherever an installed package is used.
ROOT = _REPOSITORY if (_REPOSITORY / "notebooks").is_dir() else Path.cwd()
NOTEBOOKS = ROOT / "notebooks"


def writable_folder(folder: Path) -> Path:
    """Make a folder if it is not there, and return it.

    Raises ValueError, one line, if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = f"must be a folder that can be written ({error.strerror})"
        raise ValueError(f"output_dir = {str(folder)!r}: {reason}") from None
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole or not at all: it is written aside, then renamed."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(content)
    aside.replace(path)
