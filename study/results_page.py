"""The page on which the results of the second study are read, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from .all_contrasts import (
    BEST_BP,
    CANNOT_BE_INTEGRATED,
    HALVED,
    NOT_ACCURACY,
    Findings,
    Floor,
    Label,
    Row,
    chaos_helps,
)
from .arms import BASELINE
from .experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from .experiment_3 import TIMES
from .protocol import MARGINS, digest
from .second_cells import STARTS, substeps_path
from .tasks import TASKS
from .train import SCHEDULES

UNFINISHED = "unfinished"

NOT_OF_NOISE = ("accuracy", *NOT_ACCURACY)  # measures without noise

BELOW = "~"  # after an estimate below the noise floor

# The primary contrast of every experiment: its tasks, its sides, and what those expect who believe
# in chaos (in CSBP, for experiment 2), with our own hypothesis.
PRIMARY = {
    "1": (ONE_LAYER_TASKS, "csbp - inner flow", "> 0 (ours: equivalent or < 0)"),
    "2": (tuple(TASKS), "csbp - best bp, start from data", "> 0 (ours: equivalent)"),
    "3": (tuple(TASKS), "membrane - quadratic pull on it", "> 0 (ours: equivalent)"),
}

INTRODUCTION = """\
# Results of the second study

Written by `study.second_results` from the cells in `study/results/`; what is compared and how is
fixed in [PROTOCOL.md](PROTOCOL.md). All numbers, and those not shown here, are in
`study/contrasts.json`.

All differences are in points (per cent of the test samples; for xor, of the networks), unless a
table says otherwise. Square brackets hold 95 % intervals over the eight splits, not corrected.
`~` marks an estimate that is not above the noise floor of its task. Only the primary contrasts
have verdicts; of the others none is a finding.
"""

GRID = """\
A table per task, rest point (inside the surrogate's support, or as published) and annealing (in
how many of how many twentieths of the task's epochs z falls; *held*: over the second half). Below
z0 / z_c = 1 nothing is unstable: there csbp - inner flow is the weaker pull of the flow, and no
chaos. Where inner flow - bp at some ratio is as large as csbp - bp, what csbp gains is strength.
"""

SUBSTEPS = """\
A number of sub-steps is enough where twice as many change nothing that can be seen. Spikes are per
neuron and hundred time steps, of the form as it is and by sub-steps.
"""

ROBUSTNESS = """\
Differences under noise, and (*- none*) those minus the differences without noise: only the second
are robustness.
"""


def page(found: Findings) -> str:
    """The whole page."""
    sections = [
        INTRODUCTION,
        _cells(found),
        _primary(found),
        _beside(found),
        _noise_floor(found),
        _experiment_1(found),
        _experiment_2(found),
        _experiment_3(found),
        _robustness(found),
        _choices(found),
        _missing(found),
    ]
    return "\n".join(sections)


# Numbers


def decimals(row: Row) -> int:
    """How many a number of this row is shown with: a tenth of the task's margin, or finer.

    Shares of neurons and epochs have one.
    """
    if row.label.measure in NOT_ACCURACY:
        return 1
    return task_decimals(row.label.task)


def task_decimals(task: str) -> int:
    """The same for the accuracies of a task.

    Example:
        >>> task_decimals("digits_1"), task_decimals("xor")
        (2, 1)
    """
    return 2 if MARGINS[task] < 1 else 1


def interval(low: float, high: float, places: int) -> str:
    """An interval in square brackets.

    Example:
        >>> interval(-0.004, 1.5, 2)
        '[0.00, 1.50]'
    """
    return f"[{low:z.{places}f}, {high:z.{places}f}]"  # z: no minus before zero


def estimate(row: Row) -> str:
    """An estimate with its sign, and a mark if it is below the noise floor."""
    mark = f" {BELOW}" if row.below_floor else ""
    return f"{row.found.estimate:+z.{decimals(row)}f}{mark}"


def with_interval(row: Row) -> str:
    """An estimate and its 95 % interval."""
    return f"{estimate(row)} {interval(row.found.low, row.found.high, decimals(row))}"


# Tables


def table(rows: Iterable[Sequence[str]], columns: Sequence[str]) -> str:
    """A table, each entry as it is, and an empty line."""
    return tabulate(list(rows), columns, "pipe", disable_numparse=True) + "\n"


def pivot(
    rows: Iterable[Row],
    corner: str,
    down: Callable[[Row], str],
    across: Callable[[Row], str],
) -> str:
    """A table of contrasts, each with its interval; empty text if there are none.

    Args:
        rows: the contrasts, not two for the same place.
        corner: what the names of the lines are.
        down: names the line of a row; lines and columns are in the order of their first rows.
        across: names its column.
    """
    lines: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}  # a set with an order
    for row in rows:
        columns[across(row)] = None
        lines.setdefault(down(row), {})[across(row)] = with_interval(row)
    if not lines:
        return ""
    texts = [[name, *(line.get(column, "") for column in columns)] for name, line in lines.items()]
    return table(texts, [corner, *columns])


def between(row: Row) -> str:
    """The two sides of a contrast."""
    return f"{row.label.first} - {row.label.second}"


def less_bp(row: Row) -> str:
    """The same in experiment 2, where bp is the best BP."""
    second = "best bp" if row.label.second == BASELINE else row.label.second
    return f"{row.label.first} - {second}"


def task_of(row: Row) -> str:
    """The task of a contrast."""
    return row.label.task


def titled(title: str, *texts: str) -> str:
    """A heading and what stands below it; that nothing does, if all is empty."""
    present = [text for text in texts if text] or [f"{UNFINISHED.capitalize()}.\n"]
    return "\n".join([f"{title}\n", *present])


# Sections


def _cells(found: Findings) -> str:
    """Which cells there are, and by which protocol they were made."""
    present = sum(len(paths) for paths in found.protocols.values())
    lines = [f"{present} cells are there, {len(found.missing)} are missing."]
    others = {text: paths for text, paths in found.protocols.items() if text != digest()}
    if not others:
        lines.append("All were made under the protocol as it is now.")
    for text, paths in others.items():
        cells = f"{len(paths)}: {', '.join(paths)}"
        lines.append(f"Under another text of the protocol (SHA-256 {text[:12]}), {cells}.")
    commits = [f"{commit[:12]} ({len(paths)} cells)" for commit, paths in found.commits.items()]
    if commits:
        lines.append(f"Commit of the code: {', '.join(commits)}.")
    return "\n\n".join(lines) + "\n"


def _primary(found: Findings) -> str:
    """The primary contrasts, also those that are not finished, and what follows on chaos."""
    rows = {(row.label.experiment, row.label.task): row for row in found.primary}
    lines = []
    for experiment, (tasks, sides, expected) in PRIMARY.items():
        for task in tasks:
            row = rows.get((experiment, task))
            numbers = [""] * 4 if row is None else _numbers_of_primary(row, found)
            verdict = UNFINISHED if row is None else f"**{row.verdict}**"
            lines.append([experiment, task, sides, expected, *numbers, verdict])
    columns = [
        "experiment",
        "task",
        "contrast",
        "believers expect",
        "estimate and 95 % interval",
        "margin",
        "smallest found with 80 % power",
        "noise floor",
        "verdict",
    ]
    return titled("## Primary contrasts", table(lines, columns), _on_chaos(found))


def _numbers_of_primary(row: Row, found: Findings) -> list[str]:
    """Estimate, margin, smallest difference and noise floor."""
    places = decimals(row)
    floor = found.floors.get(row.label.task)
    return [
        with_interval(row),
        f"{row.margin:g}",
        f"{row.found.smallest:.{places}f}",
        "" if floor is None else _height(floor),
    ]


def _beside(found: Findings) -> str:
    """What the protocol sets beside the primary contrasts, without a verdict."""
    secondary = {row.label: row for row in found.secondary}
    lines = []
    for primary in found.primary:
        for label in labels_beside(primary.label):
            row = secondary.get(label)
            if row is not None:
                where = ", ".join(part for part in (label.condition, label.point) if part)
                sides = less_bp(row) if label.experiment == "2" else between(row)
                names = [label.experiment, label.task, sides, where, label.measure]
                lines.append([*names, with_interval(row)])
    columns = ["experiment", "task", "contrast", "condition", "measure", "estimate and interval"]
    text = table(lines, columns) if lines else ""
    return titled("## Beside the primary contrasts", text)


def labels_beside(label: Label) -> list[Label]:
    """The contrasts that the protocol sets beside a primary one.

    Those are the epochs to the solution, where they were compared; in experiment 1 the published
    rest point and both kinds of BP; in experiment 2 BP at the learning rate of csbp.
    """
    epochs = label._replace(measure="epochs")
    if label.experiment == "1":
        over_bp = [label._replace(second=bp) for bp in (BASELINE, BEST_BP)]
        return [label._replace(condition="published, 20/20"), *over_bp, epochs]
    if label.experiment == "2":
        return [label._replace(second="bp_at_csbp_lr"), epochs]
    return [epochs]


def _on_chaos(found: Findings) -> str:
    """Where chaos helps."""
    helps = chaos_helps(found)
    if not helps:
        return ""
    names = [task for task, is_so in helps.items() if is_so]
    where = ", ".join(names) if names else "no task"
    return (
        f"Chaos helps in {where}, of {', '.join(helps)}. It does where csbp - inner flow *helps*, "
        "and csbp is above BP of the same length and above the best BP, with intervals that leave "
        "out zero; above the first alone, overshoot speeds training up.\n"
    )


def _height(floor: Floor) -> str:
    """The noise floor itself."""
    return "none" if floor.height is None else f"{floor.height:.{task_decimals(floor.task)}f}"


def _noise_floor(found: Findings) -> str:
    """What another order of summation does to csbp."""
    lines = []
    for task, floor in found.floors.items():
        places = task_decimals(task)
        mean = f"{floor.found.estimate:+z.{places}f}"
        ends = interval(floor.found.low, floor.found.high, places)
        lines.append([task, f"{mean} {ends}", f"{floor.spread:.{places}f}", _height(floor)])
    columns = ["task", "mean", "standard deviation per network", "floor"]
    text = table(lines, columns) if lines else ""
    return titled("## Noise floor: csbp summed in another order, less csbp", text)


def _chance(rows: Sequence[Row]) -> str:
    """How many intervals leave out zero, and how many would by chance."""
    if not rows:
        return ""
    away = sum(row.found.low > 0 or row.found.high < 0 for row in rows)
    return (
        f"Of the {len(rows)} intervals below, which are not corrected for their number, {away} "
        f"leave out zero; without any effect about {len(rows) / 20:.0f} would.\n"
    )


def _of(found: Findings, experiment: str, *measures: str) -> list[Row]:
    """The secondary contrasts of an experiment in these measures."""
    return [
        row
        for row in found.secondary
        if row.label.experiment == experiment and row.label.measure in measures
    ]


def _experiment_1(found: Findings) -> str:
    """The grid, a table per task, rest and annealing; then epochs, and the steps of the flow."""
    rows = _of(found, "1", "accuracy")
    grid = [row for row in rows if not is_of_halved_steps(row)]
    texts = []
    places = dict.fromkeys((row.label.task, row.label.condition) for row in grid)
    for task, condition in places:
        here = [row for row in grid if (row.label.task, row.label.condition) == (task, condition)]
        tabled = pivot(here, "z0 / z_c", lambda row: row.label.point, between)
        texts.append(titled(f"### {task}, {condition}", tabled))
    epochs = pivot(
        _of(found, "1", "epochs"),
        "condition",
        lambda row: f"{row.label.condition}, {row.label.point}",
        between,
    )
    if epochs:
        texts.append(titled("### xor: epochs to the solution, where both solve 95 %", epochs))
    halved = [row for row in rows if is_of_halved_steps(row)]
    changes = pivot(halved, "task", task_of, lambda row: row.label.second)
    title = "### What halving the steps of the flow changes"
    texts.append(titled(title, _on_halved_steps(halved), changes))
    return titled("## Experiment 1: overshoot", GRID, _chance(grid), *texts)


def _on_halved_steps(rows: Sequence[Row]) -> str:
    """Where the flow is not accurate enough."""
    if not rows:
        return ""
    changed = [
        f"{row.label.task} {row.label.second}"
        for row in rows
        if row.found.low > 0 or row.found.high < 0
    ]
    if changed:
        return (
            f"Zero is outside of the interval, and the flow's cells void: {', '.join(changed)}.\n"
        )
    return "Zero is in all intervals: the steps are small enough.\n"


def is_of_halved_steps(row: Row) -> bool:
    """Whether a row of experiment 1 compares a rule with itself."""
    return row.label.first.endswith(HALVED)


def _experiment_2(found: Findings) -> str:
    """Accuracy, dead neurons and epochs of the arms; then what the start does to BP."""
    texts = [_chance(_of(found, "2", "accuracy", "dead"))]
    titles = {
        "accuracy": "accuracy",
        "dead": "dead neurons, in points of all hidden neurons",
        "epochs": "epochs to the solution, where both solve 95 %",
    }
    for measure, title in titles.items():
        rows = _of(found, "2", measure)
        for condition in conditions():
            here = [row for row in rows if row.label.condition == condition]
            tabled = pivot(here, "task", task_of, less_bp)
            if tabled:
                levels = _levels(row for row in here if row.label.second == BASELINE)
                texts.append(titled(f"### {condition}: {title}", levels, tabled))
        of_starts = [row for row in rows if row.label.condition in SCHEDULES]
        tabled = pivot(of_starts, "task", task_of, lambda row: row.label.condition)
        if tabled:
            texts.append(titled(f"### BP from data - BP as now, by schedule: {title}", tabled))
    return titled("## Experiment 2: dead neurons", *texts)


def conditions() -> list[str]:
    """The starts and schedules of experiment 2."""
    return [f"{start}, {schedule}" for start in STARTS for schedule in SCHEDULES]


def _levels(rows: Iterable[Row]) -> str:
    """What the second side, the same for all rows of a task, came to."""
    levels = {row.label.task: f"{row.means[1]:.{decimals(row)}f}" for row in rows}
    return "BP: " + ", ".join(f"{task} {level}" for task, level in levels.items()) + ".\n"


def _experiment_3(found: Findings) -> str:
    """The membrane form against its sub-steps, at 1, 10 and 100 times the tuned z."""
    rows = {(row.label.task, row.label.point): row for row in _of(found, "3", "accuracy")}
    rates = {(row.label.task, row.label.point): row for row in _of(found, "3", "rate")}
    lines = []
    for task in TASKS:
        cells = [_integration(found, task, times, rows, rates) for times in TIMES]
        if any(cells):
            lines.append([task, *cells])
    columns = ["task", *(f"{times} x the tuned z" for times in TIMES)]
    text = table(lines, columns) if lines else ""
    title = "## Experiment 3: the membrane form as it is, less the same by the most sub-steps"
    return titled(title, text and SUBSTEPS, text)


def _integration(
    found: Findings,
    task: str,
    times: int,
    rows: dict[tuple[str, str], Row],
    rates: dict[tuple[str, str], Row],
) -> str:
    """The contrast at one strength, how many sub-steps were enough, and the firing rates."""
    row = rows.get((task, str(times)))
    if row is None:
        return ""
    enough = found.integrated[substeps_path(task, times)]
    said = CANNOT_BE_INTEGRATED if enough is None else f"{enough} are enough"
    rate = rates[task, str(times)]
    spikes = f"spikes {rate.means[0]:.1f} and {rate.means[1]:.1f}"
    return f"{with_interval(row)}, {row.label.second}, {said}; {spikes}"


def _choices(found: Findings) -> str:
    """The tuned settings."""
    lines = []
    for path, choice in found.choices.items():
        _, task, condition, arm = path.split("/")
        start = choice["start_from_data"]
        text = condition.replace("_", ", ")
        if start is not None:
            text = f"{text} {tuple(start)}"
        settings = [f"{choice[name]:g}" for name in ("lr", "z", "epochs")]
        if arm == BASELINE:
            settings[1] = ""  # it adds nothing
        lines.append([task, text, arm, *settings, ", ".join(choice["at_an_end"])])
    columns = ["task", "start and schedule", "arm", "learning rate", "z", "epochs"]
    at_an_end = "at an end of its grid, or late"
    text = table(lines, [*columns, at_an_end]) if lines else ""
    return titled("## Tuned settings", text)


def _missing(found: Findings) -> str:
    """The missing cells, by folder."""
    names: dict[str, list[str]] = {}
    for path in found.missing:
        folder, _, name = path.rpartition("/")
        names.setdefault(folder, []).append(name)
    lines = [f"* {folder}: {', '.join(of_folder)}" for folder, of_folder in names.items()]
    text = "\n".join(lines) if lines else "None."
    return titled("## Missing cells", text + "\n")


def _robustness(found: Findings) -> str:
    """The arms less BP under every kind of noise, a table per start, schedule and task."""
    rows = [
        row
        for row in found.secondary
        if row.label.condition in conditions() and row.label.measure not in NOT_OF_NOISE
    ]
    texts = [ROBUSTNESS, _chance(rows)]
    for condition in conditions():
        for task in TASKS:
            here = [row for row in rows if (row.label.condition, task_of(row)) == (condition, task)]
            tabled = pivot(
                here,
                "noise",
                lambda row: row.label.measure,
                less_bp,
            )
            if tabled:
                texts.append(titled(f"### {condition}: {task}", tabled))
    return titled("## Robustness: accuracy under noise", *texts)
