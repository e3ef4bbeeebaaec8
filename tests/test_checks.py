"""The one line that bad input gets."""

import math

import numpy as np
import pytest
import torch

from csbp_core.checks import check, check_choice, check_flag

NUMBERS = [1, 1.0, 0.5, np.float32(0.25), np.float64(1.0), torch.tensor(1), torch.tensor(0.5)]
ARRAYS = [[0.1, 1.0], (0.1, 1.0), np.array([[0.5], [1.0]]), torch.tensor([0.5, 1.0])]


# Numbers


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("array", [False, True])
def test_accepts_a_number_inside(value, array):
    check("beta", value, "(0, 1]", array=array)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "1.5"),
        (0, "0"),
        (math.nan, "nan"),
        ("0.5", "'0.5'"),
        (True, "True"),
        (None, "None"),
        ([[0.5], [0.5, 1]], "[[0.5], [0.5, 1]]"),
        (torch.tensor(2.0, dtype=torch.bfloat16), "2.0"),
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_refuses_in_one_line_with_name_value_and_range(value, shown, array):
    with pytest.raises(ValueError, match="beta") as error:
        check("beta", value, "(0, 1]", array=array)
    assert str(error.value) == f"beta = {shown}: must be a number in (0, 1]"


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_ends_in_square_brackets_are_inside(value):
    check("p", value, "[0, 1]")


@pytest.mark.parametrize(
    ("value", "allowed"), [(0, "(0, 1]"), (1, "[0, 1)"), (math.inf, "[0, inf)")]
)
def test_ends_in_round_brackets_are_outside(value, allowed):
    with pytest.raises(ValueError, match="must be"):
        check("p", value, allowed)


# Arrays


@pytest.mark.parametrize("value", ARRAYS)
def test_accepts_many_numbers_where_they_are_fine(value):
    check("beta", value, "(0, 1]", array=True)


@pytest.mark.parametrize("value", [[0, 1], np.array([0, 1])])
def test_ends_of_an_array_are_as_written(value):
    check("p", value, "[0, 1]", array=True)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([], "beta is empty: must be a number in (0, 1]"),
        (np.array([0.5, 2.0]), "beta[1] = 2.0: must be a number in (0, 1]"),
        (torch.tensor([[0.5, -1.0]]), "beta[0, 1] = -1.0: must be a number in (0, 1]"),
        ([0.5, math.nan], "beta[1] = nan: must be a number in (0, 1]"),
        ([2.0, 3.0], "beta[0] = 2.0: must be a number in (0, 1]"),  # the first of two
        ([0, 1], "beta[0] = 0: must be a number in (0, 1]"),  # the end that is outside
        (torch.tensor([1.0, 2.0]).bfloat16(), "beta[1] = 2.0: must be a number in (0, 1]"),
    ],
)
def test_names_the_first_element_outside(value, line):
    with pytest.raises(ValueError, match="beta") as error:
        check("beta", value, "(0, 1]", array=True)
    assert str(error.value) == line


@pytest.mark.parametrize("value", [*ARRAYS, [1.0], np.array([0.5]), []])
def test_refuses_an_array_where_one_number_is_asked_for(value):
    with pytest.raises(ValueError, match="beta") as error:
        check("beta", value, "(0, 1]")
    assert str(error.value) == f"beta = {value!r}: must be a number in (0, 1]"


# Integers


def test_accepts_an_integer():
    check("epochs", 3, "[1, inf)", integer=True)


@pytest.mark.parametrize("value", [3.0, 0, True, [3]])
def test_refuses_what_is_no_integer_inside(value):
    with pytest.raises(ValueError, match="epochs") as error:
        check("epochs", value, "[1, inf)", integer=True)
    assert str(error.value) == f"epochs = {value!r}: must be an integer in [1, inf)"


def test_refuses_an_array_with_a_fraction_where_integers_are_asked_for():
    with pytest.raises(ValueError, match=r"must be an integer in \[1, inf\)"):
        check("epochs", [1, 2.5], "[1, inf)", integer=True, array=True)


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), 2**63])
def test_accepts_an_integer_of_any_library(value):
    check("epochs", value, "[1, inf)", integer=True)


@pytest.mark.parametrize("value", [10**30, -(10**30)])
@pytest.mark.parametrize("integer", [True, False])
def test_refuses_an_integer_that_numpy_cannot_hold(value, integer):
    kind = "an integer" if integer else "a number"
    with pytest.raises(ValueError, match=rf"^n = {value}: must be {kind} in \(-inf, inf\)$"):
        check("n", value, "(-inf, inf)", integer=integer)


# Ranges of the parameters that have one of their own, and messages of those that take one number


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("z", 0, "[0, inf)"),
        ("decay", 1, "[0, 1]"),
        ("lr", 0.1, "(0, inf)"),
        ("w", -1.0, "(-inf, inf)"),
    ],
)
def test_accepts_the_end_of_its_range(name, value, allowed):
    check(name, value, allowed)


def test_accepts_any_weights():
    check("w0", [-1.0, 2.0], "(-inf, inf)", array=True)


def test_accepts_zero_as_a_seed():
    check("seed", 0, "[0, inf)", integer=True)


@pytest.mark.parametrize(
    ("name", "value", "allowed", "line"),
    [
        ("lr", 0.0, "(0, inf)", r"^lr = 0.0: must be a number in \(0, inf\)$"),
        ("z", [1.0], "[0, inf)", r"^z = \[1.0\]: must be a number in \[0, inf\)$"),
    ],
)
def test_says_what_is_allowed(name, value, allowed, line):
    with pytest.raises(ValueError, match=line):
        check(name, value, allowed)


@pytest.mark.parametrize("value", [0.5, [0.5, 0.6]])
@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.Tensor.requires_grad_])
@pytest.mark.parametrize("array", [False, True])
def test_refuses_a_tensor_that_would_have_to_be_trained(value, kind, array):
    with pytest.raises(ValueError, match="beta") as error:
        check("beta", kind(torch.tensor(value)), "(0, 1]", array=array)
    line = "beta requires a gradient: must be a number in (0, 1], which is not trained"
    assert str(error.value) == line


def test_accepts_a_parameter_without_a_gradient():
    check("beta", torch.nn.Parameter(torch.tensor(0.5), requires_grad=False), "(0, 1]")


# Flags and choices


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(0)])
def test_accepts_a_flag(value):
    check_flag("literal", value)


@pytest.mark.parametrize(
    "value", ["false", "False", "", 0, 1, 1.0, None, [], torch.tensor(True), np.array([False])]
)
def test_refuses_what_is_no_flag(value):
    with pytest.raises(ValueError, match="literal") as error:
        check_flag("literal", value)
    assert str(error.value) == f"literal = {value!r}: must be True or False"


@pytest.mark.parametrize("choice", [1, "a", None])
def test_choices_may_be_of_several_types(choice):
    check_choice("mode", choice, iter([1, "a", None]))


def test_accepts_a_choice():
    check_choice("loss", "mse", ("mse", "cross_entropy"))


def test_names_the_choices():
    with pytest.raises(ValueError, match=r"^loss = 'mae': must be one of mse, cross_entropy$"):
        check_choice("loss", "mae", ("mse", "cross_entropy"))


def test_a_choice_of_another_type_is_none():
    with pytest.raises(ValueError, match=r"^flag = 1: must be one of True, False$"):
        check_choice("flag", 1, (True, False))
