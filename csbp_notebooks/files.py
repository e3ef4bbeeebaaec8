"""Folders that can be written, and files that are replaced whole or not at all."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":
    import fcntl

_REPOSITORY = Path(__file__).resolve().parents[1]

# The project's folder, or wherever an installed package is used.
ROOT = _REPOSITORY if (_REPOSITORY / "notebooks").is_dir() else Path.cwd()
NOTEBOOKS = ROOT / "notebooks"


def writable_folder(folder: Path, name: str = "output_dir") -> Path:
    """Make a folder if it is not there, and return it.

    Args:
        folder: the folder.
        name: what the message calls it.

    Raises ValueError, one line, if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = f"must be a folder that can be written ({error.strerror})"
        raise ValueError(f"{name} = {str(folder)!r}: {reason}") from None
    return folder


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file whole or not at all: `replace_files` with a single one."""
    replace_files({path: content})


class _Replacement(NamedTuple):
    """A file that is going to be replaced."""

    path: Path  # as it was given
    target: Path  # where that leads
    new: Path  # the new content, beside the target
    old: Path  # what was there, likewise


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Replace files, all of them or none: all are written aside before one is renamed.

    Args:
        contents: of every file, by its path. Where a path is a link, the file it leads to is
            replaced and the link stays.

    A full disk leaves all old files as they were, and nothing beside them; and of two processes
    that write the same files at once, all files are those of one. Raises OSError, one line, for a
    file that cannot be written; what was renamed before is put back.
    """
    replacements: list[_Replacement] = []
    try:
        for path, content in contents.items():
            with _named(path):
                replacement = _aside(path, replacements)
                replacements.append(replacement)
                replacement.new.write_bytes(content)
        with _locked({replacement.target.parent for replacement in replacements}):
            _rename(replacements)
    finally:
        for replacement in replacements:
            replacement.new.unlink(missing_ok=True)
            replacement.old.unlink(missing_ok=True)


def _aside(path: Path, others: Iterable[_Replacement]) -> _Replacement:
    """Settle where a file is written aside; OSError for what would stop a rename, or undo one."""
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # of links in a circle, which not every Python's resolve() refuses
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError("there is a folder of that name")
    for other in others:
        if target == other.target:
            raise FileExistsError(f"it is the same file as {other.path.name}")
    # A name of its own, for another process may write the same file; and not one of tempfile's,
    # which nobody else could read. Short, as the file's own may be long.
    unique = secrets.token_hex(8)
    new = target.with_name(f".{unique}.tmp")
    old = target.with_name(f".{unique}.old")
    return _Replacement(path, target, new, old)


def _rename(replacements: Iterable[_Replacement]) -> None:
    """Put the new files in their places; whatever stops it, the old ones are put back."""
    begun: list[_Replacement] = []
    try:
        for replacement in replacements:
            with _named(replacement.path):
                _keep(replacement)
                begun.append(replacement)
                replacement.new.replace(replacement.target)
    except BaseException:
        for replacement in begun:
            _put_back(replacement)
        raise


def _keep(replacement: _Replacement) -> None:
    """Give what is there a second name."""
    if not replacement.target.exists():
        return
    try:
        os.link(replacement.target, replacement.old)
    except OSError:  # not every file system has links, nor every owner allows them
        shutil.copy2(replacement.target, replacement.old)


def _put_back(replacement: _Replacement) -> None:
    """Undo a rename, whether or not it was done."""
    with contextlib.suppress(OSError):
        if replacement.old.exists():
            replacement.old.replace(replacement.target)
        else:
            replacement.target.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folders: Iterable[Path]) -> Iterator[None]:
    """Let no other process rename its files in these folders at the same time."""
    with contextlib.ExitStack() as locks:
        if sys.platform != "win32":  # which has no such locks
            descriptors = {}
            for folder in folders:
                with contextlib.suppress(OSError):
                    descriptor = os.open(folder, os.O_RDONLY)
                    locks.callback(os.close, descriptor)
                    status = os.fstat(descriptor)
                    # A folder with two names is locked once: a second time would wait for itself.
                    descriptors[status.st_dev, status.st_ino] = descriptor
            for _, descriptor in sorted(descriptors.items()):  # else two may wait for each other
                with contextlib.suppress(OSError):  # of a network's folder
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the operating system say which file it is about, which some do not."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written ({reason}); what was there is kept") from None
