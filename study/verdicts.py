"""What the study says of the claim, task by task, by the rule that notebook 08 states.

CSBP *helps* in a task where its difference to BP is positive and the p value, corrected for the
arms of the task, is below 0.05; it *hurts* where the difference is negative. *Chaos is why* it
helps where, besides, csbp is better than a pull without chaos by the same paired test, and its
training has a larger Lyapunov exponent than BP's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .analysis import paired

if TYPE_CHECKING:
    from .analysis import CellsByTask, Comparison

LEVEL = 0.05  # a p value below it makes a difference


@dataclass(frozen=True)
class Verdict:
    """The verdict on one task.

    Attributes:
        task: its name.
        effect: of csbp compared with BP: "helps", "hurts" or "no difference".
        difference: mean test accuracy of csbp less that of BP, in [-1, 1].
        over_quadratic: csbp compared with the pull without chaos that is tuned for itself.
        over_matched: csbp compared with the same pull at csbp's own settings.
        exponent_above_bp: whether training by csbp has a larger Lyapunov exponent than by BP.
        chaos_is_why: whether csbp helps, and beats the pull that is tuned for itself.
        so_at_same_settings: whether csbp helps, and beats the pull at the same settings. Both of
            these also need the larger exponent.
    """

    task: str
    effect: str
    difference: float
    over_quadratic: Comparison
    over_matched: Comparison
    exponent_above_bp: bool
    chaos_is_why: bool
    so_at_same_settings: bool


def verdicts(cells: CellsByTask, table: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The verdict on every task.

    Args:
        cells: the `results` of `study/results.json`, by task and arm.
        table: the rows that `study.analysis.rows` makes of them.

    Returns one `Verdict` per task, in the order of the results.

    Example:
        >>> better, worse = [0.90, 0.91] * 6, [0.80, 0.82] * 6
        >>> arms = {
        ...     "csbp": {"accuracy": better},
        ...     "quadratic": {"accuracy": worse},
        ...     "matched": {"accuracy": better},
        ... }
        >>> table = [
        ...     {"task": "xor", "arm": "bp", "exponent": 0.01},
        ...     {"task": "xor", "arm": "csbp", "exponent": 0.02, "difference": 0.2, "p_holm": 0.01},
        ... ]
        >>> (verdict,) = verdicts({"xor": arms}, table)
        >>> verdict.effect, verdict.chaos_is_why, verdict.so_at_same_settings
        ('helps', True, False)
    """
    by_cell = {(row["task"], row["arm"]): row for row in table}
    return [
        judge(task, arms, csbp=by_cell[task, "csbp"], bp=by_cell[task, "bp"])
        for task, arms in cells.items()
    ]


def judge(
    task: str,
    arms: Mapping[str, Mapping[str, Any]],
    csbp: Mapping[str, Any],
    bp: Mapping[str, Any],
) -> Verdict:
    """The verdict on one task.

    Args:
        task: its name.
        arms: its cells, by arm; the `accuracy` of csbp, quadratic and matched is compared.
        csbp: the row of `study.analysis.rows` for csbp: `difference`, `p_holm`, `exponent`.
        bp: that for BP: `exponent`.

    Example:
        >>> equal = {"accuracy": [0.90, 0.91] * 6}
        >>> arms = {"csbp": equal, "quadratic": equal, "matched": equal}
        >>> csbp = {"difference": -0.1, "p_holm": 0.001, "exponent": 0.02}
        >>> judge("xor", arms, csbp, bp={"exponent": 0.01}).effect
        'hurts'
    """
    effect = effect_on_accuracy(csbp["difference"], csbp["p_holm"])
    over_quadratic = paired(arms["csbp"]["accuracy"], arms["quadratic"]["accuracy"])
    over_matched = paired(arms["csbp"]["accuracy"], arms["matched"]["accuracy"])
    exponent_above_bp = csbp["exponent"] > bp["exponent"]
    may_be_chaos = effect == "helps" and exponent_above_bp
    return Verdict(
        task=task,
        effect=effect,
        difference=csbp["difference"],
        over_quadratic=over_quadratic,
        over_matched=over_matched,
        exponent_above_bp=exponent_above_bp,
        chaos_is_why=may_be_chaos and is_better(over_quadratic),
        so_at_same_settings=may_be_chaos and is_better(over_matched),
    )


def effect_on_accuracy(difference: float, p: float) -> str:
    """What a difference to BP means: "helps", "hurts" or "no difference".

    Args:
        difference: of the mean accuracies.
        p: its p value, corrected.

    Example:
        >>> effect_on_accuracy(0.01, p=0.001), effect_on_accuracy(0.01, p=0.2)
        ('helps', 'no difference')
    """
    if p < LEVEL and difference != 0:
        return "helps" if difference > 0 else "hurts"
    return "no difference"


def is_better(comparison: Comparison) -> bool:
    """Whether the first of two arms is better for sure, by their `paired` comparison.

    Example:
        >>> is_better(paired([0.9, 0.8, 0.9, 0.8, 0.9, 0.8], [0.7, 0.6, 0.7, 0.5, 0.6, 0.6]))
        True
    """
    return comparison["p"] < LEVEL and comparison["difference"] > 0


def count_networks(cells: CellsByTask) -> int:
    """How many networks were trained and tested: one per arm, task and seed.

    Where the quadratic pull chose the settings of csbp, matched is the same run and does not count.

    Example:
        >>> arms = {"bp": {"accuracy": [0.5, 0.6]}, "quadratic": {"accuracy": [0.7, 0.8]}}
        >>> count_networks({"xor": {**arms, "matched": {"accuracy": [0.7, 0.8]}}})
        4
        >>> count_networks({"xor": {**arms, "matched": {"accuracy": [0.9, 0.8]}}})
        6
    """
    networks = 0
    for arms in cells.values():
        networks += sum(len(cell["accuracy"]) for cell in arms.values())
        if arms["matched"]["accuracy"] == arms["quadratic"]["accuracy"]:
            networks -= len(arms["matched"]["accuracy"])
    return networks
