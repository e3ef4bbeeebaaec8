"""What is recorded beside a figure."""

import json
import sys
from types import ModuleType, SimpleNamespace

import IPython
import numpy as np
import pytest
import torch

from csbp_notebooks.provenance import commit, notebook_parameters, record


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


def test_record_refuses_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="results: must be finite numbers"):
        record(tmp_path / "x", notebook="n", parameters={}, results={"loss": float("nan")})
    assert not any(tmp_path.iterdir())


def test_what_git_does_not_know_has_no_commit():
    assert commit(["no/such/file"]) == {"commit": None, "dirty": None}


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
