"""The figures of the study: every mark where the numbers are, and no word cut off."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_study import made_cells

from csbp_notebooks.figures import headline
from csbp_notebooks.signs import MINUS
from study.contrasts import contrast
from study.experiments.experiment_1 import RATIOS, TASK_NAMES as ONE_LAYER_TASKS
from study.findings import figures
from study.findings.all_contrasts import findings
from study.findings.answers import answers
from study.findings.measured import DECISIVE
from study.findings.numbers import numbers
from study.findings.rows import Row, label_at
from study.findings.words import groups, rows_by_label, verdicts_of
from study.protocol import EVERY_MARGIN, SEEDS

WEIGHTS = {"BP": np.array([0.5, 0.4, 0.4]), "CSBP": np.array([0.5, -3.0, 0.3])}


def answers_figure(found):
    return figures.answers_figure(found, WEIGHTS)


DRAWN = {
    "answers": answers_figure,
    "overshoot": figures.overshoot_figure,
    "dead neurons": figures.dead_neurons_figure,
    "membrane": figures.membrane_figure,
    "recipe": figures.recipe_figure,
    "robustness": figures.robustness_figure,
}
PRIMARY_SIZE = 9  # of a mark, in points


pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture(scope="module")
def cells():
    return made_cells()


@pytest.fixture(scope="module")
def found(cells):
    return findings(cells, {})


@pytest.fixture(scope="module")
def nothing():
    return findings({}, {})


def words_of(fig):
    return " ".join(text.get_text().replace("\n", " ") for text in fig.findobj(plt.Text))


def marks_of(ax, **properties):
    """The marks of the contrasts in a panel that look like this, as (x, y)."""
    marks = []
    for container in ax.containers:
        line = container.lines[0]
        if all(getattr(line, f"get_{name}")() == value for name, value in properties.items()):
            marks.append((line.get_xdata()[0], line.get_ydata()[0]))
    return marks


def primary(found, experiment):
    """The estimates of the primary contrasts, in the order of their tasks."""
    return [row.found.estimate for row in found.primary if row.label.experiment == experiment]


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", ["found", "nothing"])
def test_nothing_is_cut_off(name, kind, request):
    fig = DRAWN[name](request.getfixturevalue(kind))
    fig.draw_without_rendering()  # makes room for all
    drawn = fig.get_tightbbox()  # inches
    rounding = 0.01
    assert min(drawn.x0, drawn.y0) > -rounding
    assert drawn.x1 < fig.get_figwidth() + rounding
    assert drawn.y1 < fig.get_figheight() + rounding


@pytest.mark.parametrize("name", DRAWN)
def test_every_word_has_at_least_ten_points(name, found):
    for text in DRAWN[name](found).findobj(plt.Text):
        assert text.get_fontsize() >= 10 or not text.get_text()


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_missing_is_called_unfinished(name, nothing):
    assert "unfinished" in words_of(DRAWN[name](nothing))


@pytest.mark.parametrize(
    ("name", "question"), [("overshoot", 2), ("membrane", 3), ("recipe", 4), ("robustness", 5)]
)
def test_the_title_is_the_answer_to_the_question(name, question, found):
    title = DRAWN[name](found).get_suptitle().replace("\n", " ")
    assert title.replace("$z_c$", "z_c") == answers(found)[question].claim


def test_the_title_on_dead_neurons_has_the_verdicts_of_experiment_2(found):
    title = figures.dead_neurons_figure(found).get_suptitle().replace("\n", " ")
    assert title.endswith(groups(verdicts_of(found, "2")))


def test_the_answers_are_drawn_in_margins_or_written_at_the_edge(found):
    _, gain, overshoot = answers_figure(found).axes
    rows = {"gain": [], "overshoot": []}
    for row in found.primary:
        panel = {"1": "overshoot", "2": "gain", "4": "gain"}.get(row.label.experiment)
        if panel:
            rows[panel].append(row)
    for ax, primary_rows in ((gain, rows["gain"]), (overshoot, rows["overshoot"])):
        drawn, written = [], []
        for place, row in enumerate(primary_rows):
            margin = EVERY_MARGIN[row.label.task]
            ends = np.array([row.found.low, row.found.high]) / margin
            if np.abs(ends).max() > figures.FARTHEST:
                numbers = [row.found.estimate, row.found.low, row.found.high]
                written.append(
                    "{:+.0f} margins\n[{:.0f}, {:.0f}]".format(*np.divide(numbers, margin))
                )
            else:
                drawn.append((row.found.estimate / margin, place))
        assert marks_of(ax) == pytest.approx(np.array(drawn)) if drawn else not marks_of(ax)
        texts = [text.get_text().replace(MINUS, "-") for text in ax.texts]
        assert [text for text in texts if text] == written


def test_the_answers_say_from_which_weights_and_which_recipe(found):
    _, gain, _ = answers_figure(found).axes
    title = gain.get_title().replace("\n", " ")
    assert "from data-driven weights, less best BP (fashion_mnist: the authors' recipe" in title


def test_the_answers_show_both_weights_at_every_epoch(found):
    neuron = answers_figure(found).axes[0]
    drawn = [line.get_ydata() for line in neuron.lines]
    np.testing.assert_array_equal(drawn, [WEIGHTS["CSBP"], WEIGHTS["BP"]])


def test_the_primary_contrast_on_overshoot_is_marked_at_twice_critical_z(found):
    upper = figures.overshoot_figure(found).axes[:3]
    estimates = []
    for ax in upper:
        ((place, estimate),) = marks_of(ax, markersize=PRIMARY_SIZE)
        assert RATIOS[round(place)] == 2
        estimates.append(estimate)
    assert estimates == primary(found, "1")


def test_overshoot_is_shown_at_every_ratio_and_both_rest_points(found):
    rows = rows_by_label(found)
    for ax, task in zip(figures.overshoot_figure(found).axes[:3], ONE_LAYER_TASKS, strict=True):
        published = marks_of(ax, markerfacecolor="w")
        assert len(marks_of(ax)) - len(published) == 6
        low, high = ax.get_ylim()
        beyond = []
        for ratio in RATIOS:
            place = DECISIVE._replace(rest="published", ratio=ratio)
            estimate = rows[label_at(task, place, "csbp", "inner flow")].found.estimate
            if not low < estimate < high:
                beyond.append(f"{estimate:+.0f}".replace("-", MINUS))
        assert len(published) + len(beyond) == 6
        assert [text.get_text() for text in ax.texts] == beyond


def test_a_contrast_beyond_the_axis_of_the_inner_rest_point_is_an_arrow_with_its_number():
    _, ax = plt.subplots()
    at = {"inside": -8.7, "published": 71.6}
    rows = {}
    for rest, estimate in at.items():
        label = label_at("digits_1", DECISIVE._replace(rest=rest), "csbp", "inner flow")
        differences = [estimate - 1, estimate + 1] * 4
        rows[label] = Row(label, (50.0, 50.0), contrast(differences, margin=0.3), margin=0.3)
    figures._draw_overshoot(ax, rows, "digits_1")
    assert marks_of(ax) == [(4, pytest.approx(-8.7))]
    assert [text.get_text() for text in ax.texts] == ["+72"]
    assert ax.get_ylim()[1] < 2


def test_the_accuracies_of_the_rules_are_those_of_their_networks(found):
    """At twice z_c, fifth of six; what the rules came to there was read from the cells apart."""
    fig = figures.overshoot_figure(found)
    accuracy = {(rule.task, rule.rule): rule.accuracy for rule in found.rules}
    for ax, task in zip(fig.axes[3:6], ("digits_1", "randman_1", "xor"), strict=True):
        lines = [line for line in ax.lines if len(line.get_xdata()) == 6]
        drawn = [line.get_ydata()[4] for line in lines]
        assert drawn == pytest.approx([accuracy[task, rule] for rule in figures.RULE_STYLES])


def test_primary_contrasts_are_drawn_in_margins_of_their_tasks(found):
    margins = [EVERY_MARGIN[task] for task in SEEDS]
    drawn = {"2": figures.dead_neurons_figure, "3": figures.membrane_figure}
    for experiment, draw in drawn.items():
        marks = marks_of(draw(found).axes[0], markersize=PRIMARY_SIZE)
        values = [estimate for estimate, place in marks]
        assert values == pytest.approx(np.array(primary(found, experiment)) / margins)
        places = [round(place) for estimate, place in marks]
        assert places == list(range(6))


def test_dead_neurons_are_the_mean_over_networks(cells, found):
    right = figures.dead_neurons_figure(found).axes[1]
    drawn = {line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 1}
    for arm in ("bp", "csbp"):
        dead = 100 * np.mean(cells[f"experiment_2/xor/now_cosine/{arm}"]["dead"])
        assert np.isclose(list(drawn), dead).any()


def test_what_cannot_be_integrated_is_marked_so_and_nothing_else(found):
    left, *panels = figures.membrane_figure(found).axes
    crosses = [len(marks_of(ax, marker="X")) for ax in panels]
    assert crosses == [0, 3, 0, 0, 0, 0]  # of digits_3, at all three strengths
    ((_, place),) = marks_of(left, marker="X")
    assert place == 1


def test_the_recipe_has_one_primary_contrast(found):
    ((estimate, place),) = marks_of(figures.recipe_figure(found).axes[0], markersize=PRIMARY_SIZE)
    assert [estimate] == primary(found, "4")
    assert place == 0


def test_robustness_shows_every_kind_and_level_from_both_starts(found):
    panels = figures.robustness_figure(found).axes[:7]
    numbers = [len(marks_of(ax)) for ax in panels]
    assert numbers == [2 * 6, 2 * 6, 2 * 6, 2 * 9, 2 * 9, 2 * 6, 6]  # images have one start


def test_the_alternative_text_begins_with_the_claim(found):
    fig = figures.recipe_figure(found)
    said = figures.alt(fig, "six contrasts")
    assert said == f"{answers(found)[4].claim}. Figure: six contrasts."


def test_a_headline_keeps_an_estimate_and_its_interval_in_one_line(found):
    """The words before it leave room for a part of it alone."""
    (row,) = [row for row in found.primary if row.label.experiment == "4"]
    for words in range(60, 110):
        fig = plt.figure(figsize=(9, 2))
        headline(fig, f"{'a ' * (words // 2)}{numbers(row)} points")
        assert numbers(row) in fig.get_suptitle()
        plt.close(fig)


def test_the_alternative_text_has_no_signs_of_formulas(found):
    said = figures.alt(figures.overshoot_figure(found), "rules")
    assert said == f"{answers(found)[2].claim}. Figure: rules."


@pytest.mark.parametrize("name", DRAWN)
def test_no_hyphen_stands_for_a_minus(name, found):
    assert not re.search(r"\s-|-\d", words_of(DRAWN[name](found)))


def test_the_answers_name_the_margin_of_every_task(found):
    _, gain, overshoot = answers_figure(found).axes
    for ax, tasks in ((gain, [*SEEDS, "fashion_mnist"]), (overshoot, ONE_LAYER_TASKS)):
        ends = [label.get_text().rpartition("\u00b1")[2] for label in ax.get_yticklabels()]
        assert [float(end) for end in ends] == [EVERY_MARGIN[task] for task in tasks]


def test_the_key_names_the_tasks_without_the_published_rest_point(cells, found):
    assert "(unfinished: " not in words_of(figures.overshoot_figure(found))
    some = {path: cell for path, cell in cells.items() if "xor/published" not in path}
    assert "(unfinished: xor)" in words_of(figures.overshoot_figure(findings(some, {})))


def test_a_strength_without_its_cell_is_called_unfinished_at_its_place(cells):
    some = {path: cell for path, cell in cells.items() if path != "experiment_3/xor/times_10"}
    _, *panels = figures.membrane_figure(findings(some, {})).axes
    places = [[text.get_position()[0] for text in ax.texts] for ax in panels]
    assert places == [[], [], [], [], [], [1]]
