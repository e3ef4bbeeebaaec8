"""Condenses pytest-benchmark's JSON to medians, and writes them to results.json and into the README's tables."""

import ctypes
import json
import platform
import sys
from pathlib import Path
from statistics import median

import numba
import pytest
import torch

from csbp_notebooks.figures import ROOT, _cpu_model, replace_file

sys.path.insert(0, str(Path(__file__).parents[1]))  # reference.py
RESULTS, README = Path(__file__).with_name("results.json"), ROOT / "README.md"


def dynamics(seconds: dict, info: dict) -> dict:
    rates = {name: info[name]["neuron_epochs"] / median(values) for name, values in seconds[""].items()}
    machine = f"{_cpu_model()}, 1 torch thread, {numba.get_num_threads()} numba threads"
    return {"machine": machine, "rounds": len(next(iter(seconds[""].values()))), "neuron_epochs_per_second": rates}


def lif(seconds: dict, info: dict) -> dict:
    names = sorted(info, key=lambda name: info[name]["row"])
    medians = {setting: {name: median(values[name]) for name in names} for setting, values in seconds.items()}
    memory = {name: {key: info[name][key] for key in ("kept", "peak")} for name in names}
    rounds = len(next(iter(next(iter(seconds.values())).values())))
    return {"machine": f"{_cpu_model()}, 2 torch threads", "rounds": rounds, "seconds": medians, "memory": memory}


def csbp(seconds: dict, info: dict) -> dict:
    steps = {}
    for setting, values in seconds.items():
        added = {way: median(b - a for a, b in zip(values["BP"], values[way], strict=True)) for way in ("ours", "authors")}
        steps[setting] = {"rounds": len(values["BP"]), "BP step": median(values["BP"]), "added": added}
    return {"machine": f"{_cpu_model()}, 2 torch threads", "seconds": steps}


def study(seconds: dict, info: dict) -> dict:
    ((setting, values),) = seconds.items()
    medians, rounds = {name: median(values[name]) for name in ("separate", "vectorised")}, len(values["separate"])
    return {"machine": f"{_cpu_model()}, 2 torch threads", "setting": setting, "rounds": rounds, "seconds": medians}


def tables(results: dict) -> dict[str, str]:
    """The README's tables, by the names of their blocks."""
    rates = results["dynamics"]["neuron_epochs_per_second"]
    unit = next(iter(rates.values()))
    speed = {"": ["neuron-epochs per second", "times"]}
    speed |= {name: [f"{rate:,.0f}", f"{rate / unit:,.1f}"] for name, rate in rates.items()}

    times, memory = results["lif"]["seconds"], results["lif"]["memory"]
    first, *others = memory
    layer = {"": [*times, "kept", "peak"], first: [f"{1e3 * of[first]:.3g} ms" for of in times.values()]}
    layer |= {name: [f"{of[name] / of[first]:.2f}" for of in times.values()] for name in others}
    for name, of in memory.items():
        layer[name] += [f"{of['kept']:.2f}", f"{of['peak']:.2f}"]

    step = {"": ["BP step", "`ChaoticLoss` adds", "the authors' way adds", "ratio"]}
    for setting, of in results["csbp"]["seconds"].items():
        ours, theirs = of["added"]["ours"], of["added"]["authors"]
        shares = [f"{added / of['BP step']:.1%}" for added in (ours, theirs)]
        step[setting] = [f"{1e3 * of['BP step']:.3g} ms", *shares, f"{ours / theirs:.2f}"]

    separate, together = (results["study"]["seconds"][name] for name in ("separate", "vectorised"))
    many = {"": ["one by one", "vectorised", "ratio"]}
    many[results["study"]["setting"]] = [f"{1e3 * separate:.3g} ms", f"{1e3 * together:.3g} ms", f"{separate / together:.1f}"]

    out = {}
    for name, rows in (("dynamics", speed), ("lif", layer), ("csbp", step), ("study", many)):
        lines = [f"| {' | '.join([title or results[name]['machine'], *cells])} |" for title, cells in rows.items()]
        out[name] = "\n".join([lines[0], "|" + "---|" * (len(rows[""]) + 1), *lines[1:]]) + "\n"
    return out


def block(text: str, name: str) -> tuple[str, str, str]:
    """What a text has before, in and after the block of a table."""
    mark = "" if name == "dynamics" else f": {name}"
    before, rest = text.split(start := f"<!-- make bench{mark} -->\n")
    inside, after = rest.split(end := f"<!-- end{mark} -->\n")
    return before + start, inside, end + after


@pytest.fixture(scope="module", autouse=True)
def steady():
    torch.compiler.reset()  # torch compiles at most eight variants of a function
    if platform.libc_ver()[0] == "glibc":  # or large freed memory goes back to the system or not by luck, a factor of two
        libc = ctypes.CDLL(None)
        assert libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        assert libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its table has a row for every run


def pytest_benchmark_update_json(config, benchmarks, output_json):
    seconds, info = {}, {}
    for entry in output_json["benchmarks"]:
        name, extra = Path(entry["fullname"].split("::")[0]).stem.removeprefix("bench_"), entry["extra_info"]
        by_setting = seconds.setdefault(name, {}).setdefault(extra.get("setting", ""), {})
        by_setting.setdefault(extra["name"], []).append(entry["stats"]["median"])
        info.setdefault(name, {}).setdefault(extra["name"], {}).update(extra)
    results, text = json.loads(RESULTS.read_text()), README.read_text()
    for name, condense in (("dynamics", dynamics), ("lif", lif), ("csbp", csbp), ("study", study)):
        if name in seconds:
            results[name] = condense(seconds[name], info[name])
    replace_file(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
    for name, table in tables(results).items():
        before, _, after = block(text, name)
        text = before + table + after
        config.get_terminal_writer().write("\n" + table)
    replace_file(README, text.encode())
