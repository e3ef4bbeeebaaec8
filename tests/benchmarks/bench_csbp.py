"""What CSBP adds to a step of training: by `ChaoticLoss`, and the authors' way.

`make bench` runs this and writes the table of BENCHMARKS.md. Copies of a network, one for each way,
take two steps per round, in a new order each time; the second counts. What is added is the median
over the rounds of the difference to the plain step.
"""

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from benchmarks.ways import WAYS_TO_TRAIN, digits, training_step, vgg
from helpers import storages_kept

from csbp_core import LIF

ROUNDS = {"digits": 41, "VGG": 11}
NETWORKS = {"digits": digits, "VGG": vgg}


class Copies(NamedTuple):
    """A network's copies, compiled and checked."""

    steps: dict[str, Callable]  # [way]
    kept: dict[str, float]  # [way], memory kept for the backward pass, over that of all h


@cache
def copies(network, backend):
    """A training step for each way, and what it keeps."""
    torch.manual_seed(0)
    start, x = NETWORKS[network](lambda: LIF(backend=backend))
    y = torch.randint(10, x.shape[1:2])
    steps = {way: training_step(way, copy.deepcopy(start), x, y) for way in WAYS_TO_TRAIN}
    for _ in range(2):
        losses = {way: run() for way, run in steps.items()}
    torch.testing.assert_close(losses["ours"], losses["authors"])
    _, all_h = start(x)
    bytes_of_h = sum(h.nbytes for h in all_h)
    kept = {way: sum(storages_kept(run).values()) / bytes_of_h for way, run in steps.items()}
    return Copies(steps, kept)


ORDER = [
    (network, backend, turn, way)
    for network, rounds in ROUNDS.items()
    for backend in ("eager", "compiled")
    for turn in range(rounds)
    for way in random.Random(turn).sample(WAYS_TO_TRAIN, len(WAYS_TO_TRAIN))
]


@pytest.mark.parametrize(("network", "backend", "turn", "way"), ORDER)
def test_speed(benchmark, monkeypatch, network, backend, turn, way):
    torch.set_num_threads(2)
    setting = f"{network}, `{backend}` LIF"
    ready = copies(network, backend)
    benchmark.extra_info.update(name=way, setting=setting)
    benchmark.extra_info[f"kept, {setting}"] = ready.kept[way]
    if way == "measured":
        monkeypatch.setattr("csbp_core.plugin.chaotic_loss.MEASURE_EVERY", 1)
    benchmark.pedantic(ready.steps[way], rounds=1, warmup_rounds=1)
