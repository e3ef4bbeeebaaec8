"""What the chaotic loss does to a layer: measured in some of the calls, and put into a report."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ..checks import check, check_flag
from ..stability import PARAMETERS, critical_z, largest_eigenvalue
from .activity import Activity, Tally

if TYPE_CHECKING:
    from .hooks import LayerHook, Record

MEASURE_EVERY = 20  # calls on a training run; the first is measured, too

# A strength is called too large if the chaotic loss has more than this share of the gradient at h
# at first: twice the share to start from. Of the trainings of notebook 7 that began
# above it most ended worse than without the loss, some without coming to the next limit.
FIRST_SHARE_LIMIT = 0.1
# Later it is called so above this share: more than all other losses together,
SHARE_LIMIT = 0.5
# or if ``|mean s - I0| / |I0 - 1/2|`` has fallen below this: s is 1/2 at h = 0.
ARRIVED = 0.1

# Why a gradient share is not known, and how it comes to be.
IN_COMPILED_MODEL = (
    "gradient_share is unknown in a compiled model: take one training step with the model that "
    "was given to torch.compile, uncompiled; that step is measured whenever it comes"
)
BEFORE_BACKWARD = "gradient_share is known after the backward pass"
NOT_SHARED = "gradient_share is unknown: nothing but the chaotic loss has a gradient at h"


class Numbers(NamedTuple):
    """What was measured of a layer, as it is reported and saved; None where it is not known."""

    step: int
    z: float
    mean_s: float
    gradient_share: float | None
    note: str | None  # why the share is not known
    activity: Activity
    is_first: bool = False  # no share was known before; an older version did not save it


class SavedNumbers(TypedDict):
    """What a state dictionary holds of a layer's last measurement, in plain types."""

    numbers: dict[str, Any] | None
    activity: dict[str, float | None] | None
    critical_z: tuple[float | None, str] | None


def saved_numbers(layer: LayerHook) -> SavedNumbers:
    """What was measured of a layer, to be saved."""
    saved = SavedNumbers(numbers=None, activity=None, critical_z=None)
    numbers = layer.numbers
    if numbers is not None:
        named = numbers._asdict()
        saved["activity"] = named.pop("activity")._asdict()
        saved["numbers"] = named
    if layer.critical_z is not None:
        saved["critical_z"] = (layer.critical_z.value, layer.critical_z.reason)
    return saved


def resume_numbers(layer: LayerHook, saved: SavedNumbers | None) -> None:
    """Put a layer where `saved_numbers` was taken; None is of a state that held no measurement."""
    layer.measurement = None
    layer.resumed = None
    layer.critical_z = None
    if saved is None:
        return
    if saved["numbers"] is not None and saved["activity"] is not None:
        layer.resumed = Numbers(**saved["numbers"], activity=Activity(**saved["activity"]))
    if saved["critical_z"] is not None:
        layer.critical_z = CriticalZ(*saved["critical_z"])


class Measurement:
    """What one measured call and the backward pass after it say about a layer.

    Attributes:
        step: steps of annealing until then.
        z: the layer's strength then.
        is_first: whether no share of the layer was known before.
        numels: elements of h, one number per record.
        inputs: what a linear layer was given, one tensor per record, spikes as booleans; empty for
            other layers.
        mean_s: the mean of the s of the loss, one scalar tensor per record.
        chaotic_norms: norms of the chaotic loss's gradient at h, one per record, which the backward
            pass fills in.
        other_norms: those of the gradient of everything else; empty where nothing else reads h.
        tally: of the spikes, where the layer is one of neurons.
        is_compiled: whether the layer ran in a compiled model.
    """

    def __init__(self, records: Sequence[Record], step: int, z: float, is_first: bool) -> None:
        self.step = step
        self.z = z
        self.is_first = is_first
        self.numels = [record.h.numel() for record in records]
        self.inputs = [_kept(record.inputs) for record in records if record.inputs is not None]
        self.mean_s: list[Tensor] = []
        self.chaotic_norms: list[Tensor] = []
        self.other_norms: list[Tensor] = []
        self.is_compiled = any(record.version is None for record in records)
        self.tally = Tally()
        for record in records:
            if record.run is not None:
                self.tally.add(record.run)

    def watch(self, record: Record, scale: float, clamp: tuple[float, float] | None) -> Tensor:
        """Measure s, and return an h for the chaotic loss whose gradient is measured apart."""
        h = record.h.detach().float()
        if clamp is not None:
            h = h.clamp(*clamp)
        self.mean_s.append(torch.sigmoid(h / scale).mean())
        h_of_chaos = record.h.view_as(record.h)
        # the layers of a compiled graph do not read this h: a hook would see the chaotic part alone
        is_compiled = record.version is None
        if not is_compiled:
            split = _GradientSplit(self)
            h_of_chaos.register_hook(split.keep_chaotic)
            record.h.register_hook(split.measure)
        return h_of_chaos

    def gradient_share(self) -> float | None:
        """The chaotic loss's share of the gradient at h, in [0, 1].

        None if it is not known, or if the chaotic loss is all that reads h, as of many a membrane:
        there a share says nothing about learning.
        """
        chaotic = _norm(self.chaotic_norms)
        others = _norm(self.other_norms)
        if not self.other_norms or chaotic + others == 0:
            return None
        return chaotic / (chaotic + others)

    def numbers(self) -> Numbers:
        """All that is known by now."""
        share = self.gradient_share()
        return Numbers(
            step=self.step,
            z=self.z,
            mean_s=fmean(map(float, self.mean_s), weights=self.numels),
            gradient_share=share,
            note=self._why_no_share() if share is None else None,
            activity=self.tally.activity(),
            is_first=self.is_first,
        )

    def _why_no_share(self) -> str:
        if self.is_compiled:
            return IN_COMPILED_MODEL
        return NOT_SHARED if self.chaotic_norms else BEFORE_BACKWARD


def _kept(inputs: Tensor) -> Tensor:
    """What is kept of a layer's inputs until the next measured call: of spikes a quarter."""
    inputs = inputs.detach()
    is_one = inputs == 1
    return is_one if bool((is_one | (inputs == 0)).all()) else inputs


class _GradientSplit:
    """Parts the gradient at h: the chaotic loss reads a view of h, everything else h itself.

    A backward pass reaches the view first, then h, with the sum of both gradients.
    """

    def __init__(self, measurement: Measurement) -> None:
        self.measurement = measurement
        self.chaotic: Tensor | None = None

    def keep_chaotic(self, gradient: Tensor) -> None:
        """The hook on the view."""
        self.chaotic = gradient

    def measure(self, gradient: Tensor) -> None:
        """The hook on h."""
        # in a backward pass of the other losses alone the view gets no gradient
        chaotic = torch.zeros_like(gradient) if self.chaotic is None else self.chaotic
        self.chaotic = None
        self.measurement.chaotic_norms.append(chaotic.float().norm())
        # Autograd passes a single gradient on as it is and puts a sum into memory of its own. So in
        # the same memory it is the chaotic loss's alone: nothing else reads h.
        if chaotic.data_ptr() != gradient.data_ptr():
            self.measurement.other_norms.append((gradient - chaotic).float().norm())


def _norm(norms: Sequence[Tensor]) -> float:
    """The norm of all parts together, from the norms of each."""
    return sum(float(norm) ** 2 for norm in norms) ** 0.5


class LayerReport(TypedDict):
    """What `ChaoticLoss.report` says of a layer; None where it is not known."""

    step: int | None
    z: float | None
    mean_s: float | None
    I0: float
    gradient_share: float | None
    z_over_critical: float | None
    firing_rate: float | None
    never_fires: float | None
    always_fires: float | None
    zero_surrogate: float | None
    note: str | None
    warning: str | None


def report_on(numbers: Numbers | None, limit: CriticalZ | None, I0: float) -> LayerReport:
    """The report on one layer, from its last measurement, if any, and its critical z, if known."""
    activity = Activity() if numbers is None else numbers.activity
    report = LayerReport(
        step=None,
        z=None,
        mean_s=None,
        I0=I0,
        gradient_share=None,
        z_over_critical=None,
        firing_rate=activity.firing_rate,
        never_fires=activity.never_fires,
        always_fires=activity.always_fires,
        zero_surrogate=activity.zero_surrogate,
        note=None,
        warning=None,
    )
    if numbers is None:
        return report
    report["step"] = numbers.step
    report["z"] = numbers.z
    report["mean_s"] = numbers.mean_s
    report["gradient_share"] = numbers.gradient_share
    report["note"] = numbers.note
    if limit is not None and limit.value is not None:
        report["z_over_critical"] = numbers.z / limit.value
    report["warning"] = _warning(report, numbers.is_first) or None
    return report


def scalars_of(reports: dict[str, LayerReport]) -> dict[str, float]:
    """The numbers of all reports that are known, by "layer/number"."""
    return {
        f"{layer}/{name}": float(value)
        for layer, report in reports.items()
        for name, value in report.items()
        if isinstance(value, float | int)
    }


def _warning(report: LayerReport, is_first: bool) -> str:
    """What is wrong, in one line; "" if nothing is."""
    warnings = []
    signs = _signs_of_too_large_z(report, is_first)
    if signs:
        warnings.append(f"z = {report['z']:g} is too large: {', '.join(signs)}")
    if report["always_fires"] == 1:
        warnings.append("every neuron fires always")
    return "; ".join(warnings)


def _signs_of_too_large_z(report: LayerReport, is_first: bool) -> list[str]:
    share = report["gradient_share"]
    mean_s = report["mean_s"]
    ratio = report["z_over_critical"]
    I0 = report["I0"]
    signs = []
    share_limit = FIRST_SHARE_LIMIT if is_first else SHARE_LIMIT
    if share is not None and share > share_limit:
        when = " at first" if is_first else ""
        signs.append(f"the chaotic loss is {100 * share:.0f} % of this layer's gradient{when}")
    if mean_s is not None and abs(mean_s - I0) < ARRIVED * abs(I0 - 0.5):
        signs.append(f"mean s has arrived at I0 = {I0:g}")
    if ratio is not None and ratio > 1:
        signs.append(f"it is {ratio:.3g} times the critical z")
    return signs


class Descent(NamedTuple):
    """The gradient descent that trains a layer."""

    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool


def checked_descent(
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> Descent:
    """The gradient descent of these settings; refuses one out of range."""
    check("lr", lr, "(0, inf)")
    check("momentum", momentum, "[0, 1)")
    check("weight_decay", weight_decay, "[0, inf)")
    check_flag("nesterov", nesterov)
    return Descent(float(lr), float(momentum), float(weight_decay), bool(nesterov))


class CriticalZ(NamedTuple):
    """The critical z of a layer, or None and the reason why it is not known."""

    value: float | None
    reason: str = ""


def critical_z_of(
    layer: LayerHook,
    descent: Descent | Optimizer,
    I0: float,
    scale: float,
    reduction: str,
) -> CriticalZ:
    """The critical z of one layer, on its inputs in the last measured call."""
    try:
        value = _critical_z(layer, descent, I0, scale, reduction)
    except Exception as error:  # whatever this layer is: the others have answers
        reason = str(error).partition("\n")[0]
        return CriticalZ(None, f"unknown: {reason}")
    return CriticalZ(value)


def _critical_z(
    layer: LayerHook,
    descent: Descent | Optimizer,
    I0: float,
    scale: float,
    reduction: str,
) -> float:
    """The critical z of one layer; raises an error that says why there is none."""
    if isinstance(descent, Optimizer):
        descent = getattr(descent, "optimizer", descent)  # accelerate wraps them
        _refuse_other_descents(descent)
    if layer.linear is None:
        raise ValueError("only the output of a linear or convolutional layer has a formula")
    if layer.measurement is None or not layer.measurement.inputs:
        raise ValueError(
            "its inputs are measured in an uncompiled training step, which comes first"
        )
    trained = _trained(layer.linear)
    if isinstance(descent, Optimizer):
        trained = _held(trained, descent)
    lambda_max = largest_eigenvalue(layer.linear, layer.measurement.inputs, tuple(trained))
    if isinstance(descent, Optimizer):
        descent = _common_descent(trained, descent)
    return critical_z(
        lambda_max,
        descent.lr,
        descent.momentum,
        I0,
        scale,
        reduction,
        sum(layer.measurement.numels),
        weight_decay=descent.weight_decay,
        nesterov=descent.nesterov,
        bias="bias" in trained,
    )


def _refuse_other_descents(optimizer: Optimizer) -> None:
    """Refuse what is not gradient descent, with momentum or without."""
    if not isinstance(optimizer, SGD):
        raise ValueError(f"{type(optimizer).__name__} is not gradient descent")


def _trained(linear: nn.Module) -> dict[str, nn.Parameter]:
    """The weight and the bias of a layer, as far as they are parameters that require a gradient."""
    parameters = dict(linear.named_parameters(recurse=False))
    return {name: p for name, p in parameters.items() if name in PARAMETERS and p.requires_grad}


def _held(parameters: dict[str, nn.Parameter], optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """Those of a layer's parameters that an optimizer holds."""
    held = {name: p for name, p in parameters.items() if _group_of(p, optimizer) is not None}
    if parameters and not held:
        raise ValueError("the optimizer holds none of its parameters")
    return held


def _common_descent(parameters: dict[str, nn.Parameter], optimizer: Optimizer) -> Descent:
    """What an optimizer does with all of a layer's parameters, which it holds."""
    groups = [_group_of(p, optimizer) for p in parameters.values()]
    first, *others = [_descent_of(group) for group in groups if group is not None]
    if any(other != first for other in others):
        raise ValueError("the optimizer has different settings for its weight and its bias")
    return first


def _group_of(parameter: nn.Parameter, optimizer: Optimizer) -> dict[str, Any] | None:
    """The parameter group of an optimizer that holds a parameter."""
    for group in optimizer.param_groups:
        if any(parameter is other for other in group["params"]):
            return group
    return None


def _descent_of(group: dict[str, Any]) -> Descent:
    """What an SGD optimizer does with a group of parameters."""
    if group["dampening"] or group["maximize"]:
        raise ValueError("SGD is not gradient descent with dampening or maximize")
    return Descent(
        lr=float(group["lr"]),  # it may be a tensor
        momentum=float(group["momentum"]),
        weight_decay=float(group["weight_decay"]),
        nesterov=bool(group["nesterov"]),
    )
