"""The leaky integrate-and-fire neuron: one pure step, and a layer that runs it over time."""

import inspect

import torch
from torch import Tensor, nn

from .checks import check, check_choice, check_flag
from .lif_kernels import FusedLIF, FusedLIFOutsideCompile
from .surrogate import triangle

# "auto" compiles from this size of input on: below, compiling takes longer than it saves.
COMPILE_FROM = 2**18

BACKENDS = ("auto", "compiled", "eager", "reference")


def lif_step(
    x: Tensor,
    v: Tensor,
    spike: Tensor,
    *,
    decay: float,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One time step of a leaky integrate-and-fire neuron with a hard reset to zero.

    ::

        v[t] = decay * v[t-1] * (1 - k[t-1]) + x[t],    k[t] = triangle(v[t] - v_threshold)

    Args:
        x: input current at this step, any shape.
        v: potential before the reset at the step before, the shape of `x`; zeros if at rest.
        spike: spikes of the step before, the shape of `x`; zeros if at rest. Detach them to keep
            the gradient out of the reset.
        decay: leak factor in [0, 1]; 0.5 is tau = 2.0 in SpikingJelly, beta = 0.5 in snnTorch,
            tau = 0.5 in the published code.
        v_threshold: firing threshold, in units of `v`. It is not checked: `LIF`, which asks for
            > 0, checks it once.
        gamma: half-width of the surrogate, > 0, in units of `v`.

    Returns `(v, spike)`, the potential before the reset and the spikes, the shape of `x`. Raises
    ValueError for a decay or gamma out of range. Source: the published document, its Example 1
    (doi:10.1093/nsr/nwae037).

    Example:
        >>> v = spike = torch.zeros(2)
        >>> v, spike = lif_step(torch.tensor([0.8, 1.2]), v, spike, decay=0.5)
        >>> v, spike = lif_step(torch.tensor([0.8, 1.2]), v, spike, decay=0.5)
        >>> v, spike
        (tensor([1.2000, 1.2000]), tensor([1., 1.]))
    """
    if not 0 <= decay <= 1:  # asked here first: the check itself would cost as much as the step
        check("decay", decay, "[0, 1]")
    v = v * decay * (1 - spike) + x
    return v, triangle(v - v_threshold, gamma)


class LIF(nn.Module):
    """A layer of leaky integrate-and-fire neurons: `lif_step` over the first dimension of input.

    Every call starts from rest, and takes currents `[T, N, *]`, T >= 1, to spikes of that shape;
    `[T]` is one neuron.

    Args:
        decay: leak factor in [0, 1], as in `lif_step`.
        v_threshold: firing threshold, > 0, in units of the potential.
        gamma: half-width of the surrogate, > 0, in units of the potential.
        detach_reset: keep the gradient out of the reset.
        store_v_seq: keep the potential of every step in `v_seq`.
        backend: "reference" is autograd through `lif_step`, bit for bit the published order of
            operations. "eager" and "compiled" give the same spikes with a backward pass of their
            own (no forward mode), for which they keep one tensor. "eager" and `store_v_seq` keep
            `v_seq`; "compiled" alone keeps its input, which costs nothing where a layer before it
            keeps that, too, and autograd refuses the backward pass if the input was changed in
            place meanwhile. Compiling takes seconds for each new T, and warns once if no compiler
            is there; half precision runs "eager". "auto" is "compiled" to train on 2**18 or more
            numbers, else "eager".

    Attributes:
        v: the potential after the reset at the last step, `[N, *]`.
        v_seq: the potential before the reset at every step, `[T, N, *]`, if stored.

    Both attributes are differentiable, None before the first call, and dropped by deepcopy and
    pickle. Raises ValueError for a parameter out of range, and for an input that is not floating
    point or has no time steps.

    Example:
        >>> lif = LIF(decay=0.5)
        >>> currents = torch.full((4, 1), 0.6)  # [time steps, neurons]
        >>> lif(currents).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0]
        >>> lif.v
        tensor([0.6000])
    """

    v: Tensor | None = None
    v_seq: Tensor | None = None

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
        check("decay", decay, "[0, 1]")
        check("v_threshold", v_threshold, "(0, inf)")
        check("gamma", gamma, "(0, inf)")
        check_flag("detach_reset", detach_reset)
        check_flag("store_v_seq", store_v_seq)
        check_choice("backend", backend, BACKENDS)
        self.decay = float(decay)
        self.v_threshold = float(v_threshold)
        self.gamma = float(gamma)
        self.detach_reset = bool(detach_reset)
        self.store_v_seq = bool(store_v_seq)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ValueError(f"x = {type(x).__name__}: must be a tensor [T, N, *]")
        if x.dim() < 1 or x.shape[0] == 0 or not x.is_floating_point():
            raise ValueError(
                f"x = {x.dtype} {tuple(x.shape)}: must be floating point [T, N, *] with T >= 1"
            )
        run = self._run_reference if self.backend == "reference" else self._run_fused
        spikes, v_seq, self.v = run(x)
        self.v_seq = v_seq if self.store_v_seq else None
        return spikes

    def _run_reference(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes, `v_seq` and `v` by autograd through `lif_step`."""
        v = torch.zeros_like(x[0])
        reset_spike = torch.zeros_like(x[0])  # of the step before, detached if asked for
        spikes = []
        v_seq = []
        for x_t in x:  # [N, *]
            v, spike = lif_step(
                x_t,
                v,
                reset_spike,
                decay=self.decay,
                v_threshold=self.v_threshold,
                gamma=self.gamma,
            )
            reset_spike = spike.detach() if self.detach_reset else spike
            spikes.append(spike)
            v_seq.append(v)
        # The last reset, then the stack of spikes, then that of potentials: autograd adds up their
        # gradients in the reverse order of creation, and another order rounds differently.
        v = v * (1 - reset_spike)
        return torch.stack(spikes), torch.stack(v_seq), v

    def _run_fused(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Spikes, `v_seq` if kept, and `v` by kernels over the whole sequence, compiled or not."""
        is_large_training = x.requires_grad and x.numel() >= COMPILE_FROM
        wanted = self.backend == "compiled" or (self.backend == "auto" and is_large_training)
        # Compiled code keeps half precision in float32 between operations: other spikes than those
        # of `lif_step`, which rounds after each.
        compiled = wanted and x.dtype in (torch.float32, torch.float64)
        # Uncompiled, making the potentials again takes longer than keeping them.
        keeps_v_seq = self.store_v_seq or not compiled
        is_compiling = torch.compiler.is_compiling()
        function = FusedLIF if is_compiling else FusedLIFOutsideCompile
        return function.apply(
            x,
            self.decay,
            self.v_threshold,
            self.gamma,
            self.detach_reset,
            compiled,
            keeps_v_seq,
        )

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "v": None, "v_seq": None}

    def extra_repr(self) -> str:
        parameters = inspect.signature(LIF).parameters
        return ", ".join(f"{name}={getattr(self, name)}" for name in parameters)
