"""The training of experiment 4 of `PROTOCOL.md`: by BP, and by BP with what an arm adds to it."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from csbp_core import ChaoticLoss, chaotic_loss, critical_z, largest_eigenvalue

from ..training.arms import CLAMP, I0, SCALE, parabola
from ..training.flow import flow, gradient, with_ones
from ..training.train import MOMENTUM, sample_order
from .images import Images, Split
from .measurements import accuracy
from .network import ImageNetwork, Output

LR = 0.1  # at the start; it falls to 0 on a cosine
WEIGHT_DECAY = 5e-4
BATCH = 100

INNER_I0 = 0.525  # h* = 1, of the pair of arms on fc1 alone
Z = 15.0  # the authors' strength at the start
Z_END = Z / 100  # where it arrives, whatever it starts from

MEASURED = 1000  # training images from which the critical z is measured


def annealed(z_start: float, epoch: int, epochs: int) -> float:
    """The strength in an epoch: it falls geometrically from its start to .15 over all epochs.

    Example:
        >>> round(annealed(15.0, epoch=0, epochs=2), 3), round(annealed(15.0, epoch=1, epochs=2), 3)
        (15.0, 1.5)
    """
    return z_start * (Z_END / z_start) ** (epoch / epochs)


class Fc1Stability(NamedTuple):
    """How the chaotic loss of fc1's output curves, its inputs held as they are.

    Attributes:
        lambda_max: the largest eigenvalue of X^T X over the number of rows of X, fc1's inputs with
            a one for the bias.
        critical_z: by `csbp_core.critical_z`, at the learning rate with which training starts.
    """

    lambda_max: float
    critical_z: float


@torch.no_grad()
def fc1_stability(net: ImageNetwork, images: Images, I0: float = I0) -> Fc1Stability:
    """Measure fc1 on the first 1,000 images, as one batch, by whose mean and variance it is normed.

    Args:
        net: stays as it is.
        images: of the training, on its device.
        I0: of the chaotic loss, in (0, 1).
    """
    twin = copy.deepcopy(net).train()  # whose batch norms average this batch in
    output = twin(images.x[:MEASURED])
    lambda_max = largest_eigenvalue(twin.fc1, [output.pooled])
    limit = critical_z(
        lambda_max,
        LR,
        MOMENTUM,
        I0,
        SCALE,
        "mean",
        numel=output.features.numel(),
        weight_decay=WEIGHT_DECAY,
    )
    rows = output.pooled.shape[:2].numel()
    return Fc1Stability(lambda_max / rows, limit)


# What an arm adds to BP


class Addition:
    """What an arm adds to BP: as it is nothing; others overwrite what they need.

    Args:
        net: the network that is trained.
        epochs: of the training.

    Attributes:
        epoch: the one that is trained now, counted from 0.
        gradient_share: of every epoch, what share of the gradient at fc1's output the chaotic loss
            had in the last batch that the plug-in measured; empty without the plug-in.
    """

    def __init__(self, net: ImageNetwork, epochs: int) -> None:
        self.net = net
        self.epochs = epochs
        self.epoch = 0
        self.gradient_share: list[float | None] = []

    def loss(self, output: Output) -> Tensor:
        """What is added to the loss of a batch."""
        return torch.zeros((), device=output.logits.device)

    @torch.no_grad()
    def add_gradient(self, output: Output, lr: float) -> None:
        """Add something to the gradients of a batch; lr is the learning rate of the step."""

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1


class AuthorsCSBP(Addition):
    """The chaotic loss as the authors train with it, by the plug-in.

    It acts on the membrane of the first layer of neurons after the last reset and on the output of
    fc1, a mean over each, with the authors' clamp.

    Args:
        net: the network that is trained.
        epochs: of the training, in which z falls to a hundredth.
        z_start: the strength at the start, > 0; the authors' unless told otherwise.

    Attributes:
        chaos: the plug-in.
    """

    def __init__(self, net: ImageNetwork, epochs: int, z_start: float = Z) -> None:
        super().__init__(net, epochs)
        beta = (Z_END / Z) ** (1 / epochs)
        self.chaos = ChaoticLoss(z=z_start, beta=beta, I0=I0, scale=SCALE, clamp=CLAMP)
        self.chaos.attach(net, "lif1", read="membrane")
        self.chaos.attach(net, "fc1", read="output")

    def loss(self, output: Output) -> Tensor:
        return self.chaos()

    def end_epoch(self) -> None:
        super().end_epoch()
        self.gradient_share.append(self.chaos.report()["fc1"]["gradient_share"])
        self.chaos.step()


class QuadraticPull(Addition):
    """A parabola in place of the chaotic loss: the same two layers, z, minimum, and slope at 0."""

    def loss(self, output: Output) -> Tensor:
        strength = annealed(Z, self.epoch, self.epochs)
        z = torch.tensor([strength], device=output.logits.device)  # of one network
        pulled = (output.potential, output.features)
        means = [parabola(h.unsqueeze(0), z).mean() for h in pulled]
        return torch.stack(means).sum()


class OnFc1(Addition):
    """The chaotic loss of fc1's output with fc1's inputs held as they are, and no clamp.

    Its I0 is `INNER_I0`: with the authors' the next layer's training is unstable, by either rule.
    With C for that loss of the batch at z = 1, theta for weights and biases of fc1 and Phi_t(theta)
    for where ``d theta / dt = -z grad C(theta)`` arrives in a time t, the gradient gets::

        csbp          z grad C(theta)
        inner flow    (theta - Phi_lr(theta)) / lr

    Args:
        net: the network that is trained.
        epochs: of the training.
        z_start: the strength at the start, > 0.
        is_flow: whether it is the inner flow.
    """

    def __init__(self, net: ImageNetwork, epochs: int, z_start: float, is_flow: bool) -> None:
        super().__init__(net, epochs)
        self.z_start = z_start
        self.is_flow = is_flow

    def loss(self, output: Output) -> Tensor:
        z = annealed(self.z_start, self.epoch, self.epochs)
        h = output.features.detach()  # for the record alone
        return chaotic_loss(h, z, INNER_I0, SCALE)

    @torch.no_grad()
    def add_gradient(self, output: Output, lr: float) -> None:
        fc1 = self.net.fc1
        inputs = with_ones(output.pooled.detach().flatten(0, 1).unsqueeze(0))  # [1, rows, fan_in+1]
        theta = torch.cat([fc1.weight, fc1.bias.unsqueeze(1)], dim=1).unsqueeze(0)
        added = self.added(theta, inputs, lr).squeeze(0)  # [features, fan_in + 1]
        fc1.weight.grad += added[:, :-1]  # type: ignore[operator]  # BP has left a gradient
        fc1.bias.grad += added[:, -1]  # type: ignore[operator]

    def added(self, theta: Tensor, inputs: Tensor, lr: float) -> Tensor:
        """What is added to the gradient by theta, `[1, features, fan_in + 1]`.

        Args:
            theta: weights and biases, of the same shape.
            inputs: of the batch and a last column of ones, `[1, rows, fan_in + 1]`.
            lr: learning rate of the step.
        """
        z = annealed(self.z_start, self.epoch, self.epochs)
        if not self.is_flow:
            return z * gradient(theta, inputs, INNER_I0)
        strength = torch.tensor([z], device=theta.device)
        time = torch.tensor([lr], device=theta.device)
        return (theta - flow(theta, inputs, strength, time, INNER_I0)) / lr


# Training


class History(NamedTuple):
    """How a training went, a number per epoch each.

    Attributes:
        curve: accuracy on the held-out images after the epoch; NaN where there are none.
        added_loss: the mean over the epoch's batches of what the arm adds to the loss.
    """

    curve: list[float]
    added_loss: list[float]


def train(net: ImageNetwork, addition: Addition, data: Split, seed: int) -> History:
    """Train a network, in place.

    Args:
        net: at its start, on the device of the data.
        addition: what the arm adds, with the number of epochs.
        data: of the network's split.
        seed: of the order of the batches, >= 0.
    """
    samples = len(data.train.y)
    order = sample_order(seed, samples, addition.epochs).to(data.train.y.device)
    optimizer = SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = CosineAnnealingLR(optimizer, T_max=addition.epochs * (samples // BATCH))
    history = History([], [])
    for rows_of_epoch in order:
        net.train()
        total = torch.zeros((), device=order.device)
        batches = rows_of_epoch.unfold(0, BATCH, BATCH)  # [samples // BATCH, BATCH]
        for rows in batches:
            total += _update(net, addition, optimizer, data.train.at(rows))
            schedule.step()
        addition.end_epoch()
        history.added_loss.append(float(total) / len(batches))
        history.curve.append(accuracy(net, data.held_out) if len(data.held_out.y) else math.nan)
    return history


def _update(net: ImageNetwork, addition: Addition, optimizer: SGD, batch: Images) -> Tensor:
    """One step on a batch; returns what the arm added to its loss."""
    optimizer.zero_grad()
    output = net(batch.x)
    added_loss = addition.loss(output)
    loss = F.cross_entropy(output.logits, batch.y) + added_loss
    loss.backward()
    addition.add_gradient(output, lr=optimizer.param_groups[0]["lr"])
    optimizer.step()
    return added_loss.detach()
