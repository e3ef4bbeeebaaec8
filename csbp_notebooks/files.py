"""Folders that can be written, and files that are replaced whole or not at all."""

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping
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
    """Replace a file whole or not at all: `replace_files` with a single one."""
    replace_files({path: content})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Replace files, each whole or not at all: all are written aside before one is renamed.

    Args:
        contents: of every file, by its path. Where a path is a link, the file it leads to is
            replaced and the link stays.

    A full disk leaves all old files as they were, and nothing beside them; and two that write the
    same file at once leave that of one of them. Raises OSError, one line, for a file that cannot
    be written.
    """
    aside: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            target = path.resolve()
            with _named(path):
                if target.is_dir():  # it would stop a rename, after others were done
                    raise IsADirectoryError("there is a folder of that name")
                # A name of its own, for another process may write the same file; and not one of
                # tempfile's, which nobody else could read. Short, as the file's own may be long.
                aside[target] = target.with_name(f".{secrets.token_hex(8)}.tmp")
                aside[target].write_bytes(content)
        for target, temporary in aside.items():
            with _named(target):
                temporary.replace(target)
    finally:
        for temporary in aside.values():
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the operating system say which file it is about, which some do not."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written ({reason}); what was there is kept") from None
