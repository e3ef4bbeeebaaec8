"""ChaoticLoss in several processes that share each batch, against one process on all of it."""

import os
import subprocess
import sys

import ddp_worker
import pytest
import torch

PROCESSES = 2
LIMIT = 300  # seconds

# DDP averages over processes, and each has the sum over its own share.
SETTINGS_OF_ONE = {
    "mean": ddp_worker.SETTINGS["mean"],
    "sum": ddp_worker.SETTINGS["sum"] | {"z": ddp_worker.SETTINGS["sum"]["z"] / PROCESSES},
}

every_reduction = pytest.mark.parametrize("reduction", ddp_worker.SETTINGS)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes, each with half of every batch, leave behind."""
    folder = tmp_path_factory.mktemp("ddp")
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
    run = subprocess.run(
        [sys.executable, "-m", *torchrun, ddp_worker.__file__, folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def whole():
    """For each reduction the steps and the last weights of one process on whole batches."""
    results = {}
    for reduction, settings in SETTINGS_OF_ONE.items():
        parts = ddp_worker.start(lambda model: model, settings)
        steps = ddp_worker.train(parts, range(ddp_worker.STEPS))
        results[reduction] = steps, ddp_worker.weights(parts.model)
    return results


@every_reduction
def test_the_mean_loss_of_the_processes_is_that_of_one(ranks, whole, reduction):
    steps, _ = whole[reduction]
    for n, step in enumerate(steps):
        losses = [rank[reduction]["steps"][n]["loss"] for rank in ranks]
        assert sum(losses) / PROCESSES == pytest.approx(step.loss, rel=1e-12)
        assert len(set(losses)) == PROCESSES  # each its own share


@every_reduction
def test_the_gradients_of_every_process_are_those_of_one(ranks, whole, reduction):
    steps, _ = whole[reduction]
    for rank in ranks:
        for theirs, ours in zip(rank[reduction]["steps"], steps, strict=True):
            for gradient, known in zip(theirs["gradients"], ours.gradients, strict=True):
                atol = 1e-11 * known.abs().max().item()
                torch.testing.assert_close(gradient, known, rtol=0, atol=atol)


@every_reduction
def test_every_process_anneals(ranks, reduction):
    z = ddp_worker.SETTINGS[reduction]["z"]
    for rank in ranks:
        strengths = [step["z"] for step in rank[reduction]["steps"]]
        assert strengths == [z * ddp_worker.BETA**n for n in range(ddp_worker.STEPS)]


@every_reduction
def test_the_weights_of_every_process_are_those_of_one(ranks, whole, reduction):
    _, expected = whole[reduction]
    for rank in ranks:
        for weight, known in zip(rank[reduction]["straight"], expected, strict=True):
            torch.testing.assert_close(weight, known, rtol=0, atol=1e-11)


@every_reduction
def test_resumed_processes_are_exact(ranks, reduction):
    for rank in ranks:
        straight = rank[reduction]["straight"]
        resumed = rank[reduction]["resumed"]
        for expected, weight in zip(straight, resumed, strict=True):
            assert torch.equal(weight, expected)


@every_reduction
def test_the_processes_have_equal_weights(ranks, reduction):
    first, *others = [rank[reduction]["straight"] for rank in ranks]
    for other in others:
        for expected, weight in zip(first, other, strict=True):
            assert torch.equal(weight, expected)
