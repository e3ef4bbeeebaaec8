"""One cell of the study, a task and an arm: tune, run the final seeds, measure, write JSON.

python -m study.cell digits_1 csbp --out csbp.json --bp runs/study/digits_1/bp.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from csbp_core import largest_lyapunov
from csbp_core.checks import check, check_choice

from . import command
from .arms import ARMS, Candidate, Cells, needed_arms
from .command import read_cell
from .tasks import TASKS, Task
from .train import Training

TUNING_SEED = 10_000  # tuning seeds start here, final seeds at 0
LYAPUNOV_SEEDS = 8  # final seeds whose exponent is measured
TWIN_DISTANCE = 1e-9  # in float64, and small: spikes must not flip
QUARTERS = 4  # of a training
DIGITS = 6  # decimals that are stored


class Setting(NamedTuple):
    """What the networks of a cell are trained with.

    Attributes:
        lr: learning rate.
        z: strength of what the arm adds to the loss.
        epochs: after which training stops, at the end of the annealing or before.
    """

    lr: float
    z: float
    epochs: int


class Tuned(NamedTuple):
    """What tuning gave.

    Attributes:
        setting: the chosen one.
        table: of every candidate `lr`, `z`, and `best`, its best mean validation accuracy; empty if
            nothing was tuned.
    """

    setting: Setting
    table: list[dict[str, Any]]


def run_cell(
    name: str,
    arm: str,
    cells: Cells | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    tuning: int | None = None,
    lyapunov_seeds: int = LYAPUNOV_SEEDS,
) -> dict[str, Any]:
    """Tune on validation data, train the final seeds to the chosen epoch, and test them then, once.

    Args:
        name: the name of a task, of `TASKS`.
        arm: the name of an arm, of `ARMS`.
        cells: by the names of their arms, what this function gave for those that `arm` needs, on
            the same task.
        seeds: how many networks are trained with the chosen setting, >= 1; the task's own number if
            None.
        epochs: the length of the annealing, at least `Task.every`; the task's own if None.
        tuning: how many networks are trained to choose the setting, at least one per candidate; the
            task's own number if None.
        lyapunov_seeds: of how many final seeds, from the first on, the exponent is measured, >= 1.

    Returns the cell: numbers and lists, as JSON knows them, each list of one entry per final seed
    unless it says otherwise:

    * `task` and `arm`, their names; `nominal_epochs`, the length of the annealing; `every`, the
      epochs from one validation to the next;
    * `lr`, `z` and `epochs`: the chosen setting, z None for an arm that adds nothing; `tuning`, the
      table of `Tuned`, with an entry per candidate;
    * `z_start`: where z starts, a number without a meaning for an arm that adds nothing;
    * `validation`: the validation accuracies on the way, `[seeds, validations]`;
    * `accuracy`, `dead`, `rate` and `mean_s` on the test set, as `Training.evaluate` has them;
    * `exponent` and `exponent_quarters`, as `exponents` has them, of the first seeds.

    Raises ValueError, one line, for an unknown name, a cell that is missing or another than it
    should be, and a number out of range.
    """
    check_choice("name", name, TASKS)
    check_choice("arm", arm, ARMS)
    cells = {} if cells is None else cells
    ARMS[arm].check_needs(cells, name)
    task = resized(TASKS[name], seeds, epochs, tuning)
    check("seeds", task.seeds, "[1, inf)", integer=True)
    check("lyapunov_seeds", lyapunov_seeds, "[1, inf)", integer=True)
    setting, table = choose(task, arm, cells)
    final = range(task.seeds)
    run = Training(task, arm, final, setting.lr, setting.z)
    state, curve = run.train(setting.epochs)
    tested = run.evaluate(state, run.data.x_test, run.data.y_test)
    return {
        "task": name,
        "arm": arm,
        "nominal_epochs": task.epochs,
        "every": task.every,
        "lr": setting.lr,
        "z": None if ARMS[arm].pull is None else setting.z,
        "epochs": setting.epochs,
        "tuning": table,
        "z_start": plain(run.z),  # of bp UNUSED_STRENGTH, which means nothing
        "validation": plain(curve.T),  # [seeds, validations]
        **{key: plain(values) for key, values in tested.items()},
        **exponents(task, arm, final[:lyapunov_seeds], setting),
    }


def resized(task: Task, seeds: int | None, epochs: int | None, tuning: int | None) -> Task:
    """The task with other numbers of seeds, epochs and networks for tuning, where not None."""
    return task._replace(
        seeds=task.seeds if seeds is None else seeds,
        epochs=task.epochs if epochs is None else epochs,
        tuning=task.tuning if tuning is None else tuning,
    )


def choose(task: Task, arm: str, cells: Cells) -> Tuned:
    """The setting of an arm, given the cells it needs: tuned, unless it takes over another's."""
    source = ARMS[arm].settings_from
    if source is None:
        return tune(task, arm, ARMS[arm].candidates(cells))
    chosen = cells[source]
    return Tuned(Setting(chosen["lr"], chosen["z"], chosen["epochs"]), table=[])


def tune(task: Task, arm: str, candidates: Sequence[Candidate]) -> Tuned:
    """The candidate and the epoch of the best mean validation accuracy over the tuning seeds.

    All candidates get the same seeds, so that the comparison is paired. Of equal means the first
    candidate is chosen, and its first epoch.

    Args:
        task: its `tuning` networks are shared out evenly among the candidates, and trained in one
            run. The remainder is dropped: 1500 networks among 18 candidates are 83 for each.
        arm: the name of an arm, of `ARMS`.
        candidates: at least one, and no more than there are networks.

    Raises ValueError if there are too few networks.
    """
    check("tuning", task.tuning, f"[{len(candidates)}, inf)", integer=True)
    share = task.tuning // len(candidates)
    seeds = [TUNING_SEED + i for i in range(share)] * len(candidates)
    lrs = [candidate.lr for candidate in candidates for _ in range(share)]
    zs = [candidate.z for candidate in candidates for _ in range(share)]
    _, curve = Training(task, arm, seeds, lrs, zs).train()  # [validations, candidates * share]
    mean = curve.reshape(-1, len(candidates), share).mean(2).T  # [candidates, validations]
    best, validation = divmod(int(mean.argmax()), mean.shape[1])
    setting = Setting(
        lr=candidates[best].lr,
        z=candidates[best].z,
        epochs=(validation + 1) * task.every,
    )
    table = [
        {"lr": candidate.lr, "z": candidate.z, "best": plain(row.max())}
        for candidate, row in zip(candidates, mean, strict=True)
    ]
    return Tuned(setting, table)


def exponents(task: Task, arm: str, seeds: Sequence[int], setting: Setting) -> dict[str, Any]:
    """The largest Lyapunov exponent along the training of each seed.

    Args:
        task: of `TASKS`, or like them.
        arm: the name of an arm, of `ARMS`.
        seeds: of the networks, at least one.
        setting: what they are trained with, once more and in float64.

    Returns two entries of the cell: `exponent`, that of the whole training, `[seeds]`, and
    `exponent_quarters`, those of its four quarters, `[seeds, 4]`; in natural logarithms per step.
    """
    run = Training(task, arm, seeds, setting.lr, setting.z, dtype=torch.float64)
    steps = setting.epochs * run.steps
    growth = largest_lyapunov(run.step, run.start(), steps, rows=True, d0=TWIN_DISTANCE)
    parts = np.array_split(growth, QUARTERS)  # growth: [steps, seeds]
    quarters = np.stack([part.mean(0) for part in parts], axis=1)  # [seeds, quarters]
    return {"exponent": plain(growth.mean(0)), "exponent_quarters": plain(quarters)}


def plain(numbers: np.ndarray | Tensor) -> Any:
    """Numbers as JSON knows them: rounded to 6 decimals, None where not finite.

    Example:
        >>> plain(torch.tensor([0.5, float("nan")]))
        [0.5, None]
    """
    array = np.asarray(numbers, dtype=float)
    rounded = np.asarray(np.round(array, DIGITS), dtype=object)
    rounded[~np.isfinite(array)] = None
    return rounded.tolist()


def command_line() -> argparse.ArgumentParser:
    """The arguments of `main`."""
    parser = command.parser(__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("arm", choices=ARMS)
    for arm in needed_arms():
        parser.add_argument(f"--{arm}", type=Path, help=f"JSON of the {arm} cell")
    for size in ("seeds", "epochs", "tuning"):
        parser.add_argument(f"--{size}", type=int, help="if not the task's own")
    return parser


def made(options: argparse.Namespace) -> dict[str, Any]:
    """The cell that the command line asks for."""
    paths = {arm: getattr(options, arm) for arm in needed_arms()}
    cells = {arm: read_cell(f"--{arm}", path) for arm, path in paths.items() if path is not None}
    return run_cell(
        options.task,
        options.arm,
        cells,
        seeds=options.seeds,
        epochs=options.epochs,
        tuning=options.tuning,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cell from the command line; bad input is one line on stderr and exit code 2."""
    command.run("study.cell", command_line(), made, arguments)


if __name__ == "__main__":
    main()
