"""How chaotic training is, in words, tables and a picture, for exponents that were made up."""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from csbp_notebooks.signs import MINUS
from study.chaos import answers
from study.chaos.figure import exponents_figure
from study.chaos.measured import (
    FLIPPING,
    HELD,
    Kinds,
    growth_in_last_fifth,
    kinds,
    read_layers,
    read_trainings,
)
from study.chaos.of_a_layer import RATIOS
from study.chaos.of_training import D0
from study.tasks.tasks import TASKS

EPOCHS = {"digits_1": 25, "xor": 500}  # a fifth is 100 steps in both
FIFTH = 100
GROWS, STAYS, SHRINKS = 0.02, 0.0, -0.02  # per step: by e^2, by 1, by e^-2 in a fifth

LASTING = [GROWS] * 5
TRANSIENT = [GROWS, GROWS, STAYS, SHRINKS, STAYS]
NONE = [SHRINKS] * 5


def cell(task, arm, held, flipping, lr=0.1, **shares):
    """A cell whose networks have these exponents in the fifths.

    Args:
        held: of each network, `[networks][fifths]`; so at all distances but the last.
        flipping: likewise, at the last.
        shares: `downhill`, `overshoot`, `flipped` everywhere, and `steepness`; 0 unless given.
    """
    networks = len(held)
    parts = []
    for fifth in range(5):
        near = [each[fifth] for each in held]
        part = {"exponent": [near] * (len(D0) - 1) + [[each[fifth] for each in flipping]]}
        for name in ("downhill", "overshoot", "flipped"):
            part[name] = [[shares.get(name, 0.0)] * networks] * len(D0)
        part["steepness"] = [shares.get("steepness", 0.0)] * networks
        parts.append(part)
    common = {"task": task, "arm": arm, "lr": lr, "z": 1.0, "epochs": EPOCHS[task]}
    networks_of = {"seeds": list(range(networks)), "splits": [13] * networks}
    return {**common, **networks_of, "distances": list(D0), "parts": parts}


def layer_cell(task, exponents):
    """A cell with these exponents `[ratios][networks]` at h* = 1, and 9 at the other rest."""
    layers = [
        {
            "rest": rest,
            "ratio": ratio,
            "exponent": found if rest == "inside" else [9.0] * len(found),
        }
        for rest in ("inside", "published")
        for ratio, found in zip(RATIOS, exponents, strict=True)
    ]
    return {"task": task, "layers": layers}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


def stored(folder, *cells):
    """The cells of trainings, read as the notebook does."""
    for each in cells:
        write(folder / "chaos" / "of_training" / each["task"] / f"{each['arm']}.json", each)
    return read_trainings(folder)


def write(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


# What is measured


def test_a_network_grows_to_the_end_at_first_or_never(folder):
    found = stored(folder, cell("xor", "bp", [LASTING, TRANSIENT, NONE], [NONE] * 3))
    assert kinds(found["xor", "bp"], HELD) == Kinds(1, 1, 1)
    assert kinds(found["xor", "bp"], FLIPPING) == Kinds(0, 0, 3)


@pytest.mark.parametrize(("exponent", "lasting"), [(0.0101, 1), (0.0099, 0)])
@pytest.mark.parametrize("task", EPOCHS)
def test_growth_counts_from_a_factor_of_e_in_a_fifth(folder, task, exponent, lasting):
    found = stored(folder, cell(task, "bp", [[exponent] * 5], [NONE]))
    assert kinds(found[task, "bp"], HELD) == Kinds(lasting, 0, 1 - lasting)


def test_the_growth_in_the_last_fifth_is_that_of_its_steps_one_by_one(folder):
    found = stored(folder, cell("digits_1", "bp", [[0, 0, 0, 0, 0.02]], [NONE]))
    by_hand = math.prod([math.exp(0.02)] * FIFTH)
    np.testing.assert_allclose(growth_in_last_fifth(found["digits_1", "bp"], HELD), [by_hand])


def test_the_exponent_of_a_training_is_the_mean_over_its_steps(folder):
    """502 epochs of xor are 502 steps: 101 in the first two fifths, and 100 in the others."""
    uneven = cell("xor", "bp", [[1.0, 0.0, 0.0, 0.0, 3.0]], [NONE]) | {"epochs": 502}
    along = stored(folder, uneven)["xor", "bp"]
    steps = np.repeat([1.0, 0.0, 0.0, 0.0, 3.0], [101, 101, 100, 100, 100])
    np.testing.assert_allclose(answers.exponents_of(along, HELD), [steps.mean()])


@pytest.mark.parametrize("changed", [{"task": "digits_1"}, {"arm": "csbp"}, {"distances": [1e-9]}])
def test_a_cell_of_something_else_is_refused_in_one_line(folder, changed):
    path = folder / "chaos" / "of_training" / "xor" / "bp.json"
    write(path, cell("xor", "bp", [NONE], [NONE]) | changed)
    with pytest.raises(ValueError, match="must be of xor by bp, at all distances and in 5 parts"):
        read_trainings(folder)


def test_a_layer_of_another_task_is_refused_in_one_line(folder):
    write(folder / "chaos" / "of_a_layer" / "xor.json", layer_cell("digits_1", [[0.1]] * 6))
    with pytest.raises(ValueError, match="must be of xor, as study"):
        read_layers(folder)


# What is said


def test_where_every_exponent_is_positive_to_the_end_growth_lasts(folder):
    found = stored(folder, cell("digits_1", "bp", [LASTING] * 2, [LASTING] * 2))
    said = answers.is_it_chaotic(found, "bp")
    assert said.count("is positive in 2 of 2 networks (digits_1).") == 2
    assert said.count("The growth of a difference lasts (digits_1).") == 2
    assert "in 2 of 2 trainings so far while their spikes are the same, in 2 once" in answers.claim(
        found
    )


def test_where_no_exponent_is_positive_there_is_no_growth(folder):
    found = stored(folder, cell("xor", "bp", [NONE] * 2, [NONE] * 2))
    said = answers.is_it_chaotic(found, "bp")
    assert said.count("is positive in 0 of 2 networks (xor).") == 2
    assert said.count("The growth of a difference is none (xor).") == 2
    assert "in 0 of 2 trainings so far while their spikes are the same, in 0 once" in answers.claim(
        found
    )


def test_growth_that_ends_is_called_transient_though_its_exponent_is_positive(folder):
    found = stored(folder, cell("xor", "bp", [[GROWS, STAYS, STAYS, STAYS, STAYS]], [LASTING]))
    said = answers.is_it_chaotic(found, "bp")
    assert "is positive in 1 of 1 networks (xor). In the first fifth of the training it is 0.0200 "
    assert "per step, in the last 0.0000 (means" in said
    assert "The growth of a difference is transient (xor)." in said
    assert "in 0 of 1 trainings so far while their spikes are the same, in 1 once" in answers.claim(
        found
    )


def test_networks_that_differ_are_counted(folder):
    found = stored(
        folder,
        cell("digits_1", "bp", [LASTING, NONE, NONE], [LASTING] * 3),
        cell("xor", "bp", [NONE] * 3, [LASTING] * 3),
    )
    said = answers.is_it_chaotic(found, "bp")
    assert "positive in 1 of 3 networks (digits_1) and 0 of 3 networks (xor)." in said
    assert "differs between networks (digits_1: 1 lasting and 2 none), is none (xor)." in said
    assert "The growth of a difference lasts (digits_1; xor)." in said
    claim = "in 1 of 6 trainings so far while their spikes are the same, in 6 once"
    assert claim in answers.claim(found)
    assert "CSBP" not in answers.claim(found)


def test_the_trainings_of_csbp_are_counted_beside_those_of_bp(folder):
    of_bp = cell("xor", "bp", [NONE] * 3, [NONE] * 3)
    of_csbp = cell("xor", "csbp", [LASTING, NONE, NONE], [LASTING, LASTING, NONE])
    found = stored(folder, of_bp, of_csbp)
    assert answers.claim(found).endswith("in 0 once spikes differ; CSBP, tuned: 1 and 2")
    assert answers.claim(found) == f"{answers.QUESTION} {answers.in_short(found)}"
    fewer = stored(folder, cell("xor", "bp", [NONE], [NONE]), of_csbp)
    assert answers.claim(fewer).endswith("; CSBP, tuned: 1 and 2 of 3")


def test_what_is_missing_is_called_unfinished(folder):
    for arm, name in (("bp", "BP"), ("csbp", "CSBP")):
        assert answers.is_it_chaotic({}, arm) == f"The exponents of {name} are unfinished."
        assert answers.causes({}, arm) == f"What the exponents of {name} come from is unfinished."
    assert answers.claim({}).endswith("? unfinished")
    assert answers.what_csbp_adds({}) == f"CSBP {MINUS} BP is unfinished."
    assert answers.of_layers({}).endswith("are unfinished.")
    assert answers.limits({}) == "No verdict follows."
    found = stored(folder, cell("xor", "bp", [NONE], [NONE]))
    waiting = ", ".join(task for task in TASKS if task != "xor")
    assert answers.is_it_chaotic(found, "bp").endswith(f" Unfinished: {waiting}.")
    assert answers.what_csbp_adds(found) == f"CSBP {MINUS} BP is unfinished."


def test_causes_are_the_shares_of_steps_and_spikes_of_all_tasks(folder):
    found = stored(
        folder,
        cell("digits_1", "bp", [[0.01] * 5], [[0.04] * 5], downhill=0.4, flipped=0.001),
        cell("xor", "bp", [[-0.01] * 5], [[0.02] * 5], overshoot=0.03, steepness=0.7),
    )
    said = answers.causes(found, "bp")
    assert "*Overshoot* under BP, spikes held: along the difference in 0 to 3 % of the" in said
    assert "is at most 0.7 (xor), and overshoot begins at 1." in said
    assert "*Negative curvature*: along the difference in 0 to 40 % of the steps." in said
    assert "the difference flips 0 to 0.1 % of them." in said
    assert said.endswith(f"spikes held leave 25 % (digits_1), {MINUS}50 % (xor).")


def test_no_part_is_given_of_an_exponent_that_is_not_positive(folder):
    found = stored(folder, cell("xor", "bp", [NONE], [NONE]))
    assert answers.causes(found, "bp").endswith("of them.")


def test_csbp_is_compared_with_bp_network_by_network(folder):
    found = stored(
        folder,
        cell("xor", "bp", [[0.01] * 5, [0.03] * 5], [NONE] * 2),
        cell("xor", "csbp", [[0.02] * 5, [0.01] * 5], [NONE] * 2),
    )
    said = answers.what_csbp_adds(found)
    assert f"xor {MINUS}0.0050 [{MINUS}0.0200, 0.0100]." in said
    assert "learning rate" not in said


def test_where_the_rates_differ_the_difference_is_not_laid_to_the_chaotic_loss(folder):
    found = stored(
        folder,
        cell("digits_1", "bp", [NONE], [NONE]),
        cell("digits_1", "csbp", [NONE], [NONE]),
        cell("xor", "bp", [NONE], [NONE], lr=0.1),
        cell("xor", "csbp", [NONE], [NONE], lr=1.6),
    )
    assert "In xor tuning gave CSBP another learning rate" in answers.what_csbp_adds(found)


def test_held_spikes_are_shown_by_the_next_distance(folder):
    other = cell("xor", "bp", [NONE], [NONE])
    other["parts"][2]["exponent"][1] = [0.5]
    found = stored(folder, cell("digits_1", "bp", [NONE], [NONE]), other)
    assert "in 9 of 10 fifths of a training" in answers.are_spikes_held(found)


def test_a_layer_is_chaotic_where_its_exponent_is_positive(folder):
    by_ratio = [[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.3, 0.5]]
    write(folder / "chaos" / "of_a_layer" / "xor.json", layer_cell("xor", by_ratio))
    layers = read_layers(folder)
    said = answers.of_layers(layers)
    counts = "xor 0 at 0.9, 1 at 1.1, 2 at 1.5, 2 at 2, 2 at 3, 2 at 4 (of 2)"
    where = "alone, h* = 1, a layer has a positive exponent in so many networks, by $z / z_c$"
    assert f"{where}: {counts}." in said
    everywhere = "xor 2 at 0.9, 2 at 1.1, 2 at 1.5, 2 at 2, 2 at 3, 2 at 4 (of 2)"
    assert "alone, the published h*, a layer" in said
    assert said.endswith(f"{everywhere}. Unfinished: digits_1, randman_1.")
    rows, columns = answers.table_of_layers(layers)
    assert columns[2:] == ["xor"]
    assert rows[5] == ["h* = 1", "4", "+0.4000 [0.3000, 0.5000]"]
    assert rows[6] == ["the published h*", "0.9", "+9.0000 [9.0000, 9.0000]"]


def test_the_number_of_networks_is_that_of_the_cells(folder):
    found = stored(folder, cell("xor", "bp", [NONE] * 3, [NONE] * 3))
    assert answers.limits(found).startswith("No verdict follows: 3 networks a task")


def test_the_answer_has_all_of_its_parts(folder):
    found = stored(folder, cell("xor", "bp", [NONE], [NONE]), cell("xor", "csbp", [NONE], [NONE]))
    text = "\n".join(answers.paragraphs(found, {}))
    for arm in ("bp", "csbp"):
        assert answers.is_it_chaotic(found, arm) in text
        assert answers.causes(found, arm) in text
    for part in (answers.what_csbp_adds(found), answers.of_layers({}), answers.limits(found)):
        assert part in text
    assert answers.are_spikes_held(found) in text


# Tables


def test_tables_have_a_row_for_every_training_and_a_column_for_every_distance(folder):
    found = stored(
        folder,
        cell("xor", "bp", [[0.01] * 5], [[0.02] * 5], steepness=0.3, flipped=0.25),
        cell("xor", "csbp", [[-0.01] * 5], [[0.02] * 5], overshoot=0.5, downhill=0.125),
    )
    rows, columns = answers.table_of_distances(found)
    near, far = [row[2:-1] for row in rows], [row[-1] for row in rows]
    assert near == [["0.0100"] * 5, [f"{MINUS}0.0100"] * 5]
    assert far == ["0.0200"] * 2
    assert columns[2:] == [f"$d_0$ = $10^{{{exponent}}}$" for exponent in (-9, -7, -6, -5, -4, -3)]
    rows, columns = answers.table_of_causes(found)
    assert rows[0] == ["xor", "BP", "0.1", "0.3", "2.7", "0", "0", "0", "0", "25"]
    assert rows[1] == ["xor", "CSBP", "0.1", "0", "0.37", "12", "50", "12", "50", "0"]
    assert len(columns) == len(rows[0])


# The figure


@pytest.mark.usefixtures("style")
def test_every_exponent_is_drawn_and_the_mean_of_the_networks(folder):
    rng = np.random.default_rng(0)
    held, flipping = rng.normal(size=(2, 4, 5))  # [networks, fifths] each
    found = stored(folder, cell("xor", "csbp", held.tolist(), flipping.tolist()))
    axes = np.array(exponents_figure(found).axes).reshape(2, len(TASKS))
    for row, exponents in zip(axes, (held, flipping), strict=True):
        _, *networks, mean = [line.get_ydata() for line in row[list(TASKS).index("xor")].lines]
        np.testing.assert_allclose(networks, exponents)
        np.testing.assert_allclose(mean, exponents.mean(axis=0))


@pytest.mark.usefixtures("style")
def test_the_title_is_the_answer_and_empty_panels_are_called_unfinished(folder):
    found = stored(folder, cell("xor", "bp", [LASTING], [LASTING]))
    fig = exponents_figure(found)
    assert fig.get_suptitle().replace("\n", " ") == answers.claim(found)
    words = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert words == [[] if task == "xor" else ["unfinished"] for task in [*TASKS, *TASKS]]


@pytest.mark.usefixtures("style")
@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_cut_off_and_every_word_has_ten_points(folder, is_there):
    cells = [cell("xor", "bp", [LASTING], [NONE])] if is_there else []
    fig = exponents_figure(stored(folder, *cells))
    fig.draw_without_rendering()
    drawn = fig.get_tightbbox()  # inches
    rounding = 0.01
    assert min(drawn.x0, drawn.y0) > -rounding
    assert drawn.x1 < fig.get_figwidth() + rounding
    assert drawn.y1 < fig.get_figheight() + rounding
    for text in fig.findobj(plt.Text):
        assert text.get_fontsize() >= 10 or not text.get_text()
