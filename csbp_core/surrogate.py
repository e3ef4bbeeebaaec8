"""The spike: a Heaviside step forward, a triangle backward."""

import torch
from torch import Tensor

from ._old_checks import check


class _Triangle(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, gamma: float) -> Tensor:
        return (u > 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        u, ctx.gamma = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * ((1 / ctx.gamma) * (1 / ctx.gamma) * (ctx.gamma - u.abs()).clamp(min=0)), None

    @staticmethod
    def jvp(ctx, tangent, _):
        return torch.zeros_like(tangent)  # the true derivative of a step, almost everywhere


def triangle(u: Tensor, gamma: float = 1.0) -> Tensor:
    """Spike k = 1 where u > 0 strictly, else 0; backward dk/du := max(0, gamma - |u|) / gamma**2.

    `u` is potential minus threshold, any shape and floating dtype, which the spikes keep; `gamma` > 0 (else ValueError) is
    the half-width in units of `u`. The forward-mode derivative is zero, so forward over reverse differentiates the real update;
    double backward sends the surrogate through the spike twice. Works under vmap. Source: doi:10.1093/nsr/nwae037.
    """
    if not (isinstance(gamma, float | int) and 0 < gamma < float("inf")):  # the check itself would cost as much as the spike
        check("gamma", gamma, "(0, inf)", scalar=True)
    return _Triangle.apply(u, gamma)
