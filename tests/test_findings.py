"""What a notebook may show: epochs and numbers that exist, runs that are finite."""

import math
import re

import numpy as np
import pytest
import torch

from csbp_core import train_single_neuron
from csbp_notebooks.findings import first, refuse_divergence, refuse_not_finite, shown, since


@pytest.mark.parametrize(
    ("holds", "place"),
    [([True, False], 0), ([False, True, True], 1), ([False, False], None), ([], None)],
)
def test_first_is_where_a_condition_first_holds_or_none(holds, place):
    assert first(np.array(holds)) == place


@pytest.mark.parametrize(
    ("holds", "place"),
    [
        ([True, True], 0),
        ([True, False, True, True], 2),
        ([False, True], 1),
        ([True, False], None),
        ([False], None),
        ([], None),
    ],
)
def test_since_is_from_where_a_condition_holds_to_the_end_or_none(holds, place):
    assert since(np.array(holds)) == place


def test_places_are_plain_integers_as_json_wants_them():
    assert type(first(np.array([True]))) is int
    assert type(since(np.array([False, True]))) is int


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_no_number_is_shown_as_a_word(value):
    assert shown(value) == "never"
    assert shown(value, ".2f", "not in this run") == "not in this run"


def test_a_number_is_shown_as_it_is_asked_for():
    assert shown(0) == "0"
    assert shown(1.5) == "1.5"
    assert shown(np.float64(2 / 3), ".2f") == "0.67"


def test_the_first_term_that_is_not_finite_is_named():
    terms = {"h": [0.0, 1.0], "the loss": torch.tensor([1.0, math.nan]), "the gradient": math.inf}
    with pytest.raises(ValueError, match=r"^epoch 3: the loss is not finite$"):
        refuse_not_finite("epoch 3", terms)


def test_finite_terms_pass():
    refuse_not_finite("epoch 3", {"h": np.zeros((2, 2)), "the loss": 1e300})


TAKEN = ", where updates with lr = 1 and z = 1000 took it"
LITERAL = "literal = False in place of True"
DIVERGING = [
    # the published form is log(0) from a current of 16.64 on, whoever took it there
    ("csbp", {"w0": 20.0}, 0, "", [LITERAL, "w0 = 0.5 in place of 20"]),
    ("csbp", {"b0": 20.0}, 0, "", [LITERAL, "b0 = 0.5 in place of 20"]),
    ("csbp", {"z": 1000.0}, 1, TAKEN, [LITERAL]),
    # the start mends the first epoch, though the second overflows then
    ("csbp", {"w0": 20.0, "z": 1000.0}, 0, "", [LITERAL, "w0 = 0.5 in place of 20"]),
    # both forms are infinite: z (sigmoid(1) - 0.65) lr is past the largest float32
    (
        "csbp",
        {"z": 1e30, "lr": 1e15, "literal": False},
        0,
        "",
        ["z = 0 in place of 1e+30", "lr = 0.001 in place of 1e+15"],
    ),
    # an update takes the weight so far that the current is past it
    (
        "bp",
        {"w0": 0.05, "b0": 0.45, "x": 10.0, "lr": 1e36},
        1,
        ", where updates with lr = 1e+36 took it",
        ["x = 1 in place of 10"],
    ),
    # 1 / gamma**2 is past the largest float32, and infinity times zero is no number
    ("bp", {"gamma": 1e-30}, 0, "", ["gamma = 1 in place of 1e-30"]),
    # the squared error is past it
    ("bp", {"target": 1e30}, 0, "", ["target = 0 in place of 1e+30"]),
    # and so is the current
    (
        "bp",
        {"w0": 1e30, "x": 1e30},
        0,
        "",
        ["x = 1 in place of 1e+30", "w0 = 0.5 in place of 1e+30"],
    ),
]


@pytest.mark.parametrize(("method", "changed", "epoch", "taken", "mends"), DIVERGING)
def test_a_diverged_run_names_the_epoch_and_what_alone_would_mend_it(
    method, changed, epoch, taken, mends
):
    settings = {"epochs": 4} | changed
    run = train_single_neuron(method, **settings)
    at = f"w = {run.w[epoch]:g}, b = {run.b[epoch]:g}{taken}"
    line = f"epoch {epoch} overflows at {at}, but not with {', nor with '.join(mends)}"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        refuse_divergence(run, method, **settings)


def test_what_no_single_setting_mends_is_said_to_be_so():
    settings = {"epochs": 2, "gamma": 1e-30, "target": 1e30}
    run = train_single_neuron("bp", **settings)
    with pytest.raises(ValueError, match=r"at w = 0\.5, b = 0\.5, which no single setting"):
        refuse_divergence(run, "bp", **settings)


def test_the_named_setting_is_the_cure():
    cured = {"epochs": 4, "z": 1000.0, "literal": False}
    refuse_divergence(train_single_neuron("csbp", **cured), "csbp", **cured)


def test_of_a_batch_the_neuron_that_overflows_is_described():
    settings = {"epochs": 2, "w0": [0.5, 20.0, 0.4]}
    run = train_single_neuron("csbp", **settings)
    with pytest.raises(ValueError, match=r"at w = 20, b = 0\.5, but not with literal"):
        refuse_divergence(run, "csbp", **settings)


@pytest.mark.parametrize(
    ("name", "value", "rounded"),
    [
        ("w0", 1e308, "inf"),
        ("b0", -1e308, "-inf"),
        ("lr", 1e-300, "0.0"),
        ("z", 1e300, "inf"),
        ("x", 1e300, "inf"),
        ("target", -1e300, "-inf"),
        ("gamma", 1e-300, "0.0"),
    ],
)
def test_a_setting_that_float32_cannot_hold_is_refused_before_the_run(name, value, rounded):
    line = f"{name} as torch.float32 = {rounded}: must be a number in"
    with pytest.raises(ValueError, match=rf"^{line} .*, not {name} = {re.escape(repr(value))}$"):
        train_single_neuron("csbp", epochs=1, **{name: value})
    train_single_neuron("csbp", epochs=1, dtype=torch.float64, **{name: value})
