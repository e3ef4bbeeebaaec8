"""What is recorded of a training is what it gave."""

import numpy as np
import pytest
import torch

from study.command import plain
from study.tasks.tasks import TASKS
from study.training.outcome import train_and_test
from study.training.surrogate_share import zero_surrogate
from study.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_training_is_stopped_and_tested_on_its_own_split():
    run = Training(TASKS["digits_1"], "csbp", [20_000, 20_001], 0.2, 3.0, splits=[9, 10])
    state, found = train_and_test(run, 2)
    expected, curve = run.train(2)
    for ours, theirs in zip(state, expected, strict=True):
        assert torch.equal(ours, theirs)
    tested = run.test(expected)
    for name in ("accuracy", "rate", "dead"):
        assert found[name] == pytest.approx(tested[name].tolist(), abs=1e-6)
    assert found["zero_surrogate"] == pytest.approx(zero_surrogate(run, state).tolist(), abs=1e-6)
    assert found["curve"] == pytest.approx(curve.mean(1).tolist(), abs=1e-6)
    assert "epochs_to_solution" not in found


def test_a_task_to_be_solved_has_each_networks_first_epoch_without_an_error(monkeypatch):
    run = Training(TASKS["xor"], "bp", [20_000, 20_001, 20_002], 0.1)  # validated every 10 epochs
    curve = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    monkeypatch.setattr(run, "train", lambda epochs: (run.start(), curve))
    _, found = train_and_test(run, 20)
    assert found["epochs_to_solution"] == [20, None, 10]


@pytest.mark.parametrize(
    ("number", "stored"),
    [(0.12345649, 0.123456), (0.1234567, 0.123457), (-np.inf, None), (np.nan, None), (3, 3.0)],
)
def test_numbers_are_stored_with_six_decimals_or_as_none(number, stored):
    assert plain(torch.tensor(number, dtype=torch.float64)) == stored
    assert plain(np.array([[number, 1.0]])) == [[stored, 1.0]]
