"""The tasks of the study: what is trained on what, and for how long."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from .data import Data, digit_images, digits, randman, xor
from .networks import Net, convolutional, dense


class Task(NamedTuple):
    """A data set, a network, and how long and how often it is trained.

    Attributes:
        data: makes the samples of a split, split 0 unless told otherwise; the same at every call.
        net: makes a network, its weights drawn from torch's global random state.
        epochs: the length of the annealing. Tuning chooses when to stop, at this epoch or before.
        batch: samples per update.
        every: epochs from one validation to the next.
        solve: whether accuracy is 1 if every answer is right and 0 if not, instead of the share of
            right answers.
    """

    data: Callable[..., Data]
    net: Callable[[], Net]
    epochs: int = 20
    batch: int = 50
    every: int = 1
    solve: bool = False


def new_net(task: Task, seed: int) -> Net:
    """The network of a seed, at its start; torch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.net()


def spike_times(split: int = 0) -> Data:
    """Five classes of spike times in ten steps, on rather rough manifolds."""
    return randman(alpha=1.0, time_steps=10, split=split)


# torch's own start leaves the deeper layers, and those that see single spikes, silent: hence the
# gains. Without them anything that pulls a current up would win.
TASKS = {
    "digits_1": Task(
        data=digits,
        net=functools.partial(dense, (64, 64, 10), static=4),
    ),
    "digits_3": Task(
        data=digits,
        net=functools.partial(dense, (64, 64, 64, 64, 10), static=4, gain=2.0),
    ),
    "digits_conv": Task(
        data=digit_images,
        net=convolutional,
    ),
    "randman_1": Task(
        data=spike_times,
        net=functools.partial(dense, (20, 64, 5), gain=3.0),
    ),
    "randman_3": Task(
        data=spike_times,
        net=functools.partial(dense, (20, 64, 64, 64, 5), gain=3.0),
    ),
    "xor": Task(
        data=xor,
        net=functools.partial(dense, (2, 4, 2), static=8),
        epochs=400,
        batch=4,
        every=10,
        solve=True,
    ),
}
