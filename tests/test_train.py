"""The training script: killed and resumed, in one process and two, on data as they lie on disk."""

import doctest
import gzip
import importlib
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager
from urllib.error import URLError

import numpy as np
import pytest
import torch
from helpers import CLASSES, forget_data_sets, stand_in_for_torchvision, write_recordings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from csbp_notebooks.files import ROOT

EXAMPLES = ROOT / "examples"
LIMIT = 100  # seconds

# 72 samples to train on, in four updates per epoch; a checkpoint behind every second.
TINY = "--samples 80 --side 16 --width 2 --time_steps 4 --epochs 2 --batch 16 --log_every 1"
TINY_SYNTHETIC = ["--data", "synthetic", *TINY.split(), "--checkpoint_every", "2"]
RANDOM = ["--dropout", "0.25", "--crop", "2"]  # what a resumed training has to repeat

# A training that is killed, as by kill -9, behind some update, before its checkpoint is written.
KILLED = """
import os, signal, sys
sys.path.insert(0, {examples!r})
import train
whole_update = train.update
updates = 0

def update(*arguments):
    global updates
    losses = whole_update(*arguments)
    updates += 1
    if updates == {kill_at} and int(os.environ.get("RANK", 0)) == {rank}:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses

train.update = update
train.main()
"""


@pytest.fixture(scope="module")
def scripts():
    """The modules train and train_data, imported as the script imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("train"), importlib.import_module("train_data")


@pytest.fixture
def train(scripts, one_thread):
    return scripts[0]


@pytest.fixture
def train_data(scripts):
    return scripts[1]


def run(script, arguments, processes=1):
    """Run a script in processes of its own; returns its exit status and what it wrote to stderr."""
    command = [sys.executable]
    if processes > 1:
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += ["-m", *torchrun]
    done = subprocess.run(
        [*command, script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return done.returncode, done.stderr


def run_killed(folder, arguments, kill_at, rank=0, processes=1):
    """Run a training that is killed behind an update."""
    script = folder / "killed.py"
    script.write_text(KILLED.format(examples=str(EXAMPLES), kill_at=kill_at, rank=rank))
    status, _ = run(script, arguments, processes)
    assert status != 0
    assert not (folder / "out" / "results.json").exists()


def checkpoint(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def curve(out, name):
    """The points (step, value) of a curve of TensorBoard's."""
    events = EventAccumulator(str(out))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(name)]


def values(out, name):
    """The values of a curve."""
    return [value for _, value in curve(out, name)]


def refusal(train, arguments, capsys):
    """The one line with which a command line is refused."""
    with pytest.raises(SystemExit) as stopped:
        train.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return in_one_line(capsys.readouterr().err)


def failure(train, arguments, capsys):
    """The one line with which a training ends before its time."""
    with pytest.raises(SystemExit) as stopped:
        train.main([str(argument) for argument in arguments])
    assert "Traceback" not in capsys.readouterr().err
    return in_one_line(stopped.value.code)  # Python prints it, and exits with 1


def in_one_line(said):
    """What is said, which is one line, without the name of the script."""
    line = said.removesuffix("\n")
    assert line.startswith("train.py: ")
    assert "\n" not in line
    return line.removeprefix("train.py: ")


def assert_same_end(resumed, straight):
    """Two trainings came to the same weights, momenta, strengths and accuracies, bit for bit."""
    ours, theirs = checkpoint(resumed), checkpoint(straight)
    assert ours["place"] == theirs["place"]
    assert ours["place"]["epoch"] == 2
    assert ours["chaos"] == theirs["chaos"]
    for name, weight in theirs["net"].items():
        assert torch.equal(ours["net"][name], weight), name
    for number, state in theirs["optimizer"]["state"].items():
        momentum = ours["optimizer"]["state"][number]["momentum_buffer"]
        assert torch.equal(momentum, state["momentum_buffer"])
    test_accuracies = [
        json.loads((out / "results.json").read_text())["test_accuracy"]
        for out in (resumed, straight)
    ]
    assert test_accuracies[0] == test_accuracies[1]


# Killed and resumed


@pytest.fixture(scope="module")
def straight(scripts, tmp_path_factory):
    """The folder of a training that ran through, in one process."""
    out = tmp_path_factory.mktemp("straight")
    status, errors = run(EXAMPLES / "train.py", [*TINY_SYNTHETIC, *RANDOM, "--out", out])
    assert status == 0, errors
    return out


@pytest.mark.parametrize("kill_at", [1, 3, 7])  # before a checkpoint, in the first and last epoch
def test_a_killed_and_resumed_training_ends_as_one_that_ran_through(
    kill_at, straight, train, tmp_path, capsys
):
    arguments = [*TINY_SYNTHETIC, *RANDOM, "--out", str(tmp_path / "out")]
    run_killed(tmp_path, arguments, kill_at)
    train.main([*arguments, "--resume"])
    assert_same_end(tmp_path / "out", straight)
    epochs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    is_part = [line.endswith(" s since it was resumed") for line in epochs]
    assert is_part == {1: [False, False], 3: [True, False], 7: [True]}[kill_at]


def test_processes_that_load_data_change_nothing(straight, train, tmp_path):
    train.main([*TINY_SYNTHETIC, *RANDOM, "--workers", "2", "--out", str(tmp_path)])
    assert_same_end(tmp_path, straight)


def test_what_is_random_matters(straight, train, tmp_path):
    train.main([*TINY_SYNTHETIC, *RANDOM, "--seed", "1", "--out", str(tmp_path)])
    weights, others = checkpoint(tmp_path)["net"], checkpoint(straight)["net"]
    assert not torch.equal(weights["fc1.weight"], others["fc1.weight"])


def test_two_killed_and_resumed_processes_end_as_two_that_ran_through(tmp_path):
    arguments = [*TINY_SYNTHETIC, *RANDOM, "--out"]
    status, errors = run(EXAMPLES / "train.py", [*arguments, tmp_path / "straight"], processes=2)
    assert status == 0, errors
    out = tmp_path / "out"
    run_killed(tmp_path, [*arguments, out], kill_at=7, rank=1, processes=2)
    assert checkpoint(out)["place"]["epoch"] < 2
    status, errors = run(EXAMPLES / "train.py", [*arguments, out, "--resume"], processes=2)
    assert status == 0, errors
    assert_same_end(out, tmp_path / "straight")


def test_curves_of_a_resumed_training_have_each_update_once(straight, tmp_path):
    out = tmp_path / "out"
    arguments = [*TINY_SYNTHETIC, *RANDOM, "--out", out]
    run_killed(tmp_path, arguments, kill_at=8)
    # TensorBoard reads files in the order of their seconds: a new process takes more than one.
    status, errors = run(EXAMPLES / "train.py", [*arguments, "--resume"])
    assert status == 0, errors
    resumed = curve(out, "train/cross_entropy")
    assert [step for step, _ in resumed] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert resumed == curve(straight, "train/cross_entropy")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("part", "when"), [("update", ""), ("read_data", " while the data were read")]
)
def test_a_training_that_is_stopped_at_its_start_is_one_line_and_leaves_no_file(
    train, capsys, monkeypatch, tmp_path, part, when
):
    monkeypatch.setattr(train, part, interrupt)
    line = failure(train, [*TINY_SYNTHETIC, "--out", tmp_path / "out"], capsys)
    assert line == f"stopped{when}; there is no checkpoint yet"
    assert list((tmp_path / "out").iterdir()) == []


# Two processes, one that accumulates


def test_two_processes_learn_as_one_that_accumulates_two_micro_batches(train, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    status, errors = run(EXAMPLES / "train.py", [*TINY_SYNTHETIC, "--out", two], processes=2)
    assert status == 0, errors
    train.main([*TINY_SYNTHETIC, "--accumulate", "2", "--out", str(one)])
    for name in ("train/cross_entropy", "train/chaotic_loss"):
        losses = values(one, name)
        assert len(losses) == 8
        assert values(two, name) == pytest.approx(losses, rel=1e-6)
    # Batch norm's averages are those of the first process, so no buffer is compared.
    for name, _ in train.CNN7(8, 4, 16, 2).named_parameters():
        weight, expected = (checkpoint(out)["net"][name] for out in (two, one))
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6 * expected.abs().max())


def test_without_accumulation_batch_norm_makes_a_difference(straight, train, tmp_path):
    train.main([*TINY_SYNTHETIC, *RANDOM, "--accumulate", "2", "--out", str(tmp_path)])
    losses = values(straight, "train/cross_entropy")
    assert values(tmp_path, "train/cross_entropy") != pytest.approx(losses, rel=1e-3)


def test_an_update_has_the_same_samples_however_many_processes_share_it(train):
    settings = train.parse([*TINY_SYNTHETIC, "--accumulate", "2"])
    device = torch.device("cpu")
    whole = train.micro_batches(72, settings, 1, train.World(0, 1, device))
    shares = [train.micro_batches(72, settings, 1, train.World(n, 4, device)) for n in range(4)]
    assert whole.shape == (4, 2, 8)
    assert len(np.unique(whole)) == 64
    together = np.concatenate(shares, axis=2).reshape(4, -1)
    assert np.array_equal(np.sort(together), np.sort(whole.reshape(4, -1)))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_about_the_same(train, tmp_path, precision):
    arguments = [*TINY_SYNTHETIC, "--lr", "0.001", "--out"]
    train.main([*arguments, str(tmp_path / "full")])
    train.main([*arguments, str(tmp_path / "half"), "--amp", precision])
    losses = [values(tmp_path / name, "train/cross_entropy") for name in ("full", "half")]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


# The authors' network


@pytest.mark.parametrize("time_steps", [4, 10])
def test_shapes_of_the_authors_network(train, time_steps):
    net = train.CNN7(10, time_steps, width=2)  # of their 64; sides as theirs
    shapes = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda _, x, y, name=name: shapes.update({name: y.shape}))
    assert net(torch.rand(3, time_steps, 2, 48, 48)).shape == (3, 10)
    sides = {"lif1": 48, "lif2": 24, "lif3": 24, "lif4": 12, "lif5": 6, "lif6": 6, "pool6": 3}
    channels = {"lif1": 2, "lif2": 4, "lif3": 4, "lif4": 4, "lif5": 8, "lif6": 8, "pool6": 8}
    for name, side in sides.items():
        assert shapes[name] == (time_steps, 3, channels[name], side, side)
    assert shapes["fc1"] == (time_steps, 3, 32)


@pytest.mark.parametrize("time_steps", [4, 10])
def test_the_authors_network_has_as_many_parameters_as_its_layers_add_up_to(train, time_steps):
    convolutions = [(2, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 256)]
    connected = [(2304, 1024), (1024, 10)]
    weights = sum(9 * before * behind for before, behind in convolutions)
    norms = sum(2 * behind + time_steps for _, behind in convolutions)
    rest = sum(before * behind + behind for before, behind in connected)
    with torch.device("meta"):
        net = train.CNN7(10, time_steps)
    assert sum(p.numel() for p in net.parameters()) == weights + norms + rest


def test_temporal_batch_norm_is_3d_batch_norm_with_a_factor_per_step(train):
    torch.manual_seed(0)
    ours = train.TemporalBatchNorm(3, 4)
    theirs = nn.BatchNorm3d(3)
    with torch.no_grad():
        for ours_and_theirs in zip(ours.norm.parameters(), theirs.parameters(), strict=True):
            values = torch.rand(3)
            for parameter in ours_and_theirs:
                parameter.copy_(values)
        ours.p.copy_(torch.tensor([1.0, 0.5, 2.0, -1.0]))
    x = torch.randn(4, 5, 3, 6, 6)  # [T, N, C, H, W]
    for is_training in (True, True, False):
        ours.train(is_training)
        theirs.train(is_training)
        by_library = theirs(x.permute(1, 2, 0, 3, 4)).permute(2, 0, 1, 3, 4)  # of [N, C, T, H, W]
        expected = by_library * ours.p.view(4, 1, 1, 1, 1)
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.norm.running_var, theirs.running_var)


def test_the_preset_is_the_authors(train, tmp_path):
    settings = train.parse(["--data", "cifar10_dvs", "--folder", str(tmp_path)])
    assert (settings.time_steps, settings.side, settings.width) == (10, 48, 64)
    assert (settings.lr, settings.momentum, settings.weight_decay) == (0.1, 0.9, 5e-4)
    assert (settings.batch, settings.epochs, settings.dropout) == (32, 200, 0.25)
    net = nn.Sequential(train.CNN7(10, 4, 16, 2))[0]
    chaos = train.new_chaos(settings, net, updates=281)
    assert chaos.beta == pytest.approx(0.98)
    assert (chaos.z, chaos.clamp, chaos.I0, chaos.scale) == (15, (-10, 9.9), 0.65, 10)
    assert [layer.key for layer in chaos.layers] == ["lif1", "fc1"]


def test_z_arrives_where_it_should_by_epochs_and_by_updates(train):
    for anneal, steps in (("epoch", 2), ("update", 8)):
        settings = train.parse([*TINY_SYNTHETIC, "--anneal", anneal])
        chaos = train.new_chaos(settings, train.CNN7(8, 4, 16, 2), updates=4)
        assert chaos.z_at(steps) == pytest.approx(settings.z_end)


# Data


@pytest.fixture
def fashion_folder(tmp_path):
    """A folder with four tiny IDX files: 6 and 2 images of each class."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, per_class in (("train", 6), ("t10k", 2)):
        labels = np.tile(np.arange(10), per_class).astype(np.uint8)
        pixels = random.integers(256, size=(len(labels), 28, 28), dtype=np.uint8)
        heads = {"images-idx3": (3, *pixels.shape), "labels-idx1": (1, len(labels))}
        for (name, (dimensions, *sizes)), numbers in zip(
            heads.items(), (pixels, labels), strict=True
        ):
            head = bytes([0, 0, 8, dimensions]) + np.array(sizes, dtype=">u4").tobytes()
            file = folder / f"{part}-{name}-ubyte.gz"
            file.write_bytes(gzip.compress(head + numbers.tobytes()))
    return folder


@pytest.fixture
def dvs_folder(tmp_path, monkeypatch):
    """A folder with ten recordings of each class of CIFAR10-DVS, and stand-ins for torchvision."""
    stand_in_for_torchvision(monkeypatch)
    write_recordings(tmp_path / "dvs", per_class=10, events=200)
    return tmp_path / "dvs"


DVS = ["--data", "cifar10_dvs", *TINY.split(), "--epochs", "1", "--folder"]


def test_fashion_mnist_trains_from_its_files(train, fashion_folder, tmp_path, capsys):
    arguments = ["--data", "fashion_mnist", "--folder", fashion_folder, "--out", tmp_path / "out"]
    arguments += ["--validation", "0.5", "--batch", "10", "--epochs", "1", "--width", "2"]
    train.main([str(argument) for argument in arguments])
    begun = capsys.readouterr().out.splitlines()[0]
    assert begun == f"reading fashion_mnist from {fashion_folder}"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert 0 <= results["test_accuracy"] <= 1
    assert len(results["validation_accuracy"]) == 1


def test_cifar10_dvs_trains_from_its_recordings(train, dvs_folder, tmp_path):
    train.main([*DVS, str(dvs_folder), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "results.json").exists()
    assert (dvs_folder / "frames_number_4_split_by_number").is_dir()


def test_frames_of_cifar10_dvs_count_its_events(train_data, dvs_folder):
    data = train_data.cifar10_dvs(dvs_folder, time_steps=4, side=128, validation=0.0)
    frames, label = data.train[0]
    with np.load(dvs_folder / "events_np" / "airplane" / "cifar10_airplane_0.npz") as recording:
        events = [recording[name].reshape(4, 50) for name in ("p", "y", "x")]
    expected = np.zeros((4, 2, 128, 128))
    for step in range(4):
        np.add.at(expected[step], tuple(part[step] for part in events), 1)
    assert label == 0
    assert np.array_equal(frames, expected)


def test_the_last_tenth_of_each_class_of_cifar10_dvs_tests(train_data, dvs_folder):
    data = train_data.cifar10_dvs(dvs_folder, time_steps=4, side=16, validation=0.3)
    assert [len(part) for part in data[:3]] == [60, 30, 10]
    frames = data.test.dataset.dataset  # beneath the rows of the test
    tested = [frames.samples[row][0] for row in data.test.dataset.indices]
    assert [path.rsplit("/", 1)[1] for path in tested] == [f"cifar10_{c}_9.npz" for c in CLASSES]
    x, _ = data.test[0]
    assert x.shape == (4, 2, 16, 16)
    assert x.sum().item() == pytest.approx(200 / 64)  # each new pixel is a mean over 8 x 8


def test_dvs128_gesture_has_its_own_train_and_test_recordings(train_data, dvs_folder):
    events = dvs_folder / "events_np"
    (dvs_folder / "gesture" / "events_np").mkdir(parents=True)
    for part, label in itertools.product(("train", "test"), range(11)):
        folder = dvs_folder / "gesture" / "events_np" / part / str(label)
        folder.mkdir(parents=True)
        for number in range(2 if part == "train" else 1):
            recording = events / "cat" / f"cifar10_cat_{number}.npz"
            (folder / f"user_{number}.npz").write_bytes(recording.read_bytes())
    data = train_data.dvs128_gesture(dvs_folder / "gesture", 4, side=16, validation=0.5)
    assert [len(part) for part in data[:3]] == [11, 11, 11]
    assert data.classes == 11


def test_the_camera_sends_what_each_pixel_by_itself_would(train_data):
    pictures = np.random.default_rng(0).normal(size=(6, 3, 4)).cumsum(0)
    found = train_data.events(pictures, threshold=0.3)
    for row, column in itertools.product(range(3), range(4)):
        level = pictures[0, row, column]
        for n, brightness in enumerate(pictures[1:, row, column]):
            on = off = 0
            while brightness - level >= 0.3:
                level += 0.3
                on += 1
            while level - brightness >= 0.3:
                level -= 0.3
                off += 1
            assert found[n, :, row, column].tolist() == [off, on]


def test_patterns_move_in_the_direction_of_their_class(train_data):
    patterns = train_data.MovingPatterns(samples=8, time_steps=4, side=16, first=0)
    to_the_right = patterns.pictures(0, np.random.default_rng(0))
    down = patterns.pictures(2, np.random.default_rng(0))
    # a pixel in two pictures
    np.testing.assert_allclose(to_the_right[2][:, 1:], to_the_right[0][:, :-1], atol=1e-12)
    np.testing.assert_allclose(down[2][1:], down[0][:-1], atol=1e-12)


def test_samples_are_shifted_and_mirrored_with_all_their_frames_alike(train_data):
    x = np.arange(1.0, 33.0).reshape(2, 4, 4)  # two frames
    samples = [(torch.tensor(x), 0)] * 200
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1)])
    shifted = [
        padded[:, top : top + 4, left : left + 4]
        for top, left in itertools.product(range(3), repeat=2)
    ]
    allowed = {part.tobytes() for part in shifted}
    allowed |= {part[:, :, ::-1].tobytes() for part in shifted}
    augmented = train_data.Augmented(samples, crop=1, flip=True, seed=0, epoch=0)
    found = [augmented[row][0].numpy().tobytes() for row in range(200)]
    assert set(found) == allowed
    assert found == [augmented[row][0].numpy().tobytes() for row in range(200)]
    other = train_data.Augmented(samples, crop=1, flip=True, seed=0, epoch=1)
    assert found != [other[row][0].numpy().tobytes() for row in range(200)]


def test_the_examples_in_docstrings_are_true(train_data):
    found = doctest.testmod(train_data)
    assert found.attempted > 0
    assert found.failed == 0


# Bad input


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--data cifar", "argument --data: invalid choice: 'cifar'"),
        ("--data synthetic --lr 0", "lr = 0.0: must be a number in (0, inf)"),
        ("--data synthetic --epochs 1.5", "argument --epochs: invalid int value: '1.5'"),
        ("--data synthetic --time_steps 0", "time_steps = 0: must be an integer in [1, inf)"),
        ("--data synthetic --side 20", "side = 20: must be a multiple of 16"),
        ("--data synthetic --z_end 20", "z_end = 20.0: must be at most z = 15.0"),
        ("--data synthetic --rate 1", "unrecognized arguments: --rate 1"),
        (
            "--data synthetic --learning_rate 0.1",
            "unrecognized arguments: --learning_rate 0.1 (did you mean lr?)",
        ),
        (
            "--data synthetic --batch-size=8",
            "unrecognized arguments: --batch-size=8 (did you mean batch?)",
        ),
        ("--data fashion_mnist --folder . --time_steps 10", "time_steps = 10: must be 4 for fash"),
        ("--data fashion_mnist --folder . --dropout 0.5", "dropout = 0.5: must be 0.0 for fash"),
        ("--data fashion_mnist", "folder = '': must be a folder with the data"),
        ("--data synthetic --samples 80 --batch 73", "batch = 73: must be at most 72 samples"),
    ],
)
def test_a_wrong_option_gets_one_line(train, capsys, tmp_path, arguments, line):
    out = tmp_path / "out"
    assert refusal(train, [*arguments.split(), "--out", out], capsys).startswith(line)


@pytest.mark.parametrize("data", ["fashion_mnist", "cifar10_dvs"])
def test_the_help_says_which_settings_are_fixed(train, capsys, tmp_path, data):
    with pytest.raises(SystemExit):
        train.parse(["--data", data, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    others = ["--data", data, "--folder", str(tmp_path)]
    for name, default, other in (
        ("time_steps", "4", "8"),
        ("side", "28", "32"),
        ("dropout", "0", "0.5"),
    ):
        is_fixed = data == "fashion_mnist"
        note = f"[{default}, and no other for fashion_mnist]"
        assert (note in words.partition(f"--{name} {name.upper()} ")[2]) == is_fixed
        given = [*others, f"--{name}", other]
        if is_fixed:
            with pytest.raises(ValueError, match=f"^{name} = {other}: must be "):
                train.parse(given)
        else:
            assert str(getattr(train.parse(given), name)) == other


def test_the_network_refuses_another_number_of_time_steps(train):
    with pytest.raises(ValueError, match=r"must be \[N, 4, 2, side, side\]"):
        train.CNN7(8, 4, 16, 2)(torch.rand(3, 5, 2, 16, 16))


def test_processes_that_do_not_divide_the_batch_get_one_line(train, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "64")
    line = refusal(train, [*TINY_SYNTHETIC, "--out", tmp_path], capsys)
    assert line == "batch = 16: must be a multiple of accumulate = 1 times 64 processes"


def test_processes_without_a_gpu_of_their_own_get_one_line(train, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    line = refusal(train, [*TINY_SYNTHETIC, "--out", tmp_path], capsys)
    assert line == "process 2 of this machine has no GPU: there are 2"


def test_truncated_fashion_mnist_gets_one_line(train, capsys, fashion_folder, tmp_path):
    file = fashion_folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:1000])
    arguments = ["--data", "fashion_mnist", "--folder", fashion_folder, "--out", tmp_path / "out"]
    assert "train-images-idx3-ubyte.gz: cannot be read" in refusal(train, arguments, capsys)


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_missing_file_of_fashion_mnist_gets_one_line(
    train, capsys, fashion_folder, tmp_path, name
):
    (fashion_folder / f"{name}.gz").unlink()
    arguments = ["--data", "fashion_mnist", "--folder", fashion_folder, "--out", tmp_path / "out"]
    line = refusal(train, arguments, capsys)
    assert line == f"folder = {fashion_folder}: has no file {name} and no {name}.gz"


def test_recordings_that_cannot_be_downloaded_get_one_line(train, capsys, monkeypatch, tmp_path):
    def no_network(**_):
        raise URLError("no network")

    stand_in_for_torchvision(monkeypatch)
    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "download_url", no_network)
    empty = tmp_path / "empty"
    empty.mkdir()
    line = refusal(train, [*DVS, empty, "--out", tmp_path / "out"], capsys)
    assert line.startswith(f"folder = {empty}: ")
    assert "no network" in line


def test_recordings_that_are_not_there_for_download_get_one_line(
    train, capsys, monkeypatch, tmp_path
):
    stand_in_for_torchvision(monkeypatch)
    arguments = ["--data", "dvs128_gesture", "--folder", tmp_path, "--out", tmp_path / "out"]
    line = refusal(train, arguments, capsys)
    assert "can not be downloaded by SpikingJelly" in line


def test_missing_torchvision_gets_one_line_that_says_what_to_install(
    train, capsys, tmp_path, monkeypatch
):
    forget_data_sets(monkeypatch)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    line = refusal(train, [*DVS, tmp_path, "--out", tmp_path / "out"], capsys)
    assert "pip install spikingjelly torchvision torchaudio" in line


def test_a_truncated_recording_gets_one_line(train, capsys, dvs_folder, tmp_path):
    file = dvs_folder / "events_np" / "cat" / "cifar10_cat_3.npz"
    file.write_bytes(file.read_bytes()[:500])
    arguments = [*DVS, dvs_folder, "--out", tmp_path / "out"]
    assert str(file) in refusal(train, arguments, capsys)


def test_frames_that_were_left_half_made_get_one_line(train, capsys, dvs_folder, tmp_path):
    arguments = [*DVS, str(dvs_folder), "--out"]
    train.main([*arguments, str(tmp_path / "out")])
    cache = dvs_folder / "frames_number_4_split_by_number"
    other = [*arguments, tmp_path / "other"]
    file = cache / "cat" / "cifar10_cat_3.npz"
    whole = file.read_bytes()

    file.write_bytes(whole[:500])
    assert "cifar10_cat_3.npz: is not a whole .npz file" in refusal(train, other, capsys)
    file.unlink()
    assert "has frames of 99 recordings, not of the 100" in refusal(train, other, capsys)
    file.write_bytes(whole)
    marker = cache.with_name(f"{cache.name}.building")
    marker.touch()
    assert "unfinished dataset preprocessing" in refusal(train, other, capsys)
    marker.unlink()
    train.main([*map(str, other)])


@pytest.fixture
def half_trained(train, straight, tmp_path):
    """The folder of a training with a checkpoint, and the command line that goes on from it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "checkpoint.pt").write_bytes((straight / "checkpoint.pt").read_bytes())
    return out, [*TINY_SYNTHETIC, *RANDOM, "--out", out]


@pytest.mark.parametrize(
    ("added", "line"),
    [
        ([], "is there already: --resume goes on from it, or choose another out"),
        (["--resume", "--lr", "0.2"], "lr = 0.2: the checkpoint in"),
        (["--resume", "--method", "bp"], "method = bp: the checkpoint in"),
    ],
)
def test_a_checkpoint_of_another_training_gets_one_line_and_stays(
    train, capsys, half_trained, added, line
):
    out, arguments = half_trained
    before = (out / "checkpoint.pt").read_bytes()
    assert line in refusal(train, [*arguments, *added], capsys)
    assert (out / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_number_of_processes_gets_one_line_and_stays(
    train, capsys, half_trained
):
    out, arguments = half_trained
    saved = checkpoint(out)
    torch.save({**saved, "processes": 2}, out / "checkpoint.pt")
    before = (out / "checkpoint.pt").read_bytes()
    line = refusal(train, [*arguments, "--resume"], capsys)
    assert line.startswith("processes = 1: the checkpoint in")
    assert (out / "checkpoint.pt").read_bytes() == before


def test_a_file_that_is_no_checkpoint_gets_one_line(train, capsys, half_trained):
    out, arguments = half_trained
    torch.save({"weights": torch.zeros(3)}, out / "checkpoint.pt")
    line = refusal(train, [*arguments, "--resume"], capsys)
    assert "is not a whole checkpoint" in line


@pytest.mark.parametrize("length", [0, 100, 30000])
def test_half_a_checkpoint_gets_one_line(train, capsys, half_trained, length):
    out, arguments = half_trained
    file = out / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:length])
    line = refusal(train, [*arguments, "--resume"], capsys)
    assert line.startswith(f"{file}: is not a whole checkpoint")


@contextmanager
def files_of_at_most(size):
    """Let no file grow larger, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_gets_one_line_and_leaves_the_last_checkpoint(train, capsys, tmp_path):
    out = tmp_path / "out"
    run_killed(tmp_path, [*TINY_SYNTHETIC, "--out", out], kill_at=3)
    before = (out / "checkpoint.pt").read_bytes()
    with files_of_at_most(len(before) // 2):
        line = failure(train, [*TINY_SYNTHETIC, "--out", out, "--resume"], capsys)
    assert line.startswith(f"{out / 'checkpoint.pt'} cannot be written")
    assert (out / "checkpoint.pt").read_bytes() == before
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("size", [10, 500])  # from the start, and in an epoch
def test_curves_on_a_full_disk_get_one_line(train, capsys, tmp_path, size):
    with files_of_at_most(size):
        line = failure(train, [*TINY_SYNTHETIC, "--out", tmp_path], capsys)
    assert line.startswith(f"curves in {tmp_path} cannot be written")


def test_an_error_that_is_raised_again_is_not_reported_by_its_thread(train, capsys, monkeypatch):
    def fail(error):
        raise error

    monkeypatch.setattr(threading, "excepthook", train.report_of_thread)
    for error in (OSError("of the disk"), ValueError("of another kind")):
        thread = threading.Thread(target=fail, args=(error,))
        thread.start()
        thread.join()
    reported = capsys.readouterr().err
    assert "of another kind" in reported
    assert "of the disk" not in reported


def test_frames_on_a_full_disk_get_one_line(train, capsys, dvs_folder, tmp_path):
    with files_of_at_most(100):
        line = refusal(train, [*DVS, dvs_folder, "--out", tmp_path / "out"], capsys)
    assert str(dvs_folder) in line
