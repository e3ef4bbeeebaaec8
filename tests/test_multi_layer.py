"""Example 2: our LIF and loss in the published network, against an independent one."""

import torch
from reference import document_network
from torch import nn

from csbp_core import LIF, chaotic_loss


def published_loss(h, z=10.0, I0=0.65):
    s = torch.sigmoid(h / 10)
    return -z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))


def test_outputs_losses_and_gradients_equal_the_documents_network():
    torch.manual_seed(0)
    image, conv, fc, lif = 3 * torch.rand(2, 3, 16, 16), nn.Conv2d(3, 8, 1), nn.Linear(2048, 10), LIF(decay=0.5)
    h = conv(image.expand(8, *image.shape).flatten(0, 1)).unflatten(0, (8, 2))
    spikes = lif(h)
    out, current, v = document_network(image, conv, fc, 8)
    assert (h.numel(), lif.v.numel()) == (2 * 16384, 2 * 2048)
    assert spikes.sum() > 100
    torch.testing.assert_close(fc(spikes.flatten(2)).mean(0), out, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lif.v, v, rtol=1e-5, atol=1e-6)
    for ours, theirs in ((h, current), (lif.v, v)):
        loss = chaotic_loss(ours, 10.0, reduction="sum")
        expected = published_loss(theirs).sum()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
        pairs = (torch.autograd.grad(value, list(conv.parameters()), retain_graph=True) for value in (loss, expected))
        for gradient, known in zip(*pairs, strict=True):
            torch.testing.assert_close(gradient, known, rtol=1e-4, atol=1e-4 * known.abs().max().item())


def test_the_first_snippet_averages_the_batch_instead_of_time():
    spikes = LIF()(torch.rand(8, 1, 4))  # [T, N, C]
    wrong = torch.stack(list(spikes), dim=1).mean(0)  # [N, T, C] averaged over N
    assert wrong.shape == (8, 4)
    assert spikes.mean(0).shape == (1, 4)
