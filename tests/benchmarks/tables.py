"""From single runs to medians (results.json), and on to Markdown (BENCHMARKS.md, README.md).

A benchmark NAME is a file bench_NAME.py. Here are, for each, what is kept of it, a function that
condenses its runs to that, and a function that makes its table; `BENCHMARKS` lists them.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypedDict

import numba
import torch

from csbp_notebooks.files import ROOT
from csbp_notebooks.marks import in_lines
from csbp_notebooks.provenance import cpu_model
from csbp_notebooks.signs import with_minus
from csbp_notebooks.tables import sides

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "BENCHMARKS.md"
README = ROOT / "README.md"
MAKER = "make bench"

Rows = dict[str, list[str]]  # [title], the cells


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


def markdown(machine: str, columns: Iterable[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table with the machine in its corner and a title in front of every row.

    Columns of numbers are aligned on the right.
    """
    marks = [MARKS[side] for side in ("left", *sides(list(rows.values())))]
    lines = [_line([machine, *columns]), f"|{'|'.join(marks)}|"]
    lines += [_line([title, *cells]) for title, cells in rows.items()]
    return "\n".join(lines) + "\n"


MARKS = {"left": "---", "right": "---:"}


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

COPY = "copy"  # the way that copies a tensor: it reads it once and writes it once
LIF_PASSES = 5  # forward reads currents, writes spikes; backward reads two tensors, writes one
MEMORY = ("kept", "beyond_input", "peak")


class LayerSpeed(TypedDict):
    """What is kept of bench_lif.py."""

    machine: str
    rounds: int
    seconds: dict[str, dict[str, float]]  # [setting][way], the last one a copy of the input
    memory: dict[str, dict[str, float]]  # [way], the numbers of MEMORY, over the input's


def condense_lif(runs: Runs) -> LayerSpeed:
    """Medians, the ways in the order in which the benchmark lists them."""
    ways = _in_order(runs)
    layers = [way for way in ways if way != COPY]
    return {
        "machine": f"{cpu_model()}, 2 torch threads",
        "rounds": _count(next(iter(runs.seconds.values()))),
        "seconds": _medians(runs.seconds, ways),
        "memory": {way: {key: runs.info[way][key] for key in MEMORY} for way in layers},
    }


def lif_table(result: LayerSpeed) -> str:
    """Milliseconds of the first way, of the others the time over the first one's; and memory.

    The last rows are the limit, and what share of its speed the fastest layer has.
    """
    settings = result["seconds"]
    first, *others, fastest = result["memory"]
    rows = {first: [_milliseconds(times[first]) for times in settings.values()]}
    for way in (*others, fastest):
        rows[way] = [f"{times[way] / times[first]:.2f}" for times in settings.values()]
    for way, memory in result["memory"].items():
        rows[way] += [f"{memory[key]:.2f}" for key in MEMORY]
    no_memory = [""] * len(MEMORY)
    limits = {setting: _limit(times, LIF_PASSES) for setting, times in settings.items()}
    rows["limit: its bytes at copy speed"] = [
        *(f"{limits[setting] / times[first]:.2f}" for setting, times in settings.items()),
        *no_memory,
    ]
    rows[f"{fastest}: share of that speed"] = [
        *(_per_cent(limits[setting] / times[fastest]) for setting, times in settings.items()),
        *no_memory,
    ]
    return markdown(result["machine"], [*settings, "kept", "beyond its input", "peak"], rows)


# The chaotic loss of a layer

LOSS_PASSES = 3  # forward reads h; backward reads it again and writes a gradient
SMALL = "small"  # the setting of many small layers


class LossSpeed(TypedDict):
    """What is kept of bench_loss.py."""

    machine: str
    rounds: int
    seconds: dict[str, dict[str, float]]  # [setting][way], the last one a copy of the layer
    seconds_per_small_layer: dict[str, float]  # [way]


def condense_loss(runs: Runs) -> LossSpeed:
    """Medians, the ways in the order in which the benchmark lists them."""
    seconds = _medians(runs.seconds, _in_order(runs))
    small = seconds.pop(SMALL)
    return {
        "machine": cpu_model(),
        "rounds": _count(next(iter(runs.seconds.values()))),
        "seconds": seconds,
        "seconds_per_small_layer": {way: small[way] / runs.info[way]["layers"] for way in small},
    }


def loss_table(result: LossSpeed) -> str:
    """Milliseconds of the first way, of the others the time over the first one's; and the limit.

    Of a small layer microseconds, where the way was timed there, too.
    """
    settings = result["seconds"]
    small = result["seconds_per_small_layer"]
    rows, limit = _loss_rows(settings)
    for way in small:
        rows.setdefault(way, [""] * len(settings))
    rows |= limit
    small_cells = {way: f"{1e6 * seconds:.3g} µs" for way, seconds in small.items()}
    for way, cells in rows.items():
        cells.append(small_cells.get(way, ""))
    return markdown(result["machine"], [*settings, "a small layer, 1 thread"], rows)


def _loss_rows(settings: Mapping[str, Mapping[str, float]]) -> tuple[Rows, Rows]:
    """The rows of the ways, and that of the limit."""
    first, *others, _ = next(iter(settings.values()))  # the last is the copy
    rows = {first: [_milliseconds(times[first]) for times in settings.values()]}
    for way in others:
        rows[way] = [f"{times[way] / times[first]:.2f}" for times in settings.values()]
    limits = [f"{_limit(times, LOSS_PASSES) / times[first]:.2f}" for times in settings.values()]
    return rows, {"limit: its bytes at copy speed": limits}


# What CSBP adds to a step of training

StepCost = TypedDict(
    "StepCost",
    {
        "rounds": int,
        "BP step": float,  # seconds
        "added": dict[str, float],  # [way], seconds: "ours", "measured" and "authors"
        "kept": dict[str, float],  # [way], memory that it adds, over that of what is read
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
        "seconds": {
            setting: _step_cost(rounds, _beyond_bp(runs, "kept", setting))
            for setting, rounds in runs.seconds.items()
        },
    }


def _beyond_bp(runs: Runs, what: str, setting: str) -> dict[str, float]:
    """How much more memory of one kind, "kept" or "peak", a way takes."""
    taken = {way: runs.info[way][f"{what}, {setting}"] for way in ("BP", "ours", "authors")}
    plain = taken.pop("BP")
    return {way: memory - plain for way, memory in taken.items()}


def _step_cost(rounds: Mapping[str, list[float]], kept: dict[str, float]) -> StepCost:
    plain = rounds["BP"]
    added = {
        way: median(longer - shorter for shorter, longer in zip(plain, rounds[way], strict=True))
        for way in ("ours", "measured", "authors")
    }
    return {"rounds": len(plain), "BP step": median(plain), "added": added, "kept": kept}


def csbp_table(result: CsbpSpeed) -> str:
    """The plain step, what both ways add to it, the ratio of these; memory that they add."""
    rows = {setting: _step_cells(cost) for setting, cost in result["seconds"].items()}
    return markdown(result["machine"], STEP_COLUMNS, rows)


STEP_COLUMNS = [
    "BP step",
    "`ChaoticLoss` adds",
    "the authors' way adds",
    "ratio",
    "a measured call",
    "kept more by `ChaoticLoss`",
    "by the authors' way",
]


def _step_cells(cost: StepCost) -> list[str]:
    """What `STEP_COLUMNS` name."""
    plain = cost["BP step"]
    ours = cost["added"]["ours"]
    theirs = cost["added"]["authors"]
    return [
        _milliseconds(plain),
        _per_cent(ours / plain, places=1),
        _per_cent(theirs / plain, places=1),
        f"{ours / theirs:.2f}",
        f"{cost['added']['measured'] / ours:.2f}",
        *_two_memories(cost["kept"]),
    ]


def _two_memories(memory: Mapping[str, float]) -> list[str]:
    return [f"{memory[way]:.2f}" for way in ("ours", "authors")]


# Many networks of the study


class StudySpeed(TypedDict):
    """What is kept of bench_study.py."""

    machine: str
    rounds: int
    seconds: dict[str, dict[str, float]]  # [setting][way]


def condense_study(runs: Runs) -> StudySpeed:
    """Medians of both ways in every setting."""
    seconds = {
        setting: {way: median(rounds[way]) for way in ("separate", "vectorised")}
        for setting, rounds in runs.seconds.items()
    }
    return {
        "machine": f"{cpu_model()}, 2 torch threads",
        "rounds": _count(next(iter(runs.seconds.values()))),
        "seconds": seconds,
    }


def study_table(result: StudySpeed) -> str:
    """Both times and their ratio."""
    rows = {}
    for setting, times in result["seconds"].items():
        separate = times["separate"]
        vectorised = times["vectorised"]
        rows[setting] = [
            f"{1e3 * separate:.3g} ms",
            f"{1e3 * vectorised:.3g} ms",
            f"{separate / vectorised:.1f}",
        ]
    columns = ["one by one", "vectorised", "ratio"]
    return markdown(result["machine"], columns, rows)


# A plane of parameters


class SweepSpeed(TypedDict):
    """What is kept of bench_sweep.py."""

    machine: str
    rounds: int
    seconds: dict[str, float]  # [way]


def condense_sweep(runs: Runs) -> SweepSpeed:
    """Medians of both ways."""
    (rounds,) = runs.seconds.values()
    return {
        "machine": cpu_model(),
        "rounds": _count(rounds),
        "seconds": {way: median(rounds[way]) for way in ("one call", "one point")},
    }


def sweep_table(result: SweepSpeed) -> str:
    """All points in one call, and one of them as a sweep runs it."""
    seconds = result["seconds"]
    rows = {
        "400 points in one call of `train_single_neuron`": [f"{seconds['one call']:.1f} s"],
        "one of them through `csbp-run`, as in a sweep": [f"{seconds['one point']:.1f} s"],
    }
    return markdown(result["machine"], ["time"], rows)


def sweep_sentence(results: Mapping[str, Any]) -> str:
    """README's, below the call."""
    seconds = results["sweep"]["seconds"]
    return in_lines(
        f"It takes {seconds['one call']:.0f} s for all of them ({results['sweep']['machine']}); a "
        f"sweep starts a process and a notebook for each, {seconds['one point']:.0f} s a point."
    )


# The commands of README


class CommandTimes(TypedDict):
    """What is kept of bench_commands.py."""

    machine: str
    cores: int
    seconds: dict[str, float]  # [command]


def condense_commands(runs: Runs) -> CommandTimes:
    """The only time of every command."""
    (rounds,) = runs.seconds.values()
    return {
        "machine": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {command: time for command, (time,) in rounds.items()},
    }


def commands_table(result: CommandTimes) -> str:
    """Minutes of every command, one after the other."""
    rows = {f"`{name}`": [_minutes(time)] for name, time in result["seconds"].items()}
    return markdown(f"{result['machine']}, {result['cores']} cores", ["minutes"], rows)


def commands_sentence(results: Mapping[str, Any]) -> str:
    """README's, below the two commands."""
    result = results["commands"]
    minutes = {command: _minutes(seconds) for command, seconds in result["seconds"].items()}
    return in_lines(
        f"In a fresh clone on {result['cores']} cores ({result['machine']}) the install took "
        f"{minutes['make venv']} minutes, `make figures` {minutes['make figures']}, and "
        f"`make test` {minutes['make test']}."
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


# The training script

UpdateCost = TypedDict(
    "UpdateCost",
    {
        "rounds": int,
        "updates": int,  # of an epoch
        "loading": float,  # seconds, of a batch
        "BP update": float,  # seconds
        "added": float,  # seconds, by CSBP
        "peak": int,  # bytes, the most that a process held, libraries and data with it
    },
)


class TrainingSpeed(TypedDict):
    """What is kept of bench_training.py."""

    machine: str
    seconds: dict[str, UpdateCost]  # [setting]


def condense_training(runs: Runs) -> TrainingSpeed:
    """What CSBP adds is the median over the rounds of its difference to the update by BP."""
    costs: dict[str, UpdateCost] = {}
    for setting, rounds in runs.seconds.items():
        pairs = zip(rounds["BP"], rounds["CSBP"], strict=True)
        costs[setting] = {
            "rounds": len(rounds["BP"]),
            "updates": runs.info["BP"][f"updates, {setting}"],
            "loading": median(rounds["loading"]),
            "BP update": median(rounds["BP"]),
            "added": median(longer - shorter for shorter, longer in pairs),
            "peak": max(info[f"peak, {setting}"] for info in runs.info.values()),
        }
    return {"machine": f"{cpu_model()}, 1 torch thread per process", "seconds": costs}


def training_table(result: TrainingSpeed) -> str:
    """A batch and an update, and the epoch that they add up to where the data set is whole."""
    columns = [
        "loading a batch",
        "BP update",
        "loading / update",
        "CSBP adds",
        "an epoch by CSBP",
        "peak memory",
    ]
    rows = {}
    for setting, cost in result["seconds"].items():
        loading = cost["loading"]
        plain = cost["BP update"]
        epoch = cost["updates"] * (loading + plain + cost["added"])
        is_whole = setting.startswith(WHOLE)
        rows[setting] = [
            _milliseconds(loading),
            f"{plain:.3g} s" if plain >= 1 else _milliseconds(plain),
            _per_cent(loading / plain, places=1),
            _per_cent(cost["added"] / plain, places=1),
            f"{epoch:.3g} s" if is_whole else "",
            f"{cost['peak'] / 2**30:.2f} GiB",
        ]
    return markdown(result["machine"], columns, rows)


WHOLE = "Fashion-MNIST"  # whose benchmark has as many images as the data set


# On a GPU: the layer of neurons, the loss of a layer, a step of training


class GpuLossSpeed(TypedDict):
    """What is kept of bench_gpu_loss.py."""

    machine: str
    rounds: int
    seconds: dict[str, dict[str, float]]  # [setting][way], the last one a copy of the layer


class GpuCsbpSpeed(CsbpSpeed):
    """What is kept of bench_gpu_csbp.py."""

    peak: dict[str, dict[str, float]]  # [setting][way], as `kept` of `StepCost`, of the most held


def gpu() -> str:
    """The machine of these benchmarks. There torch may be another than that of all others."""
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def condense_gpu_lif(runs: Runs) -> LayerSpeed:
    """As on a processor."""
    return {**condense_lif(runs), "machine": gpu()}


def condense_gpu_loss(runs: Runs) -> GpuLossSpeed:
    """Medians, the ways in the order in which the benchmark lists them."""
    return {
        "machine": gpu(),
        "rounds": _count(next(iter(runs.seconds.values()))),
        "seconds": _medians(runs.seconds, _in_order(runs)),
    }


def gpu_loss_table(result: GpuLossSpeed) -> str:
    """As on a processor, without small layers."""
    rows, limit = _loss_rows(result["seconds"])
    return markdown(result["machine"], result["seconds"], rows | limit)


def condense_gpu_csbp(runs: Runs) -> GpuCsbpSpeed:
    """As on a processor, and the most memory held."""
    peak = {setting: _beyond_bp(runs, "peak", setting) for setting in runs.seconds}
    return {**condense_csbp(runs), "machine": gpu(), "peak": peak}


def gpu_csbp_table(result: GpuCsbpSpeed) -> str:
    """As on a processor, and the most memory held."""
    rows = {
        setting: [*_step_cells(cost), *_two_memories(result["peak"][setting])]
        for setting, cost in result["seconds"].items()
    }
    columns = [*STEP_COLUMNS, "peak more by `ChaoticLoss`", "by the authors' way"]
    return markdown(result["machine"], columns, rows)


# All of them


class Benchmark(NamedTuple):
    """How the runs of a benchmark become what is kept, and that a table."""

    condense: Callable[[Runs], Any]
    table: Callable[[Any], str]


BENCHMARKS = {
    "dynamics": Benchmark(condense_dynamics, dynamics_table),
    "lif": Benchmark(condense_lif, lif_table),
    "loss": Benchmark(condense_loss, loss_table),
    "csbp": Benchmark(condense_csbp, csbp_table),
    "study": Benchmark(condense_study, study_table),
    "sweep": Benchmark(condense_sweep, sweep_table),
    "commands": Benchmark(condense_commands, commands_table),
    "training": Benchmark(condense_training, training_table),
    "gpu_lif": Benchmark(condense_gpu_lif, lif_table),
    "gpu_loss": Benchmark(condense_gpu_loss, gpu_loss_table),
    "gpu_csbp": Benchmark(condense_gpu_csbp, gpu_csbp_table),
}


def condense(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept of the benchmarks that ran, by name, from entries of pytest-benchmark's JSON."""
    return {name: BENCHMARKS[name].condense(runs) for name, runs in collect(entries).items()}


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables of BENCHMARKS.md, by the names of their benchmarks."""
    return {name: benchmark.table(results[name]) for name, benchmark in BENCHMARKS.items()}


def summary(results: Mapping[str, Any]) -> str:
    """The README's lines: what CSBP costs first, then the layer, then the map."""
    on_cpu = _range_of_added(results["csbp"])
    on_gpu = _range_of_added(results["gpu_csbp"])
    gpu = results["gpu_csbp"]["machine"]

    memory = results["lif"]["memory"]
    first, *_, ours = memory  # SpikingJelly, ..., our compiled layer
    times = [seconds[ours] / seconds[first] for seconds in results["lif"]["seconds"].values()]
    kept = memory[ours]["kept"] / memory[first]["kept"]

    rates = results["dynamics"]["neuron_epochs_per_second"]
    document = next(iter(rates.values()))
    fastest = max(rate for way, rate in rates.items() if way.startswith("map"))
    faster = round(fastest / document, -4)
    line = (
        f"`ChaoticLoss` on every layer adds {on_cpu} to a step of training on a CPU, and "
        f"{on_gpu} on a GPU ({gpu}). On a CPU a compiled layer of `LIF` takes"
        f" {min(times):.2f} to {max(times):.2f} of SpikingJelly's time and keeps {kept:.2f} of its"
        f" memory for the backward pass; on the GPU {_over_kernels(results['gpu_lif'])} of the time"
        f" of SpikingJelly's own kernels there. The compiled map of Example 1, many neurons on two"
        f" threads, runs {faster:,.0f} times as many epochs of a neuron a second as the document's"
        f" way, one neuron on one thread. The tables, and how to repeat them:"
        f" [BENCHMARKS.md](BENCHMARKS.md)."
    )
    return in_lines(line)


KERNELS = ("triton", "cuda")  # SpikingJelly's backends beside torch


def _over_kernels(result: Mapping[str, Any]) -> str:
    """Our compiled layer's time over that of SpikingJelly's kernels, from the least to the most."""
    ratios = [
        times["ours, `compiled`"] / time
        for times in result["seconds"].values()
        for way, time in times.items()
        if way.endswith(KERNELS)
    ]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _range_of_added(result: Mapping[str, Any]) -> str:
    """By how much `ChaoticLoss` lengthens a step, from the least to the most, over all networks."""
    shares = [cost["added"]["ours"] / cost["BP step"] for cost in result["seconds"].values()]
    return f"{_per_cent(min(shares))} to {_per_cent(max(shares))}"


README_SENTENCES = {
    "summary": summary,
    "sweep": sweep_sentence,
    "commands": commands_sentence,
}


def _count(seconds: Mapping[str, list[float]]) -> int:
    """The number of rounds, the same for every way."""
    return len(next(iter(seconds.values())))


def _in_order(runs: Runs) -> list[str]:
    """The ways in the order in which the benchmark lists them."""
    return sorted(runs.info, key=lambda way: runs.info[way]["row"])


def _medians(
    seconds: Mapping[str, Mapping[str, list[float]]],
    ways: Iterable[str],
) -> dict[str, dict[str, float]]:
    """Of every setting, the ways in this order."""
    return {
        setting: {way: median(rounds[way]) for way in ways if way in rounds}
        for setting, rounds in seconds.items()
    }


def _limit(times: Mapping[str, float], passes: int) -> float:
    """Seconds that so many passes over the tensor take at the speed of a copy, which is two."""
    return times[COPY] * passes / 2


def _per_cent(share: float, places: int = 0) -> str:
    return with_minus(f"{100 * share:.{places}f} %")


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
