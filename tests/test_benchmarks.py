"""The tables of the benchmarks: made of known runs, and shown as they were measured."""

import json

import pytest
from benchmarks.tables import (
    BENCHMARKS,
    PAGE,
    README,
    RESULTS,
    Runs,
    collect,
    condense,
    condense_csbp,
    markdown,
    replace_block,
    summary,
    tables,
)

from csbp_notebooks.files import ROOT


def entry(file, seconds, **extra):
    """A run, as in pytest-benchmark's JSON."""
    fullname = f"tests/benchmarks/{file}::test_speed[...]"
    return {"fullname": fullname, "extra_info": extra, "stats": {"median": seconds}}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_shows_what_was_measured(name):
    table = tables(json.loads(RESULTS.read_text()))[name]
    assert replace_block(PAGE.read_text(), name, table) == PAGE.read_text()


def test_readme_shows_what_was_measured():
    line = summary(json.loads(RESULTS.read_text()))
    assert replace_block(README.read_text(), "summary", line) == README.read_text()


def test_every_benchmark_has_a_file_and_every_file_a_table():
    files = (ROOT / "tests" / "benchmarks").glob("bench_*.py")
    assert {file.stem.removeprefix("bench_") for file in files} == set(BENCHMARKS)


def test_runs_are_collected_by_benchmark_setting_and_way():
    entries = [
        entry("bench_lif.py", 1.0, name="ours", setting="small", row=1),
        entry("bench_lif.py", 2.0, name="ours", setting="large", row=1),
        entry("bench_lif.py", 3.0, name="ours", setting="small", row=1, kept=4.0),
        entry("bench_dynamics.py", 5.0, name="map"),
    ]
    runs = collect(entries)
    assert runs["lif"].seconds == {"small": {"ours": [1.0, 3.0]}, "large": {"ours": [2.0]}}
    assert runs["lif"].info["ours"]["kept"] == 4.0
    assert runs["dynamics"].seconds == {"": {"map": [5.0]}}


def test_only_the_benchmarks_that_ran_are_condensed():
    entries = [entry("bench_dynamics.py", s, name="map", neuron_epochs=100) for s in (1, 2, 4)]
    results = condense(entries)
    assert set(results) == {"dynamics"}
    assert results["dynamics"]["rounds"] == 3
    assert results["dynamics"]["neuron_epochs_per_second"] == {"map": 50.0}


def test_what_a_way_adds_is_the_median_of_differences_not_the_difference_of_medians():
    seconds = {"BP": [1.0, 9.0, 2.0], "ours": [3.0, 10.0, 7.0], "authors": [1.0, 9.0, 2.0]}
    result = condense_csbp(Runs({"net": seconds}, {}))
    assert result["seconds"]["net"]["BP step"] == 2.0
    assert result["seconds"]["net"]["added"] == {"ours": 2.0, "authors": 0.0}


def test_a_table_is_markdown():
    assert markdown("CPU", ["a", "b"], {"x": ["1", "2"]}) == (
        "| CPU | a | b |\n|---|---|---|\n| x | 1 | 2 |\n"
    )


def test_a_block_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="unpack"):
        replace_block("no marks", "lif", "table")
