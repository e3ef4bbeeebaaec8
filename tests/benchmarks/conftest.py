"""What `make bench` does around the benchmarks: steady memory before, files and tables after."""

import ctypes
import json
import platform

import pytest
import torch
from benchmarks.tables import (  # tests/conftest.py puts tests/ on the path
    PAGE,
    README,
    RESULTS,
    condense,
    replace_block,
    summary,
    tables,
)

from csbp_notebooks.files import replace_file

# Parameters of glibc's mallopt, from malloc.h, and values that make it keep what is freed.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
NEVER_TRIM = 2**31 - 1
LARGEST_MMAP_THRESHOLD = 2**25


@pytest.fixture(scope="module", autouse=True)
def steady():
    """The same start for every benchmark file."""
    torch.compiler.reset()  # torch compiles at most eight variants of a function
    if platform.libc_ver()[0] == "glibc":
        # or large freed memory goes back to the system or not by luck, a factor of two
        libc = ctypes.CDLL(None)
        assert libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
        assert libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its table has a row for every run


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Put what ran beside what is kept of the others, and write all tables anew."""
    results = json.loads(RESULTS.read_text())
    results |= condense(output_json["benchmarks"])
    page = PAGE.read_text()
    for name, table in tables(results).items():
        page = replace_block(page, name, table)
        config.get_terminal_writer().write("\n" + table)
    readme = replace_block(README.read_text(), "summary", summary(results))
    replace_file(RESULTS, json.dumps(results, indent=1).encode() + b"\n")
    replace_file(PAGE, page.encode())
    replace_file(README, readme.encode())
