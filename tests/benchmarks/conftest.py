"""Condenses pytest-benchmark's JSON to medians, and writes them to results.json and into the README's table."""

import json
import statistics
import sys
from pathlib import Path

import numba

from csbp_core.figures import ROOT, _cpu_model, replace_file

sys.path.insert(0, str(Path(__file__).parents[1]))  # reference.py
RESULTS, README = Path(__file__).with_name("results.json"), ROOT / "README.md"
START, END = "<!-- make bench -->\n", "<!-- end -->\n"


def table(results: dict) -> str:
    """The README's table: neuron-epochs per second, and how many times the first row's."""
    rows = [f"| {results['machine']} | neuron-epochs per second | times |", "|---|---|---|"]
    rates = results["neuron_epochs_per_second"]
    unit = next(iter(rates.values()))
    rows += [f"| {name} | {rate:,.0f} | {rate / unit:,.1f} |" for name, rate in rates.items()]
    return "\n".join(rows) + "\n"


def pytest_benchmark_update_json(config, benchmarks, output_json):
    seconds: dict[str, list[float]] = {}
    work = {}
    for entry in output_json["benchmarks"]:
        info = entry["extra_info"]
        seconds.setdefault(info["name"], []).append(entry["stats"]["median"])
        work[info["name"]] = info["neuron_epochs"]
    machine = f"{_cpu_model()}, 1 torch thread, {numba.get_num_threads()} numba threads"
    rates = {name: work[name] / statistics.median(values) for name, values in seconds.items()}
    results = {"machine": machine, "rounds": len(next(iter(seconds.values()))), "neuron_epochs_per_second": rates}
    replace_file(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
    text = README.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    replace_file(README, (before + START + table(results) + END + after).encode())
