"""The rule for z: how much accuracy a first report of `csbp_core.ChaoticLoss` is worth.

python -m study.rule measure digits_1 --bp bp.json --csbp csbp.json --out digits_1.json
python -m study.rule compare digits_1.json xor.json --out rules.json

README's rule starts z where the chaotic loss has a tenth of the gradient at h, in the layer where
its share is largest. A share c / (c + r) has the odds c / r, which are proportional to z: one
report gives the z for any share. Everything is made on tuning networks and tuning splits, and
measured as tuning does; nothing here enters a verdict.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from csbp_core import ChaoticLoss
from csbp_core.checks import check, check_choice

from . import command
from .arms import BASELINE, I0, UNUSED_STRENGTH, Candidate
from .cell import plain
from .command import read_cell
from .networks import Net
from .protocol import MARGINS, digest
from .tasks import TASKS, Task, new_net
from .train import Training
from .tuning import (
    FIRST_SEED,
    NETWORKS,
    NETWORKS_TO_SOLVE,
    PART_OF_MARGIN,
    SPLITS,
    Conditions,
    best_of,
    conditions_of,
    longest,
    read_choice,
    smoothed,
    validation_curves,
)

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)  # of the first report, by the ladder of z
README = 0.1  # the share of README's rule
AUTHORS_Z = 15.0

PROBE = 1.0  # the z at which shares are measured
CALLS = (1, 21)  # of the loss, those of the first two reports

WARNED_SHARES = (0.3, 0.6, 0.9)  # where a training is also mended after a warning
WATCHED = 8  # networks at each z whose reports are read along the training
DIVISOR = 3.0  # of z, after a warning
RESTARTS = 5  # at most
SIGNS = {  # what a warning may say, in words of `ChaoticLoss.report`
    "share": "of this layer's gradient",
    "arrived": "has arrived at I0",
}


class Setting(NamedTuple):
    """What tuning chose.

    Attributes:
        conditions: of csbp.
        bp_lr: learning rate of BP under the same conditions, > 0.
        csbp_lr: of csbp, > 0.
        z_tuned: its strength, > 0.
    """

    conditions: Conditions
    bp_lr: float
    csbp_lr: float
    z_tuned: float


class Strength(NamedTuple):
    """A z of the ladder, and why it is there.

    Attributes:
        name: "authors", "tuned" or "share".
        z: > 0.
        share: that the first report has at this z, the median over the networks.
    """

    name: str
    z: float
    share: float


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
        signs: keys of `SIGNS`, those that some layer's warning names.
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
    text = " ".join(layer["warning"] or "" for layer in report.values())
    signs = {sign for sign, words in SIGNS.items() if words in text}
    return Report(float(shares.max()), float(distances.min()), signs)


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
        sign: a key of `SIGNS`.
        reports: of every validation and network.
        every: epochs from one validation to the next.
    """
    is_there = torch.tensor([[sign in report.signs for report in row] for row in reports])
    epochs = (is_there.int().argmax(0) + 1.0) * every  # of those without it the first
    return epochs.where(is_there.any(0), torch.nan)


# One task


class Subject(NamedTuple):
    """What is trained, and how its accuracy is read.

    Attributes:
        task: of `TASKS`.
        setting: what tuning chose.
        tolerance: of the epoch, as for `study.tuning.choose`.
        networks: how many.
    """

    task: Task
    setting: Setting
    tolerance: float
    networks: int

    def training(self, arm: str, lr: float, zs: Sequence[float], networks: int) -> Training:
        """The first networks at every z, those of the first z first."""
        numbers = list(range(networks)) * len(zs)
        conditions = self.setting.conditions
        return Training(
            self.task,
            arm,
            seeds=[FIRST_SEED + number for number in numbers],
            lr=lr,
            z=[z for z in zs for _ in range(networks)],
            epochs=longest(self.task),
            splits=[SPLITS[number % len(SPLITS)] for number in numbers],
            start_from_data=conditions.start_from_data,
            schedule=conditions.schedule,
        )

    def first_shares(self, z: float) -> Tensor:
        """At this z and BP's learning rate, `[CALLS, networks, layers]`."""
        return first_shares(self.training("csbp", self.setting.bp_lr, [z], self.networks))

    def read(self, candidate: Candidate, curve: Tensor) -> dict[str, Any]:
        """The accuracy that tuning would see, and at which epoch, and of each network there."""
        best = best_of({candidate: curve}, self.task, self.setting.conditions, self.tolerance)
        place = best.epochs // self.task.every - 1
        smooth = torch.stack([smoothed(column) for column in curve.T], dim=1)
        return {
            "epochs": best.epochs,
            "accuracy": best.accuracy,
            "accuracies": plain(smooth[place]),
            "last": float(smooth[-1].mean()),
        }


def run_cell(name: str, setting: Setting, networks: int | None = None) -> dict[str, Any]:
    """Measure first reports of a task's tuning networks, and train them at a ladder of z.

    Args:
        name: of a task, of `TASKS`.
        setting: what tuning chose for it.
        networks: how many, >= 1; those of tuning if None.

    Returns the task, the setting, and:

    * `first_reports`: the shares at `PROBE`, `[CALLS, networks, layers]`;
    * `rule`: for each of `CALLS` the z of README's rule, `[networks]`, its median and quartiles;
    * `shares_at`: the shares at the rule's z, the authors' and the tuned one, as measured;
    * `trainings`: at every z of the ladder and at BP's and csbp's learning rate, and without a
      chaotic loss (z None), the accuracy that tuning would see;
    * `warnings`: at every z of the ladder and BP's learning rate the epochs of the first warning of
      each sign, and what the reports along the training say, the medians over the networks;
    * `after_warning`: how the networks that were warned end, see `after_warning`.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    check_choice("name", name, TASKS)
    for number in ("bp_lr", "csbp_lr", "z_tuned"):
        check(number, getattr(setting, number), "(0, inf)")
    task = TASKS[name]
    if networks is None:
        networks = NETWORKS_TO_SOLVE if task.solve else NETWORKS
    check("networks", networks, "[1, inf)", integer=True)
    subject = Subject(task, setting, PART_OF_MARGIN * MARGINS[name] / 100, networks)
    shares = subject.first_shares(PROBE)
    strengths = ladder(shares, setting.z_tuned)
    watched = courses(subject, [strength.z for strength in strengths])
    return {
        "task": name,
        **setting.conditions._asdict(),
        "bp_lr": setting.bp_lr,
        "csbp_lr": setting.csbp_lr,
        "z_tuned": setting.z_tuned,
        "networks": networks,
        "first_reports": plain(shares),
        "rule": rule_of(shares),
        "shares_at": shares_at(subject, strengths),
        "trainings": trainings(subject, strengths),
        "warnings": [
            warnings_of(strength, course)
            for strength, course in zip(strengths, watched, strict=True)
        ],
        "after_warning": after_warnings(subject, strengths, watched),
    }


def ladder(shares: Tensor, z_tuned: float) -> list[Strength]:
    """The strengths to be trained at.

    Args:
        shares: at `PROBE`, `[CALLS, networks, layers]`.
        z_tuned: the tuned z.

    Returns those of `SHARES` in the first report, the authors' and the tuned one.
    """
    largest = shares[0].amax(1)  # [networks]
    odds_of_probe = median(odds(largest))
    strengths = []
    for share in SHARES:
        z = median(z_for(share, largest))
        strengths.append(Strength("share", z, share))
    for name, z in (("authors", AUTHORS_Z), ("tuned", z_tuned)):
        odds_there = odds_of_probe * z / PROBE
        strengths.append(Strength(name, z, odds_there / (1 + odds_there)))
    return strengths


def rule_of(shares: Tensor) -> list[dict[str, Any]]:
    """The z of README's rule by each of the first reports, `[CALLS, networks, layers]`."""
    found = []
    for call, largest in zip(CALLS, shares.amax(2), strict=True):
        z = z_for(README, largest)
        found.append(
            {
                "call": call,
                "z": plain(z),
                "median": median(z),
                "quartiles": np.nanquantile(z.numpy(), [0.25, 0.75]).tolist(),
            }
        )
    return found


def shares_at(subject: Subject, strengths: Sequence[Strength]) -> list[dict[str, Any]]:
    """The shares of all layers, as they are measured at the z of interest."""
    of_interest = [each for each in strengths if each.name != "share" or each.share == README]
    found = []
    for strength in of_interest:
        shares = subject.first_shares(strength.z)
        found.append({**strength._asdict(), "shares": plain(np.nanmedian(shares.numpy(), axis=1))})
    return found


def trainings(subject: Subject, strengths: Sequence[Strength]) -> list[dict[str, Any]]:
    """The accuracy at every strength and at both learning rates, and BP's at both."""
    setting = subject.setting
    rates = sorted({setting.bp_lr, setting.csbp_lr})
    without = [Candidate(lr, UNUSED_STRENGTH) for lr in rates]
    bp = setting.conditions._replace(arm=BASELINE)
    curves_of_bp = validation_curves(subject.task, bp, without, subject.networks)
    # Not a list: the tuned z may be the authors'.
    candidates = {Candidate(lr, strength.z): None for lr in rates for strength in strengths}
    curves = validation_curves(subject.task, setting.conditions, list(candidates), subject.networks)
    found = []
    for candidate, curve in curves_of_bp.items():
        record = {"name": BASELINE, "lr": candidate.lr, "z": None, "share": 0.0}
        found.append({**record, **subject.read(candidate, curve)})
    for lr in rates:
        for strength in strengths:
            candidate = Candidate(lr, strength.z)
            record = {**strength._asdict(), "lr": lr}
            found.append({**record, **subject.read(candidate, curves[candidate])})
    return found


def courses(subject: Subject, zs: Sequence[float], divides: bool = False) -> list[Course]:
    """The first networks' trainings at every z; see `follow`."""
    networks = min(WATCHED, subject.networks)
    run = subject.training("csbp", subject.setting.bp_lr, zs, networks)
    course = follow(run, divides)
    found = []
    for first in range(0, len(run.seeds), networks):
        part = slice(first, first + networks)
        found.append(
            Course(
                curve=course.curve[:, part],
                shares=course.shares[:, part],
                distances=course.distances[:, part],
                first={sign: epochs[part] for sign, epochs in course.first.items()},
            )
        )
    return found


def warnings_of(strength: Strength, course: Course) -> dict[str, Any]:
    """What the reports along the training at a strength said."""
    first = {sign: plain(epochs) for sign, epochs in course.first.items()}
    return {
        **strength._asdict(),
        "first": first,
        "shares": plain(np.nanmedian(course.shares.numpy(), axis=1)),
        "distances": plain(np.nanmedian(course.distances.numpy(), axis=1)),
    }


def after_warnings(
    subject: Subject,
    strengths: Sequence[Strength],
    watched: Sequence[Course],
) -> list[dict[str, Any]]:
    """How those end that were warned at the strengths of `WARNED_SHARES`; see `after_warning`."""
    places = [place for place, each in enumerate(strengths) if each.name == "share"]
    places = [place for place in places if strengths[place].share in WARNED_SHARES]
    divided = courses(subject, [strengths[place].z for place in places], divides=True)
    found = []
    for place, after_division in zip(places, divided, strict=True):
        after_restart = restart(subject, strengths[place].z, watched[place])
        ways = {
            "go on": watched[place].curve,
            "divide": after_division.curve,
            "restart": after_restart.curve,
        }
        record = after_warning(subject, watched[place].warned, ways)
        record["restarts"] = plain(after_restart.restarts)
        found.append({**strengths[place]._asdict(), **record})
    return found


class Restarted(NamedTuple):
    """Trainings that were begun again until there was no warning.

    Attributes:
        curve: validation accuracies of each network's last one, `[validations, S]`.
        restarts: how often it was begun again, `[S]`; with `RESTARTS` it may still be warned.
    """

    curve: Tensor
    restarts: Tensor


def restart(subject: Subject, z: float, first: Course) -> Restarted:
    """Begin every network that is warned again, each time with z / `DIVISOR`.

    Args:
        subject: what is trained.
        z: of the first training.
        first: that training.
    """
    curve = first.curve.clone()
    is_warned = first.warned.isfinite()
    restarts = torch.zeros(len(is_warned))
    for attempt in range(1, RESTARTS + 1):
        if not is_warned.any():
            break
        (course,) = courses(subject, [z / DIVISOR**attempt])
        curve[:, is_warned] = course.curve[:, is_warned]
        restarts[is_warned] = attempt
        is_warned &= course.warned.isfinite()
    return Restarted(curve, restarts)


def after_warning(subject: Subject, warned: Tensor, ways: Mapping[str, Tensor]) -> dict[str, Any]:
    """How networks end that were warned, by what was done then.

    Args:
        subject: what was trained.
        warned: the epoch of every network's first warning, `[S]`; infinite for none.
        ways: the validation accuracies, `[validations, S]`: "go on", as if there was no warning;
            "divide", with z / `DIVISOR` after every warning; "restart", see `restart`.

    Returns `warned`, None for none, and in `ways`, over the networks that were warned, what
    `Subject.read` gives. Without such a network there are no ways.
    """
    is_warned = warned.isfinite()
    ends = {}
    if is_warned.any():
        unused = Candidate(subject.setting.bp_lr, UNUSED_STRENGTH)
        ends = {name: subject.read(unused, curve[:, is_warned]) for name, curve in ways.items()}
    return {"warned": plain(warned), "ways": ends}


# All tasks together


class Rule(NamedTuple):
    """A family of rules, with one number to be chosen.

    Attributes:
        z: that it gives, from (a task's cell, the number).
        values: between which it is chosen.
    """

    z: Callable[[Mapping[str, Any], float], float]
    values: Sequence[float]


def _by_share(call: int, of_layers: Callable[..., Any]) -> Callable[..., float]:
    """The rule that a share of the layers is to have some value in the report of a call."""

    def z(cell: Mapping[str, Any], share: float) -> float:
        shares = np.array(cell["first_reports"][CALLS.index(call)], dtype=float)
        one_per_network = torch.from_numpy(of_layers(shares, axis=1))
        return median(z_for(share, one_per_network))

    return z


def _fixed(cell: Mapping[str, Any], z: float) -> float:
    return z


GRID_OF_SHARES = np.geomspace(min(SHARES), max(SHARES), 40).tolist()
GRID_OF_Z = np.geomspace(0.01, 1000, 40).tolist()

RULES = {
    "README": Rule(_by_share(1, np.max), [README]),
    "authors": Rule(_fixed, [AUTHORS_Z]),
    "z": Rule(_fixed, GRID_OF_Z),
    "largest share": Rule(_by_share(1, np.max), GRID_OF_SHARES),
    "mean share": Rule(_by_share(1, np.mean), GRID_OF_SHARES),
    "smallest share": Rule(_by_share(1, np.min), GRID_OF_SHARES),
    "largest share at call 21": Rule(_by_share(21, np.max), GRID_OF_SHARES),
}


def accuracy_at(cell: Mapping[str, Any], lr: float, z: float) -> float:
    """A task's accuracy at a z, linear in log z between those that were trained.

    Beyond the smallest and the largest of them it is that of the end.
    """
    at_rate = [each for each in cell["trainings"] if each["lr"] == lr and each["z"] is not None]
    known = {each["z"]: each["accuracy"] for each in at_rate}
    zs = sorted(known)
    return float(np.interp(np.log(z), np.log(zs), [known[each] for each in zs]))


def loss(cell: Mapping[str, Any], rate: str, z: float) -> float:
    """The points that a z lacks to the tuned z, at the same learning rate; negative if better.

    Args:
        cell: of a task, as `run_cell` gives it.
        rate: "bp_lr" or "csbp_lr".
        z: > 0.
    """
    lr = cell[rate]
    return 100 * (accuracy_at(cell, lr, cell["z_tuned"]) - accuracy_at(cell, lr, z))


def mean_loss(
    rule: Rule,
    value: float,
    cells: Sequence[Mapping[str, Any]],
    rate: str,
) -> float:
    """What a rule loses on average over the cells, each in margins of its task.

    A margin is what `PROTOCOL.md` counts as no difference in that task.
    """
    losses = [loss(cell, rate, rule.z(cell, value)) / MARGINS[cell["task"]] for cell in cells]
    return float(np.mean(losses))


def chosen(rule: Rule, cells: Sequence[Mapping[str, Any]], rate: str) -> float:
    """The value of a rule with the least `mean_loss`; of equal ones the smallest."""
    return min(rule.values, key=lambda value: mean_loss(rule, value, cells, rate))


def compare(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How good each rule is: the points that its z loses to the tuned z.

    Args:
        cells: of at least two tasks, each as `run_cell` gives it.

    Returns by learning rate ("bp_lr", "csbp_lr"), `best_of_ladder` and `without`, the points that
    the best z of the ladder and BP lose in each task, and for every rule of `RULES`:

    * `value`: chosen on all tasks, and `losses`, (value, `mean_loss`) of all that were tried;
    * `tasks`: for each the z, its `loss`, and in `left_out` value, z and loss where the value was
      chosen on all other tasks;
    * `left_out`: the mean of these losses over the tasks, in margins.

    Raises ValueError, one line, for a single task, or one that is given twice.
    """
    names = [cell["task"] for cell in cells]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"cells = {', '.join(names)}: must be of at least two tasks, each once")
    return {rate: _compared(cells, rate) for rate in ("bp_lr", "csbp_lr")}


def _compared(cells: Sequence[Mapping[str, Any]], rate: str) -> dict[str, Any]:
    """The same at one learning rate."""
    without = {}
    best = {}
    for cell in cells:
        at_tuned = accuracy_at(cell, cell[rate], cell["z_tuned"])
        at_rate = [each for each in cell["trainings"] if each["lr"] == cell[rate]]
        bp = next(each["accuracy"] for each in at_rate if each["z"] is None)
        without[cell["task"]] = 100 * (at_tuned - bp)
        highest = max(each["accuracy"] for each in at_rate if each["z"] is not None)
        best[cell["task"]] = 100 * (at_tuned - highest)
    rules = {name: _how_good(rule, cells, rate) for name, rule in RULES.items()}
    return {"without": without, "best_of_ladder": best, "rules": rules}


def _how_good(rule: Rule, cells: Sequence[Mapping[str, Any]], rate: str) -> dict[str, Any]:
    """What `compare` says of one rule."""
    value = chosen(rule, cells, rate)
    in_margins = []
    tasks = {}
    for cell in cells:
        others = [other for other in cells if other is not cell]
        of_others = chosen(rule, others, rate)
        left_out = {"value": of_others, **_on_task(rule, of_others, cell, rate)}
        tasks[cell["task"]] = {**_on_task(rule, value, cell, rate), "left_out": left_out}
        in_margins.append(left_out["loss"] / MARGINS[cell["task"]])
    return {
        "value": value,
        "losses": [[value, mean_loss(rule, value, cells, rate)] for value in rule.values],
        "tasks": tasks,
        "left_out": float(np.mean(in_margins)),
    }


def _on_task(rule: Rule, value: float, cell: Mapping[str, Any], rate: str) -> dict[str, float]:
    """The z of a rule in one task, and what it loses."""
    z = rule.z(cell, value)
    return {"z": z, "loss": loss(cell, rate, z)}


# The commands


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("measure", help="one task")
    measure.set_defaults(made=made_cell)
    measure.add_argument("task", choices=TASKS)
    for arm in ("bp", "csbp"):
        text = f"what study.tuning wrote for {arm}"
        measure.add_argument(f"--{arm}", type=Path, required=True, help=text)
    several = commands.add_parser("compare", help="the rules, on all tasks")
    several.set_defaults(made=made_comparison)
    several.add_argument("cells", type=Path, nargs="+", help="what measure wrote, one per task")
    for what in (measure, several):
        what.add_argument("--out", type=Path, required=True, help="the JSON to write")
    return parser


def made_cell(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    bp = read_choice("--bp", options.bp, options.task, BASELINE)
    csbp = read_choice("--csbp", options.csbp, options.task, "csbp")
    conditions = conditions_of(csbp)
    if conditions_of(bp) != conditions._replace(arm=BASELINE):
        raise ValueError(f"--bp = {options.bp}: must be of the same start and schedule as --csbp")
    return run_cell(options.task, Setting(conditions, bp["lr"], csbp["lr"], csbp["z"]))


def made_comparison(options: argparse.Namespace) -> dict[str, Any]:
    """The comparison that the command line asks for."""
    cells = []
    for path in options.cells:
        cell = read_cell("cells", path)
        if "first_reports" not in cell:
            raise ValueError(f"cells = {path}: must be what study.rule measure wrote")
        cells.append(cell)
    return compare(cells)


def made(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line asks for."""
    return options.made(options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.rule", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
