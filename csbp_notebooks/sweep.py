"""The command behind `make sweep`: a notebook at every point of a grid, by Snakemake."""

import contextlib
import fcntl
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import click
from tqdm import tqdm

from .command_line import run_command
from .files import ROOT, replace_file, writable_folder
from .kernel import refuse_shadows
from .stopping import end_children
from .streams import say
from .sweep_plan import Point, Sweep, code_digest, read_sweep

# Of every point. In a process of its own, as a notebook that runs by hand.
CSBP_RUN = [sys.executable, "-m", "csbp_notebooks.cli"]

SNAKEMAKE = [
    *(sys.executable, "-m", "snakemake", "-s", "sweeps/Snakefile"),
    "--keep-going",
    "--rerun-triggers=mtime",  # an outcome that is there is finished: its name says of what code
    "--scheduler=greedy",  # the other one weighs up jobs, which here are all alike
    # A Snakemake that was killed leaves a lock for ever. Ours ends with the process, see `alone`.
    "--nolock",
    "--rerun-incomplete",
    "--keep-incomplete",  # else one point that is killed takes away what others of its job did
]
GOES_ON = "{}; the same command goes on from there"
MENDED = "stopped; with a name that there is, the same command goes on from there"
PATIENCE = 0.5  # seconds between two looks at what is done
LOCK_PATIENCE = 5  # seconds until what was killed a moment ago must be gone


def outcome_file(sweep: Sweep, point: Point, code: str) -> Path:
    """Where it is written how a point ended that was run with this code."""
    return sweep.folder / point.name / f"{code}.outcome"


def outcome_of(path: Path) -> str | None:
    """How a point ended, "done" or "failed" with a reason; None where it has not."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def write_plan(sweep: Sweep, code: str) -> Path:
    """Write what the Snakefile reads, and return the file."""
    commands = {}
    for point in sweep.points:
        options = [word for key, text in point.given for word in ("-p", key, text)]
        output = ["--output", str(sweep.folder / point.name)]
        commands[point.name] = [*CSBP_RUN, sweep.notebook, *options, *output]
    folder = str(sweep.folder.relative_to(ROOT))
    plan = {"folder": folder, "code": code, "commands": commands}
    path = sweep.folder / "plan.json"
    replace_file(path, json.dumps(plan, indent=1).encode())
    return path


@contextlib.contextmanager
def alone(sweep: Sweep) -> Iterator[int]:
    """Let no other command run the same sweep; ValueError, one line, where one does.

    Gives the descriptor that holds the lock: a process that inherits it holds it, too, so that a
    Snakemake which outlives a killed command still does.
    """
    with (sweep.folder / "lock").open("a") as file:
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _lock(file):
            if time.monotonic() > deadline:
                line = f"the sweep {sweep.name} is running already, or what a killed one left"
                raise ValueError(line)
            time.sleep(0.1)
        yield file.fileno()


def _lock(file: IO) -> bool:
    """Lock a file, and return whether that could be done."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_points(sweep: Sweep, code: str, options: Sequence[str], lock: int) -> None:
    """Run all points that have no outcome yet, with a progress bar on a terminal.

    Args:
        sweep: the sweep.
        code: the digest of its code.
        options: of Snakemake.
        lock: the descriptor of `alone`.

    Raises ValueError, one line, once a point is done and lacks a result that is asked for: all
    others would lack it, too.
    """
    plan = write_plan(sweep, code).relative_to(ROOT)
    files = [outcome_file(sweep, point, code) for point in sweep.points]
    unfinished = {path for path in files if not path.exists()}
    finished = len(files) - len(unfinished)
    begun = f"{sweep.name}: {len(files)} points, {finished} of them finished already"
    say(f"{begun}; what they find goes into {sweep.folder}", sys.stdout)
    if not unfinished:
        return
    is_checked = check_names(sweep, code)
    for path in unfinished:  # what an earlier run said must not be taken for this one's reason
        (path.parent / "log.txt").unlink(missing_ok=True)
    with (sweep.folder / "snakemake.log").open("w") as log:
        process = subprocess.Popen(
            [*SNAKEMAKE, *options, "--config", f"plan={plan}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        )
    with tqdm(total=len(files), initial=finished, desc=sweep.name, disable=None) as bar:
        running = True
        while running:
            time.sleep(PATIENCE)
            running = process.poll() is None  # before the look, which then misses none
            unfinished = {path for path in unfinished if not path.exists()}
            bar.update(len(files) - len(unfinished) - bar.n)
            if running and not is_checked:
                is_checked = check_names_or_stop(sweep, code)


def check_names(sweep: Sweep, code: str) -> bool:
    """Check the names of results that are asked for by the points that are done.

    Args:
        sweep: the sweep.
        code: the digest of its code.

    Returns whether there is such a point. Raises ValueError, one line, for a name that none has.
    """
    done = [
        point for point in sweep.points if outcome_of(outcome_file(sweep, point, code)) == "done"
    ]
    if not done:
        return False
    # Not before there is something to read: matplotlib and torch take seconds.
    from .sweep_results import Row, refuse_unknown_names, results_in

    rows = [Row(point.varied, results_in(sweep.folder / point.name)) for point in done]
    refuse_unknown_names(sweep, rows, over=False)
    return True


def check_names_or_stop(sweep: Sweep, code: str) -> bool:
    """`check_names` while points run: a name that there is not ends them."""
    try:
        return check_names(sweep, code)
    except ValueError as error:
        end_children()
        raise ValueError(f"{error}; {MENDED}") from None


def forget_failures(sweep: Sweep, code: str) -> None:
    """Let points that failed be run again."""
    for point in sweep.points:
        path = outcome_file(sweep, point, code)
        if (outcome_of(path) or "").startswith("failed"):
            path.unlink()


def forget(sweep: Sweep, code: str) -> None:
    """Let all points be run again."""
    for point in sweep.points:
        outcome_file(sweep, point, code).unlink(missing_ok=True)


def failure(sweep: Sweep, point: Point, outcome: str | None) -> str:
    """What is said of a point that was begun and has not been done, in one line."""
    if outcome is None:
        log = sweep.folder / point.name / "log.txt"
        return f"{point} FAILED: was stopped or killed; see {log}"
    said = outcome.removeprefix("failed ").removeprefix(f"{sweep.notebook} FAILED ")
    return f"{point} FAILED {said}"


def gather(sweep: Sweep, code: str) -> bool:
    """Write the table and the figure of what is done, and name what is not.

    Args:
        sweep: the sweep.
        code: the digest of its code.

    Returns whether every point is done. Raises ValueError, one line, for a result that is asked for
    and that no point has; the table and the figure are written without it.
    """
    # Not at the top: matplotlib and torch take seconds.
    from .sweep_results import Row, read_row, refuse_unknown_names, write_results

    rows = []
    not_run = 0
    for point in sweep.points:
        folder = sweep.folder / point.name
        outcome = outcome_of(outcome_file(sweep, point, code))
        done = outcome == "done"
        rows.append(read_row(point.varied, folder) if done else Row(point.varied, None))
        if outcome is None and not (folder / "log.txt").exists():
            not_run += 1
        elif not done:
            say(failure(sweep, point, outcome), sys.stderr)
    if not_run:
        log = sweep.folder / "snakemake.log"
        say(f"{not_run} of {len(rows)} points were not run; see {log}", sys.stderr)

    count = sum(row.results is not None for row in rows)
    if count:
        files = write_results(sweep, rows)
        names = ", ".join(path.name for path in files)
        say(f"{count} of {len(rows)} points done: {names} in {sweep.folder}", sys.stdout)
    refuse_unknown_names(sweep, rows, over=True)
    return count == len(rows)


def check_profile(folder: Path) -> None:
    """Refuse a profile that is none, or is for Slurm where there is none; ValueError, one line."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise ValueError(f"--profile = {folder}: must be a folder with a config.yaml")
    is_for_slurm = re.search(r"^executor: *slurm\b", file.read_text(), re.M)
    if is_for_slurm and not shutil.which("sbatch"):  # Snakemake would wait for ever
        raise ValueError(f"--profile = {folder}: is for Slurm, and there is no sbatch here")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Points run at once, without a profile [default: all cores].",
)
@click.option(
    "--profile",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A profile of Snakemake's, such as sweeps/profiles/slurm, for a cluster.",
)
def command(file: Path, jobs: int | None, profile: Path | None) -> None:
    """Run the sweep of a YAML FILE; goes on where it was stopped."""
    if find_spec("snakemake") is None:
        raise ValueError('not installed: snakemake; try pip install "csbp-notebooks[sweeps]"')
    refuse_shadows()
    sweep = read_sweep(file)
    if jobs and profile:
        raise ValueError("--jobs and --profile: the profile says how many jobs there are")
    options = ["--cores", str(jobs or "all")]
    if profile:
        check_profile(profile)
        options = ["--profile", str(profile.resolve())]
    writable_folder(sweep.folder, "the sweep's folder")
    code = code_digest(sweep.notebook)
    with alone(sweep) as lock:
        forget_failures(sweep, code)
        run_points(sweep, code, options, lock)
        if code_digest(sweep.notebook) != code:  # and nobody knows which points had which
            forget(sweep, code)
            raise ValueError("the code was changed while the sweep ran: run it again")
        all_done = gather(sweep, code)
    sys.exit(0 if all_done else 1)


def main() -> None:
    """Run the command; bad input is one line on stderr and exit code 2."""
    run_command(command, "sweep", GOES_ON)


if __name__ == "__main__":
    main()
