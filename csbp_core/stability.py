"""The strength z above which the chaotic loss destabilises gradient descent on a linear layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import check, check_choice, check_flag
from .torch_private import convolve

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

# The layers whose output is linear in their parameters, so that the formula holds.
LINEAR_LAYERS = (nn.Linear, *CONVOLUTIONS)

PARAMETERS = ("weight", "bias")  # of such a layer

# A library whose linear layers have a forward of their own, for inputs with a time dimension, and
# are the same function all the same.
MULTI_STEP_LIBRARY = "spikingjelly."

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
    *,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    bias: bool = True,
) -> float:
    """The z at which gradient descent on the chaotic loss of a linear layer period-doubles.

    ::

        z_c = (limit / lr - weight_decay) * scale**2 / (c * s (1 - s) * lambda_max(X^T X))
        limit = 2 (1 + momentum), with Nesterov 2 (1 + momentum) / (1 + 2 momentum)
        c = 1 for a sum, 1 / numel for a mean
        s = I0, without a bias 1/2

    It comes from linear stability at the rest of the layer, where the loss has the curvature
    z c s (1 - s) / scale**2 * X^T X. A trained bias takes the layer to s = I0. (Weight decay holds
    it back a little; its curvature is counted here, and that is not.) Without one the rest depends
    on the inputs. Where they are centred, as behind a batch norm, it is s = 1/2; elsewhere that
    gives a lower bound, for I0 = 0.65 at most 9 % too low.

    Args:
        lambda_max: the largest eigenvalue of X^T X, >= 0, as `largest_eigenvalue` gives it. X has a
            row of inputs, and a one for the bias, per sample and position. In the single neuron of
            the published Example 1 X = [1, 1], and the eigenvalue is 2.
        lr: learning rate, > 0.
        momentum: of gradient descent, in [0, 1).
        I0: of `chaotic_loss`, in (0, 1).
        scale: of `chaotic_loss`, > 0.
        reduction: of `chaotic_loss`, "sum" or "mean" (whose default there is "mean").
        numel: for "mean" the number of all elements of h that it runs over, >= 1.
        weight_decay: of gradient descent, >= 0.
        nesterov: whether the momentum is Nesterov's, as `torch.optim.SGD` has it.
        bias: whether the layer has a bias that is trained.

    Returns z_c, > 0; infinite for an eigenvalue of 0, as of a layer that gets no spikes. Raises
    ValueError for a value out of range, "mean" without `numel`, or a weight decay that is unstable
    by itself.

    Example:
        >>> round(critical_z(lambda_max=2.0, lr=1.0, scale=1.0), 4)  # the published Example 1
        4.3956
    """
    check_choice("reduction", reduction, ("sum", "mean"))
    elements = numel if reduction == "mean" else 1
    check("lambda_max", lambda_max, "[0, inf)")
    check("lr", lr, "(0, inf)")
    check("momentum", momentum, "[0, 1)")
    check("I0", I0, "(0, 1)")
    check("scale", scale, "(0, inf)")
    check("numel", elements, "[1, inf)", integer=True)
    check("weight_decay", weight_decay, "[0, inf)")
    check_flag("nesterov", nesterov)
    check_flag("bias", bias)
    limit = 2 * (1 + momentum)  # of lr times the curvature
    if nesterov:
        limit = limit / (1 + 2 * momentum)
    limit = limit - lr * weight_decay
    if limit <= 0:
        raise ValueError(f"weight_decay = {weight_decay!r}: unstable at lr = {lr!r} by itself")
    if lambda_max == 0:
        return math.inf
    s = I0 if bias else 0.5
    # by which z is multiplied, but for the constants of the numerator, in the steepest direction
    slope = lr * s * (1 - s) * lambda_max
    return float(limit * scale**2 * elements / slope)  # type: ignore[operator]


def largest_eigenvalue(
    layer: nn.Module,
    inputs: Iterable[Tensor],
    trained: Sequence[str] = PARAMETERS,
) -> float:
    """The largest eigenvalue of X^T X of a linear or convolutional layer, to 1e-6.

    X has a row per sample and position of all inputs, with a column of ones if the layer has a
    bias. It is never built: the power iteration runs through the layer's own function, in float32,
    or float64 for a float64 layer, also under autocast. The layer itself is not run.

    Args:
        layer: `nn.Linear` or `nn.Conv1d` to `nn.Conv3d`, or SpikingJelly's of these names.
        inputs: tensors shaped as the layer takes them; a convolution takes more leading dimensions.
        trained: the parameters that count, "weight" and "bias" or one of them. Without the weight X
            is a column of ones, without the bias it has none.

    Returns lambda_max, >= 0, in the units of the inputs squared; 0 if all inputs are. Raises
    ValueError for a layer that is none of these or whose weight is no parameter of its own (as
    under weight norm), for one without a parameter that counts, and for an eigenvalue that is not
    finite.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> round(largest_eigenvalue(nn.Linear(2, 1, bias=False), [x]), 4)
        25.0
    """
    for name in trained:
        check_choice("trained", name, PARAMETERS)
    function = _function_of(layer)
    _refuse_computed_parameters(layer)
    parts = _one_channel(layer)
    device = parts["weight"].device
    dtype = torch.promote_types(parts["weight"].dtype, torch.float32)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        v = {name: _start_vector(parts[name], dtype) for name in parts if name in trained}
        if not v:
            raise ValueError("none of its parameters is trained")
        # what v has no part for gives nothing
        weight = torch.zeros_like(parts["weight"], dtype=dtype)
        of_parts = functools.partial(function, weight=weight, bias=None)
        return _power_iteration(of_parts, v, [_plain(x, device, dtype) for x in inputs])


def _plain(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """An input without a graph, as the layer's function takes it."""
    if x.is_inference():  # autograd keeps no such tensor
        x = x.clone()
    return x.detach().to(device, dtype)


def _power_iteration(
    function: Callable[..., Tensor],
    v: dict[str, Tensor],
    inputs: list[Tensor],
) -> float:
    """The largest eigenvalue of the Gram matrix."""
    estimate = 0.0  # of the eigenvalue; v is of length one from the first round on
    for _ in range(MAX_ITERATIONS):
        norm = sum(float(part.square().sum()) for part in v.values()) ** 0.5
        check("largest eigenvalue", norm, "[0, inf)")
        if norm == 0 or abs(norm - estimate) <= TOLERANCE * norm:
            break
        estimate = norm
        unit = {name: part / norm for name, part in v.items()}
        v = _times_gram_matrix(function, unit, inputs)
    return norm


def _function_of(layer: nn.Module) -> Callable[..., Tensor]:
    """What a layer computes of (x, weight, bias), without its hooks and the modes it runs in."""
    kind = next((kind for kind in LINEAR_LAYERS if isinstance(layer, kind)), None)
    if kind is None:
        raise ValueError(f"{type(layer).__name__} is no linear or convolutional layer")
    if not _is_plain(type(layer), kind):
        raise ValueError(
            f"{type(layer).__name__} has a forward of its own, which need not be linear"
        )
    if kind is nn.Linear:
        return F.linear
    batched = _one_channel(layer)["weight"].dim()  # dimensions of [N, C, *], as of the weight

    def function(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() > batched:
            x = x.flatten(0, x.dim() - batched)  # [N, C, *] from [T, N, C, *]
        return convolve(layer, x, weight, bias)

    return function


def _is_plain(layer_type: type, kind: type) -> bool:
    """Whether a type of layers computes what torch's own does."""
    if layer_type.__module__.startswith(MULTI_STEP_LIBRARY):
        return layer_type.__name__ == kind.__name__
    own_names = ("forward", "_conv_forward")
    return all(getattr(layer_type, name, 0) is getattr(kind, name, 0) for name in own_names)


def _refuse_computed_parameters(layer: nn.Module) -> None:
    """Refuse weights that are made from others: X^T X says nothing about the training of those."""
    parameters = dict(layer.named_parameters(recurse=False))
    for name in PARAMETERS:
        if getattr(layer, name) is not None and name not in parameters:
            raise ValueError(f"its {name} is computed from other parameters, as under weight norm")


def _one_channel(layer: nn.Module) -> dict[str, Tensor]:
    """Tensors like the parameters that a layer has, of one output channel; their values are any.

    X is the same for all channels, except in a grouped convolution.
    """
    is_grouped = getattr(layer, "groups", 1) > 1
    parts = {}
    for name in PARAMETERS:
        parameter = getattr(layer, name)
        if parameter is None:
            continue
        channels, *rest = parameter.shape
        shape = (channels if is_grouped else 1, *rest)
        # Not a slice: of a parameter that several processes share that would wait for all of them.
        parts[name] = torch.empty(shape, dtype=parameter.dtype, device=parameter.device)
    return parts


def _start_vector(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Where the power iteration starts, in the shape of a parameter.

    The numbers are arbitrary, but all different, so that no eigenvector is at right angles to them.
    """
    numbers = torch.linspace(0.5, 1.5, part.numel())
    return numbers.to(part.device, dtype).view(part.shape)


def _times_gram_matrix(
    function: Callable[..., Tensor],
    v: dict[str, Tensor],
    inputs: list[Tensor],
) -> dict[str, Tensor]:
    """X^T X v, for v in the shape of the parameters that are trained.

    With v for its parameters the layer gives h = X v, and X^T X v is the gradient of
    ``|X v|**2 / 2``.
    """
    parameters = {name: part.requires_grad_() for name, part in v.items()}
    h = [function(x, **parameters) for x in inputs]
    gradients = torch.autograd.grad(h, list(parameters.values()), grad_outputs=h)
    return dict(zip(parameters, gradients, strict=True))
