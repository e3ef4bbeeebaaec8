"""Folders that can be written, files that are whole."""

import os

import pytest

from csbp_notebooks.files import NOTEBOOKS, ROOT, replace_file, writable_folder


def test_root_is_the_project():
    assert (ROOT / "pyproject.toml").is_file()
    assert NOTEBOOKS.is_dir()


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "new" / "below"
    assert writable_folder(folder) == folder
    assert not any(folder.iterdir())


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    line = r"output_dir = '.*/below': must be a folder that can be written \(Not a directory\)$"
    with pytest.raises(ValueError, match=line):
        writable_folder(tmp_path / "file" / "below")


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
    replace_file(path, b"newer")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"newer"
