"""The hook on a layer: it keeps a record of every run, until the loss takes them."""

from __future__ import annotations

import warnings
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..stability import LINEAR_LAYERS
from ..torch_private import (
    backward_keeps_graph,
    compiled_graph_is_gone,
    has_left_its_transform,
    has_no_values,
    in_backward_pass,
    is_replica,
    is_traced,
    is_transformed,
    remove_hook,
    version_of,
)
from .activity import Run, run_of
from .measurement import CriticalZ, Measurement, Numbers
from .readers import (
    READERS,
    Reader,
    copied_reader,
    pickled_reader,
    read_lost,
    unpickled_reader,
)

MANY_RUNS = 100  # of a layer without a call of the loss, after which a warning is due


class Graph:
    """What has become of the graph behind one h.

    Attributes:
        is_gone: whether a backward pass went through it and did not retain it.
    """

    def __init__(self, h: Tensor) -> None:
        self.is_gone = False
        if h.grad_fn is not None:
            h.grad_fn.register_prehook(self._pass)

    def _pass(self, gradients: tuple) -> None:
        """Called in a backward pass that comes to h."""
        if not backward_keeps_graph():
            self.is_gone = True


class Record(NamedTuple):
    """What one run of a layer leaves behind.

    Attributes:
        h: what the chaotic loss is taken of.
        version: how often h had been written to in place when the layer had run; None in a compiled
            model, which does not tell.
        inputs: what a linear layer was given, for its critical z; None for other layers.
        graph: what has become of the graph behind h; None where nobody can watch it.
        run: what a layer of neurons did; None for other layers, and in a compiled model.
    """

    h: Tensor
    version: int | None
    inputs: Tensor | None
    graph: Graph | None
    run: Run | None


class Taken(NamedTuple):
    """What `LayerHook.take` gives: the records since the last call, and what is wrong with them."""

    records: list[Record]
    problem: str  # one line that says what to do, or ""
    is_evaluation: bool  # whether the layer ran in eval mode alone, and with gradients


class LayerHook:
    """The forward hook of one layer.

    A copy travels with its model and with its ChaoticLoss: where both are copied together, the
    copied ChaoticLoss goes on by it. In a model that is copied alone it reads nothing.

    Args:
        name: of the layer, in messages.
        read: how h is read.
        z_start: the layer's strength at the start.
        module: the layer; None in a copy, which learns it when it runs.
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
        self.z_start = z_start
        self.active = False
        self.is_adrift = module is None  # whether no layer is known that it is in
        self.module = module
        self.warned: set[str] = set()  # of what a user is told once by a ChaoticLoss
        self._finalizer: weakref.finalize | None = None
        self.records: list[Record] = []
        self.runs = 0  # since the last call that left a record
        self.many_runs = MANY_RUNS
        self.skipped_in = ""  # the mode, "eval" or "no_grad", of a run that left no record
        self.measurement: Measurement | None = None
        self.resumed: Numbers | None = None  # the last measurement's, before a resume
        self.critical_z: CriticalZ | None = None

    def __deepcopy__(self, memo: dict) -> LayerHook:
        copied = type(self)(self.name, z_start=self.z_start)
        copied.key = self.key
        copied.read = copied_reader(self.read, memo)
        return copied

    def __reduce__(self) -> tuple:
        return type(self), (self.name,), (self.key, pickled_reader(self.read), self.z_start)

    def __setstate__(self, state: tuple) -> None:
        self.key, read, self.z_start = state
        self.read = unpickled_reader(*read)

    def __call__(self, module: nn.Module, args: tuple, *kwargs_and_output: Any) -> None:
        # whoever puts the hook into another layer, as quantisation does, may do so without kwargs
        *kwargs, output = kwargs_and_output
        self._run(module, _all_inputs(args, *kwargs), output)

    @property
    def has_no_model(self) -> bool:
        """Whether the hook should read a layer and is in none that has run."""
        has_run = bool(self.records or self.skipped_in)
        return self.active and self.is_adrift and not has_run

    @property
    def h_name(self) -> str:
        """What a message calls h."""
        return self.read if isinstance(self.read, str) else "h"

    @property
    def linear(self) -> nn.Module | None:
        """The layer, where its critical z has a formula."""
        is_linear = self.read == "output" and isinstance(self.module, LINEAR_LAYERS)
        return self.module if is_linear else None

    def register(self, module: nn.Module) -> None:
        """Put the hook into a layer."""
        module.register_forward_hook(self, with_kwargs=True)

    def belong_to(self, chaos: object, warned: set[str]) -> None:
        """Read for a ChaoticLoss, and leave the model once nobody holds that any more.

        So it is when the cell of a notebook is run again.
        """
        self.warned = warned
        self._finalizer = weakref.finalize(chaos, self.leave)

    def find(self, module: nn.Module) -> None:
        """Learn which layer the hook is in."""
        belongs_to_none = self._finalizer is None  # in a model that was copied alone
        if module is self.module or belongs_to_none or is_replica(module):
            return
        self.is_adrift = False
        self.module = module

    def leave(self) -> None:
        """Leave the model, and read nothing any more."""
        self.active = False
        self.forget()
        if self._finalizer is not None:
            self._finalizer.detach()
        if self.module is not None:
            remove_hook(self.module, self)

    def forget(self) -> None:
        """Forget what has been recorded, and what has not."""
        self.records = []
        self.runs = 0
        self.skipped_in = ""

    @property
    def numbers(self) -> Numbers | None:
        """What was measured last, also before a resume."""
        return self.resumed if self.measurement is None else self.measurement.numbers()

    def take(self) -> Taken:
        """The records since the last call, which are forgotten here."""
        records = self.records
        skipped_in = self.skipped_in
        self.many_runs = max(self.many_runs, 2 * self.runs)  # so many are usual for this layer
        self.forget()
        if not self.active or not torch.is_grad_enabled():
            return Taken([], problem="", is_evaluation=False)  # none are expected
        if not records and skipped_in == "eval":
            return Taken([], problem="", is_evaluation=True)
        problem = self._problem(records, skipped_in)
        if problem:
            problem = f"layer {self.name!r} {problem}"
        return Taken(records, problem, is_evaluation=False)

    def _run(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Keep a record of a run, if it is one of a training."""
        compiling = torch.compiler.is_compiling()
        if not compiling:
            self.find(module)
        if not self.active or self._is_skipped(module, compiling):
            return
        h_parts = self._read(module, inputs, output)
        if not compiling and any(map(has_no_values, h_parts)):
            return
        self._refuse_no_floats(module, h_parts)
        if compiling:
            # A copy, since here nobody knows the version of h, by which a later change in place
            # shows. The compiler gives h itself where nothing writes to it.
            copies = [h.clone() for h in h_parts]
            self.records += [Record(h, None, inputs=None, graph=None, run=None) for h in copies]
        else:
            run = run_of(module, output)
            self.records += [self._record(h, inputs, run) for h in h_parts]
            self.runs += 1
            self._warn_of_many_runs()

    def _is_skipped(self, module: nn.Module, compiling: bool) -> bool:
        """Whether a run is none of a training; some of the reasons are noted for the next call."""
        if is_traced():
            return True
        if not compiling and in_backward_pass():
            return True  # a checkpointed layer that runs again; its first run left the record
        if not module.training:
            self.skipped_in = "eval"
            return True
        if not torch.is_grad_enabled():
            self.skipped_in = "no_grad"
            return True
        return False

    def _read(self, module: nn.Module, inputs: tuple, output: Any) -> list[Any]:
        """All that is h in one run."""
        if self.read is read_lost:
            raise ValueError(
                f"layer {self.name!r} was read by a function that could not be copied along: "
                "attach the copied ChaoticLoss again"
            )
        if not isinstance(self.read, str):
            return [self.read(module, inputs, output)]
        h = READERS[self.read](module, inputs, output)
        return h if isinstance(h, list) else [h]

    def _refuse_no_floats(self, module: nn.Module, h_parts: list[Any]) -> None:
        are_floats = [isinstance(h, Tensor) and h.is_floating_point() for h in h_parts]
        if not h_parts or not all(are_floats):
            layer = f"layer {self.name!r} ({type(module).__name__})"
            raise ValueError(
                f"{layer} has no {self.h_name} that is a float tensor: attach to the "
                "neuron, have it store v_seq, or read by a (module, inputs, output) -> h"
            )

    def _record(self, h: Tensor, inputs: tuple, run: Run | None) -> Record:
        linear_inputs = None if self.linear is None else inputs[0]
        graph = None if is_transformed(h) else Graph(h)
        return Record(h, version_of(h), linear_inputs, graph, run)

    def _warn_of_many_runs(self) -> None:
        if self.runs <= self.many_runs or "many runs" in self.warned:
            return
        self.warned.add("many runs")
        warnings.warn(
            f"layer {self.name!r} ran {self.runs} times in training mode without a call of its "
            "ChaoticLoss, and each run keeps its graph in memory: call it once per backward pass, "
            "or remove() it; one pass may run a layer that often, once per time step",
            stacklevel=2,
        )

    def _problem(self, records: list[Record], skipped_in: str) -> str:
        """Why the loss cannot be trained on these records, and what to do; "" if it can."""
        if not records and skipped_in == "no_grad":
            return "ran under no_grad: with checkpoint() set use_reentrant=False"
        if not records:
            return (
                "did not run in training mode since the last call: run the model, or leave the "
                "layer out by attach(..., exclude=...); attach before torch.compile, "
                "or call torch.compiler.reset() once after attach"
            )
        return self._problem_of(records)

    def _problem_of(self, records: list[Record]) -> str:
        """The same, of records that are there."""
        if any(has_left_its_transform(record.h) for record in records):
            return (
                "ran inside vmap or torch.func.grad: "
                "call the chaotic loss inside the transformed function, too"
            )
        if not all(_has_gradient(record) for record in records):
            return (
                f"gave {self.h_name} without a gradient: "
                "nothing before it is trained; unfreeze that, or read another layer"
            )
        if any(_was_overwritten(record) for record in records):
            return (
                f"had its {self.h_name} changed in place after it ran: "
                "set inplace=False in what changes it"
            )
        if any(_graph_is_gone(record) for record in records):
            return (
                "went through a backward pass before the ChaoticLoss was called: call it once per "
                "backward, before it; a call under no_grad forgets what it should not count"
            )
        return ""


class InputHook(LayerHook):
    """The hooks of a layer whose input is read: before the layer runs and may overwrite it.

    What a layer of neurons did is added once it has run.
    """

    has_just_recorded = False

    def before(self, module: nn.Module, args: tuple, *kwargs: Any) -> None:
        """The hook that runs before the layer."""
        runs = self.runs
        self._run(module, _all_inputs(args, *kwargs), output=None)
        self.has_just_recorded = self.runs > runs  # in a compiled model runs are not counted

    def __call__(self, module: nn.Module, args: tuple, *kwargs_and_output: Any) -> None:
        if self.has_just_recorded:
            self.has_just_recorded = False
            self.records[-1] = self.records[-1]._replace(run=run_of(module, kwargs_and_output[-1]))

    def register(self, module: nn.Module) -> None:
        """Put both hooks into a layer."""
        super().register(module)
        module.register_forward_pre_hook(self.before, with_kwargs=True)


def hook_for(name: str, read: str | Reader, z_start: float, module: nn.Module) -> LayerHook:
    """The hook that reads a layer, not yet put into it."""
    kind = InputHook if read == "input" else LayerHook
    return kind(name, read, z_start, module)


def _all_inputs(args: tuple, kwargs: dict | None = None) -> tuple:
    """What a layer was given, by position or else by keyword."""
    return args or tuple((kwargs or {}).values())


def _has_gradient(record: Record) -> bool:
    # inside vmap or torch.func.grad a tensor does not say so itself
    return record.h.requires_grad or is_transformed(record.h)


def _was_overwritten(record: Record) -> bool:
    return record.version is not None and version_of(record.h) != record.version


def _graph_is_gone(record: Record) -> bool:
    is_compiled = record.version is None
    if is_compiled:
        return compiled_graph_is_gone(record.h)
    return record.graph is not None and record.graph.is_gone
