"""A sweep's table and figure, from results that were planted."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from csbp_notebooks.sweep_plan import Figure, Point, Sweep
from csbp_notebooks.sweep_results import (
    Row,
    chosen_names,
    draw,
    edges,
    flat,
    medians,
    read_row,
    results_in,
    table,
    what_a_point_is,
    write_results,
)

Z = [1.0, 3.0, 10.0]
BETA = [0.9, 0.99]
SEEDS = [0, 1, 2]


def planted(z, beta, seed):
    """What a point found: the end of seed 1 is nowhere, and one point is all noise."""
    rng = np.random.default_rng([int(z), int(100 * beta), seed])
    end = None if seed == 1 else float(rng.normal(z))
    return {"w": {"first": [0.5, z]}, "w.last": float(rng.normal()), "end": end, "settled": True}


def rows_of(failed=()):
    """All points, in another order than that of the figure's axes."""
    return [
        Row(
            {"z": z, "beta": beta, "seed": seed},
            None if (z, beta) in failed else flat(planted(z, beta, seed)),
        )
        for seed in SEEDS
        for beta in reversed(BETA)
        for z in reversed(Z)
    ]


FIGURE = Figure("z", "beta", ["end", "w.last"], ["z"])


def test_results_of_a_point_have_the_names_that_lead_to_them(tmp_path):
    content = {"results": planted(1.0, 0.9, 0), "provenance": {}}
    (tmp_path / "example.json").write_text(json.dumps(content))
    results = results_in(tmp_path)
    assert results["w.first.1"] == 1.0
    assert results["w.last"] == content["results"]["w.last"]


def test_results_of_several_files_begin_with_the_files_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": {"x": name}}))
    assert results_in(tmp_path) == {"a.x": "a", "b.x": "b"}


def test_what_is_gathered_unless_told_otherwise_is_every_single_number():
    assert chosen_names(None, rows_of()) == ["w.last", "end"]


def test_a_result_that_no_point_has_is_refused_in_one_line_with_what_there_is():
    line = "gather: no point has a result 'w.lst' .did you mean w.last.*: there are w.last, end, "
    with pytest.raises(ValueError, match=line):
        chosen_names(["w.lst"], rows_of())


def test_the_table_has_a_line_a_point_and_nothing_where_nothing_was_found():
    rows = rows_of(failed={(3.0, 0.9)})
    lines = list(csv.DictReader(table(rows, ["w.last", "end"]).splitlines()))
    assert len(lines) == 18
    for line, row in zip(lines, rows, strict=True):
        assert [float(line[key]) for key in ("z", "beta", "seed")] == list(row.varied.values())
        for name in ("w.last", "end"):
            expected = (row.results or {}).get(name)
            assert line[name] == ("" if expected is None else repr(expected))


@pytest.mark.parametrize("name", FIGURE.values)
def test_the_figure_shows_medians_over_seeds(name):
    failed = (3.0, 0.9)
    for row, beta in zip(medians(FIGURE, rows_of(failed={failed}), name), BETA, strict=True):
        for number, z in zip(row, Z, strict=True):
            if (z, beta) == failed:
                assert number is None
                continue
            found = [planted(z, beta, seed)[name] for seed in SEEDS]
            assert number == np.median([value for value in found if value is not None])


def test_each_panel_has_its_cells_around_its_points_and_none_where_nothing_was_found():
    fig = draw(FIGURE, rows_of(failed={(3.0, 0.9)}))
    for ax, name in zip(fig.axes, FIGURE.values, strict=False):  # colour bars come last
        assert ax.get_title() == name
        (mesh,) = ax.collections
        expected = np.array(medians(FIGURE, rows_of(), name), dtype=float)
        shown = mesh.get_array()
        assert shown.mask.tolist() == [[False, True, False], [False, False, False]]
        np.testing.assert_array_equal(shown.compressed(), np.delete(expected.ravel(), 1))
        corners = mesh.get_coordinates()
        for centres, lines in ((Z, corners[0, :, 0]), (BETA, corners[:, 0, 1])):
            assert np.searchsorted(lines, centres).tolist() == list(range(1, len(centres) + 1))
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


def test_a_grid_of_one_parameter_is_a_curve():
    rows = [row for row in rows_of() if row.varied["beta"] == BETA[0]]
    (ax,) = draw(Figure("z", None, ["w.last"], []), rows).axes
    (line,) = ax.lines
    assert line.get_xdata().tolist() == Z
    assert line.get_ydata().tolist() == medians(FIGURE, rows, "w.last")[0]


def test_the_title_says_how_many_runs_a_place_shows_and_how_many_are_done():
    rows = rows_of()
    done = sum(row.results is not None for row in rows)
    shown = f"median of up to {len(SEEDS)} runs, {done} of {len(rows)} done; grey: no number"
    assert what_a_point_is(FIGURE, rows) == shown
    over_seeds = Figure("z", "seed", ["end"], [])
    one_beta = [row for row in rows if row.varied["beta"] == BETA[0]]
    assert what_a_point_is(over_seeds, one_beta).startswith("one run a point, ")


def test_edges_in_the_logarithm_are_geometric_means():
    lines = edges([1, 4, 100], log=True)
    np.testing.assert_allclose(lines, [0.5, 2, 20, 500])


def test_a_single_point_has_a_cell_around_it():
    assert edges([3], log=False).tolist() == [2.5, 3.5]


def test_files_are_whole_and_repeat_byte_for_byte(tmp_path, monkeypatch):
    rows = rows_of()
    points = [Point(str(row.varied), row.varied, []) for row in rows]
    varied = {"z": Z, "beta": BETA, "seed": SEEDS}
    notebook = "02_single_neuron_csbp"
    sweep = Sweep("planted", notebook, {"epochs": "9"}, varied, None, FIGURE, points)
    monkeypatch.setattr(Sweep, "folder", tmp_path)
    files = write_results(sweep, rows)
    contents = [path.read_bytes() for path in files]
    assert [path.name for path in files] == [
        f"planted.{suffix}" for suffix in ("csv", "json", "png", "svg")
    ]
    assert [path.read_bytes() for path in write_results(sweep, rows)] == contents
    with Image.open(files[2]) as picture:
        picture.verify()
    numbers = json.loads(contents[1])
    assert numbers["results"]["end"] == medians(FIGURE, rows, "end")
    assert numbers["results"]["axes"] == {"z": sorted(Z), "beta": sorted(BETA)}
    assert numbers["provenance"]["parameters"] == {"epochs": "9", **varied}


def test_the_json_names_what_the_points_were_made_with_not_what_gathers_them(tmp_path, monkeypatch):
    made_with = [
        {"notebook": "02_single_neuron_csbp", "commit": "f593b85", "dirty": False},
        {"notebook": "02_single_neuron_csbp", "commit": "aff3b87", "dirty": True},
    ]
    rows = []
    for z in Z:
        folder = tmp_path / str(z)
        folder.mkdir()
        content = {
            "results": {"w": z},
            "provenance": {**made_with[z > 1], "parameters": {"z": z}},
        }
        (folder / "example2.json").write_text(json.dumps(content))
        rows.append(read_row({"z": z}, folder))
    rows.append(Row({"z": 30.0}, None))  # not done
    points = [Point(str(row.varied), row.varied, []) for row in rows]
    sweep = Sweep("planted", "02_single_neuron_csbp", {}, {"z": [*Z, 30.0]}, None, None, points)
    monkeypatch.setattr(Sweep, "folder", tmp_path)
    table_file, json_file = write_results(sweep, rows)
    assert table_file.name == "planted.csv"
    record = json.loads(json_file.read_text())
    assert record["provenance"] == {
        "notebook": "02_single_neuron_csbp",
        "parameters": {"z": [*Z, 30.0]},
        "points": [{"count": 1, **made_with[0]}, {"count": 2, **made_with[1]}],
    }
