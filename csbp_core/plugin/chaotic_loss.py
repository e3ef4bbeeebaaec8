"""`ChaoticLoss`, the class that a training script uses: attach, call, step, report, state."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import check, check_choice
from ..loss import Law, Term, total_chaotic_loss
from ..torch_private import hooks_of, is_transformed
from .annealing import Annealing
from .hooks import LayerHook, Record, Taken, hook_for
from .layers import find_layers
from .measurement import (
    MEASURE_EVERY,
    CriticalZ,
    Descent,
    LayerReport,
    Measurement,
    checked_descent,
    critical_z_of,
    report_on,
    resume_numbers,
    saved_numbers,
    scalars_of,
)
from .read_only import ReadOnly
from .readers import READERS, Reader, word_for

# What a state dictionary holds besides the layers and the strengths: settings and counts,
SETTINGS = ("I0", "scale", "reduction", "clamp", "cutoff", "steps", "calls")
# and all that goes by the name of an attribute.
SAVED = ("z_start", "beta", *SETTINGS)

NEW_ONE = "make a new ChaoticLoss"


class ChaoticLoss:
    """The chaotic loss on chosen layers of any network, annealed: three lines in a training script.

    ::

        # After `total_steps` calls of chaos.step(), by batch or epoch, a hundredth of z is left.
        chaos = ChaoticLoss(z=10, beta=0.01 ** (1 / total_steps)).attach(model, ["conv1", "fc1"])

        loss = criterion(model(x), y) + chaos()
        loss.backward()
        optimizer.step()
        chaos.step()

    Every run of an attached layer, in training mode and with gradients, leaves a record; a call
    adds up the losses of all records since the last call, each layer's by

    ::

        L = -z (I0 log s + (1 - I0) log(1 - s)),    s = sigmoid(h / scale)

    In eval mode and under `no_grad` layers leave no record. Keep the ChaoticLoss: once nobody holds
    it, its hooks leave the model. Copied or pickled together, as `copy.deepcopy((model, chaos))`, a
    model and its ChaoticLoss stay attached to each other. A model copied alone is not attached, and
    a ChaoticLoss copied alone says so when it is called.

    To set another z, write ``chaos.z = 0.5``; after a checkpoint has been loaded, again, since that
    brings back the z it was saved with.

    DistributedDataParallel wants a gradient for every layer. One that nothing but the chaotic loss
    reads has none below the cutoff, so leave that 0; and `find_unused_parameters=True` takes such a
    layer for unused, unless the model returns its output, too.

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
        z: the strength now, of layers without their own. It may be set and acts from then on; the
            strengths of layers with their own are multiplied by the same number.
        beta: the factor of z per `step()`, which may be set, too.
        z_start: the common strength at the start.
        half_life: steps in which z halves.
        steps: how often `step` was called.
        calls: how often the loss was called on a training run. Calls that have nothing to add up,
            in eval mode, under `no_grad`, past the cutoff or for an empty batch, do not count.
        layers: the hooks on the layers.

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

    z_start = ReadOnly("_annealing.z_start", instead="set z, which acts from now on")
    I0 = ReadOnly("_I0", NEW_ONE)
    scale = ReadOnly("_scale", NEW_ONE)
    reduction = ReadOnly("_reduction", NEW_ONE)
    clamp = ReadOnly("_clamp", NEW_ONE)
    cutoff = ReadOnly("_cutoff", NEW_ONE)
    steps = ReadOnly("_steps", instead="call step() or load_state_dict()")
    calls = ReadOnly("_calls", instead="call the loss or load_state_dict()")
    layers = ReadOnly("_layers", instead="call attach() or remove()")

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
        self._annealing = Annealing(float(z), float(beta))
        self._I0 = float(I0)
        self._scale = float(scale)
        self._reduction = reduction
        self._clamp = clamp
        self._cutoff = float(cutoff)
        self._steps = 0
        self._calls = 0
        self._layers: tuple[LayerHook, ...] = ()
        self._warned: set[str] = set()  # of what a user is told once

    def attach(
        self,
        model: nn.Module,
        layers: Any,
        read: str | Reader = "output",
        z: float | None = None,
        exclude: Any = (),
    ) -> Self:
        """Read layers of a model from now on.

        It may be called again, for other layers or for another way to read them.

        Args:
            model: a network, also one that is wrapped for data parallelism or compiled.
            layers: a name as in `model.named_modules()`, a glob, a module or a type; or a list of
                them. In a glob `*` and `?` stay within one part of a dotted name (``"conv*"``,
                ``"blocks.*.fc"``); `**` for a part spans any number (``"**.conv*"``). Names of
                wrappers inside the model (``"_orig_mod"``) may be left out.
            read: what h is. "output" of the layer; "input" to it, the first of several; "membrane";
                or a function (module, inputs, output) -> h. The membrane is, of LIF and
                SpikingJelly, `v_seq` where it is stored (every step), else `v` (after the last step
                and its reset); the potential that snnTorch returns; `v` of the state that norse
                returns. Notebook 06 shows them. Of a tuple the first is h, of a list, as of one
                tensor per time step, all are.
            z: these layers' strength at the start, >= 0; None for the common one.
            exclude: what to leave out of `layers`, given in the same ways: ``"**.out_proj"`` of a
                transformer, whose attention uses that layer's weight and never runs it.

        Returns self, which takes its hooks out of the model at the end of a `with`.

        Raises ValueError, one line, for a layer that is not there, never runs or is attached
        already.
        """
        if not callable(read):
            check_choice("read", read, READERS)
        z_start = self.z_start if z is None else z
        check("z", z_start, "[0, inf)")
        modules = find_layers(model, layers, exclude)
        self._find_layers_of_copy(model)
        for name, module in modules.items():
            self._refuse_second_hook(model, name, module, read)
        for name, module in modules.items():
            self._add_hook(name, module, read, float(z_start))
        self._start_afresh()
        return self

    def remove(self) -> None:
        """Take the hooks out of the model and forget its layers."""
        for layer in self._layers:
            layer.leave()
        self._layers = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def z(self) -> float:
        """The strength now, of layers without their own."""
        return self.z_at(self._steps)

    @z.setter
    def z(self, z: float) -> None:
        check("z", z, "[0, inf)")
        strengths = [layer.z_start for layer in self._layers]
        self._annealing.set_z(float(z), self._steps, strengths)
        self._activate()

    @property
    def beta(self) -> float:
        """The factor of z per step, now."""
        return self._annealing.beta

    @beta.setter
    def beta(self, beta: float) -> None:
        check("beta", beta, "(0, 1]")
        self._annealing.set_beta(float(beta), self._steps)

    @property
    def half_life(self) -> float:
        """Steps in which z halves."""
        if self.beta == 1:
            return math.inf
        return math.log(0.5) / math.log(self.beta)

    def z_at(self, step: int, z_start: float | None = None) -> float:
        """The strength after a number of steps, or 0 below the cutoff.

        It is ``z_start * beta**step``, unless z or beta was set on the way: `Annealing` says what
        it is then.

        Args:
            step: how many steps, >= 0.
            z_start: a strength at the start; None for the common one.
        """
        z = self._annealing.z_at(step, z_start)
        return z if z >= self._cutoff else 0.0

    def step(self) -> None:
        """Anneal once: z <- beta z. What was recorded and not used is forgotten.

        Call it once per update or once per epoch, whichever `beta` is meant for.
        """
        self._steps += 1
        self._start_afresh()

    def __call__(self) -> Tensor:
        """The loss of all that the layers gave since the last call.

        Call it once per backward pass, before it.

        Returns a scalar, float32 for half-precision layers; zero where all layers are in eval mode,
        past the cutoff or without elements (an empty batch), or under `no_grad`.

        Raises ValueError, one line that names the layer and says what to do, where the loss could
        not be trained on what was recorded.
        """
        self._refuse_without_model()
        is_measured = self._calls % MEASURE_EVERY == 0
        # all layers forget their records, even if one of them is refused
        all_taken = [layer.take() for layer in self._layers]
        terms = self._terms(all_taken, is_measured)
        if not terms:
            if any(taken.is_evaluation for taken in all_taken):
                self._warn_of_evaluation()
            # so that a backward pass through it alone is one, too
            return torch.zeros((), requires_grad=torch.is_grad_enabled())
        if _have_elements(all_taken):  # or else a measurement would fall on a call without any
            self._calls += 1
        return total_chaotic_loss(terms, Law(self._I0, self._scale, self._clamp))

    def critical_z(
        self,
        lr: float | Optimizer,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> dict[str, float | str]:
        """Per layer the strength at which gradient descent starts to period-double, or why unknown.

        By `csbp_core.critical_z`, on the layer's inputs in the last measured call, for the chaotic
        loss alone and as if those inputs stayed as they are. It holds for a linear or convolutional
        layer whose output is read, and counts those of its parameters that are trained: that
        require a gradient, and that the optimizer holds. `report` uses it from then on.

        Args:
            lr: learning rate, > 0, or the optimizer itself, which brings all settings, those of the
                group that holds the layer. It has to be `torch.optim.SGD`.
            momentum: in [0, 1).
            weight_decay: >= 0.
            nesterov: whether the momentum is Nesterov's.

        Returns for each layer a number, infinite where its inputs were all zero, or a line
        "unknown: ..." that says why.
        """
        descent: Descent | Optimizer
        if isinstance(lr, Optimizer):
            descent = lr
        else:
            descent = checked_descent(lr, momentum, weight_decay, nesterov)
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

        Measured are the calls 1, 21, 41 and so on of those that `calls` counts, and they stay known
        when a training is resumed. A dictionary per layer:

        * `step` and `z`: steps of annealing until then, and the layer's strength.
        * `mean_s`: the mean of s over all elements, with h clamped as in the loss; `I0`: what it is
          pulled to.
        * `gradient_share`: c / (c + r), in [0, 1], with c the norm of the gradient at h of the
          layer's chaotic loss and r that of all else; None where nothing else reads h, as of many
          a membrane. `note` says why it is not known, and under `torch.compile` how to get it.
        * `z_over_critical`: z over the layer's critical z, once `critical_z` was called.
        * `firing_rate`, in spikes per neuron, sample and time step, and the shares of neurons in
          `never_fires` and `always_fires`: where a layer of neurons is attached, and not compiled.
        * `zero_surrogate`: the share of (neuron, sample, time step) whose surrogate gradient is
          zero, which learns nothing; of `LIF` with `store_v_seq`.
        * `warning`: one line if z is too large: `gradient_share` is above 0.1 where it is known for
          the first time or above 0.5 later, or the layer has arrived at I0, or period-doubles; or
          if every neuron fires always. What to do then, and why: notebooks 7 and 8.
        """
        return {
            layer.key: report_on(layer.numbers, layer.critical_z, self.I0) for layer in self.layers
        }

    def scalars(self) -> dict[str, float]:
        """The numbers of `report` that are known, ``{"fc1/mean_s": 0.5, ...}``, for loggers.

        Example:
            >>> model = nn.Linear(3, 2)
            >>> chaos = ChaoticLoss(z=10).attach(nn.Sequential(model), "0")
            >>> _ = model(torch.zeros(5, 3)), chaos()
            >>> for tag, value in chaos.scalars().items():  # writer.add_scalar(tag, value, step)
            ...     print(tag, round(value, 1))
            0/step 0.0
            0/z 10.0
            0/mean_s 0.5
            0/I0 0.7
        """
        return scalars_of(self.report())

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; restore it with `load_state_dict` after `attach`."""
        state = {name: getattr(self, name) for name in SAVED}
        state["annealing"] = self._annealing.state()
        state["layers"] = [
            (layer.name, word_for(layer.read), layer.z_start) for layer in self._layers
        ]
        state["measured"] = [saved_numbers(layer) for layer in self.layers]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: its settings replace those of the constructor.

        That includes z: set another after this.

        Raises ValueError if other layers are attached.
        """
        saved = [(name, read) for name, read, _ in state["layers"]]
        attached = [(layer.name, word_for(layer.read)) for layer in self._layers]
        if saved != attached:
            raise ValueError(f"state of layers {saved}: attached are {attached}")
        for layer, (_, _, z_start) in zip(self._layers, state["layers"], strict=True):
            layer.z_start = z_start
        self._annealing = Annealing(state["z_start"], state["beta"])
        if "annealing" in state:  # not in a state of a version in which z could not be set
            self._annealing.load(state["annealing"])
        for name in SETTINGS:
            setattr(self, f"_{name}", state[name])
        # a state that an older version saved holds no measurement
        measured = state.get("measured", [None] * len(self._layers))
        for layer, numbers in zip(self._layers, measured, strict=True):
            resume_numbers(layer, numbers)
        self._start_afresh()

    def __repr__(self) -> str:
        names = [layer.name for layer in self._layers]
        return f"ChaoticLoss(z={self.z:g}, beta={self.beta:g}, steps={self.steps}, layers={names})"

    def __copy__(self) -> Self:
        raise TypeError("a shallow copy would share the hooks: copy.deepcopy((model, chaos))")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "state_dict": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("state_dict")
        vars(self).update(state)
        for layer in self._layers:
            layer.belong_to(self, self._warned)
        self.load_state_dict(saved)

    def _refuse_second_hook(
        self,
        model: nn.Module,
        name: str,
        module: nn.Module,
        read: str | Reader,
    ) -> None:
        for layer in self._layers:
            # of a wrapper and the layer inside, which go by one name, only one counts
            is_same_name = layer.name == name and layer.module in set(model.modules())
            if layer.read == read and (layer.module is module or is_same_name):
                raise ValueError(
                    f"layer {name!r} is attached already: remove() first, or read something else"
                )

    def _add_hook(self, name: str, module: nn.Module, read: str | Reader, z_start: float) -> None:
        layer = hook_for(name, read, z_start, module)
        keys = [other.key for other in self._layers]
        while layer.key in keys:
            layer.key = f"{layer.key} ({word_for(read)})"
        layer.register(module)
        layer.belong_to(self, self._warned)
        self._layers = (*self._layers, layer)

    def _refuse_without_model(self) -> None:
        if not self._layers:
            raise ValueError("no layers: attach(model, layers) comes before the first call")
        if torch.is_grad_enabled() and any(layer.has_no_model for layer in self._layers):
            raise ValueError(
                "ChaoticLoss is a copy without its model: attach it again, "
                "or copy both together, as copy.deepcopy((model, chaos)), and run the model"
            )

    def _find_layers_of_copy(self, model: nn.Module) -> None:
        """Find the layers of a copied ChaoticLoss in its model; forget those that are in none."""
        for module in model.modules():
            for hook in hooks_of(module):
                if hook in self._layers:
                    hook.find(module)
        self._layers = tuple(layer for layer in self._layers if not layer.is_adrift)

    def _start_afresh(self) -> None:
        """Forget all records, and from now on read the layers whose strength is not zero."""
        for layer in self._layers:
            layer.forget()
        self._activate()

    def _activate(self) -> None:
        """From now on read the layers whose strength is not zero."""
        for layer in self._layers:
            layer.active = self.z_at(self._steps, layer.z_start) > 0

    def _warn_of_evaluation(self) -> None:
        if "evaluation" in self._warned:
            return
        self._warned.add("evaluation")
        warnings.warn(
            "every layer of this ChaoticLoss is in eval mode, so it is 0: "
            "call model.train() before training, and evaluate under torch.no_grad()",
            stacklevel=3,
        )

    def _terms(self, all_taken: list[Taken], is_measured: bool) -> list[Term]:
        """What the loss adds up; refuses what could not be trained on."""
        terms: list[Term] = []
        for layer, taken in zip(self._layers, all_taken, strict=True):
            if taken.problem:
                raise ValueError(taken.problem)
            if taken.records:
                terms += self._terms_of(layer, taken.records, is_measured)
        return terms

    def _terms_of(
        self,
        layer: LayerHook,
        records: list[Record],
        is_measured: bool,
    ) -> list[Term]:
        """What the loss adds up of one layer, a term for each of its runs."""
        z = self.z_at(self._steps, layer.z_start)
        all_h = [record.h for record in records]
        elements = sum(h.numel() for h in all_h)
        is_wanted = is_measured or _comes_uncompiled(layer, records)
        if is_wanted and elements > 0 and not any(map(is_transformed, all_h)):
            all_h = self._measured(layer, records, z)
        if self._reduction == "mean" and elements > 0:  # of an empty batch even a sum is 0
            z /= elements
        return [Term(h, z) for h in all_h]

    def _measured(self, layer: LayerHook, records: list[Record], z: float) -> list[Tensor]:
        """Measure a layer, and return the h that its loss is taken of."""
        filled = [record for record in records if record.h.numel() > 0]
        is_first = layer.numbers is None or layer.numbers.gradient_share is None
        measurement = Measurement(filled, self._steps, z, is_first)
        layer.measurement = measurement
        return [measurement.watch(record, self._scale, self._clamp) for record in filled]


def _have_elements(all_taken: list[Taken]) -> bool:
    """Whether anything was recorded that a loss can be taken of."""
    return any(record.h.numel() > 0 for taken in all_taken for record in taken.records)


def _comes_uncompiled(layer: LayerHook, records: list[Record]) -> bool:
    """Whether a layer that was measured in a compiled model has run uncompiled."""
    was_compiled = layer.measurement is not None and layer.measurement.is_compiled
    return was_compiled and all(record.version is not None for record in records)


def _is_interval(value: Any) -> bool:
    """Whether a value is (low, high), two numbers with low < high."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    low, high = value
    are_numbers = isinstance(low, float | int) and isinstance(high, float | int)
    return are_numbers and low < high
