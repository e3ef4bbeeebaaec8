"""What a layer of spiking neurons did in a measured call: how many fire, and how many can learn."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from ..neuron import LIF
from .readers import returned_potential


class Run(NamedTuple):
    """One run of a layer of neurons, without a graph.

    Attributes:
        spikes: 0 or 1, `[T, N, *]`; of a single time step `[N, *]`.
        has_time: whether the first dimension is time.
        v_seq: the potentials before the reset, the shape of the spikes; None if not at hand.
        lif: whose threshold and surrogate go with them; None likewise.
    """

    spikes: Tensor
    has_time: bool
    v_seq: Tensor | None
    lif: LIF | None


class Activity(NamedTuple):
    """What the units of a layer did in a measured call: shares, in [0, 1]; None if unknown.

    Attributes:
        firing_rate: spikes per unit, sample and time step.
        never_fires: of the units, those that fired at no step of any sample.
        always_fires: of the units, those that fired at every step of every sample.
        zero_surrogate: of (unit, sample, time step), where the surrogate gradient is zero.
    """

    firing_rate: float | None = None
    never_fires: float | None = None
    always_fires: float | None = None
    zero_surrogate: float | None = None


def run_of(module: nn.Module, output: Any) -> Run | None:
    """The run of a layer that has just given an output; None if it is no layer of neurons.

    A neuron returns or keeps its potential after the last step, in the shape of that step's spikes.
    """
    parts = output if isinstance(output, tuple) and output else (output,)
    spikes = parts[0]
    v = _last_potential(module, parts)
    if not isinstance(spikes, Tensor) or not isinstance(v, Tensor):
        return None
    has_time = v.shape == spikes.shape[1:]
    if not has_time and v.shape != spikes.shape:
        return None
    # Of a neuron from another library v_seq, if there is one, is the potential after the reset.
    if isinstance(module, LIF) and module.v_seq is not None:
        return Run(spikes.detach(), has_time, module.v_seq.detach(), module)
    return Run(spikes.detach(), has_time, v_seq=None, lif=None)


def _last_potential(module: nn.Module, parts: tuple) -> Any:
    """The potential of a neuron after its last step, wherever its library keeps it."""
    candidates = [
        getattr(module, "v", None),  # csbp_core, SpikingJelly
        getattr(module, "mem", None),  # snnTorch with init_hidden
    ]
    if len(parts) > 1:
        candidates.insert(0, returned_potential(parts))
    return next((v for v in candidates if isinstance(v, Tensor)), None)


class Tally:
    """Counts what the units of a layer do, run after run, without waiting for their device."""

    def __init__(self) -> None:
        self.fired: list[Tensor] = []  # per run the spikes of each unit
        self.chances = 0  # how often each unit could have fired
        self.are_spikes: list[Tensor] = []  # per run whether all that it gave was 0 or 1
        self.zero_surrogates: list[Tensor] = []  # per run how many
        self.surrogates = 0  # of how many in all runs

    def add(self, run: Run) -> None:
        """Count one run."""
        is_spike = run.spikes == 1
        self.are_spikes.append((is_spike | (run.spikes == 0)).all())
        others = _dimensions_before_units(run)
        rows = is_spike.unsqueeze(0).flatten(0, others)  # [runs, *units]
        self.fired.append(rows.sum(0))
        self.chances += len(rows)
        if run.v_seq is not None and run.lif is not None:
            u = run.v_seq - run.lif.v_threshold
            self.zero_surrogates.append((u.abs() >= run.lif.gamma).sum())
            self.surrogates += u.numel()

    def activity(self) -> Activity:
        """All runs together; nothing is known if there was none, or one that gave no spikes."""
        shapes = {fired.shape for fired in self.fired}
        if len(shapes) != 1 or self.chances == 0 or not all(map(bool, self.are_spikes)):
            return Activity()
        fired = sum(self.fired[1:], start=self.fired[0])
        if fired.numel() == 0:
            return Activity()
        zero_surrogate = None
        if self.zero_surrogates:
            zero_surrogate = float(sum(self.zero_surrogates)) / self.surrogates
        return Activity(
            firing_rate=float(fired.double().mean()) / self.chances,
            never_fires=_share(fired == 0),
            always_fires=_share(fired == self.chances),
            zero_surrogate=zero_surrogate,
        )


def _dimensions_before_units(run: Run) -> int:
    """How many dimensions stand for time and samples; [T, n] and [N, n] are taken for n units."""
    dimensions = run.spikes.dim()
    if run.has_time and dimensions > 2:
        return 2
    return 1 if run.has_time or dimensions > 1 else 0


def _share(is_so: Tensor) -> float:
    return float(is_so.double().mean())
