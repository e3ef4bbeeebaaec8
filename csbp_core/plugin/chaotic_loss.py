"""`ChaoticLoss`, the class that a training script uses: attach, call, step, report, state."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import check, check_choice
from ..loss import stable_chaotic_loss
from ..torch_private import forward_hooks, is_transformed
from .hooks import READERS, LayerHook, Reader, Record
from .layers import find_layers
from .measurement import (
    MEASURE_EVERY,
    CriticalZ,
    Descent,
    LayerReport,
    Measurement,
    critical_z_of,
    descent_of,
    report_on,
)

# What a state dictionary holds besides the layers.
SAVED = (
    "z_start",
    "beta",
    "I0",
    "scale",
    "reduction",
    "clamp",
    "cutoff",
    "steps",
    "calls",
)


class ChaoticLoss:
    """The chaotic loss on chosen layers of any network, annealed: three lines in a training script.

    ::

        chaos = ChaoticLoss(z=10, beta=0.98).attach(model, ["conv1", "fc1"])

        loss = criterion(model(x), y) + chaos()
        loss.backward()
        optimizer.step()
        chaos.step()

    Every run of an attached layer, in training mode and with gradients, leaves a record; a call
    adds up the losses of all records since the last call, each layer's by

    ::

        L = -z (I0 log s + (1 - I0) log(1 - s)),    s = sigmoid(h / scale)

    In eval mode and under `no_grad` layers leave no record. Copies and pickles of the model are not
    attached. Keep the ChaoticLoss: once nobody holds it, its hooks leave the model.

    Args:
        z: strength at the start, >= 0.
        beta: factor of z per `step()`, in (0, 1].
        I0: the value that s is pulled to, in (0, 1).
        scale: the divisor of h, > 0.
        reduction: "mean" (the authors' training code) or "sum" (their published document), over all
            elements that a layer gave since the last call. Layers are added up. DDP averages over
            processes, so there a "sum" is divided by their number.
        clamp: (low, high), outside of which h gets no gradient; None for no limits. The authors'
            training code has (-10, 9.9).
        cutoff: >= 0; a strength below it counts as zero, and the layer costs nothing any more.

    Attributes:
        z: the strength now, of layers without their own.
        half_life: steps in which z halves.
        steps: how often `step` was called.
        calls: how often the loss was called.

    Raises ValueError, one line, for a value out of range.

    Source: Wang, Tao and Chen 2024, doi:10.1093/nsr/nwae037.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Linear(3, 2)
        >>> chaos = ChaoticLoss(z=10, beta=0.5).attach(model, nn.Linear)
        >>> loss = model(torch.ones(5, 3)).square().mean() + chaos()
        >>> loss.backward()
        >>> chaos.step()
        >>> chaos.z
        5.0
    """

    def __init__(
        self,
        z: float,
        beta: float = 1.0,
        I0: float = 0.65,
        scale: float = 10.0,
        reduction: str = "mean",
        clamp: tuple[float, float] | None = None,
        cutoff: float = 0.0,
    ) -> None:
        check("z", z, "[0, inf)")
        check("beta", beta, "(0, 1]")
        check("I0", I0, "(0, 1)")
        check("scale", scale, "(0, inf)")
        check("cutoff", cutoff, "[0, inf)")
        check_choice("reduction", reduction, ("mean", "sum"))
        if clamp is not None and not _is_interval(clamp):
            raise ValueError(f"clamp = {clamp!r}: must be (low, high) with low < high, or None")
        self.z_start = float(z)
        self.beta = float(beta)
        self.I0 = float(I0)
        self.scale = float(scale)
        self.reduction = reduction
        self.clamp = clamp
        self.cutoff = float(cutoff)
        self.steps = 0
        self.calls = 0
        self.layers: list[LayerHook] = []

    def attach(
        self,
        model: nn.Module,
        layers: Any,
        read: str | Reader = "output",
        z: float | None = None,
    ) -> Self:
        """Read layers of a model from now on.

        It may be called again, for other layers or for another way to read them.

        Args:
            model: a network, also one that is wrapped for data parallelism or compiled.
            layers: a name as in `model.named_modules()`, a glob ("conv*"), a module or a type; or a
                list of them.
            read: what h is. "output" of the layer; "input" to it, the first of several; "membrane";
                or a function (module, inputs, output) -> h. The membrane is, of LIF and
                SpikingJelly, `v_seq` where it is stored (every step), else `v` (after the last step
                and its reset); the potential that snnTorch returns; `v` of the state that norse
                returns. Notebook 06 shows them.
            z: these layers' strength at the start, >= 0; None for the common one.

        Returns self, which takes its hooks out of the model at the end of a `with`.

        Raises ValueError, one line, for a layer that is not there or is attached already.
        """
        if not callable(read):
            check_choice("read", read, READERS)
        z_start = self.z_start if z is None else z
        check("z", z_start, "[0, inf)")
        modules = find_layers(model, layers)
        for name, module in modules.items():
            self._refuse_second_hook(name, module, read)
        for name, module in modules.items():
            self._add_hook(name, module, read, float(z_start))
        self._start_afresh()
        return self

    def remove(self) -> None:
        """Take the hooks out of the model and forget its layers."""
        for layer in self.layers:
            if layer.remove_from_model is not None:  # a copy has hooks in no model
                layer.remove_from_model()
        self.layers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def z(self) -> float:
        """The strength now, of layers without their own."""
        return self.z_at(self.steps)

    @property
    def half_life(self) -> float:
        """Steps in which z halves."""
        if self.beta == 1:
            return math.inf
        return math.log(0.5) / math.log(self.beta)

    def z_at(self, step: int, z_start: float | None = None) -> float:
        """The strength after a number of steps, ``z_start * beta**step``, or 0 below the cutoff.

        Args:
            step: how many steps, >= 0.
            z_start: a strength at the start; None for the common one.
        """
        if z_start is None:
            z_start = self.z_start
        z = z_start * self.beta**step
        return z if z >= self.cutoff else 0.0

    def step(self) -> None:
        """Anneal once: z <- beta z. What was recorded and not used is forgotten.

        Call it once per update or once per epoch, whichever `beta` is meant for.
        """
        self.steps += 1
        self._start_afresh()

    def __call__(self) -> Tensor:
        """The loss of all that the layers gave since the last call.

        Returns a scalar, float32 for half-precision layers; zero where all layers are in eval mode
        or past the cutoff, or under `no_grad`.

        Raises ValueError, one line that names the layer and says what to do, where the loss could
        not be trained on what was recorded.
        """
        if not self.layers:
            raise ValueError("no layers: attach(model, layers) comes before the first call")
        is_measured = self.calls % MEASURE_EVERY == 0
        self.calls += 1
        # all layers forget their records, even if one of them is refused
        all_taken = [layer.take() for layer in self.layers]
        losses = []
        for layer, taken in zip(self.layers, all_taken, strict=True):
            if taken.problem:
                raise ValueError(taken.problem)
            if taken.records:
                losses.append(self._loss_of(layer, taken.records, is_measured))
        if not losses:
            return torch.zeros(())
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss.to(losses[0])  # layers may lie on several devices
        return total

    def critical_z(
        self,
        lr: float | Optimizer,
        momentum: float = 0.0,
    ) -> dict[str, float | str]:
        """Per layer the strength at which gradient descent starts to period-double, or why unknown.

        By `csbp_core.critical_z`, on the layer's inputs in the last measured call, for the chaotic
        loss alone and as if those inputs stayed as they are. It holds for a linear or convolutional
        layer whose output is read. `report` uses it from then on.

        Args:
            lr: learning rate, > 0, or the optimizer itself.
            momentum: in [0, 1); an optimizer brings its own.

        Returns for each layer a number, or a line "unknown: ..." that says why.
        """
        descent = descent_of(lr) if isinstance(lr, Optimizer) else Descent(lr, momentum)
        found: dict[str, float | str] = {}
        for layer in self.layers:
            limit = critical_z_of(layer, descent, self.I0, self.scale, self.reduction)
            layer.critical_z = limit
            found[layer.key] = limit.reason if limit.value is None else limit.value
        return found

    @property
    def limits(self) -> dict[str, CriticalZ]:
        """What `critical_z` found last, per layer."""
        found = {layer.key: layer.critical_z for layer in self.layers}
        return {key: limit for key, limit in found.items() if limit is not None}

    def report(self) -> dict[str, LayerReport]:
        """What the chaotic loss does to each layer, from the last measured call; None if unknown.

        Measured are the calls 1, 21, 41 and so on. A dictionary per layer:

        * `step` and `z`: steps of annealing until then, and the layer's strength.
        * `mean_s`: the mean of s; `I0`: what it is pulled to.
        * `gradient_share`: c / (c + r), in [0, 1], with c the norm of the gradient at h of the
          layer's chaotic loss and r that of all else; None where nothing else reads h, as of many
          a membrane.
        * `z_over_critical`: z over the layer's critical z, once `critical_z` was called.
        * `warning`: one line if z is too large: the layer has arrived at I0, or learns nothing
          else, or period-doubles.
        """
        return {layer.key: report_on(layer, self.I0) for layer in self.layers}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; restore it with `load_state_dict` after `attach`."""
        state = {name: getattr(self, name) for name in SAVED}
        state["layers"] = [
            (layer.name, _name_of_reader(layer.read), layer.z_start) for layer in self.layers
        ]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: its settings replace those of the constructor.

        Raises ValueError if other layers are attached.
        """
        saved = [(name, read) for name, read, _ in state["layers"]]
        attached = [(layer.name, _name_of_reader(layer.read)) for layer in self.layers]
        if saved != attached:
            raise ValueError(f"state of layers {saved}: attached are {attached}")
        for layer, (_, _, z_start) in zip(self.layers, state["layers"], strict=True):
            layer.z_start = z_start
        for name in SAVED:
            setattr(self, name, state[name])
        self._start_afresh()

    def __repr__(self) -> str:
        names = [layer.name for layer in self.layers]
        return f"ChaoticLoss(z={self.z:g}, beta={self.beta:g}, steps={self.steps}, layers={names})"

    def _refuse_second_hook(self, name: str, module: nn.Module, read: str | Reader) -> None:
        for hook in forward_hooks(module).values():
            if hook in self.layers and hook.read == read:
                raise ValueError(
                    f"layer {name!r} is attached already: remove() first, or read something else"
                )

    def _add_hook(self, name: str, module: nn.Module, read: str | Reader, z_start: float) -> None:
        layer = LayerHook(name, read, z_start, module)
        if any(other.name == name for other in self.layers):
            layer.key = f"{name} ({read})"
        handle = module.register_forward_hook(layer, with_kwargs=True)
        # Called by `remove`, and by itself once nobody holds the ChaoticLoss any more, as when the
        # cell of a notebook is run again.
        layer.remove_from_model = weakref.finalize(self, handle.remove)
        self.layers.append(layer)

    def _start_afresh(self) -> None:
        """Forget all records, and from now on read the layers whose strength is not zero."""
        for layer in self.layers:
            layer.records = []
            layer.active = self.z_at(self.steps, layer.z_start) > 0

    def _loss_of(self, layer: LayerHook, records: list[Record], is_measured: bool) -> Tensor:
        """The chaotic loss of one layer, on all that it gave."""
        z = self.z_at(self.steps, layer.z_start)
        h_parts = [record.h for record in records]
        if is_measured and not any(is_transformed(h) for h in h_parts):
            layer.measurement = Measurement(records, self.steps, z)
            h_parts = [layer.measurement.watch(record, self.scale) for record in records]
        h = h_parts[0]
        if len(h_parts) > 1:
            h = torch.cat([part.flatten() for part in h_parts])
        if self.clamp is not None:
            h = h.clamp(*self.clamp)
        return stable_chaotic_loss(h, z, self.I0, self.scale, self.reduction)


def _is_interval(value: Any) -> bool:
    """Whether a value is (low, high), two numbers with low < high."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    low, high = value
    are_numbers = isinstance(low, float | int) and isinstance(high, float | int)
    return are_numbers and low < high


def _name_of_reader(read: str | Reader) -> str:
    """What a state dictionary calls a way to read a layer: functions cannot be saved."""
    return read if isinstance(read, str) else "function"
