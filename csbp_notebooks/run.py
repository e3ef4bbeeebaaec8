"""csbp-run: check a notebook's parameters, run a cleared copy of it, and replace its figures only when all of it ran."""

import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import click
import nbformat
import papermill
from tqdm import tqdm

from csbp_core.checks import check, check_choice

from .figures import ROOT, replace_file, writable_folder

NOTEBOOKS = ROOT / "notebooks"
_CONVERT: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": {"True": True, "False": False}.__getitem__}


def parse_parameters(name: str, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read `(key, text)` pairs by each parameter's type and comment, "in (0, 1]" or "one of a, b". Raises ValueError."""
    known, parameters = papermill.inspect_notebook(NOTEBOOKS / f"{name}.ipynb"), {}
    for key, text in given:
        if key not in known:
            raise ValueError(f"unknown parameter {key!r} of {name}{_nearest(key, known)}: it has {', '.join(known)}")
        kind, comment = known[key]["inferred_type_name"], known[key]["help"]
        try:
            parameters[key] = value = _CONVERT[kind](text)
        except (KeyError, ValueError):
            raise ValueError(f"{key} = {text!r}: must be {'True or False' if kind == 'bool' else f'of type {kind}'}") from None
        if kind in ("int", "float"):
            interval = re.search(r"\bin ([\[(][^\])]+[\])])", comment)
            check(key, value, interval[1] if interval else "(-inf, inf)", integer=kind == "int")
        elif choices := re.search(r"\bone of ([\w, ]+)", comment):
            check_choice(key, value, tuple(re.findall(r"\w+", choices[1])))
        elif value == "":
            raise ValueError(f"{key} is empty: must be text")
    return parameters


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def run_notebook(name: str, parameters: dict[str, Any], folder: Path, store: bool) -> None:
    """Run a cleared copy; if all of it ran, move its figures to `output_dir` and itself to `folder`, or back to `store` it."""
    start, source, failed = time.perf_counter(), NOTEBOOKS / f"{name}.ipynb", folder / f"{name}.failed.ipynb"
    figures = ROOT / parameters["output_dir"]
    failed.unlink(missing_ok=True)
    notebook = nbformat.read(source, as_version=4)  # papermill clears its outputs, but not what was injected once
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    with tempfile.TemporaryDirectory(prefix="csbp-", ignore_cleanup_errors=True) as scratch:
        made, copy = Path(scratch, name), Path(scratch, source.name)
        made.mkdir()
        nbformat.write(notebook, copy)
        given = {} if store else {**parameters, "output_dir": str(made)}
        quiet = ["--log-level=CRITICAL"]  # a kernel grumbles on the terminal when it is told to stop
        try:
            notebook = papermill.execute_notebook(copy, copy, given, progress_bar=sys.stderr.isatty(), extra_arguments=quiet)
        except Exception as error:  # whatever stops a notebook: no figure is touched, and the exit code is 1
            replace_file(failed, copy.read_bytes())
            line = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}".splitlines()[0]
            sys.exit(f"{name} FAILED after {time.perf_counter() - start:.0f} s: {line}; see {failed}")
        for path in made.iterdir():
            replace_file(figures / path.name, path.read_bytes())
    del notebook.metadata["papermill"], notebook.metadata.language_info["version"]
    for cell in notebook.cells:  # without timing
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.tags else {})
    text = nbformat.writes(notebook).replace(str(made), str(figures))
    replace_file(source if store else folder / source.name, text.encode() + b"\n")
    where = "stored" if store else f"figures and numbers in {figures}, notebook in {folder}"
    print(f"{name} done in {time.perf_counter() - start:.0f} s: {where}")


def _run_all(names: list[str], options: list[str], jobs: int) -> bool:
    """Each notebook in a process of its own, `jobs` at once, with a progress bar; returns whether one failed."""
    line, pool = [sys.executable, "-m", "csbp_notebooks.run", *options], ThreadPoolExecutor(jobs)
    try:
        runs = {pool.submit(subprocess.run, [*line, name], capture_output=True, text=True): name for name in names}
        for run in tqdm(as_completed(runs), total=len(runs), desc="notebooks", disable=None):
            done = run.result()
            text = done.stdout or done.stderr or f"{runs[run]} FAILED: exit code {done.returncode}"
            tqdm.write(text.rstrip(), sys.stderr if done.returncode else sys.stdout)
    finally:  # no other starts after Ctrl-C, which those that run get, too
        pool.shutdown(cancel_futures=True)
    return any(run.result().returncode for run in runs)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1, required=True)
@click.option("-p", "--parameter", nargs=2, multiple=True, metavar="KEY VALUE", help="Set one, as in -p z 12; may be repeated.")
@click.option("--output", metavar="FOLDER", help="Where figures, numbers and executed notebook go [default: runs/NAME].")
@click.option("--store", is_flag=True, help="Refresh the stored notebook itself, at its defaults.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), help="Notebooks run at once [default: all cores].")
def command(names: tuple[str, ...], parameter: tuple[tuple[str, str], ...], output: str | None, store: bool, jobs: int) -> None:
    """Run notebooks by NAME, or `all`; `papermill --help-notebook notebooks/NAME.ipynb` lists the parameters of one."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    chosen = known if names == ("all",) else list(dict.fromkeys(names))
    if not known:
        raise ValueError(f"no notebooks in {NOTEBOOKS}: run csbp-run in the project's folder")
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"unknown notebook {unknown[0]!r}{_nearest(unknown[0], known)}: there are {', '.join(known)}")
    if store and (parameter or output):
        raise ValueError("--store runs a notebook at its defaults: it takes neither -p nor --output")
    runs = [(name, parse_parameters(name, parameter), Path(output or ROOT / "runs" / name)) for name in chosen]
    for _, parameters, folder in runs:
        writable_folder(ROOT / parameters.setdefault("output_dir", str(folder.absolute())))
        writable_folder(folder)
    if len(runs) == 1:
        run_notebook(*runs[0], store)
    else:
        options = [word for pair in parameter for word in ("-p", *pair)] + (["--output", output] if output else [])
        sys.exit(_run_all(chosen, [*options, *(["--store"] if store else [])], jobs))


def main() -> None:
    try:
        sys.exit(command(standalone_mode=False))
    except (ValueError, click.ClickException) as error:
        code, line = 2, error.format_message() if isinstance(error, click.ClickException) else error
    except click.Abort:  # Ctrl-C
        code, line = 130, "interrupted; no figure of an unfinished notebook was touched"
    print(f"csbp-run: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
