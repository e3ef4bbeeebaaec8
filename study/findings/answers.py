"""What the findings of the study answer, in sentences that hold whatever the verdicts are.

Every question has a claim, of the verdicts on primary contrasts alone, and sentences on what stands
beside them, which has intervals and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..contrasts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS
from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..experiments.experiment_3 import TIMES
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE
from .all_contrasts import Findings, chaos_helps
from .cells import substeps_path
from .measured import DECISIVE
from .page_tables import UNFINISHED, decimals, interval
from .primary import CANNOT_BE_INTEGRATED
from .rows import BEST_BP, IMAGES, Label, Row, label_at, label_on_images

VERDICTS = (HELPS, HURTS, EQUIVALENT, CANNOT_TELL, CANNOT_BE_INTEGRATED, UNFINISHED)

NOT_KNOWN = "Not known yet"
NOT_SHOWN = "Not shown"

REST_IN_WORDS = {"inside": "h* = 1", "published": "the published h*"}  # of experiment 1

AS_NOW, FROM_DATA = "now, constant", "data, constant"
CONDITIONS = (FROM_DATA, "data, cosine", AS_NOW, "now, cosine")  # of experiment 2, primary first


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
        question: as a reader asks it.
        short: the answer in a few words; no full stop.
        because: the verdicts that it rests on, likewise.
        though: what must be said with them, likewise; may be empty.
        beside: whole sentences on what has no verdict; may be empty.
    """

    question: str
    short: str
    because: str
    though: str = ""
    beside: str = ""

    @property
    def claim(self) -> str:
        """Question and answer, as a title."""
        return f"{self.question} {self.short}. {self.because}"

    @property
    def reasons(self) -> str:
        """The verdicts, and what must be said with them."""
        return "; ".join(part for part in (self.because, self.though) if part)


def answers(found: Findings) -> list[Answer]:
    """All answers, the most important first."""
    return [
        does_csbp_help(found),
        by_what(found),
        does_chaos_help(found),
        does_the_form_matter(found),
        does_the_recipe_help(found),
        is_it_robust(found),
    ]


def summary(found: Findings) -> str:
    """The findings in one sentence."""
    csbp = groups(verdicts_of(found, "2"))
    recipe = groups(verdicts_of(found, "4"))
    overshoot = groups(verdicts_of(found, "1"))
    form = groups(verdicts_of(found, "3"))
    return (
        f"CSBP less the best BP from data-driven weights: {csbp}; by the authors' recipe, CSBP "
        f"less BP: {recipe}; chaos, as CSBP less the same pull without overshoot, z starting at "
        f"twice z_c: {overshoot}; the membrane form less a quadratic pull: {form}"
    )


# Words


def verdicts_of(found: Findings, *experiments: str) -> dict[str, str]:
    """The verdict of every task that has a primary contrast, also where that is not finished."""
    tasks = {"1": ONE_LAYER_TASKS, "2": tuple(TASKS), "3": tuple(TASKS), "4": (IMAGES,)}
    given = {(row.label.experiment, row.label.task): row.verdict for row in found.primary}
    return {
        task: given.get((experiment, task)) or UNFINISHED
        for experiment in experiments
        for task in tasks[experiment]
    }


def groups(verdict_of: Mapping[str, str]) -> str:
    """The verdicts, each with its tasks.

    Example:
        >>> groups({"xor": "helps", "digits_1": "equivalent", "randman_1": "equivalent"})
        'helps (xor), equivalent (digits_1, randman_1)'
        >>> groups({"xor": "helps", "digits_1": "helps"})
        'helps in all 2 tasks'
    """
    if len(verdict_of) > 1 and len(set(verdict_of.values())) == 1:
        (verdict,) = set(verdict_of.values())
        return f"{verdict} in all {len(verdict_of)} tasks"
    found: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for task, verdict in verdict_of.items():
        found[verdict].append(task)
    return ", ".join(f"{verdict} ({listed(tasks)})" for verdict, tasks in found.items() if tasks)


def lead(verdict_of: Mapping[str, str]) -> str:
    """Whether the first side helps, in a few words.

    "No" needs a verdict in every task: "cannot tell" counts for nobody.

    Example:
        >>> lead({"xor": "helps", "digits_1": "cannot tell"})
        'In 1 of 2 tasks'
        >>> lead({"xor": "hurts", "digits_1": "equivalent"}), lead({"xor": "cannot tell"})
        ('No', 'Not shown')
    """
    verdicts = list(verdict_of.values())
    if set(verdicts) == {UNFINISHED}:
        return NOT_KNOWN
    if set(verdicts) <= {EQUIVALENT, HURTS}:
        return "No"
    so_far = " so far" if UNFINISHED in verdicts else ""
    if HELPS in verdicts:
        return in_so_many(verdicts.count(HELPS), len(verdicts)) + so_far
    return NOT_SHOWN + so_far


def in_so_many(helps: int, tasks: int) -> str:
    """In how many tasks something holds, in one or more of them.

    Example:
        >>> in_so_many(1, 1), in_so_many(6, 6), in_so_many(2, 6)
        ('Yes', 'Yes, in all 6 tasks', 'In 2 of 6 tasks')
    """
    if tasks == 1:
        return "Yes"
    return f"Yes, in all {tasks} tasks" if helps == tasks else f"In {helps} of {tasks} tasks"


def by_sign(rows: Iterable[Row | None]) -> str:
    """Where the 95 % intervals of contrasts lie, with their tasks; empty text without any."""
    found: dict[str, list[str]] = {"above zero": [], "around zero": [], "below zero": []}
    for row in rows:
        if row is not None:
            found[side_of_zero(row)].append(row.label.task)
    return ", ".join(f"{side} ({listed(tasks)})" for side, tasks in found.items() if tasks)


def side_of_zero(row: Row) -> str:
    """Where the 95 % interval of a contrast lies."""
    if row.found.low > 0:
        return "above zero"
    return "below zero" if row.found.high < 0 else "around zero"


def listed(names: Sequence[str]) -> str:
    """Names in a row, or that there is none."""
    return ", ".join(names) or "none"


def numbers(row: Row) -> str:
    """Estimate and 95 % interval, in points."""
    places = decimals(row)
    ends = interval(row.found.low, row.found.high, places)
    return f"{row.found.estimate:+z.{places}f} {ends}"


def rows_by_label(found: Findings) -> dict[Label, Row]:
    """All contrasts; one that is among both kinds as the primary one, with its verdict."""
    return {row.label: row for row in [*found.secondary, *found.primary]}


def over_bp(task: str, condition: str, arm: str = "csbp", measure: str = "accuracy") -> Label:
    """The label of an arm of experiment 2 less the best BP."""
    return Label("2", task, condition, "", arm, BASELINE, measure)


# The questions


def does_csbp_help(found: Findings) -> Answer:
    """Experiment 2, from data-driven weights, and experiment 4."""
    rows = rows_by_label(found)
    as_now = by_sign(rows.get(over_bp(task, AS_NOW)) for task in TASKS)
    beside = ""
    if as_now:
        beside = f"From torch's weights the interval of CSBP - best BP lies {as_now}."
    short = lead(verdicts_of(found, "2", "4"))
    if short == "No" and gains_as_now(rows):
        short = "Not from weights that leave no neuron silent"
    return Answer(
        "Does CSBP help?",
        short,
        f"CSBP - best BP, both from data-driven weights: {groups(verdicts_of(found, '2'))}; by the "
        f"authors' recipe, CSBP - BP: {groups(verdicts_of(found, '4'))}",
        _small_but_there(found, "2", "4"),
        beside,
    )


def gains_as_now(rows: Mapping[Label, Row]) -> list[Row]:
    """csbp less the best BP from torch's weights, at a constant rate, where it is above zero."""
    all_rows = [rows.get(over_bp(task, AS_NOW)) for task in TASKS]
    return [row for row in all_rows if row is not None and row.found.low > 0]


def _small_but_there(found: Findings, *experiments: str) -> str:
    """Where a difference is equivalent to none and yet perhaps not zero; empty text if nowhere."""
    said = [
        f"{row.label.task} ({numbers(row)}, margin {row.margin:g})"
        for row in found.primary
        if row.label.experiment in experiments
        and row.verdict == EQUIVALENT
        and side_of_zero(row) != "around zero"
    ]
    where = ", ".join(said)
    return f"the uncorrected 95 % interval leaves out zero in {where}" if said else ""


def by_what(found: Findings) -> Answer:
    """Whether what csbp gains from torch's weights is what better weights give BP as well."""
    rows = rows_by_label(found)
    gains = gains_as_now(rows)
    is_there = [over_bp(task, AS_NOW) in rows for task in TASKS]
    beside = [dead_in_words(rows), regulariser_in_words(rows), strengths_in_words(found)]
    so_far = "" if all(is_there) else " so far"
    said = ", ".join(f"{row.label.task} {numbers(row)}" for row in gains)
    where = f" ({said})" if gains else ""
    because = (
        f"From torch's weights the uncorrected interval of CSBP - best BP lies above zero in "
        f"{len(gains)} of {len(TASKS)} tasks{so_far}{where}"
    )
    short = _source(gains, verdicts_of(found, "2"))
    if not gains:
        short = NOT_KNOWN if so_far else "No gain to explain"
    elif so_far:
        short += so_far
    return Answer(
        "By what, then?",
        short,
        because,
        _what_weights_give(rows, gains),
        " ".join(sentence for sentence in beside if sentence),
    )


def _source(gains: Sequence[Row], verdict_of: Mapping[str, str]) -> str:
    """What becomes of the gains where both sides start from data-driven weights.

    Args:
        gains: csbp less the best BP from torch's weights, where it is above zero.
        verdict_of: by task, on the same from data-driven weights.
    """
    verdicts = [verdict_of[row.label.task] for row in gains]
    if set(verdicts) <= {EQUIVALENT, HURTS}:
        return "By what data-driven weights give BP, too"
    if set(verdicts) == {HELPS}:
        return "Not by what data-driven weights give BP"
    return NOT_SHOWN


def _what_weights_give(rows: Mapping[Label, Row], gains: Sequence[Row]) -> str:
    """What data-driven weights give the best BP in those tasks, in points; may be empty."""
    said = []
    for row in gains:
        from_data = rows.get(over_bp(row.label.task, FROM_DATA))
        if from_data is not None:
            more = from_data.means[1] - row.means[1]
            said.append(f"{row.label.task} {more:+.{decimals(row)}f}")
    return f"data-driven weights give the best BP {', '.join(said)} there" if said else ""


def dead_in_words(rows: Mapping[Label, Row]) -> str:
    """The share of hidden neurons that stay dead, from both starts; empty if nothing is there."""
    parts = []
    for name, condition in (("torch's", AS_NOW), ("data-driven", FROM_DATA)):
        found = [rows.get(over_bp(task, condition, measure="dead")) for task in TASKS]
        present = [row for row in found if row is not None]
        if present:
            csbp = _range([row.means[0] for row in present])
            bp = _range([row.means[1] for row in present])
            parts.append(f"from {name} weights {bp} after the best BP and {csbp} after CSBP")
    if not parts:
        return ""
    return f"Dead hidden neurons, in % and over tasks: {'; '.join(parts)}."


def _range(values: Sequence[float]) -> str:
    """From the least to the largest of some percentages."""
    ends = dict.fromkeys(f"{end:.0f}" for end in (min(values), max(values)))
    return " to ".join(ends)


def regulariser_in_words(rows: Mapping[Label, Row]) -> str:
    """What a term that wakes neurons and does nothing else comes to."""
    found = by_sign(rows.get(over_bp(task, AS_NOW, arm="firing_rate")) for task in TASKS)
    if not found:
        return ""
    return (
        "A firing-rate regulariser, which wakes silent neurons and does nothing else, less the "
        f"best BP, from torch's weights: {found}."
    )


def strengths_in_words(found: Findings) -> str:
    """How far the tuned z is from z_c."""
    if not found.tuned:
        return ""
    largest = max(task.largest for task in found.tuned)
    tasks = listed([task.task for task in found.tuned])
    meaning = "nothing is unstable there" if largest < 1 else "that is at z_c or above"
    return f"At the z that tuning chose, z / z_c is at most {largest:.2g} ({tasks}); {meaning}."


def does_chaos_help(found: Findings) -> Answer:
    """Experiment 1: the primary contrast, and whether csbp is above BP where it helps."""
    verdict_of = verdicts_of(found, "1")
    helps = [task for task, is_so in chaos_helps(found).items() if is_so]
    overshoot = [task for task, verdict in verdict_of.items() if verdict == HELPS]
    beside = []
    short = lead(verdict_of)
    if overshoot:  # that it helps is not enough
        so_far = " so far" if UNFINISHED in verdict_of.values() else ""
        short = (in_so_many(len(helps), len(verdict_of)) if helps else NOT_SHOWN) + so_far
    without_gain = [task for task in overshoot if task not in helps]
    if without_gain:
        beside.append(
            f"In {listed(without_gain)} overshoot helps, and CSBP is not shown to be above BP of "
            "the same length and above the best BP: that is no gain over BP."
        )
    beside += _beside_overshoot(rows_by_label(found))
    beside += _time_above_critical(found)
    contrast = "CSBP - inner flow (the same pull without overshoot), z starting at twice z_c"
    because = f"{contrast}: {groups(verdict_of)}"
    though = _cost_against_bp(rows_by_label(found))
    return Answer("Does chaos help?", short, because, though, " ".join(beside))


def _cost_against_bp(rows: Mapping[Label, Row]) -> str:
    """How csbp does against the best BP where the primary contrast is; may be empty."""
    over_best = [rows.get(label_at(task, DECISIVE, "csbp", BEST_BP)) for task in ONE_LAYER_TASKS]
    said = [f"{row.label.task} {numbers(row)}" for row in over_best if row is not None]
    return f"CSBP - best BP there, in points: {', '.join(said)}" if said else ""


def _beside_overshoot(rows: Mapping[Label, Row]) -> list[str]:
    """What overshoot does elsewhere at z_c and above, and by itself, outside the momentum."""
    elsewhere = [row for row in rows.values() if _is_overshoot_elsewhere(row.label)]
    kicks = [rows.get(label_at(task, DECISIVE, "kick", "outer flow")) for task in ONE_LAYER_TASKS]
    sentences = []
    if elsewhere:
        sides = [side_of_zero(row) for row in elsewhere]
        sentences.append(
            f"At the {len(sides)} other conditions with z starting at z_c or above, the "
            f"uncorrected interval of CSBP - inner flow lies below zero in "
            f"{sides.count('below zero')}, around it in {sides.count('around zero')} and above it "
            f"in {sides.count('above zero')}."
        )
        largest = max(elsewhere, key=lambda row: row.found.estimate)
        if largest.found.low > 0:
            sentences.append(_where_it_is_above(rows, largest))
    said = by_sign(kicks)
    if said:
        sentences.append(f"Outside of the momentum, kick - outer flow lies {said}.")
    return sentences


def _is_overshoot_elsewhere(label: Label) -> bool:
    """Whether a contrast is csbp less inner flow at z_c or above, but not the primary one."""
    return (
        (label.experiment, label.first, label.second) == ("1", "csbp", "inner flow")
        and label.measure == "accuracy"
        and float(label.point) >= 1
        and label != label_at(label.task, DECISIVE, "csbp", "inner flow")
    )


def _where_it_is_above(rows: Mapping[Label, Row], largest: Row) -> str:
    """The largest of these contrasts above zero, and what all sides of it come to."""
    rest, annealing = largest.label.condition.split(", ")
    where = f"{largest.label.task}, {REST_IN_WORDS[rest]}, z0 = {largest.label.point} z_c"
    csbp, flow = largest.means
    sentence = (
        f"The largest above it is {numbers(largest)} points ({where}, annealing {annealing}): "
        f"inner flow ends at {flow:.1f} %, CSBP at {csbp:.1f} %"
    )
    noise = rows.get(largest.label._replace(first="noise"))
    if noise is not None:
        sentence += f", inner flow with random directions at {noise.means[0]:.1f} %"
    best = rows.get(largest.label._replace(second=BEST_BP))
    if best is not None:
        sentence += f", the best BP at {best.means[1]:.1f} %"
    return sentence + "."


def _time_above_critical(found: Findings) -> list[str]:
    """In how many epochs of the decisive training z was not below z_c."""
    said = []
    for place in found.above_critical:
        if (place.rest, place.annealing, place.ratio) == DECISIVE:
            said.append(f"{place.most} of {TASKS[place.task].epochs} ({place.task})")
    return [f"Epochs with z at z_c or above: {', '.join(said)}."] if said else []


def does_the_form_matter(found: Findings) -> Answer:
    """Experiment 3."""
    verdict_of = verdicts_of(found, "3")
    followed = less_substeps(found)
    sentences = []
    for times in TIMES:
        strength = "the tuned z" if times == 1 else f"{times} times the tuned z"
        signs = by_sign(followed.get((task, times)) for task in TASKS)
        if signs:
            refused = not_integrated_in_words(found, times)
            sentences.append(
                f"At {strength}, the form as it is less its sub-steps: {signs}{refused}."
            )
    return Answer(
        "Does the membrane form do more than a plain pull?",
        lead(verdict_of),
        f"membrane - quadratic pull: {groups(verdict_of)}",
        beside=" ".join(sentences),
    )


def less_substeps(found: Findings) -> dict[tuple[str, int], Row]:
    """The membrane form less its most sub-steps, by task and times the tuned z."""
    return {
        (row.label.task, int(row.label.point)): row
        for row in found.secondary
        if row.label.experiment == "3" and row.label.point and row.label.measure == "accuracy"
    }


def not_integrated_in_words(found: Findings, times: int) -> str:
    """Where no number of sub-steps was enough at a strength; empty text if nowhere."""
    paths = {task: substeps_path(task, times) for task in TASKS}
    tasks = [task for task, path in paths.items() if found.integrated.get(path, 0) is None]
    return f", {CANNOT_BE_INTEGRATED} ({listed(tasks)})" if tasks else ""


def does_the_recipe_help(found: Findings) -> Answer:
    """Experiment 4."""
    verdict_of = verdicts_of(found, "4")
    rows = rows_by_label(found)
    primary = rows.get(label_on_images("csbp", BASELINE))
    result = UNFINISHED
    if primary is not None:
        result = f"{numbers(primary)} points, {primary.verdict}"
    said = []
    for name, arm in (("a quadratic pull", "quadratic"), ("data-driven weights", "bp_data")):
        row = rows.get(label_on_images(arm, BASELINE))
        if row is not None:
            said.append(f"{name} {numbers(row)}")
    beside = f"Less bp, in points: {', '.join(said)}." if said else ""
    return Answer(
        "Does the authors' recipe help, on a real data set?",
        lead(verdict_of),
        f"CSBP - BP on Fashion-MNIST: {result}",
        beside=beside,
    )


def is_it_robust(found: Findings) -> Answer:
    """The change of csbp - BP under noise; no verdict follows from it."""
    rows = changes_under_noise(found)
    question = "Does it make networks robust?"
    if not rows:
        return Answer(question, NOT_KNOWN, f"CSBP - BP under noise: {UNFINISHED}")
    starts = {
        "from data-driven weights": FROM_DATA,
        "from torch's weights": AS_NOW,
        "by the authors' recipe": label_on_images("csbp", BASELINE).condition,
    }
    said = []
    for start, condition in starts.items():
        sides = [side_of_zero(row) for row in rows if row.label.condition == condition]
        if sides:
            above, below = sides.count("above zero"), sides.count("below zero")
            said.append(f"{start} it grows in {above} and shrinks in {below} of {len(sides)}")
    return Answer(
        question,
        "No verdict",
        f"How the lead of CSBP over BP changes under noise, by uncorrected intervals: "
        f"{'; '.join(said)}",
    )


def changes_under_noise(found: Findings) -> list[Row]:
    """How csbp - BP changes under noise, for both starts at a constant rate, and on images."""
    conditions = (FROM_DATA, AS_NOW, label_on_images("csbp", BASELINE).condition)
    return [
        row
        for row in found.secondary
        if row.label.experiment in ("2", "4")
        and (row.label.first, row.label.second) == ("csbp", BASELINE)
        and row.label.condition in conditions
        and row.label.measure.endswith("- none")
    ]
