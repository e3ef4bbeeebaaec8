"""What every test runs under: repeatable property tests, and one thread where it is asked for."""

import gc

import matplotlib.pyplot as plt
import numba
import pytest
import torch
from hypothesis import settings

from csbp_notebooks.figures import setup

pytest.register_assert_rewrite("helpers")  # so that a failed assert there shows its values, too

# Workers share cores, so no deadline; a failure must repeat, so no randomness.
settings.register_profile("csbp", deadline=None, derandomize=True)
settings.load_profile("csbp")


def pytest_collection_finish():
    """Keep all that is loaded by now out of what the collector of garbage looks through.

    That is torch and a dozen libraries, none of which becomes garbage: 0.3 s each time.
    """
    gc.freeze()


@pytest.fixture
def one_thread():
    """One thread for torch and for numba, for what must repeat or would fight over cores."""
    torch_threads = torch.get_num_threads()
    numba_threads = numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(torch_threads)
    numba.set_num_threads(numba_threads)


@pytest.fixture
def fresh_compiler():
    """Nothing compiled yet: torch.compile reuses code without a look at the hooks of a model."""
    torch.compiler.reset()


@pytest.fixture
def style(tmp_path):
    """That of the notebooks; the figures are closed after the test."""
    with plt.rc_context():
        setup(tmp_path)
        yield
    plt.close("all")
