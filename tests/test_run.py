"""csbp-run: bad input, and what survives a failure or a kill."""

import json
import os
import shutil
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from csbp_notebooks import run
from csbp_notebooks.figures import ROOT

NAME = "02_single_neuron_csbp"

BAD = [
    (["02_single_neuron"], "unknown notebook '02_single_neuron' (did you mean 02_single_neuron_csbp?): there are 01_"),
    ([NAME, "-p", "betta", "0.9"], f"unknown parameter 'betta' of {NAME} (did you mean beta?): it has epochs, w0, "),
    ([NAME, "-p", "literal", "false"], "literal = 'false': must be True or False"),
    ([NAME, "-p", "beta", "1.5"], "beta = 1.5: must be a number in (0, 1]"),
    ([NAME, "-p", "beta", "0"], "beta = 0.0: must be a number in (0, 1]"),
    ([NAME, "-p", "epochs", "-5"], "epochs = -5: must be an integer in [1, 1000000]"),
    ([NAME, "-p", "epochs", "10.5"], "epochs = '10.5': must be of type int"),
    ([NAME, "-p", "z", "nan"], "z = nan: must be a number in [0, inf)"),
    ([NAME, "-p", "z", "strong"], "z = 'strong': must be of type float"),
    ([NAME, "-p", "z", "-1"], "z = -1.0: must be a number in [0, inf)"),
    ([NAME, "-p", "I0", "1"], "I0 = 1.0: must be a number in (0, 1)"),
    ([NAME, "-p", "w0", "inf"], "w0 = inf: must be a number in (-inf, inf)"),
    ([NAME, "-p", "time_steps", "0"], "time_steps = 0: must be an integer in [1, 10000]"),
    ([NAME, "-p", "decay", "1.01"], "decay = 1.01: must be a number in [0, 1]"),
    ([NAME, "-p", "gamma", "0"], "gamma = 0.0: must be a number in (0, inf)"),
    ([NAME, "-p", "seed", "-1"], "seed = -1: must be an integer in [0, 4294967295]"),
    ([NAME, "-p", "lr", ""], "lr = '': must be of type float"),
    (["03_multi_layer", "-p", "loss", "mae"], "loss = 'mae': must be one of cross_entropy, mse"),
    (["03_multi_layer", "-p", "channels", "0"], "channels = 0: must be an integer in [1, 1024]"),
    ([NAME, "-p", "output_dir", "/dev/null/figures"], "output_dir = '/dev/null/figures': must be a folder that can be written"),
    ([NAME, "-p", "output_dir", ""], "output_dir is empty: must be text"),
    ([NAME, "--output", "/dev/null/run"], "output_dir = '/dev/null/run': must be a folder that can be written"),
    ([NAME, "-p", "z"], "Option '-p' requires 2 arguments."),
    ([NAME, "--store", "-p", "z", "1"], "--store runs a notebook at its defaults: it takes neither -p nor --output"),
    ([NAME, "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1."),
    ([], "Missing argument 'NAMES...'."),
]


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(arguments, line, monkeypatch, capsys, tmp_path):
    output = [] if "--store" in arguments else ["--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["csbp-run", *output, *arguments])
    monkeypatch.setattr(run, "run_notebook", None)  # nothing may start
    monkeypatch.setattr(run, "_run_all", None)
    with pytest.raises(SystemExit) as stop:
        run.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith(f"csbp-run: {line}")
    assert printed.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_an_int_is_a_fine_float_and_signs_and_exponents_are_read():
    given = [("z", "12"), ("w0", "-1e-3"), ("epochs", "7"), ("literal", "False")]
    assert run.parse_parameters(NAME, given) == {"z": 12.0, "w0": -0.001, "epochs": 7, "literal": False}


@pytest.fixture
def project(tmp_path):
    """A project of its own: the code, one notebook that works, one that fails after it has drawn its figure."""
    for package in ("csbp_core", "csbp_notebooks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "images").mkdir()
    (tmp_path / "notebooks").mkdir()
    for name, last in (("good", "pass"), ("bad", "raise RuntimeError('on purpose')")):
        parameters = f'epochs: int = 3  # in [1, 9]\noutput_dir: str = "runs/{name}"'
        cells = [
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(
                "from csbp_notebooks.figures import plot_weight, record, save_figure, setup\n"
                f"out = setup(output_dir)\nsave_figure(plot_weight(range(epochs))[0], out / '{name}')\n"
                f"record(out / '{name}', notebook='{name}', parameters=dict(epochs=epochs), results=dict(n=epochs))"
            ),
            nbformat.v4.new_code_cell(last),
        ]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "notebooks" / f"{name}.ipynb")
        (tmp_path / "images" / f"{name}.png").write_bytes(b"old")
    return tmp_path


def csbp_run(project, *arguments):
    return subprocess.run([sys.executable, "-m", "csbp_notebooks.run", *arguments], cwd=project, capture_output=True, text=True)


def test_a_failure_keeps_the_old_figure_and_the_others_finish(project):
    done = csbp_run(project, "all", "-p", "output_dir", "images", "--jobs", "1")
    assert done.returncode == 1
    assert "bad FAILED" in done.stderr
    assert "RuntimeError: on purpose; see" in done.stderr
    assert "good done" in done.stdout
    assert (project / "images" / "bad.png").read_bytes() == b"old"
    assert (project / "images" / "good.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (project / "images").iterdir()) == ["bad.png", "good.json", "good.png", "good.svg"]
    failed = nbformat.read(project / "runs" / "bad" / "bad.failed.ipynb", as_version=4)
    assert any("on purpose" in str(output.get("traceback")) for cell in failed.cells for output in cell.get("outputs", []))

    notebook = project / "notebooks" / "bad.ipynb"  # repaired: the next run finishes and clears the failure away
    notebook.write_text(notebook.read_text().replace("raise RuntimeError('on purpose')", "pass"))
    assert csbp_run(project, "bad", "-p", "output_dir", "images").returncode == 0
    assert (project / "images" / "bad.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (project / "runs" / "bad").iterdir()] == ["bad.ipynb"]


def test_parameters_reach_the_run_and_old_injected_ones_do_not(project):
    done = csbp_run(project, "good", "-p", "epochs", "5", "--output", "mine")
    assert done.returncode == 0
    assert f"figures and numbers in {project / 'mine'}, notebook in mine" in done.stdout
    assert "csbp-" not in (project / "mine" / "good.ipynb").read_text()  # the scratch folder it ran in
    assert json.loads((project / "mine" / "good.json").read_text())["results"] == {"n": 5}
    executed = project / "mine" / "good.ipynb"
    assert [cell.execution_count for cell in nbformat.read(executed, as_version=4).cells] == [1, 2, 3, 4]
    shutil.copy(executed, project / "notebooks" / "good.ipynb")  # stored with its injected cell by mistake
    assert csbp_run(project, "good", "--output", "again").returncode == 0
    assert json.loads((project / "again" / "good.json").read_text())["results"] == {"n": 3}


def test_store_refreshes_the_notebook_without_metadata(project):
    assert csbp_run(project, "good", "--store").returncode == 0
    stored = nbformat.read(project / "notebooks" / "good.ipynb", as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2, 3]
    assert [dict(cell.metadata) for cell in stored.cells] == [{"tags": ["parameters"]}, {}, {}]
    assert "papermill" not in stored.metadata
    assert "version" not in stored.metadata.language_info


def test_killed_in_the_middle_every_old_image_is_intact(project):
    notebook = project / "notebooks" / "good.ipynb"
    text = notebook.read_text()
    notebook.write_text(text.replace('"pass"', '"import time\\ntime.sleep(600)"'))
    before = {path.name: path.read_bytes() for path in (project / "images").iterdir()}
    command = [sys.executable, "-m", "csbp_notebooks.run", "good", "-p", "output_dir", "images"]
    scratch = {"TMPDIR": str(project / "tmp")}
    (project / "tmp").mkdir()
    process = subprocess.Popen(command, cwd=project, env={**os.environ, **scratch})
    deadline = time.monotonic() + 60
    while not list((project / "tmp").glob("csbp-*/good/good.json")):  # the figure is drawn, the notebook still runs
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for victim in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        victim.kill()
    process.wait()
    assert {path.name: path.read_bytes() for path in (project / "images").iterdir()} == before
    assert not any(path.is_file() for path in (project / "runs").rglob("*"))
    notebook.write_text(text)
    assert csbp_run(project, "good", "-p", "output_dir", "images").returncode == 0
    assert (project / "images" / "good.png").read_bytes().startswith(b"\x89PNG")
