"""The examples: scripts that run as they stand, in a folder of their own, and say what is true."""

import re
import subprocess
import sys
from typing import NamedTuple

import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

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
    regression = LogisticRegression(max_iter=1000).fit(x_train, y_train)
    expected = 100 * regression.score(x_test, y_test)  # 96.0 %
    assert digits[0].accuracy < digits[1].accuracy < digits[-1].accuracy
    assert digits[-1].accuracy > expected - 2


def test_digits_anneals_to_a_hundredth(digits):
    assert digits[-1].z == pytest.approx(1.5 / 100, abs=5e-4)
    assert digits[0].z == pytest.approx(1.5 * 0.01 ** (1 / 15), abs=5e-4)


def test_digits_starts_where_the_largest_share_is_about_a_tenth(digits):
    assert 5 < max(digits[0].gradient_share) < 15
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
    assert source.count("z=1.5") == 1
    script = tmp_path / "too_large.py"
    script.write_text(source.replace("z=1.5", "z=60"))
    *_, last = read_epochs(run(script, tmp_path))
    assert last.accuracy < 20
    assert min(last.gradient_share) > 99
    assert len(last.warnings) == 2
