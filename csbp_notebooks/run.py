"""csbp-run: run a cleared copy of a notebook, and replace its figures only when all of it ran."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click
import nbformat
import papermill
from tqdm import tqdm

from .files import NOTEBOOKS, ROOT, replace_file, writable_folder
from .parameters import did_you_mean, parse_parameters


class Run(NamedTuple):
    """A notebook that is going to run, everything about it checked."""

    name: str  # of the notebook, without its suffix
    parameters: dict[str, Any]  # `output_dir` and those that differ from the notebook's defaults
    folder: Path  # where the executed notebook goes

    @property
    def source(self) -> Path:
        """The stored notebook."""
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def figures(self) -> Path:
        """Where the figures and the numbers go."""
        return ROOT / self.parameters["output_dir"]


def prepare(name: str, given: tuple[tuple[str, str], ...], output: str | None) -> Run:
    """Check the parameters of a run and settle its folders; nothing is made yet.

    Args:
        name: the notebook's name.
        given: parameters as text, pairs of name and value.
        output: the folder for notebook, figures and numbers; None is runs/NAME.

    Raises ValueError, one line, for a bad parameter.
    """
    folder = Path(output or ROOT / "runs" / name)
    parameters = parse_parameters(name, given)
    parameters.setdefault("output_dir", str(folder.absolute()))
    return Run(name, parameters, folder)


def run_notebook(run: Run, store: bool) -> None:
    """Run a cleared copy of a notebook, then move what it made to its place.

    Args:
        run: the notebook, its parameters and folders.
        store: whether to run it at its defaults and refresh the stored notebook itself.

    When a cell fails, no figure is touched, the notebook is kept as NAME.failed.ipynb, and the
    process exits with code 1.
    """
    start = time.perf_counter()
    failed = run.folder / f"{run.name}.failed.ipynb"
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="csbp-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, run.name)
        copy = Path(scratch, run.source.name)
        made.mkdir()
        nbformat.write(without_injected_cells(run.source), copy)
        parameters = {} if store else run.parameters | {"output_dir": str(made)}
        try:
            notebook = execute(copy, parameters)
        except Exception as error:  # whatever stops a notebook
            replace_file(failed, copy.read_bytes())
            seconds = time.perf_counter() - start
            sys.exit(f"{run.name} FAILED after {seconds:.0f} s: {in_one_line(error)}; see {failed}")
        for path in made.iterdir():
            replace_file(run.figures / path.name, path.read_bytes())

    text = nbformat.writes(without_traces(notebook)).replace(str(made), str(run.figures))
    target = run.source if store else run.folder / run.source.name
    replace_file(target, text.encode() + b"\n")
    where = f"figures and numbers in {run.figures}, notebook in {run.folder}"
    seconds = time.perf_counter() - start
    print(f"{run.name} done in {seconds:.0f} s: {'stored' if store else where}")


def without_injected_cells(path: Path) -> nbformat.NotebookNode:
    """The notebook as its author wrote it.

    papermill clears the outputs of an executed notebook, but not the cell with parameters that it
    once put in.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    return notebook


def execute(path: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Run a notebook where it lies, with a progress bar on a terminal, and return it."""
    return papermill.execute_notebook(
        path,
        path,
        parameters,
        progress_bar=sys.stderr.isatty(),
        # A kernel grumbles on the terminal when it is told to stop.
        extra_arguments=["--log-level=CRITICAL"],
    )


def in_one_line(error: Exception) -> str:
    """Name and first line of an error; of papermill's, those of the error in the notebook."""
    name = getattr(error, "ename", type(error).__name__)
    message = getattr(error, "evalue", error)
    return f"{name}: {message}".splitlines()[0]


def without_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what differs from run to run or from machine to machine: timing and versions."""
    del notebook.metadata["papermill"]
    del notebook.metadata.language_info["version"]
    for cell in notebook.cells:
        tags = cell.metadata.tags
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return notebook


def run_all(names: list[str], options: list[str], jobs: int) -> bool:
    """Run each notebook in a process of its own, with a progress bar.

    Args:
        names: of the notebooks.
        options: of csbp-run, the same for all.
        jobs: how many run at once, at least 1.

    Returns whether one failed; the others finish all the same.
    """
    command = [sys.executable, "-m", "csbp_notebooks.run", *options]
    pool = ThreadPoolExecutor(jobs)
    try:
        processes = {
            pool.submit(subprocess.run, [*command, name], capture_output=True, text=True): name
            for name in names
        }
        finished = as_completed(processes)
        for process in tqdm(finished, total=len(names), desc="notebooks", disable=None):
            done = process.result()
            died = f"{processes[process]} FAILED: exit code {done.returncode}"
            said = done.stdout or done.stderr or died
            tqdm.write(said.rstrip(), sys.stderr if done.returncode else sys.stdout)
    finally:  # no other starts after Ctrl-C, which those that run get, too
        pool.shutdown(cancel_futures=True)
    return any(process.result().returncode for process in processes)


def choose(names: tuple[str, ...]) -> list[str]:
    """The notebooks that are asked for, each once. Raises ValueError for one that is not there."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    if not known:
        raise ValueError(f"no notebooks in {NOTEBOOKS}: run csbp-run in the project's folder")
    if names == ("all",):
        return known
    for name in names:
        if name not in known:
            suggestion = did_you_mean(name, known)
            raise ValueError(f"unknown notebook {name!r}{suggestion}: there are {', '.join(known)}")
    return list(dict.fromkeys(names))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1, required=True)
@click.option(
    "-p",
    "--parameter",
    "given",
    nargs=2,
    multiple=True,
    metavar="KEY VALUE",
    help="Set one, as in -p z 12; may be repeated.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    help="Where figures, numbers and executed notebook go [default: runs/NAME].",
)
@click.option(
    "--store",
    is_flag=True,
    help="Refresh the stored notebook itself, at its defaults.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=os.cpu_count(),
    help="Notebooks run at once [default: all cores].",
)
def command(
    names: tuple[str, ...],
    given: tuple[tuple[str, str], ...],
    output: str | None,
    store: bool,
    jobs: int,
) -> None:
    """Run notebooks by NAME, or `all`; `papermill --help-notebook notebooks/NAME.ipynb` lists the
    parameters of one."""
    chosen = choose(names)
    if store and (given or output):
        raise ValueError(
            "--store runs a notebook at its defaults: it takes neither -p nor --output"
        )
    runs = [prepare(name, given, output) for name in chosen]
    for run in runs:  # not before all of them are checked
        writable_folder(run.figures)
        writable_folder(run.folder)
    if len(runs) == 1:
        run_notebook(runs[0], store)
        return
    options = []
    for key, text in given:
        options += ["-p", key, text]
    if output:
        options += ["--output", output]
    if store:
        options += ["--store"]
    sys.exit(run_all(chosen, options, jobs))


def main() -> None:
    """Run the command; bad input is one line on stderr and exit code 2."""
    try:
        sys.exit(command(standalone_mode=False))
    except ValueError as error:
        _stop(2, str(error))
    except click.ClickException as error:
        _stop(2, error.format_message())
    except click.Abort:  # Ctrl-C
        _stop(130, "interrupted; no figure of an unfinished notebook was touched")


def _stop(exit_code: int, line: str) -> NoReturn:
    """Say one line on stderr and exit."""
    print(f"csbp-run: {line}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
