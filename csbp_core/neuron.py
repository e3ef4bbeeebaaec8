"""The leaky integrate-and-fire neuron: one pure step, and a layer that runs it over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .checks import check
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


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons, `lif_step` over the first dimension of its input.

    Args:
        decay: leak factor in [0, 1].
        v_threshold: firing threshold, > 0.
        gamma: half-width of the triangular surrogate gradient, > 0.
        detach_reset: keep the gradient out of the reset.
        store_v_seq: keep the potential of every step in `v_seq`.

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
    ) -> None:
        super().__init__()
        check("decay", decay, "[0, 1]", scalar=True)
        check("v_threshold", v_threshold, "(0, inf)", scalar=True)
        check("gamma", gamma, "(0, inf)", scalar=True)
        self.decay, self.v_threshold, self.gamma = float(decay), float(v_threshold), float(gamma)
        self.detach_reset, self.store_v_seq = detach_reset, store_v_seq
        self.v: Tensor | None = None
        self.v_seq: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 1 or x.shape[0] == 0 or not x.is_floating_point():
            raise ValueError(f"x = {x.dtype} {tuple(x.shape)}: must be floating point [T, N, *] with T >= 1")
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
        names = ("decay", "v_threshold", "gamma", "detach_reset", "store_v_seq")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
