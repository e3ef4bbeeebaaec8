"""The spike: a Heaviside step forward, a surrogate of its derivative backward."""

import math
from typing import Any

import torch
from torch import Tensor

from .checks import check


def triangle(u: Tensor, gamma: float = 1.0) -> Tensor:
    """Spike where the potential is above threshold; backward, the derivative is a triangle.

    ::

        forward   k = 1 where u > 0 strictly, else 0
        backward  dk/du := max(0, gamma - |u|) / gamma**2

    Under jvp a spike has derivative 0, so jvp of grad gives the true derivative of the update.
    Differentiating the backward pass again does not: it applies the surrogate a second time. Works
    under vmap.

    Args:
        u: potential minus threshold, any shape and floating dtype.
        gamma: the triangle's half-width, > 0, in units of `u`.

    Returns the spikes, 0 or 1, of the shape and dtype of `u`. Raises ValueError for a gamma out of
    range. Source: doi:10.1093/nsr/nwae037.

    Example:
        >>> u = torch.tensor([-0.5, 0.0, 0.25], requires_grad=True)
        >>> spikes = triangle(u)
        >>> spikes.tolist()
        [0.0, 0.0, 1.0]
        >>> spikes.sum().backward()
        >>> u.grad.tolist()
        [0.5, 1.0, 0.75]
    """
    _check_width(gamma)
    return _Triangle.apply(u, gamma)


class _Spike(torch.autograd.Function):
    """A Heaviside step; a subclass gives the derivative that the backward pass takes.

    To add a surrogate, write a subclass with `derivative`, and a public function that checks the
    width and returns `Subclass.apply(u, gamma)`, as `triangle` does.
    """

    generate_vmap_rule = True

    @staticmethod
    def derivative(u: Tensor, gamma: float) -> Tensor:
        """What the backward pass takes for dk/du at potential minus threshold u.

        Of the shape and dtype of u: a mask times a number would be float32.
        """
        raise NotImplementedError

    @staticmethod
    def forward(u: Tensor, gamma: float) -> Tensor:
        return (u > 0).to(u.dtype)  # float() would turn float64 into float32

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        u, gamma = inputs
        ctx.gamma = gamma
        ctx.save_for_backward(u)

    @classmethod  # torch calls it as it calls a static method; this one needs to know its subclass
    def backward(cls, ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return grad * cls.derivative(u, ctx.gamma), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return torch.zeros_like(tangent)  # the true derivative of a step, almost everywhere


class _Triangle(_Spike):
    """The triangle of half-width gamma and area 1."""

    @staticmethod
    def derivative(u: Tensor, gamma: float) -> Tensor:
        # Not divided by gamma**2: the published code rounds in this way.
        return (1 / gamma) * (1 / gamma) * (gamma - u.abs()).clamp(min=0)


def _check_width(gamma: float) -> None:
    """Refuse a half-width that is not positive, at next to no cost for an ordinary one."""
    # A spike is called at every time step, and `check` alone takes as long as a small one does.
    if not (isinstance(gamma, float | int) and 0 < gamma < math.inf):
        check("gamma", gamma, "(0, inf)")
