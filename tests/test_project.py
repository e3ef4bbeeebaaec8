"""What stands in several files of the project says the same in all of them."""

import re
import subprocess

import pytest

import csbp_core
from csbp_notebooks.files import ROOT

PAGES = ("README.md", "BENCHMARKS.md", "CONTRIBUTING.md")
SOURCES = ("csbp_core", "csbp_notebooks", "study", "tests")
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_the_newest_version_of_the_changelog_is_that_of_csbp_core():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == csbp_core.__version__


def test_the_version_to_cite_is_that_of_csbp_core():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited[1] == csbp_core.__version__


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    links += re.findall(r'<img src="([^"]+)"', text)
    links += re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.M)
    missing = [link for link in links if ":" not in link and not (ROOT / link).exists()]
    assert not missing


def test_no_line_of_a_page_is_taken_for_a_comment():
    """By MyST, in which a per cent sign at its start makes it one."""
    for page in PAGES:
        lines = (ROOT / page).read_text().splitlines()
        assert not [line for line in lines if line.lstrip().startswith("% ")], page


@pytest.mark.parametrize("page", [*PAGES, *(f"notebooks/{name}" for name in NOTEBOOKS)])
def test_files_that_are_named_are_there(page):
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", (ROOT / page).read_text())
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


def test_names_that_contributors_are_sent_to_are_there():
    named = set(re.findall(r"`(\w+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "Makefile", ROOT / "pyproject.toml"]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in files)))
    assert named - words == set()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git repository")
@pytest.mark.parametrize("path", ["build/lib/x.py", "dist/x.whl", "x-0.2.0-py3-none-any.whl"])
def test_what_pip_wheel_leaves_is_ignored(path):
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT)
    assert done.returncode == 0
