"""How chaotic is training anyway? In sentences and tables that hold whatever was measured.

No verdict is among them: the networks are few, and of one split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from csbp_notebooks.signs import less, with_minus

from ..experiments.experiment_1 import RESTS, TASK_NAMES as ONE_LAYER_TASKS
from ..findings.answers import REST_IN_WORDS
from ..findings.numbers import difference, interval
from ..findings.verdicts import UNFINISHED
from ..findings.words import enumerated
from ..tasks.tasks import TASKS
from .measured import (
    FLIPPING,
    HELD,
    Along,
    Kinds,
    Layers,
    Trainings,
    growth_in_last_fifth,
    kinds,
    over_training,
)
from .of_a_layer import RATIOS
from .of_training import ARMS, D0

SAME = 1e-3  # exponents that differ by less are the same

QUESTION = "How chaotic is training anyway?"
NAMES = {"bp": "BP", "csbp": "CSBP"}
PLACES = 4  # decimals of an exponent

LASTING, TRANSIENT, MIXED, NONE = "lasts", "is transient", "differs between networks", "is none"


def power(distance: float) -> str:
    """A distance as a power of ten, which they all are.

    Example:
        >>> power(1e-9)
        '$10^{-9}$'
    """
    return f"$10^{{{round(math.log10(distance))}}}$"


# Where the exponents of trainings are shown.
WHERE = {
    f"With spikes held ($d_0$ = {power(D0[HELD])})": HELD,
    f"With spikes that flip ($d_0$ = {power(D0[FLIPPING])})": FLIPPING,
}


# All of it


def paragraphs(trainings: Trainings, layers: Layers) -> list[str]:
    """The answer, in paragraphs of Markdown that begin with what they are about."""
    of_arms = []
    for arm in ARMS:
        of_arms.append(f"**{NAMES[arm]}.** {is_it_chaotic(trainings, arm)}")
        of_arms.append(f"**Where that of {NAMES[arm]} is from.** {causes(trainings, arm)}")
    return [
        *of_arms,
        f"**What CSBP adds at its tuned $z$.** {what_csbp_adds(trainings)}",
        f"**A layer by itself.** {of_layers(layers)}",
        f"{limits(trainings)} {are_spikes_held(trainings)}".rstrip(),
    ]


# Of an arm


def claim(trainings: Trainings) -> str:
    """The question and its answer, as a title."""
    return f"{QUESTION} {in_short(trainings)}"


def in_short(trainings: Trainings) -> str:
    """In how many trainings nearly equal networks part to the end; no full stop."""
    of_bp = _lasting(trainings, "bp")
    if not of_bp.trainings:
        return UNFINISHED
    so_far = "" if len(_of_arm(trainings, "bp")) == len(TASKS) else " so far"
    said = (
        f"Under BP, nearly equal networks keep parting to the end in {of_bp.held} of "
        f"{of_bp.trainings} trainings{so_far} while their spikes are the same, in "
        f"{of_bp.flipping} once spikes differ"
    )
    of_csbp = _lasting(trainings, "csbp")
    if of_csbp.trainings:
        said += f"; CSBP, tuned: {of_csbp.held} and {of_csbp.flipping}"
        if of_csbp.trainings != of_bp.trainings:
            said += f" of {of_csbp.trainings}"
    return said


class Lasting(NamedTuple):
    """In how many of an arm's trainings growth lasts, with spikes held and with spikes that flip.

    Attributes:
        held: with spikes held.
        flipping: with spikes that flip.
        trainings: all of them.
    """

    held: int
    flipping: int
    trainings: int


def _lasting(trainings: Trainings, arm: str) -> Lasting:
    """The counts of an arm over the tasks that are there."""
    of_arm = _of_arm(trainings, arm)
    return Lasting(
        held=sum(kinds(along, HELD).lasting for along in of_arm),
        flipping=sum(kinds(along, FLIPPING).lasting for along in of_arm),
        trainings=sum(sum(kinds(along, HELD)) for along in of_arm),
    )


def kind(along: Along, distance: int) -> str:
    """Which growth all networks of a task have, or that theirs differs."""
    found = kinds(along, distance)
    for number, name in zip(found, (LASTING, TRANSIENT, NONE), strict=True):
        if number == sum(found):
            return name
    return MIXED


def is_it_chaotic(trainings: Trainings, arm: str) -> str:
    """Where an arm's exponents are positive, and where that lasts; a paragraph.

    Args:
        trainings: the cells that are there.
        arm: one of `ARMS`.
    """
    of_arm = _of_arm(trainings, arm)
    if not of_arm:
        return f"The exponents of {NAMES[arm]} are {UNFINISHED}."
    sentences = []
    for where, distance in WHERE.items():
        sentences += [
            _positive_in_words(of_arm, distance, where),
            _course_in_words(of_arm, distance),
            _growth_in_words(of_arm, distance),
        ]
    waiting = [task for task in TASKS if (task, arm) not in trainings]
    if waiting:
        sentences.append(f"Unfinished: {', '.join(waiting)}.")
    return " ".join(sentences)


def _positive_in_words(of_arm: Sequence[Along], distance: int, where: str) -> str:
    """In how many networks the exponent of a whole training is positive; a sentence."""
    tasks_of: dict[str, list[str]] = {}
    for along in of_arm:
        exponents = exponents_of(along, distance)
        number = f"{(exponents > 0).sum()} of {len(exponents)} networks"
        tasks_of.setdefault(number, []).append(along.task)
    said = [f"{number} ({', '.join(tasks)})" for number, tasks in tasks_of.items()]
    return (
        f"{where}, {NAMES[of_arm[0].arm]}'s exponent over the whole training is positive in "
        f"{enumerated(said)}."
    )


def _course_in_words(of_arm: Sequence[Along], distance: int) -> str:
    """What the exponents are at first and at last; a sentence."""
    means = np.array([along.exponent[:, distance].mean(axis=1) for along in of_arm])
    first, last = (_span(means[:, part]) for part in (0, -1))
    return (
        f"In the first fifth of the training it is {first} per step, in the last {last} (means "
        "over networks, from task to task)."
    )


def _growth_in_words(of_arm: Sequence[Along], distance: int) -> str:
    """Where growth lasts, is transient or is none; a sentence."""
    tasks_of: dict[str, list[str]] = {name: [] for name in (LASTING, TRANSIENT, MIXED, NONE)}
    for along in of_arm:
        found = kind(along, distance)
        said = along.task
        if found == MIXED:
            said += f": {_counts_in_words(kinds(along, distance))}"
        tasks_of[found].append(said)
    parts = [f"{name} ({'; '.join(tasks)})" for name, tasks in tasks_of.items() if tasks]
    return f"The growth of a difference {', '.join(parts)}."


def _counts_in_words(found: Kinds) -> str:
    """How many networks of each kind.

    Example:
        >>> _counts_in_words(Kinds(1, 0, 3))
        '1 lasting and 3 none'
    """
    counts = [f"{number} {name}" for name, number in found._asdict().items() if number]
    return enumerated(counts)


def are_spikes_held(trainings: Trainings) -> str:
    """How much the exponents at the smallest distance are those at the next one; a sentence.

    Were a spike to flip, the smaller of two differences would grow by the larger factor.
    """
    if not trainings:
        return ""
    gaps = np.concatenate(
        [
            np.abs(along.exponent[:, 0] - along.exponent[:, 1]).ravel()
            for along in trainings.values()
        ]
    )
    return (
        f"That spikes are held at $d_0$ = {power(D0[0])} shows in this: at {power(D0[1])} the "
        f"exponents are the same, to {SAME:g}, in {(gaps < SAME).sum()} of {len(gaps)} fifths of a "
        "training."
    )


def causes(trainings: Trainings, arm: str) -> str:
    """How much of an arm's exponents is overshoot, negative curvature, and spikes; a paragraph.

    Args:
        trainings: the cells that are there.
        arm: one of `ARMS`.
    """
    of_arm = _of_arm(trainings, arm)
    if not of_arm:
        return f"What the exponents of {NAMES[arm]} come from is {UNFINISHED}."
    steepest = max(of_arm, key=lambda along: along.steepness.max())
    overshoot = [_per_cent(along, along.overshoot, HELD) for along in of_arm]
    downhill = [_per_cent(along, along.downhill, HELD) for along in of_arm]
    flipped = [_per_cent(along, along.flipped, FLIPPING) for along in of_arm]
    sentences = [
        f"*Overshoot* under {NAMES[arm]}, spikes held: along the difference in "
        f"{_range_of(overshoot)} % of the steps; in the steepest direction, looked at where each "
        f"fifth begins, lr l / (2 (1 + m)) is at most {steepest.steepness.max():.2g} "
        f"({steepest.task}), and overshoot begins at 1.",
        f"*Negative curvature*: along the difference in {_range_of(downhill)} % of the steps.",
        f"*Spikes*: at $d_0$ = {power(D0[FLIPPING])} the difference flips {_range_of(flipped)} % "
        "of them.",
        _what_is_left(of_arm),
    ]
    return " ".join(sentences).rstrip()


def _what_is_left(of_arm: Sequence[Along]) -> str:
    """What part of the exponents with flips is there with spikes held; may be empty."""
    said = []
    for along in of_arm:
        held, flipping = (exponents_of(along, place).mean() for place in (HELD, FLIPPING))
        if flipping > 0:
            share = with_minus(f"{100 * held / flipping:z.0f}")
            said.append(f"{share} % ({along.task})")
    if not said:
        return ""
    return f"Of the exponent there, spikes held leave {', '.join(said)}."


# Between arms, and of a layer by itself


def what_csbp_adds(trainings: Trainings) -> str:
    """CSBP's exponents less BP's, network by network, each arm as tuned; a paragraph."""
    pairs = [
        (trainings[task, "bp"], trainings[task, "csbp"])
        for task in TASKS
        if all((task, arm) in trainings for arm in ARMS)
    ]
    if not pairs:
        return f"{less('CSBP', 'BP')} is {UNFINISHED}."
    sentences = []
    for where, distance in WHERE.items():
        said = []
        for bp, csbp in pairs:
            differences = exponents_of(csbp, distance) - exponents_of(bp, distance)
            said.append(f"{bp.task} {mean_and_range(differences)}")
        sentences.append(
            f"{where}, {less('CSBP', 'BP')} in the exponent over the whole training, mean and "
            f"range over networks: {', '.join(said)}."
        )
    other_rate = [bp.task for bp, csbp in pairs if bp.lr != csbp.lr]
    if other_rate:
        sentences.append(
            f"In {enumerated(other_rate)} tuning gave CSBP another learning rate than BP: there "
            "the difference is not that of the chaotic loss alone."
        )
    return " ".join(sentences)


def of_layers(layers: Layers) -> str:
    """In how many networks a layer under its chaotic loss alone is chaotic, from z / z_c on."""
    if not layers:
        return f"The exponents of a layer by itself are {UNFINISHED}."
    sentences = []
    for rest in RESTS:
        said = [f"{task} {_positive_by_ratio(records, rest)}" for task, records in layers.items()]
        sentences.append(
            f"Under its chaotic loss alone, {REST_IN_WORDS[rest]}, a layer has a positive exponent "
            f"in so many networks, by $z / z_c$: {'; '.join(said)}."
        )
    waiting = [task for task in ONE_LAYER_TASKS if task not in layers]
    if waiting:
        sentences.append(f"Unfinished: {', '.join(waiting)}.")
    return " ".join(sentences)


def _positive_by_ratio(records: Sequence[Mapping[str, Any]], rest: str) -> str:
    """In how many networks the exponent is positive, at every z / z_c."""
    found = [exponents_at(records, rest, ratio) for ratio in RATIOS]
    numbers = [
        f"{(exponents > 0).sum()} at {ratio:g}"
        for exponents, ratio in zip(found, RATIOS, strict=True)
    ]
    return f"{', '.join(numbers)} (of {len(found[0])})"


def limits(trainings: Trainings) -> str:
    """That no verdict follows, and of how many networks this is; a sentence."""
    networks = {along.exponent.shape[-1] for along in trainings.values()}
    if not networks:
        return "No verdict follows."
    number = enumerated([f"{each}" for each in sorted(networks)])
    return f"No verdict follows: {number} networks a task, all of one split of its data."


# Tables


class Table(NamedTuple):
    """Rows under the names of their columns, as `csbp_notebooks.tables.table` shows them."""

    rows: list[list[str]]
    columns: list[str]


def table_of_distances(trainings: Trainings) -> Table:
    """The exponent over the distance, mean over the whole training and networks."""
    rows = []
    for along in trainings.values():
        means = [exponents_of(along, place).mean() for place in range(len(D0))]
        shown = [with_minus(f"{mean:z.{PLACES}f}") for mean in means]
        rows.append([along.task, NAMES[along.arm], *shown])
    return Table(rows, ["task", "arm", *(f"$d_0$ = {power(distance)}" for distance in D0)])


def table_of_causes(trainings: Trainings) -> Table:
    """What the steps of both arms are like, means over a training and networks."""
    rows = []
    for along in trainings.values():
        row = [along.task, NAMES[along.arm], f"{along.lr:g}"]
        row.append(_two_digits(along.steepness.max()))
        row.append(_range_of(growth_in_last_fifth(along, HELD)))
        for distance in (HELD, FLIPPING):
            for values in (along.downhill, along.overshoot):
                row.append(_two_digits(_per_cent(along, values, distance)))
        row.append(_two_digits(_per_cent(along, along.flipped, FLIPPING)))
        rows.append(row)
    columns = ["task", "arm", "lr", "steepest", "held: last fifth, times"]
    columns += ["held: negative, %", "held: overshoot, %"]
    columns += ["flip: negative, %", "flip: overshoot, %", "flip: spikes, %"]
    return Table(rows, columns)


def table_of_layers(layers: Layers) -> Table:
    """The exponents of a layer by itself, mean and range over networks."""
    rows = []
    for rest, ratio in itertools.product(RESTS, RATIOS):
        found = [exponents_at(records, rest, ratio) for records in layers.values()]
        rows.append([REST_IN_WORDS[rest], f"{ratio:g}", *map(mean_and_range, found)])
    return Table(rows, ["rest", "$z / z_c$", *layers])


# Numbers


def exponents_of(along: Along, distance: int) -> np.ndarray:
    """The exponent of the whole training, `[networks]`, at a place of `D0`."""
    return over_training(along, along.exponent)[distance]


def exponents_at(records: Sequence[Mapping[str, Any]], rest: str, ratio: float) -> np.ndarray:
    """The exponents of a layer by itself at a rest point and a ratio, `[networks]`."""
    (found,) = [
        record["exponent"]
        for record in records
        if (record["rest"], record["ratio"]) == (rest, ratio)
    ]
    return np.array(found, dtype=float)


def mean_and_range(values: np.ndarray) -> str:
    """A mean with its sign, and the least and the largest in square brackets."""
    ends = interval(float(values.min()), float(values.max()), PLACES)
    return f"{difference(float(values.mean()), PLACES)} {ends}"


def _of_arm(trainings: Trainings, arm: str) -> list[Along]:
    """Its tasks that are there."""
    return [along for (_, name), along in trainings.items() if name == arm]


def _per_cent(along: Along, shares: np.ndarray, distance: int) -> float:
    """The mean of shares over a training and its networks, in per cent."""
    return 100 * float(over_training(along, shares)[distance].mean())


def _span(values: Sequence[float] | np.ndarray) -> str:
    """From the least to the largest of several exponents, once where they are shown alike."""
    ends = dict.fromkeys(f"{end:z.{PLACES}f}" for end in (min(values), max(values)))
    return with_minus(" to ".join(ends))


def _range_of(values: Sequence[float] | np.ndarray) -> str:
    """The same of shares and factors, to two digits."""
    return " to ".join(dict.fromkeys(_two_digits(end) for end in (min(values), max(values))))


def _two_digits(value: float) -> str:
    """A share or a factor; without an exponent of ten where it is large.

    Example:
        >>> _two_digits(0.0312), _two_digits(881.7)
        ('0.031', '882')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
