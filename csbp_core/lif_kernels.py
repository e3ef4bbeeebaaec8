"""What runs a layer of LIF neurons over time: kernels for forward and backward, compiled or not.

`csbp_core.LIF` is the layer to use. From rest, with r for the potential after the reset, it runs
through the time steps t = 0 ... T-1::

    v[t] = decay * r[t-1] + x[t],    k[t] = [v[t] > v_threshold],    r[t] = v[t] * (1 - k[t])
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .surrogate import triangle
from .torch_private import has_outer_gradient, is_transformed


def after_reset(value: Tensor, u: Tensor, source: Tensor) -> Tensor:
    """`value * (1 - k)` with k = [u > 0]: it stays where there is no spike, else it is zero.

    Args:
        value: a potential, or a gradient by one.
        u: how far the potential is above the threshold.
        source: what value is made of, infinite where value is.
    """
    if torch.compiler.is_compiling():
        # To choose is faster than to multiply here. The difference is zero, and nan where the
        # source is infinite, as the product is. Of a value that is a product itself it might be
        # neither: compilers for GPUs make a product and a difference one operation.
        return torch.where(u > 0, source - source, value)
    # Uncompiled, to choose is a branch for every number, ten times slower, and a comparison makes
    # bools, to be converted; these make the numbers at once, in the memory of one tensor.
    is_silent = u.sign().relu_().neg_().add_(1)  # 1 - k
    return value * is_silent


def potentials(x: Tensor, decay: float, v_threshold: float) -> list[Tensor]:
    """The potential before the reset at every step, T times `[N, *]`, of currents `[T, N, *]`.

    Rounds as `lif_step`, twice: at v * decay and at the sum, since times 1 or 0 is exact.
    """
    decayed = torch.zeros_like(x[0])  # decay * r
    v_seq = []
    for x_t in x.unbind(0):
        v = x_t + decayed
        # The reset comes last: compilers for GPUs make a product and the sum that follows it one
        # operation, which rounds once.
        u = v - v_threshold
        decayed = after_reset(decay * v, u, u)
        v_seq.append(v)
    return v_seq


def fire(v_seq: list[Tensor], v_threshold: float) -> tuple[Tensor, Tensor]:
    """Spikes `[T, N, *]`, and the potential after the last reset, `[N, *]`, of the potentials."""
    spikes = [(v - v_threshold > 0).to(v.dtype) for v in v_seq]
    u = v_seq[-1] - v_threshold
    v = after_reset(v_seq[-1], u, u)
    return torch.stack(spikes), v


def forward_kernel(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Run currents `[T, N, *]` through the neurons, rounding as `lif_step` does.

    Returns the spikes and the potentials before the reset, `[T, N, *]`, and the potential after
    the last reset, `[N, *]`.
    """
    v_seq = potentials(x, decay, v_threshold)
    spikes, v = fire(v_seq, v_threshold)
    return spikes, torch.stack(v_seq), v


def forward_kernel_without_v_seq(
    x: Tensor,
    decay: float,
    v_threshold: float,
) -> tuple[Tensor, None, Tensor]:
    """The same as `forward_kernel`, for which compiled code writes no potentials to memory."""
    spikes, v = fire(potentials(x, decay, v_threshold), v_threshold)
    return spikes, None, v


def forward_kernel_in_place(
    x: Tensor,
    decay: float,
    v_threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `forward_kernel`, written into the tensors that it returns.

    With one temporary a step, 1 - spikes, it is faster where nothing compiles it.
    """
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    v_seq = torch.empty_like(x, memory_format=torch.contiguous_format)
    v_seq[0] = x[0]
    for t in range(len(x)):
        if t > 0:
            v = torch.mul(v_seq[t - 1], decay, out=v_seq[t])
            v.mul_(1 - spikes[t - 1])
            v.add_(x[t])
        torch.sub(v_seq[t], v_threshold, out=spikes[t]).gt_(0)
    return spikes, v_seq, v_seq[-1] * (1 - spikes[-1])


def backward_kernel(
    v_seq: Tensor | list[Tensor],
    g_spikes: Tensor,
    g_v_seq: Tensor | None,
    g_v: Tensor | None,
    decay: float,
    v_threshold: float,
    gamma: float,
    detach_reset: bool,
) -> Tensor:
    """Backpropagation through time: dL/dx from the gradients of what the forward kernels return.

    g_spikes, g_v_seq and g_v are the gradients that arrive from outside: at the spikes, at the
    potentials before the reset, and at the potential after the last reset; None is zero. With d_y
    for dL/dy, and u[t] = v[t] - v_threshold, the adjoint equations run from the last step to the
    first::

        d_r[T-1] = g_v
        d_k[t]   = g_spikes[t] - d_r[t] * v[t]             # the last term not for `detach_reset`
        d_v[t]   = d_r[t] * (1 - k[t]) + d_k[t] * max(0, gamma - |u[t]|) / gamma**2 + g_v_seq[t]
        d_x[t]   = d_v[t]
        d_r[t-1] = decay * d_v[t]

    Spikes and surrogates are made again from `v_seq`.
    """
    d_x = []
    d_r = torch.zeros_like(v_seq[0]) if g_v is None else g_v
    source = d_r
    for t in reversed(range(len(v_seq))):
        u = v_seq[t] - v_threshold
        d_k = g_spikes[t]
        if not detach_reset:
            d_k = torch.addcmul(d_k, d_r, v_seq[t], value=-1)
        d_v = after_reset(d_r, u, source)
        height = u.abs_().neg_().add_(gamma).relu_()  # u itself is not needed any more
        # Not addcmul's `value`: compiled, that stays what it was at the first call.
        d_v = torch.addcmul(d_v, height.mul_(1 / gamma**2), d_k)
        if g_v_seq is not None:
            d_v.add_(g_v_seq[t])
        d_x.append(d_v)
        d_r = d_v * decay
        source = d_v
    return torch.stack(d_x[::-1])


def backward_kernel_from_currents(
    x: Tensor,
    g_spikes: Tensor,
    g_v_seq: None,  # nobody sees the potentials
    g_v: Tensor | None,
    decay: float,
    v_threshold: float,
    gamma: float,
    detach_reset: bool,
) -> Tensor:
    """`backward_kernel` on potentials that are made again, from the currents of the forward pass.

    Compiled, they stay in registers and caches: reading one tensor gives both.
    """
    return backward_kernel(
        potentials(x, decay, v_threshold),
        g_spikes,
        g_v_seq,
        g_v,
        decay,
        v_threshold,
        gamma,
        detach_reset,
    )


def differentiable_backward_kernel(
    v_seq: Tensor,
    g_spikes: Tensor,
    g_v_seq: Tensor | None,
    g_v: Tensor | None,
    decay: float,
    v_threshold: float,
    gamma: float,
    detach_reset: bool,
) -> Tensor:
    """`backward_kernel`, rounding as it does, for a derivative of the gradient.

    It is what autograd derives from `lif_step`, second derivatives included: there the spike of
    the reset and the surrogate depend on the potential, too.
    """
    d_x = []
    d_r = torch.zeros_like(v_seq[0]) if g_v is None else g_v
    for t in reversed(range(len(v_seq))):
        u = v_seq[t] - v_threshold
        reset = triangle(u, gamma)
        d_k = g_spikes[t]
        if detach_reset:
            reset = reset.detach()
        else:
            d_k = torch.addcmul(d_k, d_r, v_seq[t], value=-1)
        height = (gamma - u.abs()).clamp(min=0)
        d_v = torch.addcmul(d_r * (1 - reset), height * (1 / gamma**2), d_k)
        if g_v_seq is not None:
            d_v = d_v + g_v_seq[t]
        d_x.append(d_v)
        d_r = d_v * decay
    return torch.stack(d_x[::-1])


class FusedLIF(torch.autograd.Function):
    """Spikes, `v_seq` and `v` of a whole sequence; keeps one tensor for the backward pass.

    That is `v_seq` where `keeps_v_seq` asks for it, else the input, and `v_seq` is None then. It
    has no forward mode; `LIF(backend="reference")` has one.
    """

    @staticmethod
    def forward(
        x: Tensor,
        decay: float,
        v_threshold: float,
        gamma: float,
        detach_reset: bool,
        compiled: bool,
        keeps_v_seq: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        kernel: Callable = forward_kernel_without_v_seq
        eager: Callable = forward_kernel_without_v_seq
        if keeps_v_seq:
            kernel = forward_kernel
            eager = forward_kernel_in_place
        return run_kernel(kernel, eager, compiled, x.detach(), decay, v_threshold)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, decay, v_threshold, gamma, detach_reset, compiled, keeps_v_seq = inputs
        _, v_seq, _ = output
        ctx.decay = decay
        ctx.v_threshold = v_threshold
        ctx.gamma = gamma
        ctx.detach_reset = detach_reset
        ctx.compiled = compiled
        ctx.keeps_v_seq = keeps_v_seq
        ctx.set_materialize_grads(False)  # an output that nobody uses costs nothing
        kept = x
        if keeps_v_seq:
            kept = v_seq
        ctx.save_for_backward(kept)

    @staticmethod
    def backward(
        ctx: Any,
        g_spikes: Tensor | None,
        g_v_seq: Tensor | None,
        g_v: Tensor | None,
    ) -> tuple[Tensor, None, None, None, None, None, None]:
        (kept,) = ctx.saved_tensors
        if g_spikes is None:
            g_spikes = torch.zeros_like(kept)
        gradients = (g_spikes, g_v_seq, g_v)
        settings = (ctx.decay, ctx.v_threshold, ctx.gamma, ctx.detach_reset)
        if wants_second_derivative(kept, *gradients):
            d_x = differentiable_backward_kernel(potentials_of(ctx, kept), *gradients, *settings)
        else:
            kernel: Callable = backward_kernel_from_currents
            if ctx.keeps_v_seq:
                kernel = backward_kernel
            with torch.no_grad():
                d_x = run_kernel(
                    kernel,
                    kernel,  # uncompiled, too: it has no variant in place
                    ctx.compiled,
                    kept.detach(),
                    *gradients,
                    *settings,
                )
        return d_x, None, None, None, None, None, None

    @classmethod  # torch calls it as it calls a static method
    def vmap(cls, info: Any, in_dims: tuple, x: Tensor, *settings: Any) -> tuple:  # type: ignore[override]
        x = x.movedim(in_dims[0], 1)  # [T, batch, N, *]: neurons are independent of each other
        spikes, v_seq, v = cls.apply(x, *settings)
        if v_seq is None:
            return (spikes, None, v), (1, None, 0)
        return (spikes, v_seq, v), (1, 1, 0)


class FusedLIFOutsideCompile(FusedLIF):
    """The same, which in forward mode says what to do. torch.compile takes no function with a jvp.

    So torch.func.hessian, which is forward over reverse, ends here.
    """

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError('LIF has no forward mode: use LIF(backend="reference")')


def potentials_of(ctx: Any, kept: Tensor) -> Tensor:
    """`v_seq` with its graph: what the layer kept, or what it gives of the input that it kept."""
    if ctx.keeps_v_seq:
        return kept
    settings = (ctx.decay, ctx.v_threshold, ctx.gamma, ctx.detach_reset, ctx.compiled)
    _, v_seq, _ = FusedLIFOutsideCompile.apply(kept, *settings, True)
    return v_seq


def wants_second_derivative(*tensors: Tensor | None) -> bool:
    """Whether a backward pass with these tensors may itself be differentiated.

    torch.func.grad always runs its backward pass as if it were to be; what tells is whether
    anything outside of it records a graph.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return any(t is not None and has_outer_gradient(t) for t in tensors)


# The types of devices, such as "cuda", on which compiling has failed in this process. `run_kernel`
# adds to it, and does not try again there.
failed_devices: set[str] = set()


@functools.cache
def compile_kernel(kernel: Callable) -> Callable:
    """The kernel, to be compiled by torch at its first call, and anew for each new T or dtype.

    The loop over T is unrolled; the other sizes are free. This wrapper is made once per process.
    """
    return torch.compile(kernel, dynamic=True)


def run_kernel(kernel: Callable, eager: Callable, compiled: bool, x: Tensor, *rest: Any) -> Any:
    """Call `kernel(x, *rest)` compiled if that is wanted and works, else `eager(x, *rest)`.

    Warns once per type of device when no compiler does it there.
    """
    if torch.compiler.is_compiling() or is_transformed(x):
        # Part of a compiled model, or a backward pass inside torch.func.grad, under vmap or not.
        return kernel(x, *rest)
    if compiled and x.device.type not in failed_devices:
        if 0 in x.stride():
            # One image for every step: compiling the potentials of equal currents takes a time that
            # doubles and more with each step.
            x = x.contiguous()
        try:
            return compile_kernel(kernel)(x, *rest)
        except Exception as error:  # whatever a compiler may lack
            failed_devices.add(x.device.type)
            reason = str(error).partition("\n")[0]
            warnings.warn(
                f"LIF runs uncompiled: {type(error).__name__}: {reason}",
                stacklevel=2,
            )
    return eager(x, *rest)
