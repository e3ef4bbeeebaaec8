"""A rule for z on Fashion-MNIST: what first reports give, and what training there comes to.

python -m study.rule_for_z.on_images --data FOLDER --out fashion_mnist.json

The network and the training are those of experiment 4, whose settings are the authors': nothing
was tuned. So what the rule's z is held against is the best of a ladder, on the same networks, which
favours it a little. They are tuning networks on tuning splits, and accuracy is that on held-out
images, at the end. The cell is one of those that `study.rule_for_z.comparison` compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from torch import Tensor

from csbp_core.checks import check

from .. import command
from ..command import plain
from ..experiments.experiment_4 import (
    PROTOCOL_SETTING,
    TUNING_NETWORKS,
    Setting,
    check_setting,
    images_of_split,
    network_at_start,
)
from ..fashion_mnist.images import FashionMNIST, Split, load
from ..fashion_mnist.network import ImageNetwork, Output
from ..fashion_mnist.training import LR, Addition, AuthorsCSBP, train
from ..protocol import IMAGES, Networks, digest
from .on_a_task import AUTHORS_Z, Strength, ladder, rule_of
from .reports import CALLS, PROBE, SIGNS, signs_of


class Reported(AuthorsCSBP):
    """csbp from another z, and what the plug-in says of fc1.

    The other layer, the potentials after the last reset, has no share: no other loss reads them.

    Args:
        net: the network that is trained.
        epochs: of the training, in which z falls to a hundredth.
        z_start: the strength at the start, > 0.

    Attributes:
        first_reports: fc1's share at each of `CALLS`.
        signs: of every epoch those of `reports.SIGNS` that fc1's last report has.
    """

    def __init__(self, net: ImageNetwork, epochs: int, z_start: float) -> None:
        super().__init__(net, epochs, z_start)
        self.calls = 0
        self.first_reports: list[float | None] = []
        self.signs: list[set[str]] = []

    def add_gradient(self, output: Output, lr: float) -> None:
        self.calls += 1
        if self.calls in CALLS:
            self.first_reports.append(self.chaos.report()["fc1"]["gradient_share"])

    def end_epoch(self) -> None:
        self.signs.append(signs_of({"fc1": self.chaos.report()["fc1"]}))
        super().end_epoch()

    def first(self, sign: str) -> int | None:
        """The first epoch with a sign, counted from 1; None for none."""
        epochs = [epoch for epoch, signs in enumerate(self.signs, 1) if sign in signs]
        return epochs[0] if epochs else None


class OfNetwork(NamedTuple):
    """A network that was trained at one z.

    Attributes:
        accuracy: on the held-out images at the end, in [0, 1].
        first_reports: fc1's share at each of `CALLS`; None for BP.
        first: by sign its first epoch, None for none; None for BP.
    """

    accuracy: float
    first_reports: list[float | None] | None
    first: dict[str, int | None] | None


class Trained(NamedTuple):
    """Networks that were trained at one z.

    Attributes:
        accuracies: on the held-out images at the end, in [0, 1].
        first_reports: fc1's shares, `[CALLS, networks, 1]`; empty for BP.
        first: by sign the first epoch of each network; None for none.
    """

    accuracies: list[float]
    first_reports: Tensor
    first: dict[str, list[int | None]]


def run_cell(
    data: FashionMNIST,
    networks: Networks = TUNING_NETWORKS,
    setting: Setting = PROTOCOL_SETTING,
    jobs: int = 1,
) -> dict[str, Any]:
    """Train networks at `PROBE`, and at the ladder of z that their first reports give.

    Args:
        data: of which only the training images are used.
        networks: which, and on which splits.
        setting: what they share; its images leave some to hold out.
        jobs: processes that train at the same time, >= 1; the cell is the same for any number.

    Returns what `on_a_task.run_cell` does, as far as it applies: `first_reports`, `rule`,
    `trainings` and `warnings`. `z_tuned` is the z of the ladder, `PROBE` and the authors' included,
    with the highest mean accuracy, of equals the smallest.

    Raises ValueError, one line, for a number out of range.
    """
    check_setting(setting)
    check("jobs", jobs, "[1, inf)", integer=True)
    (probe,) = _trained(data, networks, setting, [PROBE], jobs)
    strengths = ladder(probe.first_reports, {"authors": AUTHORS_Z, "probe": PROBE})
    others = list(dict.fromkeys(strength.z for strength in strengths if strength.z != PROBE))
    bp, *at_others = _trained(data, networks, setting, [None, *others], jobs)
    by_z = {PROBE: probe, **dict(zip(others, at_others, strict=True))}
    best = max(sorted(by_z), key=lambda z: np.mean(by_z[z].accuracies))
    without = {"name": "bp", "z": None, "share": 0.0}
    return {
        "task": IMAGES,
        "bp_lr": LR,
        "csbp_lr": LR,
        "z_tuned": best,
        **setting._asdict(),
        **networks._asdict(),
        "first_reports": plain(probe.first_reports),
        "rule": rule_of(probe.first_reports),
        "trainings": [
            {**without, **_accuracy(bp)},
            *({**strength._asdict(), **_accuracy(by_z[strength.z])} for strength in strengths),
        ],
        "warnings": [_warnings(strength, by_z[strength.z]) for strength in strengths],
    }


def _trained(
    data: FashionMNIST,
    networks: Networks,
    setting: Setting,
    zs: Sequence[float | None],
    jobs: int,
) -> list[Trained]:
    """Train every network at every z, by csbp; by BP for None."""
    splits = [images_of_split(data, number, setting) for number in networks.splits]
    starts = list(zip(splits, networks.seeds, strict=True))
    ends = joblib.Parallel(jobs)(
        joblib.delayed(_train_network)(split, seed, setting, z)
        for z in zs
        for split, seed in starts
    )
    number = len(starts)
    return [_together(ends[first : first + number]) for first in range(0, len(ends), number)]


def _train_network(split: Split, seed: int, setting: Setting, z: float | None) -> OfNetwork:
    """Train a network by csbp from this z; by BP for None."""
    torch.set_num_threads(1)  # as `command.run` does: a process of joblib has its own number
    net = network_at_start(seed, setting, None)
    if z is None:
        history = train(net, Addition(net, setting.epochs), split, seed)
        return OfNetwork(history.curve[-1], None, None)
    addition = Reported(net, setting.epochs, z)
    history = train(net, addition, split, seed)
    first = {sign: addition.first(sign) for sign in SIGNS}
    return OfNetwork(history.curve[-1], addition.first_reports, first)


def _together(ends: Sequence[OfNetwork]) -> Trained:
    """What the networks of one z came to, in their order."""
    reports = [end.first_reports for end in ends if end.first_reports is not None]
    shares = np.array(reports, dtype=float)  # None is NaN
    firsts = [end.first for end in ends if end.first is not None]
    return Trained(
        accuracies=[end.accuracy for end in ends],
        first_reports=torch.from_numpy(shares.T[..., np.newaxis]),
        first={sign: [first[sign] for first in firsts] for sign in SIGNS},
    )


def _accuracy(trained: Trained) -> dict[str, Any]:
    """What the cell says of trainings, as `study.rule_for_z.on_a_task` does."""
    mean = float(np.mean(trained.accuracies))
    return {"lr": LR, "accuracy": mean, "accuracies": trained.accuracies}


def _warnings(strength: Strength, trained: Trained) -> dict[str, Any]:
    """The first epoch of every sign, by network."""
    return {**strength._asdict(), "first": trained.first}


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of Fashion-MNIST")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    return run_cell(load(options.data, given_as="--data"), jobs=options.jobs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.rule_for_z.on_images", command_line(), made, arguments, protocol=digest())


if __name__ == "__main__":
    main()
