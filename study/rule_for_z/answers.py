"""How good is a rule for z? In sentences and tables that hold whatever was measured.

No verdict is among them: the networks are tuning's, and accuracy is that on validation data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

from csbp_core.plugin.measurement import FIRST_SHARE_LIMIT, SHARE_LIMIT
from csbp_notebooks.signs import less, with_minus

from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..findings.numbers import difference
from ..findings.verdicts import UNFINISHED
from ..findings.words import enumerated
from ..protocol import EVERY_MARGIN, IMAGES
from .comparison import SHARE_OF_README
from .measured import (
    ALL_TASKS,
    AUTHORS_RULE,
    BP_RULE,
    FIXED_RULE,
    README_RULE,
    SHARE_RULE,
    TENTH_RULE,
    AtRatio,
    Measured,
    OnTask,
    Rule,
    Trained,
)
from .on_a_task import AUTHORS_Z, TENTH, WARNED_SHARES
from .reports import ARRIVED, DIVISOR, SHARE_LIMIT as WARNED_ABOVE

# Rules whose number is chosen from such data, as sentences and tables name them.
SHARE_RULES = {
    SHARE_RULE: "the largest share of the first report",
    "mean share": "the mean share of the layers",
    "smallest share": "the smallest share of the layers",
    "largest share at call 21": "the largest share of the second report",
}
RATE_NAMES = {"bp_lr": "at BP's learning rate", "csbp_lr": "at CSBP's"}

LARGER_SHARES = (0.1, 0.3, 0.6)  # of the ladder, that the title names

LOST = 1.0  # margins below BP from which a training counts as one that lost

GO_ON, DIVIDE, RESTART = "go on", "divide", "restart"


class Table(NamedTuple):
    """Rows under the names of their columns, as `csbp_notebooks.tables.table` shows them."""

    rows: list[list[str]]
    columns: list[str]


class Ends(NamedTuple):
    """How the networks of all tasks ended that were warned and treated in one way.

    Attributes:
        lost: cases that ended more than `LOST` margins below BP.
        cases: of a task and a first share, in which some network was warned.
        median: of the points over BP, over the cases.
        again: the first shares at which networks were begun again, those of all cases.
    """

    lost: int
    cases: int
    median: float
    again: list[float]


# All of it


def paragraphs(measured: Measured) -> list[str]:
    """The answer, in paragraphs of Markdown that begin with what they are about."""
    return [
        f"**The rule.** {how_good(measured)}",
        f"**Another share.** {other_shares(measured)}",
        f"**A fixed $z$.** {fixed_z(measured)}",
        f"**The first report.** {what_reports_tell(measured)}",
        f"**After a warning.** {after_warnings(measured)}",
        limits(measured),
    ]


def claim(measured: Measured) -> str:
    """What the first share of README's rule comes to, and larger ones, as a title."""
    tasks = len(measured.tasks)
    lost = [
        f"from {_per_cent(share)} in {_number_lost(measured, share)}" for share in LARGER_SHARES
    ]
    return (
        f"From a first share of {_per_cent(SHARE_OF_README)}, {less('CSBP', 'BP')} is "
        f"{_ends_of(_gains_of_rule(measured))} margins; {enumerated(lost)} of {tasks} tasks "
        "CSBP ends more than a margin below BP"
    )


def for_record(measured: Measured) -> dict[str, Any]:
    """Sentences and numbers to be recorded; README's are among them."""
    return {
        "tasks": [on_task.task for on_task in measured.tasks],
        "in_short": in_short(measured),
        "too_late": too_late(measured),
        "lost_to_tuned": {
            rate: {name: rule.mean for name, rule in rules.items()}
            for rate, rules in measured.rules.items()
        },
        "rule_over_bp": _gains_of_rule(measured),
    }


def in_short(measured: Measured) -> str:
    """How good README's rule is and what the authors' z comes to, for README; some sentences."""
    rules = measured.rules["bp_lr"]
    rule = rules[README_RULE]
    worst = _worst(rule)
    shares = [on_task.authors.share for on_task in measured.tasks]
    return (
        f"In {len(measured.tasks)} tasks of the study, from torch's weights and at BP's learning "
        f"rate, that z loses {_margins(rule.mean)} margins to the tuned one on average, at most "
        f"{_margins(rule.lost[worst])} ({worst}); a margin is a difference that the protocol "
        f"counts as none. BP alone loses {_margins(rules[BP_RULE].mean)}. The share was chosen on "
        "these tasks; chosen for each on the others, it "
        f"loses {_margins(rules[SHARE_RULE].mean)}. The authors' z of {AUTHORS_Z:g} begins at "
        f"shares of {_shares_in_words(shares)} there and loses "
        f"{_margins(rules[AUTHORS_RULE].mean)}."
    )


def too_late(measured: Measured) -> str:
    """What became of networks after a late warning, for README; a sentence."""
    if not any(on_task.warned for on_task in measured.tasks):
        return f"What to do after a warning is {UNFINISHED}."
    go_on, divide, restart = (ends_after(measured, way) for way in (GO_ON, DIVIDE, RESTART))
    lost = dict.fromkeys([go_on.lost, divide.lost])  # once where both are the same
    return (
        f"Where a share had passed {_per_cent(WARNED_ABOVE)}, or mean s had arrived, it was too "
        f"late to go on, at the same z or a smaller one, in {' and '.join(map(str, lost))} of "
        f"{go_on.cases} cases; begun again with a third of z, and so on until there was no such "
        f"warning, {restart.lost} still ended more than a margin below BP."
    )


# Rules


def how_good(measured: Measured) -> str:
    """What README's rule loses to the tuned z, and what it comes to beside BP; a paragraph."""
    said = [
        f"{_lost_in_words(measured.rules[rate][README_RULE])} {name}"
        for rate, name in RATE_NAMES.items()
    ]
    margins = [EVERY_MARGIN[on_task.task] for on_task in measured.tasks]
    return (
        f"In {len(measured.tasks)} tasks the $z$ that begins at a share of "
        f"{_per_cent(SHARE_OF_README)} loses to the tuned $z$, in margins of the protocol "
        f"({min(margins):g} to {max(margins):g} points), {enumerated(said)}; BP alone, $z$ = 0, "
        f"loses {_losses_in_words(measured, BP_RULE)} on average. {_beside_bp(measured)} "
        f"{_chosen_on_these(measured)}"
    )


def _beside_bp(measured: Measured) -> str:
    """How often BP alone ends above the rule's z, and how often below; a sentence or two."""
    gains = _gains_of_rule(measured)
    above = [task for task, gain in gains.items() if gain < 0]
    far_above = [task for task, gain in gains.items() if gain < -LOST]
    far_below = [task for task, gain in gains.items() if gain > LOST]
    said = f"{less('CSBP', 'BP')} at the rule's $z$, at BP's learning rate: {_ends_of(gains)}"
    return (
        f"{said} margins. BP alone is above CSBP in {len(above)} of {len(gains)} tasks, "
        f"by more than a margin in {_counted(far_above)}, and below it by more than a margin in "
        f"{_counted(far_below)}."
    )


def _counted(tasks: list[str]) -> str:
    """How many tasks, and which.

    Example:
        >>> _counted(["digits_conv", "xor"]), _counted([])
        ('2 (digits_conv, xor)', 'none')
    """
    return f"{len(tasks)} ({', '.join(tasks)})" if tasks else "none"


def _chosen_on_these(measured: Measured) -> str:
    """What the rule loses in the task that its share most depends on; two sentences."""
    rules = {rate: measured.rules[rate][SHARE_RULE] for rate in RATE_NAMES}
    rate = max(rules, key=lambda rate: max(rules[rate].lost.values()))
    rule = rules[rate]
    task = _worst(rule)
    return (
        f"{_per_cent(SHARE_OF_README)} was chosen when all of them were known. Had {task} been "
        f"left out, {_per_cent(rule.values[task])} ($z$ = {_strength(rule.zs[task])} there) would "
        f"have been chosen {RATE_NAMES[rate]}, and {task} would have lost "
        f"{_margins(rule.lost[task])} margins."
    )


def other_shares(measured: Measured) -> str:
    """What README's rule and the best by a share lose where that is chosen on others; sentences."""
    best = []
    for rate, name in RATE_NAMES.items():
        rules = measured.rules[rate]
        least = min(SHARE_RULES, key=lambda rule: rules[rule].mean)
        best.append(f"{name} by {SHARE_RULES[least]} ({_margins(rules[least].mean)})")
    return (
        "Chosen for each task on the others, README's kind of share, the largest of the first "
        f"report, loses {_losses_in_words(measured, SHARE_RULE)} on average, at BP's learning rate "
        f"/ at CSBP's; {_per_cent(SHARE_OF_README)}, chosen on all, loses "
        f"{_losses_in_words(measured, README_RULE)}. Of the shares tried, each chosen on the "
        f"others, least is lost {enumerated(best)}."
    )


def fixed_z(measured: Measured) -> str:
    """What a z that is the same in all tasks comes to, the authors' among them; a paragraph."""
    shares = [on_task.authors.share for on_task in measured.tasks]
    zs = [on_task.rule.z for on_task in measured.tasks]
    rule = measured.rules["bp_lr"][FIXED_RULE]
    shares_at_fixed = [on_task.share_at(rule.value) for on_task in measured.tasks]
    return (
        "One $z$ for all tasks, chosen on all of them as README's share was, loses "
        f"{_losses_with_value(measured, FIXED_RULE)} on average, at BP's learning rate / at "
        f"CSBP's, and chosen for each on the others {_losses_in_words(measured, FIXED_RULE)}. At "
        f"BP's learning rate it is $z$ = {_strength(rule.value)}, and {less('CSBP', 'BP')} there "
        f"{_ends_of(gains_of_fixed_z(measured))} margins; it begins at shares of "
        f"{_shares_in_words(shares_at_fixed)}. For one share, {_per_cent(SHARE_OF_README)}, $z$ is "
        f"{_strength(min(zs))} to {_strength(max(zs))}. The authors' {AUTHORS_Z:g} loses "
        f"{_losses_in_words(measured, AUTHORS_RULE)}: it begins at shares of "
        f"{_shares_in_words(shares)}."
    )


def gains_of_fixed_z(measured: Measured) -> dict[str, float]:
    """CSBP at the one z that is chosen on all tasks, less BP, in margins, by task."""
    lost = measured.rules["bp_lr"][FIXED_RULE].lost_with_value
    tuned = {each.task: each.over_bp(each.tuned.accuracy) for each in measured.tasks}
    return {task: gain - lost[task] for task, gain in tuned.items()}


def _lost_in_words(rule: Rule) -> str:
    """The mean loss of a rule, and the largest with its task."""
    worst = _worst(rule)
    return f"{_margins(rule.mean)} on average and at most {_margins(rule.lost[worst])} ({worst})"


def _losses_in_words(measured: Measured, name: str) -> str:
    """The mean losses of a rule at both learning rates."""
    return " / ".join(_margins(measured.rules[rate][name].mean) for rate in RATE_NAMES)


def _losses_with_value(measured: Measured, name: str) -> str:
    """The same, with the number that was chosen on all tasks."""
    return " / ".join(_margins(measured.rules[rate][name].with_value) for rate in RATE_NAMES)


def _worst(rule: Rule) -> str:
    """The task in which a rule loses most."""
    return max(rule.lost, key=rule.lost.__getitem__)


# Reports and warnings


def what_reports_tell(measured: Measured) -> str:
    """That the first report tells what later ones do not, in numbers; a paragraph."""
    kept = [on_task for on_task in measured.tasks if on_task.tenth.latest is not None]
    if not kept:
        return f"What later reports say is {UNFINISHED}."
    above = _begun(measured.tasks, lambda share: share > FIRST_SHARE_LIMIT)
    others = _begun(measured.tasks, lambda share: share <= FIRST_SHARE_LIMIT)
    watched = [each.latest for each in above.lost if each.latest is not None]
    silent = [share for share in watched if share <= SHARE_LIMIT]
    latest = {on_task.tenth.latest: on_task.task for on_task in kept}
    highest = max(share for share in latest if share is not None)
    at_limit = sum(each.share == FIRST_SHARE_LIMIT for each in others.lost)
    where = f", {at_limit} of these at {_per_cent(FIRST_SHARE_LIMIT)} itself" if at_limit else ""
    so = ": the first report tells what later ones do not" if silent else ""
    return (
        f"{len(above.lost)} of {above.number} trainings that began at a share above "
        f"{_per_cent(FIRST_SHARE_LIMIT)} ended more than a margin below BP, and {len(others.lost)} "
        f"of {others.number} others{where}. "
        f"Of the {len(watched)} such ends where later reports were kept "
        f"({len(kept)} of {len(measured.tasks)} tasks), {len(silent)} had none with a share above "
        f"{_per_cent(SHARE_LIMIT)} (median over networks){so}. Where training began at "
        f"{_per_cent(TENTH)}, no later share was above {_per_cent(highest)} ({latest[highest]}). "
        f"So `report()` warns above {_per_cent(FIRST_SHARE_LIMIT)} at first, and above "
        f"{_per_cent(SHARE_LIMIT)} later."
    )


class Begun(NamedTuple):
    """Trainings that began at some shares: how many, and those that ended below BP."""

    number: int
    lost: list[Trained]


def _begun(tasks: Iterable[OnTask], is_meant: Callable[[float], bool]) -> Begun:
    """Those that began at the shares that are meant."""
    found = [
        (on_task, each) for on_task in tasks for each in on_task.trained if is_meant(each.share)
    ]
    return Begun(len(found), [each for on_task, each in found if _has_lost(on_task, each.accuracy)])


def after_warnings(measured: Measured) -> str:
    """How networks ended that were warned, by what was done then; a paragraph."""
    if not any(on_task.warned for on_task in measured.tasks):
        return f"What to do after a warning is {UNFINISHED}."
    of_ways = {way: ends_after(measured, way) for way in (GO_ON, DIVIDE, RESTART)}
    said = {
        way: f"{ends.lost} of {ends.cases} ({difference(ends.median, 1)} points)"
        for way, ends in of_ways.items()
    }
    return (
        f"Trainings begun at shares of {_shares_listed()} were watched for a share above "
        f"{_per_cent(WARNED_ABOVE)}, or a mean $s$ with less than {_per_cent(ARRIVED)} of its way "
        "to $I_0$ left. How the networks that were warned ended, in so many cases (a task and a "
        "first share) more than a margin below BP, with the median difference to it: going on, "
        f"{said[GO_ON]}; with $z$ divided by {DIVISOR:g} at every warning, {said[DIVIDE]}; begun "
        f"again with $z$ / {DIVISOR:g} until there was no warning, {said[RESTART]}. Those last "
        f"trainings began at shares of {_shares_in_words(of_ways[RESTART].again)}."
    )


def ends_after(measured: Measured, way: str) -> Ends:
    """How all cases ended that were treated in one way after a warning.

    Args:
        measured: with one case at least.
        way: "go on", "divide" or "restart".
    """
    points = []
    again: list[float] = []
    lost = 0
    for on_task in measured.tasks:
        for case in on_task.warned:
            accuracy = case.accuracy[way]
            points.append(100 * (accuracy - on_task.bp))
            again += case.again
            lost += _has_lost(on_task, accuracy)
    return Ends(lost, len(points), median(points), again)


def limits(measured: Measured) -> str:
    """What the numbers are of, and which task is not there yet; a sentence or two."""
    names = [on_task.task for on_task in measured.tasks]
    waiting = [task for task in ALL_TASKS if task not in names]
    sentences = [
        "No verdict follows: networks and splits are those of tuning, accuracies those on "
        "validation data, and between two strengths that were trained they are interpolated."
    ]
    if IMAGES in names:
        sentences.append(
            f"In {IMAGES} nothing was tuned: its tuned $z$ is the best of those that were tried, "
            "which favours that one."
        )
    if waiting:
        sentences.append(f"Unfinished: {', '.join(waiting)}.")
    return " ".join(sentences)


# Tables


def table_of_rules(measured: Measured) -> Table:
    """For every rule its number, and what it loses with it, and with one by the other tasks."""
    names = {
        BP_RULE: "no chaotic loss: BP alone",
        README_RULE: "README's: this largest share of the first report",
        TENTH_RULE: "a tenth, README's before",
        **SHARE_RULES,
        FIXED_RULE: "one z for all tasks",
        AUTHORS_RULE: "the authors' z",
    }
    rows = []
    for name, words in names.items():
        losses = []
        for rate in RATE_NAMES:
            rule = measured.rules[rate][name]
            worst = _worst(rule)
            means = f"{_margins(rule.with_value)}; {_margins(rule.mean)}"
            losses.append(f"{means}; {_margins(rule.lost[worst])} ({worst})")
        rows.append([words, _numbers_of_rule(measured, name), *losses])
    lost = [f"margins lost {name}: all; others; most" for name in RATE_NAMES.values()]
    return Table(rows, ["rule", "number, by all tasks", *lost])


def _numbers_of_rule(measured: Measured, name: str) -> str:
    """The number that is chosen on all tasks: at either learning rate, once if it is the same."""
    is_z = name in (BP_RULE, FIXED_RULE, AUTHORS_RULE)
    in_words = _strength if is_z else _per_cent
    values = [in_words(measured.rules[rate][name].value) for rate in RATE_NAMES]
    chosen = " / ".join(dict.fromkeys(values))
    return f"z = {chosen}" if is_z else chosen


def table_of_tasks(measured: Measured) -> Table:
    """For every task the z of the rule, the tuned and the authors', and the accuracies there."""
    rows = []
    for on_task in measured.tasks:
        at_rule, at_tuned, at_authors = on_task.rule, on_task.tuned, on_task.authors
        rows.append(
            [
                on_task.task,
                _strength(at_rule.z),
                _strength(at_tuned.z),
                _accuracy(on_task.bp),
                _accuracy(at_rule.accuracy),
                _accuracy(at_tuned.accuracy),
                _accuracy(at_authors.accuracy),
                _per_cent(at_authors.share),
            ]
        )
    at_15 = f"z {AUTHORS_Z:g}"
    columns = ["task", "z of the rule", "tuned z", "BP", "at the rule's z", "at the tuned z"]
    return Table(rows, [*columns, f"at {at_15}", f"first share at {at_15}"])


def table_of_ratios(by_ratio: Mapping[float, Mapping[str, AtRatio]]) -> Table:
    """csbp / inner flow, and the share without a gradient, over z / z_c; BP's accuracy last."""
    rows = []
    for ratio, by_task in by_ratio.items():
        found = [by_task[task] for task in ONE_LAYER_TASKS]
        shown = [f"{at.csbp:.1f} / {at.inner_flow:.1f}, {at.no_gradient:.1f}" for at in found]
        rows.append([f"{ratio:g}", *shown])
    first = next(iter(by_ratio.values()))
    rows.append(["BP alone", *(f"{first[task].bp:.1f}" for task in ONE_LAYER_TASKS)])
    return Table(rows, ["z / z_c at the start", *ONE_LAYER_TASKS])


# Numbers


def _has_lost(on_task: OnTask, accuracy: float) -> bool:
    """Whether that is more than `LOST` margins below BP."""
    return on_task.over_bp(accuracy) < -LOST


def _gains_of_rule(measured: Measured) -> dict[str, float]:
    """CSBP at the rule's z less BP, in margins, by task."""
    return {on_task.task: on_task.over_bp(on_task.rule.accuracy) for on_task in measured.tasks}


def _number_lost(measured: Measured, share: float) -> int:
    """In how many tasks the trainings that began at a share of the ladder lost."""
    lost = 0
    for on_task in measured.tasks:
        (at,) = [each for each in on_task.trained if each.share == share]
        lost += _has_lost(on_task, at.accuracy)
    return lost


def _ends_of(values: Mapping[str, float]) -> str:
    """The least and the largest of several differences, with their tasks."""
    ends = sorted(values, key=values.__getitem__)
    least, largest = ends[0], ends[-1]
    return (
        f"{difference(values[least], 1)} ({least}) to {difference(values[largest], 1)} ({largest})"
    )


def _margins(lost: float) -> str:
    """Margins that were lost, to two digits.

    Example:
        >>> _margins(0.188), _margins(8.28), _margins(0.9)
        ('0.19', '8.3', '0.90')
    """
    places = 2 if abs(lost) < 2 else 1
    return with_minus(f"{lost:z.{places}f}")


def _shares_in_words(shares: Iterable[float]) -> str:
    """From the least to the largest."""
    ordered = sorted(shares)
    return f"{100 * ordered[0]:.2g} to {100 * ordered[-1]:.2g} %"


def _shares_listed() -> str:
    return f"{', '.join(f'{100 * share:g}' for share in WARNED_SHARES)} %"


def _per_cent(share: float) -> str:
    """A share.

    Example:
        >>> _per_cent(0.1), _per_cent(0.5249), _per_cent(0.0012)
        ('10 %', '52 %', '0.12 %')
    """
    return f"{100 * share:.2g} %"


def _strength(z: float) -> str:
    """A z, to three digits or whole.

    Example:
        >>> _strength(1.5157), _strength(1671.4)
        ('1.52', '1,671')
    """
    return f"{z:.3g}" if z < 100 else f"{z:,.0f}"


def _accuracy(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} %"
