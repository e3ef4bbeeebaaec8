"""What a kernel is given, whatever its user has set; that it runs stands in test_run.py."""

import os
from pathlib import Path

import pytest

from csbp_notebooks import kernel
from csbp_notebooks.files import ROOT
from csbp_notebooks.kernel import environment, execute, has_home, refuse_shadows

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


def test_a_relative_folder_on_the_path_is_that_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "", str(ROOT)]))
    with environment(tmp_path, "01_a"):
        path = os.environ["PYTHONPATH"].split(os.pathsep)
    assert path == [str(ROOT), str(tmp_path / "lib")]


def test_the_kernel_is_told_what_git_says_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("CSBP_BLOB", "of another csbp-run")
    with environment(tmp_path, "no_such_notebook"):
        assert os.environ["CSBP_BLOB"] == ""
    monkeypatch.setattr(kernel, "at_start", lambda name: {"CSBP_BLOB": f"of {name}"})
    with environment(tmp_path, "01_a"):
        assert os.environ["CSBP_BLOB"] == "of 01_a"


WRITTEN = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@pytest.mark.parametrize("variable", WRITTEN)
def test_a_folder_that_cannot_be_written_is_given_up(tmp_path, monkeypatch, variable):
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv(variable, NOWHERE)
    with environment(tmp_path, "01_a"):
        assert variable not in os.environ
    monkeypatch.setenv(variable, str(home))
    with environment(tmp_path, "01_a"):
        assert os.environ[variable] == str(home)


@pytest.mark.parametrize("inside", ["", "matplotlib"])
@pytest.mark.parametrize(
    ("folder", "variable"), [(".cache", "XDG_CACHE_HOME"), (".config", "XDG_CONFIG_HOME")]
)
def test_a_folder_in_the_home_that_cannot_be_written_is_replaced(
    tmp_path, monkeypatch, folder, variable, inside
):
    home = tmp_path / "user"
    path = home / folder / inside
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv(variable, raising=False)
    path.touch()  # a file: not even root can write below it
    with environment(tmp_path, "01_a"):
        assert os.environ[variable] == str(tmp_path / "home")
    monkeypatch.setenv(variable, str(home))
    with environment(tmp_path, "01_a"):
        assert os.environ[variable] == str(home)
    monkeypatch.delenv(variable)
    path.unlink()
    path.mkdir()
    with environment(tmp_path, "01_a"):
        assert variable not in os.environ


@pytest.mark.parametrize(
    "file",
    ["random.py", "types.py", "click.py", "numpy.py", "torch/__init__.py", "sitecustomize.py"],
)
def test_a_file_in_the_root_that_hides_a_module_is_refused(tmp_path, monkeypatch, file):
    monkeypatch.setattr(kernel, "ROOT", tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(
        ValueError, match="must not lie there: kernels would take it for"
    ) as refusal:
        refuse_shadows()
    assert str(refusal.value).startswith(f"{tmp_path / file} must")
    assert "\n" not in str(refusal.value)
    assert "checkout" not in str(refusal.value)


def test_a_module_that_is_hidden_in_another_checkout_is_named_with_a_question(
    tmp_path, monkeypatch
):
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here / "docs", *(other / name for name in ("docs", *kernel.PACKAGES))):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    monkeypatch.setattr(kernel, "ROOT", here)
    monkeypatch.syspath_prepend(other)
    with pytest.raises(ValueError, match="must not lie there") as refusal:
        refuse_shadows()
    where = f"of {other / 'docs' / '__init__.py'}"
    question = "is this environment installed from another checkout?"
    assert str(refusal.value).endswith(f"the module 'docs' {where}; {question}")


def test_other_files_in_the_root_may_have_any_name(tmp_path, monkeypatch):
    refuse_shadows()
    monkeypatch.setattr(kernel, "ROOT", tmp_path)
    (tmp_path / "random").mkdir()  # no package, so the module is found all the same
    for file in ("random.txt", "conftest.py", "csbp_core.py", "study.py", "my_scratch.py"):
        (tmp_path / file).touch()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "my_scratch").mkdir(parents=True)
    monkeypatch.syspath_prepend(elsewhere)
    refuse_shadows()


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
