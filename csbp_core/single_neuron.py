"""Example 1 of the published document: one spiking neuron, trained, or a batch of them."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from .checks import check, check_choice, check_flag
from .loss import chaotic_loss

DEFAULT_LR = {"bp": 0.001, "csbp": 1.0}  # the published step sizes


class SingleNeuronRun(NamedTuple):
    """What was recorded before each update: float64, `[epochs]`, or `[epochs, n]` for a batch.

    Attributes:
        w: the weight.
        b: the bias.
        z: the strength of the chaotic loss.
        bp_loss: the squared error of the spike rate.
        loss: what was trained on: `bp_loss`, plus the chaotic loss for "csbp".
    """

    w: np.ndarray
    b: np.ndarray
    z: np.ndarray
    bp_loss: np.ndarray
    loss: np.ndarray


def train_single_neuron(
    method: str = "csbp",
    epochs: int = 4000,
    w0: ArrayLike = 0.5,
    b0: ArrayLike = 0.5,
    lr: ArrayLike | None = None,
    z: ArrayLike = 10.0,
    beta: ArrayLike = 0.9995,
    I0: ArrayLike = 0.65,
    x: float = 1.0,
    target: float = 0.0,
    time_steps: int = 20,
    rate_steps: int = 10,
    decay: float = 0.2,
    v_threshold: float = 1.0,
    gamma: float = 1.0,
    dtype: torch.dtype = torch.float32,
    literal: bool = True,
) -> SingleNeuronRun:
    """Train a spiking neuron's weight and bias by gradient descent.

    ::

        h = w x + b,    out = sum_t k_t / rate_steps
        loss = (out - target)**2  [+ chaotic_loss(h, z, I0, scale=1) for "csbp"]
        w <- w - lr dloss/dw,    b <- b - lr dloss/db,    z <- beta z

    The order of operations is the published code's: on one machine the float32 run equals it bit
    for bit. So does each neuron of a batch of up to 15. In larger batches vectorised sigmoid and
    log round differently, and chaos makes the difference large.

    An array is 1-d, and all arrays are of one length: that many independent neurons are trained
    together.

    Args:
        method: "bp", or "csbp" for the chaotic loss as well.
        epochs: number of updates, >= 1.
        w0: weight to start from, a number or an array.
        b0: bias to start from, a number or an array.
        lr: step size, > 0, a number or an array; None is 0.001 for "bp" and 1 for "csbp".
        z: strength of the chaotic loss in the first epoch, >= 0, a number or an array.
        beta: factor of `z` per epoch, in (0, 1], a number or an array.
        I0: what the chaotic loss pulls sigmoid(h) to, in (0, 1), a number or an array.
        x: the input, the same at every time step.
        target: the spike rate to learn.
        time_steps: number of simulated time steps, >= 1; 20 in the published code.
        rate_steps: what the count of spikes is divided by, >= 1; 10 in the published code. The
            published figures come out only with 20 steps over 10.
        decay: leak factor in [0, 1], as in `lif_step`.
        v_threshold: firing threshold, > 0.
        gamma: half-width of the surrogate, > 0.
        dtype: floating point type of the training.
        literal: take the published form of the chaotic loss; False takes the stable one, which
            never overflows: see `chaotic_loss`.

    Returns a `SingleNeuronRun` of what was recorded before each update. Raises ValueError for a
    value out of range. Source: the published document, Example 1 (doi:10.1093/nsr/nwae037).

    Example:
        >>> run = train_single_neuron("bp", epochs=100)
        >>> run.w.shape
        (100,)
        >>> float(run.bp_loss[0]), float(run.bp_loss[-1])
        (1.0, 0.0)
        >>> train_single_neuron("csbp", epochs=5, w0=[0.4, 0.5, 0.6]).w.shape
        (5, 3)
    """
    check_choice("method", method, DEFAULT_LR)
    if lr is None:
        lr = DEFAULT_LR[method]
    check("w0", w0, "(-inf, inf)", array=True)
    check("b0", b0, "(-inf, inf)", array=True)
    check("lr", lr, "(0, inf)", array=True)
    check("z", z, "[0, inf)", array=True)
    check("beta", beta, "(0, 1]", array=True)
    check("I0", I0, "(0, 1)", array=True)
    check("x", x, "(-inf, inf)")
    check("target", target, "(-inf, inf)")
    check("decay", decay, "[0, 1]")
    check("v_threshold", v_threshold, "(0, inf)")
    check("gamma", gamma, "(0, inf)")
    check("epochs", epochs, "[1, inf)", integer=True)
    check("time_steps", time_steps, "[1, inf)", integer=True)
    check("rate_steps", rate_steps, "[1, inf)", integer=True)
    check_flag("literal", literal)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype = {dtype}: must be a floating point type")

    for name, value, allowed in (
        ("w0", w0, "(-inf, inf)"),
        ("b0", b0, "(-inf, inf)"),
        ("lr", lr, "(0, inf)"),
        ("z", z, "[0, inf)"),
        ("x", x, "(-inf, inf)"),
        ("target", target, "(-inf, inf)"),
        ("gamma", gamma, "(0, inf)"),
    ):
        _check_fits(name, value, allowed, dtype)

    shape = _batch_shape(w0=w0, b0=b0, lr=lr, z=z, beta=beta, I0=I0)
    w = _parameter(_float64(w0, shape), dtype)
    b = _parameter(_float64(b0, shape), dtype)
    # z, beta and I0 stay float64, and `chaotic_loss` casts z, I0 and 1 - I0 where they meet h:
    # 1 - I0 taken in float32 is another number already.
    neuron = _Neuron(
        method=method,
        x=torch.tensor(x, dtype=dtype),
        target=torch.tensor(target, dtype=dtype),
        I0=_float64(I0, shape),
        literal=literal,
        time_steps=time_steps,
        rate_steps=rate_steps,
        # Numbers of Python's take the type of what they meet; a float64 of NumPy's gives its own.
        decay=float(decay),
        v_threshold=float(v_threshold),
        gamma=float(gamma),
    )
    return _train(
        neuron,
        epochs,
        w,
        b,
        lr=_float64(lr, shape).to(dtype),
        z=_float64(z, shape),
        beta=_float64(beta, shape),
    )


class _Neuron(NamedTuple):
    """What a training does not change, in the types that it computes with."""

    method: str
    x: Tensor
    target: Tensor
    I0: Tensor  # float64
    literal: bool
    time_steps: int
    rate_steps: int
    decay: float
    v_threshold: float
    gamma: float


def _train(
    neuron: _Neuron,
    epochs: int,
    w: Tensor,
    b: Tensor,
    lr: Tensor,
    z: Tensor,
    beta: Tensor,
) -> SingleNeuronRun:
    """Gradient descent on w and b, in place, recorded before each update."""
    run = SingleNeuronRun(*(np.empty((epochs, *w.shape)) for _ in SingleNeuronRun._fields))
    for epoch in tqdm(range(epochs), desc=neuron.method, disable=None, leave=False):
        bp_loss, loss = _losses(w, b, z, neuron)
        for record, value in zip(run, (w, b, z, bp_loss, loss), strict=True):
            record[epoch] = value.detach().double()
        _descend(loss, (w, b), lr)
        z = z * beta
    return run


def _losses(w: Tensor, b: Tensor, z: Tensor, neuron: _Neuron) -> tuple[Tensor, Tensor]:
    """The BP loss and the one to descend on, a number for each neuron."""
    h, count = _Firing.apply(w, b, neuron)
    rate = count / neuron.rate_steps
    bp_loss = (rate - neuron.target) ** 2
    if neuron.method == "bp":
        return bp_loss, bp_loss
    chaos = chaotic_loss(h, z, neuron.I0, scale=1.0, reduction="none", literal=neuron.literal)
    return bp_loss, bp_loss + chaos


class _Firing(torch.autograd.Function):
    """The current h, and how often each neuron fires in `time_steps` steps from rest.

    The steps are those of `lif_step`, and the gradient is bit for bit the one that autograd takes
    through them. It is written out, since on single numbers autograd spends nearly all of its time
    on keeping its books.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, b: Tensor, neuron: _Neuron) -> tuple[Tensor, Tensor]:
        h = w * neuron.x + b
        current = _numbers(h)
        one = _numbers(torch.ones_like(h))
        rest = _numbers(torch.zeros_like(h))
        v = [rest]  # before the reset, [1 + time_steps]
        spikes = [rest]  # likewise
        count = rest
        with np.errstate(all="ignore"):  # to overflow in silence, as torch does
            for _ in range(neuron.time_steps):
                v.append(v[-1] * neuron.decay * (1 - spikes[-1]) + current)
                spikes.append(one * (v[-1] - neuron.v_threshold > 0))
                count = count + spikes[-1]
        ctx.neuron = neuron
        ctx.v = v
        ctx.spikes = spikes
        return h, torch.as_tensor(count)

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor, grad_count: Tensor) -> tuple[Tensor, Tensor, None]:
        """Back through time.

        ::

            dv[t] = dk[t] triangle'(v[t] - v_threshold) + dv[t+1] (1 - k[t]) decay
            dk[t] = dcount - dv[t+1] v[t] decay
            dw = dh x + sum_t dv[t] x,    db = dh + sum_t dv[t]
        """
        neuron = ctx.neuron
        v = ctx.v
        spikes = ctx.spikes
        x = _numbers(neuron.x)
        zero = _numbers(torch.zeros_like(grad_h))
        maximum = _library(grad_h.dtype).maximum
        area = (1 / neuron.gamma) * (1 / neuron.gamma)  # rounded as in `triangle`
        of_count = _numbers(grad_count)
        # The sums in the order of the published code: what the chaotic loss adds, then the last
        # step, and so on to the first. Any other departs within some epochs.
        grad_b = _numbers(grad_h)
        grad_spike = of_count
        from_next_step = zero
        with np.errstate(all="ignore"):
            grad_w = grad_b * x
            for t in range(neuron.time_steps, 0, -1):
                u = v[t] - neuron.v_threshold
                slope = area * maximum(neuron.gamma - abs(u), zero)
                grad_v = grad_spike * slope + from_next_step
                grad_w = grad_w + grad_v * x
                grad_b = grad_b + grad_v
                grad_spike = of_count - grad_v * (v[t - 1] * neuron.decay)
                from_next_step = grad_v * (1 - spikes[t - 1]) * neuron.decay
        return torch.as_tensor(grad_w), torch.as_tensor(grad_b), None


def _library(dtype: torch.dtype) -> ModuleType:
    """What computes the steps: NumPy, on single numbers more than ten times as fast as torch.

    Half precision is torch's: NumPy has no bfloat16, and to multiply a float16 by a Python number
    it rounds that first.
    """
    if dtype in (torch.float32, torch.float64):
        return np
    return torch


def _numbers(tensor: Tensor) -> Any:
    """A tensor for the library that computes with it; a single number as a number, not an array."""
    return _library(tensor.dtype).asarray(tensor)[()]


def _descend(loss: Tensor, parameters: tuple[Tensor, Tensor], lr: Tensor) -> None:
    """One step of gradient descent, in place."""
    gradients = torch.autograd.grad(loss.sum(), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Rounds once, as torch.optim.SGD does.
            parameter.addcmul_(lr, gradient, value=-1)


def _batch_shape(**values: ArrayLike) -> tuple[int, ...]:
    """The one shape of all the arrays among the values: [n], or [] if there is none."""
    shapes = {name: np.shape(value) for name, value in values.items() if np.ndim(value) > 0}
    if any(len(shape) > 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"shapes {shapes}: arrays must be 1-d and of one length")
    return next(iter(shapes.values()), ())


def _float64(value: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    """A number for each neuron, as it was given."""
    return torch.as_tensor(np.asarray(value, dtype=float)).broadcast_to(shape)


def _check_fits(name: str, value: ArrayLike, allowed: str, dtype: torch.dtype) -> None:
    """Refuse a value that rounds to infinity, or to a zero that is not allowed, in the dtype."""
    rounded = torch.as_tensor(np.asarray(value, dtype=float)).to(dtype)
    try:
        check(f"{name} as {dtype}", rounded, allowed, array=True)
    except ValueError as error:
        raise ValueError(f"{error}, not {name} = {value!r}") from None


def _parameter(start: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor to train, from where it starts."""
    return start.to(dtype).clone().requires_grad_()
