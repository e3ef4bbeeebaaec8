"""A sweep's file: what it asks for, what is refused in one line, and what a point depends on."""

import itertools

import nbformat
import numpy as np
import pytest
import yaml

from csbp_notebooks import sweep_plan
from csbp_notebooks.files import ROOT
from csbp_notebooks.run import prepare
from csbp_notebooks.sweep_plan import code_digest, read_sweep

NAME = "02_single_neuron_csbp"
GOOD = {
    "notebook": NAME,
    "parameters": {"epochs": 100},
    "grid": {"z": [5, 10], "beta": [0.99, 0.999]},
    "gather": ["w.last"],
    "figure": {"x": "z", "y": "beta", "values": ["w.last"]},
}

BAD = [
    ({"notebook": "02_single"}, "unknown notebook '02_single'"),
    ({"gird": {}}, "unknown key 'gird' in the file (did you mean grid?): it may have notebook, "),
    ({"grid": None}, "grid = None: must be a mapping of names"),
    ({"grid": {"z": 5}}, "grid: z = 5: must be a list, or {from, to, points, scale}"),
    ({"grid": {"z": [[5]]}}, "grid: z = [5]: must be a number, text, True or False"),
    ({"grid": {"z": [5, -1]}}, "point z = -1: z = -1.0: must be a number in [0, inf)"),
    ({"grid": {"z": [5, 5.0]}}, "point z = 5.0 comes twice"),
    (
        {"grid": {"z": [5], "betta": [0.9]}},
        f"point z = 5, betta = 0.9: unknown parameter 'betta' of {NAME} (did you mean beta?)",
    ),
    ({"grid": {"epochs": [1]}}, "epochs stands in both parameters and grid"),
    ({"grid": {"output_dir": ["x"]}}, "output_dir cannot be set"),
    ({"grid": {"z": {"from": 1, "to": 2}}}, "grid: z lacks the key 'points'"),
    (
        {"grid": {"z": {"from": 0, "to": 2, "points": 3, "scale": "log"}}},
        "grid: z: from = 0.0: must be a number in (0, inf)",
    ),
    (
        {"grid": {"z": {"from": 1, "to": 2, "points": 3, "scale": "cubic"}}},
        "grid: z: scale = 'cubic': must be one of lin, log",
    ),
    ({"parameters": {"epochs": 1.5}}, "point z = 5, beta = 0.99: epochs = '1.5': must be of type"),
    ({"gather": "w.last"}, "gather = 'w.last': must be a list of names"),
    ({"figure": {"x": "z"}}, "figure lacks the key 'values'"),
    (
        {"figure": {"x": "Z", "values": ["w.last"]}},
        "figure: 'Z' is no parameter of the grid: it has z, beta",
    ),
    (
        {"figure": {"x": "z", "values": ["w.last"]}},
        "figure: shows z; points that differ in beta would be mixed",
    ),
    (
        {"figure": {"x": "z", "y": "beta", "values": ["w.first"]}},
        "figure: values: 'w.first' is not gathered",
    ),
    (
        {"figure": {"x": "z", "y": "beta", "values": ["w.last"], "log": ["w0"]}},
        "figure: log: is for a curve over x; with y every cell has the same size",
    ),
    (
        {"grid": {"z": [5]}, "figure": {"x": "z", "values": ["w.last"], "log": ["w0"]}},
        "figure: log: 'w0' is not x",
    ),
    (
        {"grid": {"z": [0, 5]}, "figure": {"x": "z", "values": ["w.last"], "log": ["z"]}},
        "figure: log: z has values that are not above 0",
    ),
    ({"seeds": [0, -1]}, "point z = 5, beta = 0.99, seed = -1: seed = -1: must be an integer in"),
]


def written(path, content):
    """A sweep's file."""
    path.write_text(
        content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    )
    return path


@pytest.mark.parametrize(("changed", "line"), BAD, ids=[line for _, line in BAD])
def test_what_is_wrong_is_one_line_that_begins_with_the_file(changed, line, tmp_path):
    path = written(tmp_path / "bad.yaml", GOOD | changed)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read_sweep(path)
    assert str(error.value).startswith(f"{path}: {line}")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.yaml", "grid: [1\nx: }", "is not YAML in line 2"),
        ("a.yaml", "", "the file = None: must be a mapping of names"),
        ("a b.yaml", "", "the name of the file must have letters, digits"),
    ],
)
def test_what_is_no_sweep_is_one_line(name, content, line, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read_sweep(path)
    assert str(error.value).startswith(f"{path}: {line}")


def test_seeds_are_for_a_notebook_that_has_one(tmp_path):
    content = {"notebook": "04_bifurcation", "grid": {"z": [5]}, "seeds": [0]}
    with pytest.raises(ValueError, match="seeds: 04_bifurcation has no parameter seed"):
        read_sweep(written(tmp_path / "a.yaml", content))


def test_points_are_every_combination_of_grid_and_seeds_with_the_fixed_parameters(tmp_path):
    sweep = read_sweep(written(tmp_path / "a.yaml", GOOD | {"seeds": [0, 7]}))
    expected = [
        {"z": z, "beta": beta, "seed": seed}
        for z, beta, seed in itertools.product([5.0, 10.0], [0.99, 0.999], [0, 7])
    ]
    assert [point.varied for point in sweep.points] == expected
    assert len({point.name for point in sweep.points}) == 8
    run = prepare(NAME, tuple(sweep.points[-1].given), str(tmp_path))
    given = {"epochs": 100, "z": 10.0, "beta": 0.999, "seed": 7}
    assert run.parameters == given | {"output_dir": str(tmp_path)}


@pytest.mark.parametrize(("scale", "spaced"), [("lin", np.linspace), ("log", np.geomspace)])
def test_evenly_spaced_values_are_numpys(scale, spaced, tmp_path):
    grid = {"z": {"from": "1e-1", "to": 20, "points": 20, "scale": scale}}  # text, to YAML
    sweep = read_sweep(written(tmp_path / "a.yaml", {"notebook": NAME, "grid": grid}))
    np.testing.assert_allclose(sweep.varied["z"], spaced(0.1, 20, 20), rtol=1e-11)


def test_evenly_spaced_integers_are_rounded(tmp_path):
    grid = {"epochs": {"from": 1, "to": 100, "points": 5, "scale": "log"}}
    sweep = read_sweep(written(tmp_path / "a.yaml", {"notebook": NAME, "grid": grid}))
    assert sweep.varied["epochs"] == [1, 3, 10, 32, 100]


def test_a_point_keeps_its_folder_however_its_numbers_are_written(tmp_path):
    names = []
    for z in (10, "1e1"):
        content = GOOD | {"grid": {"z": [z], "beta": [0.99]}}
        (point,) = read_sweep(written(tmp_path / "a.yaml", content)).points
        names.append(point.name)
    assert names[0] == names[1]
    assert names[0].startswith("z_10_beta_0.99-")


def test_a_point_has_another_folder_once_any_parameter_has_changed(tmp_path):
    folders = [
        {point.name for point in read_sweep(written(tmp_path / "a.yaml", content)).points}
        for content in (GOOD, GOOD | {"parameters": {"epochs": 101}})
    ]
    assert not folders[0] & folders[1]


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_of_ours_can_be_read_and_has_a_figure(path):
    sweep = read_sweep(path)
    assert len(sweep.points) == np.prod([len(values) for values in sweep.varied.values()])
    assert sweep.figure


# What the digest of the code depends on


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one notebook, which names one of two packages."""
    for package in ("csbp_core", "csbp_notebooks", "study"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text("x = 1\n")
    (tmp_path / "csbp_notebooks" / "sweep_x.py").write_text("x = 1\n")
    cells = [
        nbformat.v4.new_markdown_cell("Of study."),
        nbformat.v4.new_code_cell("from csbp_core import x\nfrom csbp_notebooks import y"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    monkeypatch.setattr(sweep_plan, "ROOT", tmp_path)
    monkeypatch.setattr(sweep_plan, "NOTEBOOKS", tmp_path)
    return tmp_path


def edit_notebook(project, cell, **values):
    """Change a cell of the project's notebook."""
    notebook = nbformat.read(project / "one.ipynb", as_version=4)
    notebook.cells[cell].update(values)
    nbformat.write(notebook, project / "one.ipynb")


@pytest.mark.parametrize(
    "file", ["csbp_core/code.py", "csbp_core/new.py", "csbp_core/results/cell.json"]
)
def test_code_that_the_notebook_uses_counts(project, file):
    before = code_digest("one")
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_text("x = 2\n")
    assert code_digest("one") != before


def test_the_notebooks_own_code_counts(project):
    before = code_digest("one")
    edit_notebook(project, 1, source="from csbp_core import z")
    assert code_digest("one") != before


@pytest.mark.parametrize("file", ["study/code.py", "csbp_notebooks/sweep_x.py"])
def test_code_that_it_does_not_use_does_not_count(project, file):
    before = code_digest("one")
    (project / file).write_text("x = 2\n")
    assert code_digest("one") == before


def test_prose_and_stored_outputs_do_not_count(project):
    before = code_digest("one")
    edit_notebook(project, 0, source="Other words.")
    edit_notebook(project, 1, execution_count=3)
    assert code_digest("one") == before


def test_versions_of_libraries_count(project, monkeypatch):
    before = code_digest("one")
    monkeypatch.setattr(sweep_plan, "versions", lambda *names: {"torch": "0"})
    assert code_digest("one") != before
