"""The chaotic loss, as published and in a form that cannot overflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .checks import check, check_choice, check_flag
from .stability import (  # for scripts that still import them from here
    critical_z as critical_z,
    largest_eigenvalue as largest_eigenvalue,
)
from .torch_private import softplus_backward

# From here on softplus(x) is x: no dtype knows exp(-40) beside 1.
SOFTPLUS_THRESHOLD = 40.0


def chaotic_loss(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor = 0.65,
    scale: float = 10.0,
    reduction: str = "mean",
    literal: bool = False,
) -> Tensor:
    """The chaotic loss of CSBP on a layer's output or membrane potential.

    Per element of `h`::

        L = -z (I0 log s + (1 - I0) log(1 - s)),    s = sigmoid(h / scale)
        dL/dh = z (s - I0) / scale

    It is the binary cross-entropy with logit h / scale and soft target I0. Alone it pulls `h` to
    h* = scale * logit(I0), where s = I0; with a large step the pull overshoots.

    Args:
        h: output or membrane potential, any shape, floating point. Half precision is computed and
            returned in float32.
        z: strength, >= 0: a number, or a tensor that broadcasts to the shape of `h`. Keep a tensor
            float64: it is cast last, which keeps 1 - I0 exact. Its values are not checked, which
            would wait for a GPU and break vmap.
        I0: the value that s is pulled to, in (0, 1); a number, or a tensor as for `z`.
        scale: the divisor of `h`, > 0: 10 in deep networks, 1 in the single neuron.
        reduction: "mean", "sum" (the published document) or "none".
        literal: whether to compute the published expression, bit for bit. In float32 that is
            infinite or NaN from h / scale = 16.64 on; the stable form, which is the default, never.

    Returns a scalar, or for "none" a tensor of the shape of `h`.

    Raises ValueError for a value out of range, an `h` that is empty or not floating point, or a
    tensor `z` or `I0` of a shape that `h` would have to be repeated for.

    Source: Wang, Tao and Chen 2024, doi:10.1093/nsr/nwae037.

    Example:
        >>> h = torch.tensor([0.0, 2.0], requires_grad=True)
        >>> chaotic_loss(h, z=10.0).backward()
        >>> h.grad  # z (s - I0) / scale, over the two elements of the mean
        tensor([-0.0750, -0.0501])
    """
    check("scale", scale, "(0, inf)")
    if not isinstance(z, Tensor):
        check("z", z, "[0, inf)")
    if not isinstance(I0, Tensor):
        check("I0", I0, "(0, 1)")
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    check_flag("literal", literal)
    if not isinstance(h, Tensor) or not h.is_floating_point() or h.numel() == 0:
        given = f"{h.dtype} {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(f"h = {given}: must be a floating point tensor that is not empty")
    _refuse_larger_shape("z", z, h)
    _refuse_larger_shape("I0", I0, h)
    if literal:
        return _reduced(_literal_elements(h, z, I0, scale), reduction)
    return _stable_chaotic_loss(h, z, I0, scale, reduction)


def _refuse_larger_shape(name: str, value: Any, h: Tensor) -> None:
    """Refuse a tensor that h would have to be repeated for: the loss would be of another h."""
    if not isinstance(value, Tensor):
        return
    shape = tuple(value.shape)
    sizes = zip(reversed(shape), reversed(h.shape), strict=False)
    if len(shape) > h.dim() or any(size not in (1, size_of_h) for size, size_of_h in sizes):
        raise ValueError(f"{name} has shape {shape}: must broadcast to that of h, {tuple(h.shape)}")


# The stable form. The loss of h with target I0 is that of -h with target 1 - I0, so that a target
# of at most 1/2 is enough:
#
#     L = z k (softplus_k(h) - target h),    softplus_k(h) = log(1 + exp(k h)) / k
#
# with k = 1 / scale and target = I0, or k = -1 / scale and target = 1 - I0. For large h of one sign
# softplus_k(h) is h: with a target near 1 nearly all digits of the difference would cancel.


class Law(NamedTuple):
    """The stable form for numbers I0 and scale.

    Attributes:
        I0: the value that s is pulled to, in (0, 1).
        scale: the divisor of h, > 0.
        clamp: (low, high), outside of which h gets no gradient; None for no limits.
    """

    I0: float
    scale: float
    clamp: tuple[float, float] | None = None

    @property
    def k(self) -> float:
        """The steepness of softplus, with its sign."""
        return 1 / self.scale if self.I0 <= 0.5 else -1 / self.scale

    @property
    def target(self) -> float:
        """What goes with it: at most 1/2."""
        return min(self.I0, 1 - self.I0)

    def sum_over_zk(self, h: Tensor) -> Tensor:
        """The loss over z k, summed over the elements of h."""
        h = _at_least_float32(self._clamped(h))
        # two sums, since for a sum of differences these would have to be stored
        return torch.sub(softplus(h, self.k, SOFTPLUS_THRESHOLD).sum(), h.sum(), alpha=self.target)

    def gradient(self, h: Tensor, zk: Tensor) -> Tensor:
        """zk (softplus_k'(h) - target), which is z (s - I0) / scale; where h is clamped 0."""
        clamped = self._clamped(h)
        wide_h = _at_least_float32(clamped)
        zk = zk.to(wide_h)
        gradient = softplus_backward(zk, wide_h, self.k, SOFTPLUS_THRESHOLD)
        gradient.sub_(zk, alpha=self.target)
        if self.clamp is not None:
            gradient = torch.where(h == clamped, gradient, 0.0)
        return gradient.to(h)

    def _clamped(self, h: Tensor) -> Tensor:
        if self.clamp is None:
            return h
        return h.clamp(*self.clamp)


class Term(NamedTuple):
    """A tensor h whose loss, summed over its elements, is to be added."""

    h: Tensor
    z: float  # or z / elements for a mean


def total_chaotic_loss(terms: Sequence[Term], law: Law) -> Tensor:
    """The chaotic losses of several tensors, added up.

    For the backward pass it keeps the tensors themselves and nothing else.

    Returns a scalar in the precision and on the device of the first loss, float32 at least.
    """
    all_z = [term.z for term in terms]
    return _Total.apply(law, all_z, *(term.h for term in terms))


class _Total(torch.autograd.Function):
    """`total_chaotic_loss`, with its closed gradient.

    It is one node of the graph for all tensors: a node in Python costs as much as a small layer.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(law: Law, all_z: list[float], *all_h: Tensor) -> Tensor:
        sums = [law.sum_over_zk(h) for h in all_h]
        return _weighted(sums, [z * law.k for z in all_z])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.law, ctx.all_z, *all_h = inputs
        ctx.save_for_backward(*all_h)
        ctx.save_for_forward(*all_h)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        k = ctx.law.k
        gradients = [
            ctx.law.gradient(h, gradient * (z * k))
            for z, h in zip(ctx.all_z, ctx.saved_tensors, strict=True)
        ]
        return None, None, *gradients

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        _, _, *all_tangents = tangents
        k = ctx.law.k
        changes = [
            _at_least_float32(ctx.law.gradient(h, tangent * k)).sum()
            for h, tangent in zip(ctx.saved_tensors, all_tangents, strict=True)
        ]
        return _weighted(changes, ctx.all_z)


def _weighted(sums: list[Tensor], weights: list[float]) -> Tensor:
    """The sum of all, each times its weight."""
    total = weights[0] * sums[0]
    for further, weight in zip(sums[1:], weights[1:], strict=True):
        further = further.to(total)  # layers may lie on several devices
        total = torch.add(total, further, alpha=weight)
    return total


def _stable_chaotic_loss(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor,
    scale: float,
    reduction: str,
) -> Tensor:
    """`chaotic_loss` in its stable form, without checks."""
    has_many_z = isinstance(z, Tensor) and z.dim() > 0
    if reduction == "none" or isinstance(I0, Tensor) or has_many_z:
        return _reduced(_stable_elements(h, z, I0, scale), reduction)
    law = Law(I0, scale)
    total = law.k * law.sum_over_zk(h)
    if reduction == "mean":
        total = total / h.numel()
    return _as(z, h) * total


def _stable_elements(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor,
    scale: float,
) -> Tensor:
    """The loss of each element, for which z and I0 may be tensors."""
    h = _at_least_float32(h)
    if isinstance(I0, Tensor):
        is_mirrored = I0 > 0.5
        h = h * _as(1 - 2 * is_mirrored.to(h.dtype), h)
        target = _as(torch.where(is_mirrored, 1 - I0, I0), h)
        k = 1 / scale
    else:
        law = Law(I0, scale)
        target = law.target
        k = law.k
    elements = k * (softplus(h, k, SOFTPLUS_THRESHOLD) - target * h)
    return _as(z, h) * elements


def _literal_elements(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor,
    scale: float,
) -> Tensor:
    """The published expression, in its order of operations."""
    h = _at_least_float32(h)
    s = torch.sigmoid(h / scale)
    # 1 - I0 in float64, cast last: in float32 it is another number
    entropy = _as(I0, h) * torch.log(s) + _as(1 - I0, h) * torch.log(1 - s)
    return _as(-z, h) * entropy


def _reduced(elements: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or the elements themselves."""
    if reduction == "mean":
        return elements.mean()
    if reduction == "sum":
        return elements.sum()
    return elements


def _as(value: Any, like: Tensor) -> Any:
    """A tensor in the dtype and on the device of another; a number as it is."""
    return value.to(like) if isinstance(value, Tensor) else value


def _at_least_float32(h: Tensor) -> Tensor:
    return h.float() if h.dtype.itemsize < 4 else h
