"""A step of 32 networks of the study, in one vectorised run against 32 separate ones.

`make bench` runs this and writes the table of BENCHMARKS.md. Both ways take two steps per round,
in a new order each time; the second counts.
"""

import random
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from csbp_core import chaotic_loss
from study.tasks.tasks import TASKS, new_net
from study.training.train import MOMENTUM, Training

WAYS = ("separate", "vectorised")
NETWORKS = 32
ROUNDS = 21
LR = 0.1
Z = 5.0


@cache
def steps(task):
    """A step of all networks for each way, checked against each other."""
    run = Training(TASKS[task], "csbp", range(NETWORKS), LR, Z)
    xs, ys = run.batch(0)
    nets = [new_net(run.task, seed) for seed in range(NETWORKS)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM) for net in nets]
    state = run.start()

    def separate():
        for net, optimizer, x, y in zip(nets, optimizers, xs, ys, strict=True):
            logits, layers = net(net.time_first(x))
            chaos = sum(chaotic_loss(layer.current, Z) for layer in layers)
            loss = F.cross_entropy(logits, y) + chaos
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def vectorised():
        nonlocal state
        state = run.step(state, 0)

    separate()
    vectorised()
    for i, net in enumerate(nets):
        for ours, theirs in zip(state, net.parameters(), strict=False):
            torch.testing.assert_close(ours[i], theirs.detach(), rtol=0, atol=1e-5)
    return {"separate": separate, "vectorised": vectorised}


ORDER = [
    (task, turn, way)
    for task in TASKS
    for turn in range(ROUNDS)
    for way in random.Random(turn).sample(WAYS, len(WAYS))
]


@pytest.mark.parametrize(("task", "turn", "way"), ORDER)
def test_speed(benchmark, task, turn, way):
    torch.set_num_threads(2)
    benchmark.extra_info.update(name=way, setting=f"{NETWORKS} networks, {task}")
    benchmark.pedantic(steps(task)[way], rounds=1, warmup_rounds=1)
