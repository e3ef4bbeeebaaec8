"""The numbers of the protocol stand in its text, and every split gets as many networks."""

import hashlib
import re
from collections import Counter

import pytest

from study.experiments.tuning import FIRST_SEED, SPLITS as TUNING_SPLITS
from study.protocol import (
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
