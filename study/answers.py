"""What the findings of the study answer, in sentences that hold whatever the verdicts are.

Every question has a claim, of the verdicts on primary contrasts alone, and sentences on what stands
beside them, which has intervals and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .all_contrasts import (
    BEST_BP,
    CANNOT_BE_INTEGRATED,
    IMAGES,
    Findings,
    Label,
    Row,
    chaos_helps,
    label_at,
    label_on_images,
)
from .arms import BASELINE
from .cells import substeps_path
from .contrasts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS
from .experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from .experiment_3 import TIMES
from .measured import DECISIVE
from .page_tables import UNFINISHED, decimals, interval
from .tasks import TASKS

VERDICTS = (HELPS, HURTS, EQUIVALENT, CANNOT_TELL, CANNOT_BE_INTEGRATED, UNFINISHED)

NOT_KNOWN = "Not known yet"
NOT_SHOWN = "Not shown"

HELD = "held/20"  # an annealing of experiment 1

AS_NOW, FROM_DATA = "now, constant", "data, constant"
CONDITIONS = (FROM_DATA, "data, cosine", AS_NOW, "now, cosine")  # of experiment 2, primary first


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
        question: as a reader asks it.
        short: the answer in a few words; no full stop.
        because: the verdicts that it rests on, likewise.
        beside: whole sentences on what has no verdict; may be empty.
    """

    question: str
    short: str
    because: str
    beside: str = ""

    @property
    def claim(self) -> str:
        """Question and answer, as a title."""
        return f"{self.question} {self.short}. {self.because}"


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
    csbp = groups(verdicts_of(found, "2", "4"))
    overshoot = groups(verdicts_of(found, "1"))
    form = groups(verdicts_of(found, "3"))
    return (
        f"CSBP less the best BP from data-driven weights: {csbp}; chaos, as CSBP less the same "
        f"pull without overshoot at twice z_c: {overshoot}; the membrane form less a quadratic "
        f"pull: {form}"
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
    return Answer(
        "Does CSBP help?",
        lead(verdicts_of(found, "2", "4")),
        f"CSBP - best BP, both from data-driven weights: {groups(verdicts_of(found, '2'))}; by the "
        f"authors' recipe, CSBP - BP: {groups(verdicts_of(found, '4'))}"
        f"{_small_but_there(found, '2', '4')}",
        beside,
    )


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
    return f"; the uncorrected 95 % interval leaves out zero in {where}" if said else ""


def by_what(found: Findings) -> Answer:
    """Whether what csbp gains from torch's weights is left when the weights are mended."""
    rows = rows_by_label(found)
    as_now = [rows.get(over_bp(task, AS_NOW)) for task in TASKS]
    gains = [row.label.task for row in as_now if row is not None and row.found.low > 0]
    beside = [dead_in_words(rows), regulariser_in_words(rows), strengths_in_words(found)]
    return Answer(
        "By what, then?",
        *_on_gains(gains, as_now, verdicts_of(found, "2")),
        " ".join(sentence for sentence in beside if sentence),
    )


def _on_gains(
    gains: Sequence[str],
    as_now: Sequence[Row | None],
    verdict_of: Mapping[str, str],
) -> tuple[str, str]:
    """What becomes of the gains: in a few words, and the verdicts.

    Args:
        gains: the tasks in which csbp is above the best BP from torch's weights.
        as_now: that contrast in all tasks.
        verdict_of: by task, on the same from data-driven weights.
    """
    stays = [task for task in gains if verdict_of[task] == HELPS]
    gone = [task for task in gains if verdict_of[task] in (EQUIVALENT, HURTS)]
    unclear = [task for task in gains if task not in stays + gone]
    parts = {"within the margin or gone": gone, "still there": stays, "open": unclear}
    said = ", ".join(f"{word} ({listed(tasks)})" for word, tasks in parts.items() if tasks)
    so_far = " so far" if None in as_now else ""
    tasks = f"{len(gains)} of {len(as_now)} tasks{so_far}"
    because = f"From torch's weights the uncorrected interval lies above zero in {tasks}"
    if not gains:
        return NOT_KNOWN if so_far else "No gain to explain", because
    short = NOT_SHOWN
    if gone == gains:
        short = "By what data-driven weights do as well"
    if stays == gains:
        short = "Not by what data-driven weights do"
    return short + so_far, f"{because}; from data-driven weights this gain is {said}"


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
    contrast = "CSBP - inner flow (the same pull without overshoot), from twice z_c on"
    because = f"{contrast}: {groups(verdict_of)}"
    return Answer("Does chaos help?", short, because, " ".join(beside))


def _beside_overshoot(rows: Mapping[Label, Row]) -> list[str]:
    """How csbp does against the best BP there, and what overshoot does elsewhere."""
    sentences = []
    over_best = [rows.get(label_at(task, DECISIVE, "csbp", BEST_BP)) for task in ONE_LAYER_TASKS]
    said = [f"{row.label.task} {numbers(row)}" for row in over_best if row is not None]
    if said:
        sentences.append(f"CSBP - best BP there, in points: {', '.join(said)}.")
    elsewhere = {
        "With z held there over the first half of the epochs": DECISIVE._replace(annealing=HELD),
        "At the published rest point": DECISIVE._replace(rest="published"),
    }
    for where, place in elsewhere.items():
        labels = [label_at(task, place, "csbp", "inner flow") for task in ONE_LAYER_TASKS]
        found = by_sign(rows.get(label) for label in labels)
        if found:
            sentences.append(f"{where} CSBP - inner flow is {found}.")
    return sentences


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
        " ".join(sentences),
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
        beside,
    )


def is_it_robust(found: Findings) -> Answer:
    """The change of csbp - best BP under noise; no verdict follows from it."""
    rows = changes_under_noise(found)
    question = "Does it make networks robust?"
    if not rows:
        return Answer(question, NOT_KNOWN, f"CSBP - BP under noise: {UNFINISHED}")
    sides = [side_of_zero(row) for row in rows]
    above, below = sides.count("above zero"), sides.count("below zero")
    return Answer(
        question,
        "No verdict",
        f"Of {len(rows)} uncorrected intervals of how CSBP - best BP changes under noise, {above} "
        f"are above zero and {below} below; by chance, were they independent, about "
        f"{len(rows) / 40:.0f} each",
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
