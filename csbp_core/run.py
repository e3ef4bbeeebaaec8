"""csbp-run: check a notebook's parameters, run a cleared copy of it, and replace its figures only when all of it ran."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click
import nbformat
import papermill
from tqdm import tqdm

from .checks import check, check_choice
from .figures import ROOT, replace_file, writable_folder

NOTEBOOKS = ROOT / "notebooks"
_CONVERT: dict[str, Callable] = {"int": int, "float": float, "str": str, "bool": {"True": True, "False": False}.__getitem__}
_INTERVAL, _CHOICES = re.compile(r"\bin ([\[(][^\])]+[\])])"), re.compile(r"\bone of ([\w, ]+)")


def parse_parameters(name: str, given: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Turn `(key, text)` pairs into a notebook's parameters, by the types and the ranges its parameters cell states.

    A range is an interval in the comment, "in (0, 1]"; a choice is "one of a, b". Raises ValueError, one line, for an
    unknown name, a wrong type or a value out of range.
    """
    known = {p["name"]: p for p in papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb")).values()}
    parameters: dict[str, object] = {}
    for key, text in given:
        if key not in known:
            raise ValueError(f"unknown parameter {key!r} of {name}{_nearest(key, known)}: it has {', '.join(known)}")
        kind, comment = known[key]["inferred_type_name"], known[key]["help"]
        try:
            value = _CONVERT[kind](text)
        except (KeyError, ValueError):
            raise ValueError(f"{key} = {text!r}: must be {'True or False' if kind == 'bool' else f'of type {kind}'}") from None
        interval, choices = _INTERVAL.search(comment), _CHOICES.search(comment)
        if kind in ("int", "float"):
            check(key, value, interval[1] if interval else "(-inf, inf)", integer=kind == "int")
        elif choices:
            check_choice(key, value, tuple(choice.strip() for choice in choices[1].split(",")))
        elif value == "":
            raise ValueError(f"{key} is empty: must be text")
        parameters[key] = value
    return parameters


def run_notebook(name: str, parameters: dict[str, object], folder: Path, figures: Path, store: bool) -> bool:
    """Run a cleared copy of a notebook; move its figures to `figures`, and the executed copy to `folder` or, to `store`, back.

    Says what it did in one line. With an error no figure is touched, and the executed copy is kept as NAME.failed.ipynb.
    """
    start, source, failed = time.perf_counter(), NOTEBOOKS / f"{name}.ipynb", folder / f"{name}.failed.ipynb"
    with tempfile.TemporaryDirectory(prefix="csbp-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, name)
        made.mkdir()
        cleared, executed = made.with_suffix(".cleared.ipynb"), made.with_suffix(".ipynb")
        nbformat.write(_cleaned(nbformat.read(source, as_version=4), outputs=False), cleared)
        given = parameters if store else {**parameters, "output_dir": str(made)}
        quiet = ["--log-level=CRITICAL"]  # a kernel grumbles on the terminal when it is told to stop
        failed.unlink(missing_ok=True)
        try:
            papermill.execute_notebook(
                str(cleared), str(executed), given, progress_bar=sys.stderr.isatty(), extra_arguments=quiet
            )
        except Exception as error:  # whatever stops a notebook
            line = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}".splitlines()[0]
            if executed.exists():
                replace_file(failed, executed.read_bytes())
                line += f"; see {failed}"
            print(f"{name} FAILED after {time.perf_counter() - start:.0f} s: {line}", file=sys.stderr)
            return False
        for path in sorted(made.iterdir()):
            replace_file(figures / path.name, path.read_bytes())
        notebook = nbformat.reads(executed.read_text().replace(str(made), str(figures)), as_version=4)
    target = source if store else folder / source.name
    replace_file(target, nbformat.writes(_cleaned(notebook, outputs=True)).encode() + b"\n")
    where = "stored" if store else f"figures and numbers in {figures}, notebook in {folder}"
    print(f"{name} done in {time.perf_counter() - start:.0f} s: {where}")
    return True


def _cleaned(notebook: nbformat.NotebookNode, outputs: bool) -> nbformat.NotebookNode:
    """Without papermill's, timing and machine metadata; without outputs and injected parameters too, if asked."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    for cell, tag in zip(notebook.cells, tags, strict=True):
        cell.metadata = nbformat.NotebookNode(tags=tag) if tag else nbformat.NotebookNode()
        if cell.cell_type == "code" and not outputs:
            cell.outputs, cell.execution_count = [], None
    if not outputs:
        notebook.cells = [cell for cell, tag in zip(notebook.cells, tags, strict=True) if "injected-parameters" not in tag]
    return notebook


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _run_all(commands: dict[str, list[str]], jobs: int) -> int:
    """Each notebook in a process of its own, `jobs` at once, with a progress bar; returns how many failed."""
    failures = 0
    with ThreadPoolExecutor(jobs) as pool:
        runs = {pool.submit(subprocess.run, line, capture_output=True, text=True): name for name, line in commands.items()}
        try:
            for run in tqdm(as_completed(runs), total=len(runs), desc="notebooks", disable=None):
                done = run.result()
                failures += done.returncode != 0
                tqdm.write((done.stdout or done.stderr or f"{runs[run]} FAILED: exit code {done.returncode}").rstrip(),
                           sys.stderr if done.returncode else sys.stdout)  # fmt: skip
        except KeyboardInterrupt:  # which the running ones get, too
            pool.shutdown(cancel_futures=True)
            raise
    return failures


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1, required=True)
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="KEY VALUE", help="Set a parameter; may be repeated.")
@click.option("--output", metavar="FOLDER", help="Where figures, numbers and executed notebook go [default: runs/NAME].")
@click.option("--store", is_flag=True, help="Refresh the stored notebook itself, at its defaults.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), help="Notebooks run at once [default: all cores].")
def command(names: tuple[str, ...], parameter: tuple[tuple[str, str], ...], output: str | None, store: bool, jobs: int) -> int:
    """Run notebooks by NAME, or `all`, with checked parameters.

    \b
    csbp-run 02_single_neuron_csbp -p beta 0.999 -p z 12
    csbp-run all -p output_dir images          what `make figures` does
    papermill --help-notebook notebooks/02_single_neuron_csbp.ipynb
    """
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    chosen = known if names == ("all",) else list(dict.fromkeys(names))
    if not known:
        raise ValueError(f"no notebooks in {NOTEBOOKS}: run csbp-run in the project's folder")
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"unknown notebook {unknown[0]!r}{_nearest(unknown[0], known)}: there are {', '.join(known)}")
    if store and (parameter or output):
        raise ValueError("--store runs a notebook at its defaults: it takes neither -p nor --output")
    parameters = {name: parse_parameters(name, parameter) for name in chosen}
    folders = {name: Path(output) if output else ROOT / "runs" / name for name in chosen}
    figures = {name: ROOT / str(parameters[name].pop("output_dir", folders[name].absolute())) for name in chosen}
    for folder in dict.fromkeys([*figures.values(), *folders.values()]):
        writable_folder(folder)
    if len(chosen) == 1:
        (name,) = chosen
        return 0 if run_notebook(name, parameters[name], folders[name], figures[name], store) else 1
    options = [word for pair in parameter for word in ("-p", *pair)] + (["--output", output] if output else [])
    line = [sys.executable, "-m", "csbp_core.run", *options, *(["--store"] if store else [])]
    return 1 if _run_all({name: [*line, "--", name] for name in chosen}, jobs) else 0


def main() -> None:
    try:
        sys.exit(command(standalone_mode=False))
    except (ValueError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        print(f"csbp-run: {message}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("csbp-run: interrupted; no figure of an unfinished notebook was touched", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
