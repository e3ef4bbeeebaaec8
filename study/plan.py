"""Print, as JSON for the Snakefile, what there is to run of what a config file asks for.

python -m study.plan '{"tasks": "all", "arms": ["bp", "csbp"], "seeds": "all", "shards": 1}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from csbp_core.checks import check, check_choice

from .arms import ARMS
from .command import bad_input_in_one_line
from .experiment_1 import TASK_NAMES, grid
from .experiment_2 import ARMS as ARMS_OF_2
from .experiment_3 import TIMES
from .experiment_4 import EVERY_ARM as ARMS_OF_4
from .protocol import SPLITS, final_networks
from .repeated import REPEATED
from .shards import COUNTS, first_seeds, shard_of
from .tasks import TASKS

ALL = "all"
KEYS = ("tasks", "arms", "seeds", "shards", "fashion_mnist", "python")  # the last two not in here


def plan(config: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to run.

    Args:
        config: `tasks` and `arms`, lists of names or "all"; `seeds`, of every split, or "all";
            `shards`, one of `study.shards.COUNTS`. What is left out is all, and one shard.

    Raises ValueError, one line, for a key, a name or a number that is none of these.
    """
    for key in config:
        check_choice("key of the config", key, KEYS)
    tasks = _chosen("tasks", config.get("tasks", ALL), TASKS)
    every_arm = dict.fromkeys([*ARMS, *ARMS_OF_2, *ARMS_OF_4])
    arms = _chosen("arms", config.get("arms", ALL), every_arm)
    seeds = config.get("seeds", ALL)
    if seeds != ALL:
        check("seeds", seeds, "[1, inf)", integer=True)
    shards = config.get("shards", 1)
    check_choice("shards", shards, COUNTS)
    seeds = None if seeds == ALL else seeds
    for task in tasks:  # now rather than in every job
        shard_of(first_seeds(final_networks(task), seeds), 1, shards)
    of_2 = {name: arm for name, arm in ARMS_OF_2.items() if name in arms}
    is_all = (len(tasks), len(arms), seeds) == (len(TASKS), len(every_arm), None)
    return {
        "is_all": is_all,
        "seeds": seeds,
        "shards": shards,
        "tasks": tasks,
        "arms": [name for name in ARMS if name in arms],
        "needs": {name: arm.needs for name, arm in ARMS.items()},  # of each arm other arms' cells
        "experiment_1": {
            "tasks": [name for name in TASK_NAMES if name in tasks],
            "cells": [place.file_name for place in grid()],
        },
        "experiment_2": {
            "tuned_as": {name: arm.tuned_as for name, arm in ARMS_OF_2.items()},
            "everywhere": [name for name, arm in of_2.items() if arm.everywhere],
            "now_constant": [name for name, arm in of_2.items() if not arm.everywhere],
        },
        "experiment_3": {"times": TIMES},
        "experiment_4": {
            "arms": [name for name in ARMS_OF_4 if name in arms],
            "splits": SPLITS,
        },
        "repeated": REPEATED,
    }


def _chosen(key: str, names: Any, known: Iterable[str]) -> list[str]:
    """The names that are asked for, in the order in which they are known."""
    if names == ALL:
        return list(known)
    if not isinstance(names, list) or not names:
        raise ValueError(f"{key} = {names!r}: must be {ALL}, or a list of names")
    for name in names:
        check_choice(key, name, known)
    return [name for name in known if name in names]


def main() -> None:
    """Print the plan; a config that is none is one line on stderr and exit code 2."""
    with bad_input_in_one_line("study.plan"):
        print(json.dumps(plan(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
