import subprocess
import sys

import numpy as np
import pytest
import torch

from csbp_core.checks import check, check_all, check_choice


@pytest.mark.parametrize("value", [1, 1.0, 0.5, np.float32(0.25), [0.1, 1.0], torch.tensor([0.5, 1.0]), torch.tensor(1)])
def test_accepts_what_lies_inside(value):
    check("beta", value, "(0, 1]")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (1.5, "beta = 1.5: must be a number in (0, 1]"),
        (0, "beta = 0: must be a number in (0, 1]"),
        (float("nan"), "beta = nan: must be a number in (0, 1]"),
        ("0.5", "beta = '0.5': must be a number in (0, 1]"),
        (True, "beta = True: must be a number in (0, 1]"),
        (None, "beta = None: must be a number in (0, 1]"),
        ([], "beta is empty: must be a number in (0, 1]"),
        ([[0.5], [0.5, 1]], "beta = [[0.5], [0.5, 1]]: must be a number in (0, 1]"),
        (np.array([0.5, 2.0]), "beta[1] = 2.0: must be a number in (0, 1]"),
        (torch.tensor([[0.5, -1.0]]), "beta[0, 1] = -1.0: must be a number in (0, 1]"),
    ],
)
def test_refuses_in_one_line_with_name_value_and_range(value, line):
    with pytest.raises(ValueError, match="beta") as error:
        check("beta", value, "(0, 1]")
    assert str(error.value) == line


def test_interval_ends_are_as_written():
    check("p", [0, 1], "[0, 1]")
    for bad, allowed in ((0, "(0, 1]"), (1, "[0, 1)"), (float("inf"), "[0, inf)")):
        with pytest.raises(ValueError, match="must be"):
            check("p", bad, allowed)


def test_integers():
    check("epochs", 3, "[1, inf)", integer=True)
    for bad in (3.0, 0, True):
        with pytest.raises(ValueError, match=r"must be an integer in \[1, inf\)"):
            check("epochs", bad, "[1, inf)", integer=True)


def test_choice():
    check_choice("loss", "mse", ("mse", "cross_entropy"))
    with pytest.raises(ValueError, match="loss = 'mae': must be one of mse, cross_entropy"):
        check_choice("loss", "mae", ("mse", "cross_entropy"))


def test_ranges_by_name():
    check_all(["w0"], w0=[-1.0, 2.0], z=0, decay=1, seed=0, lr=0.1)
    for bad, line in (
        ({"lr": 0.0}, r"lr = 0.0: must be a number in \(0, inf\)"),
        ({"z": [1.0]}, r"z = \[1.0\]: must be a number in \[0, inf\)"),
        ({"epochs": 0}, r"epochs = 0: must be an integer in \[1, inf\)"),
    ):
        with pytest.raises(ValueError, match=line):
            check_all(**bad)


def test_csbp_core_knows_no_notebook():
    """Whoever adds the chaotic loss to a training needs neither Jupyter nor matplotlib."""
    heavy = {"matplotlib", "papermill", "nbformat", "IPython", "click", "csbp_notebooks", "snakemake", "sklearn"}
    code = "import sys, csbp_core; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not heavy & set(loaded)
