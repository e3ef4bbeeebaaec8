"""The tables of the benchmarks: made of known runs, and shown as they were measured."""

import json

import pytest
from benchmarks.tables import (
    BENCHMARKS,
    MAKER,
    PAGE,
    README,
    README_SENTENCES,
    RESULTS,
    Runs,
    collect,
    commands_table,
    condense,
    condense_csbp,
    condense_gpu_csbp,
    gpu_csbp_table,
    lif_table,
    loss_table,
    markdown,
    tables,
    training_table,
)

from csbp_notebooks.files import ROOT
from csbp_notebooks.marks import replace_block


def entry(file, seconds, **extra):
    """A run, as in pytest-benchmark's JSON."""
    fullname = f"tests/benchmarks/{file}::test_speed[...]"
    return {"fullname": fullname, "extra_info": extra, "stats": {"median": seconds}}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_shows_what_was_measured(name):
    table = tables(json.loads(RESULTS.read_text()))[name]
    assert replace_block(PAGE.read_text(), MAKER, name, table) == PAGE.read_text()


@pytest.mark.parametrize("name", README_SENTENCES)
def test_readme_shows_what_was_measured(name):
    line = README_SENTENCES[name](json.loads(RESULTS.read_text()))
    assert replace_block(README.read_text(), MAKER, name, line) == README.read_text()


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
    seconds = {
        "BP": [1.0, 9.0, 2.0],
        "ours": [3.0, 10.0, 7.0],
        "measured": [5.0, 12.0, 10.0],
        "authors": [1.0, 9.0, 2.0],
    }
    kept = {"BP": 3.0, "ours": 3.0, "measured": 3.0, "authors": 5.5}
    info = {way: {"kept, net": memory} for way, memory in kept.items()}
    cost = condense_csbp(Runs({"net": seconds}, info))["seconds"]["net"]
    assert cost["BP step"] == 2.0
    assert cost["added"] == {"ours": 2.0, "measured": 4.0, "authors": 0.0}
    assert cost["kept"] == {"ours": 0.0, "authors": 2.5}


def test_an_epoch_is_as_many_batches_and_updates_as_it_has():
    times = {"loading": [1e-3, 3e-3, 2e-3], "BP": [0.1, 0.3, 0.2], "CSBP": [0.12, 0.31, 0.23]}
    entries = [
        entry(
            "bench_training.py",
            seconds,
            name=way,
            setting=setting,
            **{f"updates, {setting}": 50, f"peak, {setting}": 2**29},
        )
        for setting in ("Fashion-MNIST", "some of another")
        for way, rounds in times.items()
        for seconds in rounds
    ]
    result = condense(entries)["training"]
    result["machine"] = "CPU"
    whole, of_another = training_table(result).splitlines()[2:]
    # 50 (2 + 200 + 20) ms
    assert whole == "| Fashion-MNIST | 2 ms | 200 ms | 1.0 % | 10.0 % | 11.1 s | 0.50 GiB |"
    assert of_another == "| some of another | 2 ms | 200 ms | 1.0 % | 10.0 % |  | 0.50 GiB |"


def test_the_commands_have_one_run_each_and_minutes():
    seconds = {"make venv": 90.0, "make figures": 63.0, "make test": 480.0}
    entries = [entry("bench_commands.py", time, name=name) for name, time in seconds.items()]
    result = condense(entries)["commands"]
    rows = commands_table(result).splitlines()[2:]
    assert rows == ["| `make venv` | 1.5 |", "| `make figures` | 1.1 |", "| `make test` | 8.0 |"]
    sentence = " ".join(README_SENTENCES["commands"]({"commands": result}).split())
    assert "`make figures` 1.1, and `make test` 8.0." in sentence


def test_a_layers_share_of_copy_speed_is_of_five_passes_over_its_input():
    memory = {"kept": 1.0, "beyond_input": 0.0, "peak": 2.0}
    entries = [
        entry("bench_lif.py", 8e-3, name="other", setting="small", row=0, **memory),
        entry("bench_lif.py", 1e-3, name="copy", setting="small", row=2),
        entry("bench_lif.py", 4e-3, name="ours", setting="small", row=1, **memory),
    ]
    result = condense(entries)["lif"]
    result["machine"] = "CPU"
    assert lif_table(result).splitlines()[2:] == [
        "| other | 8 ms | 1.00 | 0.00 | 2.00 |",
        "| ours | 0.50 | 1.00 | 0.00 | 2.00 |",
        "| limit: its bytes at copy speed | 0.31 |  |  |  |",
        "| ours: share of that speed | 62 % |  |  |  |",  # 5 passes of 0.5 ms in 4 ms
    ]


def test_the_loss_has_three_passes_for_its_limit_and_its_small_layers_are_shared_out():
    entries = [
        entry("bench_loss.py", 10e-3, name="authors", setting="large", row=0),
        entry("bench_loss.py", 2e-3, name="ours", setting="large", row=1),
        entry("bench_loss.py", 1e-3, name="copy", setting="large", row=3),
        entry("bench_loss.py", 40e-6, name="ours", setting="small", row=1, layers=20),
        entry("bench_loss.py", 60e-6, name="measured", setting="small", row=2, layers=20),
    ]
    result = condense(entries)["loss"]
    result["machine"] = "CPU"
    assert loss_table(result).splitlines()[2:] == [
        "| authors | 10 ms |  |",
        "| ours | 0.20 | 2 µs |",
        "| measured |  | 3 µs |",
        "| limit: its bytes at copy speed | 0.15 |  |",
    ]


@pytest.fixture
def no_gpu(monkeypatch):
    """A name in place of the GPU's: none is needed to make its tables."""
    monkeypatch.setattr("benchmarks.tables.gpu", lambda: "GPU")


@pytest.mark.usefixtures("no_gpu")
def test_on_a_gpu_the_loss_has_the_same_limit_and_no_small_layers():
    entries = [
        entry("bench_gpu_loss.py", 10e-3, name="authors", setting="large", row=0),
        entry("bench_gpu_loss.py", 2e-3, name="ours", setting="large", row=1),
        entry("bench_gpu_loss.py", 1e-3, name="copy", setting="large", row=2),
    ]
    results = condense(entries)
    assert BENCHMARKS["gpu_loss"].table(results["gpu_loss"]).splitlines() == [
        "| GPU | large |",
        "|---|---:|",
        "| authors | 10 ms |",
        "| ours | 0.20 |",
        "| limit: its bytes at copy speed | 0.15 |",
    ]


@pytest.mark.usefixtures("no_gpu")
def test_on_a_gpu_a_step_has_the_most_memory_held_beside_what_is_kept():
    seconds = {"BP": [1.0], "ours": [1.5], "measured": [2.0], "authors": [3.0]}
    memory = {"BP": (3.0, 5.0), "ours": (3.0, 6.0), "measured": (3.0, 6.0), "authors": (5.5, 7.75)}
    info = {way: {"kept, net": kept, "peak, net": peak} for way, (kept, peak) in memory.items()}
    result = condense_gpu_csbp(Runs({"net": seconds}, info))
    assert gpu_csbp_table(result).splitlines()[2:] == [
        "| net | 1e+03 ms | 50.0 % | 200.0 % | 0.25 | 2.00 | 0.00 | 2.50 | 1.00 | 2.75 |"
    ]


def test_a_table_is_markdown_with_its_numbers_on_the_right():
    assert markdown("CPU", ["a", "b"], {"8 x": ["1 ms", "fast"], "9 y": ["", "2"]}) == (
        "| CPU | a | b |\n|---|---:|---|\n| 8 x | 1 ms | fast |\n| 9 y |  | 2 |\n"
    )
