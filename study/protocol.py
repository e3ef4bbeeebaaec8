"""What `PROTOCOL.md` fixes in numbers: seeds, splits, margins; and which text of it is in force."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from csbp_notebooks.files import ROOT

PROTOCOL = ROOT / "study" / "PROTOCOL.md"

WHEN_IT_WAS_FIXED = (
    "What experiments 1 to 3 ask, and how, was fixed before any of the final networks was trained; "
    "experiment 4 was added when some of experiment 1 had been, and before any of its own."
)


class EarlierText(NamedTuple):
    """A text of the protocol before it was as it is now.

    Attributes:
        commit: that brought it.
        lacks: what it does not say of what is said now. Nothing else was changed.
    """

    commit: str
    lacks: str


# Those under which cells ran, by their SHA-256.
EARLIER_TEXTS = {
    "3119aaaba675040180bd37d1ae2fa4153a0506343add1784505009db5294209d": EarlierText(
        "c0f1cda", "experiment 4 and the later notes of its last section"
    ),
    "c9f502bbd7cc975611a115041a89782d1e9d24b02e1d1759c2eaba1ddc9f746f": EarlierText(
        "b9056aa", "the later notes of its last section"
    ),
    "eeabdb0b618f69b383015c759d3b1a3446b954e9e356cf99008f29ca0acade62": EarlierText(
        "28ebea1", "the last two notes of its last section"
    ),
    "87f1239bcab8d9cf083d02ab30e42a66b7acc47575ae833bfb33b4c4fa057201": EarlierText(
        "07ae383", "the last note of its last section"
    ),
}

ON_NONE = (
    "The *None.* with which the protocol's last section begins means that no hypothesis, margin or "
    "test was changed."
)

FIRST_SEED = 1000  # of the final networks; 0 to 999 were used to time the experiments
SPLITS = (1, 2, 3, 4, 5, 6, 7, 8)  # of the final networks

SEEDS = {
    "digits_1": 64,
    "digits_3": 96,
    "digits_conv": 96,
    "randman_1": 96,
    "randman_3": 128,
    "xor": 256,
}

# A smaller difference in accuracy counts as none; in points. Of the tasks of experiments 1 to 3.
MARGINS = {
    "digits_1": 0.3,
    "digits_3": 0.5,
    "digits_conv": 0.5,
    "randman_1": 0.5,
    "randman_3": 2.0,
    "xor": 10.0,
}

# Where halving the steps of experiment 1's flow changed a mean, its cells were run again with so
# many times the steps, as the protocol asks.
FLOW_STEPS = {"digits_1": 1, "randman_1": 1, "xor": 2}

IMAGES = "fashion_mnist"  # the task of experiment 4
EVERY_MARGIN = MARGINS | {IMAGES: 0.5}


class Networks(NamedTuple):
    """The final networks of a task.

    Attributes:
        seeds: one per network.
        splits: the split of each.
    """

    seeds: list[int]
    splits: list[int]


def final_networks(name: str) -> Networks:
    """The networks that every arm trains, the first eighth of the seeds on split 1 and so on.

    Example:
        >>> networks = final_networks("digits_1")
        >>> networks.seeds[7:9], networks.splits[7:9]
        ([1007, 1008], [1, 2])
    """
    number = SEEDS[name]
    per_split = number // len(SPLITS)
    seeds = [FIRST_SEED + position for position in range(number)]
    splits = [SPLITS[position // per_split] for position in range(number)]
    return Networks(seeds, splits)


def digest() -> str:
    """The SHA-256 of the protocol, which every cell records."""
    return hashlib.sha256(PROTOCOL.read_bytes()).hexdigest()
