"""csbp-run where the notebooks extra is not installed, and where it is."""

import subprocess
import sys

import pytest

from csbp_notebooks import cli
from csbp_notebooks.files import ROOT

INSTALL = 'try pip install "csbp-notebooks[notebooks]"'


def test_without_any_package_one_line_says_what_to_install():
    command = [sys.executable, "-S", "-m", "csbp_notebooks.cli", "all"]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"csbp-run: not installed: {', '.join(cli.NEEDED)}; {INSTALL}\n"


def test_one_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"csbp-run: not installed: matplotlib; {INSTALL}\n"


def test_an_import_error_of_our_own_is_not_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "csbp_notebooks.run", raising=False)
    monkeypatch.delattr("csbp_notebooks.run", raising=False)
    monkeypatch.setitem(sys.modules, "csbp_notebooks.parameters", None)
    with pytest.raises(ModuleNotFoundError, match=r"csbp_notebooks\.parameters"):
        cli.main()


def test_in_a_folder_that_is_gone_one_line_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "argv", ["csbp-run", "no_such_notebook"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    line = "csbp-run: the folder that it is called in is gone: change to another\n"
    assert capsys.readouterr().err == line


def test_with_every_package_it_is_csbp_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["csbp-run", "--help"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for line in (
        "Run notebooks by NAME, or `all`",
        "-p, --parameter KEY VALUE Set one, as in -p z 12; may be repeated.",
        "--output FOLDER Where figures, numbers and executed notebook go [default: runs/NAME].",
        "--store Refresh the stored notebook itself, at its defaults.",
        "--jobs INTEGER RANGE Notebooks run at once [default: all cores].",
    ):
        assert line in said
