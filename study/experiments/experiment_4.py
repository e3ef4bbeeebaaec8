"""Experiment 4 of `PROTOCOL.md`: a real data set and the authors' recipe. One arm on one split.

python -m study.experiments.experiment_4 start --data FOLDER --out start.json
python -m study.experiments.experiment_4 train bp_data --split 3 --data FOLDER --start start.json \
    --out cell.json

Another, larger one, on all images and a GPU, which its cell says of itself:

python -m study.experiments.experiment_4 train csbp --split 1 --networks 1 --device cuda \
    --images 60000 --channels 64 128 --features 256 --data FOLDER --out large.json

FOLDER has the four files of Fashion-MNIST, see `study.fashion_mnist.images`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from csbp_core.checks import check, check_choice

from .. import command
from ..command import plain, read_cell
from ..fashion_mnist.images import CLASSES, FashionMNIST, Images, Split, load, split as split_of
from ..fashion_mnist.measurements import KINDS, Activity, accuracy, activity, robustness
from ..fashion_mnist.network import ImageNetwork, new_image_network, set_currents
from ..fashion_mnist.training import (
    BATCH,
    INNER_I0,
    Addition,
    AuthorsCSBP,
    Fc1Stability,
    History,
    OnFc1,
    QuadraticPull,
    fc1_stability,
    train,
)
from ..protocol import FIRST_SEED, SPLITS, Networks, digest
from .start import STARTS_FROM_DATA
from .tuning import FIRST_SEED as FIRST_TUNING_SEED, SPLITS as TUNING_SPLITS

SEEDS_OF_SPLIT = 3

ARMS = ("bp", "csbp", "quadratic", "bp_data")
FC1_ARMS = ("fc1_csbp", "fc1_inner_flow")  # trained on the first seed of every split alone
EVERY_ARM = (*ARMS, *FC1_ARMS)

TUNING_NETWORKS = Networks(  # one on each tuning split
    seeds=[FIRST_TUNING_SEED + place for place in range(len(TUNING_SPLITS))],
    splits=list(TUNING_SPLITS),
)

DEVICES = ("cpu", "cuda")


class Setting(NamedTuple):
    """What all networks of a cell share.

    Attributes:
        images: how many are trained on, every class alike.
        channels: of both convolutions.
        features: outputs of fc1.
        epochs: of the training.
        device: "cpu" or "cuda".
    """

    images: int = 10_000
    channels: tuple[int, int] = (8, 16)
    features: int = 64
    epochs: int = 15
    device: str = "cpu"


PROTOCOL_SETTING = Setting()


def networks_of(arm: str, number: int) -> Networks:
    """The final networks of a split: three, for the arms on fc1 alone the first of them.

    Args:
        arm: one of `EVERY_ARM`.
        number: of the split, one of `SPLITS`.

    Example:
        >>> networks_of("csbp", 2)
        Networks(seeds=[1003, 1004, 1005], splits=[2, 2, 2])
    """
    first = FIRST_SEED + SEEDS_OF_SPLIT * SPLITS.index(number)
    seeds = [first + place for place in range(SEEDS_OF_SPLIT)]
    if arm in FC1_ARMS:
        seeds = seeds[:1]
    return Networks(seeds, [number] * len(seeds))


def check_setting(setting: Setting) -> None:
    """Raise ValueError, one line, for a number out of range or a device that is not there."""
    check("images", setting.images, f"[{BATCH}, inf)", integer=True)
    if setting.images % CLASSES:
        raise ValueError(f"images = {setting.images}: must be a multiple of {CLASSES}, the classes")
    check("channels", setting.channels, "[1, inf)", integer=True, array=True)
    check("features", setting.features, "[1, inf)", integer=True)
    check("epochs", setting.epochs, "[1, inf)", integer=True)
    check_choice("device", setting.device, DEVICES)
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': there is none here")


def run_cell(
    arm: str,
    data: FashionMNIST,
    networks: Networks,
    setting: Setting = PROTOCOL_SETTING,
    start_from_data: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Train networks by an arm, one after the other, and test them once, at the end.

    Args:
        arm: one of `EVERY_ARM`.
        data: the official training and test images.
        networks: which, and on which splits.
        setting: what they share.
        start_from_data: (mean, spread) of every channel's current, for bp_data; None for all else.

    Returns the arm, the setting, `start_from_data`, `seeds`, `splits`, and as JSON knows them, a
    number per network each:

    * `accuracy` on the official test images, and in `robustness` the same with noise, by kind,
      `[levels][networks]`;
    * `rate` and `dead` there, see `Activity`, `[layers of neurons][networks]`;
    * `curve` and `added_loss`, see `History`, and `gradient_share`, see `Addition`,
      `[epochs][networks]`;
    * `fc1_start` and `fc1_end`, see `Fc1Stability`, before and after the training, by name. The
      arms on fc1 alone start at the critical z before the training that their own I0 has.

    Raises ValueError, one line, for an unknown arm, a number out of range, or a start that is
    missing or one too many.
    """
    check_choice("arm", arm, EVERY_ARM)
    check_setting(setting)
    if (arm == "bp_data") != (start_from_data is not None):
        raise ValueError(f"start_from_data = {start_from_data}: bp_data has one, no other arm does")
    trained = []
    for seed, number in zip(networks.seeds, networks.splits, strict=True):
        split = images_of_split(data, number, setting)
        net = network_at_start(seed, setting, start_from_data)
        trained.append(_train_and_test(arm, net, Place(seed, number, split), data.test, setting))
    return {
        "arm": arm,
        **setting._asdict(),
        "start_from_data": start_from_data,
        "seeds": networks.seeds,
        "splits": networks.splits,
        **_record(trained),
    }


class Trained(NamedTuple):
    """What is measured of one network, see `run_cell`."""

    accuracy: float
    robustness: dict[str, list[float]]
    activity: Activity
    history: History
    gradient_share: list[float | None]
    fc1_start: Fc1Stability
    fc1_end: Fc1Stability


class Place(NamedTuple):
    """The seed of a network, the number of its split, and the images of that."""

    seed: int
    number: int
    split: Split


def _train_and_test(
    arm: str,
    net: ImageNetwork,
    place: Place,
    test_images: Images,
    setting: Setting,
) -> Trained:
    """Train a network from its start, and test it."""
    test_images = test_images.to(setting.device)
    fc1_start = fc1_stability(net, place.split.train)
    addition = _addition(arm, net, place.split.train, setting.epochs)
    history = train(net, addition, place.split, place.seed)
    return Trained(
        accuracy=accuracy(net, test_images),
        robustness=robustness(net, test_images, place.seed, place.number),
        activity=activity(net, test_images),
        history=history,
        gradient_share=addition.gradient_share,
        fc1_start=fc1_start,
        fc1_end=fc1_stability(net, place.split.train),
    )


def images_of_split(data: FashionMNIST, number: int, setting: Setting) -> Split:
    """The images of a split, on the device."""
    split = split_of(data.train, number, setting.images // CLASSES)
    return Split(*(images.to(setting.device) for images in split))


def network_at_start(
    seed: int,
    setting: Setting,
    start_from_data: tuple[float, float] | None,
) -> ImageNetwork:
    """A network at its start, on the device."""
    net = new_image_network(seed, setting.channels, setting.features)
    if start_from_data is not None:
        set_currents(net, *start_from_data)
    return net.to(setting.device)


def _addition(arm: str, net: ImageNetwork, images: Images, epochs: int) -> Addition:
    """What an arm adds to BP; on fc1 alone it starts at the critical z that the images give."""
    if arm == "csbp":
        return AuthorsCSBP(net, epochs)
    if arm == "quadratic":
        return QuadraticPull(net, epochs)
    if arm in FC1_ARMS:
        z_start = fc1_stability(net, images, INNER_I0).critical_z
        return OnFc1(net, epochs, z_start, is_flow=arm == "fc1_inner_flow")
    return Addition(net, epochs)


def _record(trained: Sequence[Trained]) -> dict[str, Any]:
    """What is measured of all networks, the networks last."""
    return {
        "accuracy": _numbers([one.accuracy for one in trained]),
        "robustness": {
            kind: _networks_last([one.robustness[kind] for one in trained]) for kind in KINDS
        },
        "rate": _networks_last([one.activity.rate for one in trained]),
        "dead": _networks_last([one.activity.dead for one in trained]),
        "curve": _networks_last([one.history.curve for one in trained]),
        "added_loss": _networks_last([one.history.added_loss for one in trained]),
        "gradient_share": _networks_last([one.gradient_share for one in trained]),
        "fc1_start": _by_name([one.fc1_start for one in trained]),
        "fc1_end": _by_name([one.fc1_end for one in trained]),
    }


def _numbers(values: Sequence[float | None]) -> list[float | None]:
    """Numbers as JSON knows them."""
    return plain(np.array(values, dtype=float))


def _networks_last(rows: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """A row of numbers per network, transposed, as JSON knows them."""
    return plain(np.array(rows, dtype=float).T)


def _by_name(found: Sequence[Fc1Stability]) -> dict[str, list[float | None]]:
    """What was measured of fc1, a number per network each."""
    return {
        "lambda_max": _numbers([one.lambda_max for one in found]),
        "critical_z": _numbers([one.critical_z for one in found]),
    }


def choose_start(
    data: FashionMNIST,
    setting: Setting = PROTOCOL_SETTING,
    networks: Networks = TUNING_NETWORKS,
) -> dict[str, Any]:
    """Train by BP from each of `STARTS_FROM_DATA`, and choose the best start.

    Args:
        data: of which only the training images are used.
        setting: what the networks share; its images leave some to hold out.
        networks: which, and on which splits.

    Returns `start_from_data`, (mean, spread) of the start with the highest mean accuracy on the
    held-out images at the end of training, the first of equally good ones; and `choices`, all
    starts with the accuracy of each network.
    """
    check_setting(setting)
    accuracies: dict[tuple[float, float], list[float]] = {start: [] for start in STARTS_FROM_DATA}
    for start, accuracies_of_start in accuracies.items():
        for seed, number in zip(networks.seeds, networks.splits, strict=True):
            net = network_at_start(seed, setting, start)
            split = images_of_split(data, number, setting)
            history = train(net, Addition(net, setting.epochs), split, seed)
            accuracies_of_start.append(history.curve[-1])
    # rounded, or those that are equal would differ by the rounding of their sums
    best = max(STARTS_FROM_DATA, key=lambda start: round(sum(accuracies[start]), 12))
    return {
        "start_from_data": best,
        "choices": [
            {"start_from_data": start, "accuracy": _numbers(found)}
            for start, found in accuracies.items()
        ],
        **setting._asdict(),
        **networks._asdict(),
    }


def read_start(path: Path) -> tuple[float, float]:
    """(mean, spread) of the start that was chosen; ValueError, one line, for any other file."""
    start = read_cell("--start", path, writer="study.experiments.experiment_4 start")
    if "start_from_data" not in start or "choices" not in start:
        raise ValueError(
            f"--start = {path}: must be what study.experiments.experiment_4 start wrote"
        )
    mean, spread = start["start_from_data"]
    return mean, spread


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whats = parser.add_subparsers(required=True)

    start = whats.add_parser("start", help="choose the start from the data")
    start.set_defaults(made=made_start)

    cell = whats.add_parser("train", help="train and test an arm on a split")
    cell.set_defaults(made=made_cell)
    cell.add_argument("arm", choices=EVERY_ARM)
    cell.add_argument("--split", type=int, choices=SPLITS, required=True)
    cell.add_argument("--start", type=Path, help="what the command start wrote, for bp_data")
    cell.add_argument("--networks", type=int, help="how many of the split's, if not all")

    # Another, larger experiment than the protocol's; the cell says what it was made with.
    setting = PROTOCOL_SETTING
    cell.add_argument("--images", type=int, default=setting.images, help="to train on")
    cell.add_argument("--channels", type=int, nargs=2, default=setting.channels)
    cell.add_argument("--features", type=int, default=setting.features, help="of fc1")
    cell.add_argument("--epochs", type=int, default=setting.epochs)
    cell.add_argument("--device", choices=DEVICES, default=setting.device)

    for what in (start, cell):
        what.add_argument("--data", type=Path, required=True, help="folder of Fashion-MNIST")
        command.add_out(what)
    return parser


def setting_of(options: argparse.Namespace) -> Setting:
    """The setting that the command line asks for."""
    setting = Setting(
        images=options.images,
        channels=tuple(options.channels),
        features=options.features,
        epochs=options.epochs,
        device=options.device,
    )
    check_setting(setting)
    return setting


def made_start(options: argparse.Namespace) -> dict[str, Any]:
    """The start that the command line asks for."""
    return choose_start(load(options.data, given_as="--data"))


def made_cell(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    setting = setting_of(options)
    if (options.arm == "bp_data") != (options.start is not None):
        raise ValueError(f"--start = {options.start}: bp_data has one, no other arm does")
    start = None if options.start is None else read_start(options.start)
    networks = networks_of(options.arm, options.split)
    if options.networks is not None:
        check("networks", options.networks, f"[1, {len(networks.seeds)}]", integer=True)
        networks = Networks(*(numbers[: options.networks] for numbers in networks))
    return run_cell(options.arm, load(options.data, given_as="--data"), networks, setting, start)


def made(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line asks for."""
    return options.made(options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; bad input is one line on stderr and exit code 2."""
    command.run(
        "study.experiments.experiment_4", command_line(), made, arguments, protocol=digest()
    )


if __name__ == "__main__":
    main()
