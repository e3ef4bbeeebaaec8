"""`make sweep`: what is run, what is not run again, and what survives a failure or a kill."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from csbp_core import train_single_neuron
from csbp_notebooks import collection, parameters, run, sweep, sweep_plan
from csbp_notebooks.files import ROOT
from csbp_notebooks.sweep_plan import read_sweep

PARAMETERS = """z: float = 1.0  # in [0, inf); any
beta: float = 0.5  # in (0, 1]; any
output_dir: str = "runs/01_one"  # a folder"""

# Plays csbp-run: it notes that it was called and writes z + beta; z = 13 makes it fail,
# unless there is a file `lucky` in the project's folder. With a file `slow` it takes its time.
CSBP_RUN = """
import json, sys, time
from pathlib import Path
words = sys.argv[1:]
given = dict(zip(words[2::3], words[3::3]))
with open("calls", "a") as calls:
    calls.write(f"{given['z']} {given['beta']}\\n")
if Path("slow").exists():
    time.sleep(0.5)
if float(given["z"]) == 13 and not Path("lucky").exists():
    sys.exit("01_one FAILED after 0 s: ValueError: unlucky; see 01_one.failed.ipynb")
total = float(given["z"]) + float(given["beta"])
content = {"results": {"sum": total}, "provenance": {"commit": "f593b85"}}
Path(words[-1], "one.json").write_text(json.dumps(content))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one notebook and a csbp-run that only plays."""
    folder = tmp_path / "ein Ordner é"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "sweeps", folder / "sweeps")
    write_notebook(folder, "x = 1")
    (folder / "csbp_run.py").write_text(CSBP_RUN)
    for module in (sweep, sweep_plan):
        monkeypatch.setattr(module, "ROOT", folder)
    for module in (collection, parameters, run, sweep_plan):
        monkeypatch.setattr(module, "NOTEBOOKS", folder / "notebooks")
    monkeypatch.setattr(sweep, "CSBP_RUN", [sys.executable, "csbp_run.py"])
    monkeypatch.chdir(folder)
    return folder


def write_notebook(folder, code):
    """The project's notebook, with a cell of code besides its parameters."""
    cell = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, folder / "notebooks" / "01_one.ipynb")


def write_sweep(z=(1, 2), beta=(0.25, 0.5), **more):
    """A sweep over z and beta."""
    grid = {"z": list(z), "beta": list(beta)}
    content = {"notebook": "01_one", "grid": grid, **more}
    Path("try.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def make_sweep(monkeypatch, *options):
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["sweep", "try.yaml", *(options or ("--jobs", "2"))])
    with pytest.raises(SystemExit) as stop:
        sweep.main()
    return stop.value.code


def calls():
    """The points that were run so far, in no order; forgotten then."""
    path = Path("calls")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def table():
    """The table: the sum by z and beta, as text."""
    lines = csv.DictReader(Path("runs/sweeps/try/try.csv").read_text().splitlines())
    return {(float(line["z"]), float(line["beta"])): line["sum"] for line in lines}


def sums(z, beta):
    """What the table must be."""
    return {(z_, beta_): str(z_ + beta_) for z_ in z for beta_ in beta}


def test_only_what_is_not_finished_is_run_and_a_failure_stops_nothing(project, monkeypatch, capsys):
    write_sweep(z=[13, 2])
    assert make_sweep(monkeypatch) == 1
    assert calls() == ["13 0.25", "13 0.5", "2 0.25", "2 0.5"]
    printed = capsys.readouterr()
    reason = "FAILED after 0 s: ValueError: unlucky; see 01_one.failed.ipynb"
    assert sorted(printed.err.splitlines()) == [
        f"z = 13.0, beta = 0.25 {reason}",
        f"z = 13.0, beta = 0.5 {reason}",
    ]
    begun, done = printed.out.splitlines()
    folder = project / "runs" / "sweeps" / "try"
    assert begun == f"try: 4 points, 0 of them finished already; what they find goes into {folder}"
    assert done == f"2 of 4 points done: try.csv, try.json in {folder}"
    nothing = {(13.0, 0.25): "", (13.0, 0.5): ""}
    assert table() == sums([2], [0.25, 0.5]) | nothing

    write_sweep(z=[2, 3], beta=[0.5, 0.25])  # others, and those in another order
    assert make_sweep(monkeypatch) == 0
    assert calls() == ["3 0.25", "3 0.5"]
    assert "try: 4 points, 2 of them finished already; " in capsys.readouterr().out
    assert table() == sums([2, 3], [0.25, 0.5])

    before = Path("runs/sweeps/try/try.csv").read_bytes()
    assert make_sweep(monkeypatch) == 0
    assert calls() == []
    assert Path("runs/sweeps/try/try.csv").read_bytes() == before

    write_notebook(project, "x = 2")
    assert make_sweep(monkeypatch) == 0
    assert calls() == ["2 0.25", "2 0.5", "3 0.25", "3 0.5"]


def test_the_same_command_tries_again_what_failed_and_that_alone(project, monkeypatch):
    write_sweep(z=[13, 2])
    assert make_sweep(monkeypatch) == 1
    calls()
    Path("lucky").touch()
    assert make_sweep(monkeypatch) == 0
    assert calls() == ["13 0.25", "13 0.5"]
    assert table() == sums([13, 2], [0.25, 0.5])


def test_code_that_is_changed_while_a_sweep_runs_is_refused_and_all_is_run_again(
    project, monkeypatch, capsys
):
    write_sweep(z=[2], beta=[0.5])
    run_points = sweep.run_points

    def and_change(*arguments):
        run_points(*arguments)
        write_notebook(project, "x = 2")

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "run_points", and_change)
        assert make_sweep(monkeypatch) == 2
    line = "sweep: the code was changed while the sweep ran: run it again\n"
    assert capsys.readouterr().err == line
    assert not Path("runs/sweeps/try/try.csv").exists()
    calls()
    write_notebook(project, "x = 1")  # and back
    assert make_sweep(monkeypatch) == 0
    assert calls() == ["2 0.5"]


def test_results_that_other_code_left_in_a_points_folder_are_gone(project, monkeypatch):
    write_sweep(z=[2], beta=[0.5])
    assert make_sweep(monkeypatch) == 0
    (one,) = Path("runs/sweeps/try").glob("*/one.json")
    one.rename(one.with_name("another.json"))
    write_notebook(project, "x = 2")
    assert make_sweep(monkeypatch) == 0
    assert table() == sums([2], [0.5])


def test_after_a_kill_no_finished_point_is_run_again(project, monkeypatch):
    z = list(range(8))
    write_sweep(z=z, beta=[0.5])
    Path("slow").touch()
    child = os.fork()
    if child == 0:
        os.setsid()
        monkeypatch.setattr(sys, "argv", ["sweep", "try.yaml", "--jobs", "1"])
        sweep.main()
    wait_for_outcomes(3)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Path("slow").unlink()
    finished = {path.parent.name for path in outcomes()}  # by now perhaps one more
    assert 3 <= len(finished) < 8
    assert len(calls()) - len(finished) in (0, 1)  # all of them once, and what was running

    assert make_sweep(monkeypatch) == 0
    names = {str(point.varied["z"]): point.name for point in read_sweep(Path("try.yaml")).points}
    again = {names[str(float(line.split()[0]))] for line in calls()}
    assert not again & finished
    assert again | finished == set(names.values())
    assert table() == sums(map(float, z), [0.5])


def outcomes():
    """Of the points that are finished."""
    return list(Path("runs/sweeps/try").glob("*/*.outcome"))


def wait_for_outcomes(count):
    """Wait until so many points are finished, for a minute at most."""
    for _ in range(600):
        if len(outcomes()) >= count:
            return
        time.sleep(0.1)


def test_a_killed_job_of_a_queue_is_noticed_and_tried_again(project, monkeypatch):
    profile = Path("sweeps/profiles/generic")
    settings = yaml.safe_load((profile / "config.yaml").read_text())
    settings |= {"seconds-between-status-checks": 1, "group-components": {"points": 3}}
    (profile / "config.yaml").write_text(yaml.safe_dump(settings))
    write_sweep(z=[1, 2, 3, 13], beta=[0.5])
    # Once, the second point of a job kills the job: all that setsid has put into a group.
    lines = ["if len(open('calls').readlines()) == 2:", "    import os", "    os.killpg(0, 9)"]
    Path("csbp_run.py").write_text(CSBP_RUN.replace("if Path", "\n".join([*lines, "if Path"]), 1))

    assert make_sweep(monkeypatch, "--profile", str(profile)) == 1  # for 13 fails
    assert table() == sums([1, 2, 3], [0.5]) | {(13.0, 0.5): ""}
    jobs = list(Path("runs/queue").iterdir())
    lost = [job for job in jobs if not (job / "code").exists()]
    assert (len(jobs), len(lost)) == (3, 1)  # of three points and of one; one of them twice
    assert len(calls()) == 5  # only the point that was running has been run twice


def test_a_wrong_parameter_is_one_line_and_nothing_starts(project, monkeypatch, capsys):
    write_sweep(z=[1, -1])
    assert make_sweep(monkeypatch) == 2
    line = "sweep: try.yaml: point z = -1, beta = 0.25: z = -1.0: must be a number in [0, inf)\n"
    assert capsys.readouterr().err == line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--profile", "sweeps"), "--profile = sweeps: must be a folder with a config.yaml"),
        (("--jobs", "2", "--profile", "sweeps"), "--jobs and --profile: the profile says"),
        (
            ("--profile", "sweeps/profiles/slurm"),
            "--profile = sweeps/profiles/slurm: is for Slurm, and there is no sbatch here",
        ),
        (("--jobs", "0"), "Invalid value for '--jobs': 0 is not in the range x>=1."),
    ],
)
def test_a_wrong_option_is_one_line(project, monkeypatch, capsys, options, line):
    write_sweep()
    monkeypatch.setenv("PATH", "")
    assert make_sweep(monkeypatch, *options) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"sweep: {line}")
    assert printed.err.count("\n") == 1


def test_the_same_sweep_is_not_run_twice_at_once(project, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "LOCK_PATIENCE", 0)
    write_sweep()
    planned = read_sweep(Path("try.yaml"))
    planned.folder.mkdir(parents=True)
    with sweep.alone(planned):
        assert make_sweep(monkeypatch) == 2
    line = "sweep: the sweep try is running already, or what a killed one left\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"gather": ["smu"]}, "gather"),
        ({"figure": {"x": "z", "y": "beta", "values": ["smu"]}}, "figure: values"),
    ],
)
def test_a_result_that_no_point_has_stops_the_sweep_after_the_first_ones(
    project, monkeypatch, capsys, more, place
):
    Path("slow").touch()
    write_sweep(z=list(range(40)), beta=[0.5], **more)
    assert make_sweep(monkeypatch, "--jobs", "1") == 2
    line = f"sweep: try.yaml: {place}: no point has a result 'smu' (did you mean sum?): "
    refused = capsys.readouterr().err
    assert refused.startswith(f"{line}there are sum; stopped; ")
    assert refused.count("\n") == 1
    begun = len(calls())
    assert 1 <= begun < 20
    assert 1 <= len(outcomes()) <= begun

    assert make_sweep(monkeypatch, "--jobs", "1") == 2  # nothing runs until it is mended
    assert capsys.readouterr().err == f"{line}there are sum\n"
    assert calls() == []


def test_a_name_that_was_changed_when_all_was_done_costs_nothing_but_itself(
    project, monkeypatch, capsys
):
    write_sweep(z=[1], beta=[0.5])
    assert make_sweep(monkeypatch) == 0
    write_sweep(z=[1], beta=[0.5], gather=["smu", "sum"])
    capsys.readouterr()
    assert make_sweep(monkeypatch) == 2
    near = "no point has a result 'smu' (did you mean sum?): there are sum"
    assert capsys.readouterr().err == f"sweep: try.yaml: gather: {near}\n"
    assert table() == sums([1], [0.5])


def test_a_profile_that_snakemake_refuses_is_one_line(project, monkeypatch, capsys):
    write_sweep()
    Path("mine").mkdir()
    Path("mine", "config.yaml").write_text("executor: no-such\n")
    assert make_sweep(monkeypatch, "--profile", "mine") == 1
    log = project / "runs" / "sweeps" / "try" / "snakemake.log"
    printed = capsys.readouterr()
    assert printed.err == f"4 of 4 points were not run; see {log}\n"
    assert "no-such" in log.read_text()


def test_a_point_is_run_by_csbp_run(tmp_path, monkeypatch):
    for module in (sweep, sweep_plan):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps")
    monkeypatch.setattr(sweep_plan, "code_digest", lambda notebook: "0")
    monkeypatch.setattr(sweep, "code_digest", lambda notebook: "0")
    content = {"notebook": "01_single_neuron_bp", "grid": {"epochs": [7]}, "gather": ["w.last"]}
    Path("try.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert make_sweep(monkeypatch) == 0
    (made,) = Path("runs/sweeps/try").glob("*/example1.json")
    record = json.loads(made.read_text())
    assert record["provenance"]["parameters"]["epochs"] == 7
    (line,) = csv.DictReader(Path("runs/sweeps/try/try.csv").read_text().splitlines())
    assert float(line["w.last"]) == record["results"]["w"]["last"]


# The scripts


def shell(script, *words):
    """Run a script of sweeps/; its exit code and what it printed."""
    done = subprocess.run([ROOT / "sweeps" / script, *words], capture_output=True, text=True)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("command", "code", "outcome"),
    [
        (["true"], 0, "done\n"),
        (["sh", "-c", "echo first; echo why >&2; exit 1"], 0, "failed why\n"),
        (["sh", "-c", "kill -9 $$"], 137, None),
        (["sh", "-c", "exit 2"], 2, None),
    ],
)
def test_a_point_has_an_outcome_unless_it_was_killed(command, code, outcome, tmp_path):
    path = tmp_path / "a point" / "code.outcome"
    assert shell("run_point", path, *command) == (code, "")
    assert (path.read_text() if path.exists() else None) == outcome


def test_a_point_that_has_an_outcome_is_not_run_again(tmp_path):
    path = tmp_path / "code.outcome"
    path.write_text("done\n")
    assert shell("run_point", path, "sh", "-c", "exit 9") == (0, "")
    assert path.read_text() == "done\n"


@pytest.mark.skipif(shutil.which("flock") is None, reason="nothing to lock files with")
def test_a_point_is_run_once_by_two_jobs_at_the_same_time(tmp_path):
    path = tmp_path / "point" / "code.outcome"
    notes = tmp_path / "notes"
    words = [ROOT / "sweeps" / "run_point", path, "sh", "-c", f"echo run >> '{notes}'; sleep 1"]
    jobs = [subprocess.Popen(words) for _ in range(2)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0]
    assert notes.read_text() == "run\n"
    assert path.read_text() == "done\n"


def test_a_point_that_is_run_has_no_outcome_of_other_code(tmp_path):
    (tmp_path / "old.outcome").write_text("done\n")
    shell("run_point", tmp_path / "new.outcome", "true")
    assert [path.name for path in tmp_path.glob("*.outcome")] == ["new.outcome"]


def wait_for_status(job, *, until):
    """What `status` says in the end, or after ten seconds."""
    for _ in range(100):
        code, said = shell("profiles/generic/status", job)
        assert code == 0
        if said == until:
            break
        time.sleep(0.1)
    return said


@pytest.mark.parametrize(("body", "status"), [("true", "success"), ("exit 3", "failed")])
def test_a_finished_job_is_told_from_a_failed_one(body, status, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("script").write_text(body)
    _, job = shell("profiles/generic/submit", "1", "100", "1", "script")
    assert wait_for_status(job, until=status) == status


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_that_is_gone_is_told_from_one_that_runs(cancelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("script").write_text("sleep 60")
    _, job = shell("profiles/generic/submit", "1", "100", "1", "script")
    assert shell("profiles/generic/status", job) == (0, "running")
    if cancelled:
        assert shell("profiles/generic/cancel", job) == (0, "")
    else:
        os.killpg(int(Path("runs/queue", job, "id").read_text()), signal.SIGKILL)
    while shell("profiles/generic/status", job)[1] == "running" and not missed(job):
        time.sleep(0.1)
    assert missed(job)  # once is not enough
    assert shell("profiles/generic/status", job) == (0, "failed")


def missed(job):
    """Whether the queue did not have the job at the last look."""
    return Path("runs/queue", job, "missed").exists()


def test_a_job_that_was_missed_once_and_has_ended_since_is_not_lost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Path("runs/queue/job")
    job.mkdir(parents=True)
    done = subprocess.Popen(["true"])
    done.wait()
    (job / "id").write_text(f"{done.pid}\n")  # of no process
    assert shell("profiles/generic/status", "job") == (0, "running")
    (job / "code").write_text("0\n")  # it comes late, as on a disk that nodes share
    assert shell("profiles/generic/status", "job") == (0, "success")


# The way without a sweep


def test_the_plane_in_readme_is_trained_and_ends_at_rest_as_each_neuron_alone():
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"do without a sweep.*?```python\n(.*?)```", text, re.S)
    shorter = code.replace("20, 20)", "20, 3)").replace("0.9995, 20)", "0.9995, 2)")
    names: dict = {}
    exec(shorter, names)
    assert names["rest"].shape == names["z"].shape == (2, 3)
    for place in np.ndindex(2, 3):
        z, beta = names["z"][place], names["beta"][place]
        alone = train_single_neuron(epochs=8000, z=z, beta=beta, literal=False).w
        moving = np.flatnonzero(abs(alone - alone[-1]) > 0.05)
        assert names["rest"][place] == moving[-1] + 1


# The Makefile


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        (("SWEEP=a b.yaml", "JOBS=2"), '"a b.yaml" --jobs 2'),
        (("SWEEP=x.yaml", "PROFILE=my/profile"), '"x.yaml" --profile "my/profile"'),
    ],
)
def test_make_sweep_hands_its_variables_on(variables, options):
    command = ["make", "--dry-run", "--no-print-directory", "sweep", *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.splitlines()[-1].split()
    assert last == [".venv/bin/python", "-m", "csbp_notebooks.sweep", *options.split()]


@pytest.mark.parametrize(
    ("target", "variables", "options"),
    [
        ("study", (), "--cores all"),
        ("experiment_2", ("PROFILE=my/profile",), '--profile "my/profile" -- experiment_2'),
        ("study", ("CONFIG=a b.yaml",), '--configfile "a b.yaml" --cores all'),
    ],
)
def test_make_study_hands_its_variables_on(target, variables, options):
    command = ["make", "--dry-run", "--no-print-directory", target, *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    _, _, given = done.stdout.splitlines()[-1].partition("--quiet rules ")
    assert given.split() == options.split()


def test_make_sweep_without_a_file_is_one_line_that_names_ours_and_makes_nothing(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    done = subprocess.run(["make", "sweep"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    line = done.stderr.strip()
    assert "\n" not in line
    for path in (ROOT / "sweeps").glob("*.yaml"):
        assert f"SWEEP=sweeps/{path.name}" in line
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "notebooks"}
