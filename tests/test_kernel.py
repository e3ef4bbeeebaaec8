"""What a kernel is given, whatever its user has set; that it runs stands in test_run.py."""

import os
from pathlib import Path

import pytest

from csbp_notebooks import kernel
from csbp_notebooks.files import ROOT
from csbp_notebooks.kernel import environment, execute, has_home

NOWHERE = "/dev/null/home"  # below a file, so that not even root can make it


def test_the_users_settings_do_not_reach_the_kernel_and_come_back(tmp_path, monkeypatch):
    settings = {"MPLBACKEND": "no_such", "IPYTHONDIR": "mine", "HOME": NOWHERE}
    dropped = {name: "mine" for name in ("MATPLOTLIBRC", "PYTHONSTARTUP", "JUPYTER_PATH")}
    for name, value in {**settings, **dropped}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with environment(tmp_path, "01_a"):
        inside = dict(os.environ)
    assert dict(os.environ) == before
    assert not dropped.keys() & inside.keys()
    assert inside["MPLBACKEND"] == "module://matplotlib_inline.backend_inline"
    assert inside["CSBP_NOTEBOOK"] == "01_a"
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        assert inside[name] == str(tmp_path / "home")
    assert (tmp_path / "home").is_dir()


def test_the_project_is_first_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/foreign")
    with environment(tmp_path, "01_a"):
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/foreign"]
    monkeypatch.delenv("PYTHONPATH")
    with environment(tmp_path, "01_a"):
        assert os.environ["PYTHONPATH"] == str(ROOT)


def fail(*_, **__):
    raise RuntimeError("of a cell")


def test_the_users_settings_come_back_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("MATPLOTLIBRC", "mine")
    monkeypatch.setattr(kernel.papermill, "execute_notebook", fail)
    with pytest.raises(RuntimeError, match="of a cell"):
        execute(tmp_path / "n.ipynb", {}, "n")
    assert os.environ["MATPLOTLIBRC"] == "mine"
    assert "CSBP_NOTEBOOK" not in os.environ


def test_a_home_that_can_be_written_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with environment(tmp_path, "01_a"):
        assert os.environ["HOME"] == str(tmp_path)


def test_no_home_is_none(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", NOWHERE)
    assert not has_home()
    monkeypatch.setattr(Path, "home", nobody)
    assert not has_home()


def test_it_starts_in_the_root_with_this_python_and_any_path(tmp_path, monkeypatch):
    folder = tmp_path / "{a}"
    folder.mkdir()
    calls = []
    monkeypatch.setattr(
        kernel.papermill, "execute_notebook", lambda *paths, **given: calls.append((paths, given))
    )
    execute(folder / "n.ipynb", {"z": 1}, "n")
    ((source, target, parameters), given), *others = calls
    assert others == []
    assert source.format() == target.format() == str(folder / "n.ipynb")
    assert parameters == {"z": 1}
    assert given["cwd"] == ROOT
    assert given["kernel_name"] == "python3"
