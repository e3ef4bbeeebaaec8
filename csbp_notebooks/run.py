"""csbp-run: run a cleared copy of a notebook, and replace its figures only when all of it ran."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import nbformat
from papermill.translators import PythonTranslator
from tqdm import tqdm

from .collection import choose, refuse_stray
from .command_line import run_command
from .files import NOTEBOOKS, ROOT, replace_file, replace_files, writable_folder
from .kernel import execute, refuse_shadows
from .owners import claims, refuse_files_of_others
from .parameters import check_text, parse_parameters
from .stopping import Stopped, end_children, undisturbed
from .streams import say
from .verdict_text import IMAGES, as_terminal
from .verdicts import verdicts

UNTOUCHED = "{}; no figure of an unfinished notebook was touched"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel


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

    @property
    def is_at_home(self) -> bool:
        """Whether everything goes where it goes if nobody says anything else."""
        return self.figures.resolve() == (ROOT / "runs" / self.name).resolve()


def prepare(name: str, given: tuple[tuple[str, str], ...], output: str | None) -> Run:
    """Check the parameters of a run and settle its folders; nothing is made yet.

    Args:
        name: the notebook's name.
        given: parameters as text, pairs of name and value.
        output: the folder for notebook, figures and numbers; None is runs/NAME.

    Raises ValueError, one line, for a bad parameter.
    """
    if output == "":
        raise ValueError("--output is empty: must be a folder")
    folder = Path(output or ROOT / "runs" / name)
    parameters = parse_parameters(name, given)
    parameters.setdefault("output_dir", str(folder.absolute()))
    check_text("output_dir", parameters["output_dir"])
    check_text("--output", str(folder))
    return Run(name, parameters, folder)


def run_notebook(run: Run, store: bool) -> None:
    """Run a cleared copy of a notebook, then move what it made to its place.

    Args:
        run: the notebook, its parameters and folders.
        store: whether to run it at its defaults and refresh the stored notebook itself.

    When a cell fails or does not run, no figure is touched, the notebook is kept as
    NAME.failed.ipynb, and the process exits with code 1; so it does where a figure belongs to
    another notebook, or where what it made is no file.
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
            notebook = execute(copy, parameters, run.name)
            refuse_unfinished(notebook)
            figures = contents_of(made)
            refuse_files_of_others(run.name, run.figures, figures)
        except Exception as error:  # whatever stops a notebook
            replace_file(failed, copy.read_bytes())
            seconds = time.perf_counter() - start
            sys.exit(f"{run.name} FAILED after {seconds:.0f} s: {in_one_line(error)}; see {failed}")

    text = nbformat.writes(moved(without_traces(notebook), made, run.figures))
    target = run.source if store else run.folder / run.source.name
    contents = {run.figures / name: content for name, content in figures.items()}
    contents[target] = text.encode() + b"\n"
    done = "stored" if store else whereabouts(run, contents)
    with undisturbed():
        replace_files(contents)
    say(f"{run.name} done in {time.perf_counter() - start:.0f} s: {done}", sys.stdout)


def whereabouts(run: Run, files: Iterable[Path]) -> str:
    """Where a run leaves its files; at home, where nobody asked for it, also what they replace."""
    said = f"figures and numbers in {run.figures}, notebook in {run.folder}"
    replaced = sum(path.exists() for path in files)
    if replaced and run.is_at_home:
        said += f"; {replaced} files of an earlier run replaced (--output FOLDER keeps both)"
    return said


def refuse_unfinished(notebook: nbformat.NotebookNode) -> None:
    """Refuse a notebook with a cell that did not run, or not to its end; ValueError, one line.

    papermill takes `sys.exit(0)` in a cell for a good end, wherever it is.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(cells, start=1):
        ended = any(output.output_type == "error" for output in cell.outputs)
        if ended or cell.execution_count is None:
            what = "ended the run" if ended else "did not run"
            raise ValueError(f"code cell {number} of {len(cells)} {what}")


def contents_of(made: Path) -> dict[str, bytes]:
    """The files that a notebook made, by name; ValueError, one line, for what is no file."""
    contents = {}
    for path in sorted(made.iterdir()):
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no file"
            raise ValueError(f"{path.name} in output_dir is {what}: only files are kept")
        contents[path.name] = path.read_bytes()
    return contents


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


def in_one_line(error: Exception) -> str:
    """Name and first line of an error; of papermill's, those of the error in the notebook."""
    name = getattr(error, "ename", type(error).__name__)
    message = getattr(error, "evalue", error)
    return f"{name}: {message}".splitlines()[0]


def without_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what differs from run to run or machine to machine: timing, versions, widgets."""
    del notebook.metadata["papermill"]
    del notebook.metadata.language_info["version"]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return notebook


def moved(notebook: nbformat.NotebookNode, old: Path, new: Path) -> nbformat.NotebookNode:
    """Let a notebook that ran in one folder say another, in the cell papermill put in as well."""
    written = [PythonTranslator.translate_str(str(folder)) for folder in (old, new)]
    for cell in notebook.cells:
        cell.source = cell.source.replace(*written)
        if cell.cell_type == "code":
            cell.outputs = nbformat.from_dict(replaced(cell.outputs, str(old), str(new)))
    return notebook


def replaced(value: Any, old: str, new: str) -> Any:
    """What JSON holds, with a text in it replaced; not in JSON itself, where a quote is escaped."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [replaced(part, old, new) for part in value]
    if isinstance(value, dict):
        return {key: replaced(part, old, new) for key, part in value.items()}
    return value


def run_all(names: list[str], options: list[str], jobs: int) -> bool:
    """Run each notebook in a process of its own, with a progress bar.

    Args:
        names: of the notebooks.
        options: of csbp-run, the same for all.
        jobs: how many run at once, at least 1.

    Returns whether one failed; the others finish all the same.
    """
    # In the project's folder, for Python looks for packages there first.
    command = [sys.executable, "-m", "csbp_notebooks.run", *options]
    run = partial(
        subprocess.run, cwd=ROOT, capture_output=True, text=True, errors="backslashreplace"
    )
    pool = ThreadPoolExecutor(jobs)
    try:
        processes = {pool.submit(run, [*command, name]): name for name in names}
        finished = as_completed(processes)
        for process in tqdm(finished, total=len(names), desc="notebooks", disable=None):
            done = process.result()
            died = f"{processes[process]} FAILED: exit code {done.returncode}"
            said = done.stdout or done.stderr or died
            stream = sys.stderr if done.returncode else sys.stdout
            with tqdm.external_write_mode(stream):
                say(said.rstrip(), stream)
    except (Stopped, KeyboardInterrupt):
        pool.shutdown(wait=False, cancel_futures=True)  # else the next would start
        end_children()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return any(process.result().returncode for process in processes)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1)
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
    "--verdicts",
    "shows_verdicts",
    is_flag=True,
    help="Show what became of every claim, by the numbers in images/, and run nothing.",
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
    shows_verdicts: bool,
    jobs: int,
) -> None:
    """Run notebooks by NAME, or `all`; `papermill --help-notebook notebooks/NAME.ipynb` lists the
    parameters of one."""
    if shows_verdicts:
        if names or given or output or store:
            raise ValueError("--verdicts runs nothing: it takes no names, -p, --output or --store")
        say(as_terminal(verdicts(IMAGES)), sys.stdout)
        return
    if not names:
        raise ValueError("which notebook? csbp-run NAME, or csbp-run all; csbp-run -h says more")
    chosen = choose(names)
    refuse_shadows()
    if store:
        refuse_to_store(chosen, given, output)
        writable_folder(NOTEBOOKS, "notebooks")
    runs = [prepare(name, given, output) for name in chosen]
    for run in runs:  # not before all of them are checked
        writable_folder(run.figures)
        writable_folder(run.folder)
    if len(runs) == 1:
        run_notebook(runs[0], store)
        return
    share_a_folder = len({run.figures for run in runs}) == 1
    with claims() if share_a_folder else contextlib.nullcontext():
        sys.exit(run_all(chosen, options_of(given, output, store), jobs))


def refuse_to_store(
    names: Iterable[str], given: tuple[tuple[str, str], ...], output: str | None
) -> None:
    """Refuse what does not go with --store; ValueError, one line.

    That is anything but the defaults, and a copy of a notebook: its own output_dir is still the
    original's, whose figures it would overwrite.
    """
    if given or output:
        raise ValueError(
            "--store runs a notebook at its defaults: it takes neither -p nor --output"
        )
    for name in names:
        refuse_stray(name)


def options_of(given: tuple[tuple[str, str], ...], output: str | None, store: bool) -> list[str]:
    """The options of csbp-run as it is called, for one that runs in the project's folder."""
    options = []
    for key, text in given:
        options += ["-p", key, text]
    if output:
        options += ["--output", os.path.abspath(output)]
    if store:
        options += ["--store"]
    return options


def main() -> None:
    """Run the command; bad input is one line on stderr and exit code 2."""
    run_command(command, "csbp-run", UNTOUCHED)


if __name__ == "__main__":
    main()
