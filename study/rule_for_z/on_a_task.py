"""A rule for z in one task: what first reports give, and what training there comes to.

python -m study.rule_for_z.on_a_task digits_1 --bp bp.json --csbp csbp.json --out digits_1.json

The rule starts z where the chaotic loss has a tenth of the gradient at h, in the layer where its
share is largest; it was README's, before this was measured. Beside it are a ladder of other z, and
what to do after a warning: go on, divide z, or begin again. Everything is made on tuning networks
and tuning splits, and measured as tuning does; nothing here enters a verdict. `comparison.py`
compares rules over all tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from csbp_core.checks import check, check_choice

from .. import command
from ..command import plain
from ..experiments.tuning import (
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
from ..protocol import MARGINS, digest
from ..tasks.tasks import TASKS, Task
from ..training.arms import BASELINE, UNUSED_STRENGTH, Candidate
from ..training.train import Training
from .reports import CALLS, DIVISOR, PROBE, Course, first_shares, follow, median, odds, z_for

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)  # of the first report, by the ladder of z
TENTH = 0.1  # the share of the rule that was to be tried
AUTHORS_Z = 15.0

WARNED_SHARES = (0.3, 0.6, 0.9)  # where a training is also mended after a warning
WATCHED = 8  # networks at each z whose reports are read along the training
RESTARTS = 5  # at most


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
        name: "share", or of a strength besides, such as "authors" or "tuned".
        z: > 0.
        share: that the first report has at this z, the median over the networks.
    """

    name: str
    z: float
    share: float


# One task


class Subject(NamedTuple):
    """What is trained, and how its accuracy is read.

    Attributes:
        task: of `TASKS`.
        setting: what tuning chose.
        tolerance: of the epoch, as for `study.experiments.tuning.choose`.
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
    * `rule`: for each of `CALLS` the z of that rule, `[networks]`, its median and quartiles;
    * `shares_at`: the shares at the rule's z, the authors' and the tuned one, as measured;
    * `trainings`: at every z of the ladder and at BP's and csbp's learning rate, and without a
      chaotic loss (z None), the accuracy that tuning would see;
    * `warnings`: at every z of the ladder and BP's learning rate the epochs of the first warning of
      each sign, and what the reports along the training say, the medians over the networks;
    * `after_warning`: how the networks that were warned end, see `after_warning`.

    Raises ValueError, one line, for an unknown name or a number out of range.
    """
    check_choice("name", name, TASKS)
    # A first report is of a training at a constant rate.
    check_choice("schedule", setting.conditions.schedule, ("constant",))
    for number in ("bp_lr", "csbp_lr", "z_tuned"):
        check(number, getattr(setting, number), "(0, inf)")
    task = TASKS[name]
    if networks is None:
        networks = NETWORKS_TO_SOLVE if task.solve else NETWORKS
    check("networks", networks, "[1, inf)", integer=True)
    subject = Subject(task, setting, PART_OF_MARGIN * MARGINS[name] / 100, networks)
    shares = subject.first_shares(PROBE)
    strengths = ladder(shares, {"authors": AUTHORS_Z, "tuned": setting.z_tuned})
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


def ladder(shares: Tensor, others: Mapping[str, float]) -> list[Strength]:
    """The strengths to be trained at.

    Args:
        shares: at `PROBE`, `[CALLS, networks, layers]`.
        others: strengths besides, by name.

    Returns those of `SHARES` in the first report, and the others.
    """
    largest = shares[0].amax(1)  # [networks]
    odds_of_probe = median(odds(largest))
    strengths = []
    for share in SHARES:
        z = median(z_for(share, largest))
        strengths.append(Strength("share", z, share))
    for name, z in others.items():
        odds_there = odds_of_probe * z / PROBE
        strengths.append(Strength(name, z, odds_there / (1 + odds_there)))
    return strengths


def rule_of(shares: Tensor) -> list[dict[str, Any]]:
    """The z with a share of a tenth in each of the first reports, `[CALLS, networks, layers]`."""
    found = []
    for call, largest in zip(CALLS, shares.amax(2), strict=True):
        z = z_for(TENTH, largest)
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
    of_interest = [each for each in strengths if each.name != "share" or each.share == TENTH]
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


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    for arm in ("bp", "csbp"):
        text = f"what study.experiments.tuning wrote for {arm}"
        parser.add_argument(f"--{arm}", type=Path, required=True, help=text)
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    bp = read_choice("--bp", options.bp, options.task, BASELINE)
    csbp = read_choice("--csbp", options.csbp, options.task, "csbp")
    conditions = conditions_of(csbp)
    if conditions_of(bp) != conditions._replace(arm=BASELINE):
        raise ValueError(f"--bp = {options.bp}: must be of the same start and schedule as --csbp")
    return run_cell(options.task, Setting(conditions, bp["lr"], csbp["lr"], csbp["z"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.rule_for_z.on_a_task", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
