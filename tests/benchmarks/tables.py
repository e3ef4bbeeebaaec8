"""From single runs to medians (results.json), and on to Markdown (BENCHMARKS.md, README.md).

A benchmark NAME is a file bench_NAME.py. Here are, for each, what is kept of it, a function that
condenses its runs to that, and a function that makes its table; `BENCHMARKS` lists them.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypedDict

import numba

from csbp_notebooks.files import ROOT
from csbp_notebooks.provenance import cpu_model

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "BENCHMARKS.md"
README = ROOT / "README.md"


class Runs(NamedTuple):
    """All runs of one benchmark."""

    seconds: dict[str, dict[str, list[float]]]  # [setting][way], a number a round
    info: dict[str, dict[str, Any]]  # [way], what the benchmark notes about it


def collect(entries: Iterable[Mapping[str, Any]]) -> dict[str, Runs]:
    """The runs of every benchmark, from the entries of pytest-benchmark's JSON."""
    benchmarks: dict[str, Runs] = {}
    for entry in entries:
        file = Path(entry["fullname"].split("::")[0])
        runs = benchmarks.setdefault(file.stem.removeprefix("bench_"), Runs({}, {}))
        extra = entry["extra_info"]
        way = extra["name"]
        rounds = runs.seconds.setdefault(extra.get("setting", ""), {}).setdefault(way, [])
        rounds.append(entry["stats"]["median"])
        runs.info.setdefault(way, {}).update(extra)
    return benchmarks


def markdown(machine: str, columns: Iterable[str], rows: Mapping[str, Iterable[str]]) -> str:
    """A table with the machine in its corner and a title in front of every row."""
    header = [machine, *columns]
    lines = [_line(header), "|" + "---|" * len(header)]
    lines += [_line([title, *cells]) for title, cells in rows.items()]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# Example 1 for many parameters at once


class MapSpeed(TypedDict):
    """What is kept of bench_dynamics.py."""

    machine: str
    rounds: int
    neuron_epochs_per_second: dict[str, float]  # [way]


def condense_dynamics(runs: Runs) -> MapSpeed:
    """Rates, from the median time and the neuron-epochs of every way."""
    (seconds,) = runs.seconds.values()
    rates = {
        way: runs.info[way]["neuron_epochs"] / median(rounds) for way, rounds in seconds.items()
    }
    return {
        "machine": f"{cpu_model()}, 1 torch thread, {numba.get_num_threads()} numba threads",
        "rounds": _count(seconds),
        "neuron_epochs_per_second": rates,
    }


def dynamics_table(result: MapSpeed) -> str:
    """Rates, and how many times that of the first way they are."""
    rates = result["neuron_epochs_per_second"]
    first = next(iter(rates.values()))
    rows = {way: [f"{rate:,.0f}", f"{rate / first:,.1f}"] for way, rate in rates.items()}
    return markdown(result["machine"], ["neuron-epochs per second", "times"], rows)


# A layer of LIF neurons


class LayerSpeed(TypedDict):
    """What is kept of bench_lif.py."""

    machine: str
    rounds: int
    seconds: dict[str, dict[str, float]]  # [setting][way]
    memory: dict[str, dict[str, float]]  # [way], "kept" and "peak", over the input's


def condense_lif(runs: Runs) -> LayerSpeed:
    """Medians, the ways in the order in which the benchmark lists them."""
    ways = sorted(runs.info, key=lambda way: runs.info[way]["row"])
    seconds = {
        setting: {way: median(rounds[way]) for way in ways}
        for setting, rounds in runs.seconds.items()
    }
    memory = {way: {key: runs.info[way][key] for key in ("kept", "peak")} for way in ways}
    return {
        "machine": f"{cpu_model()}, 2 torch threads",
        "rounds": _count(next(iter(runs.seconds.values()))),
        "seconds": seconds,
        "memory": memory,
    }


def lif_table(result: LayerSpeed) -> str:
    """Milliseconds of the first way, of the others the time over the first one's; and memory."""
    settings = result["seconds"]
    first, *others = result["memory"]
    rows = {first: [f"{1e3 * times[first]:.3g} ms" for times in settings.values()]}
    for way in others:
        rows[way] = [f"{times[way] / times[first]:.2f}" for times in settings.values()]
    for way, memory in result["memory"].items():
        rows[way] += [f"{memory['kept']:.2f}", f"{memory['peak']:.2f}"]
    return markdown(result["machine"], [*settings, "kept", "peak"], rows)


# What CSBP adds to a step of training

StepCost = TypedDict(
    "StepCost",
    {
        "rounds": int,
        "BP step": float,  # seconds
        "added": dict[str, float],  # [way], seconds: "ours" and "authors"
    },
)


class CsbpSpeed(TypedDict):
    """What is kept of bench_csbp.py."""

    machine: str
    seconds: dict[str, StepCost]  # [setting]


def condense_csbp(runs: Runs) -> CsbpSpeed:
    """What a way adds is the median over the rounds of its difference to the plain step."""
    return {
        "machine": f"{cpu_model()}, 2 torch threads",
        "seconds": {setting: _step_cost(rounds) for setting, rounds in runs.seconds.items()},
    }


def _step_cost(rounds: Mapping[str, list[float]]) -> StepCost:
    plain = rounds["BP"]
    added = {
        way: median(longer - shorter for shorter, longer in zip(plain, rounds[way], strict=True))
        for way in ("ours", "authors")
    }
    return {"rounds": len(plain), "BP step": median(plain), "added": added}


def csbp_table(result: CsbpSpeed) -> str:
    """The plain step, what both ways add to it, and the ratio of these."""
    rows = {}
    for setting, cost in result["seconds"].items():
        plain = cost["BP step"]
        ours = cost["added"]["ours"]
        theirs = cost["added"]["authors"]
        rows[setting] = [
            f"{1e3 * plain:.3g} ms",
            f"{ours / plain:.1%}",
            f"{theirs / plain:.1%}",
            f"{ours / theirs:.2f}",
        ]
    columns = ["BP step", "`ChaoticLoss` adds", "the authors' way adds", "ratio"]
    return markdown(result["machine"], columns, rows)


# Many networks of the study


class StudySpeed(TypedDict):
    """What is kept of bench_study.py."""

    machine: str
    setting: str
    rounds: int
    seconds: dict[str, float]  # [way]


def condense_study(runs: Runs) -> StudySpeed:
    """Medians of both ways, in the one setting there is."""
    ((setting, rounds),) = runs.seconds.items()
    return {
        "machine": f"{cpu_model()}, 2 torch threads",
        "setting": setting,
        "rounds": len(rounds["separate"]),
        "seconds": {way: median(rounds[way]) for way in ("separate", "vectorised")},
    }


def study_table(result: StudySpeed) -> str:
    """Both times and their ratio."""
    separate = result["seconds"]["separate"]
    vectorised = result["seconds"]["vectorised"]
    row = [
        f"{1e3 * separate:.3g} ms",
        f"{1e3 * vectorised:.3g} ms",
        f"{separate / vectorised:.1f}",
    ]
    columns = ["one by one", "vectorised", "ratio"]
    return markdown(result["machine"], columns, {result["setting"]: row})


# All of them


class Benchmark(NamedTuple):
    """How the runs of a benchmark become what is kept, and that a table."""

    condense: Callable[[Runs], Any]
    table: Callable[[Any], str]


BENCHMARKS = {
    "dynamics": Benchmark(condense_dynamics, dynamics_table),
    "lif": Benchmark(condense_lif, lif_table),
    "csbp": Benchmark(condense_csbp, csbp_table),
    "study": Benchmark(condense_study, study_table),
}


def condense(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept of the benchmarks that ran, by name, from entries of pytest-benchmark's JSON."""
    return {name: BENCHMARKS[name].condense(runs) for name, runs in collect(entries).items()}


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables of BENCHMARKS.md, by the names of their benchmarks."""
    return {name: benchmark.table(results[name]) for name, benchmark in BENCHMARKS.items()}


def summary(results: Mapping[str, Any]) -> str:
    """The README's line."""
    rates = list(results["dynamics"]["neuron_epochs_per_second"].values())
    faster = round(max(rates) / rates[0], -4)

    memory = results["lif"]["memory"]
    first, *_, ours = memory  # SpikingJelly, ..., our compiled layer
    times = [seconds[ours] / seconds[first] for seconds in results["lif"]["seconds"].values()]
    kept = memory[ours]["kept"] / memory[first]["kept"]

    steps = results["csbp"]["seconds"].values()
    shares = [cost["added"]["ours"] / cost["BP step"] for cost in steps]
    return (
        f"On two threads, Example 1 for many parameters at once runs {faster:,.0f} times as fast as"
        f" the document's way; a layer of `LIF` takes {min(times):.2f} to {max(times):.2f} of"
        f" SpikingJelly's time and keeps {kept:.2f} of its memory for the backward pass;"
        f" `ChaoticLoss` on every layer adds {min(shares):.0%} to {max(shares):.0%} to a step of"
        " training. The tables, and how to repeat them: [BENCHMARKS.md](BENCHMARKS.md).\n"
    )


def replace_block(text: str, name: str, content: str) -> str:
    """The text with `content` between its one pair of marks of that name."""
    start = f"<!-- make bench: {name} -->\n"
    end = f"<!-- end: {name} -->\n"
    before, rest = text.split(start)
    _, after = rest.split(end)
    return before + start + content + end + after


def _count(seconds: Mapping[str, list[float]]) -> int:
    """The number of rounds, the same for every way."""
    return len(next(iter(seconds.values())))
