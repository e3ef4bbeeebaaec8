"""A notebook's parameters, read from text; what is refused stands in test_run.py, line by line."""

import pytest

from csbp_notebooks.parameters import did_you_mean, parse_parameters

NAME = "02_single_neuron_csbp"


def test_an_int_is_a_fine_float_and_signs_and_exponents_are_read():
    given = [("z", "12"), ("w0", "-1e-3"), ("epochs", "7"), ("literal", "False")]
    read = parse_parameters(NAME, given)
    assert read == {"z": 12.0, "w0": -0.001, "epochs": 7, "literal": False}
    assert [type(value) for value in read.values()] == [float, float, int, bool]


def test_a_bad_value_after_a_good_one_is_refused():
    with pytest.raises(ValueError, match=r"beta = 1\.5: must be a number in \(0, 1\]"):
        parse_parameters(NAME, [("z", "12"), ("beta", "1.5")])


def test_only_a_near_word_is_suggested():
    assert did_you_mean("betta", ["alpha", "beta"]) == " (did you mean beta?)"
    assert did_you_mean("momentum", ["alpha", "beta"]) == ""
