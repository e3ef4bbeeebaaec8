"""Experiment 5 of `PROTOCOL.md`: the settings that the authors published, looked at, not trained.

What is taken from them: the recipe for DVS-CIFAR10 in their code, and the logs of their trainings,
of which the few numbers below are all that is used here.

Source: Wang, Tao and Chen 2024, doi:10.1093/nsr/nwae037, and the code and logs published with it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch

from csbp_core import chaotic_loss, critical_z
from csbp_core.checks import check
from csbp_notebooks.files import ROOT

from ..training.arms import CLAMP, I0, SCALE


class LossLog(NamedTuple):
    """What the log of one training says of the chaotic loss, of each epoch's last batch.

    Attributes:
        data_set: its name.
        first: the loss in the first epoch, z times the sum over layers of their means.
        factor: of z per epoch, fitted to the log of the loss over all epochs, and rounded.
        lowest: of the loss divided by `factor ** epoch`, over the epochs in which it is above .1,
            since the log has four decimals.
        highest: likewise.
        layers: how many layers the loss is a sum over; None where it is not known.
    """

    data_set: str
    first: float
    factor: float
    lowest: float
    highest: float
    layers: int | None = None


LOSS_LOGS = (
    LossLog("DVS-CIFAR10", 20.7767, 0.98, 20.6465, 20.7767, layers=2),
    LossLog("CIFAR100", 12.3994, 0.98, 12.3759, 12.4684),
    LossLog("DVS-Gesture", 10.4195, 0.95, 10.3918, 10.4206),
    LossLog("ImageNet", 12.9248, 0.9925, 12.9248, 12.9794),
)


class AccuracyLog(NamedTuple):
    """Test accuracies of two trainings that differ in the chaotic loss, one run of each, in points.

    Attributes:
        data_set: its name.
        test_samples: how many it is tested on.
        without: mean over the last ten epochs, by BP.
        with_csbp: likewise, with the chaotic loss.
        best_without: of all epochs, which is what is published.
        best_with_csbp: likewise.
    """

    data_set: str
    test_samples: int
    without: float
    with_csbp: float
    best_without: float
    best_with_csbp: float


ACCURACY_LOGS = (
    AccuracyLog("DVS-CIFAR10", 1_000, 78.91, 80.85, 79.60, 81.70),
    AccuracyLog("CIFAR100", 10_000, 78.240, 78.545, 78.42, 78.81),
    AccuracyLog("ImageNet", 50_000, 63.4029, 65.1154, 63.609, 65.2534),
)

# Of DVS-CIFAR10 without the chaotic loss, also logged: mean over the last ten epochs, in points.
OTHER_NETWORKS = {"CNN6": 78.07, "VGG": 80.13}


class Interval(NamedTuple):
    """Where a number lies; ends included."""

    low: float
    high: float


def loss_per_z() -> Interval:
    """The least and the most that a layer's mean loss can be for z = 1, wherever its h are.

    Every element has the loss of an h in `CLAMP`. That is least at `h* = scale logit(I0)`, which
    lies inside, and most at one of the ends.

    Example:
        >>> low, high = loss_per_z()
        >>> round(low, 3), round(high, 3)
        (0.647, 0.963)
    """
    rest = SCALE * math.log(I0 / (1 - I0))
    losses = [_loss_at(h) for h in (rest, *CLAMP)]
    return Interval(min(losses), max(losses))


def undecided_loss() -> float:
    """A layer's mean loss for z = 1 where |h| is far below the scale, and s near 1/2: ln 2."""
    return _loss_at(0.0)


def _loss_at(h: float) -> float:
    at = torch.tensor([h], dtype=torch.float64)
    return float(chaotic_loss(at, 1.0, I0, SCALE))


def z_at_start(log: LossLog, layers: int) -> Interval:
    """The z in the first epoch that the logged loss allows, if it is a sum over so many layers.

    In every epoch the loss is `z factor ** epoch` times a sum of as many numbers within
    `loss_per_z`; so the z of all epochs must fit.

    Args:
        log: one of `LOSS_LOGS`.
        layers: >= 1.

    Example:
        >>> low, high = z_at_start(LOSS_LOGS[0], layers=2)
        >>> round(low, 1), round(high, 1)
        (10.8, 15.9)
    """
    check("layers", layers, "[1, inf)", integer=True)
    least, most = loss_per_z()
    return Interval(log.highest / (layers * most), log.lowest / (layers * least))


class Layer(NamedTuple):
    """A fully connected layer whose inputs are bounded, and how it is trained.

    Attributes:
        fan_in: inputs, >= 1.
        outputs: >= 1.
        lr: learning rate, > 0.
        momentum: in [0, 1).
        weight_decay: >= 0.
        dropout: the share p of its inputs set to zero, in [0, 1); the others are multiplied by
            1 / (1 - p).
        largest_input: before dropout, > 0: inputs lie in [0, largest_input]. Spikes do, with 1,
            and averages of spikes.
    """

    fan_in: int
    outputs: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.0
    largest_input: float = 1.0


# fc1 of the two networks whose sizes are known. What of CIFAR100 is not: see notebook 09.
DVS_CIFAR10 = Layer(fan_in=2304, outputs=1024, lr=0.1, dropout=0.25)
CIFAR100 = Layer(fan_in=8192, outputs=256, lr=0.1)


def critical_z_bound(layer: Layer) -> float:
    """A z below which the chaotic loss of a layer's output cannot make its training unstable.

    With a the largest input after dropout, every row of X, its one for the bias included, has a
    squared length of at most fan_in a^2 + 1, and so::

        lambda_max(X^T X) <= trace(X^T X) <= rows (fan_in a^2 + 1)

        z_c >= (2 (1 + m) / lr - weight_decay) scale^2 outputs / (I0 (1 - I0) (fan_in a^2 + 1))

    of a mean over rows x outputs elements. Batch and time steps are not in it, and no data. It is
    met if all inputs are a.

    Args:
        layer: as in `Layer`.

    Returns it, > 0. Raises ValueError for a number out of range.

    Source: `csbp_core.critical_z`.

    Example:
        >>> round(critical_z_bound(DVS_CIFAR10))
        4175
    """
    check("fan_in", layer.fan_in, "[1, inf)", integer=True)
    check("outputs", layer.outputs, "[1, inf)", integer=True)
    check("dropout", layer.dropout, "[0, 1)")
    check("largest_input", layer.largest_input, "(0, inf)")
    largest = layer.largest_input / (1 - layer.dropout)
    return critical_z(
        lambda_max=layer.fan_in * largest**2 + 1,  # of a single row
        lr=layer.lr,
        momentum=layer.momentum,
        I0=I0,
        scale=SCALE,
        reduction="mean",
        numel=layer.outputs,  # likewise
        weight_decay=layer.weight_decay,
    )


def sampling_error(accuracy: float, samples: int) -> float:
    """The standard deviation of an accuracy over test sets of so many samples, in points.

    ::

        sqrt(accuracy (100 - accuracy) / samples)

    of the binomial distribution. It says nothing of what another seed gives.

    Args:
        accuracy: in points, in [0, 100].
        samples: in the test set, >= 1.

    Example:
        >>> round(sampling_error(80.0, 1000), 2)
        1.26
    """
    check("accuracy", accuracy, "[0, 100]")
    check("samples", samples, "[1, inf)", integer=True)
    return math.sqrt(accuracy * (100 - accuracy) / samples)


class Gain(NamedTuple):
    """A difference in accuracy, and its standard error from the test set alone; in points."""

    difference: float
    error: float


def gain(log: AccuracyLog) -> Gain:
    """What a training with the chaotic loss had more, as if each had a test set of its own.

    Both were tested on the same samples; where they mostly err on the same ones, as networks that
    are alike do, the error is smaller. How much smaller the logs do not say.

    Args:
        log: one of `ACCURACY_LOGS`.
    """
    errors = [sampling_error(points, log.test_samples) for points in (log.without, log.with_csbp)]
    return Gain(log.with_csbp - log.without, math.hypot(*errors))


FC1_OF_EXPERIMENT_4 = Layer(fan_in=784, outputs=64, lr=0.1)
Z_OF_EXPERIMENT_4 = 15.0  # in the first epoch

EXPERIMENT_4 = ROOT / "study" / "results" / "experiment_4"


def measured_critical_z(folder: Path = EXPERIMENT_4) -> dict[str, list[float]]:
    """The critical z of fc1 that experiment 4 measured in csbp's networks, a number for each.

    Args:
        folder: where its cells are; there need not be any.

    Returns it for the "start" and the "end" of training, both at the learning rate of the start;
    empty if there are no such cells.
    """
    measured: dict[str, list[float]] = {}
    for path in sorted(folder.glob("**/*.json")):
        cell = json.loads(path.read_text())
        if cell.get("arm") != "csbp":
            continue
        for when in ("start", "end"):
            limits = cell[f"fc1_{when}"]["critical_z"]  # None where fc1 gets no spikes
            known = [limit for limit in limits if limit is not None]
            measured.setdefault(when, []).extend(known)
    return measured
