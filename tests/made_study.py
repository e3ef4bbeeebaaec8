"""A whole study of made cells, whose verdicts are known."""

import functools
import json

import numpy as np

from study.experiments.experiment_1 import grid
from study.experiments.experiment_4 import PROTOCOL_SETTING, networks_of
from study.findings.cells import expected_cells
from study.protocol import digest, final_networks
from study.training.robustness import KINDS, NOISES

RULES = ("bp", "csbp", "inner flow", "outer flow", "kick", "noise")
SUBSTEPS = ("1", "2", "4")

# How many points csbp (in experiment 3 membrane) is above what it is compared with, and how much a
# split's mean scatters about that. What is not named here is the same, within a hundredth.
PLANTED = {
    ("experiment_1", "digits_1"): (1.0, 0.1),
    ("experiment_1", "randman_1"): (0.0, 0.05),
    ("experiment_1", "xor"): (5.0, 40.0),
    ("experiment_2", "digits_1"): (-1.0, 0.1),
    ("experiment_2", "digits_3"): (0.6, 0.001),
    ("experiment_2", "digits_conv"): (0.1, 0.05),
    ("experiment_2", "randman_3"): (0.5, 6.0),
    ("experiment_3", "digits_1"): (2.0, 0.1),
    ("experiment_4", "csbp"): (0.1, 0.05),
}
FAVOURED = {"csbp", "csbp_resummed", "membrane"}

RESUMMED_ABOVE = 0.7  # points, of digits_3: its noise floor

PROVENANCE = {"protocol": digest(), "cpu_seconds": 36.0}


def made_networks(rng, planted, experiment, task, arm):
    """What the networks of an arm came to, shares in [0, 1]."""
    networks = len(final_networks(task).seeds)
    above, scatter = planted.get((experiment, task), (0.0, 0.01))
    of_splits = rng.normal(above if arm in FAVOURED else 0.0, scatter, 8)
    points = 96 + of_splits.repeat(networks // 8) + 0.001 * rng.normal(size=networks)
    found = {
        "accuracy": (points / 100).tolist(),
        "dead": rng.uniform(0, 0.2, networks).tolist(),
        "rate": [0.25] * networks,
        "curve": [0.5] * 40,
    }
    if task == "xor":
        epochs = rng.integers(1, 41, networks).tolist()
        epochs[rng.integers(networks)] = None
        found["epochs_to_solution"] = epochs
    return found


def made_condition(splits, name):
    """What a cell of experiment 1 says of its condition; z_c differs from split to split."""
    places = {place.file_name: place for place in grid()}
    rest, annealing, ratio = places.get(name, places["inside_20-20_2.0"])  # halved steps have it
    return {
        "rest": rest,
        "annealing": annealing,
        "ratio": ratio,
        "z_start": [ratio * 100 * 5.0**split for split in splits],
        "z_tuned": 3.0,
    }


def made_cell_on_images(rng, planted, arm, split):
    """The same of an arm on a split."""
    networks = networks_of(arm, split)
    size = len(networks.seeds)
    above, scatter = planted.get(("experiment_4", arm), (0.0, 0.01))
    points = 88 + rng.normal(above, scatter) + 0.001 * rng.normal(size=size)
    shares = rng.uniform(0, 1, (15, size)).tolist()
    return {
        "arm": arm,
        **PROTOCOL_SETTING._asdict(),
        "start_from_data": [0.25, 0.5] if arm == "bp_data" else None,
        **networks._asdict(),
        "accuracy": (points / 100).tolist(),
        "robustness": {
            kind: rng.uniform(0, 1, (3, size)).tolist() for kind in ("inputs", "weights")
        },
        "rate": rng.uniform(0, 0.5, (2, size)).tolist(),
        "dead": rng.uniform(0, 0.2, (2, size)).tolist(),
        "gradient_share": shares if arm == "csbp" else [],
        "fc1_start": {"critical_z": rng.uniform(100, 200, size).tolist()},
        "fc1_end": {"critical_z": rng.uniform(1, 2, size).tolist()},
        "provenance": PROVENANCE,
    }


def made_cell(rng, planted, path):
    """A cell as the commands of the four experiments write it."""
    experiment, task, *_, name = path.split("/")
    if experiment == "experiment_4":
        return made_cell_on_images(rng, planted, arm=task, split=int(name.removeprefix("split_")))
    networks = final_networks(task)
    cell = {"task": task, **networks._asdict(), "provenance": PROVENANCE}
    made = functools.partial(made_networks, rng, planted, experiment, task)
    if experiment == "experiment_1":
        cell["rules"] = {rule: made(rule) for rule in RULES}
        for number, trained in enumerate(cell["rules"].values(), start=1):
            trained["zero_surrogate"] = [0.01 * number] * len(networks.seeds)
            trained["curve"] = (0.9 - number / np.arange(10, 50)).tolist()
        return cell | made_condition(networks.splits, name)
    if name.startswith("times_"):
        trained = {number: made("membrane") for number in SUBSTEPS}
        return cell | {"substeps": trained, "integrated": None if task == "digits_3" else 4}
    cell |= made(name)
    if (task, name) == ("digits_3", "csbp_resummed"):
        cell["accuracy"] = [0.96 + (0.6 + RESUMMED_ABOVE) / 100] * len(networks.seeds)
    if experiment == "experiment_2":
        levels = {kind: len(NOISES[kind].levels) for kind in KINDS[task]}
        size = len(networks.seeds)
        cell["robustness"] = {
            kind: rng.uniform(0, 1, (number, size)).tolist() for kind, number in levels.items()
        }
    return cell


def made_cells(planted=PLANTED):
    """All cells that the protocol asks for, by path.

    Args:
        planted: as in `PLANTED`.
    """
    rng = np.random.default_rng(0)
    return {path: made_cell(rng, planted, path) for path in expected_cells()}


def write_study(folder):
    """Fill a folder with these cells; it is made."""
    for path, cell in made_cells().items():
        file = folder / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(cell))
