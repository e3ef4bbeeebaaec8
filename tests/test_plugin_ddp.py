import os
import subprocess
import sys

import ddp_worker
import pytest
import torch

PROCESSES = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes, each with half of every batch, leave behind."""
    folder = tmp_path_factory.mktemp("ddp")
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}", ddp_worker.__file__, folder]
    run = subprocess.run(
        [sys.executable, *command], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("reduction", ddp_worker.SETTINGS)
def test_processes_equal_one_on_the_whole_batch(ranks, reduction):
    settings = dict(ddp_worker.SETTINGS[reduction])
    if reduction == "sum":
        settings["z"] /= PROCESSES  # DDP averages over processes, and each has the sum over its own share
    model, optimizer, chaos = ddp_worker.start(lambda model: model, settings)
    whole = ddp_worker.train(model, optimizer, chaos, range(ddp_worker.STEPS))
    for n, (loss, _, gradients) in enumerate(whole):
        steps = [rank[reduction][0][n] for rank in ranks]
        assert sum(step[0] for step in steps) / PROCESSES == pytest.approx(loss, rel=1e-12)
        assert len({step[0] for step in steps}) == PROCESSES  # each its own share
        for _, z, gradients_there in steps:
            assert z == ddp_worker.SETTINGS[reduction]["z"] * 0.8**n
            for there, here in zip(gradients_there, gradients, strict=True):
                torch.testing.assert_close(there, here, rtol=0, atol=1e-11 * here.abs().max().item())
    for rank in ranks:
        for weight, expected in zip(rank[reduction][1], model.parameters(), strict=True):
            torch.testing.assert_close(weight, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("reduction", ddp_worker.SETTINGS)
def test_resumed_processes_are_exact(ranks, reduction):
    for rank in ranks:
        _, straight, resumed = rank[reduction]
        assert all(torch.equal(*pair) for pair in zip(straight, resumed, strict=True))
        assert all(torch.equal(*pair) for pair in zip(straight, ranks[0][reduction][1], strict=True))
