"""csbp_core as a package: what it loads, where it works, and that help() is enough."""

import functools
import importlib
import os
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import csbp_core

# What others rely on; more may be added.
PUBLIC = {
    "csbp_core": {
        "LIF",
        "ChaoticLoss",
        "SingleNeuronRun",
        "chaotic_loss",
        "critical_z",
        "dynamics",
        "largest_eigenvalue",
        "largest_lyapunov",
        "lif_step",
        "train_single_neuron",
        "triangle",
    },
    "csbp_core.dynamics": {
        "anneal",
        "bifurcations",
        "finite_time_lyapunov",
        "gradient",
        "lyapunov",
        "orbit_diagram",
        "slope",
        "step",
    },
}
every_module = pytest.mark.parametrize("module", PUBLIC)

WRITE_NOWHERE = Path("/dev/null/nowhere")  # below a file, so that not even root can make it


@functools.cache
def loaded_by(code):
    """The packages that a fresh interpreter has loaded after some code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# Imports


def test_csbp_core_knows_no_notebook():
    """Whoever adds the chaotic loss to a training needs neither Jupyter nor matplotlib."""
    loaded = loaded_by("import csbp_core")
    assert "torch" in loaded
    heavy = "matplotlib papermill nbformat IPython click csbp_notebooks snakemake sklearn study"
    assert not loaded & set(heavy.split())


def test_csbp_core_loads_neither_numba_nor_scipy():
    assert not loaded_by("import csbp_core") & {"numba", "scipy"}


def test_dynamics_is_loaded_at_its_first_use():
    assert "numba" in loaded_by("import csbp_core; csbp_core.dynamics.step(0.5, 1.0)")


@pytest.mark.parametrize("code", ["import csbp_core.dynamics", "from csbp_core import dynamics"])
def test_dynamics_may_be_imported_by_name(code):
    assert "numba" in loaded_by(code)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'csbp_core' has no attribute 'nothing'$"):
        csbp_core.nothing  # noqa: B018


@pytest.mark.skipif(os.name != "posix", reason="a path below a file is a POSIX way to say no")
def test_works_where_neither_the_package_nor_home_can_be_written(tmp_path):
    package = tmp_path / "csbp_core"
    source = Path(csbp_core.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in {path.parent for path in package.rglob("*.py")}:
        (folder / "__pycache__").touch()  # a file where a cache would be: not even root can write
    writable = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in writable}
    environment |= {"PYTHONPATH": str(tmp_path), "HOME": str(WRITE_NOWHERE)}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import csbp_core; print(csbp_core.__file__, csbp_core.dynamics.step(0.5, 1.0))",
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(package))
    assert not any(package.rglob("*.nb[ic]"))


# Help


def documented(module, kind):
    """The public functions and classes of a module of one kind, by name."""
    module = importlib.import_module(module)
    values = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in values.items() if kind(value)}


def is_result(value):
    """Whether it is a type of something that a function returns."""
    return isinstance(value, type) and issubclass(value, tuple)


def is_used(value):
    """Whether it is a function or a class that a user calls."""
    return callable(value) and not is_result(value)


@every_module
def test_the_names_that_others_rely_on_are_public(module):
    assert set(importlib.import_module(module).__all__) >= PUBLIC[module]


@every_module
def test_help_lists_every_public_function_and_class(module):
    text = pydoc.render_doc(importlib.import_module(module), renderer=pydoc.plaintext)
    for name in documented(module, callable):
        assert f" {name}(" in text or f"class {name}" in text


@every_module
def test_every_public_function_and_class_has_an_example(module):
    functions = documented(module, is_used)
    without = [name for name, value in functions.items() if ">>>" not in (value.__doc__ or "")]
    assert not without


@every_module
def test_every_public_function_says_what_each_argument_is(module):
    for name, value in documented(module, is_used).items():
        text = pydoc.render_doc(value, renderer=pydoc.plaintext)
        arguments = value.__init__ if isinstance(value, type) else value
        count = arguments.__code__.co_argcount + arguments.__code__.co_kwonlyargcount
        for argument in set(arguments.__code__.co_varnames[:count]) - {"self"}:
            assert f"{argument}: " in text.split("Args:")[1], f"{name}: {argument}"


@every_module
def test_every_result_says_what_each_of_its_fields_is(module):
    for name, value in documented(module, is_result).items():
        missing = [field for field in value._fields if f"{field}: " not in value.__doc__]
        assert not missing, name


@every_module
def test_annotations_of_arrays_do_not_expand(module):
    """`ArrayLike` is a union of twenty lines unless annotations stay as they are written."""
    for value in documented(module, is_used).values():
        assert "_SupportsArray" not in pydoc.render_doc(value, renderer=pydoc.plaintext)
