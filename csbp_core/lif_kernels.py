"""What runs a layer of LIF neurons over time: kernels for forward and backward, compiled or not.

`csbp_core.LIF` is the layer to use. From rest, with r for the potential after the reset, it runs::

    v[t] = decay * r[t-1] + x[t],    k[t] = [v[t] > v_threshold],    r[t] = v[t] * (1 - k[t])
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .torch_private import is_transformed


def forward_kernel(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Run currents [T, N, *] through the neurons, rounding as `lif_step` does.

    Returns the spikes and the potentials before the reset, [T, N, *], and the potential after the
    last reset, [N, *].
    """
    v = torch.zeros_like(x[0])
    spike = torch.zeros_like(x[0])
    v_seq = []
    spikes = []
    for x_t in x.unbind(0):  # [N, *]
        v = torch.addcmul(x_t, v * decay, 1 - spike)
        spike = (v - v_threshold > 0).to(x.dtype)
        v_seq.append(v)
        spikes.append(spike)
    return torch.stack(spikes), torch.stack(v_seq), v * (1 - spike)


def forward_kernel_in_place(
    x: Tensor,
    decay: float,
    v_threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `forward_kernel`, without temporaries: faster where nothing compiles it."""
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    v_seq = torch.empty_like(x, memory_format=torch.contiguous_format)
    v_seq[0] = x[0]
    for t in range(len(x)):
        if t > 0:
            v = torch.mul(v_seq[t - 1], decay, out=v_seq[t])
            v.mul_(1 - spikes[t - 1]).add_(x[t])
        torch.sub(v_seq[t], v_threshold, out=spikes[t]).gt_(0)
    return spikes, v_seq, v_seq[-1] * (1 - spikes[-1])


def backward_kernel(
    v_seq: Tensor,
    d_spikes: Tensor,
    d_v_seq: Tensor | None,
    d_v: Tensor | None,
    decay: float,
    v_threshold: float,
    gamma: float,
    detach_reset: bool,
) -> Tensor:
    """Backpropagation through time: dL/dx from the gradients of what the forward kernels return.

    With d_y for dL/dy, u[t] = v[t] - v_threshold, and g_k, g_v, g_r for the gradients that arrive
    from outside at the spikes, at the potentials and at the potential after the last reset, the
    adjoint equations run from the last step to the first::

        d_r[T]   = g_r
        d_k[t]   = g_k[t] - d_r[t] * v[t]                  # the last term not for `detach_reset`
        d_v[t]   = d_r[t] * (1 - k[t]) + d_k[t] * max(0, gamma - |u[t]|) / gamma**2 + g_v[t]
        d_x[t]   = d_v[t]
        d_r[t-1] = decay * d_v[t]

    Spikes and surrogates are made again from `v_seq`, the one tensor that has to be kept.
    """
    d_x = []
    d_reset = torch.zeros_like(v_seq[0]) if d_v is None else d_v
    for t in reversed(range(len(v_seq))):
        u = v_seq[t] - v_threshold
        if detach_reset:
            d_spike = d_spikes[t]
        else:
            d_spike = torch.addcmul(d_spikes[t], d_reset, v_seq[t], value=-1)
        past_reset = d_reset.masked_fill(u > 0, 0)
        height = u.abs_().neg_().add_(gamma).clamp(min=0)  # of the triangle; u is done with
        d_potential = torch.addcmul(past_reset, height, d_spike, value=1 / gamma**2)
        if d_v_seq is not None:
            d_potential.add_(d_v_seq[t])
        d_x.append(d_potential)
        d_reset = d_potential * decay
    return torch.stack(d_x[::-1])


class FusedLIF(torch.autograd.Function):
    """Spikes, `v_seq` and `v` of a whole sequence; keeps `v_seq` alone for the backward pass."""

    @staticmethod
    def forward(
        x: Tensor,
        decay: float,
        v_threshold: float,
        gamma: float,
        detach_reset: bool,
        compiled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return run_kernel(
            forward_kernel,
            forward_kernel_in_place,
            compiled,
            x.detach(),
            decay,
            v_threshold,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, decay, v_threshold, gamma, detach_reset, compiled = inputs
        _, v_seq, _ = output
        ctx.decay = decay
        ctx.v_threshold = v_threshold
        ctx.gamma = gamma
        ctx.detach_reset = detach_reset
        ctx.compiled = compiled
        ctx.set_materialize_grads(False)  # an output that nobody uses costs nothing
        ctx.save_for_backward(v_seq)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        d_spikes: Tensor | None,
        d_v_seq: Tensor | None,
        d_v: Tensor | None,
    ) -> tuple[Tensor, None, None, None, None, None]:
        (v_seq,) = ctx.saved_tensors
        if d_spikes is None:
            d_spikes = torch.zeros_like(v_seq)
        d_x = run_kernel(
            backward_kernel,
            backward_kernel,
            ctx.compiled,
            v_seq,
            d_spikes,
            d_v_seq,
            d_v,
            ctx.decay,
            ctx.v_threshold,
            ctx.gamma,
            ctx.detach_reset,
        )
        return d_x, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, *settings: Any) -> tuple:
        x = x.movedim(in_dims[0], 1)  # [T, batch, N, *]: neurons are independent of each other
        return FusedLIF.apply(x, *settings), (1, 1, 0)


# The types of devices on which compiling failed: it is tried once for each.
failed_devices: set[str] = set()


@functools.cache
def compile_kernel(kernel: Callable) -> Callable:
    """The kernel compiled for tensors of any size, once per process."""
    return torch.compile(kernel, dynamic=True)


def run_kernel(kernel: Callable, eager: Callable, compiled: bool, x: Tensor, *rest: Any) -> Any:
    """Call `kernel(x, *rest)` compiled if that is wanted and works, else `eager(x, *rest)`.

    Warns once per type of device when no compiler does it there.
    """
    if torch.compiler.is_compiling() or is_transformed(x):
        return kernel(x, *rest)  # part of a compiled model, or under vmap
    if compiled and x.device.type not in failed_devices:
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
