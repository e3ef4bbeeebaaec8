"""What `csbp_core.ChaoticLoss` reports on the study's networks: at first, and along a training.

A share c / (c + r) of the gradient at h has the odds c / r, which are proportional to z: one report
gives the z for any share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from csbp_core import ChaoticLoss
from csbp_core.plugin.measurement import LayerReport

from ..tasks.networks import Net
from ..tasks.tasks import new_net
from ..training.arms import I0
from ..training.train import Training

PROBE = 1.0  # the z at which shares are measured
CALLS = (1, 21)  # of the loss, those of the first two reports

DIVISOR = 3.0  # of z, after a warning

# A network is warned here where a layer's report says one of these. The limits are those of this
# measurement. `ChaoticLoss.report` warns earlier than that, because of what was measured.
SIGNS = ("share", "arrived")
SHARE_LIMIT = 0.8  # of the gradient at h
ARRIVED = 0.1  # of the way from 1/2 to I0 that is left to mean s


# The first reports


def odds(share: Tensor) -> Tensor:
    """share / (1 - share), which is proportional to z."""
    return share / (1 - share)


def median(numbers: Tensor) -> float:
    """The median of the numbers that are known; between two of them their mean."""
    return float(np.nanmedian(numbers.double().numpy()))


def z_for(share: float, shares: Tensor) -> Tensor:
    """The z at which shares that were measured at `PROBE` become another.

    Example:
        >>> z_for(0.5, torch.tensor([0.5, 0.2])) / PROBE
        tensor([1., 4.])
    """
    return PROBE * odds(torch.tensor(share)) / odds(shares)


def first_shares(run: Training) -> Tensor:
    """Every network's first two reports, as a user of torch and `ChaoticLoss` would get them.

    Args:
        run: which networks, their batches, learning rates, z and how it falls.

    Returns the shares of the hidden layers, `[CALLS, networks, layers]`; NaN where unknown.
    """
    state = run.start()
    shares = []
    for place in range(len(run.seeds)):
        net = new_net(run.task, run.seeds[place])
        load(net, run, state, place)
        shares.append(_first_shares_of(net, run, place))
    return torch.stack(shares, dim=1)


def load(net: Net, run: Training, state: list[Tensor], place: int) -> None:
    """Give a network the weights of the one at a place of a state."""
    weights = zip(net.parameters(), state[: len(run.names)], strict=True)
    with torch.no_grad():
        for parameter, stacked in weights:
            parameter.copy_(stacked[place])


def task_loss(net: Net, run: Training, place: int, n: int) -> Tensor:
    """The task's loss of the network at a place on its batch of step n."""
    x, y = run.batch(n)
    return F.cross_entropy(net(net.time_first(x[place])).logits, y[place])


def _first_shares_of(net: Net, run: Training, place: int) -> Tensor:
    """Those of one network, `[CALLS, layers]`."""
    shares = []
    optimizer = SGD(net.parameters(), lr=float(run.lr[place]), momentum=run.momentum)
    with ChaoticLoss(float(run.z[place]), float(run.beta[place])) as chaos:
        chaos.attach(net, list(net.hidden))
        for n in range(max(CALLS)):
            optimizer.zero_grad()
            loss = task_loss(net, run, place, n) + chaos()
            loss.backward()
            optimizer.step()
            if n + 1 in CALLS:
                shares.append(shares_of(chaos))
            if (n + 1) % run.steps == 0:
                chaos.step()  # once per epoch
    return torch.stack(shares)


def shares_of(chaos: ChaoticLoss) -> Tensor:
    """What the last report says of every layer, `[layers]`; NaN where it is unknown."""
    reported = [layer["gradient_share"] for layer in chaos.report().values()]
    return torch.tensor([torch.nan if share is None else share for share in reported])


# Warnings, and what to do then


class Report(NamedTuple):
    """A report on a network in the course of its training.

    Attributes:
        share: the largest of its layers.
        distance: ``|mean s - I0| / |I0 - 1/2|``, the smallest of its layers: 1 at h = 0.
        signs: those of `SIGNS` that some layer's report shows.
    """

    share: float
    distance: float
    signs: set[str]


class Course(NamedTuple):
    """A training of S networks, and what its reports said.

    Attributes:
        curve: validation accuracies, `[validations, S]`.
        shares: of each report, see `Report`, `[validations, S]`.
        distances: likewise.
        first: by sign the first epoch, `[S]`; NaN for never.
    """

    curve: Tensor
    shares: Tensor
    distances: Tensor
    first: dict[str, Tensor]

    @property
    def warned(self) -> Tensor:
        """The epoch of each network's first warning, `[S]`; infinite for none."""
        epochs = torch.stack(list(self.first.values()))
        return epochs.nan_to_num(nan=torch.inf).amin(0)


def report_on(net: Net, run: Training, state: list[Tensor], place: int, n: int) -> Report:
    """The report that `ChaoticLoss` gives on one network of a training.

    Args:
        net: a network of the task; it gets the weights.
        run: the training.
        state: weights to report on.
        place: of the network in the state.
        n: the step whose batch is taken, and whose z.
    """
    load(net, run, state, place)
    z = run.z * run.beta ** (n // run.steps)
    with ChaoticLoss(float(z[place])) as chaos:
        chaos.attach(net, list(net.hidden))
        loss = task_loss(net, run, place, n) + chaos()
        loss.backward()
        shares = shares_of(chaos)
        report = chaos.report()
    means = torch.tensor([layer["mean_s"] for layer in report.values()])
    distances = (means - I0).abs() / (I0 - 0.5)
    return Report(float(shares.max()), float(distances.min()), signs_of(report))


def signs_of(report: Mapping[str, LayerReport]) -> set[str]:
    """Those of `SIGNS` that some layer's report shows."""
    signs = set()
    for layer in report.values():
        share = layer["gradient_share"]
        if share is not None and share > SHARE_LIMIT:
            signs.add("share")
        mean_s = layer["mean_s"]
        if mean_s is not None and abs(mean_s - layer["I0"]) < ARRIVED * abs(layer["I0"] - 0.5):
            signs.add("arrived")
    return signs


def follow(run: Training, divides: bool = False) -> Course:
    """Train to the end, and read a report on every network at each validation.

    Args:
        run: the training.
        divides: whether a network's z is divided by `DIVISOR` at every warning; `run.z` is changed
            then.
    """
    net = new_net(run.task, run.seeds[0])
    state = run.start()
    places = range(len(run.seeds))
    curve = []
    all_reports = []
    for epoch in range(run.epochs):
        last = (epoch + 1) * run.steps - 1
        for n in range(epoch * run.steps, last + 1):
            state = run.step(state, n)
        if (epoch + 1) % run.task.every != 0:
            continue
        curve.append(run.validate(state)["accuracy"])
        reports = [report_on(net, run, state, place, last) for place in places]
        all_reports.append(reports)
        if divides:
            is_warned = torch.tensor([bool(report.signs) for report in reports])
            run.z = run.z.where(~is_warned, run.z / DIVISOR)
    return Course(
        curve=torch.stack(curve),
        shares=torch.tensor([[each.share for each in reports] for reports in all_reports]),
        distances=torch.tensor([[each.distance for each in reports] for reports in all_reports]),
        first={sign: first_epochs(sign, all_reports, run.task.every) for sign in SIGNS},
    )


def first_epochs(sign: str, reports: Sequence[Sequence[Report]], every: int) -> Tensor:
    """The epoch of each network's first report with a sign, `[S]`; NaN for never.

    Args:
        sign: of `SIGNS`.
        reports: of every validation and network.
        every: epochs from one validation to the next.
    """
    is_there = torch.tensor([[sign in report.signs for report in row] for row in reports])
    epochs = (is_there.int().argmax(0) + 1.0) * every  # of those without it the first
    return epochs.where(is_there.any(0), torch.nan)
