"""Sub-steps of the membrane form, against a loop by autograd; and the cells of experiment 3."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from study.experiments import experiment_3
from study.experiments.experiment_3 import Setting, main, run_quadratic, run_substeps
from study.protocol import Networks, digest
from study.tasks.tasks import TASKS, new_net
from study.training.substeps import SubSteps
from study.training.train import MOMENTUM, Training

pytestmark = pytest.mark.usefixtures("one_thread")

LR = 0.2
EPOCHS = 3  # of the annealing
I0, SCALE = 0.65, 10.0


# One step


def made(name, substeps, z, seeds=(20_000,), dtype=torch.float64):
    splits = [1 + i for i in range(len(seeds))]
    return SubSteps(TASKS[name], substeps, seeds, splits, LR, z, epochs=EPOCHS, dtype=dtype)


def some_state(run):
    """The start, with momenta that are not zero."""
    generator = torch.Generator().manual_seed(0)
    state = run.start()
    for i in range(len(state) // 2, len(state)):
        shape = state[i].shape
        state[i] = 0.1 * torch.randn(shape, generator=generator, dtype=state[i].dtype)
    return state


def chaos_by_hand(net, x):
    """The formula itself, of the potentials after the last reset."""
    total = 0
    for layer in net(x).layers:
        s = torch.sigmoid(layer.potential / SCALE)
        total = total - (I0 * s.log() + (1 - I0) * (1 - s).log()).mean()
    return total


def step_by_hand(run, state, n, z, substeps):
    """A step of one network alone, as the protocol has it."""
    net = new_net(run.task, run.seeds[0]).double()
    theta = list(net.parameters())
    count = len(theta)
    with torch.no_grad():
        for parameter, values in zip(theta, state[:count], strict=True):
            parameter.copy_(values[0])
    start = [parameter.detach().clone() for parameter in theta]
    x, y = run.batch(n)
    x = net.time_first(x[0])
    g = torch.autograd.grad(F.cross_entropy(net(x).logits, y[0]), theta)
    for _ in range(substeps):
        field = torch.autograd.grad(z * chaos_by_hand(net, x), theta[:-2])  # not by the readout's
        with torch.no_grad():
            for parameter, part in zip(theta[:-2], field, strict=True):
                parameter -= LR / substeps * part
    momenta = [
        MOMENTUM * m[0] + of_task + (first - last.detach()) / LR
        for m, of_task, first, last in zip(state[count:], g, start, theta, strict=True)
    ]
    return [first - LR * p for first, p in zip(start, momenta, strict=True)] + momenta


@pytest.mark.parametrize("substeps", [1, 4])
@pytest.mark.parametrize("name", TASKS)
def test_a_step_is_that_of_a_loop_over_one_network_by_autograd(name, substeps):
    z_start = 300.0
    run = made(name, substeps, z_start)
    state = some_state(run)
    n = run.steps + 1  # z has fallen
    z = z_start * 0.01 ** (n // run.steps / EPOCHS)
    expected = step_by_hand(run, state, n, z, substeps)
    for ours, by_hand in zip(run.step(state, n), expected, strict=True):
        torch.testing.assert_close(ours[0], by_hand, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["digits_3", "digits_conv", "randman_3"])
def test_one_sub_step_is_the_arm_membrane_but_for_rounding(name, dtype):
    seeds = (20_000, 20_001)
    ours = made(name, 1, 30.0, seeds, dtype)
    settings = {"epochs": EPOCHS, "splits": ours.splits, "dtype": dtype}
    arm = Training(TASKS[name], "membrane", seeds, LR, 30.0, **settings)
    state = some_state(ours)
    pairs = zip(ours.step(state, 1), arm.step(state, 1), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", TASKS)
def test_as_z_falls_all_numbers_of_sub_steps_agree_to_first_order(name):
    """Half of z, half the relative difference; where z is so small that no spike comes or goes."""
    differences = []
    for z in (2e-3, 1e-3):
        once, often = made(name, 1, z), made(name, 16, z)
        weights = once.start()[: len(once.names)]
        of_one, of_many = flat(once.added(weights, 0)), flat(often.added(weights, 0))
        differences.append(float((of_many - of_one).norm() / of_one.norm()))
    assert 0 < differences[0] < 1e-5
    assert differences[1] == pytest.approx(differences[0] / 2, rel=1e-3)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_at_a_large_z_they_do_not():
    once, often = (made("digits_3", n, 1000.0) for n in (1, 16))
    weights = once.start()[: len(once.names)]
    of_one, of_many = flat(once.added(weights, 0)), flat(often.added(weights, 0))
    assert (of_one - of_many).norm() > 0.1 * of_one.norm()


def test_the_readout_is_left_to_the_task():
    run = made("randman_3", 4, 100.0)
    added = run.added(run.start()[: len(run.names)], 0)
    assert [bool(part.any()) for part in added] == [True] * 6 + [False] * 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"substeps": 0}, r"substeps = 0: must be an integer in \[1, 16\]"),
        ({"substeps": 32}, r"substeps = 32: must be an integer in \[1, 16\]"),
        ({"z": 0.0}, r"z = 0.0: must be a number in \(0, inf\)"),
    ],
)
def test_sub_steps_or_a_z_out_of_range_are_refused(changed, said):
    settings = {"name": "xor", "substeps": 2, "z": 1.0} | changed
    with pytest.raises(ValueError, match=said):
        made(**settings)


# The cells

NETWORKS = Networks(seeds=[20_000, 20_001, 20_002], splits=[1, 1, 2])
SETTING = Setting(lr=0.4, z=20.0, epochs=12)


@pytest.fixture
def short_xor(monkeypatch):
    """Ten epochs, of a step each; z falls over thirty."""
    task = TASKS["xor"]._replace(epochs=10, every=1)
    monkeypatch.setitem(experiment_3.TASKS, "xor", task)
    return task


def test_the_quadratic_pull_is_its_arm_annealed_over_the_longest_and_stopped_early(short_xor):
    cell = run_quadratic("xor", SETTING, NETWORKS)
    settings = {"epochs": 30, "splits": NETWORKS.splits}
    arm = Training(short_xor, "quadratic_membrane", NETWORKS.seeds, 0.4, 20.0, **settings)
    state, curve = arm.train(12)
    assert cell["accuracy"] == arm.test(state)["accuracy"].tolist()
    assert cell["rate"] == pytest.approx(arm.test(state)["rate"].tolist(), abs=1e-6)
    assert cell["dead"] == arm.test(state)["dead"].tolist()
    assert cell["curve"] == pytest.approx(curve.mean(1).tolist(), abs=1e-6)
    assert cell["splits"] == NETWORKS.splits


@pytest.mark.parametrize("times", [1, 10])
def test_the_first_of_the_sub_steps_is_csbp_on_the_membrane_at_so_many_times_z(short_xor, times):
    cell = run_substeps("xor", times, SETTING, NETWORKS)
    settings = {"epochs": 30, "splits": NETWORKS.splits}
    arm = Training(short_xor, "membrane", NETWORKS.seeds, 0.4, times * 20.0, **settings)
    state, curve = arm.train(12)
    rate = arm.test(state)["rate"].tolist()
    assert cell["substeps"]["1"]["rate"] == pytest.approx(rate, abs=1e-6)
    assert cell["substeps"]["1"]["curve"] == pytest.approx(curve.mean(1).tolist(), abs=1e-6)
    assert cell["z"] == times * 20.0


def test_a_cell_repeats_and_every_training_of_it_is_that_of_its_sub_steps(short_xor):
    cell = run_substeps("xor", 100, SETTING, NETWORKS)
    assert cell == run_substeps("xor", 100, SETTING, NETWORKS)
    two = SubSteps(short_xor, 2, NETWORKS.seeds, NETWORKS.splits, 0.4, 2000.0, epochs=30)
    state, _ = two.train(12)
    rate = two.test(state)["rate"].tolist()
    assert cell["substeps"]["2"]["rate"] == pytest.approx(rate, abs=1e-6)


@pytest.fixture
def planted(monkeypatch):
    """Stand-in trainings: the accuracies of each number of sub-steps are known."""

    def stand_in(accuracies):
        def known(run, epochs):
            return [], {"accuracy": accuracies[getattr(run, "substeps", 1)].tolist()}

        monkeypatch.setattr(experiment_3, "train_and_test", known)

    return stand_in


SPLITS = [1, 2, 3, 4]
ERROR = float(torch.tensor([-0.04, 0.0, 0.0, 0.04]).std() / 2)  # of a mean over the splits
SEEN = float(stats.t.ppf(0.975, 3)) * ERROR  # a change from which on the interval leaves zero out


def in_a_row(*means):
    """Accuracies of a network on each split for 1, 2, 4, .. sub-steps, with these means.

    All changes from one to the next have the same spread.
    """
    spread = torch.tensor([-0.02, 0.0, 0.0, 0.02], dtype=torch.float64)
    return {2**i: mean + (-1) ** i * spread for i, mean in enumerate(means)}


@pytest.mark.parametrize(
    ("means", "integrated"),
    [
        ((0.5, 0.5 + 0.99 * SEEN), 1),
        ((0.5, 0.5 - 1.01 * SEEN, 0.5 - 1.5 * SEEN), 2),
        ((0.5, 0.7, 0.5, 0.7, 0.7), 8),
        ((0.5, 0.7, 0.5, 0.7, 0.5), None),
        # far from the first, but by steps that are small enough at the end
        ((0.2, 0.4, 0.6, 0.6 + 0.9 * SEEN), 4),
        # it creeps on, in steps that are all too large
        (tuple(0.3 + 1.01 * SEEN * i for i in range(5)), None),
    ],
)
def test_doubling_stops_where_the_interval_of_the_change_contains_zero(planted, means, integrated):
    planted(in_a_row(*means))
    networks = Networks(NETWORKS.seeds, SPLITS)
    cell = run_substeps("xor", 10, SETTING._replace(epochs=10), networks)
    assert cell["integrated"] == integrated
    assert list(cell["substeps"]) == [str(2**i) for i in range(len(means))]
    found = [np.mean(trained["accuracy"]) for trained in cell["substeps"].values()]
    assert found == pytest.approx(means, abs=1e-6)


def test_a_change_beyond_the_margin_is_one_however_wide_its_interval(planted):
    # up and down by one point, which no interval tells from zero
    planted(in_a_row(0.5, 0.51, 0.5, 0.51, 0.5))
    setting = SETTING._replace(epochs=10)
    networks = Networks(NETWORKS.seeds, SPLITS)
    ends = [run_substeps(name, 1, setting, networks)["integrated"] for name in TASKS]
    assert dict(zip(TASKS, ends, strict=True)) == {
        "digits_1": None,
        "digits_3": None,
        "digits_conv": None,
        "randman_1": None,
        "randman_3": 1,
        "xor": 1,
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": -1.0}, r"lr = -1.0: must be a number in \(0, inf\)"),
        ({"z": 0.0}, r"z = 0.0: must be a number in \(0, inf\)"),
        ({"epochs": 1201}, r"epochs = 1201: must be an integer in \[10, 1200\]"),
        ({"epochs": 9}, r"epochs = 9: must be an integer in \[10, 1200\]"),
    ],
)
def test_a_setting_out_of_range_is_refused(changed, said):
    setting = SETTING._replace(**changed)
    with pytest.raises(ValueError, match=said):
        run_quadratic("xor", setting, NETWORKS)
    with pytest.raises(ValueError, match=said):
        run_substeps("xor", 1, setting, NETWORKS)


def test_an_unknown_task_or_multiple_of_z_is_refused():
    with pytest.raises(ValueError, match="name = 'mnist': must be one of digits_1"):
        run_quadratic("mnist", SETTING, NETWORKS)
    with pytest.raises(ValueError, match="times = 5: must be one of 1, 10, 100"):
        run_substeps("xor", 5, SETTING, NETWORKS)


# The command

TUNED = {"task": "xor", "start_from_data": None, "schedule": "constant", **SETTING._asdict()}


@pytest.fixture
def tuned(tmp_path):
    """Writes what tuning would have written for an arm, but for what is changed."""

    def write(arm, **changed):
        path = tmp_path / "tuned.json"
        path.write_text(json.dumps({**TUNED, "arm": arm, **changed}))
        return path

    return write


@pytest.mark.parametrize(
    ("arguments", "arm", "expected"),
    [
        (["quadratic_membrane"], "quadratic_membrane", lambda: run_quadratic("xor", SETTING)),
        (["substeps", "--times", "10"], "membrane", lambda: run_substeps("xor", 10, SETTING)),
    ],
)
def test_the_command_writes_the_cell_with_the_protocol_it_was_made_by(
    arguments, arm, expected, short_xor, tuned, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment_3, "final_networks", lambda name: NETWORKS)
    out = tmp_path / "cell.json"
    main(["xor", *arguments, "--tuned", str(tuned(arm)), "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell.pop("provenance")["protocol"] == digest()
    assert cell == expected()


QUADRATIC = ("quadratic_membrane", "quadratic_membrane")  # the cell, and the arm that was tuned
SUBSTEPS = ("substeps", "membrane")


@pytest.mark.parametrize(
    ("cell", "arm", "options", "changed", "said"),
    [
        (*QUADRATIC, ["--times", "10"], {}, "--times = 10: must be given for substeps, and"),
        (*SUBSTEPS, [], {}, "--times = None: must be given for substeps, and for it alone"),
        (
            *QUADRATIC,
            [],
            {"task": "digits_1"},
            "study.experiments.tuning wrote for xor quadratic_membrane",
        ),
        ("quadratic_membrane", "membrane", [], {}, "wrote for xor quadratic_membrane"),
        ("substeps", "quadratic_membrane", ["--times", "1"], {}, "wrote for xor membrane"),
        (*QUADRATIC, [], {"schedule": "cosine"}, "must be tuned from torch's start, at a constant"),
        (*QUADRATIC, [], {"start_from_data": [0.5, 0.5]}, "must be tuned from torch's start, at"),
        (*QUADRATIC, [], {"lr": 0.0}, "lr = 0.0: must be a number in (0, inf)"),
    ],
)
def test_bad_input_is_one_line(cell, arm, options, changed, said, tuned, tmp_path, capsys):
    path, out = tuned(arm, **changed), tmp_path / "cell.json"
    with pytest.raises(SystemExit) as error:
        main(["xor", cell, *options, "--tuned", str(path), "--out", str(out)])
    assert error.value.code == 2
    assert not out.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("study.experiments.experiment_3: ")
    assert said in line
