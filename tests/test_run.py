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
from csbp_notebooks.files import ROOT

NAME = "02_single_neuron_csbp"

BAD = [
    (
        ["02_single_neuron"],
        "unknown notebook '02_single_neuron' (did you mean 02_single_neuron_csbp?): there are 01_",
    ),
    (
        [NAME, "-p", "betta", "0.9"],
        f"unknown parameter 'betta' of {NAME} (did you mean beta?): it has epochs, w0, ",
    ),
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
    (
        [NAME, "-p", "output_dir", "/dev/null/figures"],
        "output_dir = '/dev/null/figures': must be a folder that can be written",
    ),
    ([NAME, "-p", "output_dir", ""], "output_dir is empty: must be text"),
    (
        [NAME, "--output", "/dev/null/run"],
        "output_dir = '/dev/null/run': must be a folder that can be written",
    ),
    ([NAME, "-p", "z"], "Option '-p' requires 2 arguments."),
    (
        [NAME, "--store", "-p", "z", "1"],
        "--store runs a notebook at its defaults: it takes neither -p nor --output",
    ),
    ([NAME, "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1."),
    ([], "Missing argument 'NAMES...'."),
]


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    arguments, line, monkeypatch, capsys, tmp_path
):
    output = [] if "--store" in arguments else ["--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["csbp-run", *output, *arguments])
    monkeypatch.setattr(run, "run_notebook", None)  # nothing may start
    monkeypatch.setattr(run, "run_all", None)
    with pytest.raises(SystemExit) as stop:
        run.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith(f"csbp-run: {line}")
    assert printed.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


DRAW = """\
from csbp_notebooks.figures import plot_weight, save_figure, setup
from csbp_notebooks.provenance import notebook_parameters, record
out = setup(output_dir)
parameters = notebook_parameters()
fig, _ = plot_weight(range(epochs))
save_figure(fig, out / "NAME")
record(out / "NAME", notebook="NAME", parameters=parameters, results={"n": epochs})
"""


def write_notebook(path, last):
    """A notebook of three cells: parameters, a figure with its numbers, and a last one."""
    name = path.stem
    parameters = f'epochs: int = 3  # in [1, 9]\noutput_dir: str = "runs/{name}"'
    cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(DRAW.replace("NAME", name)),
        nbformat.v4.new_code_cell(last),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


@pytest.fixture
def project(tmp_path):
    """A project of its own: the code, a notebook that works, one that fails after its figure."""
    without_caches = shutil.ignore_patterns("__pycache__")
    for package in ("csbp_core", "csbp_notebooks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=without_caches)
    (tmp_path / "images").mkdir()
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "good.ipynb", last="pass")
    write_notebook(tmp_path / "notebooks" / "bad.ipynb", last="raise RuntimeError('on purpose')")
    (tmp_path / "images" / "good.png").write_bytes(b"old")
    (tmp_path / "images" / "bad.png").write_bytes(b"old")
    return tmp_path


def csbp_run(project, *arguments):
    command = [sys.executable, "-m", "csbp_notebooks.run", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def results(path):
    return json.loads(path.read_text())["results"]


def provenance(path):
    return json.loads(path.read_text())["provenance"]


def execution_counts(path):
    return [cell.execution_count for cell in nbformat.read(path, as_version=4).cells]


def tracebacks(path):
    cells = nbformat.read(path, as_version=4).cells
    return [str(output.get("traceback")) for cell in cells for output in cell.get("outputs", [])]


PNG = b"\x89PNG"


def test_a_failure_keeps_the_old_figure_and_the_others_finish(project):
    done = csbp_run(project, "all", "-p", "output_dir", "images", "--jobs", "1")
    assert done.returncode == 1
    assert "bad FAILED" in done.stderr
    assert "RuntimeError: on purpose; see" in done.stderr
    assert "good done" in done.stdout
    images = files(project / "images")
    assert sorted(images) == ["bad.png", "good.json", "good.png", "good.svg"]
    assert images["bad.png"] == b"old"
    assert images["good.png"].startswith(PNG)
    failed = project / "runs" / "bad" / "bad.failed.ipynb"
    assert any("on purpose" in traceback for traceback in tracebacks(failed))


def test_the_run_after_a_repair_finishes_and_clears_the_failure_away(project):
    assert csbp_run(project, "bad", "-p", "output_dir", "images").returncode == 1
    assert list(files(project / "runs" / "bad")) == ["bad.failed.ipynb"]
    write_notebook(project / "notebooks" / "bad.ipynb", last="pass")
    assert csbp_run(project, "bad", "-p", "output_dir", "images").returncode == 0
    assert files(project / "images")["bad.png"].startswith(PNG)
    assert list(files(project / "runs" / "bad")) == ["bad.ipynb"]


def test_parameters_reach_the_run_and_its_record(project):
    done = csbp_run(project, "good", "-p", "epochs", "5", "--output", "mine")
    assert done.returncode == 0
    assert f"figures and numbers in {project / 'mine'}, notebook in mine" in done.stdout
    assert results(project / "mine" / "good.json") == {"n": 5}
    assert provenance(project / "mine" / "good.json")["parameters"] == {"epochs": 5}
    executed = project / "mine" / "good.ipynb"
    assert execution_counts(executed) == [1, 2, 3, 4]
    assert "csbp-" not in executed.read_text()  # the scratch folder it ran in


def test_parameters_injected_once_do_not_reach_the_next_run(project):
    assert csbp_run(project, "good", "-p", "epochs", "5", "--output", "mine").returncode == 0
    stored = project / "notebooks" / "good.ipynb"
    shutil.copy(project / "mine" / "good.ipynb", stored)  # with its injected cell, by mistake
    assert csbp_run(project, "good", "--output", "again").returncode == 0
    assert results(project / "again" / "good.json") == {"n": 3}


def test_store_refreshes_the_notebook_without_metadata(project):
    assert csbp_run(project, "good", "--store").returncode == 0
    path = project / "notebooks" / "good.ipynb"
    assert execution_counts(path) == [1, 2, 3]
    stored = nbformat.read(path, as_version=4)
    assert [dict(cell.metadata) for cell in stored.cells] == [{"tags": ["parameters"]}, {}, {}]
    assert "papermill" not in stored.metadata
    assert "version" not in stored.metadata.language_info


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def kill_with_children(process):
    parent = psutil.Process(process.pid)
    for victim in [*parent.children(recursive=True), parent]:
        victim.kill()
    process.wait()


def test_killed_in_the_middle_every_old_image_is_intact(project):
    notebook = project / "notebooks" / "good.ipynb"
    write_notebook(notebook, last="import time\ntime.sleep(600)")
    before = files(project / "images")
    scratch = project / "tmp"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "csbp_notebooks.run", "good", "-p", "output_dir", "images"],
        cwd=project,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    # The figure is drawn, and the notebook still runs.
    wait_until(lambda: any(scratch.glob("csbp-*/good/good.json")), seconds=60)
    kill_with_children(process)
    assert files(project / "images") == before
    assert not any(path.is_file() for path in (project / "runs").rglob("*"))

    write_notebook(notebook, last="pass")
    assert csbp_run(project, "good", "-p", "output_dir", "images").returncode == 0
    assert files(project / "images")["good.png"].startswith(PNG)
