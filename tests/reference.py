"""What the tests hold csbp_core against: the document's neuron in torch's own modules, and backward passes by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * torch.relu(1 - torch.abs(u))


def document_neuron(method, epochs, w0=0.5, b0=0.5, lr=1.0, z=10.0, beta=0.9995, I0=0.65, x=1.0, target=0.0,
                    time_steps=20, rate_steps=10):  # fmt: skip
    """Example 1 as a user of torch would write it: nn.Linear(1, 1), MSELoss and SGD, one neuron, float32.

    Returns w, b, bp_loss and loss, each `[epochs]`, recorded before the update.
    """
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, w0)
    nn.init.constant_(layer.bias, b0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    inputs, wanted = torch.full((1, 1), x), torch.full((1, 1), target)
    records = []
    for _ in range(epochs):
        v = k = count = torch.zeros(1, 1)
        for _ in range(time_steps):
            v = v * 0.2 * (1 - k) + layer(inputs)
            k = _Spike.apply(v - 1)
            count = count + k
        bp = total = nn.functional.mse_loss(count / rate_steps, wanted)
        if method == "csbp":
            s = torch.sigmoid(layer(inputs))
            total = bp + -z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))
        records.append((layer.weight.item(), layer.bias.item(), bp.item(), total.item()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        z *= beta
    return np.array(records).T


def document_network(image, conv, fc, steps):
    """Example 2's second snippet as a user of torch would write it, on the weights of `conv` (1 x 1) and `fc`.

    Returns the output, the current `[T, N, C, H, W]` and the potential after the last reset `[N, C, H, W]`.
    """
    v, outputs, currents = 0, [], []
    for _ in range(steps):
        current = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], image) + conv.bias[:, None, None]
        v = 0.5 * v + current
        k = _Spike.apply(v - 1)
        v = v * (1 - k)
        outputs.append(fc(k.reshape(len(image), -1)))
        currents.append(current)
    return sum(outputs) / steps, torch.stack(currents), v


def lif_by_hand(x, grad_spikes, grad_v, grad_v_seq, decay, v_threshold, gamma, detach_reset):
    """Forward and backward pass of the LIF layer in NumPy float64, written from the equations.

    Returns spikes, potential after the last reset, potentials before reset, and the gradient of
    sum(spikes * grad_spikes) + sum(v * grad_v) + sum(v_seq * grad_v_seq) with respect to x.
    """
    steps = len(x)
    v, k = np.zeros_like(x), np.zeros_like(x)
    for t in range(steps):
        v[t] = x[t] + (decay * v[t - 1] * (1 - k[t - 1]) if t else 0)
        k[t] = v[t] > v_threshold
    last = v[-1] * (1 - k[-1])
    through_reset = 0.0 if detach_reset else 1.0
    grad_x = np.zeros_like(x)
    to_v, to_k = (1 - k[-1]) * grad_v, -v[-1] * grad_v * through_reset
    for t in reversed(range(steps)):
        surrogate = np.maximum(0, gamma - np.abs(v[t] - v_threshold)) / gamma**2
        grad_x[t] = to_v + grad_v_seq[t] + surrogate * (to_k + grad_spikes[t])
        if t:
            to_v = decay * (1 - k[t - 1]) * grad_x[t]
            to_k = -decay * v[t - 1] * grad_x[t] * through_reset
    return k, last, v, grad_x
