"""The chaotic loss, and the strength above which it destabilises training."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .checks import check_all, check_choice

LINEAR = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def chaotic_loss(
    h: Tensor, z: float | Tensor, I0: float | Tensor = 0.65, scale: float = 10.0, reduction: str = "mean", literal: bool = False
) -> Tensor:
    """The chaotic loss of CSBP on a layer's output or membrane potential.

        L = -z (I0 log s + (1 - I0) log(1 - s)),    s = sigmoid(h / scale),    dL/dh = z (s - I0) / scale

    It is the binary cross-entropy with logit h / scale and soft target I0; alone it pulls h to h* = scale * logit(I0).

    Args:
        h: output or membrane potential, any shape, floating point; half precision is computed and returned in float32.
        z: strength, >= 0. A number, or a tensor that broadcasts with `h`: keep it float64, it is cast last. The values of a
            tensor are not checked, which would wait for a GPU and break vmap. The same holds for `I0`.
        I0, scale: what s is pulled to, in (0, 1), and the divisor of `h`, > 0: 10 in deep networks, 1 in one neuron.
        reduction: "mean", "sum" (the published document) or "none".
        literal: the published expression, bit for bit; in float32 it overflows from h / scale = 16.64 on, the stable one never.

    Returns a scalar, or the shape of `h` for "none". Raises ValueError for a value out of range or an empty `h`.
    Source: Wang, Tao and Chen 2024, doi:10.1093/nsr/nwae037.
    """
    check_all(scale=scale, **{name: value for name, value in (("z", z), ("I0", I0)) if not isinstance(value, Tensor)})
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if not isinstance(h, Tensor) or not h.is_floating_point() or h.numel() == 0:
        got = f"{h.dtype} {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(f"h = {got}: must be a floating point tensor that is not empty")
    if not literal:
        return unchecked_loss(h, z, I0, scale, reduction)
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    s = torch.sigmoid(h / scale)
    loss = _cast(-z, h) * (_cast(I0, h) * torch.log(s) + _cast(1 - I0, h) * torch.log(1 - s))
    return loss if reduction == "none" else getattr(loss, reduction)()


def unchecked_loss(h: Tensor, z: float | Tensor, I0: float | Tensor, scale: float, reduction: str) -> Tensor:
    """The stable form, which is the library's; it cancels for a target below 1/2, so there log s and log(1 - s) swap."""
    h, each = h.to(torch.promote_types(h.dtype, torch.float32)), isinstance(z, Tensor) and z.dim() > 0
    if isinstance(I0, Tensor):
        flip, target = _cast(2 * (I0 >= 0.5).to(h.dtype) - 1, h), _cast(torch.maximum(I0, 1 - I0), h)
    else:
        flip, target = 1.0 if I0 >= 0.5 else -1.0, h.new_full((), max(I0, 1 - I0))
    u, target = torch.broadcast_tensors(h * (flip / scale), target)
    loss = _cast(z, h) * F.binary_cross_entropy_with_logits(u, target, reduction="none" if each else reduction)
    return getattr(loss, reduction)() if each and reduction != "none" else loss


def _cast(value: Any, like: Tensor) -> Any:
    return value.to(like) if isinstance(value, Tensor) else value


def critical_z(
    lambda_max: float, lr: float, momentum: float = 0.0, I0: float = 0.65, scale: float = 10.0, reduction: str = "sum",
    numel: int | None = None,
) -> float:  # fmt: skip
    """The strength z at which gradient descent on the chaotic loss of a linear layer starts to period-double.

        z_c = 2 (1 + momentum) scale**2 / (lr * c * I0 (1 - I0) * lambda_max(X^T X)),   c = 1 (sum) or 1 / numel (mean)

    `lambda_max` is that of `largest_eigenvalue` (Example 1 has X = [1, 1], so 2), `lr` > 0 and `momentum` in [0, 1) those of
    the gradient descent, `I0`, `scale` and `reduction` those of `chaotic_loss`; `numel` counts all elements of h that a mean
    runs over. Raises ValueError for a value out of range, or "mean" without numel. Source: linear stability at the fixed point
    s = I0; 4.3956 for Example 1, where the published weight settles.
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    rows = numel if reduction == "mean" else 1
    check_all(lambda_max=lambda_max, lr=lr, momentum=momentum, I0=I0, scale=scale, numel=rows)
    return float(2 * (1 + momentum) * scale**2 * rows / (lr * I0 * (1 - I0) * lambda_max))  # type: ignore[operator]


def largest_eigenvalue(layer: nn.Module, inputs: Iterable[Tensor]) -> float:
    """lambda_max(X^T X) of a linear or convolutional layer, to 1e-6, by power iteration through the layer itself.

    X has a row per sample and position of all `inputs`, shaped as the layer takes them, and a column of ones for a bias. One
    output channel is enough: X is the same for all, unless they come in groups.
    """
    layer, channels = copy.deepcopy(layer), None if getattr(layer, "groups", 1) > 1 else 1
    layer._forward_hooks.clear()  # these runs are nobody's business
    weights = {name: p[:channels] for name in ("weight", "bias") if (p := getattr(layer, name)) is not None}
    v = {name: torch.linspace(0.5, 1.5, p.numel()).to(p).view(p.shape) for name, p in weights.items()}
    estimate, inputs = 0.0, [x.detach() for x in inputs]
    for _ in range(1000):
        norm = sum(float(part.square().sum()) for part in v.values()) ** 0.5
        if abs(norm - estimate) <= 1e-7 * norm:
            break
        estimate, v = norm, {name: (part / norm).requires_grad_() for name, part in v.items()}
        with torch.enable_grad():
            h = [functional_call(layer, {**v}, x) for x in inputs]
        v = dict(zip(v, torch.autograd.grad(h, [*v.values()], h), strict=True))
    return norm
