"""How long the steps of csbp and of inner flow are, and what may be said of strength."""

import pytest
import torch

from study.contrasts import Contrast
from study.experiments.experiment_1 import RATIOS
from study.findings.all_contrasts import findings
from study.findings.measured import DECISIVE
from study.findings.rows import Row, label_at
from study.findings.strength import (
    KICK_UNSTABLE_FROM,
    is_it_strength,
    outside_of_the_momentum,
    times_as_long,
)
from study.training.flow import flow, gradient

I0 = 0.525
LR = 0.2
MOMENTUM = 0.9


@pytest.mark.parametrize("ratio", [0.003, 0.3, 1.0, 2.0])
def test_a_step_is_so_many_times_as_long_as_that_of_the_flow(ratio):
    """One unit with a bias alone: its only direction is the stiffest; near the rest point.

    There the curvature of the loss for z = 1 is I0 (1 - I0) / scale^2, and momentum's descent
    turns unstable where lr z times it is 2 (1 + m).
    """
    rest = 10 * torch.logit(torch.tensor(I0, dtype=torch.float64))
    theta = (rest + 1e-4).reshape(1, 1, 1)
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    z = ratio * 2 * (1 + MOMENTUM) / (LR * I0 * (1 - I0) / 10**2)
    step = LR * z * gradient(theta, ones, I0)
    strength = torch.tensor([z], dtype=torch.float64)
    arrived = flow(theta, ones, strength, torch.tensor([LR]), I0, substeps=8)
    assert float(step / (theta - arrived)) == pytest.approx(times_as_long(ratio), rel=1e-3)


@pytest.mark.parametrize(("times", "grows"), [(1.01, True), (0.99, False)])
def test_kick_grows_from_its_own_critical_z_on(times, grows):
    """One Euler step over lr / (1 - m), of the same unit, near the rest point."""
    rest = 10 * torch.logit(torch.tensor(I0, dtype=torch.float64))
    theta = (rest + 1e-4).reshape(1, 1, 1)
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    critical_z = 2 * (1 + MOMENTUM) / (LR * I0 * (1 - I0) / 10**2)
    z = times * KICK_UNSTABLE_FROM * critical_z
    stepped = theta - LR / (1 - MOMENTUM) * z * gradient(theta, ones, I0)
    assert (abs(float(stepped - rest)) > abs(float(theta - rest))) == grows


def test_kick_is_held_against_csbp_in_every_task_that_has_it():
    rows = []
    for task, kick, csbp in (("digits_1", 32.8, 88.2), ("xor", 48.0, 16.4)):
        rows.append(row(label_at(task, DECISIVE, "kick", "outer flow"), (kick, 90.0)))
        rows.append(row(label_at(task, DECISIVE, "csbp", "inner flow"), (csbp, 20.0)))
        rows.append(row(label_at(task, DECISIVE, "csbp", "bp"), (csbp, 90.0)))
    (said,) = outside_of_the_momentum({row.label: row for row in rows})
    assert said.startswith(
        "Outside of the momentum, kick ends above CSBP in xor (48.0 for 16.4 %), not above CSBP in "
        "digits_1 (32.8 for 88.2 %); by itself it is unstable"
    )
    assert said.endswith("on, that is 0.053 z_c.")
    assert outside_of_the_momentum({}) == []


def row(label, means, verdict=None):
    """A contrast of two means."""
    estimate = means[0] - means[1]
    ends = (estimate - 0.5, estimate + 0.5)
    return Row(label, means, Contrast(estimate, *ends, *ends, 0.5, 0.5, 1.0), None, None, verdict)


def of_task(task, verdict, csbp, flow_at):
    """Findings of one task: csbp from twice z_c, inner flow at every ratio, BP at 90 %.

    Args:
        task: its name.
        verdict: of the primary contrast.
        csbp: its accuracy.
        flow_at: that of inner flow, by ratio.
    """
    nothing = findings({}, {})
    primary = row(label_at(task, DECISIVE, "csbp", "inner flow"), (csbp, flow_at[2.0]), verdict)
    secondary = [row(label_at(task, DECISIVE, "csbp", "bp"), (csbp, 90.0))]
    for ratio, accuracy in flow_at.items():
        label = label_at(task, DECISIVE._replace(ratio=ratio), "inner flow", "bp")
        secondary.append(row(label, (accuracy, 90.0)))
    return nothing._replace(primary=[primary], secondary=secondary)


STEADY = dict.fromkeys(RATIOS, 89.5)


@pytest.mark.parametrize(
    ("verdict", "csbp", "flow_at", "is_apart"),
    [
        ("hurts", 80.0, STEADY, True),
        ("cannot tell", 80.0, STEADY, False),
        ("hurts", 80.0, STEADY | {0.03: 79.0}, False),  # some strength alone does as much harm
        ("hurts", 88.9, STEADY, False),  # more, but not by the intervals
        ("helps", 95.0, STEADY, False),  # above BP: not by this argument
    ],
)
def test_strength_is_excluded_only_where_inner_flow_never_loses_as_much(
    verdict, csbp, flow_at, is_apart
):
    said = " ".join(is_it_strength(of_task("xor", verdict, csbp, flow_at)))
    apart = (
        "In xor, at h* = 1 and by annealing 20/20, inner flow loses at most 0.50 points against BP "
        "of that rate, at all 6 strengths"
    )
    assert (apart in said) == is_apart
    assert ("In xor the two cannot be told apart." in said) != is_apart
    assert said.startswith("At 2, 1 and 0.3 z_c a csbp step is 7.6, 3.9 and 1.7 times as long as")


def test_of_a_grid_with_holes_nothing_is_said():
    assert is_it_strength(of_task("xor", "hurts", 80.0, {2.0: 89.5})) == []
