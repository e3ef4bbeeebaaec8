"""What the findings of the study answer, in sentences that hold whatever the verdicts are.

Every question has a short answer and what it rests on: verdicts on primary contrasts or, where none
asks the question, uncorrected intervals, which are then called that. What stands beside has
intervals and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from csbp_notebooks.signs import less

from ..experiments.experiment_1 import TASK_NAMES as ONE_LAYER_TASKS
from ..experiments.experiment_3 import TIMES
from ..experiments.experiment_4 import FC1_ARMS
from ..protocol import IMAGES, SPLITS
from ..tasks.tasks import TASKS
from ..training.arms import BASELINE, LOWEST_RATE
from .all_contrasts import Findings
from .cells import substeps_path
from .measured import DECISIVE, is_at_chance
from .numbers import decimals, numbers, points
from .plain_words import chaos_in_plain_words, csbp_in_plain_words, from_torchs_weights
from .rows import (
    BEST_BP,
    Label,
    Row,
    is_by_substeps,
    label_at,
    label_on_images,
    stronger_label,
)
from .secondary import HALVED, OVERSHOOT
from .strength import both_sides, is_it_strength, outside_of_the_momentum
from .verdicts import CANNOT_BE_INTEGRATED, EQUIVALENT, HELPS, HURTS, UNFINISHED
from .words import (
    ABOVE,
    AROUND,
    AS_NOW,
    AS_NOW_COSINE,
    BELOW,
    FROM_DATA,
    FROM_DATA_COSINE,
    NOT_FROM_GOOD_WEIGHTS,
    NOT_KNOWN,
    NOT_SHOWN,
    OVER_BEST_BP,
    OVER_BP,
    OVER_FLOW,
    WITHIN_FLOOR,
    WITHOUT_OVERSHOOT,
    at_twice,
    by_sign,
    enumerated,
    gains_as_now,
    given_to_bp,
    groups,
    in_so_many,
    is_beside_zero,
    lead,
    listed,
    not_zero,
    over_best_bp_at_twice,
    over_bp,
    rows_by_label,
    side_of_zero,
    so_far_as_now,
    verdicts_of,
    where_overshoot_helps,
)

REST_IN_WORDS = {"inside": "h* = 1", "published": "the published h*"}  # of experiment 1


# What robustness is asked of: conditions of experiments 2 and 4, by their names in a sentence.
STARTS_UNDER_NOISE = {
    "from data-driven weights": FROM_DATA,
    "from torch's weights": AS_NOW,
    "by the authors' recipe": label_on_images("csbp", BASELINE).condition,
}
STARTS_BY_COSINE = {
    "from data-driven weights": FROM_DATA_COSINE,
    "from torch's weights": AS_NOW_COSINE,
}

BATCH_NORMS_START = [0.0, 1.0]  # mean and standard deviation of a channel's current


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
        name: a word, by which the record of notebook 8 has it.
        question: as a reader asks it.
        short: the answer in a few words; no full stop.
        because: the verdicts that it rests on, likewise.
        though: what must be said with them, likewise; may be empty.
        beside: whole sentences on what has no verdict; may be empty.
        plain: the same for a reader who has read nothing else, in whole sentences; of the answers
            that come first, else empty.
    """

    name: str
    question: str
    short: str
    because: str
    though: str = ""
    beside: str = ""
    plain: str = ""

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


def for_record(given: Iterable[Answer]) -> dict[str, dict[str, str]]:
    """Answers as notebook 8 records them beside its figures, by name."""
    return {
        answer.name: {
            "question": answer.question,
            "short": answer.short,
            "reasons": answer.reasons,
            "beside": answer.beside,
            "plain": answer.plain,
        }
        for answer in given
    }


def summary(found: Findings) -> str:
    """The findings in one sentence."""
    csbp = groups(verdicts_of(found, "2"))
    recipe = groups(verdicts_of(found, "4"))
    overshoot = groups(verdicts_of(found, "1"))
    form = groups(verdicts_of(found, "3"))
    return (
        f"CSBP less the best BP from data-driven weights: {csbp}; by the authors' recipe, CSBP "
        f"less BP: {recipe}; chaos, as CSBP less {WITHOUT_OVERSHOOT}, h* = 1, z starting at "
        f"twice z_c: {overshoot}; the membrane form less a quadratic pull: {form}"
    )


# The questions


def does_csbp_help(found: Findings) -> Answer:
    """Experiment 2, from data-driven weights, and experiment 4."""
    rows = rows_by_label(found)
    parts = [
        _small_but_there(found, "2", "4"),
        from_torchs_weights(rows),
        _on_membranes(rows),
    ]
    short = lead(verdicts_of(found, "2", "4"))
    if short == "No" and gains_as_now(rows):
        short = NOT_FROM_GOOD_WEIGHTS
    return Answer(
        "csbp",
        "Does CSBP help?",
        short,
        f"{OVER_BEST_BP}, both from data-driven weights: {groups(verdicts_of(found, '2'))}; by the "
        f"authors' recipe, {OVER_BP}: {groups(verdicts_of(found, '4'))}",
        "; ".join(part for part in parts if part),
        _free_to_be_weak(found),
        csbp_in_plain_words(found, short),
    )


def _small_but_there(found: Findings, *experiments: str) -> str:
    """Where a difference is equivalent to none and yet not zero, or perhaps not; may be empty."""
    labels = [row.label for experiment in experiments for row in not_zero(found, experiment)]
    small = [
        row
        for row in found.primary
        if row.label.experiment in experiments and row.verdict == EQUIVALENT
    ]
    surely = [row for row in small if row.label in labels]
    perhaps = [row for row in small if row not in surely and is_beside_zero(row)]
    parts = []
    if surely:
        parts.append(f"within the margin and yet not zero, both by corrected tests: {_all(surely)}")
    if perhaps:
        parts.append(f"the uncorrected interval alone leaves out zero in {_all(perhaps)}")
    return "; ".join(parts)


def _on_membranes(rows: Mapping[Label, Row]) -> str:
    """How the other form of CSBP stands to the best BP at a constant rate; may be empty."""
    parts = []
    for start, condition in (("data-driven", FROM_DATA), ("torch's", AS_NOW)):
        signs = by_sign(rows.get(over_bp(task, condition, arm="membrane")) for task in TASKS)
        if signs:
            parts.append(f"from {start} weights {signs}")
    if not parts:
        return ""
    return (
        f"in the tasks all of that is the form on currents; on membranes the uncorrected interval "
        f"of {OVER_BEST_BP} lies, {'; '.join(parts)}"
    )


def _free_to_be_weak(found: Findings) -> str:
    """The strengths that tuning chose where the primary contrast is; empty if it is not done."""
    paths = [f"tuning/{task}/data_constant/csbp" for task in TASKS]
    chosen = [found.choices[path]["z"] for path in paths if path in found.choices]
    if not chosen or EQUIVALENT not in verdicts_of(found, "2").values():
        return ""
    ends = dict.fromkeys(f"{end:g}" for end in (min(chosen), max(chosen)))  # once if they agree
    return (
        f"Tuning was free to choose a weak loss (z {' to '.join(ends)} from "
        f"data-driven weights): *equivalent* says that it is not needed there, not what a "
        f"stronger one would do."
    )


def _all(rows: Iterable[Row]) -> str:
    """Contrasts in a row, each with its task and its margin."""
    return ", ".join(f"{row.label.task} ({numbers(row)}, margin {row.margin:g})" for row in rows)


def by_what(found: Findings) -> Answer:
    """Whether what csbp gains from torch's weights is what better weights give BP as well."""
    rows = rows_by_label(found)
    gains = gains_as_now(rows)
    beside = [
        dead_in_words(rows),
        woken_for_nothing(rows),
        regulariser_in_words(rows),
        strengths_in_words(found),
        starts_in_words(found),
    ]
    so_far = so_far_as_now(rows)
    said = ", ".join(f"{row.label.task} {numbers(row)}" for row in gains)
    where = f" ({said})" if gains else ""
    because = (
        f"From torch's weights, at a constant rate, the uncorrected interval of {OVER_BEST_BP} "
        f"lies above zero in "
        f"{len(gains)} of {len(TASKS)} tasks{so_far}{where}"
    )
    short = _source(found, gains)
    if not gains:
        short = NOT_KNOWN if so_far else "No gain to explain"
    elif so_far:
        short += f",{so_far}"
    return Answer(
        "source",
        "By what, then?",
        short,
        because,
        _what_weights_give(rows),
        " ".join(sentence for sentence in beside if sentence),
    )


def _source(found: Findings, gains: Sequence[Row]) -> str:
    """Whether the gains go where both sides have data-driven weights, and BP gains from those.

    Args:
        found: the findings.
        gains: csbp less the best BP from torch's weights, where it is above zero.
    """
    rows = rows_by_label(found)
    verdict_of = verdicts_of(found, "2")
    verdicts = [verdict_of[row.label.task] for row in gains]
    given = [rows.get(given_to_bp(row.label.task)) for row in gains]
    is_given = all(row is not None and row.found.low > 0 for row in given)
    if is_given and set(verdicts) <= {EQUIVALENT, HURTS}:
        remains = _what_remains(found, gains)
        if not _is_most(gains, given):
            return f"In part by what data-driven weights give BP, too{_after_semicolon(remains)}"
        if remains:
            return f"Mostly by what data-driven weights give BP, too; {remains}"
        return "By what data-driven weights give BP, too"
    if set(verdicts) == {HELPS}:
        return "Not by what data-driven weights give BP"
    return NOT_SHOWN


def _is_most(gains: Sequence[Row], given: Sequence[Row | None]) -> bool:
    """Whether in every task at least half of a gain is given to BP, too."""
    return all(
        row is not None and 2 * row.found.estimate >= gain.found.estimate
        for gain, row in zip(gains, given, strict=True)
    )


def _after_semicolon(words: str) -> str:
    """Words that follow others in a sentence; empty if there are none."""
    return f"; {words}" if words else ""


def _what_remains(found: Findings, gains: Sequence[Row]) -> str:
    """Of these gains what is there from data-driven weights, too, and not zero; may be empty."""
    tasks = [row.label.task for row in gains]
    parts = [
        f"{row.found.estimate:.{decimals(row)}f} points in {row.label.task}"
        for row in not_zero(found, "2")
        if row.label.task in tasks and row.found.estimate > 0
    ]
    return f"added to those weights CSBP still gains {enumerated(parts)}" if parts else ""


def _what_weights_give(rows: Mapping[Label, Row]) -> str:
    """What data-driven weights give the best BP, and its dead neurons without; may be empty.

    Of the tasks that have both, that with the most dead neurons first.
    """
    dead_and_said = []
    for task in TASKS:
        given = rows.get(given_to_bp(task))
        dead = rows.get(over_bp(task, AS_NOW, measure="dead"))
        if given is not None and dead is not None:
            share = dead.means[1]
            dead_and_said.append((share, f"{task} {numbers(given)} ({share:.0f} %)"))
    if not dead_and_said:
        return ""
    said = [words for _, words in sorted(dead_and_said, reverse=True)]
    return (
        "data-driven weights give the best BP, in points, and in brackets the neurons that are "
        f"dead without them: {', '.join(said)}"
    )


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


def woken_for_nothing(rows: Mapping[Label, Row]) -> str:
    """Where CSBP leaves fewer neurons dead from torch's weights and gains nothing; may be empty."""
    parts = []
    for task in TASKS:
        dead = rows.get(over_bp(task, AS_NOW, measure="dead"))
        gain = rows.get(over_bp(task, AS_NOW))
        if dead is not None and gain is not None and dead.found.high < 0 and gain.found.low <= 0:
            csbp, bp = dead.means
            parts.append(f"{task} ({csbp:.0f} for {bp:.0f} %)")
    if not parts:
        return ""
    return (
        f"From torch's weights CSBP leaves fewer neurons dead than BP, and is not above it by the "
        f"uncorrected interval, in {enumerated(parts)}: awake neurons alone are no gain."
    )


def regulariser_in_words(rows: Mapping[Label, Row]) -> str:
    """What a term that lifts low firing rates comes to, and how many neurons it leaves dead."""
    found = by_sign(rows.get(over_bp(task, AS_NOW, arm="firing_rate")) for task in TASKS)
    if not found:
        return ""
    said = (
        f"A lower-bound firing-rate regulariser, which lifts rates below {LOWEST_RATE:g}, less the "
        f"best BP, from torch's weights: {found}"
    )
    labels = [over_bp(task, AS_NOW, arm="firing_rate", measure="dead") for task in TASKS]
    dead = [rows[label] for label in labels if label in rows]
    if dead:
        most = max(dead, key=lambda row: row.means[0])
        said += f"; it leaves up to {most.means[0]:.0f} % of the neurons dead ({most.label.task})"
    more = [row.label.task for row in dead if row.found.low > 0]
    if more:
        said += f", and more than BP in {enumerated(more)}"
    return f"{said}."


def strengths_in_words(found: Findings) -> str:
    """How far the tuned z is from z_c."""
    if not found.tuned:
        return ""
    largest = max(task.largest for task in found.tuned)
    tasks = listed([task.task for task in found.tuned])
    meaning = "that is at z_c or above"
    if largest < 1:
        meaning = "the chaotic loss by itself is stable there"
    return f"At the z that tuning chose, z / z_c is at most {largest:.2g} ({tasks}); {meaning}."


def starts_in_words(found: Findings) -> str:
    """The data-driven start that tuning chose in every task."""
    tasks_of: dict[str, list[str]] = {}
    for task in TASKS:
        choice = found.choices.get(f"tuning/{task}/data_constant/{BASELINE}")
        if choice is not None:
            mean, spread = choice["start_from_data"]
            tasks_of.setdefault(f"{mean:g} and {spread:g}", []).append(task)
    if not tasks_of:
        return ""
    said = [f"{start} ({listed(tasks)})" for start, tasks in tasks_of.items()]
    return (
        "Mean and standard deviation of every current at the data-driven start, chosen by "
        f"validation: {', '.join(said)}."
    )


def does_chaos_help(found: Findings) -> Answer:
    """Experiment 1: the primary contrast, and whether csbp is above BP where it helps."""
    verdict_of = verdicts_of(found, "1")
    overshoot = where_overshoot_helps(found)
    beside = []
    short = lead(verdict_of)
    if any(overshoot):  # that it helps is not enough
        short = NOT_SHOWN
        if overshoot.gain:
            short = in_so_many(len(overshoot.gain), len(verdict_of))
        if overshoot.not_compared or UNFINISHED in verdict_of.values():
            short += " so far"
    if overshoot.not_shown:
        beside.append(
            f"In {listed(overshoot.not_shown)} overshoot helps, and CSBP is not shown to be above "
            "BP of the same length and above the best BP: that is not shown to be a gain over BP."
        )
    if overshoot.not_compared:
        beside.append(
            f"In {listed(overshoot.not_compared)} overshoot helps, and CSBP is not yet compared "
            "with BP."
        )
    beside += outside_of_the_momentum(rows_by_label(found))
    beside += is_it_strength(found)
    beside += _by_halved_steps(rows_by_label(found))
    beside += _beside_overshoot(rows_by_label(found))
    beside += _time_above_critical(found)
    contrast = f"{OVER_FLOW} ({WITHOUT_OVERSHOOT}), h* = 1, z starting at twice z_c"
    because = f"{contrast}: {groups(verdict_of)}"
    rows = rows_by_label(found)
    parts = [_outside_of_momentum(rows), _what_sides_come_to(rows), _cost_against_bp(rows)]
    though = "; ".join(part for part in parts if part)
    plain = chaos_in_plain_words(found, overshoot)
    return Answer("chaos", "Does chaos help?", short, because, though, " ".join(beside), plain)


def _by_halved_steps(rows: Mapping[Label, Row]) -> list[str]:
    """In which tasks the contrast is on another side of zero with the flow's steps halved."""
    first, second = OVERSHOOT
    parts = []
    for task in ONE_LAYER_TASKS:
        whole = rows.get(at_twice(task, first, second))
        halved = rows.get(at_twice(task, f"{first}{HALVED}", f"{second}{HALVED}"))
        if whole is None or halved is None or side_of_zero(whole) == side_of_zero(halved):
            continue
        parts.append(f"{task} {numbers(halved)}, with {numbers(whole)} by the study's own")
    if not parts:
        return []
    return [f"With the steps of the flow halved, {OVER_FLOW} is, in points, {'; '.join(parts)}."]


def _outside_of_momentum(rows: Mapping[Label, Row]) -> str:
    """What overshoot does where both pulls act outside of the momentum; may be empty."""
    kicks = [rows.get(at_twice(task, "kick", "outer flow")) for task in ONE_LAYER_TASKS]
    parts = [f"{row.label.task} {numbers(row)}" for row in kicks if row is not None]
    sides = less("kick", "outer flow")
    if not parts:
        return ""
    return f"with both outside of the momentum, {sides}, in points: {', '.join(parts)}"


def _what_sides_come_to(rows: Mapping[Label, Row]) -> str:
    """The accuracies behind the primary contrast; may be empty."""
    parts = [
        f"{sides.csbp:.1f}, {sides.flow:.1f} and {sides.bp:.1f} % ({sides.task})"
        for sides in both_sides(rows)
    ]
    return f"CSBP, inner flow and BP of that rate end at {', '.join(parts)}" if parts else ""


def _cost_against_bp(rows: Mapping[Label, Row]) -> str:
    """How csbp does against the best BP where the primary contrast is; may be empty."""
    said = [f"{row.label.task} {numbers(row)}" for row in over_best_bp_at_twice(rows)]
    return f"{OVER_BEST_BP} there, in points: {', '.join(said)}" if said else ""


def _beside_overshoot(rows: Mapping[Label, Row]) -> list[str]:
    """What overshoot does elsewhere at z_c and above, and its largest gain there."""
    elsewhere = [row for row in rows.values() if _is_overshoot_elsewhere(row.label)]
    sentences = []
    if elsewhere:
        sides = [side_of_zero(row) for row in elsewhere]
        sentences.append(
            f"Elsewhere with z starting at z_c or above ({_which_conditions(elsewhere)}), the "
            f"uncorrected interval of {OVER_FLOW} lies below zero in {sides.count(BELOW)} "
            f"of {len(sides)} conditions, around it in {sides.count(AROUND)} and above it "
            f"in {sides.count(ABOVE)}{_all_at_one_rest(elsewhere)}{not_counted(sides)}."
            f"{_gains_that_are_below_bp(rows, elsewhere)}"
        )
        largest = max(elsewhere, key=lambda row: row.found.estimate)
        if side_of_zero(largest) == ABOVE:
            sentences.append(_where_it_is_above(rows, largest))
    return sentences


def _is_overshoot_elsewhere(label: Label) -> bool:
    """Whether a contrast is csbp less inner flow at z_c or above, but not the primary one."""
    return (
        (label.experiment, label.first, label.second) == ("1", "csbp", "inner flow")
        and label.measure == "accuracy"
        and float(label.point) >= 1
        and label != label_at(label.task, DECISIVE, "csbp", "inner flow")
    )


def _which_conditions(elsewhere: Sequence[Row]) -> str:
    """The rest points among some conditions, and how many there are in every task."""
    rests = [
        words
        for rest, words in REST_IN_WORDS.items()
        if any(row.label.condition.startswith(f"{rest}, ") for row in elsewhere)
    ]
    tasks = [row.label.task for row in elsewhere]
    counts = [f"{tasks.count(task)} in {task}" for task in ONE_LAYER_TASKS if task in tasks]
    return f"{enumerated(rests)}, every annealing that is there: {enumerated(counts)}"


def _all_at_one_rest(elsewhere: Sequence[Row]) -> str:
    """The rest point of all conditions above zero, where they are several and share it."""
    above = [row for row in elsewhere if side_of_zero(row) == ABOVE]
    rests = {row.label.condition.split(", ")[0] for row in above}
    if len(above) < 2 or len(rests) > 1:
        return ""
    return f", always with {REST_IN_WORDS[rests.pop()]}"


def _gains_that_are_below_bp(rows: Mapping[Label, Row], elsewhere: Sequence[Row]) -> str:
    """In how many of the conditions above zero csbp is below the best BP; may be empty.

    A sentence, with a space before it.
    """
    above = [row for row in elsewhere if side_of_zero(row) == ABOVE]
    over_best = [rows.get(row.label._replace(second=BEST_BP)) for row in above]
    present = [row for row in over_best if row is not None]
    if not present:
        return ""
    below = sum(side_of_zero(row) == BELOW for row in present)
    return f" Of those above it, CSBP is below the best BP in {below} of {len(present)}."


def _where_it_is_above(rows: Mapping[Label, Row], largest: Row) -> str:
    """The largest of these contrasts above zero, and what all sides of it come to."""
    rest, annealing = largest.label.condition.split(", ")
    where = f"{largest.label.task}, {REST_IN_WORDS[rest]}, z0 = {largest.label.point} z_c"
    csbp, flow = largest.means
    ends = f"inner flow ends at {flow:.1f} %, CSBP at {csbp:.1f} %"
    if is_at_chance(flow, largest.label.task):
        ends = f"inner flow learns nothing ({flow:.1f} %), CSBP ends at {csbp:.1f} %"
    sentence = f"The largest is {numbers(largest)} points ({where}, annealing {annealing}): {ends}"
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
                f"At {strength}, the interval of the form as it is, less the same in small "
                f"sub-steps, lies {signs}{refused}{_both_ruined(followed, times)}."
            )
    sentences += _stronger_than_the_pull(found)
    return Answer(
        "form",
        "Does the membrane form do more than a plain pull?",
        lead(verdict_of),
        f"{less('membrane', 'quadratic pull')}, each at its own tuned setting: "
        f"{groups(verdict_of)}",
        "; ".join(_other_settings(found, task) for task in _not_settled(found, verdict_of)),
        beside=" ".join(sentences),
    )


def _both_ruined(followed: Mapping[tuple[str, int], Row], times: int) -> str:
    """Where both sides have lost half of what the form comes to at its tuned z; may be empty."""
    tasks = []
    for task in TASKS:
        here, tuned = followed.get((task, times)), followed.get((task, 1))
        if here is not None and tuned is not None and max(here.means) < tuned.means[0] / 2:
            tasks.append(task)
    if not tasks:
        return ""
    return f"; in {enumerated(tasks)} both have lost more than half of the accuracy at the tuned z"


def _stronger_than_the_pull(found: Findings) -> list[str]:
    """Where the form stands to the pull at more than its tuned z; a sentence for every strength."""
    rows = rows_by_label(found)
    sentences = []
    for times in TIMES:
        stronger = [rows.get(stronger_label(task, times)) for task in TASKS]
        present = [row for row in stronger if row is not None]
        if present:
            lowest = min(present, key=lambda row: row.found.estimate)
            sentences.append(
                f"At {times} times its tuned z the interval of the form, less the pull as tuned, "
                f"lies {by_sign(present)}; lowest: {lowest.label.task} {numbers(lowest)}."
            )
    return sentences


def _not_settled(found: Findings, verdict_of: Mapping[str, str]) -> list[str]:
    """The tasks in which both are not equivalent, and whose tuned settings are known."""
    return [
        task
        for task, verdict in verdict_of.items()
        if verdict != EQUIVALENT and _other_settings(found, task)
    ]


def _other_settings(found: Findings, task: str) -> str:
    """The tuned settings of the membrane form and of the quadratic pull; may be empty."""
    paths = [f"tuning/{task}/now_constant/{arm}" for arm in ("membrane", "quadratic_membrane")]
    if any(path not in found.choices for path in paths):
        return ""
    membrane, pull = (_setting(found.choices[path]) for path in paths)
    return f"in {task} that is {membrane} on the membrane and {pull} for the pull"


def _setting(choice: Mapping[str, Any]) -> str:
    """What was tuned."""
    return f"lr {choice['lr']:g}, z {choice['z']:g}, {choice['epochs']} epochs"


def less_substeps(found: Findings) -> dict[tuple[str, int], Row]:
    """The membrane form less its most sub-steps, by task and times the tuned z."""
    return {
        (row.label.task, int(row.label.point)): row
        for row in found.secondary
        if is_by_substeps(row.label) and row.label.measure == "accuracy"
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
    if primary in not_zero(found, "4"):
        result += ", and not zero" if verdict_of[IMAGES] == EQUIVALENT else ""
    short, where = lead(verdict_of), "On Fashion-MNIST"
    if short == "No":
        short, where = "Not on Fashion-MNIST, in a small network", "There"
    said = []
    for name, arm in (("a quadratic pull", "quadratic"), ("data-driven weights", "bp_data")):
        row = rows.get(label_on_images(arm, BASELINE))
        if row is not None:
            said.append(f"{name} {numbers(row)}")
    beside = []
    if said:
        beside.append(f"What else is gained over BP, in points: {', '.join(said)}.")
    beside += _same_start(found)
    beside += _overshoot_on_images(found)
    return Answer(
        "recipe",
        "Does the authors' recipe help, on a real data set?",
        short,
        f"{where} {OVER_BP}: {result}",
        beside=" ".join(beside),
    )


def _same_start(found: Findings) -> list[str]:
    """What is to be said where the data-driven start of the images is that of batch norm."""
    starts = {arm.arm: arm.start_from_data for arm in found.arms_on_images}
    if starts.get("bp_data") != BATCH_NORMS_START:
        return []
    return [
        "Of the data-driven starts tuning chose mean 0 and standard deviation 1, which batch norm "
        "gives by itself: the two are the same training there."
    ]


def _overshoot_on_images(found: Findings) -> list[str]:
    """What csbp and inner flow come to on fc1, from its z_c; empty where one is not there."""
    row = rows_by_label(found).get(label_on_images(*FC1_ARMS))
    if row is None:
        return []
    csbp, flow = row.means
    guesses = {arm.arm: arm.at_chance for arm in found.arms_on_images}
    return [
        f"On the output of fc1 alone, z falling from z_c at h* = 1: csbp ends at {csbp:.1f} %, "
        f"inner flow at {flow:.1f} %, in the mean of {len(SPLITS)} networks; no better than a "
        f"guess are {guesses[FC1_ARMS[0]]} of csbp's and {guesses[FC1_ARMS[1]]} of inner flow's, "
        "so that this compares ruined networks with others, and says nothing of a gain."
    ]


def is_it_robust(found: Findings) -> Answer:
    """The change of csbp less BP under noise; no verdict follows from it."""
    rows = changes_under_noise(found, STARTS_UNDER_NOISE)
    question = "Does it make networks robust?"
    if not rows:
        return Answer("robust", question, NOT_KNOWN, f"{OVER_BP} under noise: {UNFINISHED}")
    return Answer(
        "robust",
        question,
        "No verdict",
        f"How {OVER_BEST_BP} (by the recipe: {OVER_BP}) changes under noise, by uncorrected "
        f"intervals and at a constant rate (the recipe's falls): {_grows_and_shrinks(rows)}",
        beside=" ".join(
            sentence
            for sentence in (
                _within_the_floor(rows),
                _robust_by_cosine(found),
                _largest_shrink(found, rows),
                _pull_under_noise(found, rows),
            )
            if sentence
        ),
    )


def _grows_and_shrinks(
    rows: Sequence[Row],
    starts: Mapping[str, str] = STARTS_UNDER_NOISE,
) -> str:
    """In how many contrasts from every start csbp's lead grows and shrinks under noise.

    Args:
        rows: how it changes.
        starts: conditions by their names; those without a contrast are left out.
    """
    said = []
    for start, condition in starts.items():
        sides = [side_of_zero(row) for row in rows if row.label.condition == condition]
        if sides:
            above, below = sides.count(ABOVE), sides.count(BELOW)
            counts = f"{start} it grows in {above} and shrinks in {below} of {len(sides)}"
            said.append(f"{counts}{_if_anything(above, below)}")
    return "; ".join(said)


def not_counted(sides: Sequence[str]) -> str:
    """How many of these intervals leave out zero within the noise floor; empty if none does.

    Example:
        >>> not_counted(["above zero"]), not_counted(["beside zero within the noise floor"])
        ('', ' (not counted: 1 within the noise floor)')
    """
    within = sides.count(WITHIN_FLOOR)
    return f" (not counted: {within} within the noise floor)" if within else ""


def _within_the_floor(rows: Sequence[Row]) -> str:
    """How many of these changes are counted for no side; empty if none is."""
    within = [side_of_zero(row) for row in rows].count(WITHIN_FLOOR)
    if not within:
        return ""
    return f"Of all {len(rows)} intervals {within} leave out zero within the noise floor."


def _robust_by_cosine(found: Findings) -> str:
    """The same counts where the learning rate falls on a cosine; empty if nothing is there."""
    counts = _grows_and_shrinks(changes_under_noise(found, STARTS_BY_COSINE), STARTS_BY_COSINE)
    return f"By cosine, {counts}." if counts else ""


def _if_anything(grows: int, shrinks: int) -> str:
    """What counts come to where all that differ from zero are on one side; else empty.

    Example:
        >>> _if_anything(0, 21), _if_anything(2, 0), _if_anything(19, 12), _if_anything(0, 0)
        (' (if anything less robust)', ' (if anything more robust)', '', '')
    """
    if shrinks and not grows:
        return " (if anything less robust)"
    return " (if anything more robust)" if grows and not shrinks else ""


def _largest_shrink(found: Findings, rows: Sequence[Row]) -> str:
    """Where csbp's lead shrinks most under noise, of what lead; empty if it shrinks nowhere."""
    largest = min(rows, key=lambda row: row.found.estimate)
    if side_of_zero(largest) != BELOW:
        return ""
    label = largest.label
    (start,) = [
        start for start, condition in STARTS_UNDER_NOISE.items() if condition == label.condition
    ]
    noise = label.measure.removesuffix(" - none")
    sentence = (
        f"The difference shrinks most in {label.task} {start}, {noise}: {numbers(largest)} points"
    )
    lead_without = rows_by_label(found).get(label._replace(measure="accuracy"))
    if lead_without is not None:
        sentence += f", where it is {points(lead_without)} without noise"
    return f"{sentence}."


def _pull_under_noise(found: Findings, rows: Sequence[Row]) -> str:
    """Whether a plain pull's lead grows as csbp's does, by the recipe; empty if csbp's does not."""
    all_rows = rows_by_label(found)
    grows = [row for row in rows if row.label.experiment == "4" and side_of_zero(row) == ABOVE]
    said = []
    for row in grows:
        pull = all_rows.get(row.label._replace(first="quadratic"))
        if pull is not None:
            noise = row.label.measure.removesuffix(" - none")
            said.append(f"{noise}: {numbers(row)} by CSBP, {numbers(pull)} by the quadratic pull")
    return f"Where it grows by the recipe, in points: {'; '.join(said)}." if said else ""


def changes_under_noise(found: Findings, starts: Mapping[str, str]) -> list[Row]:
    """How csbp less BP changes under noise.

    Args:
        found: the findings.
        starts: conditions of experiments 2 and 4, by their names.
    """
    return [
        row
        for row in found.secondary
        if row.label.experiment in ("2", "4")
        and (row.label.first, row.label.second) == ("csbp", BASELINE)
        and row.label.condition in starts.values()
        and row.label.measure.endswith("- none")
    ]
