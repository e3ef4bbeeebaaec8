"""What test_plugin_ddp.py starts with torchrun: processes train on their share of each batch, then resume."""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from csbp_core import LIF, ChaoticLoss

SETTINGS = {"mean": {"z": 20.0, "beta": 0.8, "clamp": (-10.0, 9.9)}, "sum": {"z": 0.2, "beta": 0.8, "reduction": "sum"}}
STEPS, STOP, BATCH = 6, 3, 8


def start(wrap, settings, seed=0):
    torch.manual_seed(seed)
    layers = OrderedDict(fc1=nn.Linear(6, 6), lif1=LIF(), fc2=nn.Linear(6, 6), lif2=LIF(store_v_seq=True))
    for fc in (layers["fc1"], layers["fc2"]):
        nn.init.normal_(fc.weight, std=2.0)
    model = wrap(nn.Sequential(layers).double())
    chaos = ChaoticLoss(**settings).attach(model, "fc*").attach(model, "lif2", "membrane", z=settings["z"] / 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), chaos


def train(model, optimizer, chaos, steps, share=slice(None)):
    """Train on a share of each batch; returns the loss, z and gradients of every step."""
    records = []
    for n in steps:
        x, y = torch.randn(2, 4, BATCH, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x[:, share]), y[:, share]) + chaos()
        loss.backward()
        records.append((loss.item(), chaos.z, [p.grad.clone() for p in model.parameters()]))
        optimizer.step()
        chaos.step()
    return records


def main(folder):
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    share = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    results = {}
    for name, settings in SETTINGS.items():
        parts = start(DistributedDataParallel, settings)
        records = train(*parts, range(STOP), share)
        if rank == 0:
            torch.save([part.state_dict() for part in parts], folder / f"{name}.pt")
        dist.barrier()
        records += train(*parts, range(STOP, STEPS), share)
        resumed = start(DistributedDataParallel, {"z": 1.0}, seed=1)  # all else comes from the file
        for part, state in zip(resumed, torch.load(folder / f"{name}.pt", weights_only=True), strict=True):
            part.load_state_dict(state)
        train(*resumed, range(STOP, STEPS), share)
        results[name] = records, *([p.detach() for p in model.parameters()] for model in (parts[0], resumed[0]))
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
