"""One cell of the study, a task and an arm: tune, run the final seeds, measure the exponent, write JSON.

python -m study.cell digits_1 csbp --out runs/study/digits_1/csbp.json --bp runs/study/digits_1/bp.json
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from csbp_core.lyapunov import largest_lyapunov
from csbp_notebooks.figures import _cpu_model, replace_file

from .train import ARMS, TASKS, Task, Training

TUNING_SEED = 10_000  # tuning seeds start here, final seeds at 0
LEARNING_RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
STRENGTHS = {"membrane": (2.0, 6.0, 20.0, 60.0, 200.0)}
DEFAULT_STRENGTHS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def candidates(arm: str, bp: dict | None, csbp: dict | None) -> list[tuple[float, float]]:
    """The candidates (lr, z) of an arm, its lr around the one chosen for BP."""
    if arm == "bp":
        return [(lr, 1.0) for lr in LEARNING_RATES]
    if bp is None or (arm in ("high", "noise", "matched") and csbp is None):
        raise ValueError(f"arm = {arm!r}: needs the bp cell; high, noise and matched also the csbp cell")
    if arm in ("high", "noise"):
        return [(bp["lr"] * factor, csbp["z"]) for factor in (0.25, 0.5, 1, 2, 4)]  # type: ignore[index]
    return [(bp["lr"] * factor, z) for factor in (0.5, 1, 2) for z in STRENGTHS.get(arm, DEFAULT_STRENGTHS)]


def tune(task: Task, arm: str, choices: Sequence[tuple[float, float]], epochs: int) -> dict[str, Any]:
    """The candidate and the epoch of the best mean validation accuracy over the tuning seeds, all trained in one run."""
    each = task.tuning // len(choices)
    seeds = [TUNING_SEED + i for i in range(each)] * len(choices)
    lr, z = ([choice[i] for choice in choices for _ in range(each)] for i in (0, 1))
    _, curve = Training(task, arm, seeds, lr, z, epochs).train()
    mean = curve.reshape(len(curve), len(choices), each).mean(2).T  # [candidates, validations]
    best, at = divmod(int(mean.argmax()), mean.shape[1])
    table = [{"lr": lr, "z": z, "best": plain(row.max())} for (lr, z), row in zip(choices, mean, strict=True)]
    return {"lr": choices[best][0], "z": choices[best][1], "epochs": (at + 1) * task.every, "tuning": table}


def exponents(task: Task, arm: str, seeds: Sequence[int], lr: float, z: float, epochs: int, chosen: int) -> dict[str, Any]:
    """The largest Lyapunov exponent per step along the training of each seed: of the whole run and of its quarters."""
    run = Training(task, arm, seeds, lr, z, epochs, torch.float64)
    growth = largest_lyapunov(run.step, run.start(), chosen * run.steps, rows=True, d0=1e-9)  # [steps, seeds]
    quarters = np.stack([part.mean(0) for part in np.array_split(growth, 4)], axis=1)
    return {"exponent": plain(growth.mean(0)), "exponent_quarters": plain(quarters)}


def plain(numbers: Any) -> Any:
    """Numbers as JSON knows them: rounded to 6 digits, None where not finite."""
    numbers = np.asarray(numbers, dtype=float)
    rounded: Any = np.where(np.isfinite(numbers), np.round(numbers, 6), None)
    return rounded.tolist()


def run_cell(
    name: str, arm: str, bp: dict | None = None, csbp: dict | None = None, seeds: int | None = None,
    epochs: int | None = None, tuning: int | None = None, lyapunov_seeds: int = 8,
) -> dict[str, Any]:  # fmt: skip
    """Tune on the validation set, train the final seeds to the chosen epoch and test them once there."""
    task = TASKS[name]
    task = task._replace(tuning=tuning or task.tuning, epochs=epochs or task.epochs)
    cell: dict[str, Any] = {"task": name, "arm": arm, "nominal_epochs": task.epochs, "every": task.every}
    if arm == "matched" and csbp:  # the quadratic pull at csbp's own settings, which leaves nothing to choose
        cell |= {key: csbp[key] for key in ("lr", "z", "epochs")} | {"tuning": []}
    else:
        cell |= tune(task, arm, candidates(arm, bp, csbp), task.epochs)
    final, (lr, z, chosen) = range(seeds or task.seeds), (cell["lr"], cell["z"], cell["epochs"])
    run = Training(task, arm, final, lr, z)
    state, curve = run.train(chosen)
    cell |= {"z": None if arm == "bp" else z, "z_start": plain(run.z), "validation": plain(curve.T)}
    cell |= {key: plain(value) for key, value in run.evaluate(state, run.data.x_test, run.data.y_test).items()}
    return cell | exponents(task, arm, final[:lyapunov_seeds], lr, z, task.epochs, chosen)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    for arm in ("bp", "csbp"):
        parser.add_argument(f"--{arm}", type=Path, help=f"JSON of the {arm} cell")
    for name in ("seeds", "epochs", "tuning"):
        parser.add_argument(f"--{name}", type=int, help="if not the task's own")
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)
    start, out = time.perf_counter(), options.pop("out")
    for arm in ("bp", "csbp"):
        options[arm] = options[arm] and json.loads(options[arm].read_text())
    cell = run_cell(options.pop("task"), options.pop("arm"), **options)
    cell["provenance"] = {
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {"python": platform.python_version()} | {key: version(key) for key in ("torch", "numpy", "scikit-learn")},
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, json.dumps(cell, allow_nan=False).encode() + b"\n")


if __name__ == "__main__":
    main()
