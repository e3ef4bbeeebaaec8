"""The forward hook on a layer: what it reads as h, and the records it keeps for the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..stability import LINEAR_LAYERS
from ..torch_private import (
    has_left_its_transform,
    in_backward_pass,
    is_transformed,
    version_of,
)
from .measurement import CriticalZ, Measurement

# What reads h of a layer that has just run: (module, its inputs, its output) -> h, or None.
Reader = Callable[[nn.Module, tuple, Any], Any]


def read_output(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The output of a layer; the first, if it gives several."""
    return _first(output)


def read_input(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The first input of a layer."""
    return _first(inputs)


def read_membrane(module: nn.Module, inputs: tuple, output: Any) -> Any:
    """The membrane potential of a neuron, wherever its library keeps it; None if it has none."""
    last = output[-1] if isinstance(output, tuple) and output else None
    is_single_step = getattr(module, "step_mode", "m") == "s"  # then SpikingJelly's v_seq is stale
    candidates = (
        getattr(last, "v", last),  # norse returns a state with a v, snnTorch the potential itself
        None if is_single_step else getattr(module, "v_seq", None),  # csbp_core, SpikingJelly
        getattr(module, "v", None),  # the same two, where v_seq is not stored
        getattr(module, "mem", None),  # snnTorch with init_hidden
    )
    for h in candidates:
        if isinstance(h, Tensor):
            return h
    return None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, tuple | list) and values else values


# What `attach(read=...)` takes by name; a function of one's own needs no entry. To tell a spiking
# neuron from an integrator look for its surrogate gradient (`surrogate_function` in SpikingJelly,
# `spike_grad` in snnTorch, `p.method` in norse): both have potentials and states.
READERS: dict[str, Reader] = {
    "output": read_output,
    "input": read_input,
    "membrane": read_membrane,
}


class Record(NamedTuple):
    """What one run of a layer leaves behind.

    Attributes:
        h: what the chaotic loss is taken of.
        version: how often h had been written to in place when the layer had run; None in a compiled
            model, which does not tell.
        inputs: what a linear layer was given, for its critical z; None for other layers.
    """

    h: Tensor
    version: int | None
    inputs: Tensor | None


class Taken(NamedTuple):
    """What `LayerHook.take` gives: the records since the last call, and what is wrong with them."""

    records: list[Record]
    problem: str  # one line that says what to do, or ""


class LayerHook:
    """The forward hook of one layer: it keeps a record of every run, until the loss takes them.

    A copied or pickled model, or ChaoticLoss, gets an inactive hook: it reads nothing.
    """

    def __init__(
        self,
        name: str,
        read: str | Reader = "output",
        z_start: float = 0.0,
        module: nn.Module | None = None,
    ) -> None:
        self.name = name
        self.key = name  # in reports; a second way to read the same layer gets another
        self.read = read
        self.reader = READERS[read] if isinstance(read, str) else read
        self.z_start = z_start
        # set only where the critical z has a formula
        is_linear = read == "output" and isinstance(module, LINEAR_LAYERS)
        self.linear = module if is_linear else None
        self.active = False
        self.remove_from_model: Callable[[], Any] | None = None  # None for a copy's hook
        self.records: list[Record] = []
        self.skipped_in = ""  # the mode, "eval" or "no_grad", of a run that left no record
        self.measurement: Measurement | None = None
        self.critical_z: CriticalZ | None = None

    def __reduce__(self) -> tuple:
        return LayerHook, (self.name,), {"key": self.key}

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not self.active:
            return
        compiling = torch.compiler.is_compiling()
        if not compiling and in_backward_pass():
            return  # a checkpointed layer that runs again; its first run left the record
        if not module.training:
            self.skipped_in = "eval"
            return
        if not torch.is_grad_enabled():
            self.skipped_in = "no_grad"
            return
        inputs = args or tuple(kwargs.values())
        h = self.reader(module, inputs, output)
        if not isinstance(h, Tensor) or not h.is_floating_point():
            layer = f"layer {self.name!r} ({type(module).__name__})"
            raise ValueError(
                f"{layer} has no {self.read} that is a float tensor: attach to the neuron, "
                "have it store v_seq, or read by a (module, inputs, output) -> h"
            )
        if compiling:
            self.records.append(Record(h, version=None, inputs=None))
        else:
            linear_inputs = None if self.linear is None else inputs[0]
            self.records.append(Record(h, version_of(h), linear_inputs))

    def take(self) -> Taken:
        """The records since the last call, which are forgotten here."""
        records = self.records
        skipped_in = self.skipped_in
        self.records = []
        self.skipped_in = ""
        is_evaluation = not records and skipped_in == "eval"
        if not self.active or not torch.is_grad_enabled() or is_evaluation:
            return Taken([], problem="")  # none are expected
        problem = self._problem(records, skipped_in)
        if problem:
            problem = f"layer {self.name!r} {problem}"
        return Taken(records, problem)

    def _problem(self, records: list[Record], skipped_in: str) -> str:
        """Why the loss cannot be trained on these records, and what to do; "" if it can."""
        if not records and skipped_in == "no_grad":
            return "ran under no_grad: with checkpoint() set use_reentrant=False"
        if not records:
            return (
                "did not run in training mode since the last call: "
                "run the model, attach before torch.compile, or leave it out"
            )
        if any(has_left_its_transform(record.h) for record in records):
            return (
                "ran inside vmap or torch.func.grad: "
                "call the chaotic loss inside the transformed function, too"
            )
        if not all(_has_gradient(record) for record in records):
            return (
                f"gave {self.read} without a gradient: "
                "nothing before it is trained; unfreeze that, or read another layer"
            )
        if any(_was_overwritten(record) for record in records):
            return (
                f"had its {self.read} changed in place after it ran: "
                "set inplace=False in what follows"
            )
        return ""


def _has_gradient(record: Record) -> bool:
    # inside vmap or torch.func.grad a tensor does not say so itself
    return record.h.requires_grad or is_transformed(record.h)


def _was_overwritten(record: Record) -> bool:
    return record.version is not None and version_of(record.h) != record.version
