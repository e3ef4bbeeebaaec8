"""The rules of experiment 1: what each adds to a step, and where they must agree."""

import re

import pytest
import torch

from csbp_core import critical_z
from study.tasks.tasks import TASKS
from study.training.flow import flow
from study.training.overshoot import RULES, FallingZ, Overshoot, layer_critical_z
from study.training.surrogate_share import zero_surrogate
from study.training.train import MOMENTUM, Training

TASK = TASKS["digits_1"]
LR = 0.2
I0 = 0.525
SEEDS, SPLITS = [0, 1, 2], [1, 1, 2]
HIDDEN = 2  # of a state's tensors, those of the hidden layer: its weights and biases


def made(rule, ratio=1.0, epochs=2, holds=0, **settings):
    """Three networks whose z starts at a multiple of the critical z of their layer."""
    z_c = [layer_critical_z(TASK, split, LR, I0) for split in SPLITS]
    z = FallingZ([ratio * limit for limit in z_c], end=1e-3, annealing=2, holds=holds)
    return Overshoot(TASK, rule, SEEDS, SPLITS, lr=LR, z=z, I0=I0, epochs=epochs, **settings)


def after_a_step(rule, ratio, **settings):
    run = made(rule, ratio, **settings)
    return run.step(run.start(), 0)


def moved_by_chaos(rule, ratio):
    """How far a step takes the hidden layer's weights beyond where BP alone takes them."""
    bp = after_a_step("bp", ratio)[0]
    return after_a_step(rule, ratio)[0] - bp


def test_bp_is_the_studys_bp():
    run = made("bp")
    other = Training(TASK, "bp", SEEDS, LR, epochs=2, splits=SPLITS)
    ours, theirs = run.start(), other.start()
    for n in range(3):
        ours, theirs = run.step(ours, n), other.step(theirs, n)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_csbp_is_the_studys_csbp_at_its_rest_point():
    """At I0 = .65, which the study's arm has; that takes the gradient by autograd."""
    z = [30.0, 40.0, 50.0]
    falling = FallingZ(z, end=1e-3, annealing=2)
    ours = Overshoot(TASK, "csbp", SEEDS, SPLITS, lr=LR, z=falling, I0=0.65, epochs=2)
    theirs = Training(TASK, "csbp", SEEDS, LR, z, epochs=2, splits=SPLITS)
    pairs = zip(ours.step(ours.start(), 0), theirs.step(theirs.start(), 0), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_in_float64_a_step_is_the_same_but_for_rounding():
    single = after_a_step("csbp", 0.5)
    double = after_a_step("csbp", 0.5, dtype=torch.float64)
    for a, b in zip(single, double, strict=True):
        assert b.dtype == torch.float64
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.1])
def test_for_small_z_the_steps_of_inner_flow_and_csbp_agree(ratio):
    inner = moved_by_chaos("inner flow", ratio)
    csbp = moved_by_chaos("csbp", ratio)
    assert (inner - csbp).norm() < 4 * ratio * csbp.norm()


def test_for_large_z_they_do_not():
    inner = moved_by_chaos("inner flow", 4.0)
    csbp = moved_by_chaos("csbp", 4.0)
    assert (inner - csbp).norm() > csbp.norm() / 2


def test_without_momentum_and_task_a_kick_is_a_step_of_csbp_bit_for_bit(monkeypatch):
    """With the task's gradient it is not quite: the kick comes after BP's step."""

    def no_gradients(self, weights, n):
        return [torch.zeros_like(weight) for weight in weights]

    monkeypatch.setattr(Training, "gradients", no_gradients)
    kick = made("kick", 2.0, momentum=0.0)
    csbp = made("csbp", 2.0, momentum=0.0)
    ours, theirs = kick.start(), csbp.start()
    for n in range(5):
        ours, theirs = kick.step(ours, n), csbp.step(theirs, n)
    assert all(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))


def test_outer_flow_is_bps_step_and_then_the_flow_for_the_time_of_the_momentum():
    run = made("outer flow", 2.0)
    weight, bias = after_a_step("bp", 2.0)[:HIDDEN]
    theta = torch.cat([weight, bias.unsqueeze(2)], dim=2)
    x, _ = run.batch(0)
    inputs = torch.cat([x, torch.ones(*x.shape[:2], 1)], dim=2)
    time = torch.full((3,), LR / (1 - MOMENTUM), dtype=torch.float64)
    expected = flow(theta, inputs, run.z_at(0), time, I0)
    arrived = run.step(run.start(), 0)
    torch.testing.assert_close(arrived[0], expected[:, :, :-1])
    torch.testing.assert_close(arrived[1], expected[:, :, -1])


def test_the_noise_has_the_recorded_norm_and_is_fixed_by_seed_and_step():
    csbp = made("csbp", 2.0)
    csbp.record = True
    csbp.step(csbp.start(), 0)
    excess = torch.stack(csbp.excess)  # [steps, S]
    inner = made("inner flow", 2.0)
    noise = made("noise", 2.0, excess=excess)
    weights = inner.start()[:4]
    plain, noisy = inner.gradients(weights, 0), noise.gradients(weights, 0)
    added = [(a - b).flatten(1) for a, b in zip(noisy[:HIDDEN], plain[:HIDDEN], strict=True)]
    norms = torch.cat(added, dim=1).norm(dim=1)
    torch.testing.assert_close(norms, excess[0], rtol=1e-4, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(noisy, noise.gradients(weights, 0), strict=True))


def test_z_is_held_before_it_falls():
    held = made("csbp", 1.0, epochs=5, holds=2)
    falling = made("csbp", 1.0, epochs=5)
    z = [float(held.z_at(epoch * held.steps)[0]) for epoch in range(5)]
    later = [float(falling.z_at(epoch * held.steps)[0]) for epoch in range(3)]
    assert z == [z[0], z[0], *later]


def test_z_falls_geometrically_over_the_annealing_and_then_stays():
    run = made("csbp", 1.0, epochs=4)
    z = [float(run.z_at(epoch * run.steps)[0]) for epoch in range(4)]
    assert z[1] / z[0] == pytest.approx(z[2] / z[1])
    assert z[2] == z[3] == pytest.approx(1e-3)


def test_a_z_below_the_end_stays():
    z = FallingZ([1e-4], end=1e-3, annealing=1)
    assert z.at(0) == z.at(1) == 1e-4


def test_above_its_critical_z_csbp_leaves_the_rest_point_and_below_it_returns():
    """The chaotic loss alone, the whole data as one batch: where the linear formula holds."""
    task = TASK._replace(batch=1000)
    ends = {}
    for ratio in (0.9, 1.1):
        held = ratio * layer_critical_z(task, 1, LR, I0)
        z = FallingZ([held], end=held, annealing=1)
        run = Overshoot(task, "csbp", [0], [1], lr=LR, z=z, I0=I0, epochs=1)
        zero = [torch.zeros_like(tensor) for tensor in run.start()]
        zero[1] += 1.01  # the bias: h* = 1 and a bit, where the weights are zero
        state = zero
        for _ in range(400):
            theta = torch.cat([state[0], state[1].unsqueeze(2)], dim=2)
            added = run._added(theta, run._inputs(0), 0)
            momentum = MOMENTUM * torch.cat([state[4], state[5].unsqueeze(2)], dim=2) + added
            theta = theta - LR * momentum
            state[0], state[1] = theta[:, :, :-1], theta[:, :, -1]
            state[4], state[5] = momentum[:, :, :-1], momentum[:, :, -1]
        ends[ratio] = float(run._added(theta, run._inputs(0), 0).norm())
    assert ends[0.9] < 1e-3 * ends[1.1]


def test_the_critical_z_is_that_of_the_library_and_goes_with_one_over_lr():
    data = TASK.data(3)
    rows = torch.cat([data.x_train, torch.ones(1000, 1)], dim=1).double()
    largest = float(torch.linalg.matrix_norm(rows, 2) ** 2)
    expected = critical_z(largest, LR, MOMENTUM, I0, 10.0, "mean", 1000 * 64)
    assert layer_critical_z(TASK, 3, LR, I0) == pytest.approx(expected)
    assert layer_critical_z(TASK, 3, LR / 2, I0) == pytest.approx(2 * expected)


def test_dead_and_saturated_neurons_have_no_surrogate_gradient():
    run = made("bp")
    state = run.start()
    state[0] = torch.zeros_like(state[0])
    for bias, share in ((0.5, 0.0), (3.0, 1.0), (-1.0, 1.0)):
        state[1] = torch.full_like(state[1], bias)
        assert zero_surrogate(run, state).tolist() == [share] * 3


@pytest.mark.parametrize("rule", RULES)
def test_a_training_by_every_rule_stays_finite(rule):
    excess = torch.ones(40, 3) if rule == "noise" else None
    run = made(rule, 2.0, excess=excess)
    state, curve = run.train()
    assert all(tensor.isfinite().all() for tensor in state)
    assert curve.shape == (2, 3)


@pytest.mark.parametrize(
    ("z", "line"),
    [
        (FallingZ([1.0, 0.0, 1.0], end=1e-3, annealing=1), "z.start[1] = 0.0"),
        (FallingZ([1.0] * 3, end=0.0, annealing=1), "z.end = 0.0"),
        (FallingZ([1.0] * 3, end=1e-3, annealing=1, holds=-1), "z.holds = -1"),
        (FallingZ([1.0] * 3, end=1e-3, annealing=2, holds=1), "z.annealing = 2"),
    ],
)
def test_a_strength_that_cannot_fall_so_is_refused(z, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        Overshoot(TASK, "csbp", SEEDS, SPLITS, lr=LR, z=z, I0=I0, epochs=2)


def test_noise_without_a_record_is_refused():
    with pytest.raises(ValueError, match="excess = None: must be given for the rule 'noise'"):
        made("noise")
    with pytest.raises(ValueError, match="rule = 'chaos'"):
        made("chaos")
