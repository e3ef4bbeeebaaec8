"""What the chaotic loss does to a layer: measured in some of the calls, and put into a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ..stability import critical_z, largest_eigenvalue

if TYPE_CHECKING:
    from .hooks import LayerHook, Record

MEASURE_EVERY = 20  # calls; the first is measured, too

# A strength is called too large if the chaotic loss has more than this share of the gradient at h,
SHARE_LIMIT = 0.8
# or if ``|mean s - I0| / |I0 - 1/2|`` has fallen below this: s is 1/2 at h = 0.
ARRIVED = 0.1


class Measurement:
    """What one measured call and the backward pass after it say about a layer.

    Attributes:
        step: steps of annealing until then.
        z: the layer's strength then.
        numel: elements of h in all records.
        inputs: what a linear layer was given, one tensor per record; empty for other layers.
        mean_s: the mean of s, one scalar tensor per record.
        chaotic_norms: norms of the chaotic loss's gradient at h, one per record, which the backward
            pass fills in.
        other_norms: those of the gradient of everything else; empty where nothing else reads h.
    """

    def __init__(self, records: Sequence[Record], step: int, z: float) -> None:
        self.step = step
        self.z = z
        self.numel = sum(record.h.numel() for record in records)
        self.inputs = [record.inputs.detach() for record in records if record.inputs is not None]
        self.mean_s: list[Tensor] = []
        self.chaotic_norms: list[Tensor] = []
        self.other_norms: list[Tensor] = []

    def watch(self, record: Record, scale: float) -> Tensor:
        """Measure s, and return an h for the chaotic loss whose gradient is measured apart."""
        s = torch.sigmoid(record.h.detach().float() / scale)
        self.mean_s.append(s.mean())
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
    warning: str | None


def report_on(layer: LayerHook, I0: float) -> LayerReport:
    """The report on one layer, from its last measurement and its critical z."""
    measurement = layer.measurement
    if measurement is None:
        return LayerReport(
            step=None,
            z=None,
            mean_s=None,
            I0=I0,
            gradient_share=None,
            z_over_critical=None,
            warning=None,
        )
    report = LayerReport(
        step=measurement.step,
        z=measurement.z,
        mean_s=sum(map(float, measurement.mean_s)) / len(measurement.mean_s),
        I0=I0,
        gradient_share=measurement.gradient_share(),
        z_over_critical=None,
        warning=None,
    )
    if layer.critical_z is not None and layer.critical_z.value is not None:
        report["z_over_critical"] = measurement.z / layer.critical_z.value
    signs = _signs_of_too_large_z(report)
    if signs:
        report["warning"] = f"z = {measurement.z:g} is too large: {', '.join(signs)}"
    return report


def _signs_of_too_large_z(report: LayerReport) -> list[str]:
    share = report["gradient_share"]
    mean_s = report["mean_s"]
    ratio = report["z_over_critical"]
    I0 = report["I0"]
    signs = []
    if share is not None and share > SHARE_LIMIT:
        signs.append(f"the chaotic loss is {share:.0%} of this layer's gradient")
    if mean_s is not None and abs(mean_s - I0) < ARRIVED * abs(I0 - 0.5):
        signs.append(f"mean s has arrived at I0 = {I0:g}")
    if ratio is not None and ratio > 1:
        signs.append(f"it is {ratio:.3g} times the critical z")
    return signs


class Descent(NamedTuple):
    """Learning rate and momentum of gradient descent; why no formula holds, if it is not plain."""

    lr: float
    momentum: float
    reason: str = ""


def descent_of(optimizer: Optimizer) -> Descent:
    """The gradient descent that an optimizer does."""
    group = optimizer.param_groups[0]
    is_plain = (
        len(optimizer.param_groups) == 1
        and isinstance(optimizer, SGD)
        and not group["nesterov"]
        and not group["dampening"]
    )
    reason = ""
    if not is_plain:
        reason = (
            f"unknown: {type(optimizer).__name__} is not gradient descent "
            "with one learning rate and plain momentum"
        )
    return Descent(group["lr"], group.get("momentum", 0.0), reason)


class CriticalZ(NamedTuple):
    """The critical z of a layer, or None and the reason why it is not known."""

    value: float | None
    reason: str = ""


def critical_z_of(
    layer: LayerHook,
    descent: Descent,
    I0: float,
    scale: float,
    reduction: str,
) -> CriticalZ:
    """The critical z of one layer, on its inputs in the last measured call."""
    if descent.reason:
        return CriticalZ(None, descent.reason)
    if layer.linear is None:
        reason = "unknown: only the output of a linear or convolutional layer has a formula"
        return CriticalZ(None, reason)
    if layer.measurement is None or not layer.measurement.inputs:
        reason = (
            "unknown: its inputs are measured in an uncompiled training step, which comes first"
        )
        return CriticalZ(None, reason)
    value = critical_z(
        largest_eigenvalue(layer.linear, layer.measurement.inputs),
        descent.lr,
        descent.momentum,
        I0,
        scale,
        reduction,
        layer.measurement.numel,
    )
    return CriticalZ(value)
