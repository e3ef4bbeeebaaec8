"""The chaotic loss of a layer on a GPU, forward and backward, beside the authors' expression.

`make bench` runs this where there is a GPU, as `bench_loss.py` on the processor: in turns, with a
copy of the layer among them. A round is some steps, one after the other.
"""

from functools import cache, partial

import pytest
import torch
from benchmarks.gpu import need_gpu, run_round, timed
from benchmarks.turns import turns
from benchmarks.ways import COPY, LOSSES, authors

need_gpu()

ROUNDS = 15
REPEATS = 5  # steps in a round
SIZES = [(8, 64, 128, 32, 32), (4, 16, 64, 32, 32)]
WAYS = LOSSES | {f"{name}, compiled": torch.compile(way) for name, way in LOSSES.items()}
NAMES = [*WAYS, COPY]


@cache
def layer(size):
    torch.manual_seed(0)
    return torch.randn(size, device="cuda", requires_grad=True)


def gradient(way, h):
    return torch.autograd.grad(way(h), h)[0]


ORDER = turns(SIZES, ROUNDS, NAMES)


@timed
@pytest.mark.parametrize(("size", "turn", "name"), ORDER)
def test_speed(benchmark, size, turn, name):
    benchmark.extra_info.update(name=name, row=NAMES.index(name), setting=str(list(size)))
    h = layer(size)
    if name == COPY:
        step = h.detach().clone
    else:
        step = partial(gradient, WAYS[name], h)
        if turn == 0:
            # z (s - I0) / scale over many elements is below the usual absolute tolerance
            torch.testing.assert_close(step(), gradient(authors, h), rtol=1e-4, atol=0)
    run_round(benchmark, step, REPEATS)
