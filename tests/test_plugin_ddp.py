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
SETTINGS_OF_ONE = ddp_worker.SETTINGS | {
    "sum": ddp_worker.SETTINGS["sum"] | {"z": ddp_worker.SETTINGS["sum"]["z"] / PROCESSES},
}

every_setting = pytest.mark.parametrize("name", ddp_worker.SETTINGS)


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
    """For each setting the steps and the last weights of one process on whole batches."""
    results = {}
    for name, settings in SETTINGS_OF_ONE.items():
        parts = ddp_worker.start(lambda model: model, settings)
        steps = ddp_worker.train(parts, range(ddp_worker.STEPS))
        results[name] = steps, ddp_worker.weights(parts.model)
    return results


@every_setting
def test_the_mean_loss_of_the_processes_is_that_of_one(ranks, whole, name):
    steps, _ = whole[name]
    for n, step in enumerate(steps):
        losses = [rank[name]["steps"][n]["loss"] for rank in ranks]
        assert sum(losses) / PROCESSES == pytest.approx(step.loss, rel=1e-12)
        assert len(set(losses)) == PROCESSES  # each its own share


@every_setting
def test_the_gradients_of_every_process_are_those_of_one(ranks, whole, name):
    steps, _ = whole[name]
    for rank in ranks:
        for theirs, ours in zip(rank[name]["steps"], steps, strict=True):
            for gradient, known in zip(theirs["gradients"], ours.gradients, strict=True):
                atol = 1e-11 * known.abs().max().item()
                torch.testing.assert_close(gradient, known, rtol=0, atol=atol)


@every_setting
def test_every_process_anneals(ranks, name):
    z = ddp_worker.SETTINGS[name]["z"]
    cutoff = ddp_worker.SETTINGS[name].get("cutoff", 0.0)
    annealed = [z * ddp_worker.BETA**n for n in range(ddp_worker.STEPS)]
    for rank in ranks:
        strengths = [step["z"] for step in rank[name]["steps"]]
        assert strengths == [z if z >= cutoff else 0.0 for z in annealed]


@pytest.mark.parametrize("name", ["cutoff", "cutoff, unused"])
def test_the_settings_with_a_cutoff_pass_it(ranks, name):
    steps = ranks[0][name]["steps"]
    assert steps[0]["z"] > 0
    assert steps[-1]["z"] == 0


@every_setting
def test_the_weights_of_every_process_are_those_of_one(ranks, whole, name):
    _, expected = whole[name]
    for rank in ranks:
        for weight, known in zip(rank[name]["straight"], expected, strict=True):
            torch.testing.assert_close(weight, known, rtol=0, atol=1e-11)


@every_setting
def test_resumed_processes_are_exact(ranks, name):
    for rank in ranks:
        straight = rank[name]["straight"]
        resumed = rank[name]["resumed"]
        for expected, weight in zip(straight, resumed, strict=True):
            assert torch.equal(weight, expected)


@every_setting
def test_the_processes_have_equal_weights(ranks, name):
    first, *others = [rank[name]["straight"] for rank in ranks]
    for other in others:
        for expected, weight in zip(first, other, strict=True):
            assert torch.equal(weight, expected)
