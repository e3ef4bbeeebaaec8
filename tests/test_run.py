"""csbp-run: bad input, and what survives a failure or a kill."""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import pytest
from helpers import signals_heard
from papermill.parameterize import parameterize_notebook

from csbp_notebooks import collection, command_line, kernel, owners, parameters, run, stopping
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
    ([NAME, "-p", "I0", "1"], "I0 = 1.0: must be a number in [1e-9, 0.999999999]"),
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
    ([NAME, "--output", ""], "--output is empty: must be a folder"),
    (
        [NAME, "--output", "/\udcff"],
        r"output_dir = '/\udcff': must be text that UTF-8 can write",
    ),
    (
        [NAME, "-p", "output_dir", "/\udcff"],
        r"output_dir = '/\udcff': must be text that UTF-8 can write",
    ),
    (
        [NAME, "-p", "output_dir", "images", "--output", "/\udcff"],
        r"--output = '/\udcff': must be text that UTF-8 can write",
    ),
    ([NAME, "-p", "z", "1", "-p", "z", "2"], "z is given twice: as 1.0 and as '2'"),
    ([NAME, "-p", "z"], "Option '-p' requires 2 arguments."),
    (
        [NAME, "--store", "-p", "z", "1"],
        "--store runs a notebook at its defaults: it takes neither -p nor --output",
    ),
    ([NAME, "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1."),
    ([], "which notebook? csbp-run NAME, or csbp-run all; csbp-run -h says more"),
    (["--verdicts", "all"], "--verdicts runs nothing: it takes no names, -p, --output or --store"),
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


def test_csbp_run_starts_without_torch():
    """It starts one process per notebook, and torch takes each of them a second."""
    code = "import csbp_notebooks.run, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


DRAW = """\
from csbp_notebooks.figures import plot_weight, save_figure, setup
from csbp_notebooks.provenance import notebook_parameters, record
out = setup(output_dir)
parameters = notebook_parameters()
fig, _ = plot_weight(range(epochs))
save_figure(fig, out / "NAME")
record(out / "NAME", notebook="NAME", parameters=parameters, results={"n": epochs})
"""


def write_notebook(path, last, code=DRAW):
    """A notebook of three cells: parameters, a figure with its numbers, and a last one."""
    name = path.stem
    parameters = f'epochs: int = 3  # in [1, 9]\noutput_dir: str = "runs/{name}"'
    cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code.replace("NAME", name)),
        nbformat.v4.new_code_cell(last),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    language = {"name": "python", "version": "3"}
    metadata = {"kernelspec": kernel, "language_info": language}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def make_project(root):
    """A project of its own: the code, a notebook that works, one that fails after its figure."""
    without_caches = shutil.ignore_patterns("__pycache__")
    for package in ("csbp_core", "csbp_notebooks"):
        shutil.copytree(ROOT / package, root / package, ignore=without_caches)
    (root / "images").mkdir()
    (root / "notebooks").mkdir()
    write_notebook(root / "notebooks" / "good.ipynb", last="pass")
    write_notebook(root / "notebooks" / "bad.ipynb", last="raise RuntimeError('on purpose')")
    (root / "images" / "good.png").write_bytes(b"old")
    (root / "images" / "bad.png").write_bytes(b"old")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The project in which csbp-run runs."""
    make_project(tmp_path)
    for module in (run, kernel):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for module in (run, collection, owners, parameters):
        monkeypatch.setattr(module, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def csbp_run(project, monkeypatch, capfd):
    """Runs csbp-run in this process, for another one would load torch again."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["csbp-run", *arguments])
        with pytest.raises(SystemExit) as stop:
            run.main()
        said = capfd.readouterr()
        if isinstance(stop.value.code, str):  # what Python writes to stderr at the exit
            return Done(1, said.out, said.err + stop.value.code)
        return Done(stop.value.code or 0, said.out, said.err)

    return call


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


# Without a kernel


@pytest.fixture
def files_made(monkeypatch):
    """By the names of files, what the notebook writes that would run; no kernel is started."""
    contents = {"good.png": b"new", "good.json": b"{}"}

    def write_files(copy, parameters, name):
        for file, content in contents.items():
            Path(parameters.get("output_dir", "runs"), file).write_bytes(content)
        notebook = nbformat.read(copy, as_version=4)
        notebook.metadata["papermill"] = {}
        for i, cell in enumerate(notebook.cells, start=1):
            cell.execution_count = i
        return notebook

    monkeypatch.setattr(run, "execute", write_files)
    return contents


def test_a_second_run_says_that_it_replaces_and_how_to_keep_both(project, csbp_run, files_made):
    first = csbp_run("good")
    second = csbp_run("good")
    home = project / "runs" / "good"
    where = f"figures and numbers in {home}, notebook in {home}"
    replaced = "3 files of an earlier run replaced (--output FOLDER keeps both)"
    assert first.stdout == f"good done in 0 s: {where}\n"
    assert second.stdout == f"good done in 0 s: {where}; {replaced}\n"


def test_figures_that_are_asked_for_are_replaced_without_a_word(project, csbp_run, files_made):
    for _ in range(2):
        done = csbp_run("good", "-p", "output_dir", "images")
        assert "replaced" not in done.stdout
    assert files(project / "images")["good.png"] == b"new"


def test_a_full_disk_is_one_line_and_leaves_every_old_file(
    project, csbp_run, files_made, monkeypatch
):
    write = Path.write_bytes

    def write_bytes(path, content):
        if path.parent.name == "good" and path.parent.parent.name == "runs":  # the notebook's
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    before = files(project / "images")
    done = csbp_run("good", "-p", "output_dir", "images")
    assert done.returncode == 1
    line = "good.ipynb cannot be written (No space left on device); what was there is kept\n"
    assert done.stderr.startswith("csbp-run: /")
    assert done.stderr.endswith(line)
    assert done.stderr.count("\n") == 1
    assert files(project / "images") == before
    assert files(project / "runs" / "good") == {}


def test_a_copy_is_kept_apart_from_the_original(project, csbp_run, files_made):
    shutil.copy(project / "notebooks" / "good.ipynb", project / "notebooks" / "good-Copy1.ipynb")
    assert csbp_run("good").returncode == 0
    old = files(project / "runs" / "good")
    files_made["good.png"] = b"of the copy"
    assert csbp_run("good-Copy1").returncode == 0
    assert files(project / "runs" / "good") == old
    assert files(project / "runs" / "good-Copy1")["good.png"] == b"of the copy"


def json_of(name):
    return json.dumps({"results": {}, "provenance": {"notebook": name}}).encode()


def test_a_copy_does_not_overwrite_the_originals_figures(project, csbp_run, files_made):
    shutil.copy(project / "notebooks" / "good.ipynb", project / "notebooks" / "good-Copy1.ipynb")
    (project / "images" / "good.json").write_bytes(json_of("good"))
    before = files(project / "images")
    files_made["good.json"] = json_of("good-Copy1")
    done = csbp_run("good-Copy1", "-p", "output_dir", "images")
    assert done.returncode == 1
    assert done.stderr.startswith("good-Copy1 FAILED after 0 s: ValueError: /")
    assert "good.json is of good: nothing was replaced; take another folder, --ou" in done.stderr
    assert files(project / "images") == before


def test_figures_of_a_notebook_that_is_gone_may_be_overwritten(project, csbp_run, files_made):
    (project / "images" / "good.json").write_bytes(json_of("renamed_since"))
    assert csbp_run("good", "-p", "output_dir", "images").returncode == 0


@pytest.fixture
def taken(project):
    """A folder with figures and numbers of `bad`, and others of `good`."""
    folder = project / "taken"
    folder.mkdir()
    for figure in ("tiny.png", "tiny_why.svg", "tiny_b.png", "tinyer.png", "other.png"):
        (folder / figure).write_bytes(b"old")
    (folder / "tiny.json").write_bytes(json_of("bad"))
    (folder / "tiny_b.json").write_bytes(json_of("good"))
    return folder


@pytest.mark.parametrize("figure", ["tiny.png", "tiny_why.svg"])
def test_a_figure_that_goes_with_numbers_of_another_notebook_is_kept(
    csbp_run, files_made, taken, figure
):
    before = files(taken)
    files_made[figure] = b"new"
    done = csbp_run("good", "-p", "output_dir", "taken")
    assert done.returncode == 1
    assert f"{taken / figure} is of bad: nothing was replaced" in done.stderr
    assert files(taken) == before


@pytest.mark.parametrize("figure", ["tiny_b.png", "tinyer.png", "other.png", "tiny_new.png"])
def test_a_figure_of_its_own_or_of_nobody_is_written(csbp_run, files_made, taken, figure):
    files_made[figure] = b"new"
    assert csbp_run("good", "-p", "output_dir", "taken").returncode == 0
    assert files(taken)[figure] == b"new"


def test_a_folder_of_claims_that_is_gone_does_not_matter(
    csbp_run, files_made, monkeypatch, tmp_path
):
    monkeypatch.setenv("CSBP_CLAIMS", str(tmp_path / "gone"))
    assert csbp_run("good").returncode == 0


def test_storing_a_copy_is_refused_for_it_writes_where_the_original_does(project, csbp_run):
    shutil.copy(project / "notebooks" / "good.ipynb", project / "notebooks" / "good-Copy1.ipynb")
    done = csbp_run("good-Copy1", "--store")
    assert done.returncode == 2
    line = "good-Copy1.ipynb sets output_dir to 'runs/good', and not to 'runs/good-Copy1'"
    assert done.stderr == f"csbp-run: {line}\n"


def test_of_two_notebooks_that_write_the_same_file_in_one_run_the_second_fails(
    project, csbp_run, files_made, monkeypatch
):
    def run_all(names, options, jobs):
        codes = []
        for name in names:
            files_made["good.png"] = name.encode()
            codes.append(csbp_run(name, "-p", "output_dir", "images"))
        said.extend(codes)
        return False

    said = []
    monkeypatch.setattr(run, "run_all", run_all)
    csbp_run("all", "-p", "output_dir", "images")
    assert [done.returncode for done in said] == [0, 1]
    assert "good.json is of bad: nothing was replaced" in said[1].stderr
    assert files(project / "images")["good.png"] == b"bad"
    assert "CSBP_CLAIMS" not in os.environ


def test_what_an_earlier_run_of_another_notebook_left_is_kept_under_all_too(
    project, csbp_run, files_made, monkeypatch
):
    (project / "images" / "good.json").write_bytes(json_of("bad"))
    said = []

    def run_all(*_):
        said.append(csbp_run("good", "-p", "output_dir", "images"))

    monkeypatch.setattr(run, "run_all", run_all)
    csbp_run("all", "-p", "output_dir", "images")
    assert said[0].returncode == 1
    assert "good.json is of bad: nothing was replaced" in said[0].stderr


def test_in_folders_of_their_own_two_may_write_the_same_name(
    project, csbp_run, files_made, monkeypatch
):
    claims = []
    monkeypatch.setattr(run, "run_all", lambda *_: claims.append(os.environ.get("CSBP_CLAIMS")))
    assert csbp_run("all").returncode == 0
    assert claims == [None]


def test_strays_are_passed_over_by_all(project, csbp_run, monkeypatch):
    (project / "notebooks" / "Untitled.ipynb").write_text("{}")
    chosen = []
    monkeypatch.setattr(run, "run_all", lambda names, *_: chosen.extend(names))
    done = csbp_run("all", "-p", "output_dir", "images")
    assert done.returncode == 0
    assert chosen == ["bad", "good"]
    assert done.stderr.startswith("csbp-run: passed over: Untitled.ipynb ")
    assert done.stderr.count("\n") == 1


def make_folder(out):
    (out / "odd").mkdir()


def make_link_to_nothing(out):
    (out / "odd").symlink_to(out / "nothing")


@pytest.mark.parametrize(
    ("make", "what"), [(make_folder, "a folder"), (make_link_to_nothing, "no file")]
)
def test_what_is_no_file_is_named_and_the_notebook_kept(
    project, csbp_run, files_made, monkeypatch, make, what
):
    execute = run.execute

    def execute_and_make(copy, parameters, name):
        make(Path(parameters["output_dir"]))
        return execute(copy, parameters, name)

    monkeypatch.setattr(run, "execute", execute_and_make)
    done = csbp_run("good", "-p", "output_dir", "images")
    assert done.returncode == 1
    failed = project / "runs" / "good" / "good.failed.ipynb"
    line = f"ValueError: odd in output_dir is {what}: only files are kept; see {failed}"
    assert done.stderr == f"good FAILED after 0 s: {line}"
    assert files(project / "images")["good.png"] == b"old"
    assert failed.is_file()


def test_a_folder_of_the_notebook_that_is_gone_keeps_the_notebook(
    project, csbp_run, files_made, monkeypatch
):
    execute = run.execute

    def execute_and_delete(copy, parameters, name):
        notebook = execute(copy, parameters, name)
        shutil.rmtree(parameters["output_dir"])
        return notebook

    monkeypatch.setattr(run, "execute", execute_and_delete)
    assert csbp_run("good").stderr.startswith("good FAILED after 0 s: FileNotFoundError: ")
    assert list(files(project / "runs" / "good")) == ["good.failed.ipynb"]


@pytest.mark.parametrize("counts", [[1, 2, None], [1, None, 3]])
def test_a_notebook_with_a_cell_that_did_not_run_is_no_success(counts):
    cells = [nbformat.v4.new_code_cell("pass", execution_count=count) for count in counts]
    cells += [nbformat.v4.new_code_cell(" "), nbformat.v4.new_markdown_cell("text")]
    number = counts.index(None) + 1
    with pytest.raises(ValueError, match=f"^code cell {number} of 3 did not run$"):
        run.refuse_unfinished(nbformat.v4.new_notebook(cells=cells))


STRANGE = Path("/q\"o'\\ \n\u00e9")


def test_a_folder_with_any_name_stands_in_the_notebook_as_it_is():
    scratch = Path("/scratch/good")
    output = nbformat.v4.new_output("stream", text=f"in {scratch}: a")
    page = nbformat.v4.new_output("display_data", data={"application/json": [str(scratch / "a")]})
    cells = [
        nbformat.v4.new_code_cell("output_dir = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("pass", metadata={"tags": []}, outputs=[output, page]),
    ]
    notebook = parameterize_notebook(
        nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {}}),
        {"output_dir": str(scratch)},
        kernel_name="python3",
        language="python",
    )
    text = nbformat.writes(run.moved(notebook, scratch, STRANGE))
    _, injected, last = nbformat.reads(text, as_version=4).cells
    names = {}
    exec(injected.source, names)
    assert names["output_dir"] == str(STRANGE)
    assert last.outputs[0].text == f"in {STRANGE}: a"
    assert last.outputs[1].data == {"application/json": [str(STRANGE / "a")]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a stream that takes nothing")
def test_what_cannot_be_printed_is_no_failed_run(project, csbp_run, files_made, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = csbp_run("good")
        assert done.returncode == 0
        assert done.stderr.startswith("good done in 0 s: ")


def test_a_letter_that_a_terminal_lacks_is_spelled_out(csbp_run, files_made, monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert csbp_run("good", "--output", "\u00e9").returncode == 0
    assert printed.getvalue().endswith(b"notebook in \\xe9\n")


def test_notebooks_that_cannot_be_written_are_refused_before_a_run_stores_them(
    project, csbp_run, monkeypatch
):
    def refuse(folder, name="output_dir"):
        if folder == project / "notebooks":
            raise ValueError(f"{name} = read-only")

    monkeypatch.setattr(run, "writable_folder", refuse)
    monkeypatch.setattr(run, "run_notebook", None)  # nothing may start
    assert csbp_run("good", "--store").stderr == "csbp-run: notebooks = read-only\n"


@pytest.fixture
def heard():
    """Signals are heard, whatever these tests run under."""
    with signals_heard():
        yield


def test_ctrl_c_is_one_line_and_exit_code_130(csbp_run, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_notebook", interrupt)
    done = csbp_run("good")
    assert done.returncode == 130
    line = "csbp-run: interrupted; no figure of an unfinished notebook was touched\n"
    assert done.stderr.lstrip("\n") == line


@pytest.mark.parametrize(
    ("number", "code", "how"),
    [
        (signal.SIGTERM, 143, "stopped"),
        (signal.SIGHUP, 129, "stopped"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_told_to_stop_is_one_line_and_the_exit_code_of_the_signal(
    csbp_run, heard, monkeypatch, number, code, how
):
    ended = []
    monkeypatch.setattr(run, "run_notebook", lambda *_: os.kill(os.getpid(), number))
    monkeypatch.setattr(command_line, "end_children", lambda: ended.append(True))
    done = csbp_run("good")
    assert done.returncode == code
    assert done.stderr == f"csbp-run: {how}; no figure of an unfinished notebook was touched\n"
    assert ended == [True]


@pytest.mark.parametrize(
    ("listening", "raised"),
    [(stopping.stoppable, stopping.Stopped), (contextlib.nullcontext, KeyboardInterrupt)],
)
def test_ctrl_c_that_the_others_do_not_get_ends_them_and_starts_no_more(
    heard, monkeypatch, listening, raised
):
    started = []
    ended = threading.Event()

    def call(command, **_):
        started.append(command[-1])
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.wait(timeout=10)
        return subprocess.CompletedProcess(command, 143, stdout="", stderr="")

    monkeypatch.setattr(run.subprocess, "run", call)
    monkeypatch.setattr(run, "end_children", ended.set)
    with listening(), pytest.raises(raised):
        run.run_all(["first", "second"], [], jobs=1)
    assert ended.is_set()
    assert started == ["first"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a stream that takes nothing")
def test_of_many_none_fails_because_it_cannot_be_printed(monkeypatch, capsys):
    done = subprocess.CompletedProcess([], 0, stdout="good done\n", stderr="")
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: done)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert not run.run_all(["good"], [], jobs=1)
    assert "good done" in capsys.readouterr().err


def test_a_failure_is_told_by_its_first_line():
    assert run.in_one_line(ValueError("z = 1: must be\nmore")) == "ValueError: z = 1: must be"


def test_of_many_the_others_run_after_one_that_failed(project, monkeypatch, capsys):
    said = {
        "bad": subprocess.CompletedProcess([], 1, stdout="", stderr="bad FAILED\n"),
        "died": subprocess.CompletedProcess([], -9, stdout="", stderr=""),
        "good": subprocess.CompletedProcess([], 0, stdout="good done\n", stderr="warning\n"),
    }
    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: said[command[-1]])
    assert run.run_all(list(said), [], jobs=1)
    printed = capsys.readouterr()
    assert printed.out == "good done\n"
    assert sorted(printed.err.splitlines()) == ["bad FAILED", "died FAILED: exit code -9"]
    assert not run.run_all(["good"], [], jobs=2)


# With a kernel

PNG = b"\x89PNG"


def test_a_failure_keeps_the_old_figure_and_the_others_finish(project, csbp_run):
    done = csbp_run("all", "-p", "output_dir", "images", "--jobs", "1")
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


@pytest.mark.parametrize(
    ("code", "last", "number"),
    [("import sys; sys.exit(0)", "pass", 3), ("pass", "raise SystemExit", 4)],
)
def test_a_cell_that_ends_the_run_is_no_success(project, csbp_run, code, last, number):
    write_notebook(project / "notebooks" / "good.ipynb", last=last, code=code)
    done = csbp_run("good", "-p", "output_dir", "images")
    assert done.returncode == 1
    assert f"ValueError: code cell {number} of 4 ended the run; see " in done.stderr
    assert (project / "runs" / "good" / "good.failed.ipynb").is_file()


def test_the_run_after_a_repair_finishes_and_clears_the_failure_away(project, csbp_run):
    assert csbp_run("bad", "-p", "output_dir", "images").returncode == 1
    assert list(files(project / "runs" / "bad")) == ["bad.failed.ipynb"]
    write_notebook(project / "notebooks" / "bad.ipynb", last="pass")
    assert csbp_run("bad", "-p", "output_dir", "images").returncode == 0
    assert files(project / "images")["bad.png"].startswith(PNG)
    assert list(files(project / "runs" / "bad")) == ["bad.ipynb"]


def test_parameters_reach_the_run_and_its_record(project, csbp_run):
    done = csbp_run("good", "-p", "epochs", "5", "--output", "mine")
    assert done.returncode == 0
    assert f"figures and numbers in {project / 'mine'}, notebook in mine" in done.stdout
    assert results(project / "mine" / "good.json") == {"n": 5}
    assert provenance(project / "mine" / "good.json")["parameters"] == {"epochs": 5}
    executed = project / "mine" / "good.ipynb"
    assert execution_counts(executed) == [1, 2, 3, 4]
    assert "csbp-" not in executed.read_text()  # the scratch folder it ran in


def test_parameters_injected_once_do_not_reach_the_next_run(project, csbp_run):
    assert csbp_run("good", "-p", "epochs", "5", "--output", "mine").returncode == 0
    stored = project / "notebooks" / "good.ipynb"
    shutil.copy(project / "mine" / "good.ipynb", stored)  # with its injected cell, by mistake
    assert csbp_run("good", "--output", "again").returncode == 0
    assert results(project / "again" / "good.json") == {"n": 3}


def test_store_refreshes_the_notebook_without_metadata(project, csbp_run):
    assert csbp_run("good", "--store").returncode == 0
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


def test_killed_in_the_middle_every_old_image_is_intact(project, csbp_run):
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
    assert csbp_run("good", "-p", "output_dir", "images").returncode == 0
    assert files(project / "images")["good.png"].startswith(PNG)


# Told to stop


def children_of(process):
    return psutil.Process(process.pid).children(recursive=True)


def sleeper(seconds):
    return f"import time\nopen('started', 'w').close()\ntime.sleep({seconds})"


def test_sigterm_ends_all_that_was_started_and_touches_no_figure(project):
    for name in ("bad", "good"):
        write_notebook(project / "notebooks" / f"{name}.ipynb", last=sleeper(600), code="pass")
    before = files(project / "images")
    scratch = project / "tmp"
    scratch.mkdir()
    options = ["-p", "output_dir", "images", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "csbp_notebooks.run", "all", *options],
        cwd=project,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((project / "started").exists, seconds=120)
    started = children_of(process)
    assert len(started) >= 2  # the csbp-run of the first notebook, and its kernel
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    line = "csbp-run: stopped; no figure of an unfinished notebook was touched\n"
    assert said.endswith(line)
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(started, timeout=5)
    assert alive == []
    assert files(project / "images") == before
    assert not any(scratch.iterdir())
    assert not any(path.is_file() for path in (project / "runs").rglob("*"))


# From anywhere, with any settings

HOSTILE = "raise ImportError('foreign code')"


@pytest.fixture
def hostile(tmp_path_factory):
    """A folder with code that must not be taken for the project's, and settings that spoil it."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("csbp_core", "csbp_notebooks"):
        (folder / "elsewhere" / name).mkdir(parents=True)
        (folder / "elsewhere" / name / "__init__.py").write_text(HOSTILE)
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text("epochs = 9\nopen = None")
    (folder / "startup.py").write_text("open = None")
    (folder / "matplotlibrc").write_text("axes.facecolor: red\nsavefig.dpi: 33\nsvg.fonttype: none")
    return folder


def test_neither_folder_nor_settings_of_the_user_change_a_byte(
    project, csbp_run, hostile, monkeypatch
):
    assert csbp_run("good", "-p", "epochs", "5", "--output", "calm").returncode == 0
    settings = {
        "HOME": "/dev/null/home",
        "MPLBACKEND": "no_such_backend",
        "MATPLOTLIBRC": str(hostile / "matplotlibrc"),
        "IPYTHONDIR": str(hostile),
        "PYTHONSTARTUP": str(hostile / "startup.py"),
        "PYTHONPATH": str(hostile / "elsewhere"),
        "JUPYTER_RUNTIME_DIR": "/dev/null/runtime",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(hostile / "elsewhere")
    done = csbp_run("good", "-p", "epochs", "5", "--output", "mine")
    assert done.returncode == 0, done.stderr
    calm = files(project / "calm")
    mine = files(hostile / "elsewhere" / "mine")
    assert mine.keys() == calm.keys() == {"good.ipynb", "good.json", "good.png", "good.svg"}
    assert {name: mine[name] for name in mine if name != "good.ipynb"} == {
        name: calm[name] for name in calm if name != "good.ipynb"
    }
    outputs = [
        nbformat.read(folder / "good.ipynb", as_version=4).cells[-1].outputs
        for folder in (project / "calm", hostile / "elsewhere" / "mine")
    ]
    assert outputs[0] == outputs[1]


def test_many_run_in_the_root_and_write_where_the_caller_is(project, monkeypatch, hostile):
    calls = []

    def call(command, **settings):
        calls.append((command, settings["cwd"]))
        return subprocess.CompletedProcess(command, 0, stdout="done", stderr="")

    monkeypatch.setattr(run.subprocess, "run", call)
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "argv", ["csbp-run", "all", "-p", "epochs", "2", "--output", "mine"])
    with pytest.raises(SystemExit) as stop:
        run.main()
    assert not stop.value.code
    options = ["-p", "epochs", "2", "--output", str(hostile / "mine")]
    command = [sys.executable, "-m", "csbp_notebooks.run", *options]
    assert sorted(calls) == [([*command, "bad"], project), ([*command, "good"], project)]
