"""The leaky integrate-and-fire neuron: one pure step, and a layer that runs it over time, by autograd or faster."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ._old_checks import check_all, check_choice
from .surrogate import triangle


def lif_step(
    x: Tensor, v: Tensor, spike: Tensor, *, decay: float, v_threshold: float = 1.0, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One time step of a leaky integrate-and-fire neuron with a hard reset to zero.

        v[t] = decay * v[t-1] * (1 - k[t-1]) + x[t],    k[t] = triangle(v[t] - v_threshold)

    Args:
        x: input current at this step, any shape.
        v, spike: potential before reset and spikes of the step before, the shape of `x` (zeros to start from rest).
        decay: leak factor in [0, 1]; 0.5 is tau = 2.0 in SpikingJelly, beta = 0.5 in snnTorch, tau = 0.5 in the published code.
        v_threshold, gamma: firing threshold and the surrogate's half-width, > 0, in units of `v`.

    Returns `(v, spike)`, `v` before the reset; detach `spike` to keep the gradient out of it. Raises ValueError for a decay or
    gamma out of range. Source: the published document, its Example 1 (doi:10.1093/nsr/nwae037).
    """
    if not 0 <= decay <= 1:
        check_all(decay=decay)
    v = v * decay * (1 - spike) + x
    return v, triangle(v - v_threshold, gamma)


def _forward(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes and potentials before the reset, [T, N, *], and the potential after the last, rounded as by `lif_step`."""
    v, k, v_seq, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), [], []
    for x_t in x.unbind(0):
        v = torch.addcmul(x_t, v * decay, 1 - k)
        k = (v - v_threshold > 0).to(x.dtype)
        v_seq.append(v)
        spikes.append(k)
    return torch.stack(spikes), torch.stack(v_seq), v * (1 - k)


def _forward_in_place(x: Tensor, decay: float, v_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """`_forward` without temporaries, faster where nothing compiles it."""
    spikes, v_seq = (torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2))
    v_seq[0] = x[0]
    for t in range(len(x)):
        if t:
            torch.mul(v_seq[t - 1], decay, out=v_seq[t]).mul_(1 - spikes[t - 1]).add_(x[t])
        torch.sub(v_seq[t], v_threshold, out=spikes[t]).gt_(0)
    return spikes, v_seq, v_seq[-1] * (1 - spikes[-1])


def _backward(v_seq, d_spikes, d_v_seq, d_v, decay, v_threshold, gamma, detach_reset) -> Tensor:
    """Backward through time: dL/dx from the gradients of what `_forward` returns; spikes and surrogates are made again."""
    d_x, d_reset = [], torch.zeros_like(v_seq[0]) if d_v is None else d_v  # d_reset: of the potential after a step's reset
    for t in reversed(range(len(v_seq))):
        u = v_seq[t] - v_threshold
        d_spike = d_spikes[t] if detach_reset else torch.addcmul(d_spikes[t], d_reset, v_seq[t], value=-1)
        through = d_reset.masked_fill(u > 0, 0)
        d = torch.addcmul(through, u.abs_().neg_().add_(gamma).clamp(min=0), d_spike, value=1 / gamma**2)
        d_x.append(d if d_v_seq is None else d.add_(d_v_seq[t]))
        d_reset = d * decay
    return torch.stack(d_x[::-1])


_compiled, _failed = functools.cache(functools.partial(torch.compile, dynamic=True)), set[str]()  # devices


def _run(kernel: Callable, eager: Callable, compiled: bool, x: Tensor, *rest: Any) -> Any:
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x):  # type: ignore[attr-defined]
        return kernel(x, *rest)  # part of a compiled model, or under vmap
    if compiled and x.device.type not in _failed:
        try:
            return _compiled(kernel)(x, *rest)
        except Exception as error:  # whatever a compiler may lack
            _failed.add(x.device.type)
            warnings.warn(f"LIF runs uncompiled: {type(error).__name__}: {str(error).partition(chr(10))[0]}", stacklevel=2)
    return eager(x, *rest)


class _LIF(torch.autograd.Function):
    """Spikes, v_seq and v of a whole sequence; keeps v_seq alone for the backward pass."""

    @staticmethod
    def forward(x, decay, v_threshold, gamma, detach_reset, compiled):
        return _run(_forward, _forward_in_place, compiled, x.detach(), decay, v_threshold)

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
        return _run(_backward, _backward, ctx.compiled, v_seq, d_spikes, d_v_seq, d_v, *ctx.settings), *[None] * 5

    @staticmethod
    def vmap(info, in_dims, x, *settings):
        return _LIF.apply(x.movedim(in_dims[0], 1), *settings), (1, 1, 0)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons, `lif_step` over the first dimension of its input.

    Args:
        decay, v_threshold, gamma: of `lif_step`.
        detach_reset, store_v_seq: keep the gradient out of the reset; keep the potential of every step in `v_seq`.
        backend: "reference" is autograd through `lif_step`, bit for bit the published order of operations. "eager" and
            "compiled" give the same spikes; their backward pass, differentiable once, keeps a single tensor. "auto" is
            "compiled" to train on 2**18 or more numbers (seconds per T; warns once if no compiler is there), else "eager".

    Shape: currents `[T, N, *]` to spikes `[T, N, *]`, T >= 1; every call starts from rest. Attributes, differentiable, None at
    first, dropped by deepcopy and pickle: `v`, the potential after the reset at the last step, `[N, *]`; `v_seq`, before the
    reset at every step, `[T, N, *]`, if stored. Raises ValueError for a parameter out of range or an input without time steps.
    """

    v: Tensor | None = None
    v_seq: Tensor | None = None

    def __init__(
        self, decay: float = 0.5, v_threshold: float = 1.0, gamma: float = 1.0, detach_reset: bool = False,
        store_v_seq: bool = False, backend: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        check_all(decay=decay, v_threshold=v_threshold, gamma=gamma)
        check_choice("backend", backend, ("auto", "compiled", "eager", "reference"))
        self.decay, self.v_threshold, self.gamma = float(decay), float(v_threshold), float(gamma)
        self.detach_reset, self.store_v_seq, self.backend = detach_reset, store_v_seq, backend

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 1 or x.shape[0] == 0 or not x.is_floating_point():
            raise ValueError(f"x = {x.dtype} {tuple(x.shape)}: must be floating point [T, N, *] with T >= 1")
        neuron = {"decay": self.decay, "v_threshold": self.v_threshold, "gamma": self.gamma}
        if self.backend == "reference":
            v, reset, steps = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
            for x_t in x:  # x_t: [N, *]
                v, spike = lif_step(x_t, v, reset, **neuron)
                reset = spike.detach() if self.detach_reset else spike
                steps.append((spike, v))
            (spikes, v_seq), self.v = (torch.stack(each) for each in zip(*steps, strict=True)), v * (1 - reset)
        else:
            large = self.backend == "auto" and x.requires_grad and x.numel() >= 2**18
            compiled = (large or self.backend == "compiled") and x.dtype in (torch.float32, torch.float64)
            spikes, v_seq, self.v = _LIF.apply(x, *neuron.values(), self.detach_reset, compiled)
        self.v_seq = v_seq if self.store_v_seq else None
        return spikes

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "v": None, "v_seq": None}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in list(inspect.signature(LIF).parameters))
