"""Example 2: our LIF and loss in the published network, against an independent one."""

from typing import NamedTuple

import pytest
import torch
from helpers import NetworkRun, document_network
from torch import Tensor, nn

from csbp_core import LIF, chaotic_loss

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


def test_the_first_snippet_averages_the_batch_instead_of_time():
    spikes = LIF()(torch.rand(8, 1, 4))  # [T, N, C]
    wrong = torch.stack(list(spikes), dim=1).mean(0)  # [N, T, C] averaged over N
    assert wrong.shape == (8, 4)
    assert spikes.mean(0).shape == (1, 4)
