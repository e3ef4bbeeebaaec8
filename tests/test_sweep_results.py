"""A sweep's table and figure, from results that were planted."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csbp_notebooks.provenance import flat
from csbp_notebooks.sweep_plan import Figure, Sweep
from csbp_notebooks.sweep_results import (
    Row,
    chosen_names,
    draw,
    medians,
    read_row,
    refuse_unknown_names,
    results_in,
    table,
    title_of,
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


FIGURE = Figure("z", "beta", ["end", "w.last"], log=False)


def sweep_of(gather=None, figure=None, **fixed):
    """A sweep whose points are planted."""
    varied = {"z": Z, "beta": BETA, "seed": SEEDS}
    return Sweep(Path("planted.yaml"), "02_single_neuron_csbp", fixed, varied, gather, figure, [])


def test_a_point_whose_notebook_records_nothing_is_a_row_without_numbers(tmp_path):
    assert read_row({"z": 1.0}, tmp_path) == Row({"z": 1.0}, {}, None)


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


@pytest.mark.parametrize(
    ("sweep", "place"),
    [
        (sweep_of(gather=["end", "w.lst"]), "gather"),
        (sweep_of(figure=FIGURE._replace(values=["w.lst"])), "figure: values"),
    ],
)
def test_a_result_that_no_point_has_is_refused_in_one_line_with_what_there_is(sweep, place):
    near = "no point has a result 'w.lst' (did you mean w.last?): there are w.last, end, settled"
    with pytest.raises(ValueError, match="no point has a result") as refusal:
        refuse_unknown_names(sweep, rows_of(), over=False)
    assert str(refusal.value) == f"planted.yaml: {place}: {near}"


def test_a_result_that_one_point_has_is_an_empty_cell_at_the_others():
    rows = [Row({"z": 1.0}, {"w": 2.0}), Row({"z": 3.0}, {"w": 4.0, "rest": 5.0})]
    asked = ["rest", "w"]
    refuse_unknown_names(sweep_of(gather=asked), rows, over=True)
    assert table(rows, chosen_names(asked, rows)) == "z,rest,w\n1.0,,2.0\n3.0,5.0,4.0\n"


def test_a_place_in_a_list_may_still_come_until_all_points_are_over():
    sweep = sweep_of(gather=["w.first.2"])
    refuse_unknown_names(sweep, rows_of(), over=False)
    with pytest.raises(ValueError, match=r"no point has a result 'w\.first\.2'"):
        refuse_unknown_names(sweep, rows_of(), over=True)


def test_names_that_no_point_has_are_left_out_of_table_and_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(Sweep, "folder", tmp_path)
    figure = FIGURE._replace(values=["nonsense", "end"])
    write_results(sweep_of(["end", "nonsense"], figure), rows_of())
    header = (tmp_path / "planted.csv").read_text().splitlines()[0]
    assert header == "z,beta,seed,end"
    assert set(json.loads((tmp_path / "planted.json").read_text())["results"]) == {"axes", "end"}
    assert (tmp_path / "planted.png").exists()


def test_a_figure_that_no_name_is_left_of_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(Sweep, "folder", tmp_path)
    files = write_results(sweep_of(None, FIGURE._replace(values=["nonsense"])), rows_of())
    assert [path.name for path in files] == ["planted.csv", "planted.json"]


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


def test_each_panel_has_a_cell_a_point_with_its_number_and_none_where_nothing_was_found():
    fig = draw(FIGURE, rows_of(failed={(3.0, 0.9)}))
    for ax, name in zip(fig.axes, FIGURE.values, strict=False):  # colour bars come last
        assert ax.get_title() == name
        (mesh,) = ax.collections
        expected = np.array(medians(FIGURE, rows_of(), name), dtype=float)
        shown = mesh.get_array()
        assert shown.mask.tolist() == [[False, True, False], [False, False, False]]
        np.testing.assert_array_equal(shown.compressed(), np.delete(expected.ravel(), 1))
        written = {text.get_position(): text.get_text() for text in ax.texts}
        for (line, column), number in np.ndenumerate(expected):
            there = written[column + 0.5, line + 0.5]
            if (line, column) == (0, 1):
                assert there == ""
            else:
                assert float(there) == pytest.approx(number, rel=5e-3)


def test_cells_have_the_same_size_and_ticks_with_the_values_of_the_grid():
    ax = draw(FIGURE, rows_of()).axes[0]
    (mesh,) = ax.collections
    corners = mesh.get_coordinates()
    for axis, lines, labels in (
        (ax.xaxis, corners[0, :, 0], ["1", "3", "10"]),
        (ax.yaxis, corners[:, 0, 1], ["0.9", "0.99"]),
    ):
        assert np.unique(np.diff(lines)) == 1
        np.testing.assert_array_equal(axis.get_ticklocs(), (lines[1:] + lines[:-1]) / 2)
        assert [label.get_text() for label in axis.get_ticklabels()] == labels


def grid_rows(columns, lines, number):
    """Points of a grid whose result `f` is a function of z and beta."""
    return [
        Row({"z": float(z), "beta": float(beta)}, {"f": number(z, beta)})
        for z in range(columns)
        for beta in range(lines)
    ]


@pytest.mark.parametrize(
    ("number", "ends"),
    [(lambda z, beta: z - 1.0, (-3, 3)), (lambda z, beta: z + 2.0, (2, 6))],
    ids=["of both signs", "of one sign"],
)
def test_colours_are_centred_at_zero_where_numbers_have_both_signs(number, ends):
    rows = grid_rows(5, 2, number)
    (mesh,) = draw(Figure("z", "beta", ["f"], log=False), rows).axes[0].collections
    assert mesh.get_clim() == ends
    red, _, blue, _ = mesh.to_rgba(0.0)
    if ends[0] < 0:
        assert red == pytest.approx(blue, abs=0.02)  # neither the one colour nor the other


@pytest.mark.parametrize(("columns", "lines", "are_written"), [(5, 10, True), (6, 10, False)])
def test_numbers_are_written_where_there_are_at_most_fifty(columns, lines, are_written):
    rows = grid_rows(columns, lines, lambda z, beta: z * beta)
    ax = draw(Figure("z", "beta", ["f"], log=False), rows).axes[0]
    assert bool(ax.texts) == are_written


@pytest.mark.parametrize("number", [-1.234e-5, -987654.0])
def test_the_longest_numbers_stay_within_their_cells(number):
    fig = draw(Figure("z", "beta", ["f"], log=False), grid_rows(7, 4, lambda *_: number))
    fig.draw_without_rendering()
    ax = fig.axes[0]
    width = ax.get_window_extent().width / 7
    assert ax.texts
    assert all(text.get_window_extent().width < width for text in ax.texts)


def test_panels_stand_below_each_other_where_a_page_is_too_narrow():
    figure = Figure("z", "beta", ["f", "g", "h"], log=False)
    rows = [
        row._replace(results={"f": 1, "g": 2, "h": -1e-9 / 3})
        for row in grid_rows(6, 2, lambda z, beta: z)
    ]
    fig = draw(figure, rows)
    assert fig.get_figwidth() <= 9
    left = {round(ax.get_subplotspec().colspan.start) for ax in fig.axes[:3]}
    assert left == {0}


def test_a_grid_of_one_parameter_is_a_curve():
    rows = [row for row in rows_of() if row.varied["beta"] == BETA[0]]
    (ax,) = draw(Figure("z", None, ["w.last"], log=True), rows).axes
    assert ax.get_xscale() == "log"
    (line,) = ax.lines
    assert line.get_xdata().tolist() == Z
    assert line.get_ydata().tolist() == medians(FIGURE, rows, "w.last")[0]


def test_the_title_says_how_many_runs_a_place_shows_and_how_many_are_done():
    rows = rows_of()
    done = sum(row.results is not None for row in rows)
    shown = f"median of up to {len(SEEDS)} runs, {done} of {len(rows)} done"
    assert title_of(sweep_of(), FIGURE, rows) == f"02_single_neuron_csbp: {shown}"
    over_seeds = Figure("z", "seed", ["w.last"], log=False)
    one_beta = [row for row in rows if row.varied["beta"] == BETA[0]]
    assert ": one run a point, " in title_of(sweep_of(), over_seeds, one_beta)


def test_the_title_names_grey_where_a_cell_is_and_the_fixed_parameters():
    title = title_of(sweep_of(epochs="9"), FIGURE, rows_of(failed={(3.0, 0.9)}))
    assert title.startswith("02_single_neuron_csbp with epochs\xa0=\xa09: ")
    assert title.endswith("15 of 18 done; grey: no number")


def test_files_are_whole_and_repeat_byte_for_byte(tmp_path, monkeypatch):
    rows = rows_of()
    sweep = sweep_of(figure=FIGURE, epochs="9")
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
    assert numbers["provenance"]["parameters"] == {"epochs": "9", **sweep.varied}


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
    sweep = sweep_of()._replace(varied={"z": [*Z, 30.0]})
    monkeypatch.setattr(Sweep, "folder", tmp_path)
    table_file, json_file = write_results(sweep, rows)
    assert table_file.name == "planted.csv"
    record = json.loads(json_file.read_text())
    assert record["provenance"] == {
        "notebook": "02_single_neuron_csbp",
        "parameters": {"z": [*Z, 30.0]},
        "points": [{"count": 1, **made_with[0]}, {"count": 2, **made_with[1]}],
    }
