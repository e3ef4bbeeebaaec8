"""All contrasts of the study, from its cells, as `PROTOCOL.md` fixes them.

Pure functions from cells to rows, and to the verdicts on the primary contrasts; `findings`
writes them down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .arms import BASELINE
from .cells import (
    STARTS,
    Cells,
    Trained,
    arm_path,
    expected_cells,
    halved_path,
    most_substeps,
    quadratic_path,
    rules_path,
    substeps_path,
    trained_by_arm,
    trained_by_rule,
    trained_by_substeps,
    trained_on_images,
)
from .contrasts import CANNOT_TELL, HELPS, HURTS, Contrast, contrast, split_means, verdicts
from .experiment_1 import TASK_NAMES as ONE_LAYER_TASKS, Place, grid
from .experiment_2 import ARMS
from .experiment_3 import TIMES
from .measured import (
    DECISIVE,
    AboveCritical,
    OfArm,
    OfRule,
    OfTuning,
    above_critical,
    of_arms_on_images,
    of_decisive_rules,
    of_tuned_strengths,
)
from .overshoot import RULES
from .protocol import MARGINS
from .tasks import TASKS
from .train import SCHEDULES

CANNOT_BE_INTEGRATED = "cannot be integrated"

PAIRS_OF_RULES = (
    ("csbp", "inner flow"),  # overshoot
    ("kick", "outer flow"),  # overshoot without momentum
    ("inner flow", "outer flow"),  # momentum
    ("noise", "inner flow"),
    ("csbp", "bp"),
    ("inner flow", "bp"),  # what a pull of that strength does without overshoot
)
HALVED = ", steps halved"  # after the name of a rule
DIRTY = ", changed"  # after a commit, where files were not as in it
BEST_BP = "best bp"  # of experiment 2, beside BP at the rate of csbp

IMAGES = "fashion_mnist"  # the task of experiment 4
EVERY_MARGIN = MARGINS | {IMAGES: 0.5}  # in points, by task

PAIRS_ON_IMAGES = (
    ("csbp", BASELINE),
    ("quadratic", BASELINE),
    ("bp_data", BASELINE),
    ("csbp", "quadratic"),
    ("csbp", "bp_data"),
    ("fc1_csbp", "fc1_inner_flow"),  # overshoot, of fc1 alone
)

SOLVED = 95.0  # per cent, by both sides: epochs to the solution tell more than accuracy
NOT_ACCURACY = ("dead", "rate", "epochs")  # measures that the noise floor says nothing of

# Holds the place in its family of a primary contrast that has no verdict.
UNTESTED = Contrast(
    estimate=math.nan,
    low=math.nan,
    high=math.nan,
    low_90=math.nan,
    high_90=math.nan,
    p_difference=1.0,
    p_equivalence=1.0,
    smallest=math.nan,
)


class Label(NamedTuple):
    """What a contrast is between.

    Attributes:
        experiment: "1", "2", "3" or "4".
        task: its name.
        condition: under which both sides were trained.
        point: of the condition's grid, where there is one.
        first: the arm with the plus sign.
        second: the arm that it is compared with.
        measure: of `cells.Trained`.
    """

    experiment: str
    task: str
    condition: str
    point: str
    first: str
    second: str
    measure: str = "accuracy"


class Row(NamedTuple):
    """A contrast and what was found.

    Attributes:
        label: what it is between.
        means: of all networks, of the first side and the second, in points (epochs).
        found: estimate, intervals and p values, not corrected.
        margin: what counts as no difference, in points; None where nothing has been fixed.
        below_floor: whether the estimate is not above the noise floor of its task; None where
            there is none, or where it says nothing of the measure.
        verdict: of a primary contrast.
    """

    label: Label
    means: tuple[float, float]
    found: Contrast
    margin: float | None
    below_floor: bool | None = None
    verdict: str | None = None


class Floor(NamedTuple):
    """The noise floor of a task: csbp summed in another order, less csbp.

    Attributes:
        task: its name.
        found: the mean over the splits, and its interval; in points.
        spread: standard deviation of the difference over the networks, in points.
        height: the floor, the end of the interval that is farther from zero; None where the two
            trainings are the same to the last bit.
    """

    task: str
    found: Contrast
    spread: float
    height: float | None


class Findings(NamedTuple):
    """All that the cells say.

    Attributes:
        primary: the contrasts with a verdict, in the order of experiments and tasks.
        secondary: all others.
        floors: by task.
        above_critical: how long z was not below z_c in experiment 1.
        tuned: how far from z_c the z is that tuning chose.
        rules: what the rules of experiment 1 came to where its primary contrast is.
        arms_on_images: what the arms of experiment 4 came to.
        integrated: of experiment 3, by path of its cells: the sub-steps that were enough; None
            where none was.
        missing: the paths of cells that are not there.
        protocols: by the SHA-256 of the protocol, the paths of the cells that were made under it.
        commits: likewise by the commit of the code, as far as cells record it.
        hours: of one core, by experiment and for the tuning.
        choices: by path, the settings that were tuned.
    """

    primary: list[Row]
    secondary: list[Row]
    floors: dict[str, Floor]
    above_critical: list[AboveCritical]
    tuned: list[OfTuning]
    rules: list[OfRule]
    arms_on_images: list[OfArm]
    integrated: dict[str, int | None]
    missing: list[str]
    protocols: dict[str, list[str]]
    commits: dict[str, list[str]]
    hours: dict[str, float]
    choices: Cells


def findings(cells: Cells, choices: Cells) -> Findings:
    """Analyse all cells that there are.

    Args:
        cells: by path, of the final networks; those that are missing, and contrasts that need
            them, are left out.
        choices: by path, what tuning wrote.
    """
    floors = noise_floors(cells)
    primary = [
        *primary_of_1(cells),
        *primary_of_2(cells),
        *primary_of_3(cells),
        *primary_of_4(cells),
    ]
    secondary = [
        *secondary_of_1(cells),
        *secondary_of_2(cells),
        *secondary_of_3(cells),
        *secondary_of_4(cells),
    ]
    substeps = [substeps_path(task, times) for task in TASKS for times in TIMES]
    return Findings(
        primary=[marked(row, floors) for row in primary],
        secondary=[marked(row, floors) for row in secondary],
        floors=floors,
        above_critical=above_critical(cells),
        tuned=of_tuned_strengths(cells),
        rules=of_decisive_rules(cells),
        arms_on_images=of_arms_on_images(cells),
        integrated={path: cells[path]["integrated"] for path in substeps if path in cells},
        missing=[path for path in expected_cells() if path not in cells],
        protocols=by_provenance(cells, "protocol"),
        commits=by_provenance(cells, "commit"),
        hours=hours_of(cells) | hours_of(choices),
        choices=choices,
    )


def by_provenance(cells: Cells, name: str) -> dict[str, list[str]]:
    """The paths of the cells by an entry of their provenance; apart where its code was changed."""
    paths: dict[str, list[str]] = {}
    for path, cell in cells.items():
        entry = cell["provenance"].get(name, "not recorded")
        if name == "commit" and cell["provenance"].get("dirty"):
            entry += DIRTY
        paths.setdefault(entry, []).append(path)
    return paths


def hours_of(cells: Cells) -> dict[str, float]:
    """The hours of one core that cells took, by the first part of their paths.

    Example:
        >>> hours_of({"tuning/xor/start": {"provenance": {"cpu_seconds": 5400.0}}})
        {'tuning': 1.5}
    """
    hours: dict[str, float] = {}
    for path, cell in cells.items():
        experiment = path.split("/")[0]
        seconds = cell["provenance"]["cpu_seconds"]
        hours[experiment] = hours.get(experiment, 0.0) + seconds / 3600
    return hours


# A row, from two sides


def compared(
    label: Label,
    first: Trained | None,
    second: Trained | None,
    margin: float | None = None,
) -> list[Row]:
    """The contrast between two arms, as a list: empty where one of them is missing.

    Args:
        label: what they are.
        first: the networks of one arm.
        second: the same networks by the other arm.
        margin: what counts as no difference, in points.
    """
    if first is None or second is None:
        return []
    values = first.measures[label.measure]
    others = second.measures[label.measure]
    found = contrast(split_means(values - others, first.splits), margin)
    return [Row(label, (float(values.mean()), float(others.mean())), found, margin)]


def compared_epochs(label: Label, first: Trained | None, second: Trained | None) -> list[Row]:
    """The same for the epochs to the solution, where both arms solve the task."""
    for side in (first, second):
        is_solved = (
            side is not None
            and "epochs" in side.measures
            and side.measures["accuracy"].mean() >= SOLVED
        )
        if not is_solved:
            return []
    return compared(label._replace(measure="epochs"), first, second)


def is_of_accuracy(measure: str) -> bool:
    """Whether a measure is an accuracy, with noise or without.

    Example:
        >>> is_of_accuracy("weights 0.1"), is_of_accuracy("dead 2")
        (True, False)
    """
    return measure.split()[0] not in NOT_ACCURACY


def marked(row: Row, floors: Mapping[str, Floor]) -> Row:
    """The row, told whether its estimate is below the noise floor, where nothing can be told."""
    floor = floors.get(row.label.task)
    if floor is None or floor.height is None or not is_of_accuracy(row.label.measure):
        return row
    is_below = abs(row.found.estimate) <= floor.height
    if is_below and row.verdict in (HELPS, HURTS):
        row = row._replace(verdict=CANNOT_TELL)
    return row._replace(below_floor=is_below)


def noise_floors(cells: Cells) -> dict[str, Floor]:
    """The noise floor of every task for which both cells are there."""
    floors = {}
    for task in TASKS:
        resummed = trained_by_arm(cells, arm_path(task, "now", "constant", "csbp_resummed"))
        csbp = trained_by_arm(cells, arm_path(task, "now", "constant", "csbp"))
        if resummed is None or csbp is None:
            continue
        differences = resummed.measures["accuracy"] - csbp.measures["accuracy"]
        found = contrast(split_means(differences, csbp.splits))
        height = max(abs(found.low), abs(found.high)) if differences.any() else None
        floors[task] = Floor(task, found, float(np.std(differences, ddof=1)), height)
    return floors


# The primary contrasts: a family per experiment


def with_verdicts(family: Mapping[str, Iterable[Row]]) -> list[Row]:
    """The rows of a family with their verdicts.

    A contrast that is missing, or has been given another verdict before, keeps its place in the
    family with p = 1: what is tested does not depend on what could be.

    Args:
        family: by task, its row if there is one.
    """
    rows = {task: row for task, found in family.items() for row in found}
    tested = {task: row.found for task, row in rows.items() if row.verdict is None}
    found = verdicts({task: tested.get(task, UNTESTED) for task in family})
    return [
        row._replace(verdict=found[task] if task in tested else row.verdict)
        for task, row in rows.items()
    ]


def primary_of_1(cells: Cells) -> list[Row]:
    """Overshoot: csbp less inner flow at twice z_c, rest inside, z falling over all epochs."""
    family = {}
    for task in ONE_LAYER_TASKS:
        path = rules_path(task, DECISIVE)
        family[task] = compared(
            label_at(task, DECISIVE, "csbp", "inner flow"),
            trained_by_rule(cells, path, "csbp"),
            trained_by_rule(cells, path, "inner flow"),
            MARGINS[task],
        )
    return with_verdicts(family)


def primary_of_2(cells: Cells) -> list[Row]:
    """Dead neurons: csbp less the best BP from the data-driven start."""
    family = {}
    for task in TASKS:
        family[task] = compared(
            Label("2", task, "data, constant", "", "csbp", "bp"),
            trained_by_arm(cells, arm_path(task, "data", "constant", "csbp")),
            trained_by_arm(cells, arm_path(task, "data", "constant", "bp")),
            MARGINS[task],
        )
    return with_verdicts(family)


def primary_of_3(cells: Cells) -> list[Row]:
    """The membrane form less the quadratic pull; no verdict where it cannot be integrated."""
    family = {}
    for task in TASKS:
        path = substeps_path(task, 1)
        rows = compared(
            membrane_label(task),
            trained_by_substeps(cells, path, 1),
            trained_by_arm(cells, quadratic_path(task)),
            MARGINS[task],
        )
        if path in cells and cells[path]["integrated"] is None:
            rows = [row._replace(verdict=CANNOT_BE_INTEGRATED) for row in rows]
        family[task] = rows
    return with_verdicts(family)


def membrane_label(task: str) -> Label:
    """The label of the primary contrast of experiment 3."""
    return Label("3", task, "", "", "membrane", "quadratic_membrane")


def primary_of_4(cells: Cells) -> list[Row]:
    """The authors' recipe: csbp less BP; alone in its family."""
    rows = compared(
        label_on_images("csbp", BASELINE),
        trained_on_images(cells, "csbp"),
        trained_on_images(cells, BASELINE),
        EVERY_MARGIN[IMAGES],
    )
    return with_verdicts({IMAGES: rows})


def label_on_images(first: str, second: str) -> Label:
    """The label of a contrast of experiment 4."""
    return Label("4", IMAGES, "", "", first, second)


def label_at(task: str, place: Place, first: str, second: str) -> Label:
    """The label of a contrast of experiment 1."""
    condition = f"{place.rest}, {place.annealing}"
    return Label("1", task, condition, f"{place.ratio:g}", first, second)


def chaos_helps(found: Findings) -> dict[str, bool]:
    """Whether chaos helps, by task of experiment 1 whose cells are there.

    It does where the primary contrast helps, and csbp is above BP of the same length and above
    the best BP, with intervals that leave out zero.
    """
    secondary = {row.label: row for row in found.secondary}
    helps = {}
    for row in found.primary:
        over_bp = [secondary.get(row.label._replace(second=bp)) for bp in ("bp", BEST_BP)]
        is_above = [over is not None and over.found.low > 0 for over in over_bp]
        if row.label.experiment == "1" and None not in over_bp:
            helps[row.label.task] = row.verdict == HELPS and all(is_above)
    return helps


# All other contrasts


def secondary_of_1(cells: Cells) -> Iterator[Row]:
    """Rules against rules and against the best BP, over the grid; and the steps of the flow."""
    for task in ONE_LAYER_TASKS:
        best = trained_by_arm(cells, arm_path(task, "now", "constant", "bp"))
        for place in grid():
            yield from _between_rules(cells, task, place, best)
        yield from _of_halved_steps(cells, task)


def _between_rules(cells: Cells, task: str, place: Place, best: Trained | None) -> Iterator[Row]:
    """The contrasts of one cell."""
    path = rules_path(task, place)
    sides = {rule: trained_by_rule(cells, path, rule) for rule in RULES} | {BEST_BP: best}
    for first, second in (*PAIRS_OF_RULES, ("csbp", BEST_BP)):
        label = label_at(task, place, first, second)
        yield from compared(label, sides[first], sides[second])
        yield from compared_epochs(label, sides[first], sides[second])


def _of_halved_steps(cells: Cells, task: str) -> Iterator[Row]:
    """What halving the steps of the flow changes; nothing, for rules that know no flow."""
    for rule in RULES:
        label = label_at(task, DECISIVE, f"{rule}{HALVED}", rule)
        halved = trained_by_rule(cells, halved_path(task), rule)
        whole = trained_by_rule(cells, rules_path(task, DECISIVE), rule)
        yield from compared(label, halved, whole)


def secondary_of_2(cells: Cells) -> Iterator[Row]:
    """Arms against BP from every start and under every schedule, also under noise; and starts."""
    for task in TASKS:
        for schedule in SCHEDULES:
            for start in STARTS:
                yield from _against_bp(cells, task, start, schedule)
            sides = [
                trained_by_arm(cells, arm_path(task, start, schedule, "bp"))
                for start in ("data", "now")
            ]
            label = Label("2", task, schedule, "", "bp from data", "bp as now")
            yield from _of_all_measures(label, *sides)


def _against_bp(cells: Cells, task: str, start: str, schedule: str) -> Iterator[Row]:
    """Every arm less the best BP of the same start and schedule; csbp also less BP at its rate."""
    bp = trained_by_arm(cells, arm_path(task, start, schedule, "bp"))
    arms = [name for name, arm in ARMS.items() if arm.everywhere and name != BASELINE]
    for arm in arms:
        label = Label("2", task, f"{start}, {schedule}", "", arm, "bp")
        trained = trained_by_arm(cells, arm_path(task, start, schedule, arm))
        yield from _of_all_measures(label, trained, bp)
    at_csbp_lr = trained_by_arm(cells, arm_path(task, start, schedule, "bp_at_csbp_lr"))
    csbp = trained_by_arm(cells, arm_path(task, start, schedule, "csbp"))
    label = Label("2", task, f"{start}, {schedule}", "", "csbp", "bp_at_csbp_lr")
    yield from _of_all_measures(label, csbp, at_csbp_lr)


def _of_all_measures(label: Label, first: Trained | None, second: Trained | None) -> Iterator[Row]:
    """The contrasts between two arms in accuracy, dead neurons, epochs and under noise."""
    yield from compared_epochs(label, first, second)
    measures = [] if first is None else first.measures
    for measure in measures:
        if measure != "epochs":
            yield from compared(label._replace(measure=measure), first, second)


def secondary_of_3(cells: Cells) -> Iterator[Row]:
    """The membrane form as it is, less the same with the most sub-steps that were trained."""
    for task in TASKS:
        as_it_is = trained_by_substeps(cells, substeps_path(task, 1), 1)
        quadratic = trained_by_arm(cells, quadratic_path(task))
        yield from compared_epochs(membrane_label(task), as_it_is, quadratic)
        for times in TIMES:
            path = substeps_path(task, times)
            most = most_substeps(cells, path)
            label = Label("3", task, "", str(times), "membrane", f"{most} sub-steps")
            as_it_is = trained_by_substeps(cells, path, 1)
            followed = trained_by_substeps(cells, path, most)
            yield from compared(label, as_it_is, followed)
            yield from compared(label._replace(measure="rate"), as_it_is, followed)


def secondary_of_4(cells: Cells) -> Iterator[Row]:
    """Arms against arms on images, also in activity and under noise."""
    for first, second in PAIRS_ON_IMAGES:
        label = label_on_images(first, second)
        sides = [trained_on_images(cells, arm) for arm in (first, second)]
        yield from _of_all_measures(label, *sides)
