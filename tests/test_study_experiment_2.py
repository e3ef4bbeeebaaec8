"""A cell of experiment 2: what it holds, and that it is the training that its settings say."""

import json

import numpy as np
import pytest

from study.experiments import experiment_2
from study.experiments.experiment_2 import ARMS, Setting, main, run_cell
from study.protocol import Networks, digest
from study.tasks.tasks import TASKS
from study.training import robustness
from study.training.surrogate_share import zero_surrogate
from study.training.train import Training

NETWORKS = Networks(seeds=[20_000, 20_001, 20_002], splits=[1, 1, 2])
EPOCHS = 20  # of xor, here; z falls over three times as many
CSBP = Setting("csbp", None, "constant", lr=0.4, z=3.0, epochs=30)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def short_xor(monkeypatch):
    """Twenty epochs, of a step each."""
    monkeypatch.setitem(experiment_2.TASKS, "xor", TASKS["xor"]._replace(epochs=EPOCHS, every=1))


def by_hand(number, setting, arm):
    """One of the networks trained alone, step by step to the tuned epoch: the run and its state."""
    run = Training(
        TASKS["xor"],
        arm,
        [NETWORKS.seeds[number]],
        setting.lr,
        setting.z,
        epochs=3 * EPOCHS,
        splits=[NETWORKS.splits[number]],
        start_from_data=setting.start_from_data,
        schedule=setting.schedule,
    )
    state = run.start()
    for n in range(setting.epochs * run.steps):
        state = run.step(state, n)
    return run, state


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(
    "setting",
    [
        CSBP,
        CSBP._replace(start_from_data=(0.5, 0.5)),
        CSBP._replace(schedule="cosine", epochs=3 * EPOCHS),
    ],
    ids=["now", "data", "cosine"],
)
def test_every_network_is_as_if_trained_alone_to_the_tuned_epoch(name, setting):
    cell = run_cell("xor", setting._replace(arm=name), NETWORKS)
    arm = "bp" if name == "bp_at_csbp_lr" else name
    for number in range(3):
        run, state = by_hand(number, setting, arm)
        tested = run.test(state)
        for key in ("accuracy", "dead", "rate"):
            assert cell[key][number] == pytest.approx(float(tested[key]), abs=1e-6)
        assert cell["zero_surrogate"][number] == pytest.approx(float(zero_surrogate(run, state)))


def test_a_cell_holds_its_setting_and_a_number_per_network():
    cell = run_cell("xor", CSBP, NETWORKS)
    assert {key: cell[key] for key in CSBP._fields} == CSBP._asdict()
    assert cell["splits"] == NETWORKS.splits
    assert len(cell["curve"]) == 30
    for key in ("accuracy", "dead", "rate", "zero_surrogate"):
        assert np.shape(cell[key]) == (3,)
        assert 0 <= min(cell[key]) <= max(cell[key]) <= 1


def test_an_arm_that_adds_nothing_has_no_strength():
    for name, arm in ARMS.items():
        cell = run_cell("xor", CSBP._replace(arm=name, epochs=1), NETWORKS)
        assert (cell["z"] is None) == (arm.trained_as == "bp")


def test_epochs_to_the_solution_are_those_of_each_networks_first_right_validation():
    cell = run_cell("xor", CSBP._replace(epochs=3 * EPOCHS), NETWORKS)
    run = Training(
        TASKS["xor"], "csbp", NETWORKS.seeds, 0.4, 3.0, epochs=3 * EPOCHS, splits=NETWORKS.splits
    )
    state = run.start()
    expected = [None, None, None]
    for epoch in range(3 * EPOCHS):
        state = run.step(state, epoch)
        for number, is_right in enumerate(run.validate(state)["accuracy"].tolist()):
            if is_right and expected[number] is None:
                expected[number] = epoch + 1
    assert cell["epochs_to_solution"] == expected
    assert any(expected)


def test_robustness_is_that_of_the_trained_networks(monkeypatch):
    asked = []

    def tested(run, state, name):
        asked.append((run.test(state)["accuracy"].tolist(), name))
        return {"weights": [[0.25, 0.5, 0.75]]}

    monkeypatch.setattr(robustness, "tested", tested)
    cell = run_cell("xor", CSBP, NETWORKS)
    assert cell["robustness"] == {"weights": [[0.25, 0.5, 0.75]]}
    assert asked == [(cell["accuracy"], "xor")]


def test_where_answers_count_there_are_no_epochs_to_a_solution(monkeypatch):
    monkeypatch.setattr(robustness, "tested", lambda run, state, name: {})
    setting = Setting("csbp", (0.25, 0.5), "constant", lr=0.2, z=3.0, epochs=1)
    assert "epochs_to_solution" not in run_cell("digits_1", setting, NETWORKS)


@pytest.mark.parametrize("name", ["digits_3", "digits_conv", "randman_3"])
def test_the_share_without_a_surrogate_gradient_is_that_of_an_independent_loop(name):
    """Over all hidden layers, neuron by neuron from the currents, in NumPy."""
    task = TASKS[name]
    run = Training(task, "bp", [20_000, 20_001], lr=0.1, splits=[1, 2])
    state = run.start()
    expected = []
    for number, split in enumerate(run.splits):
        weights = [tensor[number : number + 1] for tensor in state[: len(run.names)]]
        layers = run.forward(weights, task.data(split).x_test.unsqueeze(0)).layers
        never = [without_gradient(layer.current[0].numpy(), run.net.static) for layer in layers]
        expected.append(np.concatenate(never).mean())
    assert zero_surrogate(run, state).tolist() == pytest.approx(expected, abs=1e-6)
    assert min(expected) > 0


def without_gradient(current, static):
    """Which pairs of a sample and a neuron are never within one of the threshold, `[pairs]`."""
    currents = [current[0]] * static if len(current) == 1 else current
    potential = np.zeros_like(current[0])
    is_near = np.zeros(potential.shape, bool)
    for input_current in currents:
        potential = potential / 2 + input_current
        is_near |= np.abs(potential - 1) < 1
        potential = np.where(potential > 1, 0, potential)
    return ~is_near.ravel()


# The command


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What the command writes for an arm of xor, from a choice tuned for an arm."""
    monkeypatch.setattr(experiment_2, "final_networks", lambda name: NETWORKS)
    out = tmp_path / "cell.json"

    def run_command(trained, **choice):
        tuned = tmp_path / "tuned.json"
        tuned.write_text(json.dumps({"task": "xor", **CSBP._asdict(), **choice}))
        main(["xor", trained, "--tuned", str(tuned), "--out", str(out)])
        return json.loads(out.read_text())

    return run_command


def test_the_command_writes_the_cell_of_what_was_tuned(written):
    setting = CSBP._replace(start_from_data=(0.0, 1.0), schedule="cosine", epochs=3 * EPOCHS)
    cell = written("csbp", **setting._asdict())
    assert cell["provenance"]["protocol"] == digest()
    expected = json.loads(json.dumps(run_cell("xor", setting, NETWORKS)))
    assert {key: cell[key] for key in expected} == expected


def test_bp_at_the_rate_of_csbp_is_bp_with_its_rate_and_epochs(written):
    cell = written("bp_at_csbp_lr", lr=0.3, epochs=25)
    bp = run_cell("xor", CSBP._replace(arm="bp", lr=0.3, epochs=25), NETWORKS)
    assert (cell["lr"], cell["epochs"]) == (0.3, 25)
    for key in ("accuracy", "rate", "curve"):
        assert cell[key] == bp[key]


@pytest.mark.parametrize(
    ("arm", "choice", "must"),
    [
        ("csbp", {"task": "digits_1"}, "csbp"),
        ("csbp", {"arm": "bp"}, "csbp"),
        ("bp", {"arm": "csbp"}, "bp"),
        ("bp_at_csbp_lr", {"arm": "bp"}, "csbp"),
        ("csbp_resummed", {"arm": "membrane"}, "csbp"),
    ],
)
def test_what_was_tuned_for_another_task_or_arm_is_refused_in_one_line(
    written, tmp_path, capsys, arm, choice, must
):
    with pytest.raises(SystemExit) as error:
        written(arm, **choice)
    assert error.value.code == 2
    assert not (tmp_path / "cell.json").exists()
    said = (
        f"--tuned = {tmp_path / 'tuned.json'}: must be what study.experiments.tuning wrote for xor"
    )
    assert capsys.readouterr().err == f"study.experiments.experiment_2: {said} {must}\n"


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("mnist", {}, "name = 'mnist'"),
        ("xor", {"arm": "no arm"}, "arm = 'no arm'"),
        ("xor", {"epochs": 3 * EPOCHS + 1}, r"epochs = 61: must be an integer in \[1, 60\]"),
        ("xor", {"lr": 0.0}, r"lr = 0.0: must be .*\(0, inf\)"),
        ("xor", {"z": -1.0}, r"z = -1.0: must be .*\(0, inf\)"),
        ("xor", {"schedule": "linear"}, "schedule = 'linear'"),
    ],
)
def test_bad_input_is_refused(name, changed, said):
    with pytest.raises(ValueError, match=said):
        run_cell(name, CSBP._replace(**changed), NETWORKS)
