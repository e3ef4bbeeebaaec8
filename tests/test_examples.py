"""The examples: scripts that run as they stand, in a folder of their own, and say what is true."""

import re
import subprocess
import sys
from typing import NamedTuple

import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from csbp_notebooks.files import ROOT

EXAMPLES = ROOT / "examples"


class Epoch(NamedTuple):
    """What digits.py prints of an epoch."""

    number: int
    accuracy: float  # %
    z: float
    mean_s: list[float]  # [layers]
    gradient_share: list[float]  # [layers], %
    warnings: list[str]


def run(script, folder):
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_epochs(printed):
    """The epochs that digits.py reports."""
    epochs = []
    for part in printed.split("epoch ")[1:]:
        head = re.match(r"(\d+): test accuracy ([\d.]+)%, z = ([\d.]+)\n", part)
        layers = re.findall(r"layer \w+: mean s ([\d.]+).* gradient share ([\d.]+)%", part)
        epochs.append(
            Epoch(
                number=int(head[1]),
                accuracy=float(head[2]),
                z=float(head[3]),
                mean_s=[float(s) for s, _ in layers],
                gradient_share=[float(share) for _, share in layers],
                warnings=re.findall(r"z = .* is too large: .*", part),
            )
        )
    return epochs


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def digits(digits_folder):
    """What digits.py prints."""
    return read_epochs(run(EXAMPLES / "digits.py", digits_folder))


def test_digits_reports_both_layers_four_times(digits):
    assert [epoch.number for epoch in digits] == [1, 5, 10, 15]
    assert all(len(epoch.mean_s) == 2 for epoch in digits)


def test_digits_learns_as_much_as_logistic_regression(digits):
    images, labels = load_digits(return_X_y=True)
    halves = train_test_split(images / 16, labels, test_size=0.5, random_state=0)
    x_train, x_test, y_train, y_test = halves
    with threadpool_limits(1):  # of this size, several threads take twenty times as long
        regression = LogisticRegression(max_iter=1000).fit(x_train, y_train)
    expected = 100 * regression.score(x_test, y_test)  # 96.0 %
    assert digits[0].accuracy < digits[1].accuracy < digits[-1].accuracy
    assert digits[-1].accuracy > expected - 2


def test_digits_anneals_to_a_hundredth(digits):
    assert digits[-1].z == pytest.approx(0.7 / 100, abs=5e-4)
    assert digits[0].z == pytest.approx(0.7 * 0.01 ** (1 / 15), abs=5e-4)


def test_digits_starts_where_the_largest_share_is_about_a_twentieth(digits):
    assert 4 < max(digits[0].gradient_share) < 6
    assert max(digits[-1].gradient_share) < 1


def test_digits_is_pulled_up_but_not_to_the_end(digits):
    for start, end in zip(digits[0].mean_s, digits[-1].mean_s, strict=True):
        assert start < end < 0.6


def test_digits_does_not_warn(digits):
    assert not any(epoch.warnings for epoch in digits)


def test_digits_writes_nothing(digits, digits_folder):
    assert not any(digits_folder.iterdir())


def test_a_z_that_is_too_large_ends_learning_and_is_warned_of(digits, tmp_path):
    source = (EXAMPLES / "digits.py").read_text()
    assert source.count("z=0.7") == 1
    script = tmp_path / "too_large.py"
    script.write_text(source.replace("z=0.7", "z=60"))
    *_, last = read_epochs(run(script, tmp_path))
    assert last.accuracy < 20
    assert min(last.gradient_share) > 99
    assert len(last.warnings) == 2


# Recipes for libraries that are in no environment of this project: README.md says how to get them.
RECIPES = {"lightning": "with_lightning.py", "accelerate": "with_accelerate.py"}
NUMBER = r"([-+.\de]+|nan)"


class Recipe(NamedTuple):
    """What a recipe prints."""

    accuracy: float  # %
    z: float
    steps: int
    differences: dict[str, list[float]]  # of weights and of losses, by what is compared


def run_recipe(script, folder):
    """What a recipe prints, run in a folder."""
    printed = run(script, folder)
    head = re.match(r"test accuracy ([\d.]+)%, z = ([\d.]+) after (\d+) steps\n", printed)
    lines = re.findall(
        rf"(.*): largest difference of weights {NUMBER}, of losses {NUMBER}", printed
    )
    return Recipe(
        accuracy=float(head[1]),
        z=float(head[2]),
        steps=int(head[3]),
        differences={title: [float(weights), float(loss)] for title, weights, loss in lines},
    )


def broken(library, old, new, folder):
    """What a recipe prints with one line of it, of its training with the library, replaced."""
    source = (EXAMPLES / RECIPES[library]).read_text()
    assert source.count(old) == 1
    script = folder / "broken.py"
    script.write_text(source.replace(old, new))
    return run_recipe(script, folder)


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request, tmp_path_factory):
    """What a recipe prints, with its library and the folder it ran in."""
    pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, run_recipe(EXAMPLES / RECIPES[request.param], folder), folder


def test_recipe_trains_as_a_plain_loop_does_also_when_resumed(recipe):
    library, printed, _ = recipe
    titles = [f"{library} and a plain loop", "resumed from a checkpoint and a plain loop"]
    assert [title.lower() for title in printed.differences] == titles
    for weights, losses in printed.differences.values():
        assert weights < 1e-5
        assert losses < 1e-5


def test_recipe_learns_and_anneals_once_per_optimizer_step(recipe):
    _, printed, _ = recipe
    assert printed.accuracy > 90
    assert printed.steps == 6 * 18  # epochs, and 36 batches in twos
    assert printed.z == pytest.approx(1.5 * 0.96**108, abs=5e-4)


def test_recipe_writes_nothing(recipe):
    _, _, folder = recipe
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("library", "old", "new"),
    [
        ("lightning", "loss + self.chaos()", "loss"),
        ("lightning", "self.chaos.step()", "pass"),
        ("accelerate", "loss = loss + chaos()", "pass"),
        ("accelerate", "if accelerator.sync_gradients:", "if True:"),
    ],
)
def test_recipe_differs_from_a_plain_loop_without_a_line(library, old, new, tmp_path):
    pytest.importorskip(library)
    printed = broken(library, old, new, tmp_path)
    for weights, losses in printed.differences.values():
        assert weights > 1e-2
        assert losses > 1e-2


@pytest.mark.parametrize(
    ("library", "old", "new"),
    [
        ("lightning", "self.chaos.load_state_dict(state_dict)", "pass"),
        ("accelerate", "accelerator.register_for_checkpointing(chaos)", "pass"),
    ],
)
def test_recipe_that_does_not_save_its_state_differs_when_resumed(library, old, new, tmp_path):
    pytest.importorskip(library)
    whole, resumed = broken(library, old, new, tmp_path).differences.values()
    assert max(whole) < 1e-5
    assert min(resumed) > 1e-2
