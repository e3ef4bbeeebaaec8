"""Example 2: our LIF and loss in the published network, against an independent one."""

import json
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import NetworkRun, document_network
from torch import Tensor, nn

from csbp_core import LIF, chaotic_loss
from csbp_notebooks.files import ROOT

STEPS = 8


class Example2(NamedTuple):
    """What our parts and the document's network make of the same weights and image."""

    conv: nn.Conv2d
    h: Tensor  # our current, [T, N, C, H, W]
    spikes: Tensor
    v: Tensor
    output: Tensor
    known: NetworkRun


@pytest.fixture(scope="module")
def example_2():
    torch.manual_seed(0)
    image = 3 * torch.rand(2, 3, 16, 16)
    conv = nn.Conv2d(3, 8, 1)
    fc = nn.Linear(2048, 10)
    lif = LIF(decay=0.5)
    repeated = image.expand(STEPS, *image.shape).flatten(0, 1)  # [T * N, C, H, W]
    h = conv(repeated).unflatten(0, (STEPS, 2))  # [T, N, C, H, W]
    spikes = lif(h)
    output = fc(spikes.flatten(2)).mean(0)
    known = document_network(image, conv, fc, STEPS)
    return Example2(conv, h, spikes, lif.v, output, known)


def test_the_sizes_are_the_documents(example_2):
    assert example_2.h.numel() == 2 * 16384
    assert example_2.v.numel() == 2 * 2048


def test_the_network_spikes(example_2):
    assert example_2.spikes.sum() > 100


def test_output_and_potential_equal_the_documents(example_2):
    known = example_2.known
    torch.testing.assert_close(example_2.output, known.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(example_2.v, known.v, rtol=1e-5, atol=1e-6)


def published_loss(h, z=10.0, I0=0.65):
    s = torch.sigmoid(h / 10)
    return -z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))


@pytest.mark.parametrize(("ours", "theirs"), [("h", "current"), ("v", "v")])
def test_losses_and_gradients_equal_the_published_ones(example_2, ours, theirs):
    loss = chaotic_loss(getattr(example_2, ours), 10.0, reduction="sum")
    expected = published_loss(getattr(example_2.known, theirs)).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    parameters = list(example_2.conv.parameters())
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    known = torch.autograd.grad(expected, parameters, retain_graph=True)
    for gradient, expected_gradient in zip(gradients, known, strict=True):
        atol = 1e-4 * expected_gradient.abs().max().item()
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=atol)


# Trained, as in notebook 03


class Training(NamedTuple):
    """What the document's network does under the chaotic loss on its current."""

    image: Tensor  # [1, 3, H, W]
    largest_updates: np.ndarray  # of a weight of the convolution, one per epoch
    last_current: Tensor  # the same at every time step, [N, C, H, W]


@pytest.fixture(scope="module")
def training():
    """The document's network and expression, in double precision, by gradient descent."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)  # drawn first, in float32: as notebook 03 draws it
    conv = nn.Conv2d(3, 8, 1).double()
    fc = nn.Linear(2048, 10).double()
    image = image.double()
    parameters = [*conv.parameters(), *fc.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    z = 10.0
    largest_updates = []
    for _ in range(1000):
        run = document_network(image, conv, fc, STEPS)
        loss = nn.functional.cross_entropy(run.output, torch.tensor([0]))
        loss = loss + published_loss(run.current, z).sum()
        optimizer.zero_grad()
        loss.backward()
        before = conv.weight.detach().clone()
        optimizer.step()
        largest_updates.append((conv.weight.detach() - before).abs().max().item())
        z *= 0.999
    return Training(image, np.array(largest_updates), run.current[0].detach())


@pytest.fixture(scope="module")
def recorded():
    """What notebook 03 found."""
    return json.loads((ROOT / "images" / "multi_layer.json").read_text())["results"]


def test_z_falls_below_the_recorded_critical_z_at_the_recorded_epoch(training, recorded):
    pixels = training.image.flatten(2)[0].T.repeat(STEPS, 1).numpy()  # [T * N * H * W, 3]
    inputs = np.column_stack([pixels, np.ones(len(pixels))])  # the last is the bias's
    curvature = np.linalg.norm(inputs, 2) ** 2 * 0.65 * 0.35 / 10**2
    critical = 2 / (0.05 * curvature)
    assert recorded["critical_z"] == pytest.approx(critical, rel=1e-6)
    first_below = math.ceil(recorded["epoch_at_critical_z"])
    assert 10 * 0.999 ** (first_below - 1) > critical > 10 * 0.999**first_below


def test_the_weights_rest_from_the_recorded_epoch_on(training, recorded):
    """Before it they are on a cycle whatever the rounding, so the epoch is the same in float64."""
    moves = np.flatnonzero(training.largest_updates > 0.01)
    assert recorded["epoch_weights_come_to_rest"] == moves[-1] + 1


def test_at_rest_every_neuron_fires_at_every_step_as_recorded(training, recorded):
    """It is reset by each spike, so it does if its current alone is above the threshold, 1."""
    assert training.last_current.min() > 1
    assert recorded["firing_rate_last"]["CSBP, output, z = 10"] == 1


# The document


def test_the_first_snippet_averages_the_batch_instead_of_time():
    spikes = LIF()(torch.rand(8, 1, 4))  # [T, N, C]
    wrong = torch.stack(list(spikes), dim=1).mean(0)  # [N, T, C] averaged over N
    assert wrong.shape == (8, 4)
    assert spikes.mean(0).shape == (1, 4)
