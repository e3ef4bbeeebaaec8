"""Time and memory of a layer of LIF neurons, forward and backward, beside the document's way and three libraries.

`make bench` runs this and writes the README's table. Every way runs twice per round, in a new order each time, from rest; the
second run counts, in the memory that the first one left; medians over the rounds. The first ones are held against `lif_step`.
"""

import random
from functools import cache, partial
from importlib.metadata import version
from itertools import accumulate

import norse.torch
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch.profiler import ProfilerActivity, profile

from csbp_core import LIF

ROUNDS = 21
MAIN, *OTHERS = (8, 32, 64, 16, 16), (4, 16, 128, 8, 8), (16, 64, 512)  # [T, N, *]
SETTINGS = [(MAIN, 2), *((size, 2) for size in OTHERS), (MAIN, 1)]  # with torch threads


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, gamma):
        k = (u > 0).float()
        ctx.save_for_backward(u, k, torch.tensor([gamma]))
        return k

    @staticmethod
    def backward(ctx, grad):
        u, _, gamma = ctx.saved_tensors
        return grad.clone() * (1 / gamma.item() ** 2 * (gamma.item() - u.abs()).clamp(min=0)), None


def document(x):  # does and keeps what LIFSpike and ZIF do
    v, spikes = 0, []
    for x_t in x:
        v = v * 0.5 + x_t
        spikes.append(Spike.apply(v - 1.0, 1.0))
        v = (1 - spikes[-1]) * v
    return torch.stack(spikes)


def spikingjelly(layer, x):
    functional.reset_net(layer)
    return layer(x)


def snntorch_loop(layer, x):
    v, spikes = layer.reset_mem(), []
    for x_t in x:
        k, v = layer(x_t, v)
        spikes.append(k)
    return torch.stack(spikes)


TRIANGLE = surrogate.PiecewiseQuadratic(alpha=1.0)
NODE = partial(neuron.LIFNode, tau=2.0, decay_input=False, surrogate_function=TRIANGLE, step_mode="m")
LEAKY, NORSE = snntorch.Leaky(beta=0.5, reset_mechanism="zero"), norse.torch.LIF()
# name: (what to run, whether its spikes and its gradients are those of `lif_step`)
WAYS = {
    f"SpikingJelly {version('spikingjelly')}": (partial(spikingjelly, NODE()), True, True),
    "SpikingJelly, `store_v_seq`": (partial(spikingjelly, NODE(store_v_seq=True)), True, True),
    f"snnTorch {version('snntorch')}: atan, reset detached": (partial(snntorch_loop, LEAKY), True, False),
    f"norse {version('norse')}: another neuron": (lambda x: NORSE(x)[0], False, False),
    "the document's way": (document, True, True),
} | {f"ours, `{backend}`": (LIF(backend=backend), True, True) for backend in ("reference", "eager", "compiled")}


def memory(x, step, run):
    """Bytes of the storages kept for the backward pass, and the most that a step holds at once, both in those of x."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t):
        run(x)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    held = accumulate(event.nbytes() for event in record.profiler.kineto_results.events() if event.name() == "[memory]")
    return {"kept": sum(t.untyped_storage().nbytes() for t in kept.values()) / x.nbytes, "peak": max(held) / x.nbytes}


@cache
def currents(size):
    torch.manual_seed(0)
    return torch.randn(size, requires_grad=True), torch.randn(size)


NAMES = [*WAYS]
ALL = [(*s, turn, name) for s in SETTINGS for turn in range(ROUNDS) for name in random.Random(turn).sample(NAMES, len(NAMES))]


@pytest.mark.parametrize(("size", "threads", "turn", "name"), ALL)
def test_speed(benchmark, size, threads, turn, name):
    torch.set_num_threads(threads)
    (x, grad), (run, same_spikes, same_grad) = currents(size), WAYS[name]

    def step():
        return torch.autograd.grad(run(x), x, grad)[0]

    benchmark.extra_info.update(name=name, row=NAMES.index(name), setting=str(list(size)) + ", 1 thread" * (threads == 1))
    if turn == 0:
        made, reference = step(), LIF(backend="reference")(x)
        assert not same_spikes or torch.equal(run(x), reference)
        assert not same_grad or torch.allclose(made, torch.autograd.grad(reference, x, grad)[0], atol=1e-5)
        benchmark.extra_info.update(memory(x, step, run) if size == MAIN else {})
    benchmark.pedantic(step, rounds=1, warmup_rounds=1)
