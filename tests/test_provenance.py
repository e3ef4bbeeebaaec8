"""What is recorded beside a figure."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import IPython
import numpy as np
import pytest
import torch

from csbp_notebooks import provenance
from csbp_notebooks.files import ROOT
from csbp_notebooks.provenance import (
    at_start,
    code_of,
    commit,
    for_json,
    from_pythonpath,
    notebook_parameters,
    origin,
    record,
)
from csbp_notebooks.signs import MINUS


def test_record_keeps_results_apart_from_provenance(tmp_path):
    results = {"w": np.float64(0.1), "first": np.arange(2.0), "h": torch.tensor(2.5)}
    path = tmp_path / "x"
    record(path, notebook="01_single_neuron_bp", parameters={"z": 1.0}, results=results)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["results"] == {"w": 0.1, "first": [0, 1], "h": 2.5}
    provenance = stored["provenance"]
    assert provenance["notebook"] == "01_single_neuron_bp"
    assert provenance["parameters"] == {"z": 1.0}
    assert provenance["torch_threads"] == torch.get_num_threads()
    assert list(provenance["versions"]) == ["python", "torch", "numpy", "matplotlib"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert {"cpu", "cpu_capability", "commit", "dirty"} <= provenance.keys()


def test_record_writes_a_line_per_number_and_every_letter_as_it_is(tmp_path):
    record(tmp_path / "x", notebook="n", parameters={}, results={"w": [1, 2], "note": "1 → 0"})
    lines = (tmp_path / "x.json").read_text().splitlines()
    known = ["{", ' "results": {', '  "w": [', "   1,", "   2", "  ],", '  "note": "1 → 0"', " },"]
    assert lines[: len(known)] == known


def test_sentences_are_recorded_with_the_signs_of_print_and_all_else_as_it_is(tmp_path):
    results = {
        "summary": "w falls to -7",
        "alt": {"a": "from -1 to -7", "b": "5% of all"},
        "note": "-1",
        "statements": {"w is above -7": True},
    }
    record(tmp_path / "x", notebook="n", parameters={"start": "-1"}, results=results)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["results"] == {
        "summary": f"w falls to {MINUS}7",
        "alt": {"a": f"from {MINUS}1 to {MINUS}7", "b": "5 % of all"},
        "note": "-1",
        "statements": {"w is above -7": True},
    }
    assert stored["provenance"]["parameters"] == {"start": "-1"}


def test_record_keeps_a_dot_in_a_name(tmp_path):
    record(tmp_path / "z_0.5", notebook="n", parameters={}, results={})
    assert [path.name for path in tmp_path.iterdir()] == ["z_0.5.json"]


def test_under_csbp_run_a_copy_is_recorded_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CSBP_NOTEBOOK", "02_copy")
    record(tmp_path / "x", notebook="02_original", parameters={}, results={})
    assert json.loads((tmp_path / "x.json").read_text())["provenance"]["notebook"] == "02_copy"


def test_record_refuses_what_json_has_no_word_for(tmp_path):
    line = r'^results\["loss"\] = nan: must be finite, JSON has no word for it$'
    with pytest.raises(ValueError, match=line):
        record(tmp_path / "x", notebook="n", parameters={}, results={"loss": float("nan")})
    assert not any(tmp_path.iterdir())


def test_record_refuses_a_parameter_that_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match=r'^parameters\["z"\] = inf: must be finite'):
        record(tmp_path / "x", notebook="n", parameters={"z": float("inf")}, results={})


@pytest.mark.parametrize(
    ("results", "place"),
    [
        ({"a": 1.0, "w": {"last": float("-inf")}}, '["w"]["last"] = -inf'),
        ({"w": [0.5, (1, float("nan"))]}, '["w"][1][1] = nan'),
        ({"w": np.array([[1.0, 2.0], [3.0, np.inf]])}, '["w"][1][1] = inf'),
        ({"w": torch.tensor([1.0, float("nan")])}, '["w"][1] = nan'),
        ({"w": np.float32("nan")}, '["w"] = nan'),
        ({200: float("nan")}, "[200] = nan"),
    ],
)
def test_the_first_result_that_is_not_finite_is_named(results, place):
    with pytest.raises(ValueError, match="must be finite") as refusal:
        for_json(results, "results")
    assert str(refusal.value) == f"results{place}: must be finite, JSON has no word for it"


def test_an_object_that_json_does_not_know_is_named():
    line = r'^results\["x"\]\[0\] is of type complex: must be a number, text, a list or a dict$'
    with pytest.raises(TypeError, match=line):
        for_json({"x": np.array([1j])}, "results")


def test_everything_else_is_as_it_was():
    results = {"a": None, "b": [True, (1, "x")], "c": np.float32(0.5), "d": {}, "e": -1e-300}
    expected = {"a": None, "b": [True, [1, "x"]], "c": 0.5, "d": {}, "e": -1e-300}
    assert for_json(results, "results") == expected
    assert type(for_json(np.float64(1), "results")) is float


# The code


def test_what_git_does_not_know_has_no_commit():
    assert commit(["no/such/file"]) == {"commit": None, "dirty": None}


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit(["csbp_core"]) == {"commit": None, "dirty": None}


def git(folder, *arguments):
    author = ["-c", "user.name=n", "-c", "user.email=e"]
    command = ["git", *author, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


LONG_AGO = 1_000_000_000


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A clean one with the project's packages, two of which are imported from it."""
    root = tmp_path / "repository"
    sources = [Path(name, "__init__.py") for name in ("csbp_core", "csbp_notebooks", "study")]
    for source in [*sources, Path("notebooks", "n.ipynb"), Path("README.md")]:
        write(root / source, "first")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", root)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("csbp_core", "csbp_notebooks", "study"):
            monkeypatch.delitem(sys.modules, name)
    for name in ("csbp_core", "csbp_notebooks"):
        monkeypatch.setitem(sys.modules, name, imported_from(root / name))
    # What is written in these tests was there before, but for what is made younger than this.
    monkeypatch.setattr(provenance, "IMPORTED_AT", time.time() + 60)
    for variable in ("CSBP_COMMIT", "CSBP_BLOB"):
        monkeypatch.delenv(variable, raising=False)
    return root


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))


def imported_from(folder):
    package = ModuleType(folder.name)
    package.__path__ = [str(folder)]
    package.__file__ = str(folder / "__init__.py")
    return package


def head(repository):
    return git(repository, "rev-parse", "HEAD")


def test_clean_code_has_the_commit_that_last_touched_it(repository):
    first = head(repository)
    write(repository / "README.md", "second")
    git(repository, "commit", "--quiet", "-am", "not the code")
    assert head(repository) != first
    assert code_of("n") == {"commit": first, "dirty": False}


@pytest.mark.parametrize("file", ["csbp_core/__init__.py", "notebooks/n.ipynb"])
def test_edited_code_is_dirty(repository, file):
    write(repository / file, "second")
    assert code_of("n") == {"commit": head(repository), "dirty": True}


def test_other_edits_are_not_dirty(repository):
    write(repository / "README.md", "second")
    write(repository / "notebooks" / "other.ipynb", "second")
    assert code_of("n")["dirty"] is False


def test_a_file_that_was_merely_touched_is_clean_whatever_git_is_told(repository):
    git(repository, "config", "diff.autoRefreshIndex", "false")
    os.utime(repository / "csbp_core" / "__init__.py", (LONG_AGO + 1, LONG_AGO + 1))
    assert code_of("n")["dirty"] is False


def test_a_new_file_is_dirty_even_where_git_is_told_not_to_list_it(repository):
    git(repository, "config", "status.showUntrackedFiles", "no")
    write(repository / "csbp_core" / "new.py", "first")
    assert code_of("n")["dirty"] is True


def test_the_study_counts_where_it_is_imported(repository, monkeypatch):
    write(repository / "study" / "__init__.py", "second")
    assert code_of("n")["dirty"] is False
    monkeypatch.setitem(sys.modules, "study", imported_from(repository / "study"))
    assert code_of("n")["dirty"] is True


def test_code_that_was_edited_since_its_import_is_dirty_whatever_was_committed(repository):
    source = repository / "csbp_core" / "__init__.py"
    write(source, "second")
    later = provenance.IMPORTED_AT + 60
    os.utime(source, (later, later))
    git(repository, "commit", "--quiet", "-am", "second")
    assert code_of("n") == {"commit": head(repository), "dirty": True}


def test_code_that_was_put_back_with_its_old_time_is_dirty(repository, monkeypatch):
    monkeypatch.setattr(provenance, "IMPORTED_AT", LONG_AGO + 60)  # before `write` set the time
    assert (repository / "csbp_core" / "__init__.py").stat().st_mtime == LONG_AGO
    assert code_of("n") == {"commit": head(repository), "dirty": True}


def test_code_that_is_gone_since_its_import_is_dirty_whatever_was_committed(repository):
    (repository / "csbp_core" / "__init__.py").unlink()
    git(repository, "commit", "--quiet", "-am", "without")
    assert code_of("n") == {"commit": head(repository), "dirty": True}


NOTEBOOK = Path("notebooks", "n.ipynb")


@pytest.fixture
def start(repository, monkeypatch):
    """Says in the environment what csbp-run tells a kernel when it starts."""

    def tell():
        for name, value in at_start("n").items():
            monkeypatch.setenv(name, value)
        return head(repository)

    return tell


def test_what_was_committed_after_the_start_is_not_what_ran(repository, start):
    first = start()
    write(repository / NOTEBOOK, "second")
    git(repository, "commit", "--quiet", "-am", "second")
    assert code_of("n") == {"commit": first, "dirty": True}


def test_what_was_edited_at_the_start_and_committed_then_was_not_clean(repository, start):
    write(repository / NOTEBOOK, "second")
    first = start()
    git(repository, "commit", "--quiet", "-am", "second")
    assert code_of("n") == {"commit": first, "dirty": True}


def test_what_was_edited_at_the_start_and_put_back_then_was_not_clean(repository, start):
    write(repository / NOTEBOOK, "second")
    first = start()
    git(repository, "checkout", "--quiet", ".")
    assert code_of("n") == {"commit": first, "dirty": True}


def test_a_notebook_that_git_did_not_know_at_the_start_was_not_clean(repository, start):
    git(repository, "rm", "--quiet", "--cached", str(NOTEBOOK))
    write(repository / ".gitignore", "*.ipynb")
    git(repository, "commit", "--quiet", "-am", "without")
    start()
    assert code_of("n")["dirty"] is True


def test_another_branch_with_the_same_code_keeps_commit_and_cleanness(repository, start):
    first = start()
    assert code_of("n") == {"commit": first, "dirty": False}
    git(repository, "checkout", "--quiet", "-b", "other")
    write(repository / "README.md", "second")
    write(repository / "csbp_core" / "new.py", "second")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "second")
    assert code_of("n") == {"commit": first, "dirty": True}
    git(repository, "rm", "--quiet", "csbp_core/new.py")
    git(repository, "commit", "--quiet", "-m", "without")
    assert code_of("n") == {"commit": first, "dirty": False}


def test_the_hash_at_the_start_is_as_git_stores_it_whatever_it_filters(repository, start):
    git(repository, "config", "core.autocrlf", "true")
    (repository / NOTEBOOK).write_bytes(b"first\r\nline\r\n")
    git(repository, "commit", "--quiet", "-am", "second")
    assert code_of("n")["dirty"] is False
    second = start()
    assert code_of("n") == {"commit": second, "dirty": False}


def test_a_project_in_a_folder_of_a_repository_is_found(repository, start, monkeypatch):
    inner = repository / "inner"
    for source in (NOTEBOOK, Path("csbp_core", "__init__.py")):
        write(inner / source, "inner")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "inner")
    monkeypatch.setattr(provenance, "ROOT", inner)
    monkeypatch.setitem(sys.modules, "csbp_core", imported_from(inner / "csbp_core"))
    monkeypatch.delitem(sys.modules, "csbp_notebooks")
    second = start()
    assert code_of("n") == {"commit": second, "dirty": False}


def test_without_git_nothing_is_known_at_the_start(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert at_start("n") == {"CSBP_NOTEBOOK": "n", "CSBP_COMMIT": "", "CSBP_BLOB": ""}


def test_where_git_does_not_answer_in_time_nothing_is_called_clean(repository, monkeypatch):
    run = subprocess.run

    def run_or_wait(command, **settings):
        if "diff" in command:
            raise subprocess.TimeoutExpired(command, 10)
        return run(command, **settings)

    monkeypatch.setattr(subprocess, "run", run_or_wait)
    found = code_of("n")
    monkeypatch.undo()
    assert found["dirty"] is None


def test_code_from_elsewhere_has_no_commit_but_its_place(repository, monkeypatch, tmp_path):
    foreign = tmp_path / "foreign" / "csbp_core"
    monkeypatch.setitem(sys.modules, "csbp_core", imported_from(foreign))
    imported = {"csbp_core": str(foreign)}
    assert code_of("n") == {"commit": None, "dirty": None, "imported": imported}


def test_an_installed_copy_inside_of_the_project_is_from_elsewhere(repository, monkeypatch):
    installed = repository / ".venv" / "site-packages" / "csbp_notebooks"
    monkeypatch.setitem(sys.modules, "csbp_notebooks", imported_from(installed))
    assert code_of("n")["imported"] == {"csbp_notebooks": str(installed)}


@pytest.mark.parametrize("package", ["torch", "numpy", "matplotlib"])
def test_a_package_that_is_not_the_installed_one_is_from_elsewhere(
    repository, monkeypatch, tmp_path, package
):
    file = tmp_path / f"{package}.py"
    module = ModuleType(package)
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, package, module)
    imported = {package: str(file)}
    assert code_of("n") == {"commit": None, "dirty": None, "imported": imported}


def test_what_comes_from_a_folder_of_pythonpath_is_named(monkeypatch, tmp_path):
    folders = [tmp_path / name for name in ("modules", "unused")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [ROOT, *folders, ""])))
    for name in ("sitecustomize", "sitecustomize.inner", "a_module"):
        module = ModuleType(name)
        module.__file__ = str(folders[0] / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "a_package", imported_from(folders[0] / "a_package"))
    expected = {str(folders[0]): "a_module, a_package, sitecustomize"}
    assert from_pythonpath() == {"pythonpath": expected}
    record(tmp_path / "x", notebook="n", parameters={}, results={})
    assert json.loads((tmp_path / "x.json").read_text())["provenance"]["pythonpath"] == expected


def test_without_a_folder_of_the_users_nothing_is_said_of_pythonpath(monkeypatch, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(ROOT)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{link}")
    assert from_pythonpath() == {}
    monkeypatch.delenv("PYTHONPATH")
    assert from_pythonpath() == {}


def test_the_repository_of_a_hook_is_not_taken_for_the_projects(repository, monkeypatch, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    found = code_of("n")
    monkeypatch.undo()
    assert found == {"commit": head(repository), "dirty": False}


def test_here_the_packages_are_imported_from_the_project():
    assert origin(sys.modules["csbp_notebooks"]) == ROOT / "csbp_notebooks"
    assert "imported" not in code_of("01_single_neuron_bp")


# The parameters


@pytest.fixture
def notebook(monkeypatch):
    """Runs cells as a kernel does, all in the names of one module."""
    module = ModuleType("notebook")
    shell = SimpleNamespace(user_module=module, user_ns=vars(module))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)

    def run(*cells):
        for cell in cells:
            exec(cell, vars(module))

    return run


def test_a_notebooks_parameters_are_its_typed_names_as_they_are_now(notebook):
    parameters = 'z: float = 10.0  # in [0, inf)\nepochs: int = 3\noutput_dir: str = "runs/x"'
    injected = 'z = 12.0\noutput_dir = "elsewhere"'
    notebook(parameters, injected, "other = 1")
    assert notebook_parameters() == {"z": 12.0, "epochs": 3}
    assert list(notebook_parameters()) == ["z", "epochs"]


def test_a_type_inside_a_class_or_without_a_value_makes_no_parameter(notebook):
    notebook("z: float = 10.0", "class Point:\n    x: float = 0.0", "note: str")
    assert notebook_parameters() == {"z": 10.0}


def test_a_notebook_without_parameters_has_none(notebook):
    notebook("z = 10.0")
    assert notebook_parameters() == {}


def test_there_are_no_notebook_parameters_outside_of_a_notebook():
    with pytest.raises(RuntimeError, match="is for a running notebook"):
        notebook_parameters()


def test_provenance_is_recorded_without_ipython(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "IPython", None)
    record(tmp_path / "x", notebook="n", parameters={}, results={})
    assert (tmp_path / "x.json").exists()
