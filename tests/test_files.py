"""Folders that can be written, files that are whole."""

import errno
import os
import runpy
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from csbp_notebooks import files
from csbp_notebooks.files import NOTEBOOKS, ROOT, replace_file, replace_files, writable_folder


def test_root_is_the_project():
    assert (ROOT / "pyproject.toml").is_file()
    assert NOTEBOOKS.is_dir()


def test_root_is_the_project_wherever_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(files.__file__)["ROOT"] == ROOT


def test_root_is_where_an_installed_package_is_used(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages" / "csbp_notebooks" / "files.py"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(Path(files.__file__).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(str(installed))["ROOT"] == tmp_path


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "new" / "below"
    assert writable_folder(folder) == folder
    assert not any(folder.iterdir())


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "old").write_text("")
    assert writable_folder(tmp_path) == tmp_path
    assert names(tmp_path) == ["old"]


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    line = r"output_dir = '.*/below': must be a folder that can be written \(Not a directory\)$"
    with pytest.raises(ValueError, match=line):
        writable_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder that not even root can write")
def test_a_folder_that_is_there_but_cannot_be_written_is_one_line():
    with pytest.raises(
        ValueError, match=r"^output_dir = '/proc': must be a folder that can be wri"
    ):
        writable_folder(Path("/proc"))


def test_a_folder_is_called_what_it_is_for():
    with pytest.raises(ValueError, match=r"^notebooks = '/dev/null': must be a folder that can be"):
        writable_folder(Path("/dev/null"), "notebooks")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    replace_file(path, b"old")

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["figure.png"]
    replace_file(path, b"newer")
    assert names(tmp_path) == ["figure.png"]
    assert path.read_bytes() == b"newer"


@pytest.fixture
def disk_full_at_the_second_file(monkeypatch):
    """Half of it still fits."""
    write = Path.write_bytes
    written = []

    def write_bytes(path, content):
        written.append(path)
        if len(written) < 2:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


def test_a_disk_that_is_full_in_the_middle_leaves_all_old_files(
    tmp_path, disk_full_at_the_second_file
):
    first = tmp_path / "a.png"
    second = tmp_path / "a.svg"
    first.write_text("old")
    second.write_text("older")
    line = r"^/.*/a\.svg cannot be written \(No space left on device\); what was there is kept$"
    with pytest.raises(OSError, match=line):
        replace_files({first: b"newnew", second: b"newnew"})
    assert (first.read_text(), second.read_text()) == ("old", "older")
    assert names(tmp_path) == ["a.png", "a.svg"]


def test_a_folder_in_the_way_of_one_file_leaves_the_others(tmp_path):
    first = tmp_path / "a.png"
    first.write_text("old")
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(OSError, match=r"a\.svg cannot be written \(there is a folder of that name"):
        replace_files({first: b"new", tmp_path / "a.svg": b"new"})
    assert first.read_text() == "old"
    assert names(tmp_path) == ["a.png", "a.svg"]


def test_no_folder_is_one_line_that_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"^/.*/no/a\.png cannot be written \(No such file or dir"):
        replace_file(tmp_path / "no" / "a.png", b"new")


def test_two_that_write_the_same_file_at_once_leave_it_whole(tmp_path):
    path = tmp_path / "figure.png"
    contents = [bytes([i]) * 100_000 for i in range(8)]

    def write_often(content):
        for _ in range(20):
            replace_file(path, content)

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write_often, contents))  # raises what one of them raised
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["figure.png"]


def test_an_interrupted_write_leaves_no_debris(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "a", b"new")
    assert names(tmp_path) == []


def test_others_may_read_it_as_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("")
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_write_protected_file_is_replaced_too(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(stat.S_IRUSR)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("old")
    link = tmp_path / "a"
    link.symlink_to(Path("data", "a"))
    replace_file(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "data" / "a").read_bytes() == b"new"
    assert names(tmp_path / "data") == ["a"]


def test_a_name_as_long_as_names_may_be_is_written(tmp_path):
    name = 255 * "a"
    replace_file(tmp_path / name, b"new")
    assert names(tmp_path) == [name]


def test_a_relative_path_starts_where_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace_file(Path("a"), b"new")
    assert names(tmp_path) == ["a"]


def test_links_in_a_circle_are_one_line(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match=r"^/.*/a cannot be written \(.*; what was there is kept$"):
        replace_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a", "b"]


def test_a_link_to_nothing_makes_what_it_leads_to(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").read_bytes() == b"new"


def test_two_names_of_one_file_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("old")
    (tmp_path / "a.svg").symlink_to("a.png")
    line = r"a\.svg cannot be written \(it is the same file as a\.png\); what was there is kept$"
    with pytest.raises(OSError, match=line):
        replace_files({tmp_path / "a.png": b"new", tmp_path / "a.svg": b"newer"})
    assert (tmp_path / "a.png").read_text() == "old"
    assert names(tmp_path) == ["a.png", "a.svg"]


def no_links(*_):
    raise OSError(errno.EPERM, "no links here")


@pytest.mark.parametrize("link", [os.link, no_links])
@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "in use"), KeyboardInterrupt()])
def test_what_was_renamed_before_a_rename_that_fails_is_put_back(
    tmp_path, monkeypatch, link, error
):
    (tmp_path / "a").write_text("old")
    (tmp_path / "c").write_text("older")
    rename = os.replace

    def fail_at_c(source, target):
        if Path(target).name == "c" and Path(source).suffix == ".tmp":
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"new"
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_at_c)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises((OSError, KeyboardInterrupt)):
        replace_files({tmp_path / name: b"new" for name in ("a", "b", "c", "d")})
    assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "c").read_text() == "older"
    assert names(tmp_path) == ["a", "c"]


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_of_two_that_write_the_same_files_at_once_all_are_of_one(tmp_path, monkeypatch):
    rename = os.replace
    second_may_start = Event()
    second_is_done = Event()

    def pause_after_the_first(source, target):
        rename(source, target)
        if not second_may_start.is_set():
            second_may_start.set()
            second_is_done.wait(timeout=0.2)  # it cannot be before all of the first are renamed

    def second():
        second_may_start.wait()
        replace_files(dict.fromkeys(paths, b"second"))
        second_is_done.set()

    monkeypatch.setattr(os, "replace", pause_after_the_first)
    paths = [tmp_path / "a", tmp_path / "b"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second)
        replace_files(dict.fromkeys(paths, b"first"))
        waiting.result()
    assert [path.read_bytes() for path in paths] == [b"second", b"second"]


def test_a_folder_by_two_names_is_no_reason_to_wait_for_itself(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").symlink_to("folder")
    monkeypatch.setattr(Path, "resolve", lambda path: path)  # as where case does not matter
    replace_files({tmp_path / "folder" / "a": b"new", tmp_path / "other" / "b": b"new"})
    assert names(tmp_path / "folder") == ["a", "b"]
