"""What the project runs in: .venv, the Makefile that makes it, any folder, any user's settings."""

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from csbp_notebooks.files import ROOT

FOLDER = "ein Ordner é"  # a space, and a letter that is not ASCII

# Left out of requirements.txt, which says why; and what papermill declares without importing it.
LEFT_OUT = {
    ("spikingjelly", "torchvision"),
    ("spikingjelly", "torchaudio"),
    ("norse", "torchvision"),
    ("papermill", "aiohttp"),
}

# Where the project may be installed: what a distribution needs depends on it.
PLATFORMS = [
    {"python_version": version, "python_full_version": f"{version}.0", **system}
    for version in ("3.11", "3.12", "3.13", "3.14")
    for system in (
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    )
]

# Imports everything that has a name in Python and prints what fails, as JSON.
IMPORT_ALL = """
import importlib, importlib.metadata, json, warnings
import setuptools  # before any distutils
warnings.simplefilter("ignore")
failed = {}
for name in sorted(importlib.metadata.packages_distributions()):
    if not name.isidentifier() or name.endswith("__mypyc"):
        continue  # stubs for type checkers, and the compiled half of one of them
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""


def pins():
    """The requirements of requirements.txt, by name."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def needed_by(name):
    """What a pinned distribution needs on any platform, as far as it is installed here."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # for another platform
        return []
    requirements = [Requirement(line) for line in lines]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": "", **where}) for where in PLATFORMS)
    ]


# .venv


def test_every_distribution_that_is_imported_by_name_imports():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_requirements_are_complete_and_agree_but_for_what_is_left_out():
    """They are installed with --no-deps: what is missing there is missing in .venv."""
    pinned = pins()
    missing = set()
    for name in pinned:
        for requirement in needed_by(name):
            pin = pinned.get(canonicalize_name(requirement.name))
            if pin is None:
                missing.add((name, requirement.name))
                continue
            (version,) = pin.specifier
            assert requirement.specifier.contains(version.version), f"{name} needs {requirement}"
    assert missing == LEFT_OUT


def test_what_is_pinned_is_what_is_installed():
    for name, pin in pins().items():
        if pin.marker is None or pin.marker.evaluate():
            assert pin.specifier.contains(importlib.metadata.version(name)), name


@pytest.mark.parametrize("library", ["lightning", "accelerate"])
def test_an_example_says_in_one_line_what_its_library_needs(library, tmp_path):
    """Here one that is there and broken, as Lightning is by a torchvision of another build."""
    (tmp_path / f"{library}.py").write_text("raise RuntimeError('no operator\\nfor it')")
    command = [sys.executable, ROOT / "examples" / f"with_{library}.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"with_{library}.py: ")
    assert r"(RuntimeError('no operator\nfor it'))" in line
    assert f"pip install torch=={torch_version()} " in line


def torch_version():
    """The pinned version of torch."""
    (version,) = pins()["torch"].specifier
    return version.version


def test_readme_installs_the_pinned_torch():
    named = re.findall(r"torch==([\d.]*\d)", (ROOT / "README.md").read_text())
    assert named
    assert set(named) == {torch_version()}


# The Makefile


@pytest.fixture
def project(tmp_path):
    """What make reads of the project, in a folder with a name that needs quotes, and .venv done."""
    folder = tmp_path / FOLDER
    for name in ("notebooks", ".venv"):
        (folder / name).mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
        os.utime(folder / name, (1, 1))
    (folder / ".venv" / ".ready").touch()
    (folder / "notebooks" / "01_one.ipynb").touch()
    return folder


def would_run(project, *targets):
    """The commands that make would run, a line each."""
    command = ["make", "--dry-run", "--no-print-directory", *targets]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_make_figures_and_a_notebook_write_to_images(project):
    assert would_run(project, "figures") == [".venv/bin/csbp-run all -p output_dir images"]
    assert would_run(project, "01_one") == [".venv/bin/csbp-run 01_one -p output_dir images"]


@pytest.mark.parametrize(
    "stray",
    [
        "test.ipynb",
        "my figures.ipynb",
        "01_one test.ipynb",
        "01_one-Copy1.ipynb",
        "a:b.ipynb",
        "01_a:b.ipynb",
        "$(error).ipynb",
        "02_%.ipynb",
    ],
)
def test_what_lies_beside_the_notebooks_changes_no_target(project, stray):
    targets = ("figures", "test", "01_one")
    expected = would_run(project, *targets)
    (project / "notebooks" / stray).touch()
    assert would_run(project, *targets) == expected


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_venv_is_made_again_after_a_change(project, changed):
    assert not any("pip" in line for line in would_run(project, "figures"))
    os.utime(project / changed)
    os.utime(project / ".venv" / ".ready", (1, 1))
    assert any("pip" in line for line in would_run(project, "figures"))


def test_venv_that_was_stopped_half_way_is_made_again(project):
    (project / ".venv" / ".ready").unlink()
    commands = would_run(project, "test")
    assert any("pip" in line for line in commands)
    ready = commands.index("touch .venv/.ready")
    assert commands.index(".venv/bin/ruff check .") == ready + 1


def test_torch_is_installed_with_what_its_build_needs_and_all_else_as_it_is_pinned(project):
    """The default build of torch on Linux needs NVIDIA's packages, which no requirement names."""
    (project / ".venv" / ".ready").unlink()
    installs = [line for line in would_run(project, "venv") if " install " in line]
    torch, pinned, editable = (line.partition(" install ")[2] for line in installs)
    assert torch == "--constraint requirements.txt torch"
    assert pinned == "--no-deps -r requirements.txt"
    assert editable.startswith("--no-deps ")


def logged(project, script, *arguments):
    """Lines that a script in place of csbp-run writes into a log when make calls it."""
    run = project / ".venv" / "bin" / "csbp-run"
    run.parent.mkdir()
    run.write_text(f"#!/bin/sh\n{script}")
    run.chmod(0o755)
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(["make", *arguments], cwd=project, env=environment, check=True)
    return (project / "log").read_text().splitlines()


def test_make_runs_one_target_after_the_other(project):
    """Each of them uses all cores by itself."""
    script = "echo start $1 >> log\nsleep 0.3\necho end $1 >> log\n"
    log = logged(project, script, "-j4", "figures", "01_one")
    assert log == ["start all", "end all", "start 01_one", "end 01_one"]


def test_make_lets_python_find_a_folder_that_is_not_named_in_ascii(project):
    """Python before 3.13 reads where the project is installed in the encoding of LC_ALL."""
    assert logged(project, "echo ${LC_ALL-none} >> log", "figures") == ["none"]


# The Snakefile

# Plays Python: it prints a plan; of a cell it keeps the words, and makes it.
PYTHON = """#!/bin/sh
if [ "$2" = study.experiments.plan ]; then
    echo '{"is_all": true, "seeds": null, "shards": 1, "tasks": ["xor"], "experiment_1":
        {"tasks": ["xor"], "cells": ["inside_20-60_2.0", "inside_20-20_2.0"]},
        "experiment_2": {"tuned_as": {"csbp": "csbp"}, "everywhere": ["csbp"], "now_constant": []},
        "experiment_3": {"times": [10]},
        "experiment_4": {"arms": ["bp", "bp_data"], "splits": [3]},
        "repeated": ["experiment_1/xor/inside_20-20_2.0"]}'
    exit
fi
printf '%s|' "$@" >> "$0.log"
echo >> "$0.log"
while [ "$1" != --out ]; do shift; done
echo made >> "$2"
if [ "$3" = --table ]; then echo made >> "$4"; fi
"""


def tunings(folder, start, schedule, arm):
    """The words of the two jobs that tune an arm: bp first, then the arm around its rate."""
    conditions = f"{folder}/{start}_{schedule}"
    given = f"|--start|{folder}/start.json" if start == "data" else ""
    end = f"--schedule|{schedule}|--out|{conditions}"
    return [
        f"-m|study.experiments.tuning|xor|bp{given}|{end}/bp.json|",
        f"-m|study.experiments.tuning|xor|{arm}{given}|--bp|{conditions}/bp.json|{end}/{arm}.json|",
    ]


@pytest.fixture
def study(tmp_path):
    """The study in a folder of its own, whose Python writes the words of its jobs into a log.

    A function of the command line's last words, which gives the lines of the log.
    """
    folder = tmp_path / FOLDER
    (folder / "study").mkdir(parents=True)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / "study" / name, folder / "study")
    python = folder / "a python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(*words):
        command = [sys.executable, "-m", "snakemake", "-s", folder / "study" / "Snakefile"]
        command += ["--cores", "1", "--config", f"python={python}", "fashion_mnist=the images"]
        done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (folder / "a python.log").read_text().splitlines()

    return run


def test_a_repeated_cell_is_made_as_the_first_was_and_compared_with_it(study):
    *_, first, again, compared = study("--", "repeated")
    made = "experiment_1/xor/inside_20-20_2.0.json|"
    assert first.endswith(f"--out|study/results/{made}")
    assert again == first.replace("--out|study/results/", "--out|runs/study/again/")
    assert compared == (
        "-m|study.experiments.repeated|study/results|runs/study/again|--out|study/repeated.json|"
    )
    assert study("--", "repeated")[-2:] == [again, compared]  # and made again at every call


def test_the_study_runs_in_any_folder_with_any_python_from_anywhere(study, tmp_path):
    ran = study()
    results = "study/results"
    tuned = f"{results}/tuning/xor"
    decisive, long = (
        f"-m|study.experiments.experiment_1|xor|--rest|inside|--annealing|20/{epochs}|--ratio|2.0"
        f"|--csbp|{tuned}/now_constant/csbp.json"
        f"|--out|{results}/experiment_1/xor/inside_20-{epochs}_2.0.json|"
        for epochs in (20, 60)
    )
    halved = (
        "-m|study.experiments.experiment_1|xor|--rest|inside|--annealing|20/20|--ratio|2|--substeps|2"
        f"|--csbp|{tuned}/now_constant/csbp.json"
        f"|--out|{results}/experiment_1/xor/halved_steps.json|"
    )
    started = f"-m|study.experiments.start|xor|--out|{tuned}/start.json|"
    controls = [
        f"-m|study.experiments.experiment_3|xor|{control}|--tuned|{tuned}/now_constant/{arm}.json"
        f"|--out|{results}/experiment_3/xor/{file}.json|"
        for control, arm, file in (
            ("quadratic_membrane", "quadratic_membrane", "quadratic_membrane"),
            ("substeps|--times|10", "membrane", "times_10"),
        )
    ]
    in_order = [
        [*tunings(tuned, "now", "constant", "csbp"), decisive, long],
        [*tunings(tuned, "now", "constant", "csbp"), halved],
    ]
    for arm, control in zip(("quadratic_membrane", "membrane"), controls, strict=True):
        in_order.append([*tunings(tuned, "now", "constant", arm), control])
    for start, schedule in itertools.product(("now", "data"), ("constant", "cosine")):
        before = [started] if start == "data" else []
        file = f"{start}_{schedule}/csbp.json"
        of_experiment_2 = (
            f"-m|study.experiments.experiment_2|xor|csbp|--tuned|{tuned}/{file}"
            f"|--out|{results}/experiment_2/xor/{file}|"
        )
        in_order.append([*before, *tunings(tuned, start, schedule, "csbp"), of_experiment_2, long])
    table = "-m|study.findings|study/results|--out|study/contrasts.json|--table|study/RESULTS.md|"
    images = f"{results}/experiment_4"
    in_order += [
        [
            f"-m|study.experiments.experiment_4|start|--data|the images|--out|{images}/start.json|",
            "-m|study.experiments.experiment_4|train|bp_data|--split|3|--data|the images"
            f"|--start|{images}/start.json|--out|{images}/bp_data/split_3.json|",
        ],
        [
            "-m|study.experiments.experiment_4|train|bp|--split|3|--data|the images"
            f"|--out|{images}/bp/split_3.json|",
        ],
    ]
    in_order += [[jobs[-1], table] for jobs in in_order]
    assert sorted(ran) == sorted({job for jobs in in_order for job in jobs})
    for jobs in in_order:
        assert [job for job in ran if job in jobs] == jobs


# The user's settings


def test_notebooks_are_compared_under_no_setting_of_the_users(tmp_path):
    """What draws figures elsewhere, prints at every start, or cannot be written."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import matplotlib; matplotlib.rc('figure', figsize=(1, 1))")
    (tmp_path / "matplotlibrc").write_text("figure.figsize: 2, 2")
    users = {
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "HOME": "/dev/null/nowhere",
        "XDG_CACHE_HOME": "/dev/null/nowhere",
        "MPLCONFIGDIR": "/dev/null/nowhere",
    }
    picture = {"text/plain": "<Figure size 640x480 with 1 Axes>"}
    cell = nbformat.v4.new_code_cell(
        "import matplotlib.pyplot as plt\n\nfig, ax = plt.subplots()\nplt.show()",
        execution_count=1,
        outputs=[nbformat.v4.new_output("display_data", picture)],
    )
    (tmp_path / "project").mkdir()
    notebook = tmp_path / "project" / "a notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    shutil.copy(ROOT / "conftest.py", tmp_path / "project")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", notebook]
    done = subprocess.run(
        [*command, "--nbval-cell-timeout=60", "-p", "no:cacheprovider"],
        cwd=tmp_path / "project",
        env={**os.environ, **users},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
