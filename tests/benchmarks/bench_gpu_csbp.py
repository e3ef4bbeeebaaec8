"""What CSBP adds to a step of training on a GPU: by `ChaoticLoss`, and the authors' way.

`make bench` runs this where there is a GPU, as `bench_csbp.py` on the processor. A round is some
steps, one after the other; what is added is the median over the rounds of the difference to the
plain steps.
"""

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from benchmarks.gpu import need_gpu, peak_bytes, run_round, timed
from benchmarks.ways import WAYS_TO_TRAIN, training_step, vgg
from helpers import storages_kept

from csbp_core import LIF

need_gpu()

ROUNDS = 15
REPEATS = 5  # steps in a round


class Setting(NamedTuple):
    """What is trained, and how."""

    images: int
    backend: str
    autocast: bool = False

    @property
    def name(self):
        precision = ", bfloat16" if self.autocast else ""
        return f"VGG, {self.images} images, `{self.backend}` LIF{precision}"


SETTINGS = [
    Setting(128, "eager"),
    Setting(128, "compiled"),
    Setting(128, "eager", autocast=True),  # compiled LIF runs eager in half precision
    Setting(16, "eager"),
    Setting(16, "compiled"),
    Setting(16, "eager", autocast=True),
]


class Copies(NamedTuple):
    """A network's copies, compiled and checked."""

    steps: dict[str, Callable]  # [way]
    kept: dict[str, float]  # [way], memory kept for the backward pass, over that of all h
    peak: dict[str, float]  # [way], the most memory held in a step, over that of all h


@cache
def copies(setting):
    """A training step for each way, and what it keeps."""
    torch.manual_seed(0)
    start, x = vgg(lambda: LIF(backend=setting.backend), setting.images)
    start.cuda()
    x = x.cuda()
    y = torch.randint(10, x.shape[1:2], device="cuda")
    steps = {
        way: training_step(way, copy.deepcopy(start), x, y, setting.autocast)
        for way in WAYS_TO_TRAIN
    }
    for _ in range(2):
        losses = {way: run().item() for way, run in steps.items()}
    # a sigmoid in half precision is what the authors' expression makes of such a layer
    tolerance = 2e-2 if setting.autocast else 1e-4
    assert losses["ours"] == pytest.approx(losses["authors"], rel=tolerance)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=setting.autocast):
        _, all_h = start(x)
    bytes_of_h = sum(h.nbytes for h in all_h)
    kept = {way: sum(storages_kept(run).values()) / bytes_of_h for way, run in steps.items()}
    peak = {way: peak_bytes(run) / bytes_of_h for way, run in steps.items()}
    return Copies(steps, kept, peak)


ORDER = [
    (setting, turn, way)
    for setting in SETTINGS
    for turn in range(ROUNDS)
    for way in random.Random(turn).sample(WAYS_TO_TRAIN, len(WAYS_TO_TRAIN))
]


@timed
@pytest.mark.parametrize(("setting", "turn", "way"), ORDER)
def test_speed(benchmark, monkeypatch, setting, turn, way):
    ready = copies(setting)
    benchmark.extra_info.update(name=way, setting=setting.name)
    benchmark.extra_info[f"kept, {setting.name}"] = ready.kept[way]
    benchmark.extra_info[f"peak, {setting.name}"] = ready.peak[way]
    every = 1 if way == "measured" else 10**9
    monkeypatch.setattr("csbp_core.plugin.chaotic_loss.MEASURE_EVERY", every)
    run_round(benchmark, ready.steps[way], REPEATS)
