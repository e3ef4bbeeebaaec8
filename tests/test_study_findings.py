"""The results of the study: made cells in, and what comes out is held against scipy."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from made_study import RESUMMED_ABOVE, RULES, write_study
from scipy import stats

from csbp_core import critical_z
from csbp_notebooks.files import ROOT
from csbp_notebooks.signs import MINUS, less
from study.experiments.experiment_1 import ANNEALINGS
from study.experiments.experiment_4 import EVERY_ARM as ARMS_ON_IMAGES
from study.findings import results_page
from study.findings.__main__ import main
from study.findings.all_contrasts import by_provenance
from study.findings.cells import expected_cells
from study.findings.contrasts_json import for_json, read_findings
from study.findings.measured import TIMES_FOR_INNER, epochs_above_critical
from study.protocol import MARGINS, PROTOCOL, WHEN_IT_WAS_FIXED, digest
from study.tasks.tasks import TASKS
from study.training.overshoot import FallingZ

# What these leave no doubt about, unless no verdict is given.
VERDICTS = {
    ("1", "digits_1"): "helps",
    ("1", "randman_1"): "equivalent",
    ("1", "xor"): "cannot tell",
    ("2", "digits_1"): "hurts",
    ("2", "digits_3"): "cannot tell",  # below the noise floor
    ("2", "digits_conv"): "equivalent",
    ("2", "randman_1"): "equivalent",
    ("2", "randman_3"): "cannot tell",
    ("2", "xor"): "equivalent",
    ("3", "digits_1"): "helps",
    ("3", "digits_3"): "cannot be integrated",
    ("3", "digits_conv"): "equivalent",
    ("3", "randman_1"): "equivalent",
    ("3", "randman_3"): "equivalent",
    ("3", "xor"): "equivalent",
    ("4", "fashion_mnist"): "equivalent",
}
OF_TASKS = [label for label in VERDICTS if label[1] in TASKS]

SIDES = {
    "1": ("inside_20-20_2.0", "csbp", "inside_20-20_2.0", "inner flow"),
    "2": ("data_constant/csbp", None, "data_constant/bp", None),
    "3": ("times_1", "1", "quadratic_membrane", None),
}


def run(folder):
    """Run the command; the JSON and the page."""
    out = folder.parent / "contrasts.json"
    page = folder.parent / "RESULTS.md"
    main([str(folder), "--out", str(out), "--table", str(page)])
    return json.loads(out.read_text()), page.read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "results"
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def written(study):
    return run(study)


@pytest.fixture(scope="module")
def found(written):
    return written[0]


@pytest.fixture
def some(study, tmp_path):
    """A copy of which cells can be changed: those of xor alone."""
    folder = tmp_path / "results"
    for experiment in ("experiment_1", "experiment_2", "experiment_3"):
        shutil.copytree(study / experiment / "xor", folder / experiment / "xor")
    return folder


def read(study, experiment, task, name, inside=None):
    """What the networks of an arm came to, straight from its file."""
    cell = json.loads((study / f"experiment_{experiment}" / task / f"{name}.json").read_text())
    if inside is None:
        return cell
    return cell["rules" if experiment == "1" else "substeps"][inside]


def split_means(first, second, measure=lambda networks: networks["accuracy"], scale=100):
    """Differences of paired networks, a mean for each of the eight consecutive groups."""
    differences = scale * (np.array(measure(first)) - np.array(measure(second)))
    return differences.reshape(8, -1).mean(1)


def on_images(study, arm, measure):
    """A measure of all networks of an arm, `[networks]`, those of split 1 first."""
    files = [study / "experiment_4" / arm / f"split_{split}.json" for split in range(1, 9)]
    return np.concatenate([measure(json.loads(file.read_text())) for file in files])


def accuracy(cell):
    return cell["accuracy"]


def secondary(found, **wanted):
    """The secondary contrasts with these labels."""
    return [row for row in found["secondary"] if wanted.items() <= row.items()]


def tables(page):
    """The lines of each table, as dicts by column, by the heading above it."""
    found, heading = {}, ""
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
            found[heading] = []
        elif line.startswith("|") and set(line) - set("|:-"):
            found[heading].append([entry.strip() for entry in line.strip("|").split("|")])
    return {
        heading: [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
        for heading, lines in found.items()
        if lines
    }


def test_every_primary_contrast_has_the_verdict_that_was_planted(found):
    verdicts = {(row["experiment"], row["task"]): row["verdict"] for row in found["primary"]}
    assert verdicts == VERDICTS


@pytest.mark.parametrize(("experiment", "task"), OF_TASKS)
def test_primary_contrasts_are_those_of_scipy_on_the_split_means(found, study, experiment, task):
    name, inside, other, inside_other = SIDES[experiment]
    first = read(study, experiment, task, name, inside)
    second = read(study, experiment, task, other, inside_other)
    row = primary(found, experiment, task)
    assert_is_of_scipy(row, first["accuracy"], second["accuracy"], MARGINS[task])


def test_csbp_less_bp_on_images_is_that_of_scipy_on_the_split_means(found, study):
    sides = [on_images(study, arm, accuracy) for arm in ("csbp", "bp")]
    assert_is_of_scipy(primary(found, "4", "fashion_mnist"), *sides, margin=0.5)


def primary(found, experiment, task):
    (row,) = [
        row for row in found["primary"] if (row["experiment"], row["task"]) == (experiment, task)
    ]
    return row


def assert_is_of_scipy(row, first, second, margin):
    """Hold a primary contrast against tests of paired accuracies in [0, 1], eight equal splits."""
    means = 100 * (np.array(first) - np.array(second)).reshape(8, -1).mean(1)
    test = stats.ttest_1samp(means, 0)
    above_lower = stats.ttest_1samp(means, -margin, alternative="greater").pvalue
    below_upper = stats.ttest_1samp(means, margin, alternative="less").pvalue
    expected = {
        "estimate": means.mean(),
        "p_difference": test.pvalue,
        "p_equivalence": max(above_lower, below_upper),
        "margin": margin,
        "mean_of_first": 100 * np.mean(first),
        "mean_of_second": 100 * np.mean(second),
    }
    for level, low, high in ((0.95, "low", "high"), (0.9, "low_90", "high_90")):
        expected[low], expected[high] = test.confidence_interval(level)
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_chaos_helps_only_where_csbp_also_beats_the_best_bp(found):
    """Its best BP has the same accuracy in all tasks, and csbp is a point above it in digits_1."""
    assert found["chaos_helps"] == {"digits_1": True, "randman_1": False, "xor": False}


def test_chaos_does_not_help_where_bp_of_the_same_length_is_as_good(some, study):
    shutil.copytree(study / "experiment_1" / "digits_1", some / "experiment_1" / "digits_1")
    folder = some / "experiment_2" / "digits_1" / "now_constant"
    folder.mkdir(parents=True)
    shutil.copy(study / "experiment_2" / "digits_1" / "now_constant" / "bp.json", folder)
    file = some / "experiment_1" / "digits_1" / "inside_20-20_2.0.json"
    cell = json.loads(file.read_text())
    cell["rules"]["bp"] = cell["rules"]["csbp"]
    file.write_text(json.dumps(cell))
    found, _ = run(some)
    (row,) = [row for row in found["primary"] if row["task"] == "digits_1"]
    assert row["verdict"] == "helps"
    assert not found["chaos_helps"]["digits_1"]


def test_chaos_does_not_help_where_the_best_bp_is_as_good(some, study):
    shutil.copytree(study / "experiment_1" / "digits_1", some / "experiment_1" / "digits_1")
    folder = some / "experiment_2" / "digits_1" / "now_constant"
    folder.mkdir(parents=True)
    best = read(study, "2", "digits_1", "now_constant/bp")
    best["accuracy"] = read(study, "1", "digits_1", "inside_20-20_2.0", "csbp")["accuracy"]
    (folder / "bp.json").write_text(json.dumps(best))
    found, _ = run(some)
    (row,) = [row for row in found["primary"] if row["task"] == "digits_1"]
    assert row["verdict"] == "helps"
    assert not found["chaos_helps"]["digits_1"]


def test_chaos_does_not_help_below_the_noise_floor(some, study):
    shutil.copytree(study / "experiment_1" / "digits_1", some / "experiment_1" / "digits_1")
    source = study / "experiment_2" / "digits_1" / "now_constant"
    folder = some / "experiment_2" / "digits_1" / "now_constant"
    shutil.copytree(source, folder)
    resummed = json.loads((folder / "csbp_resummed.json").read_text())
    resummed["accuracy"] = [accuracy - 0.05 for accuracy in resummed["accuracy"]]
    (folder / "csbp_resummed.json").write_text(json.dumps(resummed))
    found, _ = run(some)
    (row,) = [row for row in found["primary"] if row["task"] == "digits_1"]
    assert (row["verdict"], row["below_floor"]) == ("cannot tell", True)
    assert not found["chaos_helps"]["digits_1"]


@pytest.mark.parametrize(
    ("label", "first", "second"),
    [
        (
            {"experiment": "1", "condition": "published, 5/20", "point": "0.03", "first": "kick"},
            ("1", "published_5-20_0.03", "kick"),
            ("1", "published_5-20_0.03", "outer flow"),
        ),
        (
            {"experiment": "1", "condition": "inside, held/20", "point": "4", "second": "best bp"},
            ("1", "inside_held-20_4.0", "csbp"),
            ("2", "now_constant/bp", None),
        ),
        (
            {"experiment": "1", "first": "noise, steps halved"},
            ("1", "halved_steps", "noise"),
            ("1", "inside_20-20_2.0", "noise"),
        ),
        (
            {"experiment": "2", "condition": "now, cosine", "first": "firing_rate"},
            ("2", "now_cosine/firing_rate", None),
            ("2", "now_cosine/bp", None),
        ),
        (
            {"experiment": "2", "condition": "cosine", "first": "bp from data"},
            ("2", "data_cosine/bp", None),
            ("2", "now_cosine/bp", None),
        ),
        (
            {"experiment": "3", "point": "10", "second": "4 sub-steps"},
            ("3", "times_10", "1"),
            ("3", "times_10", "4"),
        ),
        (
            {"experiment": "3", "point": "100", "second": "quadratic_membrane"},
            ("3", "times_100", "1"),
            ("3", "quadratic_membrane", None),
        ),
    ],
)
def test_secondary_contrasts_are_between_the_cells_that_they_name(
    found, study, label, first, second
):
    (row,) = secondary(found, task="digits_1", measure="accuracy", **label)
    sides = [
        read(study, experiment, "digits_1", name, inside)
        for experiment, name, inside in (first, second)
    ]
    expected = stats.ttest_1samp(split_means(*sides), 0)
    interval = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval), abs=1e-6)
    assert row["verdict"] is None
    assert "p_difference" not in row


def test_dead_neurons_and_accuracy_under_noise_are_compared_as_accuracy_is(found, study):
    sides = [read(study, "2", "randman_1", f"data_cosine/{arm}") for arm in ("membrane", "bp")]
    label = {"task": "randman_1", "condition": "data, cosine", "first": "membrane", "second": "bp"}
    (dead,) = secondary(found, **label, measure="dead")
    means = split_means(*sides, lambda networks: networks["dead"])
    assert dead["estimate"] == pytest.approx(means.mean(), abs=1e-6)
    (noisy,) = secondary(found, **label, measure="deletion 0.2")
    means = split_means(*sides, lambda networks: networks["robustness"]["deletion"][2])
    assert noisy["estimate"] == pytest.approx(means.mean(), abs=1e-6)
    (change,) = secondary(found, **label, measure="deletion 0.2 - none")
    without = split_means(*sides).mean()
    assert change["estimate"] == pytest.approx(means.mean() - without, abs=1e-6)


def test_a_network_that_never_solves_it_counts_with_a_validation_more(found, study):
    """Both arms solve 96 %; there are 40 validations, ten epochs apart."""

    def epochs(networks):
        return [410 if epoch is None else epoch for epoch in networks["epochs_to_solution"]]

    sides = [read(study, "2", "xor", f"now_constant/{arm}") for arm in ("firing_rate", "bp")]
    label = {"experiment": "2", "condition": "now, constant", "first": "firing_rate"}
    (row,) = secondary(found, **label, measure="epochs")
    interval = stats.ttest_1samp(split_means(*sides, epochs, scale=1), 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval), abs=1e-6)


def test_epochs_are_not_compared_where_a_side_does_not_solve_the_task(some):
    file = some / "experiment_2" / "xor" / "now_constant" / "csbp.json"
    cell = json.loads(file.read_text())
    cell["accuracy"] = [0.94] * len(cell["accuracy"])
    file.write_text(json.dumps(cell))
    found, _ = run(some)
    rows = secondary(found, condition="now, constant", measure="epochs")
    assert "csbp" not in {row["first"] for row in rows}
    assert "membrane" in {row["first"] for row in rows}


def test_the_noise_floor_marks_what_is_below_it(found):
    (floor,) = [floor for floor in found["noise_floor"] if floor["task"] == "digits_3"]
    assert floor["height"] == floor["high"] == pytest.approx(RESUMMED_ABOVE, abs=0.01)
    (primary,) = [
        row for row in found["primary"] if (row["experiment"], row["task"]) == ("2", "digits_3")
    ]
    assert primary["below_floor"]
    assert primary["estimate"] > MARGINS["digits_3"]
    assert primary["p_difference"] < 1e-6
    for row in secondary(found, task="digits_3", measure="weights 0.1"):
        assert row["below_floor"] == (abs(row["estimate"]) <= floor["height"])
    assert {row["below_floor"] for row in secondary(found, measure="dead")} == {None}


def test_the_noise_floor_is_the_end_of_the_interval_that_is_farther_from_zero(found):
    for floor in found["noise_floor"]:
        assert floor["height"] == max(-floor["low"], floor["high"])


def test_there_is_no_noise_floor_where_both_trainings_are_the_same(some):
    folder = some / "experiment_2" / "xor" / "now_constant"
    (folder / "csbp_resummed.json").write_text((folder / "csbp.json").read_text())
    found, page = run(some)
    (floor,) = found["noise_floor"]
    assert floor["height"] is None
    assert {row["below_floor"] for row in found["primary"]} == {None}
    (line,) = tables(page)["Noise floor: csbp summed in another order, less csbp"]
    assert line["floor"] == "none"


def test_the_spread_of_the_noise_floor_is_that_of_the_networks(found, study):
    (floor,) = [floor for floor in found["noise_floor"] if floor["task"] == "xor"]
    resummed, csbp = (
        np.array(read(study, "2", "xor", f"now_constant/{arm}")["accuracy"])
        for arm in ("csbp_resummed", "csbp")
    )
    assert floor["spread"] == pytest.approx(100 * np.std(resummed - csbp, ddof=1), abs=1e-6)


def shown(row, places):
    """A contrast as the page shows it."""
    numbers = {name: round(row[name], places) + 0.0 for name in ("estimate", "low", "high")}
    mark = " ~" if row["below_floor"] else ""
    estimate = f"{numbers['estimate']:+.{places}f}{mark}"
    interval = f"[{numbers['low']:.{places}f}, {numbers['high']:.{places}f}]"
    if row["low"] == row["high"]:
        interval = "(all splits agree)"
    return f"{estimate} {interval}".replace("-", MINUS)


def on_page_as(measure):
    """A measure as the page shows it: that of a change is with a minus."""
    return measure.replace(" - ", f" {MINUS} ")


def places(task):
    return 1 if task in ("randman_3", "xor") else 2


def test_the_page_shows_the_primary_contrasts_of_the_json(written):
    found, page = written
    lines = tables(page)["Primary contrasts"]
    assert len(lines) == len(found["primary"]) == 16
    for line, row in zip(lines, found["primary"], strict=True):
        assert (line["experiment"], line["task"]) == (row["experiment"], row["task"])
        assert line["estimate and 95 % interval"] == shown(row, places(row["task"]))
        assert float(line["margin"]) == row["margin"]
        assert line["verdict"].startswith(f"**{row['verdict']}**")


def test_the_page_shows_all_of_the_grid_of_the_json(written):
    found, page = written
    on_page = tables(page)
    rows = [
        row
        for row in secondary(found, experiment="1", measure="accuracy")
        if "halved" not in row["first"]
    ]
    assert len(rows) == 3 * 51 * 7  # tasks, places, contrasts
    for row in rows:
        lines = {line["z0 / z_c"]: line for line in on_page[f"{row['task']}, {row['condition']}"]}
        entry = lines[row["point"]][less(row["first"], row["second"])]
        assert entry == shown(row, places(row["task"]))


def test_the_page_shows_accuracy_and_robustness_of_every_arm(written):
    found, page = written
    on_page = tables(page)
    for row in secondary(found, experiment="2", condition="data, cosine", second="bp"):
        column = less(row["first"], "best bp")
        if row["measure"] == "accuracy":
            lines = {line["task"]: line for line in on_page["data, cosine: accuracy"]}
            assert lines[row["task"]][column] == shown(row, places(row["task"]))
        elif row["measure"] not in ("dead", "rate", "epochs"):
            table = on_page[f"data, cosine: {row['task']}"]
            lines = {line["noise"]: line for line in table}
            assert lines[on_page_as(row["measure"])][column] == shown(row, places(row["task"]))


@pytest.mark.parametrize(
    ("label", "sides"),
    [
        ({"experiment": "1", "condition": "published, 20/20", "point": "2"}, "csbp - inner flow"),
        ({"experiment": "1", "condition": "inside, 20/20", "point": "2"}, "csbp - best bp"),
        ({"experiment": "2", "condition": "data, constant"}, "csbp - bp_at_csbp_lr"),
    ],
)
def test_the_page_shows_beside_the_primary_contrasts_what_the_protocol_names(written, label, sides):
    found, page = written
    first, second = sides.split(" - ")
    (row,) = secondary(
        found, task="digits_1", measure="accuracy", first=first, second=second, **label
    )
    where = ", ".join(part for part in (row["condition"], row["point"]) if part)
    words = [row["experiment"], "digits_1", less(first, second), where, "accuracy", shown(row, 2)]
    assert "".join(words).replace(" ", "") in page.replace("|", "").replace(" ", "")


def test_the_page_shows_epochs_beside_the_primary_contrasts_that_both_sides_solve(written):
    found, page = written
    label = {"experiment": "2", "condition": "data, constant", "first": "csbp", "second": "bp"}
    (row,) = secondary(found, measure="epochs", **label)
    words = ["2", "xor", less("csbp", "best bp"), "data, constant", "epochs", shown(row, 1)]
    assert "".join(words).replace(" ", "") in page.replace("|", "").replace(" ", "")


def test_the_page_says_whether_the_steps_of_the_flow_are_small_enough(some):
    file = some / "experiment_1" / "xor" / "halved_steps.json"
    whole = json.loads((some / "experiment_1" / "xor" / "inside_20-20_2.0.json").read_text())
    file.write_text(json.dumps(whole))
    _, page = run(some)
    assert "Zero is in all intervals: by the protocol's rule the steps are small enough." in page
    kick = whole["rules"]["kick"]
    kick["accuracy"] = [accuracy + 0.1 for accuracy in kick["accuracy"]]
    file.write_text(json.dumps(whole))
    _, page = run(some)
    assert "the flow's cells void: xor kick." in page


def test_overshoot_by_half_the_steps_stands_beside_the_primary_contrast(written, study):
    found, page = written
    (row,) = secondary(found, task="xor", second="inner flow, steps halved")
    sides = [read(study, "1", "xor", "halved_steps", rule) for rule in ("csbp", "inner flow")]
    assert row["estimate"] == pytest.approx(split_means(*sides).mean(), abs=1e-6)
    lines = {
        line["task"]: line
        for line in tables(page)["The same contrast with the steps of the flow halved"]
    }
    title = less("csbp", "inner flow")
    assert lines["xor"][title] == shown(primary(found, "1", "xor"), 1)
    assert lines["xor"][f"{title}, steps halved"] == shown(row, 1)


def test_the_page_shows_the_tuned_settings(some):
    folder = some / "tuning" / "xor" / "data_cosine"
    folder.mkdir(parents=True)
    choice = {
        "task": "xor",
        "arm": "csbp",
        "start_from_data": [0.25, 0.5],
        "schedule": "cosine",
        "lr": 0.4,
        "z": 30.0,
        "epochs": 1200,
        "accuracy": 0.97,
        "at_an_end": ["z", "epochs"],
        "table": [],
        "provenance": {"cpu_seconds": 1800.0},
    }
    (folder / "csbp.json").write_text(json.dumps(choice))
    found, page = run(some)
    assert found["choices"]["tuning/xor/data_cosine/csbp"]["at_an_end"] == ["z", "epochs"]
    assert found["hours"]["tuning"] == 0.5
    (line,) = tables(page)["Tuned settings"]
    expected = ["xor", "data, cosine (0.25, 0.5)", "csbp", "0.4", "30", "1200", "z, epochs"]
    assert list(line.values()) == expected


def test_the_page_says_what_cannot_be_integrated(written):
    found, page = written
    lines = tables(page)
    title = "Experiment 3: the membrane form as it is, less the same by the most sub-steps"
    entries = {line["task"]: line["100 x the tuned z"] for line in lines[title]}
    assert "4 sub-steps, cannot be integrated;" in entries["digits_3"]
    (row,) = secondary(
        found,
        experiment="3",
        task="digits_1",
        point="100",
        second="4 sub-steps",
        measure="accuracy",
    )
    accuracies = f"accuracy {row['mean_of_first']:.1f} and {row['mean_of_second']:.1f}"
    assert entries["digits_1"].endswith(
        f"4 sub-steps, 4 are enough; {accuracies}, spikes 25.0 and 25.0"
    )


def test_the_page_shows_the_membrane_form_at_large_strengths_less_the_pull(written):
    found, page = written
    lines = {
        line["task"]: line
        for line in tables(page)["The same, less the quadratic pull as tuned for itself"]
    }
    for times in (10, 100):
        (row,) = secondary(
            found, experiment="3", task="xor", point=f"{times}", second="quadratic_membrane"
        )
        assert lines["xor"][f"{times} x the tuned z"] == shown(row, 1)


def test_missing_cells_are_named_and_stop_nothing(some, study):
    (some / "experiment_2" / "xor" / "data_constant" / "bp.json").unlink()
    found, page = run(some)
    expected = [path for path in expected_cells() if not (some / f"{path}.json").exists()]
    assert found["missing"] == expected
    assert "* experiment_2/xor/data_constant: bp\n" in page
    lines = {(line["experiment"], line["task"]): line for line in tables(page)["Primary contrasts"]}
    assert lines["2", "xor"]["verdict"] == "unfinished"
    assert lines["3", "xor"]["verdict"] == "**equivalent**"


def test_without_any_cell_all_is_unfinished(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    found, page = run(folder)
    assert found["missing"] == expected_cells()
    assert found["primary"] == found["secondary"] == []
    assert {line["verdict"] for line in tables(page)["Primary contrasts"]} == {"unfinished"}


def test_a_family_keeps_its_size_whatever_is_missing(some):
    """A p value of .03 is no difference among three contrasts, of which two are missing."""
    folder = some / "experiment_1" / "xor"
    cell = json.loads((folder / "inside_20-20_2.0.json").read_text())
    means = np.array([4.0, 9.0, 2.0, 16.0, -3.0, 8.0, 13.0, 1.0])
    p = stats.ttest_1samp(means, 0).pvalue
    assert 0.05 / 3 < p < 0.05
    per_split = len(cell["splits"]) // 8
    cell["rules"]["inner flow"]["accuracy"] = [0.5] * len(cell["splits"])
    cell["rules"]["csbp"]["accuracy"] = (0.5 + means.repeat(per_split) / 100).tolist()
    (folder / "inside_20-20_2.0.json").write_text(json.dumps(cell))
    found, _ = run(some)
    (row,) = [row for row in found["primary"] if row["experiment"] == "1"]
    assert row["p_difference"] == pytest.approx(p, abs=1e-6)
    assert row["verdict"] == "cannot tell"


@pytest.mark.parametrize("text", ["0123456789abcdef", "not recorded"])
def test_cells_of_an_unknown_protocol_are_named(some, text):
    path = "experiment_3/xor/times_1"
    file = some / f"{path}.json"
    cell = json.loads(file.read_text())
    cell["provenance"]["protocol"] = text
    file.write_text(json.dumps(cell))
    found, page = run(some)
    assert found["protocols"][text] == [path]
    assert found["provenance"]["protocol"] == digest()
    opening, *_, last = page.split("\n## ")
    words = " ".join(opening.split())
    assert "1 ran under a text of the protocol that is not known." in words
    assert "without" not in words
    assert path not in opening
    assert f"* Unknown text of the protocol, SHA-256 {text[:12]} (1): {path}.\n" in last


def test_an_earlier_protocol_is_this_one_without_what_the_opening_says(some):
    """The texts are made from the one in force, and known by their SHA-256."""
    text = PROTOCOL.read_text()
    without_notes = text[: text.index("\nAdded when experiment 1 ran")]
    without_two = text[: text.index("\nAdded when all primary contrasts")]
    without_the_last = text[: text.index("\nAdded when all cells but the last dozen")]
    start = without_notes.index("## Experiment 4")
    end = without_notes.index("## Robustness")
    lacking = {
        without_notes: "the later notes of its last section",
        without_notes[:start] + without_notes[end:]: (
            "experiment 4 and the later notes of its last section"
        ),
        without_two: "the last two notes of its last section",
        without_the_last: "the last note of its last section",
    }
    names = ("times_1", "times_10", "times_100", "quadratic_membrane")
    for name, earlier in zip(names, lacking, strict=True):
        file = some / "experiment_3" / "xor" / f"{name}.json"
        cell = json.loads(file.read_text())
        cell["provenance"]["protocol"] = hashlib.sha256(earlier.encode()).hexdigest()
        file.write_text(json.dumps(cell))
    _, page = run(some)
    words = " ".join(page.split("\n## ")[0].split())
    for said in lacking.values():
        earlier = "1 ran under an earlier text of the protocol, which is this one without"
        assert f"{earlier} {said}." in words


@pytest.mark.parametrize(
    "page", ["README.md", "study/RESULTS.md", "notebooks/08_does_chaos_help.ipynb"]
)
def test_when_the_protocol_was_fixed_is_said_in_one_wording(page):
    assert WHEN_IT_WAS_FIXED in " ".join((ROOT / page).read_text().split())


def test_where_all_splits_agree_there_is_neither_an_interval_nor_a_smallest_difference(images):
    for split in range(1, 9):
        for arm, accuracy in (("bp", 0.5), ("csbp", 0.625)):
            change(images / "experiment_4" / arm / f"split_{split}.json", accuracy=[accuracy] * 3)
    _, page = run(images)
    (line,) = [line for line in tables(page)["Primary contrasts"] if line["experiment"] == "4"]
    assert line["estimate and 95 % interval"] == "+12.50 (all splits agree)"
    assert line["smallest found with 80 % power"] == ""


def test_the_opening_says_how_many_cells_there_are(study, written, some):
    _, page = written
    whole = " ".join(page.split())
    assert f"All {len(expected_cells())} cells (a cell is a task at one setting, " in whole
    assert "All that are there ran under the protocol as it is now." in whole
    (some / "experiment_3" / "xor" / "times_10.json").unlink()
    found, page = run(some)
    words = " ".join(page.split("\n## ")[0].split())
    there = len(expected_cells()) - len(found["missing"])
    assert f"Of {len(expected_cells())} cells (a cell is a task at one setting, " in words
    # There are those of xor alone, one contrast in each of experiments 1 to 3.
    assert f"has {there} so far, with 13 of the 16 primary contrasts waiting" in words


def test_the_page_rounds_as_all_do_who_read_the_json(images):
    """The mean is half-way between two roundings, but for the last bit of the accuracies."""
    for split in range(1, 9):
        change(images / "experiment_4" / "bp" / f"split_{split}.json", accuracy=[0.9] * 3)
        csbp = 0.9 - 0.00195 + 1e-14 + (-1) ** split * 1e-4
        change(images / "experiment_4" / "csbp" / f"split_{split}.json", accuracy=[csbp] * 3)
    found, page = run(images)
    row = primary(found, "4", "fashion_mnist")
    assert row["estimate"] == -0.195
    (line,) = [line for line in tables(page)["Primary contrasts"] if line["experiment"] == "4"]
    assert (
        line["estimate and 95 % interval"]
        == shown(row, 2)
        == f"{MINUS}0.20 [{MINUS}0.20, {MINUS}0.19]"
    )


def refusal(folder, capsys):
    with pytest.raises(SystemExit) as error:
        run(folder)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_a_cell_of_other_networks_is_refused_in_one_line(some, capsys):
    file = some / "experiment_3" / "xor" / "times_1.json"
    cell = json.loads(file.read_text())
    file.write_text(json.dumps(cell | {"splits": [1, 2, 3]}))
    must = f"cell = {file}: must be of the final networks of xor, and differs in splits"
    assert refusal(some, capsys) == f"study.findings: {must}\n"


def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path, capsys):
    folder = tmp_path / "nowhere" / "results"
    folder.parent.mkdir()
    must = f"folder = {folder}: must be a folder of cells"
    assert refusal(folder, capsys) == f"study.findings: {must}\n"


def test_every_task_has_its_cells_in_every_experiment():
    paths = expected_cells()
    numbers = [3 * (51 + 1), 6 * (4 * 5 + 1), 6 * (1 + 3), 6 * 8]
    assert len(paths) == len(set(paths)) == sum(numbers)
    assert {path.split("/")[1] for path in paths} == {*TASKS, *ARMS_ON_IMAGES}


# Experiment 4


@pytest.fixture
def images(study, tmp_path):
    """A copy of which cells can be changed: those of experiment 4 alone."""
    folder = tmp_path / "images" / "results"
    shutil.copytree(study / "experiment_4", folder / "experiment_4")
    return folder


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


PAIRS_ON_IMAGES = [
    ("csbp", "bp"),
    ("quadratic", "bp"),
    ("bp_data", "bp"),
    ("csbp", "quadratic"),
    ("csbp", "bp_data"),
    ("fc1_csbp", "fc1_inner_flow"),
]
MEASURES_ON_IMAGES = {
    "accuracy": accuracy,
    "dead 1": lambda cell: cell["dead"][0],
    "dead 2": lambda cell: cell["dead"][1],
    "rate 2": lambda cell: cell["rate"][1],
    "weights 0.2": lambda cell: cell["robustness"]["weights"][2],
    "inputs 0.1 - none": lambda cell: np.subtract(cell["robustness"]["inputs"][0], accuracy(cell)),
}


@pytest.mark.parametrize("measure", MEASURES_ON_IMAGES)
@pytest.mark.parametrize(("first", "second"), PAIRS_ON_IMAGES)
def test_contrasts_on_images_are_those_of_scipy(found, study, first, second, measure):
    (row,) = secondary(found, experiment="4", first=first, second=second, measure=measure)
    sides = [on_images(study, arm, MEASURES_ON_IMAGES[measure]) for arm in (first, second)]
    means = 100 * np.subtract(*sides).reshape(8, -1).mean(1)
    interval = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval), abs=1e-6)
    assert (row["task"], row["verdict"], row["below_floor"]) == ("fashion_mnist", None, None)


def test_the_primary_contrast_on_images_is_corrected_for_nothing(images):
    means = np.array([4.0, 9.0, 2.0, 16.0, -3.0, 8.0, 13.0, 1.0]) / 10
    p = stats.ttest_1samp(means, 0).pvalue
    assert 0.05 / 2 < p < 0.05
    for split, mean in enumerate(means, start=1):
        folder = images / "experiment_4"
        change(folder / "bp" / f"split_{split}.json", accuracy=[0.9] * 3)
        change(folder / "csbp" / f"split_{split}.json", accuracy=[0.9 + mean / 100] * 3)
    found, _ = run(images)
    row = primary(found, "4", "fashion_mnist")
    assert row["p_difference"] == pytest.approx(p, abs=1e-6)
    assert row["verdict"] == "helps"


def test_an_arm_without_one_of_its_splits_has_no_contrasts(images):
    (images / "experiment_4" / "csbp" / "split_5.json").unlink()
    found, page = run(images)
    assert "experiment_4/csbp/split_5" in found["missing"]
    assert "* experiment_4/csbp: split_5\n" in page
    assert found["primary"] == []
    assert {row["first"] for row in found["secondary"]} == {"quadratic", "bp_data", "fc1_csbp"}
    assert "csbp" not in {arm["arm"] for arm in found["arms_on_images"]}


def test_the_page_shows_all_contrasts_on_images_of_the_json(written):
    found, page = written
    on_page = tables(page)
    here = {
        line["contrast"]: line
        for line in on_page["Experiment 4: a real data set and the authors' recipe"]
    }
    noisy = {line["noise"]: line for line in on_page["fashion_mnist"]}
    columns = {"dead 1": "dead, first layer", "dead 2": "dead, second layer"}
    columns |= {"rate 1": "spikes, first layer", "rate 2": "spikes, second layer"}
    columns |= {"accuracy": "accuracy"}
    rows = secondary(found, experiment="4")
    assert len(rows) == len(PAIRS_ON_IMAGES) * (5 + 2 * 6)
    for row in rows:
        sides = less(row["first"], row["second"])
        measure = row["measure"]
        if measure in columns:
            is_activity = measure != "accuracy"
            assert here[sides][columns[measure]] == shown(row, 1 if is_activity else 2)
        else:
            assert noisy[on_page_as(measure)][sides] == shown(row, 2)


def test_z_over_critical_z_of_fc1_is_that_of_the_strength_in_the_first_and_last_epoch(found, study):
    """z falls from 15 geometrically, and would be .15 after 15 epochs."""
    arms = {arm["arm"]: arm for arm in found["arms_on_images"]}
    start, end = (
        on_images(study, "csbp", lambda cell, name=name: cell[name]["critical_z"])
        for name in ("fc1_start", "fc1_end")
    )
    csbp = arms["csbp"]
    assert csbp["critical_z_start"] == pytest.approx(start.mean())
    assert csbp["over_critical_start"] == pytest.approx(np.mean(15 / start))
    assert csbp["over_critical_end"] == pytest.approx(np.mean(15 * 0.01 ** (14 / 15) / end))
    shares = on_images(study, "csbp", lambda cell: cell["gradient_share"][-1])
    assert csbp["gradient_share_end"] == pytest.approx(100 * shares.mean())
    for name in ("bp", "quadratic", "bp_data"):
        assert arms[name]["over_critical_start"] is None
        assert arms[name]["gradient_share_end"] is None


def test_the_arms_on_fc1_alone_start_at_its_critical_z_and_end_where_csbp_does(found, study):
    """Theirs is that of their own I0, .525, and cells record that of .65."""
    arm = {arm["arm"]: arm for arm in found["arms_on_images"]}["fc1_inner_flow"]
    recorded, end = (
        on_images(study, "fc1_inner_flow", lambda cell, name=name: cell[name]["critical_z"])
        for name in ("fc1_start", "fc1_end")
    )
    curvature = {I0: I0 * (1 - I0) for I0 in (0.525, 0.65)}
    times = curvature[0.65] / curvature[0.525]
    start = times * recorded
    assert arm["critical_z_start"] == pytest.approx(start.mean())
    assert arm["over_critical_start"] == 1
    last = start * (0.15 / start) ** (14 / 15)
    assert arm["over_critical_end"] == pytest.approx(np.mean(last / (times * end)))


def test_critical_z_goes_from_one_target_to_another_as_the_library_has_it():
    published, inner = (
        critical_z(7.0, 0.1, 0.9, I0, 10.0, "mean", 640, weight_decay=5e-4) for I0 in (0.65, 0.525)
    )
    assert pytest.approx(inner / published) == TIMES_FOR_INNER


def test_the_page_shows_what_the_arms_on_images_came_to(written):
    found, page = written
    lines = tables(page)["The arms, and z / z_c of fc1"]
    assert [line["arm"] for line in lines] == [
        f"{arm} (0.25, 0.5)" if arm == "bp_data" else arm for arm in ARMS_ON_IMAGES
    ]
    digits = {"accuracy": 2, "at_chance": 0, "critical_z_start": 2, "critical_z_end": 2}
    digits |= {"over_critical_start": 3, "over_critical_end": 3}
    digits |= {"gradient_share_start": 1, "gradient_share_end": 1}
    for line, arm in zip(lines, found["arms_on_images"], strict=True):
        expected = [
            "" if arm[name] is None else f"{arm[name]:.{places}f}"
            for name, places in digits.items()
        ]
        assert list(line.values())[1:] == expected


def test_networks_of_an_arm_that_do_no_better_than_a_guess_are_counted(images):
    change(images / "experiment_4" / "fc1_csbp" / "split_2.json", accuracy=[0.1])
    change(images / "experiment_4" / "fc1_csbp" / "split_5.json", accuracy=[0.0937])
    change(images / "experiment_4" / "fc1_csbp" / "split_7.json", accuracy=[0.111])
    found, page = run(images)
    counts = {arm["arm"]: arm["at_chance"] for arm in found["arms_on_images"]}
    assert (counts["fc1_csbp"], counts["bp"]) == (2, 0)
    lines = {line["arm"]: line for line in tables(page)["The arms, and z / z_c of fc1"]}
    assert lines["fc1_csbp"]["at chance"] == "2"


def test_a_critical_z_that_is_not_finite_is_said_to_be_so(images):
    change(images / "experiment_4" / "bp" / "split_2.json", fc1_end={"critical_z": [None, 1, 2]})
    found, page = run(images)
    assert found["arms_on_images"][0]["critical_z_end"] is None
    assert tables(page)["The arms, and z / z_c of fc1"][0]["z_c at the end"] == "not finite"


@pytest.mark.parametrize(
    ("entries", "wrong"),
    [
        ({"images": 60_000, "channels": [64, 128]}, "images, channels"),
        ({"arm": "csbp"}, "arm"),
        ({"seeds": [1006], "splits": [3]}, "seeds, splits"),
    ],
)
def test_another_cell_on_images_is_refused_in_one_line(images, capsys, entries, wrong):
    file = images / "experiment_4" / "quadratic" / "split_3.json"
    change(file, **entries)
    must = f"cell = {file}: must be of the final networks of quadratic, and differs in {wrong}"
    assert refusal(images, capsys) == f"study.findings: {must}\n"


def test_networks_that_start_from_the_images_in_different_ways_are_refused(images, capsys):
    change(images / "experiment_4" / "bp_data" / "split_8.json", start_from_data=[0.0, 1.0])
    said = refusal(images, capsys)
    assert said.startswith(f"study.findings: start_from_data in {images}: must be the same")
    assert said.count("\n") == 1


# What stands beside the primary contrasts of experiment 1


@pytest.mark.parametrize("annealing", ANNEALINGS)
@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0])
def test_epochs_above_critical_z_are_those_of_the_training(annealing, ratio):
    limits = [3.0, 700.0, 0.02]
    z_tuned = 5.0  # the last one's z is below its end, and stays
    falls, trains, holds = ANNEALINGS[annealing]
    z_start = [ratio * limit for limit in limits]
    z = FallingZ(z_start, end=z_tuned / 100, annealing=20 * falls, holds=20 * holds)
    expected = np.zeros(3)
    for epoch in range(20 * trains):
        expected += z.at(epoch).numpy() >= limits
    cell = {"task": "xor", "annealing": annealing, "ratio": ratio, "z_start": z_start}
    found = epochs_above_critical(cell | {"z_tuned": z_tuned})
    np.testing.assert_array_equal(found, expected)


def test_the_page_shows_how_long_z_was_above_critical_z(written):
    found, page = written
    lines = {
        line["rest and annealing"]: line
        for line in tables(page)["Experiment 1: epochs with z at z_c or above"]
    }
    assert len(found["above_critical"]) == 3 * (2 * 4 + 1) * 3  # tasks, conditions, ratios
    for place in found["above_critical"]:
        entry = lines[f"{place['rest']}, {place['annealing']}"][
            f"{place['task']}, {place['ratio']:g}"
        ]
        numbers = dict.fromkeys([place["fewest"], place["most"]])
        assert entry == " to ".join(str(number) for number in numbers)
    assert {place["fewest"] < place["most"] for place in found["above_critical"]} == {True, False}


def test_rules_have_the_means_of_their_networks(found, study):
    assert [(rule["task"], rule["rule"]) for rule in found["rules"]] == [
        (task, rule) for task in ("digits_1", "randman_1", "xor") for rule in RULES
    ]
    for rule in found["rules"]:
        trained = read(study, "1", rule["task"], "inside_20-20_2.0", rule["rule"])
        for measure in ("accuracy", "rate", "zero_surrogate", "dead"):
            assert rule[measure] == pytest.approx(100 * np.mean(trained[measure]))
        assert rule["curve"] == pytest.approx(100 * np.array(trained["curve"]))


def test_the_page_shows_the_rules_of_the_json(written):
    """A made curve has 40 validations, two in a twentieth of the epochs."""
    found, page = written
    on_page = tables(page)
    for rule in found["rules"]:
        lines = {line["rule"]: line for line in on_page[rule["task"]]}
        accuracies = [rule["curve"][place] for place in (1, 9, 19, 39)] + [rule["accuracy"]]
        others = [rule["rate"], rule["zero_surrogate"], rule["dead"]]
        expected = [f"{value:.{places(rule['task'])}f}" for value in accuracies]
        expected += [f"{value:.1f}" for value in others]
        assert list(lines[rule["rule"]].values())[1:] == expected


def test_cells_of_changed_code_are_not_counted_to_its_commit():
    cells = {
        "clean": {"provenance": {"commit": "abc", "dirty": False}},
        "changed": {"provenance": {"commit": "abc", "dirty": True}},
    }
    assert by_provenance(cells, "commit") == {"abc": ["clean"], "abc, changed": ["changed"]}


# What is read again


def test_the_json_is_read_as_what_it_was_made_from(written, tmp_path):
    found, page = written
    file = tmp_path / "contrasts.json"
    file.write_text(json.dumps(found))
    again = read_findings(file)
    assert for_json(again) == {name: found[name] for name in found if name != "provenance"}
    assert results_page.page(again) == page


def test_the_committed_page_is_that_of_the_committed_json():
    found = read_findings(ROOT / "study" / "contrasts.json")
    assert (ROOT / "study" / "RESULTS.md").read_text() == results_page.page(found)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"noise_floor": [{"task": "xor"}]}'])
def test_another_file_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "contrasts.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"^contrasts = .*contrasts.json: must be the JSON .*$"):
        read_findings(file)


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^contrasts = .*nothing.json: must be .*No such file"):
        read_findings(tmp_path / "nothing.json")


def test_hours_are_those_of_all_cells_and_choices(found):
    """Every made cell took 36 seconds of a core; nothing was tuned."""
    cells = {f"experiment_{number}": 0 for number in range(1, 5)}
    for path in expected_cells():
        cells[path.split("/")[0]] += 1
    assert found["hours"] == pytest.approx({name: count / 100 for name, count in cells.items()})


def test_the_tuned_strength_over_critical_z_is_that_of_the_published_rest_point(found):
    """z_c of a split is 100 times 5 to its number, at I0 = .525; it goes as 1 / (I0 (1 - I0))."""
    published = [100 * 5.0**split * 0.525 * 0.475 / (0.65 * 0.35) for split in range(1, 9)]
    for task in found["tuned"]:
        assert task["z"] == 3
        assert task["smallest"] == pytest.approx(3 / published[-1])
        assert task["largest"] == pytest.approx(3 / published[0])
    assert [task["task"] for task in found["tuned"]] == ["digits_1", "randman_1", "xor"]
