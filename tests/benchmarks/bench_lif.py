"""Time and memory of a layer of LIF neurons, beside the document's way and three libraries.

`make bench` runs this and writes the table of BENCHMARKS.md. Forward and backward, from rest; every
way runs twice per round, in a new order each time. The second run counts, in the memory that the
first one left; medians over the rounds. The first ones are held against `lif_step`. A copy of the
input takes its turns among them: no layer moves its bytes faster.
"""

import random
from functools import cache, partial
from importlib.metadata import version
from itertools import accumulate

import norse.torch
import pytest
import snntorch
import torch
from benchmarks.ways import (
    COPY,
    NODE,
    Way,
    assert_same,
    document,
    forward_and_backward,
    memory,
    spikingjelly,
)
from torch.profiler import ProfilerActivity, profile

from csbp_core import LIF

ROUNDS = 21
MAIN = (8, 32, 64, 16, 16)  # [T, N, *], as the others; memory is measured here
CONVOLUTION = (4, 16, 128, 8, 8)
DENSE = (16, 64, 512)
SETTINGS = [(MAIN, 2), (CONVOLUTION, 2), (DENSE, 2), (MAIN, 1)]  # with torch threads


def snntorch_loop(layer, x):
    v = layer.reset_mem()
    spikes = []
    for x_t in x:
        k, v = layer(x_t, v)
        spikes.append(k)
    return torch.stack(spikes)


def norse_layer(layer, x):
    spikes, _ = layer(x)
    return spikes


LEAKY = snntorch.Leaky(beta=0.5, reset_mechanism="zero")
WAYS = {
    f"SpikingJelly {version('spikingjelly')}": Way(partial(spikingjelly, NODE())),
    "SpikingJelly, `store_v_seq`": Way(partial(spikingjelly, NODE(store_v_seq=True))),
    f"snnTorch {version('snntorch')}: atan, reset detached": Way(
        partial(snntorch_loop, LEAKY), same_gradients=False
    ),
    f"norse {version('norse')}: another neuron": Way(
        partial(norse_layer, norse.torch.LIF()), same_spikes=False, same_gradients=False
    ),
    "the document's way": Way(document),
    "ours, `reference`": Way(LIF(backend="reference")),
    "ours, `eager`": Way(LIF(backend="eager")),
    "ours, `compiled`": Way(LIF(backend="compiled")),
}
NAMES = [*WAYS, COPY]


def peak(x, step):
    """The most bytes that a step holds at once, over those of x."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = record.profiler.kineto_results.events()
    held = accumulate(event.nbytes() for event in events if event.name() == "[memory]")
    return max(held) / x.nbytes


@cache
def currents(size):
    """Currents, and a gradient at the spikes."""
    torch.manual_seed(0)
    return torch.randn(size, requires_grad=True), torch.randn(size)


ORDER = [
    (size, threads, turn, name)
    for size, threads in SETTINGS
    for turn in range(ROUNDS)
    for name in random.Random(turn).sample(NAMES, len(NAMES))
]


@pytest.mark.parametrize(("size", "threads", "turn", "name"), ORDER)
def test_speed(benchmark, size, threads, turn, name):
    torch.set_num_threads(threads)
    setting = str(list(size))
    if threads == 1:
        setting += ", 1 thread"
    benchmark.extra_info.update(name=name, row=NAMES.index(name), setting=setting)
    x, grad = currents(size)
    if name == COPY:
        step = x.detach().clone
    else:
        way = WAYS[name]
        step = partial(forward_and_backward, way, x, grad)
        if turn == 0:
            assert_same(way, x, grad, made=step())
            if size == MAIN:
                benchmark.extra_info.update(memory(way, x, peak(x, step)))
    benchmark.pedantic(step, rounds=1, warmup_rounds=1)
