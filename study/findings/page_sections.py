"""The sections of the page that are about one experiment, and about robustness; in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from csbp_notebooks.signs import MINUS, less

from ..experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from ..experiments.experiment_3 import TIMES
from ..protocol import IMAGES
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from ..training.train import SCHEDULES
from .all_contrasts import Findings
from .cells import STARTS, substeps_path
from .measured import AboveCritical, OfRule
from .numbers import decimals, mean, task_decimals, with_interval
from .page_tables import between, less_bp, measure_of, pivot, table, task_of, titled
from .rows import Row, is_by_substeps, is_of_accuracy
from .secondary import HALVED
from .strength import KICK_UNSTABLE_FROM
from .verdicts import CANNOT_BE_INTEGRATED

RATIOS_ABOVE = tuple(ratio for ratio in RATIOS if ratio >= 1)

CURVE_AT = (1, 5, 10, 20)  # twentieths of the epochs, in which validation accuracy is shown

GRID = f"""\
A table per task, rest point (inside the surrogate's support, or as published) and annealing (in
how many of how many twentieths of the task's epochs z falls; *held*: over the second half). By its
own loss csbp is unstable from z0 / z_c = 1 on, and kick from (1 {MINUS} m) / (1 + m) =
{KICK_UNSTABLE_FROM:.3f} on. Below 1 csbp {MINUS} inner flow is that a step of csbp is longer, and
no chaos. Where inner flow {MINUS} bp at some ratio is as large as csbp {MINUS} bp, what csbp
gains is strength.
"""

SUBSTEPS_IN_WORDS = """\
A number of sub-steps is enough where twice as many change nothing that can be seen: the interval of
that difference contains zero, and its mean is below the margin. Where the spread over networks is
large, as where some have collapsed, that takes a large change to fail. Accuracy is in per cent and
spikes are per neuron and hundred time steps, of the form as it is and by sub-steps.
"""

MEASURES_ON_IMAGES = {
    "accuracy": "accuracy",
    "dead 1": "dead, first layer",
    "dead 2": "dead, second layer",
    "rate 1": "spikes, first layer",
    "rate 2": "spikes, second layer",
}

IMAGES_AND_RECIPE = """\
Fashion-MNIST by the authors' recipe, nothing tuned but the start of BP from data-driven weights;
one network per split for the arms on fc1 alone, three for the others. Dead neurons and spikes (per
neuron and hundred time steps) are of the first and the second layer of neurons. There is no noise
floor.
"""

FC1 = """\
Means over networks; *at chance* are so many of them, no better than a guess. z_c of fc1's output,
its inputs held, is that at the learning rate with which training starts (later it is higher, as the
rate falls), at the I0 of the arm, the published one for arms without a chaotic loss. z / z_c is
that of the first epoch by z_c before the training and that of the last by z_c after it. The chaotic
loss's share of the gradient at fc1's output is in per cent, where the plug-in measured it, in the
last batch of an epoch.
"""

ABOVE_CRITICAL = """\
Of the task's epochs (xor 400, others 20; three times as many in 20/60), those in which z is at z_c
of the layer or above; below z0 / z_c = 1 there is none. By rest point and annealing, and z0 / z_c.
"""

RULES_AT_END = """\
Validation accuracy after a twentieth, a quarter, half and all of the epochs, and at the end on the
test samples: accuracy, spikes per neuron and hundred time steps, (neuron, sample) pairs without a
surrogate gradient at any step, and dead neurons. Means over networks, in per cent.
"""

ROBUSTNESS = f"""\
Differences under noise, and (*{MINUS} none*) those minus the differences without noise: only the
second are robustness.
"""


def time_above_critical(found: Sequence[AboveCritical]) -> str:
    """How long z was at z_c or above, a line per rest and annealing."""
    title = "### Experiment 1: epochs with z at z_c or above"
    entries: dict[str, dict[str, str]] = {}
    columns = [f"{task}, {ratio:g}" for task in ONE_LAYER_TASKS for ratio in RATIOS_ABOVE]
    for place in found:
        entry = f"{place.fewest}"
        if place.most > place.fewest:
            entry = f"{place.fewest} to {place.most}"
        line = entries.setdefault(f"{place.rest}, {place.annealing}", {})
        line[f"{place.task}, {place.ratio:g}"] = entry
    if not entries:
        return titled(title)
    lines = [
        [name, *(line.get(column, "") for column in columns)] for name, line in entries.items()
    ]
    return titled(title, ABOVE_CRITICAL, table(lines, ["rest and annealing", *columns]))


def rules_at_the_end(found: Sequence[OfRule]) -> str:
    """What the rules of experiment 1 came to at the primary contrast, a table per task."""
    title = "### Experiment 1: the rules where the primary contrast is"
    names = ["accuracy", "spikes", "no surrogate gradient", "dead"]
    columns = ["rule", *(f"after {part}/20" for part in CURVE_AT), *names]
    texts = []
    for task in dict.fromkeys(rule.task for rule in found):
        lines = [[rule.rule, *_numbers_of_rule(rule)] for rule in found if rule.task == task]
        texts.append(titled(f"#### {task}", table(lines, columns)))
    return titled(title, RULES_AT_END if texts else "", *texts)


def _numbers_of_rule(rule: OfRule) -> list[str]:
    """Its validation accuracy over the epochs, and what was measured at the end."""
    places = task_decimals(rule.task)
    # A curve has a number per validation, evenly spread over all epochs of the cell.
    validations = [len(rule.curve) * part // 20 - 1 for part in CURVE_AT]
    accuracies = [*(rule.curve[validation] for validation in validations), rule.accuracy]
    others = [rule.rate, rule.zero_surrogate, rule.dead]
    return [*(mean(value, places) for value in accuracies), *(mean(value, 1) for value in others)]


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


def overshoot(found: Findings) -> str:
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
    changed = [row for row in halved if not row.label.second.endswith(HALVED)]
    changes = pivot(changed, "task", task_of, lambda row: row.label.second)
    title = "### What halving the steps of the flow changes"
    texts.append(titled(title, _on_halved_steps(changed), changes))
    by_halves = [row for row in halved if row not in changed]
    title = "### The same contrast with the steps of the flow halved"
    texts.append(titled(title, _as_whole_and_halved(rows, by_halves)))
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
    return "Zero is in all intervals: by the protocol's rule the steps are small enough.\n"


def _as_whole_and_halved(rows: Sequence[Row], by_halves: Sequence[Row]) -> str:
    """The primary contrast and the same by half the steps, a line per task; may be empty."""
    whole = {row.label: row for row in rows}
    lines = []
    for row in by_halves:
        names = [side.removesuffix(HALVED) for side in (row.label.first, row.label.second)]
        label = row.label._replace(first=names[0], second=names[1])
        as_primary = with_interval(whole[label]) if label in whole else ""
        lines.append([row.label.task, as_primary, with_interval(row)])
    sides = less("csbp", "inner flow")
    return table(lines, ["task", sides, f"{sides}, steps halved"]) if lines else ""


def is_of_halved_steps(row: Row) -> bool:
    """Whether a row of experiment 1 is of networks trained with the steps of the flow halved."""
    return row.label.first.endswith(HALVED)


def dead_neurons(found: Findings) -> str:
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
            sides = less("BP from data", "BP as now")
            texts.append(titled(f"### {sides}, by schedule: {title}", tabled))
    return titled("## Experiment 2: dead neurons", *texts)


def conditions() -> list[str]:
    """The starts and schedules of experiment 2."""
    return [f"{start}, {schedule}" for start in STARTS for schedule in SCHEDULES]


def _levels(rows: Iterable[Row]) -> str:
    """What the second side, the same for all rows of a task, came to."""
    levels = {row.label.task: f"{row.means[1]:.{decimals(row)}f}" for row in rows}
    return "BP: " + ", ".join(f"{task} {level}" for task, level in levels.items()) + ".\n"


def membrane_form(found: Findings) -> str:
    """The membrane form against its sub-steps at 1, 10 and 100 times the tuned z, and the pull."""
    of_accuracy = _of(found, "3", "accuracy")
    by_substeps = [row for row in of_accuracy if is_by_substeps(row.label)]
    rows = {(row.label.task, row.label.point): row for row in by_substeps}
    rates = {(row.label.task, row.label.point): row for row in _of(found, "3", "rate")}
    lines = []
    for task in TASKS:
        cells = [_integration(found, task, times, rows, rates) for times in TIMES]
        if any(cells):
            lines.append([task, *cells])
    columns = ["task", *(f"{times} x the tuned z" for times in TIMES)]
    text = table(lines, columns) if lines else ""
    title = "## Experiment 3: the membrane form as it is, less the same by the most sub-steps"
    stronger = [row for row in of_accuracy if not is_by_substeps(row.label)]
    pull = pivot(stronger, "task", task_of, lambda row: f"{row.label.point} x the tuned z")
    if pull:
        pull = titled("### The same, less the quadratic pull as tuned for itself", pull)
    epochs = pivot(_of(found, "3", "epochs"), "task", task_of, _strength_and_sides)
    if epochs:
        epochs = titled("### Epochs to the solution, where both solve 95 %", epochs)
    return titled(title, text and SUBSTEPS_IN_WORDS, text, pull, epochs)


def _strength_and_sides(row: Row) -> str:
    """What a contrast in epochs is between."""
    return f"{between(row)}, {row.label.point or '1'} x the tuned z"


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
    accuracy = f"accuracy {row.means[0]:.1f} and {row.means[1]:.1f}"
    spikes = f"spikes {rate.means[0]:.1f} and {rate.means[1]:.1f}"
    return f"{with_interval(row)}, {row.label.second}, {said}; {accuracy}, {spikes}"


def authors_recipe(found: Findings) -> str:
    """The contrasts on images in accuracy and activity, and what the arms came to."""
    rows = [
        row
        for row in found.secondary
        if row.label.experiment == "4" and not is_under_noise(row.label.measure)
    ]
    tabled = pivot(rows, "contrast", between, lambda row: MEASURES_ON_IMAGES[row.label.measure])
    parts = [_chance(rows), tabled, _arms_on_images(found)]
    introduction = IMAGES_AND_RECIPE if any(parts) else ""
    title = "## Experiment 4: a real data set and the authors' recipe"
    return titled(title, introduction, *parts)


def _arms_on_images(found: Findings) -> str:
    """A line per arm; empty text if none is there."""
    if not found.arms_on_images:
        return ""
    lines = []
    for arm in found.arms_on_images:
        name = arm.arm
        if arm.start_from_data is not None:
            name = f"{name} {tuple(arm.start_from_data)}"
        numbers = [
            mean(arm.accuracy, task_decimals(IMAGES)),
            f"{arm.at_chance}",
            mean(arm.critical_z_start, 2),
            mean(arm.critical_z_end, 2),
            mean(arm.over_critical_start, 3),
            mean(arm.over_critical_end, 3),
            mean(arm.gradient_share_start, 1),
            mean(arm.gradient_share_end, 1),
        ]
        lines.append([name, *numbers])
    columns = [
        "arm",
        "accuracy",
        "at chance",
        "z_c at the start",
        "z_c at the end",
        "z / z_c at the start",
        "z / z_c at the end",
        "share of the gradient, first epoch",
        "share of the gradient, last epoch",
    ]
    return titled("### The arms, and z / z_c of fc1", FC1, table(lines, columns))


def is_under_noise(measure: str) -> bool:
    """Whether a measure is an accuracy under noise, or its change."""
    return is_of_accuracy(measure) and measure != "accuracy"


def robustness(found: Findings) -> str:
    """The contrasts under every kind of noise, a table per start, schedule and task."""
    rows = [
        row
        for row in found.secondary
        if row.label.condition not in SCHEDULES and is_under_noise(row.label.measure)
    ]
    texts = [_chance(rows)]
    for condition in conditions():
        for task in TASKS:
            here = [row for row in rows if (row.label.condition, task_of(row)) == (condition, task)]
            tabled = pivot(here, "noise", measure_of, less_bp)
            if tabled:
                texts.append(titled(f"### {condition}: {task}", tabled))
    on_images = [row for row in rows if task_of(row) == IMAGES]
    tabled = pivot(on_images, "noise", measure_of, between)
    if tabled:
        texts.append(titled(f"### {IMAGES}", tabled))
    return titled("## Robustness: accuracy under noise", ROBUSTNESS, *texts)
