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
from csbp_notebooks.provenance import code_of, commit, for_json, notebook_parameters, origin, record


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
    later = time.time() + 60
    os.utime(source, (later, later))
    git(repository, "commit", "--quiet", "-am", "second")
    assert code_of("n") == {"commit": head(repository), "dirty": True}


def test_code_from_elsewhere_has_no_commit_but_its_place(repository, monkeypatch, tmp_path):
    foreign = tmp_path / "foreign" / "csbp_core"
    monkeypatch.setitem(sys.modules, "csbp_core", imported_from(foreign))
    imported = {"csbp_core": str(foreign)}
    assert code_of("n") == {"commit": None, "dirty": None, "imported": imported}


def test_an_installed_copy_inside_of_the_project_is_from_elsewhere(repository, monkeypatch):
    installed = repository / ".venv" / "site-packages" / "csbp_notebooks"
    monkeypatch.setitem(sys.modules, "csbp_notebooks", imported_from(installed))
    assert code_of("n")["imported"] == {"csbp_notebooks": str(installed)}


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
