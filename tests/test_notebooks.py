"""The stored notebooks: their shape, that they run and repeat, and that README tells the same."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as papermill_command
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from csbp_notebooks.files import NOTEBOOKS, ROOT

IMAGES = ROOT / "images"
README = ROOT / "README.md"
CODE_CELLS = range(8, 15)
LINES_OF_A_CELL = 25  # all but the parameters, which are as many as they are
COLUMNS = 100
WORDS_PER_LINE = 3  # of prose, per line of code

every_notebook = pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem
)

# Keys that hold on every machine, and how well (0: exactly). The others hold chaotic trajectories,
# compared on equal machines only.
PORTABLE = {
    "example1": {"w": 1e-6, "bp_loss": 1e-6, "epochs_until_settled": 0},
    "example2": {
        "critical_z": 1e-9,
        "first_epoch_below_critical_z": 0,
        "bp_alone": 1e-6,
        "statements_that_hold": 0,
    },
    "bifurcation": {
        "events": 1e-7,
        "exponent_at_start": 1e-6,
        "exponent_at_rest_at_z_1": 1e-9,
    },
    "burst_end": {"values_at_epoch_1200": 1e-6},
    "multi_layer": {"lambda_max": 1e-4, "critical_z": 1e-4, "chaotic_loss_sum": 1e-5},
    "does_chaos_help": {"answers": 0, "verdicts": 1e-9, "chaos_helps": 0, "missing": 0},
    "authors_settings": {
        "z_over_critical_at_most": 1e-9,
        "gains": 1e-9,
        "measured_over_bound": 1e-4,
    },
}
# What two machines must share before their chaotic trajectories are compared.
SAME_MACHINE = ("versions", "cpu", "cpu_capability", "torch_threads", "parameters")


def run(*command, cwd=None):
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)


def read(path):
    return nbformat.read(path, as_version=4)


def cells_of(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def tags_of(cell):
    return cell.metadata.get("tags", [])


def lines_of(cell):
    return [line for line in cell.source.splitlines() if line.strip()]


# As they are stored


@every_notebook
def test_is_stored_executed_from_a_clean_run(path):
    code = cells_of(read(path), "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@every_notebook
def test_is_stored_without_metadata_that_changes(path):
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert "injected-parameters" not in tags_of(cell)


@every_notebook
def test_is_stored_without_errors_and_warnings(path):
    for cell in cells_of(read(path), "code"):
        assert not any(output.output_type == "error" for output in cell.outputs)
        assert not any(output.get("name") == "stderr" for output in cell.outputs)


@every_notebook
def test_is_stored_without_paths_of_a_machine(path):
    assert not re.search(r"/(home|root|tmp|Users|work)/", path.read_text())


@every_notebook
def test_a_cell_that_nbval_skips_says_why(path):
    for cell in read(path).cells:
        if "nbval-ignore-output" in tags_of(cell):
            assert "# skipped by nbval" in cell.source


# As they read


@every_notebook
def test_is_one_idea_in_a_handful_of_cells(path):
    assert len(cells_of(read(path), "code")) in CODE_CELLS


@every_notebook
def test_a_cell_is_read_at_a_glance(path):
    for cell in cells_of(read(path), "code"):
        if "parameters" not in tags_of(cell):
            assert len(lines_of(cell)) <= LINES_OF_A_CELL, cell.source


@every_notebook
def test_a_line_of_code_fits_the_page(path):
    for cell in cells_of(read(path), "code"):
        assert [line for line in lines_of(cell) if len(line) > COLUMNS] == []


@every_notebook
def test_is_told_in_prose(path):
    notebook = read(path)
    lines = sum(len(lines_of(cell)) for cell in cells_of(notebook, "code"))
    words = sum(len(cell.source.split()) for cell in cells_of(notebook, "markdown"))
    assert words >= WORDS_PER_LINE * lines


# Parameters


def parameters_cell(path):
    (cell,) = [cell for cell in read(path).cells if "parameters" in tags_of(cell)]
    return cell


def names_of_parameters(path):
    return [statement.target.id for statement in ast.parse(parameters_cell(path).source).body]


@every_notebook
def test_parameters_are_found_by_papermill(path):
    names = names_of_parameters(path)
    assert list(papermill.inspect_notebook(str(path))) == names
    assert "output_dir" in names


@every_notebook
def test_parameters_are_typed_and_commented(path):
    for parameter in papermill.inspect_notebook(str(path)).values():
        assert parameter["inferred_type_name"] in ("int", "float", "bool", "str")
        assert parameter["help"]


@every_notebook
def test_a_numbers_comment_starts_with_its_range(path):
    for parameter in papermill.inspect_notebook(str(path)).values():
        if parameter["inferred_type_name"] in ("int", "float"):
            assert re.match(r"in [\[(].*[\])]; ", parameter["help"])


@every_notebook
def test_parameters_are_listed_by_papermills_help(path):
    printed = CliRunner().invoke(papermill_command, ["--help-notebook", str(path)]).stdout
    for name in names_of_parameters(path):
        assert re.search(rf"^\s*{name}: ", printed, re.M)


# As they run


def test_plain_papermill_works_from_any_folder(tmp_path):
    source = NOTEBOOKS / "02_single_neuron_csbp.ipynb"
    figures = tmp_path / "figures"
    parameters = ("-p", "epochs", "12", "-p", "output_dir", str(figures))
    done = run("papermill", str(source), "out.ipynb", *parameters, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((figures / "example2.json").read_text())
    assert recorded["provenance"]["parameters"]["epochs"] == 12
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb", "figures"}


# The two runs of all notebooks: one by csbp-run, and one by nbval, which compares what is printed.


@pytest.fixture(scope="module")
def made_by_csbp_run(tmp_path_factory):
    """The folder that a run of all notebooks has filled."""
    folder = tmp_path_factory.mktemp("csbp_run")
    done = run("csbp_notebooks.run", "all", "--output", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


NBVAL = ("pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "-q")


def run_nbval(folder, *options):
    """Run the notebooks in a folder again, and compare what they print with what is stored."""
    return run(*NBVAL, "-p", "no:cacheprovider", *options, cwd=folder)


class Comparison(NamedTuple):
    """What a run of all stored notebooks under nbval has left."""

    said: str  # a line per cell
    figures: Path  # the folder that the notebooks have filled


def with_figures_in(folder, path):
    """A stored notebook with a folder for its figures, as csbp-run gives it one."""
    return parameterize_notebook(load_notebook_node(str(path)), {"output_dir": str(folder)})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """All stored notebooks under nbval."""
    notebooks = tmp_path_factory.mktemp("notebooks")
    figures = tmp_path_factory.mktemp("nbval")
    for path in NOTEBOOKS.glob("*.ipynb"):
        nbformat.write(with_figures_in(figures, path), notebooks / path.name)
    # A notebook is a file: its cells stay together, in one kernel.
    done = run_nbval(notebooks, "-n", "auto", "--dist", "loadfile", "-rfEp")
    return Comparison(done.stdout + done.stderr, figures)


@every_notebook
def test_nbval_finds_what_is_stored_in_every_cell(path, compared):
    cells = len(cells_of(read(path), "code")) + 1  # that with the folder
    assert compared.said.count(f"PASSED {path.name}::Cell") == cells, compared.said


TRUE = "6.989"  # a number in a table of notebook 03, before it trains anything
FALSE = "6.988"


def up_to_a_table(notebook, number):
    """A notebook as far as the first table that shows the number."""
    for n, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if number in output.get("data", {}).get("text/markdown", ""):
                notebook.cells = notebook.cells[: n + 1]
                return notebook
    raise LookupError(f"no table shows {number}")


def test_nbval_fails_when_a_printed_number_is_changed(tmp_path):
    stored = with_figures_in(tmp_path / "figures", NOTEBOOKS / "03_multi_layer.ipynb")
    notebook = up_to_a_table(stored, TRUE)
    *before, last = notebook.cells
    changed = nbformat.from_dict(json.loads(json.dumps(last).replace(TRUE, FALSE)))
    notebook.cells = [*before, changed]
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    done = run_nbval(tmp_path)
    assert done.returncode == 1
    assert FALSE in done.stdout
    assert "1 failed" in done.stdout


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def figures_of_a_run(made_by_csbp_run):
    """The names of all files but the executed notebooks."""
    return {name for name in names_in(made_by_csbp_run) if not name.endswith(".ipynb")}


def test_two_runs_give_the_same_bytes(made_by_csbp_run, figures_of_a_run, compared):
    assert names_in(compared.figures) == figures_of_a_run
    for name in figures_of_a_run:
        first = (made_by_csbp_run / name).read_bytes()
        assert first == (compared.figures / name).read_bytes(), name


def test_a_run_gives_every_notebook_executed(made_by_csbp_run):
    executed = {path.name for path in made_by_csbp_run.glob("*.ipynb")}
    assert executed == {path.name for path in NOTEBOOKS.glob("*.ipynb")}


def test_a_run_gives_the_committed_files(figures_of_a_run):
    assert names_in(IMAGES) == figures_of_a_run


# The committed numbers


def leaves(value, key=""):
    """Every value that is no list and no dict, by its place."""
    if isinstance(value, dict):
        parts = {f"{key}.{name}": part for name, part in value.items()}
    elif isinstance(value, list):
        parts = {f"{key}[{i}]": part for i, part in enumerate(value)}
    else:
        return {key: value}
    found = {}
    for name, part in parts.items():
        found |= leaves(part, name)
    return found


def close(value, tolerance):
    """What a value is to be equal to; text and counts exactly."""
    if tolerance == 0 or isinstance(value, str):
        return value
    return pytest.approx(value, rel=tolerance, abs=1e-9)


def recorded(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("name", PORTABLE)
def test_a_run_records_what_is_committed(name, made_by_csbp_run):
    stored = recorded(IMAGES, name)["results"]
    made = recorded(made_by_csbp_run, name)["results"]
    assert stored.keys() == made.keys()


@pytest.mark.parametrize(
    ("name", "key", "tolerance"),
    [
        (name, key, tolerance)
        for name, tolerances in PORTABLE.items()
        for key, tolerance in tolerances.items()
    ],
)
def test_committed_numbers_are_those_of_a_run(name, key, tolerance, made_by_csbp_run):
    stored = leaves(recorded(IMAGES, name)["results"][key])
    made = leaves(recorded(made_by_csbp_run, name)["results"][key])
    for place, value in stored.items():
        assert value == close(made[place], tolerance), place


@pytest.mark.parametrize("name", PORTABLE)
def test_on_an_equal_machine_everything_is_as_committed(name, made_by_csbp_run):
    stored = recorded(IMAGES, name)
    made = recorded(made_by_csbp_run, name)
    for key in SAME_MACHINE:
        if stored["provenance"][key] != made["provenance"][key]:
            pytest.skip(f"another machine: {key}")
    assert stored["results"] == made["results"]
    picture = f"{name}.png"
    assert (IMAGES / picture).read_bytes() == (made_by_csbp_run / picture).read_bytes()


# README


def test_readme_has_every_picture_and_every_notebook_and_no_other():
    text = README.read_text()
    targets = dict(re.findall(r"^\[(\w+)\]: (\S+)$", text, re.M))
    pictures = {path.stem for path in IMAGES.glob("*.png")}
    assert set(targets) == (pictures - {"answers"}) | {
        path.name[:2] for path in NOTEBOOKS.glob("0*.ipynb")
    }
    for name, target in targets.items():
        assert (ROOT / target).is_file()
        assert f"[{name}]" in text.replace(f"[{name}]: ", "")
