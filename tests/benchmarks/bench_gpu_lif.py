"""Time and memory of a layer of LIF neurons on a GPU, beside SpikingJelly's own kernels.

`make bench` runs this where there is a GPU, as `bench_lif.py` on the processor: in turns, with a
copy of the input among them. A round is some steps, one after the other.
"""

from functools import cache, partial
from importlib.metadata import version

import pytest
import torch
from benchmarks.gpu import need_gpu, peak_bytes, run_round, timed
from benchmarks.turns import turns
from benchmarks.ways import (
    COPY,
    NODE,
    TRIANGLE,
    Way,
    assert_same,
    document,
    forward_and_backward,
    memory,
    spikingjelly,
)
from spikingjelly._ops.lif import _selection

from csbp_core import LIF

need_gpu()

ROUNDS = 15
REPEATS = 3  # steps in a round
LARGE = (8, 256, 128, 32, 32)  # [T, N, *], as the others: it keeps a GPU busy
MAIN = (8, 32, 64, 16, 16)  # memory is measured here
DENSE = (16, 64, 512)
SIZES = [LARGE, MAIN, DENSE]
# SpikingJelly spikes at the threshold itself, too, and a few potentials of many millions are there.
ALLOWED = 1e-6


def kernels_of_spikingjelly():
    """Its kernels for LIF that run on this GPU, by name: it reads a choice once, as it starts."""
    found = {}
    for name in ("triton", "cuda"):
        _selection._requested = name
        try:
            found[name] = _selection._select(torch.cuda.current_device())
        except RuntimeError:  # not built
            continue
    _selection._requested = "auto"
    return found


def run_kernels(kernels, layer, x):
    """A run of SpikingJelly's layer by these kernels."""
    _selection._selections[x.device.index] = kernels
    return spikingjelly(layer, x)


SPIKINGJELLY = f"SpikingJelly {version('spikingjelly')}"
# It takes its own path in plain torch for a surrogate that its kernels do not know.
PLAIN = NODE(surrogate_function=lambda u: TRIANGLE(u))
WAYS = {f"{SPIKINGJELLY}, torch": Way(partial(spikingjelly, PLAIN))}
WAYS |= {
    f"{SPIKINGJELLY}, {name}": Way(partial(run_kernels, kernels, NODE()))
    for name, kernels in kernels_of_spikingjelly().items()
}
WAYS |= {
    "the document's way": Way(document),
    "ours, `eager`": Way(LIF(backend="eager")),
    "ours, `compiled`": Way(LIF(backend="compiled")),
}
NAMES = [*WAYS, COPY]


@cache
def currents(size):
    """Currents, and a gradient at the spikes."""
    torch.manual_seed(0)
    x = torch.randn(size, device="cuda", requires_grad=True)
    return x, torch.randn(size, device="cuda")


ORDER = turns(SIZES, ROUNDS, NAMES)


@timed
@pytest.mark.parametrize(("size", "turn", "name"), ORDER)
def test_speed(benchmark, size, turn, name):
    benchmark.extra_info.update(name=name, row=NAMES.index(name), setting=str(list(size)))
    x, grad = currents(size)
    if name == COPY:
        step = x.detach().clone
    else:
        way = WAYS[name]
        step = partial(forward_and_backward, way, x, grad)
        if turn == 0:
            assert_same(way, x, grad, made=step(), allowed=ALLOWED)
            if size == MAIN:
                benchmark.extra_info.update(memory(way, x, peak_bytes(step) / x.nbytes))
    run_round(benchmark, step, REPEATS)
