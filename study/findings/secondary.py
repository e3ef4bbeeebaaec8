"""All contrasts but the primary ones: they have intervals, and no verdict."""

from __future__ import annotations

from collections.abc import Iterator

from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS, Place, grid
from ..experiments.experiment_2 import ARMS
from ..experiments.experiment_3 import TIMES
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from ..training.overshoot import RULES
from ..training.train import SCHEDULES
from .cells import (
    STARTS,
    Cells,
    Trained,
    arm_path,
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
from .measured import DECISIVE
from .rows import (
    BEST_BP,
    SUBSTEPS,
    Label,
    Row,
    compared,
    compared_epochs,
    label_at,
    label_on_images,
    membrane_label,
    stronger_label,
)

OVERSHOOT = ("csbp", "inner flow")
PAIRS_OF_RULES = (
    OVERSHOOT,
    ("kick", "outer flow"),  # overshoot without momentum
    ("inner flow", "outer flow"),  # momentum
    ("noise", "inner flow"),
    ("csbp", "bp"),
    ("inner flow", "bp"),  # what a pull of that strength does without overshoot
)
HALVED = ", steps halved"  # after the name of a rule

PAIRS_ON_IMAGES = (
    ("csbp", BASELINE),
    ("quadratic", BASELINE),
    ("bp_data", BASELINE),
    ("csbp", "quadratic"),
    ("csbp", "bp_data"),
    ("fc1_csbp", "fc1_inner_flow"),  # overshoot, of fc1 alone
)


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
    """What halving the steps of the flow changes, and overshoot by them.

    It changes nothing for rules that know no flow.
    """
    halved = {rule: trained_by_rule(cells, halved_path(task), rule) for rule in RULES}
    for rule in RULES:
        label = label_at(task, DECISIVE, f"{rule}{HALVED}", rule)
        whole = trained_by_rule(cells, rules_path(task, DECISIVE), rule)
        yield from compared(label, halved[rule], whole)
    first, second = OVERSHOOT
    label = label_at(task, DECISIVE, f"{first}{HALVED}", f"{second}{HALVED}")
    yield from compared(label, halved[first], halved[second])


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
    """The membrane form less the same with the most sub-steps that were trained; and less the pull.

    The quadratic pull is as tuned for itself, at every strength of the form.
    """
    for task in TASKS:
        as_it_is = trained_by_substeps(cells, substeps_path(task, 1), 1)
        quadratic = trained_by_arm(cells, quadratic_path(task))
        yield from compared_epochs(membrane_label(task), as_it_is, quadratic)
        for times in TIMES:
            path = substeps_path(task, times)
            most = most_substeps(cells, path)
            label = Label("3", task, "", str(times), "membrane", f"{most}{SUBSTEPS}")
            as_it_is = trained_by_substeps(cells, path, 1)
            followed = trained_by_substeps(cells, path, most)
            yield from compared(label, as_it_is, followed)
            yield from compared(label._replace(measure="rate"), as_it_is, followed)
            yield from compared_epochs(label, as_it_is, followed)
            if times > 1:  # at the tuned strength it is the primary contrast
                yield from compared(stronger_label(task, times), as_it_is, quadratic)


def secondary_of_4(cells: Cells) -> Iterator[Row]:
    """Arms against arms on images, also in activity and under noise."""
    for first, second in PAIRS_ON_IMAGES:
        label = label_on_images(first, second)
        sides = [trained_on_images(cells, arm) for arm in (first, second)]
        yield from _of_all_measures(label, *sides)
