"""The explorer: its map under node against `csbp_core.dynamics`, its cases, links and colours."""

import json
import re
import shlex
import shutil
import subprocess
from math import log

import numpy as np
import papermill
import pytest
import traitlets

from csbp_core import critical_z, dynamics, train_single_neuron
from csbp_notebooks import palette
from csbp_notebooks.explorer import Explorer
from csbp_notebooks.explorer.widget import EPOCHS, FOLDER, INTEGERS, RANGES
from csbp_notebooks.files import NOTEBOOKS, ROOT
from csbp_notebooks.parameters import parse_parameters

SCRIPT = FOLDER / "explorer.js"
STYLE = (FOLDER / "explorer.css").read_text()
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(
    NODE is None, reason="needs node 20 or later: apt-get install nodejs, or https://nodejs.org"
)

PUBLISHED = {
    "z0": 10.0,
    "beta": 0.9995,
    "I0": 0.65,
    "lr": 1.0,
    "w0": 0.5,
    "time_steps": 20,
    "rate_steps": 10,
    "bp": True,
}
CONSTANTS = ("lr", "I0", "bp", "time_steps", "rate_steps")
CASES = ("published", "no second burst", "period 3", "two attractors")


def asked(name, calls):
    question = {"script": str(SCRIPT), "name": name, "calls": calls}
    done = subprocess.run(
        [NODE, str(ROOT / "tests" / "explorer.mjs")],
        input=json.dumps(question),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def constant(name):
    return asked(name, None)


def called(name, *arguments):
    (value,) = asked(name, [arguments])
    return value


def with_changes(**changes):
    return PUBLISHED | changes


def constants_of(parameters):
    """The keywords of the functions of `dynamics`."""
    return {name: parameters[name] for name in CONSTANTS}


def run_of(parameters, epochs=EPOCHS):
    return dynamics.anneal(
        parameters["w0"], parameters["z0"], parameters["beta"], epochs, **constants_of(parameters)
    )[:, 0]


# The map


def random_parameters(rng):
    return with_changes(
        I0=rng.uniform(0.05, 0.95),
        lr=rng.uniform(0.1, 2),
        time_steps=int(rng.integers(1, 41)),
        rate_steps=int(rng.integers(5, 41)),
        bp=bool(rng.integers(2)),
    )


# Where spikes come and go, where BP begins and ends, and far out.
WEIGHTS = [0.4, 0.4000001, 0.5, np.nextafter(0.5, 1), 0.7, 0.999, 1.0, 0.0, -30.0, 30.0, -400.0]


@needs_node
def test_one_step_is_that_of_dynamics_everywhere():
    rng = np.random.default_rng(0)
    calls = []
    expected = []
    for _ in range(150):
        parameters = random_parameters(rng)
        z = rng.uniform(0.01, 12)
        for w in [*WEIGHTS, *rng.uniform(-8, 6, 10), *rng.uniform(0.4, 1, 10)]:
            calls.append([w, z, parameters])
            expected.append(dynamics.step(w, z, **constants_of(parameters)))
    np.testing.assert_allclose(asked("step", calls), expected, rtol=1e-13, atol=1e-13)


@needs_node
def test_exp_is_within_a_unit_in_the_last_place():
    x = np.concatenate([np.linspace(-708, 709, 2001), np.linspace(-3, 3, 2001)])
    exact = np.exp(x.astype(np.longdouble))
    given = np.array(asked("exp", [[value] for value in x]))
    assert (np.abs(given - exact) <= np.spacing(np.exp(x))).all()


@needs_node
@pytest.mark.parametrize("changes", [{}, {"bp": False}, {"w0": -2.0, "lr": 0.8, "time_steps": 5}])
def test_the_first_epochs_are_those_of_dynamics(changes):
    parameters = with_changes(**changes)
    run = called("anneal", parameters, 20)
    np.testing.assert_allclose(run["w"], run_of(parameters, 20), rtol=1e-9)
    np.testing.assert_allclose(run["z"], 10 * 0.9995 ** np.arange(20), rtol=1e-13)


@needs_node
@pytest.mark.parametrize(("z", "period"), [(5.5, 2), (6.5, 4), (6.995, 8)])
def test_branches_are_those_of_dynamics(z, period):
    end = called("attractorFrom", 0.5, z, PUBLISHED)
    orbit = dynamics.orbit_diagram(z, 0.5, transient=20000, keep=period)
    assert end["period"] == period
    np.testing.assert_allclose(np.sort(end["weights"]), np.sort(orbit), atol=1e-9)


@needs_node
@pytest.mark.parametrize("bp", [True, False])
def test_the_orbit_diagram_shows_the_branches_of_dynamics(bp):
    strengths = [6.5, 5.5, 2.0]
    points = called("orbitDiagram", strengths, with_changes(bp=bp))
    for z, column in zip(strengths, np.reshape(points, (3, -1)), strict=True):
        orbit = dynamics.orbit_diagram(z, 0.5, transient=20000, keep=4, bp=bp)
        distance = np.abs(column[:, None] - orbit)
        assert distance.min(axis=1).max() < 1e-5  # no point is anywhere else
        assert distance.min(axis=0).max() < 1e-5  # and no branch is left out


@needs_node
@pytest.mark.parametrize("I0", [0.2, 0.65])
def test_below_the_critical_strength_a_run_comes_to_rest(I0):
    parameters = with_changes(I0=I0, lr=0.5, bp=False)
    z_c = called("criticalZ", parameters)
    rest = called("restPoint", parameters)
    assert z_c == pytest.approx(critical_z(lambda_max=2, lr=0.5, I0=I0, scale=1))
    assert rest == pytest.approx(log(I0 / (1 - I0)) / 2)
    below = called("attractorFrom", rest + 0.01, 0.98 * z_c, parameters)
    above = called("attractorFrom", rest + 0.01, 1.02 * z_c, parameters)
    assert (below["period"], above["period"]) == (1, 2)
    assert below["weights"] == pytest.approx([rest], abs=1e-6)


@needs_node
@pytest.mark.parametrize("time_steps", [1, 3, 20])
def test_bp_acts_between_the_borders_and_not_outside(time_steps):
    borders = called("bpWindow", with_changes(time_steps=time_steps))
    low, high = borders["low"], borders["high"]
    inside = dynamics.gradient([low + 1e-6, high - 1e-6], time_steps=time_steps)
    outside = dynamics.gradient([low - 1e-6, high], time_steps=time_steps)
    assert (inside > 0).all()
    assert (outside == 0).all()


@needs_node
@pytest.mark.parametrize(("I0", "holds"), [(0.65, True), (0.7, False), (0.86, False), (0.9, True)])
def test_z_c_holds_where_bp_leaves_the_rest_alone(I0, holds):
    rest = log(I0 / (1 - I0)) / 2
    assert (dynamics.gradient(rest) == 0) == holds
    assert called("criticalHolds", with_changes(I0=I0)) == holds
    assert called("criticalHolds", with_changes(I0=I0, bp=False))


@needs_node
def test_chaos_has_no_period():
    assert dynamics.lyapunov(7.5) > 0
    assert called("attractorFrom", 0.5, 7.5, PUBLISHED)["period"] == 0


# The cases: each name is true


@pytest.fixture(scope="module")
def cases():
    """The parameters of each case by its name."""
    return {case["name"]: case["parameters"] for case in constant("PRESETS")}


def period_of(orbit):
    repeats = [p for p in range(1, 65) if np.abs(orbit[p:] - orbit[:-p]).max() < 1e-9]
    return repeats[0] if repeats else None


@needs_node
def test_the_cases_are_those_of_the_issue(cases):
    assert tuple(cases) == CASES


@needs_node
def test_published_is_what_notebook_02_runs(cases):
    said = papermill.inspect_notebook(str(NOTEBOOKS / "02_single_neuron_csbp.ipynb"))
    sliders = constant("SLIDERS")
    defaults = {name: float(said[sliders[name]["argument"]]["default"]) for name in sliders}
    assert cases["published"] == constant("PUBLISHED") == {**defaults, "bp": True}
    assert said["epochs"]["default"] == str(constant("EPOCHS"))


@needs_node
def test_published_has_a_second_burst_and_then_rests(cases):
    w = run_of(cases["published"])
    assert w[810:1370].min() > -0.6
    assert w[1385:1500].min() < -3
    assert np.abs(w[2200:] - log(0.65 / 0.35) / 2).max() < 1e-6


@needs_node
def test_no_second_burst_has_none(cases):
    w = run_of(cases["no second burst"])
    late = w[1100:]  # from far above the critical z, where there are two branches, to the end
    assert late.min() == late[:2].min()
    assert late.max() == late[:2].max()
    assert w[-1] == pytest.approx(log(0.65 / 0.35) / 2)


@needs_node
def test_period_3_repeats_every_third_epoch_from_wherever_it_starts(cases):
    parameters = cases["period 3"]
    assert parameters["beta"] == 1
    assert period_of(run_of(parameters)[-300:]) == 3
    for w0 in (-4.0, 0.0, 0.9, 3.0):
        assert period_of(run_of(parameters | {"w0": w0})[-300:]) == 3


@needs_node
def test_two_attractors_are_a_cycle_and_the_rest(cases):
    parameters = cases["two attractors"]
    assert parameters["beta"] == 1
    constants = constants_of(parameters)
    starts = np.linspace(-5, 5, 101)
    orbits = dynamics.orbit_diagram(parameters["z0"], starts, 20000, 300, **constants)
    periods = [period_of(orbit) for orbit in orbits]
    assert set(periods) == {1, 5}
    assert min(periods.count(1), periods.count(5)) > 20  # neither is a rarity
    cycle = np.sort(orbits[periods.index(5)][:5])
    for orbit in orbits[np.equal(periods, 5)]:
        np.testing.assert_allclose(np.sort(orbit[:5]), cycle, atol=1e-6)  # one cycle, not several
    assert (dynamics.lyapunov(parameters["z0"], [0.5, 1.5], **constants) < 0).all()


@needs_node
def test_two_attractors_are_reached_as_its_sentence_says(cases):
    parameters = cases["two attractors"]
    assert period_of(run_of(parameters)[-300:]) == 5
    assert period_of(run_of(parameters | {"w0": 1.5})[-300:]) == 1


# Commands and links

OWN = with_changes(z0=7.25, beta=0.9991, I0=0.6, lr=0.5, w0=-1.0, time_steps=12, rate_steps=8)


def parameters_in(command):
    """What a command passes to notebook 02, parsed by csbp-run's own reader."""
    program, notebook, *words = shlex.split(command)
    assert (program, notebook) == ("csbp-run", "02_single_neuron_csbp")
    assert set(words[::3]) <= {"-p"}
    return parse_parameters(notebook, zip(words[1::3], words[2::3], strict=True))


@needs_node
@pytest.mark.parametrize("case", [*CASES, "own", "own without BP"])
def test_the_command_does_the_same_run(case, cases):
    own = {"own": OWN, "own without BP": OWN | {"bp": False}}
    parameters = (cases | own)[case]
    given = parameters_in(called("command", parameters))
    shown = called("anneal", parameters, 8)["w"]
    trained = train_single_neuron("csbp", **{"lr": 1.0, "epochs": 8} | given)
    np.testing.assert_allclose(trained.w, shown, rtol=2e-4, atol=2e-4)


@needs_node
def test_the_command_of_the_published_run_needs_no_parameters():
    assert called("command", PUBLISHED) == "csbp-run 02_single_neuron_csbp"


@needs_node
@pytest.mark.parametrize("changes", [{}, {"bp": False, "z0": 3.3}, OWN])
def test_a_link_keeps_the_parameters(changes):
    parameters = with_changes(**changes)
    found = called("fromFragment", called("toFragment", parameters))
    assert PUBLISHED | found["parameters"] == parameters
    assert found["refused"] == []


@needs_node
def test_a_link_keeps_the_epoch():
    fragment = called("toFragment", PUBLISHED | {"lr": 0.5, "epoch": 700})
    assert fragment == "lr=0.5&epoch=700"
    found = called("fromFragment", fragment)
    assert found == {"parameters": {"lr": 0.5, "epoch": 700}, "refused": []}


@needs_node
@pytest.mark.parametrize(
    ("fragment", "line"),
    [
        ("z0=99", "z0 = 99: must be a number in [0.5, 12]"),
        ("z0=", "z0 = : must be a number in [0.5, 12]"),
        ("I0=nan", "I0 = nan: must be a number in [0.05, 0.95]"),
        ("time_steps=2.5", "time_steps = 2.5: must be an integer in [1, 40]"),
        ("epoch=4000", "epoch = 4000: must be an integer in [0, 3999]"),
        ("bp=1", "bp = 1: must be true or false"),
        ("toString=1", "toString is no parameter"),
    ],
)
def test_a_link_that_cannot_be_kept_says_so(fragment, line):
    found = called("fromFragment", f"{fragment}&lr=0.5")
    assert found == {"parameters": {"lr": 0.5}, "refused": [line]}


@needs_node
def test_a_link_to_a_heading_is_no_parameter():
    assert called("fromFragment", "see-also") == {"parameters": {}, "refused": []}


@needs_node
@pytest.mark.parametrize("ends", [(-7.3, 4.6), (0.31, 0.3101), (0, 4000)])
def test_ticks_are_a_few_round_numbers_inside(ends):
    ticks = called("ticks", *ends, 6)
    assert 2 <= len(ticks) <= 7
    assert ends[0] <= ticks[0]
    assert ticks[-1] <= ends[1]
    digits = {f"{spacing:.0e}"[0] for spacing in np.diff(ticks)}
    assert len(digits) == 1
    assert digits <= {"1", "2", "5"}


# What it looks like


def variables(selector):
    """The colours that a rule of the style sets, by name."""
    (rule,) = re.findall(rf"^{re.escape(selector)} {{(.*?)^}}", STYLE, re.M | re.S)
    return dict(re.findall(r"--csbp-([\w-]+): (#[0-9a-f]{6});", rule))


LIGHT = variables(".csbp-explorer")
DARK = variables(".csbp-explorer[data-dark]")


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(first, second):
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_are_those_of_the_figures():
    for name in ("csbp", "rest", "critical", "window"):
        assert LIGHT[name] == getattr(palette, name.upper())


def test_a_dark_page_changes_every_colour():
    assert LIGHT.keys() == DARK.keys()
    assert not LIGHT.items() & DARK.items()


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_their_ground(colors):
    for text in ("text", "quiet"):
        for ground in ("ground", "control", "window"):
            assert contrast(colors[text], colors[ground]) >= 4.5
    for mark in ("csbp", "rest", "critical", "ink"):
        assert contrast(colors[mark], colors["ground"]) >= 3


def test_nothing_is_loaded_from_anywhere():
    for text in (SCRIPT.read_text(), STYLE):
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bfetch\b", text)


# The widget


@needs_node
def test_the_sliders_of_page_and_widget_reach_equally_far():
    sliders = constant("SLIDERS")
    for name, slider in sliders.items():
        assert RANGES[name] == f"[{slider['min']}, {slider['max']}]"
        assert (slider["digits"] == 0) == (name in INTEGERS)
    assert set(RANGES) == {*sliders, "epoch"}
    assert constant("EPOCHS") == EPOCHS


def test_a_new_widget_shows_the_published_run():
    explorer = Explorer()
    assert {name: getattr(explorer, name) for name in PUBLISHED} == PUBLISHED
    assert (explorer.anneal() == run_of(PUBLISHED)).all()


def test_every_slider_is_shared_with_the_browser():
    assert {*PUBLISHED, "epoch"} <= set(Explorer().keys)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_out_of_range_is_refused_in_one_line(name):
    explorer = Explorer()
    before = getattr(explorer, name)
    with pytest.raises(
        ValueError, match=rf"^{name} = 99999[.0]*: must be .*{re.escape(RANGES[name])}"
    ):
        setattr(explorer, name, 99999)
    assert getattr(explorer, name) == before


def test_what_is_no_number_is_refused():
    with pytest.raises(traitlets.TraitError, match="z0"):
        Explorer(z0="much")


def test_a_widget_is_written_as_what_makes_it():
    explorer = Explorer(z0=3.85, beta=1.0, time_steps=5, bp=False, epoch=7)
    again = eval(repr(explorer))
    assert {name: getattr(again, name) for name in (*PUBLISHED, "epoch")} == {
        name: getattr(explorer, name) for name in (*PUBLISHED, "epoch")
    }


def test_a_widget_gives_the_constants_of_its_map():
    explorer = Explorer(z0=3.85, beta=1.0, bp=False)
    assert dynamics.step(0.7, 3.85, **explorer.constants) == dynamics.step(0.7, 3.85, bp=False)
