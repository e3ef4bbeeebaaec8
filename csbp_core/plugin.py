"""CSBP in any network: a chaotic loss that attaches to layers by name, reads them as they run, and anneals."""

import difflib
import math
import weakref
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from .checks import check_all, check_choice
from .loss import LINEAR, critical_z, largest_eigenvalue, unchecked_loss

Read = str | Callable[[nn.Module, tuple, Any], Tensor]
Record = tuple[Tensor, int | None, Tensor | None]  # h, its version (writing in place changes that), a linear layer's input
_functorch = cast(Any, torch._C._functorch)


def _find(model: nn.Module, layers: Any) -> dict[str, nn.Module]:
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = cast(nn.Module, model._orig_mod if hasattr(model, "_orig_mod") else model.module)
    modules, chosen = dict(model.named_modules(remove_duplicate=False)), dict[nn.Module, str]()
    for want in [layers] if isinstance(layers, str | type | nn.Module) or not hasattr(layers, "__iter__") else layers:
        glob, kind = want if isinstance(want, str) else "", want if isinstance(want, type) else ()
        found = [name for name, m in modules.items() if m is want or isinstance(m, kind) or (name and fnmatchcase(name, glob))]
        if not found:
            near = difflib.get_close_matches(glob, modules, 3, 0.4) if glob else []
            names = ", ".join(near or [name for name in modules if name][:20])
            raise ValueError(f"no layer {want!r} in {type(model).__name__}: {'did you mean' if near else 'it has'} {names}")
        for name in found:
            chosen.setdefault(modules[name], name)  # a module may have several names
    if not chosen:
        raise ValueError("layers is empty: must be names, globs, modules or types")
    return {name: module for module, name in chosen.items()}


def _read(read: Read, module: nn.Module, inputs: tuple, output: Any) -> Any:
    if not isinstance(read, str):
        return read(module, inputs, output)
    if read != "membrane":
        values = output if read == "output" else inputs
        return values[0] if isinstance(values, tuple | list) and values else values
    last = output[-1] if isinstance(output, tuple) and output else None  # a state in norse, the potential in snnTorch
    sequence = None if getattr(module, "step_mode", "m") == "s" else getattr(module, "v_seq", None)
    candidates = getattr(last, "v", last), sequence, getattr(module, "v", None), getattr(module, "mem", None)
    return next((h for h in candidates if isinstance(h, Tensor)), None)


class _Layer:
    """The forward hook of one layer. A copied or pickled model gets an inactive one, which belongs to no ChaoticLoss."""

    def __init__(self, name: str, read: Read = "output", z: float = 0.0, linear: nn.Module | None = None) -> None:
        self.name, self.read, self.z_start, self.linear, self.active = name, read, z, linear, False  # linear: for `critical_z`
        self.key, self.handle, self.records = name, cast(Any, None), list[Record]()  # key: in `report`
        self.blind, self.measured = "", dict[str, Any]()  # why a run left no record; what `report` is made of

    def __reduce__(self) -> tuple:
        return _Layer, (self.name,), {"key": self.key}

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        compiling = torch.compiler.is_compiling()
        if not self.active or (not compiling and torch._C._current_graph_task_id() != -1):
            return  # not attached, or a checkpointed layer that runs again in the backward pass
        if not (module.training and torch.is_grad_enabled()):
            self.blind = "no_grad" if module.training else "eval"
            return
        inputs = args or tuple(kwargs.values())
        h = _read(self.read, module, inputs, output)
        if not isinstance(h, Tensor) or not h.is_floating_point():
            what = f"layer {self.name!r} ({type(module).__name__}) has no {self.read} that is a float tensor"
            raise ValueError(f"{what}: attach to the neuron, have it store v_seq, or read by a (module, inputs, output) -> h")
        x = None if compiling or self.linear is None else inputs[0]
        self.records.append((h, None if compiling else h._version, x))

    def take(self) -> tuple[list[Record], str]:
        """The records, forgotten here, and why the loss cannot be trained on them, one line that says what to do, or ""."""
        records, blind, self.records, self.blind = self.records, self.blind, [], ""
        if not self.active or not torch.is_grad_enabled() or (not records and blind == "eval"):
            return [], ""
        level, problem, hs = _functorch.maybe_current_level() or 0, "", [h for h, *_ in records]
        if not records and blind:
            problem = "ran under no_grad: with checkpoint() set use_reentrant=False"
        elif not records:
            problem = (
                "did not run in training mode since the last call: run the model, attach before torch.compile, or leave it out"
            )
        elif any(_functorch.is_dead_tensor_wrapper(h) or _functorch.maybe_get_level(h) > level for h in hs):
            problem = "ran inside vmap or torch.func.grad: call the chaotic loss inside the transformed function, too"
        elif not all(h.requires_grad or _functorch.is_functorch_wrapped_tensor(h) for h in hs):
            problem = f"gave {self.read} without a gradient: nothing before it is trained; unfreeze that, or read another layer"
        elif any(version is not None and h._version != version for h, version, _ in records):
            problem = f"had its {self.read} changed in place after it ran: set inplace=False in what follows"
        return records, f"layer {self.name!r} {problem}" if problem else ""

    def measure(self, records: list[Record], scale: float, **now: float) -> list[Tensor]:
        """Pass every h on; the backward pass leaves behind the norms of its gradients, the chaotic loss's and the rest's."""
        inputs, numel = [x.detach() for _, _, x in records if x is not None], sum(h.numel() for h, *_ in records)
        self.measured = m = dict[str, Any](now, inputs=inputs, numel=numel, s=[], chaos=[], rest=[])

        def split(h: Tensor, compiled: bool) -> Tensor:
            def norms(grad: Tensor) -> None:
                chaos = own.pop() if own else torch.zeros_like(grad)
                m["chaos"].append(chaos.float().norm())
                if chaos.data_ptr() != grad.data_ptr():  # else nothing but the chaotic loss reads h
                    m["rest"].append((grad - chaos).float().norm())

            own, twin = list[Tensor](), h.view_as(h)
            m["s"].append(torch.sigmoid(h.detach().float() / scale).mean())
            if not compiled:  # what follows inside a compiled graph sends its gradient past h
                twin.register_hook(own.append)
                h.register_hook(norms)
            return twin

        return [split(h, version is None) for h, version, _ in records]


class ChaoticLoss:
    """The chaotic loss on chosen layers of any network, annealed: three lines in a training script.

        chaos = ChaoticLoss(z=10, beta=0.98).attach(model, ["conv1", "fc1"])
        loss = criterion(model(x), y) + chaos()
        loss.backward(); optimizer.step(); chaos.step()

    Args:
        z, beta: strength >= 0 at the start, and its factor in (0, 1] per `step()`; I0, scale: of `chaotic_loss`.
        reduction: "mean" over all that a layer gave since the last call (the authors' training code) or "sum" (the published
            document); layers are added up. DDP averages over processes: there a "sum" is one process's share.
        clamp: `(low, high)` outside of which h gets no gradient; the authors' training code has (-10, 9.9).
        cutoff: below this strength a layer costs nothing and counts as zero.

    Every run of a layer in training mode with gradients leaves a record until the next call; eval and no_grad leave none.
    Copies and pickles of the model are not attached, nor is a model whose ChaoticLoss is gone. Raises ValueError, one line, for
    a value out of range. Source: Wang, Tao and Chen 2024, doi:10.1093/nsr/nwae037.
    """

    def __init__(
        self, z: float, beta: float = 1.0, I0: float = 0.65, scale: float = 10.0, reduction: str = "mean",
        clamp: tuple[float, float] | None = None, cutoff: float = 0.0,
    ) -> None:  # fmt: skip
        check_all(z=z, beta=beta, I0=I0, scale=scale, cutoff=cutoff)
        check_choice("reduction", reduction, ("mean", "sum"))
        low, high = clamp if isinstance(clamp, tuple | list) and len(clamp) == 2 else (1, 0)
        if clamp is not None and not (isinstance(low, float | int) and isinstance(high, float | int) and low < high):
            raise ValueError(f"clamp = {clamp!r}: must be (low, high) with low < high, or None")
        self.z_start, self.beta, self.I0, self.scale = float(z), float(beta), float(I0), float(scale)
        self.cutoff, self.reduction, self.clamp, self.steps, self.calls = float(cutoff), reduction, clamp, 0, 0
        self.layers: list[_Layer] = []
        self.limits: dict[str, float | str] = {}  # what `critical_z` found last

    def attach(self, model: nn.Module, layers: Any, read: Read = "output", z: float | None = None) -> Self:
        """Read `layers` of `model` from now on; may be called again, for other layers or another `read`.

        `layers` is a name as in `model.named_modules()`, a glob ("conv*"), a module or a type; or a list of them. `read` says
        what is h: "output" of the layer, "input" to it (of a tuple the first), "membrane", or a function (module, inputs,
        output) -> h. The membrane is v_seq when stored, else v, of LIF and SpikingJelly; the potential that snnTorch returns;
        .v of the state that norse returns. `z` is these layers' own strength, if not the common one. Returns self, which
        removes its hooks at the end of a `with`. Raises ValueError for a layer that is not there.
        """
        if not callable(read):
            check_choice("read", read, ("output", "input", "membrane"))
        check_all(z=(z := self.z_start if z is None else z))
        for name, module in (chosen := _find(model, layers)).items():
            if any(hook in self.layers and hook.read == read for hook in module._forward_hooks.values()):
                raise ValueError(f"layer {name!r} is attached already: remove() first, or read something else")
        for name, module in chosen.items():
            layer = _Layer(name, read, float(z), module if read == "output" and isinstance(module, LINEAR) else None)
            layer.key += f" ({read})" if any(one.name == name for one in self.layers) else ""
            layer.handle = weakref.finalize(self, module.register_forward_hook(layer, with_kwargs=True).remove)
            self.layers.append(layer)
        self._activate()
        return self

    def remove(self, *_: object) -> None:
        """Take the hooks out of the model and forget its layers."""
        for layer in self.layers:
            _ = layer.handle and layer.handle()  # a copy has none
        self.layers, self.limits = [], {}

    def __enter__(self) -> Self:
        return self

    __exit__ = remove

    @property
    def z(self) -> float:
        """The strength now, of layers without their own."""
        return self.z_at(self.steps)

    @property
    def half_life(self) -> float:
        """Steps in which z halves."""
        return math.log(0.5) / math.log(self.beta) if self.beta < 1 else math.inf

    def z_at(self, step: int, z_start: float | None = None) -> float:
        """The strength after `step` steps, z beta**step, or 0 below the cutoff."""
        z = (self.z_start if z_start is None else z_start) * self.beta**step
        return z if z >= self.cutoff else 0.0

    def step(self) -> None:
        """Anneal once: z <- beta z."""
        self.steps += 1
        self._activate()

    def _activate(self) -> None:
        for layer in self.layers:
            layer.records, layer.active = [], self.z_at(self.steps, layer.z_start) > 0

    def __call__(self) -> Tensor:
        """The loss of all that the layers gave since the last call: a scalar, float32 for half-precision layers."""
        if not self.layers:
            raise ValueError("no layers: attach(model, layers) comes before the first call")
        losses, measure = list[Tensor](), self.calls % 20 == 0
        self.calls += 1
        for layer, (records, problem) in [(layer, layer.take()) for layer in self.layers]:
            if problem:
                raise ValueError(problem)
            hs, z = [h for h, *_ in records], self.z_at(self.steps, layer.z_start)
            if measure and hs and not any(_functorch.is_functorch_wrapped_tensor(h) for h in hs):
                hs = layer.measure(records, self.scale, step=self.steps, z=z)
            if hs:
                h = hs[0] if len(hs) == 1 else torch.cat([h.flatten() for h in hs])
                h = h.clamp(*self.clamp) if self.clamp else h
                losses.append(unchecked_loss(h, z, self.I0, self.scale, self.reduction))
        return sum((loss.to(losses[0]) for loss in losses[1:]), losses[0]) if losses else torch.zeros(())

    def critical_z(self, lr: float | torch.optim.Optimizer, momentum: float = 0.0) -> dict[str, float | str]:
        """Per layer the strength at which gradient descent starts to period-double, by `critical_z`; where unknown, why.

        Takes learning rate and momentum, or the optimizer itself. Holds for a linear or convolutional layer whose output is
        read, on its inputs at the last measured call, as if they and all other losses stayed as they are. `report` uses it.
        """
        why, rate = "", cast(float, lr)
        if isinstance(lr, torch.optim.Optimizer):
            group = lr.param_groups[0]
            if len(lr.param_groups) > 1 or not isinstance(lr, torch.optim.SGD) or group["nesterov"] or group["dampening"]:
                why = f"unknown: {type(lr).__name__} is not gradient descent with one learning rate and plain momentum"
            rate, momentum = group["lr"], group.get("momentum", 0.0)
        self.limits = {}
        for layer in self.layers:
            limit: float | str = why or "unknown: its inputs are measured in an uncompiled training step, which comes first"
            if layer.linear is None:
                limit = why or "unknown: only the output of a linear or convolutional layer has a formula"
            elif (inputs := layer.measured.get("inputs")) and not why:
                options = self.I0, self.scale, self.reduction, layer.measured["numel"]
                limit = critical_z(largest_eigenvalue(layer.linear, inputs), rate, momentum, *options)
            self.limits[layer.key] = limit
        return self.limits

    def report(self) -> dict[str, dict[str, Any]]:
        """What the chaotic loss does to each layer, from the last measured call (the first and every 20th); None if unknown.

        Per layer `step`, `z`, `mean_s` and the `I0` that it is pulled to; `gradient_share`, c / (c + r), c the norm of the
        gradient at h of its chaotic loss, r of all else (None if nothing else reads h, as a membrane); `z_over_critical`, after
        `critical_z`; and `warning`, one line if z is too large: the layer is at I0, or learns nothing else, or period-doubles.
        """
        out = {}
        for layer in self.layers:
            m, limit = layer.measured, self.limits.get(layer.key)
            chaos, rest = (sum(float(norm) ** 2 for norm in m.get(key, ())) ** 0.5 for key in ("chaos", "rest"))
            share = chaos / (chaos + rest) if m.get("rest") and chaos + rest else None
            ratio = m["z"] / limit if m and isinstance(limit, float) else None
            mean_s = sum(map(float, m["s"])) / len(m["s"]) if m else None
            arrived = mean_s is not None and abs(mean_s - self.I0) < 0.1 * abs(self.I0 - 0.5)
            signs = [f"the chaotic loss is {share:.0%} of this layer's gradient"] if share and share > 0.8 else []
            signs += [f"mean s has arrived at I0 = {self.I0:g}"] if arrived else []
            signs += [f"it is {ratio:.3g} times the critical z"] if ratio and ratio > 1 else []
            out[layer.key] = {
                "step": m.get("step"), "z": m.get("z"), "mean_s": mean_s, "I0": self.I0, "gradient_share": share,
                "z_over_critical": ratio, "warning": f"z = {m['z']:g} is too large: {', '.join(signs)}" if signs else None,
            }  # fmt: skip
        return out

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; restore it with `load_state_dict` after `attach`."""
        names = ("z_start", "beta", "I0", "scale", "reduction", "clamp", "cutoff", "steps", "calls")
        layers = [(one.name, one.read if isinstance(one.read, str) else "function", one.z_start) for one in self.layers]
        return {name: getattr(self, name) for name in names} | {"layers": layers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises ValueError if other layers are attached."""
        theirs, ours = ([tuple(one[:2]) for one in side["layers"]] for side in (state, self.state_dict()))
        if theirs != ours:
            raise ValueError(f"state of layers {theirs}: attached are {ours}")
        for layer, (_, _, z_start) in zip(self.layers, state["layers"], strict=True):
            layer.z_start = z_start
        vars(self).update({name: value for name, value in state.items() if name != "layers"})
        self._activate()

    def __repr__(self) -> str:
        return f"ChaoticLoss(z={self.z:g}, beta={self.beta:g}, steps={self.steps}, layers={[one.name for one in self.layers]})"
