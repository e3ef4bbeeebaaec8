"""What `make bench` does around the benchmarks: steady memory before, files and tables after."""

import json

import pytest
import torch
from benchmarks.memory import keep_freed_memory
from benchmarks.tables import (  # tests/conftest.py puts tests/ on the path
    MAKER,
    PAGE,
    README,
    README_SENTENCES,
    RESULTS,
    condense,
    tables,
)

from csbp_notebooks.files import replace_file
from csbp_notebooks.marks import replace_block


@pytest.fixture(scope="module", autouse=True)
def steady():
    """The same start for every benchmark file."""
    torch.compiler.reset()  # torch compiles at most eight variants of a function
    keep_freed_memory()


def pytest_configure(config):
    config.option.benchmark_quiet = True  # its table has a row for every run


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Put what ran beside what is kept of the others, and write all tables anew."""
    if any(benchmark.has_error for benchmark in benchmarks):
        config.get_terminal_writer().write("\nA benchmark failed: no table is written.\n")
        return
    results = json.loads(RESULTS.read_text())
    results |= condense(output_json["benchmarks"])
    page = PAGE.read_text()
    for name, table in tables(results).items():
        page = replace_block(page, MAKER, name, table)
        config.get_terminal_writer().write("\n" + table)
    readme = README.read_text()
    for name, sentence in README_SENTENCES.items():
        readme = replace_block(readme, MAKER, name, sentence(results))
    replace_file(RESULTS, json.dumps(results, indent=1, ensure_ascii=False).encode() + b"\n")
    replace_file(PAGE, page.encode())
    replace_file(README, readme.encode())
