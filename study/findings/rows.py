"""A contrast of the study as a row: what it is between, and what was found."""

from __future__ import annotations

from typing import NamedTuple

from ..contrasts import Contrast, contrast, split_means
from ..experiments.experiment_1 import Place
from ..protocol import IMAGES
from .cells import Trained

BEST_BP = "best bp"  # of experiment 2, beside BP at the rate of csbp

SUBSTEPS = " sub-steps"  # after their number, the name of an arm of experiment 3

SOLVED = 95.0  # per cent, by both sides: epochs to the solution tell more than accuracy
NOT_ACCURACY = ("dead", "rate", "epochs")  # measures that the noise floor says nothing of


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


# Labels


def label_on_images(first: str, second: str) -> Label:
    """The label of a contrast of experiment 4."""
    return Label("4", IMAGES, "", "", first, second)


def label_at(task: str, place: Place, first: str, second: str) -> Label:
    """The label of a contrast of experiment 1."""
    condition = f"{place.rest}, {place.annealing}"
    return Label("1", task, condition, f"{place.ratio:g}", first, second)


def membrane_label(task: str) -> Label:
    """The label of the primary contrast of experiment 3."""
    return Label("3", task, "", "", "membrane", "quadratic_membrane")


def stronger_label(task: str, times: int) -> Label:
    """The label of the same contrast with z of the membrane form so many times the tuned one."""
    return membrane_label(task)._replace(point=f"{times}")


def is_by_substeps(label: Label) -> bool:
    """Whether the second side of a contrast of experiment 3 is the form in sub-steps."""
    return label.second.endswith(SUBSTEPS)


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
