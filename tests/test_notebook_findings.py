"""What notebooks 01, 02, 03, 05, 07 and 08 say, or refuse, far from the published parameters.

Their cells are run in this process, in a moment: at few epochs, and without drawing into files.
"""

import json
import re

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from made_study import made_cells

from csbp_core import dynamics
from csbp_notebooks import figures, provenance, tables
from csbp_notebooks.files import NOTEBOOKS
from csbp_notebooks.signs import typeset
from study.findings import all_contrasts
from study.findings.contrasts_json import for_json

# Row of a table of notebook 02 that shows what the published form of the loss gives: infinity.
SHOWS_INFINITY = "| literal "

# Notebook 01 trains some more neurons, whatever its parameters; here a moment is enough.
LONG = "epochs=400"
SHORT = "epochs=4"


@pytest.fixture
def run_cells(monkeypatch, tmp_path):
    """A function that runs a notebook's cells and returns what they say and record."""
    values = {}
    said = []
    threads = torch.get_num_threads()
    monkeypatch.setattr(tables, "display", lambda markdown: said.append(markdown.data))
    monkeypatch.setattr(figures, "save_figure", lambda fig, path: None)
    monkeypatch.setattr(figures, "show_figure", lambda fig, alt: None)
    monkeypatch.setattr(provenance, "notebook_parameters", lambda: parameters_of(values))
    monkeypatch.setattr(plt, "show", lambda: None)

    def run(name, **given):
        path = next(NOTEBOOKS.glob(f"{name}_*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                source = cell.source.replace(LONG, SHORT)
                exec(compile(source, f"{name}, {cell.id}", "exec"), values)
            if "parameters" in cell.metadata.get("tags", []):
                values.update(given, output_dir=str(tmp_path))
        (recorded,) = tmp_path.glob("*.json")
        return "\n".join(said), json.loads(recorded.read_text())["results"]

    with matplotlib.rc_context():
        yield run
    plt.close("all")
    torch.set_num_threads(threads)


def parameters_of(values):
    return {name: values[name] for name in values["__annotations__"] if name != "output_dir"}


def is_no_finding(line):
    """Whether a line shows what is no number as if it were one."""
    return re.search(r"\b(nan|inf|None)\b", line) and not line.startswith(SHOWS_INFINITY)


SMALL_SWEEP = {"points": 3, "rates": 2, "epochs": 1}  # of notebook 07

SETTINGS = [
    ("01", {"epochs": 1}, "w stays at 0.5; number of epochs: 1; BP loss 1 → 1"),
    ("02", {"epochs": 1}, "too few epochs to come to rest"),
    ("02", {"epochs": 30, "z": 0.0}, "Without a chaotic loss the linear analysis has nothing"),
    ("02", {"epochs": 30, "beta": 1.0}, "stable for z < 4.3956, never reached"),
    ("02", {"epochs": 30, "lr": 1e-30}, "stays within 0.05 for 30 epochs, ends at 0.5"),
    ("02", {"epochs": 30, "w0": 0.4}, "not the published one in epochs, w0."),
    ("03", {"epochs": 1, "size": 4}, "the weights are seen before any update"),
    ("03", {"epochs": 3, "size": 4, "beta": 1.0, "z_output": 99.0}, "stays above it for all 3 ep"),
    ("03", {"epochs": 3, "size": 4, "z_output": 99.0}, "stays above it for all 3 epochs"),
    ("03", {"epochs": 3, "size": 4, "z_output": 0.0}, "Training starts at z = 0, not above it"),
    ("03", {"epochs": 3, "size": 4, "z_output": 81.0}, "crosses it at epoch 1 of 3"),
    ("07", SMALL_SWEEP, "z_c$ (no gradient is left), with $h^*$ = 1 at"),
    (
        "07",
        SMALL_SWEEP | {"z_max": 1.0},
        "with $h^*$ = 6.19 nowhere in this sweep, with $h^*$ = 1 nowhere",
    ),
    ("07", SMALL_SWEEP | {"z_min": 1e5}, "where learning ended above: none."),
]


@pytest.mark.parametrize(("name", "given", "sentence"), SETTINGS)
def test_a_notebook_says_what_is_so_at_other_parameters(name, given, sentence, run_cells):
    said, results = run_cells(name, **given)
    assert sentence in said
    assert [line for line in said.splitlines() if is_no_finding(line)] == []
    assert not is_no_finding(results["summary"])


REFUSED = [
    ("01", {"target": 1e30, "epochs": 2}, r"but not with target = 0 in place of 1e\+30"),
    ("02", {"z": 1000.0, "epochs": 3}, "epoch 1 overflows .* but not with literal = False"),
    ("02", {"w0": 1e30, "epochs": 3}, "epoch 0 overflows .* nor with w0 = 0.5 in place of 1e"),
    ("02", {"gamma": 1e-30, "epochs": 3}, "but not with gamma = 1 in place of 1e-30"),
    ("02", {"I0": 1e-300}, r"I0 = 1e-300: must be a number in \[1e-9, 0.999999999\]"),
    ("03", {"gamma": 1e-300}, r"gamma = 1e-300: must be a number in \[1e-15, 1e15\]"),
    ("03", {"scale": 1e200}, r"scale = 1e\+200: must be a number in \[1e-30, 1e30\]"),
    ("03", {"lr": 1e-320}, r"lr = 1e-320: must be a number in \[1e-30, 1e30\]"),
    (
        "03",
        {"z_output": 1e300, "size": 4, "epochs": 2},
        r"epoch 0, read = output: the loss \(z = 1e\+300, scale = 10\) is not finite",
    ),
    ("05", {"z": 1000.0}, "epochs = 2600: must be above 10852, at which z falls to z_c"),
    ("05", {"z": 1000.0, "beta": 0.97, "epochs": 250}, "epoch 1 overflows .* z = 1000 took it"),
    ("05", {"I0": 0.75}, r"I0 = 0.75: must give a w\* outside of \(0.4, 1\), where BP acts"),
    ("07", {"z_max": 1e9}, r"z_max = 1000000000.0: must be a number in \(0, 1e8\]"),
    ("07", {"lr_min": 0.1}, r"lr_min = 0.1: must be a number in \[1e-9, 0.1\)"),
    ("07", {"h_star": 0.0}, r"h_star = 0.0: must be a number in \(0, 30\]"),
]


@pytest.mark.parametrize(("name", "given", "line"), REFUSED)
def test_a_notebook_refuses_in_one_line_that_names_the_cause(name, given, line, run_cells):
    with pytest.raises(ValueError, match=line) as caught:
        run_cells(name, **given)
    assert "\n" not in str(caught.value)


def bp_on_the_exact_map(lr):
    """The weight at which BP's gradient is zero, from the published start, and the epochs to it."""
    w = 0.5
    epochs = 0
    while dynamics.gradient(w) > 0:
        w -= lr * dynamics.gradient(w)
        epochs += 1
    return w, epochs


def test_02_says_what_bp_alone_gets_at_either_learning_rate(run_cells):
    said, results = run_cells("02", epochs=60)
    assert "learning rate of BP" in said
    for lr, alone in zip((0.001, 1.0), results["bp_alone"], strict=True):
        w, epochs = bp_on_the_exact_map(lr)
        assert alone["lr"] == lr
        assert alone["bp_loss_zero_from_epoch"] == epochs
        assert alone["last_w"] == pytest.approx(w, abs=1e-6)


# Notebook 08, whatever the study finds


@pytest.fixture(scope="module")
def made_contrasts(tmp_path_factory):
    """Findings of made cells, and such as they are before any cell is there."""
    folder = tmp_path_factory.mktemp("contrasts")
    for name, cells in (("all", made_cells()), ("none", {})):
        found = all_contrasts.findings(cells, {})
        (folder / f"{name}.json").write_text(json.dumps(for_json(found)))
    return folder


@pytest.mark.parametrize("cells", ["all", "none"])
def test_08_says_what_the_study_found(run_cells, made_contrasts, cells):
    said, results = run_cells("08", contrasts=str(made_contrasts / f"{cells}.json"))
    assert not [line for line in said.splitlines() if is_no_finding(line)]
    for answer in results["answers"].values():
        opening = f"**{answer['question']} {answer['short']}.** {answer['plain']}"
        behind = f"*{answer['question']}* {answer['reasons']}. {answer['beside']}".rstrip()
        assert typeset(opening) in said
        assert typeset(behind) in said
    assert typeset(results["summary"]) in said
    assert len(results["verdicts"]) == (16 if cells == "all" else 0)
    assert ("the study has 0 so far" in said) == (cells == "none")
