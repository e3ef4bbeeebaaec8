"""What test_plugin_ddp.py runs under torchrun: processes train on shares of batches, and resume."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from csbp_core import LIF, ChaoticLoss

BETA = 0.8
# The layers start at z and z / 2. The last two pass the cutoff one after the other.
SETTINGS = {
    "mean": {"z": 20.0, "beta": BETA, "clamp": (-10.0, 9.9)},
    "sum": {"z": 0.2, "beta": BETA, "reduction": "sum"},
    "cutoff": {"z": 20.0, "beta": BETA, "cutoff": 9.0},
    "cutoff, unused": {"z": 20.0, "beta": BETA, "cutoff": 9.0},
}
STEPS = 6
STOP = 3  # the step before which the training is saved, and resumed in another
BATCH = 8
EVERYTHING = slice(None)


class Parts(NamedTuple):
    """What a training is made of; each has a state_dict."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    chaos: ChaoticLoss


class Step(NamedTuple):
    """What one training step did."""

    loss: float
    z: float
    gradients: list[Tensor]


def start(wrap: Callable[[nn.Module], nn.Module], settings: dict, seed: int = 0) -> Parts:
    """A training before its first step; `wrap` is DistributedDataParallel or nothing."""
    torch.manual_seed(seed)
    fc1 = nn.Linear(6, 6)
    fc2 = nn.Linear(6, 6)
    for fc in (fc1, fc2):
        nn.init.normal_(fc.weight, std=2.0)
    layers = OrderedDict(fc1=fc1, lif1=LIF(), fc2=fc2, lif2=LIF(store_v_seq=True))
    model = wrap(nn.Sequential(layers).double())
    chaos = ChaoticLoss(**settings).attach(model, "fc*")
    chaos.attach(model, "lif2", "membrane", z=settings["z"] / 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Parts(model, optimizer, chaos)


def train(parts: Parts, steps: Iterable[int], share: slice = EVERYTHING) -> list[Step]:
    """Train on a share of each batch."""
    model, optimizer, chaos = parts
    records = []
    for n in steps:
        generator = torch.Generator().manual_seed(n)
        x, y = torch.randn(2, 4, BATCH, 6, dtype=torch.float64, generator=generator)  # [T, N, C]
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x[:, share]), y[:, share]) + chaos()
        loss.backward()
        records.append(Step(loss.item(), chaos.z, [p.grad.clone() for p in model.parameters()]))
        optimizer.step()
        chaos.step()
    return records


def weights(model: nn.Module) -> list[Tensor]:
    """The weights of a model as they are now."""
    return [p.detach() for p in model.parameters()]


def train_save_and_resume(name: str, file: Path, share: slice) -> dict:
    """Train to the end, and from the middle on once more, out of the file of rank 0."""
    find_unused = name.endswith("unused")
    wrap = partial(DistributedDataParallel, find_unused_parameters=find_unused)
    straight = start(wrap, SETTINGS[name])
    steps = train(straight, range(STOP), share)
    if dist.get_rank() == 0:
        torch.save([part.state_dict() for part in straight], file)
    dist.barrier()
    steps += train(straight, range(STOP, STEPS), share)

    resumed = start(wrap, {"z": 1.0}, seed=1)  # all else comes from the file
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(resumed, range(STOP, STEPS), share)
    return {
        "steps": [step._asdict() for step in steps],
        "straight": weights(straight.model),
        "resumed": weights(resumed.model),
    }


def main(folder: Path) -> None:
    """Train every setting as one of several processes, and leave behind what happened."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    size = dist.get_world_size()
    share = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    results = {name: train_save_and_resume(name, folder / f"{name}.pt", share) for name in SETTINGS}
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
