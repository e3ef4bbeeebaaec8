"""What a notebook may call a finding: epochs that exist, numbers that exist, runs that are finite.

`np.argmax` of a condition that never holds is 0, as if it held at once; these say None. What is
None, NaN or infinite has a word, and a run that overflowed is refused with the setting that did it.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from csbp_core import train_single_neuron
from csbp_core.single_neuron import DEFAULT_LR, SingleNeuronRun

# Of each setting that can make an epoch of the single neuron overflow, a value at which it cannot.
HARMLESS = {
    "literal": False,
    "gamma": 1.0,
    "target": 0.0,
    "x": 1.0,
    "z": 0.0,
    "lr": 0.001,
    "w0": 0.5,
    "b0": 0.5,
}


def first(holds: ArrayLike) -> int | None:
    """The first place at which a condition holds, None if it holds nowhere.

    Args:
        holds: whether it holds, [n], such as at each epoch.

    Example:
        >>> first([False, True, False]), first([False, False])
        (1, None)
    """
    places = np.flatnonzero(holds)
    return int(places[0]) if places.size else None


def since(holds: ArrayLike) -> int | None:
    """The place from which on a condition holds to the end, None if it does not hold at the end.

    Args:
        holds: whether it holds, [n], such as at each epoch.

    Example:
        >>> since([True, False, True, True]), since([True, False])
        (2, None)
    """
    holds = np.asarray(holds, dtype=bool)
    failures = np.flatnonzero(~holds)
    start = int(failures[-1]) + 1 if failures.size else 0
    return start if start < holds.size else None


def shown(value: Any, form: str = "", missing: str = "never") -> str:
    """A number as text, and a word where there is none.

    Args:
        value: a number, or None.
        form: how to write it, as in `format`, such as ".2f".
        missing: the word for None, NaN and the infinite.

    Example:
        >>> shown(3.14159, ".2f"), shown(None), shown(math.inf, ".0f", "not in this run")
        ('3.14', 'never', 'not in this run')
    """
    if value is None or not math.isfinite(value):
        return missing
    return format(value, form)


def refuse_not_finite(when: str, terms: Mapping[str, Any]) -> None:
    """Refuse to go on where a number is infinite or NaN.

    Args:
        when: the place in the run, such as "epoch 3".
        terms: numbers, arrays or tensors by what they are called, each behind those that it is made
            from, so that the first that is not finite is where it began.

    Raises ValueError, one line, which names that term.

    Example:
        >>> terms = {"the loss": 0.5, "its gradient (gamma = 1e-30)": math.inf}
        >>> refuse_not_finite("epoch 3", terms)
        Traceback (most recent call last):
        ValueError: epoch 3: its gradient (gamma = 1e-30) is not finite
    """
    for name, values in terms.items():
        if not bool(torch.isfinite(torch.as_tensor(values, dtype=torch.float64)).all()):
            raise ValueError(f"{when}: {name} is not finite")


def refuse_divergence(run: SingleNeuronRun, method: str, **settings: Any) -> None:
    r"""Refuse the run of a single neuron that has overflowed, and say which setting did it.

    The first epoch with a number that is not finite is run again from the weight and bias that it
    began with, each time with one setting at a harmless value: those that mend it are the cause.

    Args:
        run: what `train_single_neuron` gave, of one neuron or a batch.
        method: as it was given there.
        settings: the keywords that were given there; lr, z, beta and I0 as numbers.

    Raises ValueError, one line, if a number of the run is not finite.

    Example:
        >>> settings = {"epochs": 5, "w0": 20.0}
        >>> run = train_single_neuron("csbp", **settings)
        >>> try:
        ...     refuse_divergence(run, "csbp", **settings)
        ... except ValueError as error:
        ...     print(str(error).replace(", ", ",\n"))
        epoch 0 overflows at w = 20,
        b = 0.5,
        but not with literal = False in place of True,
        nor with w0 = 0.5 in place of 20
    """
    overflow = _first_overflow(run)
    if overflow is None:
        return
    epoch, w, b, z = overflow
    arguments = _arguments(method, settings) | {"w0": w, "b0": b}
    place = f"w = {w:g}, b = {b:g}"
    if epoch > 0:
        rates = ("lr",) if method == "bp" else ("lr", "z")
        steps = " and ".join(f"{name} = {_text(arguments[name])}" for name in rates)
        place += f", where updates with {steps} took it"
    mends = _mends(arguments, z, at_start=epoch == 0)
    cause = "which no single setting mends"
    if mends:
        cause = "but not with " + ", nor with ".join(mends)
    raise ValueError(f"epoch {epoch} overflows at {place}, {cause}")


def _first_overflow(run: SingleNeuronRun) -> tuple[int, float, float, float] | None:
    """The epoch that first overflows in a neuron, and the w, b and z that it began with."""
    numbers = np.stack(run).reshape(len(run), len(run.w), -1)  # [quantities, epochs, neurons]
    broken = ~np.isfinite(numbers)
    epoch = first(broken.any(axis=(0, 2)))
    if epoch is None:
        return None
    neuron = int(np.argmax(broken[:, epoch].any(axis=0)))
    w, b, z = numbers[:3, :, neuron]  # in the order of the fields
    if not np.isfinite([w[epoch], b[epoch]]).all():
        epoch -= 1  # its update overflowed; the first epoch's weight and bias were given
    return epoch, float(w[epoch]), float(b[epoch]), float(z[epoch])


def _mends(arguments: dict[str, Any], z: float, *, at_start: bool) -> list[str]:
    """The settings that alone, at a harmless value, make an epoch finite, and what they were."""
    mends = []
    for name, value in HARMLESS.items():
        if name in ("w0", "b0") and not at_start:
            continue  # the epoch began with what the one before left
        once = arguments | {"epochs": 2, "z": z, "beta": 1.0, name: value}
        if _is_finite(train_single_neuron(**once)):
            mends.append(f"{name} = {_text(value)} in place of {_text(arguments[name])}")
    return mends


def _text(value: float | bool) -> str:
    """A setting in a message: not with all the digits that float32 gives a weight."""
    return str(value) if isinstance(value, bool) else f"{value:g}"


def _arguments(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the training, those that were not given at their defaults."""
    bound = inspect.signature(train_single_neuron).bind(method, **settings)
    bound.apply_defaults()
    arguments = bound.arguments
    if arguments["lr"] is None:
        arguments["lr"] = DEFAULT_LR[method]
    return arguments


def _is_finite(run: SingleNeuronRun) -> bool:
    """Whether the first of two epochs is finite: its loss, and what its update leaves."""
    return bool(np.isfinite([run.loss[0], *run.w, *run.b]).all())
