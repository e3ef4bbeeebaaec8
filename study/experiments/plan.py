"""Print, as JSON for the Snakefile, what there is to run of what a config file asks for.

python -m study.experiments.plan \
    '{"tasks": "all", "arms": ["bp", "csbp"], "seeds": "all", "shards": 1}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from csbp_core.checks import check, check_choice

from ..command import bad_input_in_one_line
from ..protocol import SPLITS, final_networks
from ..tasks.tasks import TASKS
from .experiment_1 import TASK_NAMES, grid
from .experiment_2 import ARMS as ARMS_OF_2
from .experiment_3 import TIMES
from .experiment_4 import EVERY_ARM as ARMS_OF_4
from .repeated import REPEATED
from .shards import COUNTS, first_seeds, shard_of

ALL = "all"
KEYS = ("tasks", "arms", "seeds", "shards", "fashion_mnist", "python")  # the last two not in here


def plan(config: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to run.

    Args:
        config: `tasks` and `arms`, lists of names or "all"; `seeds`, of every split, or "all";
            `shards`, one of `shards.COUNTS`. What is left out is all, and one shard.

    Raises ValueError, one line, for a key, a name or a number that is none of these.
    """
    for key in config:
        check_choice("key of the config", key, KEYS)
    tasks = _chosen("tasks", config.get("tasks", ALL), TASKS)
    every_arm = dict.fromkeys([*ARMS_OF_2, *ARMS_OF_4])
    arms = _chosen("arms", config.get("arms", ALL), every_arm)
    seeds = _seeds(config)
    shards = _shards(config, tasks, seeds)
    is_all = (len(tasks), len(arms), seeds) == (len(TASKS), len(every_arm), None)
    return {
        "is_all": is_all,
        "seeds": seeds,
        "shards": shards,
        "tasks": tasks,
        "experiment_1": {
            "tasks": _those_of(TASK_NAMES, tasks),
            "cells": [place.file_name for place in grid()],
        },
        "experiment_2": _experiment_2(arms),
        "experiment_3": {"times": TIMES},
        "experiment_4": {"arms": _those_of(ARMS_OF_4, arms), "splits": SPLITS},
        "repeated": REPEATED,
    }


def _seeds(config: Mapping[str, Any]) -> int | None:
    """How many of every split are asked for; None for all."""
    seeds = config.get("seeds", ALL)
    if seeds == ALL:
        return None
    check("seeds", seeds, "[1, inf)", integer=True)
    return seeds


def _shards(config: Mapping[str, Any], tasks: Iterable[str], seeds: int | None) -> int:
    """In how many shards each cell is trained, which every task's networks must allow."""
    shards = config.get("shards", 1)
    check_choice("shards", shards, COUNTS)
    for task in tasks:  # now rather than in every job
        shard_of(first_seeds(final_networks(task), seeds), 1, shards)
    return shards


def _experiment_2(arms: Iterable[str]) -> dict[str, Any]:
    """Its arms: where each is trained, and whose settings it has."""
    chosen = {name: ARMS_OF_2[name] for name in _those_of(ARMS_OF_2, arms)}
    return {
        "tuned_as": {name: arm.tuned_as for name, arm in ARMS_OF_2.items()},
        "everywhere": [name for name, arm in chosen.items() if arm.everywhere],
        "now_constant": [name for name, arm in chosen.items() if not arm.everywhere],
    }


def _those_of(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Of the names that an experiment knows those that are asked for, in its order."""
    return [name for name in known if name in names]


def _chosen(key: str, names: Any, known: Iterable[str]) -> list[str]:
    """The names that are asked for, in the order in which they are known."""
    if names == ALL:
        return list(known)
    if not isinstance(names, list) or not names:
        raise ValueError(f"{key} = {names!r}: must be {ALL}, or a list of names")
    for name in names:
        check_choice(key, name, known)
    return _those_of(known, names)


def main() -> None:
    """Print the plan; a config that is none is one line on stderr and exit code 2."""
    with bad_input_in_one_line("study.experiments.plan"):
        print(json.dumps(plan(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
