"""The chaotic loss, as published and in a form that cannot overflow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .checks import check, check_choice, check_flag
from .stability import (  # for scripts that still import them from here
    critical_z as critical_z,
    largest_eigenvalue as largest_eigenvalue,
)


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
        return _literal_chaotic_loss(h, z, I0, scale, reduction)
    return stable_chaotic_loss(h, z, I0, scale, reduction)


def _refuse_larger_shape(name: str, value: Any, h: Tensor) -> None:
    """Refuse a tensor that h would have to be repeated for: the loss would be of another h."""
    if not isinstance(value, Tensor):
        return
    shape = tuple(value.shape)
    sizes = zip(reversed(shape), reversed(h.shape), strict=False)
    if len(shape) > h.dim() or any(size not in (1, size_of_h) for size, size_of_h in sizes):
        raise ValueError(f"{name} has shape {shape}: must broadcast to that of h, {tuple(h.shape)}")


def stable_chaotic_loss(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor,
    scale: float,
    reduction: str,
) -> Tensor:
    """`chaotic_loss` in its stable form, by the library's cross-entropy and without checks."""
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    sign, target = _target_above_half(I0, h)
    logit = h * (sign / scale)
    logit, target = torch.broadcast_tensors(logit, target)
    if isinstance(z, Tensor) and z.dim() > 0:
        elements = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        return _reduced(_as(z, h) * elements, reduction)
    return _as(z, h) * F.binary_cross_entropy_with_logits(logit, target, reduction=reduction)


def _target_above_half(I0: float | Tensor, h: Tensor) -> tuple[float | Tensor, Tensor]:
    """The sign of the logit, and the target >= 1/2, that give the cross-entropy with target I0.

    Since sigmoid(-u) = 1 - sigmoid(u), the cross-entropy of the logit u with target I0 is that of
    the logit -u with target 1 - I0. The library computes it as (1 - target) u - log sigmoid(u). For
    a very negative u the second term is -u, so two numbers of the size of u leave target times u:
    for a small target nearly all digits cancel. Of the two equal forms we take the one with the
    larger target.
    """
    if isinstance(I0, Tensor):
        sign = 2 * (I0 >= 0.5).to(h.dtype) - 1
        return _as(sign, h), _as(torch.maximum(I0, 1 - I0), h)
    return (1.0 if I0 >= 0.5 else -1.0), h.new_full((), max(I0, 1 - I0))


def _literal_chaotic_loss(
    h: Tensor,
    z: float | Tensor,
    I0: float | Tensor,
    scale: float,
    reduction: str,
) -> Tensor:
    """The published expression, in its order of operations."""
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    s = torch.sigmoid(h / scale)
    # 1 - I0 in float64, cast last: in float32 it is another number
    entropy = _as(I0, h) * torch.log(s) + _as(1 - I0, h) * torch.log(1 - s)
    return _reduced(_as(-z, h) * entropy, reduction)


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
