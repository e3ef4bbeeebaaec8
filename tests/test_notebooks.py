"""The stored notebooks: their shape, that they run, that their figures repeat, and that README says what they found."""

import ast
import json
import re
import subprocess
import sys

import nbformat
import papermill
import pytest
from benchmarks.conftest import README, RESULTS, block, tables

from csbp_notebooks.figures import ROOT
from study.analysis import rows

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Keys that hold on every machine, and how well. The others hold chaotic trajectories, compared on equal machines only.
PORTABLE = {
    "example1": {"w": 1e-6, "bp_loss": 1e-6, "epochs_until_settled": 0},
    "example2": {"critical_z": 1e-9, "first_epoch_below_critical_z": 0, "statements_that_hold": 0},
    "bifurcation": {"events": 1e-7, "exponent_at_start": 1e-6, "exponent_at_rest_at_z_1": 1e-9},
    "burst_end": {"values_at_epoch_1200": 1e-6},
    "multi_layer": {"lambda_max": 1e-4, "critical_z": 1e-4, "chaotic_loss_sum": 1e-5},
}


def run(*command, cwd=None):
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)


@each_notebook
def test_is_stored_executed_from_a_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert "injected-parameters" not in cell.metadata.get("tags", [])
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for cell in code for output in cell.outputs)
    assert not re.search(r"/(home|root|tmp|Users|work)/", path.read_text())


@each_notebook
def test_is_one_idea_told_in_prose(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = sum(bool(line.strip()) for source in code for line in source.splitlines())
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert 8 <= len(code) <= 14
    assert 80 <= lines <= 150
    assert words >= 3 * lines


@each_notebook
def test_parameters_are_typed_commented_and_listed(path):
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = [node.target.id for node in ast.parse(cell.source).body]
    listed = papermill.inspect_notebook(str(path))
    assert list(listed) == names
    assert "output_dir" in names
    for parameter in listed.values():
        assert parameter["inferred_type_name"] in ("int", "float", "bool", "str")
        assert parameter["help"]
        if parameter["inferred_type_name"] in ("int", "float"):
            assert re.match(r"in [\[(].*[\])]; ", parameter["help"])
    printed = run("papermill", "--help-notebook", str(path)).stdout
    assert all(re.search(rf"^\s*{name}: ", printed, re.M) for name in names)


@each_notebook
def test_a_cell_that_nbval_skips_says_why(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            assert "# skipped by nbval" in cell.source


def test_plain_papermill_works_from_any_folder(tmp_path):
    source, figures = ROOT / "notebooks" / "02_single_neuron_csbp.ipynb", tmp_path / "figures"
    done = run("papermill", str(source), "out.ipynb", "-p", "epochs", "12", "-p", "output_dir", str(figures), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((figures / "example2.json").read_text())["provenance"]["parameters"]["epochs"] == 12
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb", "figures"}


def test_nbval_fails_when_a_printed_number_is_changed(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "01_single_neuron_bp.ipynb", as_version=4)
    notebook.cells = notebook.cells[:10]  # as far as the table of first epochs
    options = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q")
    nbformat.write(notebook, tmp_path / "true.ipynb")
    table = next(output for output in notebook.cells[9].outputs if "text/markdown" in output.get("data", {}))
    table.data["text/markdown"] = table.data["text/markdown"].replace("0.49675", "0.49676")
    nbformat.write(notebook, tmp_path / "false.ipynb")
    done = {name: run("pytest", *options, f"{name}.ipynb", cwd=tmp_path) for name in ("true", "false")}
    assert done["true"].returncode == 0, done["true"].stdout
    assert done["false"].returncode == 1
    assert "0.49676" in done["false"].stdout


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for folder in folders:
        done = run("csbp_notebooks.run", "all", "--output", str(folder))
        assert done.returncode == 0, done.stderr
    return folders


def test_two_runs_give_the_same_bytes(two_runs):
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in two_runs)
    assert first.keys() == second.keys()
    assert {path.name for path in (ROOT / "images").iterdir()} == {name for name in first if not name.endswith(".ipynb")}
    for name in first:
        if name.endswith((".png", ".svg", ".json")):
            assert first[name] == second[name], name


def flatten(value, key=""):
    if isinstance(value, dict):
        return [pair for name, part in value.items() for pair in flatten(part, f"{key}.{name}")]
    if isinstance(value, list):
        return [pair for i, part in enumerate(value) for pair in flatten(part, f"{key}[{i}]")]
    return [(key, value)]


@pytest.mark.parametrize("name", PORTABLE)
def test_committed_numbers_are_those_of_a_run(name, two_runs):
    stored, made = (json.loads((folder / f"{name}.json").read_text()) for folder in (ROOT / "images", two_runs[0]))
    assert stored["results"].keys() == made["results"].keys()
    for key, tolerance in PORTABLE[name].items():
        ours, theirs = (dict(flatten(part["results"][key])) for part in (stored, made))
        for name_of, value in ours.items():
            approximate = tolerance and not isinstance(value, str)
            assert value == (pytest.approx(theirs[name_of], rel=tolerance, abs=1e-9) if approximate else theirs[name_of])
    same = ("versions", "cpu", "cpu_capability", "torch_threads", "parameters")
    if all(stored["provenance"][key] == made["provenance"][key] for key in same):
        assert stored["results"] == made["results"]
        assert (ROOT / "images" / f"{name}.png").read_bytes() == (two_runs[0] / f"{name}.png").read_bytes()


def test_readme_shows_the_speed_that_was_measured():
    shown = README.read_text()
    for name, table in tables(json.loads(RESULTS.read_text())).items():
        assert block(shown, name)[1] == table


@pytest.mark.parametrize("path", sorted((ROOT / "images").glob("*.json")), ids=lambda path: path.stem)
def test_readme_says_what_the_figures_found(path):
    assert json.loads(path.read_text())["results"]["summary"] in (ROOT / "README.md").read_text()


def test_readme_gives_the_verdict_of_the_study():
    verdicts = json.loads((ROOT / "images" / "does_chaos_help.json").read_text())["results"]["verdicts"]
    helps = sum(row["CSBP"] == "helps" for row in verdicts)
    text = " ".join(README.read_text().split())
    assert f"CSBP is better than BP in {helps} of {len(verdicts)} tasks. A pull to the same place without any chaos" in text
    assert "at the same settings, does not differ from it in any, and above the critical strength" in text
    assert "learning is worse in all" in text
    assert all(float(row["p matched"]) >= 0.05 for row in verdicts)
    high = [row for row in rows(json.loads((ROOT / "study" / "results.json").read_text())["results"]) if row["arm"] == "high"]
    assert len(high) == len(verdicts)
    assert all(row["difference"] < 0 and row["p_holm"] < 0.05 for row in high)
