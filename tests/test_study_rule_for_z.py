"""Reports, warnings and rules for z, against autograd and cells whose answer is known."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from csbp_core import chaotic_loss
from csbp_notebooks.files import ROOT
from study.experiments.tuning import Conditions, best_of, validation_curves
from study.protocol import IMAGES, digest
from study.rule_for_z import comparison, on_a_task, reports
from study.rule_for_z.comparison import RULES, accuracy_at, compare
from study.rule_for_z.on_a_task import (
    SHARES,
    Setting,
    Strength,
    Subject,
    after_warning,
    ladder,
    main,
    restart,
    run_cell,
)
from study.rule_for_z.reports import (
    PROBE,
    SIGNS,
    Course,
    Report,
    first_epochs,
    first_shares,
    follow,
    report_on,
    signs_of,
    z_for,
)
from study.tasks.tasks import TASKS, new_net
from study.training.arms import Candidate
from study.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = [20_000, 20_001]
CSBP = Conditions("csbp")


def training(name, z, lr=0.2, epochs=20):
    return Training(TASKS[name], "csbp", SEEDS, lr, z, epochs, splits=[9, 10])


def shares_by_autograd(run, state, n):
    """Every layer's share on the batch of step n, `[networks, layers]`."""
    x, y = run.batch(n)
    z = run.z * run.beta ** (n // run.steps)
    rows = []
    for place in range(len(run.seeds)):
        net = run.task.net()
        net.load_state_dict(
            {name: part[place] for name, part in zip(run.names, state, strict=False)}
        )
        logits, layers = net(net.time_first(x[place]))
        chaos = [chaotic_loss(layer.current, float(z[place])) for layer in layers]
        total = F.cross_entropy(logits, y[place]) + sum(chaos)
        row = []
        for layer, own in zip(layers, chaos, strict=True):
            (all_of_it,) = torch.autograd.grad(total, layer.current, retain_graph=True)
            (chaotic,) = torch.autograd.grad(own, layer.current, retain_graph=True)
            c = chaotic.norm()
            row.append(float(c / (c + (all_of_it - chaotic).norm())))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("name", ["digits_3", "randman_1"])
def test_the_first_two_reports_are_those_of_the_studys_own_training(name):
    run = training(name, z=[2.0, 20.0])
    found = first_shares(run)
    state = run.start()
    torch.testing.assert_close(found[0], shares_by_autograd(run, state, 0), rtol=1e-3, atol=0)
    for n in range(20):
        state = [part.detach() for part in run.step(state, n)]
    known = shares_by_autograd(run, state, 20)
    torch.testing.assert_close(found[1], known, rtol=2e-2, atol=0)


def test_at_the_z_of_a_share_the_first_report_has_it():
    run = training("digits_1", PROBE)
    zs = z_for(0.1, first_shares(run)[0, :, 0])
    assert zs.min() > 2 * PROBE
    found = first_shares(training("digits_1", zs.tolist()))
    assert found[0, :, 0].tolist() == pytest.approx([0.1, 0.1], rel=1e-3)


def test_a_report_in_the_course_of_a_training_is_of_its_weights_and_its_z():
    run = training("digits_1", z=[1.0, 30.0], epochs=2)
    state = run.start()
    for n in range(2 * run.steps):
        state = [part.detach() for part in run.step(state, n)]
    last = 2 * run.steps - 1
    net = new_net(run.task, 0)
    reports = [report_on(net, run, state, place, last) for place in range(2)]
    known = shares_by_autograd(run, state, last)[:, 0]
    assert [report.share for report in reports] == pytest.approx(known.tolist(), rel=1e-3)

    x, _ = run.batch(last)
    current = run.forward(state[: len(run.names)], x).layers[0].current.detach().numpy()
    mean_s = (1 / (1 + np.exp(-current / 10))).reshape(2, -1).mean(1)
    distances = [report.distance for report in reports]
    assert distances == pytest.approx(abs(mean_s - 0.65) / 0.15, rel=1e-4)


def test_a_far_too_large_z_shows_both_signs_and_a_small_one_none():
    run = training("xor", z=[1e-3, 1e4], lr=0.1, epochs=60)
    course = follow(run)
    assert course.first["share"].tolist() == pytest.approx([math.nan, 10], nan_ok=True)
    assert math.isnan(course.first["arrived"][0])
    assert 10 <= course.first["arrived"][1] <= 60
    assert course.warned.tolist() == [math.inf, 10]
    assert course.shares.shape == course.distances.shape == course.curve.shape == (6, 2)


def test_reading_reports_leaves_the_training_as_it_is():
    course = follow(training("xor", z=[1.0, 1e4], epochs=60))
    _, curve = training("xor", z=[1.0, 1e4], epochs=60).train()
    assert torch.equal(course.curve, curve)


def test_z_is_divided_after_a_warning_for_that_network_alone(monkeypatch):
    def second_is_warned_once(net, run, state, place, n):
        return Report(0.5, 0.5, {"share"} if (place, n) == (1, 19) else set())

    monkeypatch.setattr(reports, "report_on", second_is_warned_once)
    short = {"lr": 0.4, "epochs": 60}
    course = follow(training("xor", z=[5.0, 5.0], **short), divides=True)
    run = training("xor", z=[5.0, 5.0], **short)
    divided = training("xor", z=[5.0, 5.0 / 3], **short)
    state = run.start()
    for n in range(60):
        state = (run if n < 20 else divided).step(state, n)
    torch.testing.assert_close(course.curve[-1], run.validate(state)["accuracy"])
    assert course.first["share"].tolist() == pytest.approx([math.nan, 20], nan_ok=True)

    trained = []

    def nobody_is_warned(net, run, state, place, n):
        trained.append(run.z.tolist())
        return Report(0, 0, set())

    monkeypatch.setattr(reports, "report_on", nobody_is_warned)
    follow(training("xor", z=[5.0, 5.0], **short), divides=True)
    assert trained == [[5.0, 5.0]] * 12


@pytest.mark.parametrize(
    ("share", "mean_s", "signs"),
    [
        (0.79, 0.5, set()),
        (0.81, 0.5, {"share"}),
        (None, 0.5, set()),
        (0.1, 0.634, set()),  # 9/10 of the way from 1/2 to 0.65 is at 0.635
        (0.1, 0.636, {"arrived"}),
        (0.1, 0.664, {"arrived"}),
        (0.1, 0.666, set()),
        (0.81, 0.65, {"share", "arrived"}),
    ],
)
def test_a_sign_is_shown_beyond_its_limit_by_some_layer(share, mean_s, signs):
    quiet = {"gradient_share": 0.0, "mean_s": 0.5, "I0": 0.65}
    layer = {"gradient_share": share, "mean_s": mean_s, "I0": 0.65}
    assert signs_of({"quiet": quiet, "layer": layer}) == signs


def test_the_first_epoch_of_a_sign_is_that_of_its_first_report():
    none, share, both = (Report(0.5, 0.5, signs) for signs in (set(), {"share"}, set(SIGNS)))
    read = [[none, none], [share, none], [both, none]]
    assert first_epochs("share", read, 10).tolist() == pytest.approx([20, math.nan], nan_ok=True)
    assert first_epochs("arrived", read, 10).tolist() == pytest.approx([30, math.nan], nan_ok=True)


def course(accuracies, warned):
    """One with level curves."""
    curve = torch.tensor(accuracies, dtype=torch.float64).expand(6, -1)
    never = torch.full((len(accuracies),), torch.nan)
    return Course(curve, curve, curve, {"share": torch.tensor(warned), "arrived": never})


@pytest.fixture
def subject():
    return Subject(TASKS["digits_1"], Setting(CSBP, 0.2, 0.2, 1.0), 0.0, networks=3)


def test_a_network_is_begun_again_until_it_has_no_warning(monkeypatch, subject):
    limits = [100.0, 20.0, 1.0]  # each network is warned at this z and above

    def known(subject, zs):
        return [course([z] * 3, [1.0 if z >= limit else math.nan for limit in limits]) for z in zs]

    monkeypatch.setattr(on_a_task, "courses", known)
    found = restart(subject, 81.0, *known(subject, [81.0]))
    assert found.restarts.tolist() == [0, 2, 5]  # the third would be at 81 / 3**4, and is not below
    assert found.curve[-1].tolist() == pytest.approx([81, 9, 1 / 3])


def test_only_networks_that_were_warned_count_after_a_warning(subject):
    warned = torch.tensor([3.0, torch.inf, 1.0])
    level = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64).expand(6, -1)
    found = after_warning(subject, warned, {"go on": level, "restart": level + 0.1})
    assert found["warned"] == [3.0, None, 1.0]
    assert found["ways"]["go on"]["accuracies"] == pytest.approx([0.2, 0.4])
    assert found["ways"]["restart"]["accuracy"] == pytest.approx(0.4)
    assert found["ways"]["restart"]["last"] == pytest.approx(0.4)


def test_without_a_warning_there_is_nothing_to_compare(subject):
    found = after_warning(subject, torch.full((3,), torch.inf), {"go on": torch.ones(6, 3)})
    assert found == {"warned": [None] * 3, "ways": {}}


def test_the_ladder_has_the_median_z_of_every_share():
    odds = np.array([0.01, 0.02, 0.04, 0.05])  # of four networks, in their stiffest layer
    shares = torch.from_numpy(odds / (1 + odds))
    layers = torch.stack([shares / 2, shares], dim=1)
    found = ladder(torch.stack([layers, layers / 2]), {"authors": 15.0, "tuned": 7.0})
    by_share = [each for each in found if each.name == "share"]
    known = [np.median(PROBE * share / (1 - share) / odds) for share in SHARES]
    assert [each.z for each in by_share] == pytest.approx(known)
    assert [each.share for each in by_share] == list(SHARES)
    assert found[-2:] == [
        Strength("authors", 15.0, pytest.approx(0.45 / 1.45)),  # .03 is the median of the odds
        Strength("tuned", 7.0, pytest.approx(0.21 / 1.21)),
    ]


# Rules, on cells whose accuracy is known at every z

ODDS = {"digits_1": 0.01, "digits_3": 0.03, "randman_1": 0.1, "xor": 0.3}  # at z = 1


def planted(best_z, odds=ODDS):
    """Cells in which accuracy falls with the distance of log z from the best."""
    cells = []
    for name, of_task in odds.items():
        share = of_task / (1 + of_task)
        best = best_z(of_task)
        zs = np.geomspace(best / 100, best * 100, 41)
        accuracies = 0.9 - 0.01 * abs(np.log10(zs / best))
        trained = [
            {"lr": lr, "z": z, "accuracy": accuracy}
            for lr in (0.1, 0.2)
            for z, accuracy in zip(zs.tolist(), accuracies.tolist(), strict=True)
        ]
        trained += [{"lr": lr, "z": None, "accuracy": 0.85} for lr in (0.1, 0.2)]
        cells.append(
            {
                "task": name,
                "bp_lr": 0.1,
                "csbp_lr": 0.2,
                "z_tuned": best,
                "first_reports": [[[share / 2, share]] * 3, [[share / 4, share / 2]] * 3],
                "trainings": trained,
            }
        )
    return cells


def test_a_rule_by_the_share_is_found_where_it_holds():
    found = compare(planted(best_z=lambda odds: 0.05 / odds))["csbp_lr"]
    share = found["rules"]["largest share"]
    assert share["value"] == pytest.approx(0.05 / 1.05, rel=0.15)  # of a grid
    assert share["left_out"] < found["rules"]["z"]["left_out"] / 5
    for task in share["tasks"].values():
        assert 0 <= task["loss"] < 0.1


def test_readmes_rule_begins_at_a_twentieth_and_the_one_before_at_a_tenth():
    rules = compare(planted(best_z=lambda odds: 0.05 / odds))["bp_lr"]["rules"]
    for name, odds in ODDS.items():
        assert rules["README"]["tasks"][name]["z"] == pytest.approx((1 / 19) / odds)
        assert rules["tenth"]["tasks"][name]["z"] == pytest.approx((1 / 9) / odds)


def test_accuracy_between_trainings_is_read_linearly_in_the_logarithm_of_z():
    (cell,) = planted(lambda odds: 1.0, {"xor": 0.3})
    at_ends = [{"z": 1.0, "accuracy": 0.9}, {"z": 100.0, "accuracy": 0.5}]
    cell["trainings"] = [{"lr": 0.1, **each} for each in at_ends]
    cell["trainings"] += [{"lr": 0.1, "z": None, "accuracy": 0.1}, {"lr": 0.2, **at_ends[1]}]
    found = [accuracy_at(cell, 0.1, z) for z in (0.1, 1.0, 10.0, 100.0, 1e3)]
    assert found == pytest.approx([0.9, 0.9, 0.7, 0.5, 0.5])
    assert accuracy_at(cell, 0.2, 10.0) == 0.5


def test_a_rule_by_z_itself_is_found_where_it_holds():
    found = compare(planted(best_z=lambda odds: 4.0))["bp_lr"]
    assert found["rules"]["z"]["value"] == pytest.approx(4.0, rel=0.2)
    assert found["rules"]["z"]["left_out"] < found["rules"]["largest share"]["left_out"] / 5


def test_points_are_lost_to_the_tuned_z():
    found = compare(planted(best_z=lambda odds: 1.5))["bp_lr"]
    assert list(found["without"].values()) == pytest.approx([5.0] * 4)
    assert list(found["best_of_ladder"].values()) == pytest.approx([0.0] * 4)
    for task in found["rules"]["authors"]["tasks"].values():
        assert task["z"] == 15.0
        assert task["loss"] == pytest.approx(1.0, abs=1e-6)  # a factor of ten


def test_a_task_that_is_left_out_has_no_part_in_the_choice():
    cells = planted(best_z=lambda odds: 4.0)
    other = planted(best_z=lambda odds: 400.0)
    cells[0] = other[0]
    found = compare(cells)["bp_lr"]["rules"]["z"]
    assert found["tasks"]["digits_1"]["left_out"]["value"] == pytest.approx(4.0, rel=0.2)
    assert found["tasks"]["digits_1"]["left_out"]["loss"] == pytest.approx(2.0, abs=0.1)


def test_losses_are_weighed_by_the_margins():
    cells = planted(best_z=lambda odds: 40.0 if odds == ODDS["xor"] else 4.0)
    pair = [cell for cell in cells if cell["task"] in ("digits_1", "xor")]
    # margins of .3 and 10 points: what digits_1 loses counts for more
    assert compare(pair)["bp_lr"]["rules"]["z"]["value"] == pytest.approx(4.0, rel=0.2)


def test_every_rule_that_reads_a_share_gives_the_z_that_has_it():
    (cell,) = planted(lambda odds: 1.0, {"digits_1": 0.25})  # shares .2 and .1, then half of them
    assert RULES["largest share"].z(cell, 0.2) == pytest.approx(1.0)
    assert RULES["smallest share"].z(cell, 0.1) == pytest.approx(1.0)
    assert RULES["mean share"].z(cell, 0.15) == pytest.approx(1.0)
    assert RULES["largest share at call 21"].z(cell, 0.1) == pytest.approx(1.0)
    assert RULES["README"].z(cell, 0.1) == pytest.approx((1 / 9) / 0.25)


@pytest.mark.parametrize("cells", [["xor"], ["xor", "xor"]])
def test_the_comparison_needs_two_tasks(cells):
    odds = planted(lambda odds: 1.0, {"xor": 0.3})
    with pytest.raises(ValueError, match=r"cells = xor(, xor)?: must be of at least two tasks"):
        compare(odds * len(cells))


# The commands


def choice(path, arm, **others):
    record = {"task": "xor", "arm": arm, "start_from_data": None, "schedule": "constant"}
    record |= {"lr": 0.2, "z": 1.0, "epochs": 40, **others}
    path.write_text(json.dumps(record))
    return str(path)


@pytest.fixture
def short(monkeypatch):
    """A twentieth of the training, few networks, short ladder."""
    task = TASKS["xor"]._replace(epochs=20)
    monkeypatch.setattr(on_a_task, "TASKS", {"xor": task})
    monkeypatch.setattr(on_a_task, "NETWORKS_TO_SOLVE", 3)
    monkeypatch.setattr(on_a_task, "WATCHED", 2)
    monkeypatch.setattr(on_a_task, "SHARES", (0.1, 0.9))
    return task


def test_the_command_measures_and_trains_a_task(short, tmp_path):
    out = tmp_path / "cell.json"
    bp = choice(tmp_path / "bp.json", "bp")
    csbp = choice(tmp_path / "csbp.json", "csbp", lr=0.4)
    main(["xor", "--bp", bp, "--csbp", csbp, "--out", str(out)])
    cell = json.loads(out.read_text())
    assert cell["provenance"]["protocol"] == digest()
    assert np.shape(cell["first_reports"]) == (2, 3, 1)
    assert cell["rule"][0]["median"] == pytest.approx(np.median(cell["rule"][0]["z"]))
    assert [each["name"] for each in cell["shares_at"]] == ["share", "authors", "tuned"]
    for each in cell["shares_at"]:  # as expected from the share at another z
        assert each["shares"][0] == [pytest.approx(each["share"], rel=0.05)]
    places = [(each["lr"], each["name"]) for each in cell["trainings"]]
    ladder_of_rate = ["share", "share", "authors", "tuned"]
    assert places == [(0.2, "bp"), (0.4, "bp")] + [
        (lr, name) for lr in (0.2, 0.4) for name in ladder_of_rate
    ]
    assert [each["share"] for each in cell["after_warning"]] == [0.9]
    assert set(cell["after_warning"][0]["ways"]) == {"go on", "divide", "restart"}
    assert len(cell["warnings"]) == 4
    assert len(cell["warnings"][0]["shares"]) == len(cell["warnings"][0]["distances"]) == 6

    tuned = cell["trainings"][-1]
    candidate = Candidate(0.4, 1.0)
    curves = validation_curves(short, CSBP, [candidate], networks=3)
    known = best_of(curves, short, CSBP, tolerance=0.01)
    assert (tuned["accuracy"], tuned["epochs"]) == (known.accuracy, known.epochs)
    assert len(tuned["accuracies"]) == 3


def test_snakemake_has_a_job_for_every_task_and_one_that_compares_them():
    options = ["--dry-run", "--forceall", "--printshellcmds", "--cores", "1"]
    command = [sys.executable, "-m", "snakemake", "-s", "study/Snakefile", *options, "rule_for_z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cells = "study/results/rule_for_z"
    for name in TASKS:
        tuned = f"study/results/tuning/{name}/now_constant"
        asked = (
            f"-m study.rule_for_z.on_a_task {name} --bp {tuned}/bp.json --csbp {tuned}/csbp.json"
        )
        assert f"{asked} --out {cells}/{name}.json" in done.stdout + done.stderr
    assert f"--out {cells}/fashion_mnist.json" in done.stdout + done.stderr
    every_cell = " ".join(f"{cells}/{name}.json" for name in [*TASKS, IMAGES])
    compared = f"-m study.rule_for_z.comparison {every_cell} --out {cells}/comparison.json"
    assert compared in done.stdout + done.stderr


def test_the_command_compares_rules(tmp_path):
    files = []
    for cell in planted(best_z=lambda odds: 0.05 / odds):
        files.append(tmp_path / f"{cell['task']}.json")
        files[-1].write_text(json.dumps(cell))
    out = tmp_path / "rules.json"
    comparison.main([*map(str, files), "--out", str(out)])
    assert set(json.loads(out.read_text())["bp_lr"]["rules"]) == set(RULES)


def test_choices_of_different_conditions_are_refused(tmp_path, capsys):
    bp = choice(tmp_path / "bp.json", "bp", schedule="cosine")
    csbp = choice(tmp_path / "csbp.json", "csbp")
    with pytest.raises(SystemExit) as stop:
        main(["xor", "--bp", bp, "--csbp", csbp, "--out", str(tmp_path / "cell.json")])
    assert stop.value.code == 2
    message = "must be of the same start and schedule as --csbp"
    assert capsys.readouterr().err == f"study.rule_for_z.on_a_task: --bp = {bp}: {message}\n"


def test_another_file_than_a_cell_is_refused(tmp_path, capsys):
    bp = choice(tmp_path / "bp.json", "bp")
    with pytest.raises(SystemExit):
        comparison.main([bp, bp, "--out", str(tmp_path / "rules.json")])
    assert capsys.readouterr().err.endswith("must be what study.rule_for_z.on_a_task wrote\n")


@pytest.mark.parametrize("number", ["bp_lr", "csbp_lr", "z_tuned"])
def test_a_setting_out_of_range_is_refused(number):
    setting = Setting(CSBP, 0.2, 0.2, 1.0)._replace(**{number: 0.0})
    with pytest.raises(ValueError, match=f"{number} = 0.0: must be a number in"):
        run_cell("xor", setting)


def test_a_training_at_another_rate_than_a_constant_one_is_refused():
    setting = Setting(CSBP._replace(schedule="cosine"), 0.2, 0.2, 1.0)
    with pytest.raises(ValueError, match="schedule = 'cosine': must be one of constant"):
        run_cell("xor", setting)


def test_without_a_known_share_no_rule_is_chosen():
    cells = planted(best_z=lambda odds: 0.05 / odds)
    reports_of_first = np.array(cells[0]["first_reports"], dtype=float)
    cells[0]["first_reports"] = np.full_like(reports_of_first, np.nan).tolist()
    with pytest.raises(ValueError, match="must have a share that is known in every task"):
        compare(cells)
