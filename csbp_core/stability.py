"""The strength z above which the chaotic loss destabilises gradient descent on a linear layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .checks import check, check_choice
from .torch_private import forward_hooks

# The layers whose output is linear in their parameters, so that the formula holds.
LINEAR_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

MAX_ITERATIONS = 1000
TOLERANCE = 1e-7  # relative change of the estimate at which the power iteration has converged


def critical_z(
    lambda_max: float,
    lr: float,
    momentum: float = 0.0,
    I0: float = 0.65,
    scale: float = 10.0,
    reduction: str = "sum",
    numel: int | None = None,
) -> float:
    """The z at which gradient descent on the chaotic loss of a linear layer period-doubles.

    ::

        z_c = 2 (1 + momentum) scale**2 / (lr * c * I0 (1 - I0) * lambda_max(X^T X))
        c = 1 for a sum, 1 / numel for a mean

    It comes from linear stability at the fixed point s = I0, where the loss has the curvature
    z c I0 (1 - I0) / scale**2 * X^T X.

    Args:
        lambda_max: the largest eigenvalue of X^T X, > 0, as `largest_eigenvalue` gives it. X has a
            row of inputs, and a one for the bias, per sample and position. In the single neuron of
            the published Example 1 X = [1, 1], and the eigenvalue is 2.
        lr: learning rate, > 0.
        momentum: of gradient descent, in [0, 1).
        I0: of `chaotic_loss`, in (0, 1).
        scale: of `chaotic_loss`, > 0.
        reduction: of `chaotic_loss`, "sum" or "mean" (whose default there is "mean").
        numel: for "mean" the number of all elements of h that it runs over, >= 1.

    Returns z_c, > 0. Raises ValueError for a value out of range, or "mean" without `numel`.

    Example:
        >>> round(critical_z(lambda_max=2.0, lr=1.0, scale=1.0), 4)  # the published Example 1
        4.3956
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    elements = numel if reduction == "mean" else 1
    check("lambda_max", lambda_max, "(0, inf)")
    check("lr", lr, "(0, inf)")
    check("momentum", momentum, "[0, 1)")
    check("I0", I0, "(0, 1)")
    check("scale", scale, "(0, inf)")
    check("numel", elements, "[1, inf)", integer=True)
    # by which z is multiplied, but for the constants of the numerator, in the steepest direction
    slope = lr * I0 * (1 - I0) * lambda_max
    return float(2 * (1 + momentum) * scale**2 * elements / slope)  # type: ignore[operator]


def largest_eigenvalue(layer: nn.Module, inputs: Iterable[Tensor]) -> float:
    """The largest eigenvalue of X^T X of a linear or convolutional layer, to 1e-6.

    X has a row per sample and position of all inputs, with a column of ones if the layer has a
    bias. It is never built: the power iteration runs through the layer itself.

    Args:
        layer: `nn.Linear` or `nn.Conv1d` to `nn.Conv3d`; it is copied and left alone.
        inputs: tensors shaped as the layer takes them.

    Returns lambda_max, >= 0, in the units of the inputs squared.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> round(largest_eigenvalue(nn.Linear(2, 1, bias=False), [x]), 4)
        25.0
    """
    probe = copy.deepcopy(layer)
    forward_hooks(probe).clear()  # nobody is to see these runs
    inputs = [x.detach() for x in inputs]
    v = _start_vector(layer)
    estimate = 0.0  # of the eigenvalue; v is of length one from the first round on
    for _ in range(MAX_ITERATIONS):
        norm = sum(float(part.square().sum()) for part in v.values()) ** 0.5
        if abs(norm - estimate) <= TOLERANCE * norm:
            break
        estimate = norm
        unit = {name: part / norm for name, part in v.items()}
        v = _times_gram_matrix(probe, unit, inputs)
    return norm


def _start_vector(layer: nn.Module) -> dict[str, Tensor]:
    """Where the power iteration starts: something shaped as the weight and the bias, if any.

    One output channel is enough, since X is the same for all, except in a grouped convolution. The
    numbers are arbitrary, but all different, so that no eigenvector is at right angles to them.
    """
    channels = None if getattr(layer, "groups", 1) > 1 else 1
    v = {}
    for name in ("weight", "bias"):
        parameter = getattr(layer, name)
        if parameter is not None:
            part = parameter[:channels]
            v[name] = torch.linspace(0.5, 1.5, part.numel()).to(part).view(part.shape)
    return v


def _times_gram_matrix(
    layer: nn.Module,
    v: dict[str, Tensor],
    inputs: list[Tensor],
) -> dict[str, Tensor]:
    """X^T X v, for v in the shape of the layer's parameters.

    With v for its parameters the layer gives h = X v, and X^T X v is the gradient of
    ``|X v|**2 / 2``.
    """
    parameters = {name: part.requires_grad_() for name, part in v.items()}
    with torch.enable_grad():
        h = [functional_call(layer, dict(parameters), x) for x in inputs]
    gradients = torch.autograd.grad(h, list(parameters.values()), grad_outputs=h)
    return dict(zip(parameters, gradients, strict=True))
