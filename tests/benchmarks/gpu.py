"""What the benchmarks on a GPU share: how they are timed, and how memory is counted there."""

import time

import pytest
import torch


def clock():
    """The time at which the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


timed = pytest.mark.benchmark(timer=clock)


def need_gpu():
    """Leave out the file that calls this where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU", allow_module_level=True)


def run_round(benchmark, step, repeats):
    """A round of steps, one after the other, after a round that does not count.

    As in a training, nothing waits for the end of a step.
    """
    benchmark.pedantic(step, rounds=1, iterations=repeats, warmup_rounds=1)


def peak_bytes(step):
    """The most bytes that a step holds at once beyond what was there before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before
