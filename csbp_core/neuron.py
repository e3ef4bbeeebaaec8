"""The leaky integrate-and-fire neuron: one pure step, and a layer that runs it over time."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check, check_choice
from .surrogate import triangle


def lif_step(
    x: Tensor, v: Tensor, spike: Tensor, *, decay: float, v_threshold: float = 1.0, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One time step of a leaky integrate-and-fire neuron with a hard reset to zero.

        v[t] = decay * v[t-1] * (1 - k[t-1]) + x[t],    k[t] = triangle(v[t] - v_threshold)

    Args:
        x: input current at this step, any shape.
        v, spike: potential before reset and spikes of the step before, the shape of `x` (zeros to start from rest).
        decay: leak factor; 0.5 is tau = 2.0 in SpikingJelly, beta = 0.5 in snnTorch and tau = 0.5 in the published code.
        v_threshold, gamma: firing threshold and the surrogate's half-width, in units of `v`.

    Returns `(v, spike)`, with `v` before the reset. Detach `spike` to keep the gradient out of the reset. Raises ValueError
    for a decay or gamma out of range.
    Source: the published document, its Example 1 (doi:10.1093/nsr/nwae037).
    """
    if not 0 <= decay <= 1:
        check("decay", decay, "[0, 1]", scalar=True)
    v = v * decay * (1 - spike) + x
    return v, triangle(v - v_threshold, gamma)


def _forward(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes and potentials before the reset, [T, N, *], and the potential after the last, as `lif_step` rounds; in place."""
    spikes, v_seq = (torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2))
    for t, x_t in enumerate(x):
        v, k = v_seq[t], spikes[t]
        if t:
            torch.mul(v_seq[t - 1], decay, out=v).mul_(1 - spikes[t - 1]).add_(x_t)
        else:
            v.copy_(x_t)
        torch.sub(v, v_threshold, out=k).gt_(0)
    return spikes, v_seq, v * (1 - k)


def _backward(
    v_seq: Tensor, d_spikes: Tensor, d_v_seq: Tensor | None, d_v: Tensor | None,
    decay: float, v_threshold: float, gamma: float, detach_reset: bool,
) -> Tensor:  # fmt: skip
    """Backward through time: dL/dx from the gradients of what `_forward` returns; spikes and surrogates are made again."""
    d_x, d_reset = torch.empty_like(v_seq), torch.zeros_like(v_seq[0]) if d_v is None else d_v.clone()
    for t in reversed(range(len(v_seq))):  # d_reset: gradient of the potential after this step's reset
        u = v_seq[t] - v_threshold
        d_spike = d_spikes[t] if detach_reset else torch.addcmul(d_spikes[t], d_reset, v_seq[t], value=-1)
        d_reset.masked_fill_(u > 0, 0)
        surrogate = u.abs_().neg_().add_(gamma).clamp_(min=0).mul_(1 / gamma**2)
        torch.mul(surrogate, d_spike, out=d_x[t]).add_(d_reset)
        if d_v_seq is not None:
            d_x[t] += d_v_seq[t]
        torch.mul(d_x[t], decay, out=d_reset)
    return d_x


def _forward_pure(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """`_forward` without writing in place, which is what a compiler fuses."""
    v_seq, spikes, v, k = [], [], torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for x_t in x.unbind(0):
        v = v * decay * (1 - k) + x_t
        k = (v - v_threshold > 0).to(x.dtype)
        v_seq.append(v)
        spikes.append(k)
    return torch.stack(spikes), torch.stack(v_seq), v * (1 - k)


def _backward_pure(v_seq, d_spikes, d_v_seq, d_v, decay, v_threshold, gamma, detach_reset) -> Tensor:
    """`_backward`, the same."""
    d_x, d_reset = [], torch.zeros_like(v_seq[0]) if d_v is None else d_v
    for t in reversed(range(len(v_seq))):
        u = v_seq[t] - v_threshold
        d_spike = d_spikes[t] if detach_reset else d_spikes[t] - d_reset * v_seq[t]
        d = (gamma - u.abs()).clamp(min=0) * (1 / gamma**2) * d_spike + d_reset * (u <= 0)
        d_x.append(d if d_v_seq is None else d + d_v_seq[t])
        d_reset = d_x[-1] * decay
    return torch.stack(d_x[::-1])


def _has_compiler(device: str) -> bool:
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is not None


@functools.cache
def _compiled(pure: Callable, plain: Callable) -> Callable:
    """The pure kernel by torch.compile, or the plain one from the first time on that the compiler fails."""
    fast, failed = torch.compile(pure), False

    def run(*args):
        nonlocal failed
        if not failed:
            try:
                return fast(*args)
            except Exception as error:  # whatever a compiler may lack
                failed = True
                warnings.warn(f"LIF runs uncompiled: {type(error).__name__}: {str(error).splitlines()[0]}", stacklevel=2)
        return plain(*args)

    return run


def _run(pure: Callable, plain: Callable, compiled: bool, x: Tensor, *rest: Any) -> Any:
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x):  # type: ignore[attr-defined]
        return pure(x, *rest)  # part of a compiled model, or under vmap: nothing in place
    return (_compiled(pure, plain) if compiled else plain)(x, *rest)


class _LIF(torch.autograd.Function):
    """Spikes, v_seq and v of a whole sequence; keeps v_seq alone for the backward pass."""

    @staticmethod
    def forward(x, decay, v_threshold, gamma, detach_reset, compiled):
        return _run(_forward_pure, _forward, compiled, x, decay, v_threshold)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, *ctx.settings, ctx.compiled = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_spikes, d_v_seq, d_v):
        (v_seq,) = ctx.saved_tensors
        d_spikes = torch.zeros_like(v_seq) if d_spikes is None else d_spikes
        d_x = _run(_backward_pure, _backward, ctx.compiled, v_seq, d_spikes, d_v_seq, d_v, *ctx.settings)
        return d_x, None, None, None, None, None

    @staticmethod
    def vmap(info, in_dims, x, *settings):
        return _LIF.apply(x.movedim(in_dims[0], 1), *settings), (1, 1, 0)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons, `lif_step` over the first dimension of its input.

    Args:
        decay: leak factor in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the triangular surrogate gradient, > 0.
        detach_reset: keep the gradient out of the reset.
        store_v_seq: keep the potential of every step in `v_seq`.
        backend: "reference" runs `lif_step`, bit for bit the published order of operations, and autograd; "eager" and
            "compiled" give the same spikes with a backward pass written by hand that keeps one tensor (once differentiable);
            "auto" takes "compiled" to train on 2**18 numbers and more where a C++ compiler or Triton is, else "eager". The
            first run of each T is compiled for seconds. Inside torch.compile all are "reference".

    Shape: currents `[T, N, *]` to spikes `[T, N, *]`, T >= 1; every call starts from rest.
    Attributes, both differentiable, None before the first call and dropped by deepcopy and pickle:
        v: potential after the reset at the last step, `[N, *]`.
        v_seq: potential before the reset at every step, `[T, N, *]`, if stored.
    Raises ValueError for a parameter out of range or an input without time steps. Under vmap use `lif_step`.
    """

    def __init__(
        self,
        decay: float = 0.5,
        v_threshold: float = 1.0,
        gamma: float = 1.0,
        detach_reset: bool = False,
        store_v_seq: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check("decay", decay, "[0, 1]", scalar=True)
        check("v_threshold", v_threshold, "(0, inf)", scalar=True)
        check("gamma", gamma, "(0, inf)", scalar=True)
        self.decay, self.v_threshold, self.gamma = float(decay), float(v_threshold), float(gamma)
        check_choice("backend", backend, ("auto", "compiled", "eager", "reference"))
        self.detach_reset, self.store_v_seq, self.backend = detach_reset, store_v_seq, backend
        self.v: Tensor | None = None
        self.v_seq: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 1 or x.shape[0] == 0 or not x.is_floating_point():
            raise ValueError(f"x = {x.dtype} {tuple(x.shape)}: must be floating point [T, N, *] with T >= 1")
        compiled = self.backend == "compiled" or (self.backend == "auto" and x.numel() >= 2**18 and x.requires_grad)
        if self.backend != "reference":
            compiled = compiled and x.dtype in (torch.float32, torch.float64) and _has_compiler(x.device.type)
            settings = (self.decay, self.v_threshold, self.gamma, self.detach_reset, compiled)
            spikes, v_seq, self.v = _LIF.apply(x, *settings)
            self.v_seq = v_seq if self.store_v_seq else None
            return spikes
        v = spike = reset = torch.zeros_like(x[0])
        spikes, v_seq = [], []
        for x_t in x:  # x_t: [N, *]
            v, spike = lif_step(x_t, v, reset, decay=self.decay, v_threshold=self.v_threshold, gamma=self.gamma)
            reset = spike.detach() if self.detach_reset else spike
            spikes.append(spike)
            if self.store_v_seq:
                v_seq.append(v)
        self.v = v * (1 - reset)
        self.v_seq = torch.stack(v_seq) if self.store_v_seq else None
        return torch.stack(spikes)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "v": None, "v_seq": None}

    def extra_repr(self) -> str:
        names = ("decay", "v_threshold", "gamma", "detach_reset", "store_v_seq", "backend")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
