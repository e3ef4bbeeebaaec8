"""ChaoticLoss on networks of SpikingJelly, snnTorch and norse, as their users write them.

They are held against the equations of each library's neuron, written out by hand.
"""

from typing import NamedTuple

import norse.torch as norse
import pytest
import snntorch
import torch
from helpers import assert_same, authors_loss, batch, network
from norse.torch.functional.threshold import threshold
from snntorch import surrogate as snntorch_surrogate, utils
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from csbp_core import ChaoticLoss

CLAMP = (-10.0, 9.9)  # of the authors' training code


def chaotic_loss_of_the_authors():
    return ChaoticLoss(10.0, clamp=CLAMP)


def linears(library, dtype=torch.float64):
    """Two linear layers, currents large enough to spike and to leave the clamp."""
    known = network(dtype=dtype)
    fc1 = library(6, 6).to(dtype)
    fc2 = library(6, 6).to(dtype)
    fc1.load_state_dict(known.fc1.state_dict())
    fc2.load_state_dict(known.fc2.state_dict())
    return fc1, fc2


class ByHand(NamedTuple):
    """What is inside two layers as they run, everything `[T, N, C]`."""

    output: Tensor
    currents: list[Tensor]
    potentials: list[Tensor]


def by_hand(fcs, x, lif):
    """Two layers by the equations; `lif` maps a layer's currents to its spikes and potentials."""
    currents = []
    potentials = []
    for fc in fcs:
        current = x @ fc.weight.T + fc.bias
        x, v = lif(current)
        currents.append(current)
        potentials.append(v)
    return ByHand(x, currents, potentials)


def check(model, output, chaos, known_output, layers):
    """Loss and gradients are those of the known output and of the authors' loss on the layers."""
    assert 0 < known_output.mean() < 1
    assert max(h.max() for h in layers) > CLAMP[1]
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5}[known_output.dtype]
    theirs = known_output.mean() + authors_loss(layers, clamp=CLAMP)
    assert_same(model, output.mean() + chaos(), theirs, tolerance)


def all_of(v):
    """The potentials at every step, where the neuron stores them."""
    return v


def last_of(v):
    """The potential at the last step, which is all that a neuron keeps unless told otherwise."""
    return v[-1]


# SpikingJelly: v <- v + (x - v) / 2 and a hard reset; v_seq and v are the potential after it


def spikingjelly(step_mode, store_v_seq):
    fc1, fc2 = linears(layer.Linear)
    settings = {
        "tau": 2.0,
        "surrogate_function": surrogate.ATan(),
        "store_v_seq": store_v_seq,
    }
    model = nn.Sequential(fc1, neuron.LIFNode(**settings), fc2, neuron.LIFNode(**settings))
    functional.set_step_mode(model, step_mode)
    return model


def spikingjelly_lif(currents):
    v = torch.zeros_like(currents[0])
    spikes = []
    potentials = []
    for current in currents:
        v = v + (current - v) / 2
        spike = surrogate.ATan()(v - 1)
        v = v * (1 - spike)
        spikes.append(spike)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize(("store_v_seq", "kept_of"), [(True, all_of), (False, last_of)])
def test_spikingjelly_in_multi_step_mode(store_v_seq, kept_of):
    model = spikingjelly("m", store_v_seq)
    chaos = chaotic_loss_of_the_authors().attach(model, layer.Linear)
    chaos.attach(model, neuron.LIFNode, "membrane")
    for seed in (0, 1):
        x = batch(seed=seed)
        known = by_hand((model[0], model[2]), x, spikingjelly_lif)
        layers = [*known.currents, *(kept_of(v) for v in known.potentials)]
        check(model, model(x), chaos, known.output, layers)
        functional.reset_net(model)


@pytest.mark.parametrize("store_v_seq", [True, False])
def test_spikingjelly_called_once_per_time_step(store_v_seq):
    model = spikingjelly("s", store_v_seq)
    chaos = chaotic_loss_of_the_authors().attach(model, layer.Linear)
    chaos.attach(model, neuron.LIFNode, "membrane")
    for seed in (0, 1):
        x = batch(seed=seed)
        known = by_hand((model[0], model[2]), x, spikingjelly_lif)
        output = torch.stack([model(x_t) for x_t in x])
        check(model, output, chaos, known.output, [*known.currents, *known.potentials])
        functional.reset_net(model)


# snnTorch: a spike lowers the next potential by the threshold; beta is the leak; spikes are float32


def snntorch_lif(currents, alpha=0.0):
    i = v = reset = torch.zeros_like(currents[0])
    spikes = []
    potentials = []
    for current in currents:
        i = alpha * i + current
        v = 0.5 * v + i - reset
        spike = snntorch_surrogate.fast_sigmoid()(v - 1)
        reset = spike.detach()
        spikes.append(spike)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


class LeakyNet(nn.Module):
    """The network of snnTorch's tutorials."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = linears(nn.Linear, torch.float32)
        self.lif1 = snntorch.Leaky(beta=0.5, spike_grad=snntorch_surrogate.fast_sigmoid())
        self.lif2 = snntorch.Leaky(beta=0.5, spike_grad=snntorch_surrogate.fast_sigmoid())

    def forward(self, x):
        mem1 = self.lif1.reset_mem()
        mem2 = self.lif2.reset_mem()
        spk2_rec = []
        for step in range(len(x)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
        return torch.stack(spk2_rec)


class SynapticNet(nn.Module):
    """The same with neurons whose current leaks, too."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = linears(nn.Linear, torch.float32)
        settings = {
            "alpha": 0.75,
            "beta": 0.5,
            "spike_grad": snntorch_surrogate.fast_sigmoid(),
        }
        self.lif1 = snntorch.Synaptic(**settings)
        self.lif2 = snntorch.Synaptic(**settings)

    def forward(self, x):
        syn1, mem1 = self.lif1.reset_mem()
        syn2, mem2 = self.lif2.reset_mem()
        spk2_rec = []
        for step in range(len(x)):
            spk1, syn1, mem1 = self.lif1(self.fc1(x[step]), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
            spk2_rec.append(spk2)
        return torch.stack(spk2_rec)


@pytest.mark.parametrize(("net", "alpha"), [(LeakyNet, 0.0), (SynapticNet, 0.75)])
def test_snntorch_with_its_state_passed_on(net, alpha):
    model = net()
    chaos = chaotic_loss_of_the_authors().attach(model, "fc*")
    chaos.attach(model, snntorch.SpikingNeuron, "membrane")

    def lif(currents):
        return snntorch_lif(currents, alpha)

    for seed in (0, 1):
        x = batch(dtype=torch.float32, seed=seed)
        known = by_hand((model.fc1, model.fc2), x, lif)
        check(model, model(x), chaos, known.output, [*known.currents, *known.potentials])


@pytest.mark.parametrize(
    ("settings", "spikes_of"),
    [
        pytest.param({}, lambda output: output, id="spikes"),
        pytest.param({"output": True}, lambda output: output[0], id="spikes and potential"),
    ],
)
def test_snntorch_with_hidden_state(settings, spikes_of):
    """In snnTorch the last layer may give its potential beside its spikes: `output=True`."""
    fc1, fc2 = linears(nn.Linear, torch.float32)
    hidden = {
        "beta": 0.5,
        "spike_grad": snntorch_surrogate.fast_sigmoid(),
        "init_hidden": True,
    }
    model = nn.Sequential(fc1, snntorch.Leaky(**hidden), fc2, snntorch.Leaky(**hidden, **settings))
    chaos = chaotic_loss_of_the_authors().attach(model, nn.Linear)
    chaos.attach(model, snntorch.Leaky, "membrane")
    for seed in (0, 1):
        utils.reset(model)
        x = batch(dtype=torch.float32, seed=seed)
        known = by_hand((fc1, fc2), x, snntorch_lif)
        output = torch.stack([spikes_of(model(x_t)) for x_t in x])
        check(model, output, chaos, known.output, [*known.currents, *known.potentials])


# norse: an Euler step of potential and current, float32; currents of order 10 spike


def norse_lif(currents):
    """Default parameters, dt = 1 ms: tau_mem = 10 ms, tau_syn = 5 ms."""
    v = torch.zeros_like(currents[0])
    i = torch.zeros_like(currents[0])
    spikes = []
    potentials = []
    for current in currents:
        i = i + current
        v = v + 0.1 * (i - v)
        i = i - 0.2 * i
        spike = threshold(v - 1, "super", 100.0)
        v = (1 - spike) * v
        spikes.append(spike)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize(("record_states", "kept_of"), [(True, all_of), (False, last_of)])
def test_norse_over_time(record_states, kept_of):
    fc1, fc2 = linears(nn.Linear, torch.float32)
    lif1 = norse.LIF(record_states=record_states)
    lif2 = norse.LIF(record_states=record_states)
    model = norse.SequentialState(fc1, lif1, fc2, lif2)
    chaos = chaotic_loss_of_the_authors().attach(model, nn.Linear)
    chaos.attach(model, norse.LIF, "membrane")
    chaos.attach(model, "3")  # spikes of the last layer, the first of what it gives
    for seed in (0, 1):
        x = batch(T=12, dtype=torch.float32, seed=seed)
        known = by_hand((fc1, fc2), x, norse_lif)
        output, _ = model(x)
        layers = [*known.currents, *(kept_of(v) for v in known.potentials), known.output]
        check(model, output, chaos, known.output, layers)


def test_norse_called_once_per_time_step():
    fc1, fc2 = linears(nn.Linear, torch.float32)
    model = norse.SequentialState(fc1, norse.LIFCell(), fc2, norse.LIFCell())
    chaos = chaotic_loss_of_the_authors().attach(model, nn.Linear)
    chaos.attach(model, norse.LIFCell, "membrane")
    for seed in (0, 1):
        x = batch(T=12, dtype=torch.float32, seed=seed)
        known = by_hand((fc1, fc2), x, norse_lif)
        state = None
        outputs = []
        for x_t in x:
            spikes, state = model(x_t, state)
            outputs.append(spikes)
        output = torch.stack(outputs)
        check(model, output, chaos, known.output, [*known.currents, *known.potentials])
