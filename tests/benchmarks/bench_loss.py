"""The chaotic loss of a layer, forward and backward, beside the authors' expression.

`make bench` runs this and writes the table of BENCHMARKS.md. Every way runs twice per round, in a
new order each time; the second run counts; medians over the rounds. A copy of the layer takes its
turns among them: no way moves its bytes faster. Many small layers show what a layer costs whatever
its size: there the layers run, the loss of all is called, and the backward pass runs.
"""

import random
from functools import cache, partial

import pytest
import torch
from benchmarks.ways import AUTHORS, COPY, LOSSES, PLUGIN, Z, authors
from torch import nn

from csbp_core import ChaoticLoss

ROUNDS = 15
LAYER = (4, 16, 64, 32, 32)
SETTINGS = {f"{list(LAYER)}, 2 threads": 2, f"{list(LAYER)}, 1 thread": 1}

MEASURED = "`ChaoticLoss`, a measured call"  # of small layers
WAYS = LOSSES | {f"{name}, compiled": torch.compile(way) for name, way in LOSSES.items()}
NAMES = [*WAYS, MEASURED, COPY]


@cache
def layer():
    torch.manual_seed(0)
    return torch.randn(LAYER, requires_grad=True)


def gradient(way):
    return torch.autograd.grad(way(layer()), layer())[0]


ORDER = [
    (setting, turn, name)
    for setting in SETTINGS
    for turn in range(ROUNDS)
    for name in random.Random(turn).sample([*WAYS, COPY], len(WAYS) + 1)
]


@pytest.mark.parametrize(("setting", "turn", "name"), ORDER)
def test_speed(benchmark, setting, turn, name):
    torch.set_num_threads(SETTINGS[setting])
    benchmark.extra_info.update(name=name, row=NAMES.index(name), setting=setting)
    if name == COPY:
        step = layer().detach().clone
    else:
        step = partial(gradient, WAYS[name])
        if turn == 0:
            torch.testing.assert_close(step(), gradient(authors))
    benchmark.pedantic(step, rounds=1, warmup_rounds=1)


# Many small layers

LAYERS = 20
SMALL = (4, 8, 16)
SMALL_ROUNDS = 41
REPEATS = 10  # in a round, for one step is short and would be timed cold
# With every call measured, and with none but the first.
MEASURE_EVERY = {PLUGIN: 10**9, MEASURED: 1}
SMALL_WAYS = [AUTHORS, *MEASURE_EVERY]


@cache
def small_steps():
    """For each way the run of all layers, their loss and its backward pass, checked."""
    torch.manual_seed(0)
    starts = [torch.randn(SMALL, requires_grad=True) for _ in range(LAYERS)]

    def step(name):
        model = nn.ModuleList([nn.Identity() for _ in range(LAYERS)])
        chaos = None
        if name in MEASURE_EVERY:
            chaos = ChaoticLoss(Z).attach(model, nn.Identity)

        def run():
            all_h = [layer(-start) for layer, start in zip(model, starts, strict=True)]
            loss = chaos() if chaos else sum(map(authors, all_h))
            loss.backward()
            return loss

        return run

    made = {name: step(name) for name in SMALL_WAYS}
    losses = [run() for run in made.values()]
    for loss in losses:
        torch.testing.assert_close(loss, losses[0])
    return made


SMALL_ORDER = [
    (turn, name)
    for turn in range(SMALL_ROUNDS)
    for name in random.Random(turn).sample(SMALL_WAYS, len(SMALL_WAYS))
]


@pytest.mark.parametrize(("turn", "name"), SMALL_ORDER)
def test_speed_of_small_layers(benchmark, monkeypatch, turn, name):
    torch.set_num_threads(1)
    run = small_steps()[name]
    every = MEASURE_EVERY.get(name, 1)
    monkeypatch.setattr("csbp_core.plugin.chaotic_loss.MEASURE_EVERY", every)
    row = NAMES.index(name)
    benchmark.extra_info.update(name=name, row=row, setting="small", layers=LAYERS)
    benchmark.pedantic(run, rounds=1, iterations=REPEATS, warmup_rounds=1)
