"""A notebook's parameters, read from text; what is refused stands in test_run.py, line by line."""

from pathlib import Path

import nbformat
import pytest

from csbp_notebooks import parameters
from csbp_notebooks.files import NOTEBOOKS
from csbp_notebooks.parameters import (
    did_you_mean,
    for_papermill,
    known_parameters,
    parse_parameters,
)

NAME = "02_single_neuron_csbp"


def test_an_int_is_a_fine_float_and_signs_and_exponents_are_read():
    given = [("z", "12"), ("w0", "-1e-3"), ("epochs", "7"), ("literal", "False")]
    read = parse_parameters(NAME, given)
    assert read == {"z": 12.0, "w0": -0.001, "epochs": 7, "literal": False}
    assert [type(value) for value in read.values()] == [float, float, int, bool]


def test_true_is_read_as_true():
    assert parse_parameters(NAME, [("literal", "True")]) == {"literal": True}


def test_a_float_is_no_int():
    with pytest.raises(ValueError, match=r"^epochs = '1e3': must be of type int$"):
        parse_parameters(NAME, [("epochs", "1e3")])


def test_a_bad_value_after_a_good_one_is_refused():
    with pytest.raises(ValueError, match=r"beta = 1\.5: must be a number in \(0, 1\]"):
        parse_parameters(NAME, [("z", "12"), ("beta", "1.5")])


def test_only_a_near_word_is_suggested():
    assert did_you_mean("betta", ["alpha", "beta"]) == " (did you mean beta?)"
    assert did_you_mean("momentum", ["alpha", "beta"]) == ""


def test_what_a_notebook_says_of_a_parameter():
    known = known_parameters(NOTEBOOKS / f"{NAME}.ipynb")
    comment = "in [0, inf); strength of the chaotic loss at epoch 0"
    assert known["z"] == ("float", "10.0", comment)
    assert known["literal"].kind == "bool"
    assert known["output_dir"].default == f'"runs/{NAME}"'


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Writes a notebook `own` with parameters, in a folder whose name papermill would format."""
    folder = tmp_path / "{a} b"
    folder.mkdir()
    monkeypatch.setattr(parameters, "NOTEBOOKS", folder)

    def write(*lines):
        cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        made = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
        nbformat.write(made, folder / "own.ipynb")

    return write


def test_braces_in_a_path_are_doubled_for_papermill():
    assert for_papermill(Path("/a{b}c")) == "/a{{b}}c"


def test_a_number_without_a_range_may_be_any(notebook):
    notebook("n: int = 3", "x: float = 1.0  # whatever")
    assert parse_parameters("own", [("n", "-7"), ("x", "-1e300")]) == {"n": -7, "x": -1e300}
    with pytest.raises(ValueError, match=r"^x = inf: must be a number in \(-inf, inf\)$"):
        parse_parameters("own", [("x", "inf")])


def test_a_choice_may_be_any_of_its_words(notebook):
    notebook('reduction: str = "sum"  # one of sum, mean; over what')
    assert parse_parameters("own", [("reduction", "mean")]) == {"reduction": "mean"}
    with pytest.raises(ValueError, match=r"^reduction = 'over': must be one of sum, mean$"):
        parse_parameters("own", [("reduction", "over")])


def test_text_without_choices_may_be_any_but_empty(notebook):
    notebook('title: str = "a"  # of the figure')
    assert parse_parameters("own", [("title", "b c")]) == {"title": "b c"}
    with pytest.raises(ValueError, match=r"^title is empty: must be text$"):
        parse_parameters("own", [("title", "")])


def test_what_has_no_type_cannot_be_given(notebook):
    notebook("z = 1.0  # in (0, 1)")
    with pytest.raises(ValueError, match=r"^z = '0\.5': must be of type None$"):
        parse_parameters("own", [("z", "0.5")])


LOWER = "z_min: float = 0.5  # in (0, z_max); smallest z"
UPPER = "z_max: float = 8.0  # in (0, inf); largest"
LAST = "last: int = 4  # in [2, epochs]; epoch that is shown"
EPOCHS = "epochs: int = 1000  # in [1, 1e6]; number of updates"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"z_min": "9"}, r"z_min = 9.0: must be a number in (0, z_max = 8.0)"),
        ({"z_min": "8"}, r"z_min = 8.0: must be a number in (0, z_max = 8.0)"),
        ({"z_min": "9", "z_max": "8.5"}, r"z_min = 9.0: must be a number in (0, z_max = 8.5)"),
        ({"z_max": "0.25"}, r"z_min = 0.5: must be a number in (0, z_max = 0.25)"),
        ({"z_max": "-1"}, r"z_max = -1.0: must be a number in (0, inf)"),
        ({"z_min": "-1"}, r"z_min = -1.0: must be a number in (0, z_max = 8.0)"),
        ({"z_min": "nan"}, r"z_min = nan: must be a number in (-inf, inf)"),
        ({"epochs": "3"}, r"last = 4: must be an integer in [2, epochs = 3]"),
        ({"last": "1"}, r"last = 1: must be an integer in [2, epochs = 1000]"),
        ({"epochs": "1000001"}, r"epochs = 1000001: must be an integer in [1, 1e6]"),
    ],
)
def test_a_range_may_name_another_parameter(notebook, given, line):
    notebook(LOWER, UPPER, LAST, EPOCHS)
    with pytest.raises(ValueError, match="must be") as refusal:
        parse_parameters("own", given.items())
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    "given", [{}, {"z_min": "9", "z_max": "10"}, {"z_max": "10", "z_min": "9"}, {"epochs": "4"}]
)
def test_a_range_is_held_against_what_the_run_will_have(notebook, given):
    notebook(LOWER, UPPER, LAST, EPOCHS)
    read = parse_parameters("own", given.items())
    assert read == {key: float(text) for key, text in given.items()}


def test_a_range_that_names_no_parameter_is_a_mistake_of_the_notebook(notebook):
    notebook("z_min: float = 0.5  # in (0, z_mx); smallest z", UPPER)
    line = r"^z_mx stands in a parameter's range, but is no parameter$"
    with pytest.raises(ValueError, match=line):
        parse_parameters("own", [])
