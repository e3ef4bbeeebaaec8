"""Example 1 of the published document: one spiking neuron, trained; or a batch of independent ones."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ._old_checks import check, check_all, check_choice
from .loss import chaotic_loss
from .neuron import lif_step

Array = NDArray[np.float64]
SingleNeuronRun = NamedTuple("SingleNeuronRun", [("w", Array), ("b", Array), ("z", Array), ("bp_loss", Array), ("loss", Array)])


def train_single_neuron(
    method: str = "csbp", epochs: int = 4000, w0: ArrayLike = 0.5, b0: ArrayLike = 0.5, lr: ArrayLike | None = None,
    z: ArrayLike = 10.0, beta: ArrayLike = 0.9995, I0: ArrayLike = 0.65, x: float = 1.0, target: float = 0.0,
    time_steps: int = 20, rate_steps: int = 10, decay: float = 0.2, v_threshold: float = 1.0, gamma: float = 1.0,
    dtype: torch.dtype = torch.float32, literal: bool = True,
) -> SingleNeuronRun:  # fmt: skip
    """Train a spiking neuron's weight and bias by gradient descent on the BP loss, plus the chaotic loss for "csbp".

        h = w x + b,   out = sum_t k_t / rate_steps,   loss = (out - target)**2 [+ chaotic_loss(h, z, I0, scale=1)],   z *= beta

    The order of operations is the published code's, so on one machine the float32 run equals it bit for bit; as one of a
    batch too, up to 15 neurons (beyond, vectorised sigmoid and log round differently, and chaos does the rest).
    `w0`, `b0`, `lr` (None: 0.001 for "bp", 1 for "csbp"), `z`, `beta` (per epoch) and `I0` are numbers, or 1-d arrays of one
    length for a batch of independent neurons. The published code simulates `time_steps` = 20 and divides by `rate_steps` = 10;
    its figures need that. `decay`, `v_threshold` and `gamma` are those of `lif_step`, `dtype` that of the training, and
    `literal` takes the published form of the chaotic loss, False the stable one.

    Returns a SingleNeuronRun of what was recorded before each update, float64 arrays `[epochs]`, or `[epochs, n]` for a batch.
    Raises ValueError for a value out of range. Source: the published document, Example 1 (doi:10.1093/nsr/nwae037).
    """
    check_choice("method", method, ("bp", "csbp"))
    arrays = {"w0": w0, "b0": b0, "lr": {"bp": 1e-3, "csbp": 1.0}[method] if lr is None else lr, "z": z, "beta": beta, "I0": I0}
    check_all(arrays, **arrays, x=x, target=target, decay=decay, v_threshold=v_threshold, gamma=gamma)
    check_all(epochs=epochs, time_steps=time_steps, rate_steps=rate_steps)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype = {dtype}: must be a floating point type")
    shapes = {name: np.shape(value) for name, value in arrays.items() if np.ndim(value)}
    if any(len(shape) > 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"shapes {shapes}: arrays must be 1-d and of one length")
    shape = next(iter(shapes.values()), ())
    values = {name: torch.as_tensor(np.asarray(value, dtype=float)).broadcast_to(shape) for name, value in arrays.items()}
    w, b = (values[name].to(dtype).clone().requires_grad_() for name in ("w0", "b0"))
    for name, start in {"w0": w, "b0": b}.items():
        check(f"{name} as {dtype}", start, "(-inf, inf)")
    step_size, strength = values["lr"].to(dtype), values["z"].clone()  # z, beta and I0 stay float64: cast last
    x_t, target_t = torch.tensor(x, dtype=dtype), torch.tensor(target, dtype=dtype)
    run = SingleNeuronRun(*(np.empty((epochs, *shape)) for _ in SingleNeuronRun._fields))
    for epoch in tqdm(range(epochs), desc=method, disable=None, leave=False):
        v = spike = count = torch.zeros(shape, dtype=dtype)
        for _ in range(time_steps):
            v, spike = lif_step(w * x_t + b, v, spike, decay=decay, v_threshold=v_threshold, gamma=gamma)
            count = count + spike
        bp_loss = loss = (count / rate_steps - target_t) ** 2
        if method == "csbp":
            loss = bp_loss + chaotic_loss(w * x_t + b, strength, values["I0"], 1.0, "none", literal)
        for record, value in zip(run, (w, b, strength, bp_loss, loss), strict=True):
            record[epoch] = value.detach()
        gradients = torch.autograd.grad(loss.sum(), (w, b))
        with torch.no_grad():
            for p, gradient in zip((w, b), gradients, strict=True):
                p.addcmul_(step_size, gradient, value=-1)  # rounds once, as torch.optim.SGD does
        strength = strength * values["beta"]
    return run
