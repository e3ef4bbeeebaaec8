"""The page on which the results of the study are read, in Markdown."""

from __future__ import annotations

from csbp_notebooks.marks import in_lines
from csbp_notebooks.signs import MINUS, less

from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..protocol import EARLIER_TEXTS, IMAGES, ON_NONE, WHEN_IT_WAS_FIXED, digest
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import DIRTY, Findings, Floor, chaos_helps
from .numbers import difference, interval, smallest, task_decimals, with_interval
from .page_sections import (
    authors_recipe,
    dead_neurons,
    membrane_form,
    overshoot,
    robustness,
    rules_at_the_end,
    time_above_critical,
)
from .page_tables import between, less_bp, table, titled
from .rows import BEST_BP, Label, Row
from .verdicts import UNFINISHED
from .words import missing_in_words

# The primary contrast of every experiment: its tasks, its sides, and what those expect who believe
# in chaos (in CSBP, for experiments 2 and 4), with our own hypothesis.
PRIMARY = {
    "1": (ONE_LAYER_TASKS, less("csbp", "inner flow"), "> 0 (ours: equivalent or < 0)"),
    "2": (tuple(TASKS), less("csbp", "best bp, start from data"), "> 0 (ours: equivalent)"),
    "3": (tuple(TASKS), less("membrane", "quadratic pull on it"), "> 0 (ours: equivalent)"),
    "4": ((IMAGES,), less("csbp", "bp"), "> 0 (ours: equivalent)"),
}

PRIMARY_COLUMNS = (
    "experiment",
    "task",
    "contrast",
    "believers expect",
    "estimate and 95 % interval",
    "margin",
    "smallest found with 80 % power",
    "noise floor",
    "verdict",
)


ON_COMMITS = (
    "The commit of the code is the last that changed it before a cell was made. It may be older "
    "than that of the protocol's whole text, and never is than that of the section on its "
    "experiment: `tests/test_study_protocol.py` asks the history."
)

INTRODUCTION = """\
# Results of the study

Written by `study.findings` from the cells in `study/results/`; what is compared and how is
fixed in [PROTOCOL.md](PROTOCOL.md). All contrasts, with those not shown here, are in
`study/contrasts.json`; p values there are not corrected, those behind the verdicts are.

All differences are in points (per cent of the test samples; for xor, of the networks), unless a
table says otherwise. Square brackets hold 95 % intervals over the eight splits, not corrected;
where all splits agree, there is no spread to make one from. `~` marks an estimate that is not
above the noise floor of its task. Only the primary contrasts have verdicts; of the others none is
a finding.
"""


def page(found: Findings) -> str:
    """The whole page."""
    sections = [
        INTRODUCTION,
        _which_cells(found),
        _primary(found),
        _beside(found),
        time_above_critical(found.above_critical),
        rules_at_the_end(found.rules),
        _noise_floor(found),
        overshoot(found),
        dead_neurons(found),
        membrane_form(found),
        authors_recipe(found),
        robustness(found),
        _choices(found),
        _missing(found),
        _texts_and_commits(found),
    ]
    return "\n".join(sections)


def _which_cells(found: Findings) -> str:
    """How many cells there are, and under which texts of the protocol they ran."""
    lines = [missing_in_words(found)]
    others = _other_texts(found)
    if not others:
        lines.append("All that are there ran under the protocol as it is now.")
    for text, paths in others.items():
        ran = f"{len(paths)} ran under a text of the protocol that is not known"
        if text in EARLIER_TEXTS:
            ran = (
                f"{len(paths)} ran under an earlier text of the protocol, which is this one "
                f"without {EARLIER_TEXTS[text].lacks}"
            )
        lines.append(f"{ran}.")
    lines += [WHEN_IT_WAS_FIXED, ON_NONE, "The last two sections of this page name the cells."]
    return in_lines(" ".join(lines))


def _other_texts(found: Findings) -> dict[str, list[str]]:
    """The cells that ran under another text of the protocol, by its SHA-256."""
    return {text: paths for text, paths in found.protocols.items() if text != digest()}


def _primary(found: Findings) -> str:
    """The primary contrasts, and what follows on chaos."""
    tabled = table(primary_lines(found), PRIMARY_COLUMNS)
    return titled("## Primary contrasts", tabled, _on_chaos(found))


def primary_lines(found: Findings) -> list[list[str]]:
    """The primary contrasts under `PRIMARY_COLUMNS`, also those that are not finished."""
    rows = {(row.label.experiment, row.label.task): row for row in found.primary}
    lines = []
    for experiment, (tasks, sides, expected) in PRIMARY.items():
        for task in tasks:
            row = rows.get((experiment, task))
            numbers = [""] * 4 if row is None else _numbers_of_primary(row, found)
            verdict = UNFINISHED if row is None else f"**{row.verdict}**"
            lines.append([experiment, task, sides, expected, *numbers, verdict])
    return lines


def _numbers_of_primary(row: Row, found: Findings) -> list[str]:
    """Estimate, margin, smallest difference found and noise floor."""
    floor = found.floors.get(row.label.task)
    return [
        with_interval(row),
        f"{row.margin:g}",
        smallest(row),
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
        f"Chaos helps in {where}, of {', '.join(helps)}. It does where csbp {MINUS} inner flow "
        "*helps*, and csbp is above BP of the same length and above the best BP, with intervals "
        "that leave out zero; above the first alone, overshoot speeds training up.\n"
    )


def _height(floor: Floor) -> str:
    """The noise floor itself."""
    return "none" if floor.height is None else f"{floor.height:.{task_decimals(floor.task)}f}"


def _noise_floor(found: Findings) -> str:
    """What another order of summation does to csbp."""
    lines = []
    for task, floor in found.floors.items():
        places = task_decimals(task)
        mean = difference(floor.found.estimate, places)
        ends = interval(floor.found.low, floor.found.high, places)
        lines.append([task, f"{mean} {ends}", f"{floor.spread:.{places}f}", _height(floor)])
    columns = ["task", "mean", "standard deviation per network", "floor"]
    text = table(lines, columns) if lines else ""
    return titled("## Noise floor: csbp summed in another order, less csbp", text)


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


def _texts_and_commits(found: Findings) -> str:
    """Under which other texts of the protocol, and by which code, the cells ran."""
    lines = []
    for text, paths in _other_texts(found).items():
        which = "Unknown text of the protocol"
        if text in EARLIER_TEXTS:
            which = f"Text of the protocol committed as {EARLIER_TEXTS[text].commit}"
        cells = f"({len(paths)}): {', '.join(paths)}"
        lines.append(f"* {which}, SHA-256 {text[:12]} {cells}.")
    commits = [
        f"{commit[:12]}{DIRTY if commit.endswith(DIRTY) else ''} ({len(paths)} cells)"
        for commit, paths in found.commits.items()
    ]
    if commits:
        lines.append(f"* Commit of the code: {', '.join(commits)}.")
    text = "\n".join(lines) if lines else "None."
    return titled("## What the cells were made with", in_lines(ON_COMMITS), text + "\n")
