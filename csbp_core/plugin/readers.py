"""What is read as h of a layer that has just run, and how a function that reads it is copied."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn

# What reads h of a layer that has just run: (module, its inputs, its output) -> h, or None. Those
# that go by name may return a list of several.
Reader = Callable[[nn.Module, tuple, Any], Any]


def read_output(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The output of a layer: of a tuple the first, of a list (one per step) all."""
    return _leading(output)


def read_input(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The first input of a layer; all of it, if that is a list."""
    return _leading(inputs)


def read_membrane(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The membrane potential of a neuron, wherever its library keeps it; None if it has none."""
    if isinstance(output, list) and any(isinstance(step, tuple) for step in output):
        return [returned_potential(step) for step in output]
    is_single_step = getattr(module, "step_mode", "m") == "s"  # then SpikingJelly's v_seq is stale
    candidates = (
        returned_potential(output),
        None if is_single_step else getattr(module, "v_seq", None),  # csbp_core, SpikingJelly
        getattr(module, "v", None),  # the same two, where v_seq is not stored
        getattr(module, "mem", None),  # snnTorch with init_hidden
    )
    for h in candidates:
        if isinstance(h, Tensor):
            return h
    return None


def read_lost(module: nn.Module, inputs: tuple, output: Any) -> None:
    """What stands for a function that could not travel with a copy; it is never called."""


# What `attach(read=...)` takes by name; a function of one's own needs no entry. To tell a spiking
# neuron from an integrator look for its surrogate gradient (`surrogate_function` in SpikingJelly,
# `spike_grad` in snnTorch, `p.method` in norse): both have potentials and states.
READERS: dict[str, Reader] = {
    "output": read_output,
    "input": read_input,
    "membrane": read_membrane,
}


def word_for(read: str | Reader) -> str:
    """What a message, a report or a state dictionary calls a way to read a layer."""
    if isinstance(read, str):
        return read
    return "function"


def _leading(values: Any) -> Any:
    """The first of a tuple; of a list each, in one flat list."""
    if isinstance(values, tuple) and values:
        return _leading(values[0])
    if not isinstance(values, list):
        return values
    leading: list[Any] = []
    for value in map(_leading, values):
        if isinstance(value, list):
            leading.extend(value)
        else:
            leading.append(value)
    return leading


def returned_potential(output: Any) -> Any:
    """The potential that a neuron returns beside its spikes, if it does."""
    if not isinstance(output, tuple) or not output:
        return None
    last = output[-1]
    return getattr(last, "v", last)  # norse returns a state with a v, snnTorch the potential itself


# Copies


def copied_reader(read: str | Reader, memo: dict) -> str | Reader:
    """What a deep copy reads by: a method of a module by that of the module's copy.

    Where that module has not been copied (yet) there is none, and copying it from here might copy
    a whole training: it is lost, which the copy says once it runs.
    """
    if isinstance(read, nn.Module):
        return memo.get(id(read), read_lost)
    owner = getattr(read, "__self__", None)
    if not isinstance(owner, nn.Module):
        return read
    twin = memo.get(id(owner))
    if twin is None:
        return read_lost
    return MethodType(read.__func__, twin)  # type: ignore[union-attr]


def pickled_reader(read: str | Reader) -> tuple[str, str]:
    """What a pickle keeps of a way to read a layer: whether by a name or by a function, and which.

    A function is kept by where it is found, and not as an object: no model must fail to be saved or
    loaded for it.
    """
    if isinstance(read, str):
        return "name", read
    place = f"{getattr(read, '__module__', '')}:{getattr(read, '__qualname__', '')}"
    if _function_at(place) is not read:
        place = ""
    return "function", place


def unpickled_reader(kind: str, word: str) -> str | Reader:
    """The way to read a layer that `pickled_reader` has kept."""
    if kind == "name":
        return word
    return _function_at(word)


def _function_at(place: str) -> Reader:
    """The function at "module:name", or what stands for one that is not there."""
    try:
        return pkgutil.resolve_name(place)
    except Exception:  # importing a module may raise anything
        return read_lost
