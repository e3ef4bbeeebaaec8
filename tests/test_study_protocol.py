"""The numbers of the protocol stand in its text, and every split gets as many networks."""

import hashlib
import json
import re
import subprocess
from collections import Counter
from functools import cache

import pytest

from csbp_notebooks.files import ROOT
from study.experiments.tuning import FIRST_SEED, SPLITS as TUNING_SPLITS
from study.protocol import (
    EARLIER_TEXTS,
    EVERY_MARGIN,
    IMAGES,
    MARGINS,
    PROTOCOL,
    SEEDS,
    SPLITS,
    digest,
    final_networks,
)
from study.tasks.tasks import TASKS

TEXT = " ".join(PROTOCOL.read_text().split())


def test_every_task_has_seeds_and_a_margin():
    assert set(SEEDS) == set(MARGINS) == set(TASKS)


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_those_of_the_text(name):
    (section,) = re.findall(r"\*\*Seeds\*\*.*?\. Final seeds", TEXT)
    assert f"{name} {SEEDS[name]}" in section


@pytest.mark.parametrize("name", MARGINS)
def test_margins_are_those_of_the_text(name):
    (section,) = re.findall(r"against the task's margin, in points: (.*?)\. Both", TEXT)
    margins = dict(part.split() for part in section.split(", "))
    assert float(margins[name]) == MARGINS[name]


def test_the_margin_on_images_is_that_of_the_text():
    (section,) = re.findall(r"## Experiment 4: (.*?) ## ", TEXT)
    (margin,) = re.findall(r"margin (\S+) points", section)
    assert {**MARGINS, IMAGES: float(margin)} == EVERY_MARGIN


@pytest.mark.parametrize("name", SEEDS)
def test_the_networks_are_spread_evenly_over_the_eight_splits(name):
    seeds, splits = final_networks(name)
    assert len(set(seeds)) == len(seeds) == SEEDS[name]
    assert Counter(splits) == dict.fromkeys(SPLITS, SEEDS[name] // 8)


def test_neither_seeds_nor_splits_of_the_tuning_are_used_again_nor_split_0():
    for name in SEEDS:
        assert 999 < min(final_networks(name).seeds) < max(final_networks(name).seeds) < FIRST_SEED
    assert not {0, *TUNING_SPLITS} & set(SPLITS)


def test_the_digest_is_that_of_the_text():
    assert digest() == hashlib.sha256(PROTOCOL.read_bytes()).hexdigest()


# What came first, by the history


def git(*arguments):
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def has_its_history():
    try:
        return git("rev-parse", "--is-shallow-repository").strip() == "false"
    except (OSError, subprocess.CalledProcessError):
        return False


needs_history = pytest.mark.skipif(not has_its_history(), reason="needs the project's git history")


def text_at(commit):
    return git("show", f"{commit}:study/PROTOCOL.md")


@needs_history
@pytest.mark.parametrize("sha256", EARLIER_TEXTS)
def test_an_earlier_text_is_the_one_of_its_commit(sha256):
    assert hashlib.sha256(text_at(EARLIER_TEXTS[sha256].commit).encode()).hexdigest() == sha256


COMMON = "What is common to all experiments"


def section(text, title):
    """What a text says under a title, None for nothing."""
    if f"## {title}" not in text:
        return None
    _, _, after = text.partition(f"## {title}")
    return after.split("\n## ")[0]


@cache
def commit_that_fixed(title):
    """The oldest since which a section is as it is now."""
    now = section(PROTOCOL.read_text(), title)
    assert now
    oldest = None
    for commit in git("log", "--format=%H", "--", "study/PROTOCOL.md").split():
        if section(text_at(commit), title) != now:
            break
        oldest = commit
    return oldest


@cache
def is_older(commit, later):
    command = ["git", "merge-base", "--is-ancestor", commit, later]
    return subprocess.run(command, cwd=ROOT).returncode == 0


@needs_history
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_the_protocol_asks_of_an_experiment_was_committed_before_the_code_of_its_cells(number):
    cells = list((ROOT / f"study/results/experiment_{number}").rglob("*.json"))
    assert cells
    for path in cells:
        provenance = json.loads(path.read_text())["provenance"]
        assert not provenance["dirty"]
        for title in (COMMON, f"Experiment {number}"):
            assert is_older(commit_that_fixed(title), provenance["commit"]), path
