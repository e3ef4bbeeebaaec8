"""ChaoticLoss on networks of SpikingJelly, snnTorch and norse, as their users write them, against the neurons' equations."""

import norse.torch as norse
import pytest
import snntorch
import torch
from norse.torch.functional.threshold import threshold
from snntorch import surrogate as snntorch_surrogate, utils
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from test_plugin import assert_same, authors_loss, batch, network
from torch import nn

from csbp_core import ChaoticLoss

AUTHORS = {"z": 10.0, "clamp": (-10.0, 9.9)}


def linears(library, dtype=torch.float64):
    """Two linear layers, currents large enough to spike and to leave the clamp."""
    known = network(dtype=dtype)
    pair = library(6, 6).to(dtype), library(6, 6).to(dtype)
    for ours, theirs in zip(pair, (known.fc1, known.fc2), strict=True):
        ours.load_state_dict(theirs.state_dict())
    return pair


def by_hand(fcs, x, lif):
    """Currents and potentials of two layers, `[T, N, C]`; `lif` maps all currents to spikes and potentials."""
    currents, potentials = [], []
    for fc in fcs:
        currents.append(x @ fc.weight.T + fc.bias)
        x, v = lif(currents[-1])
        potentials.append(v)
    return x, currents, potentials


def check(model, run, chaos, known, inner):
    """Loss and gradients of `run`, which are to be those of the `known` output and of the authors' loss on `inner`."""
    assert 0 < known.mean() < 1
    assert max(h.max() for h in inner) > 9.9
    tolerance = 1e-12 if known.dtype == torch.float64 else 2e-5
    assert_same(model, run.mean() + chaos(), known.mean() + authors_loss(inner, clamp=AUTHORS["clamp"]), tolerance)


# SpikingJelly: v <- v + (x - v) / 2 and a hard reset; v_seq and v are the potential after it


def spikingjelly(step_mode, store_v_seq):
    fc1, fc2 = linears(layer.Linear)
    settings = {"tau": 2.0, "surrogate_function": surrogate.ATan(), "store_v_seq": store_v_seq}
    model = nn.Sequential(fc1, neuron.LIFNode(**settings), fc2, neuron.LIFNode(**settings))
    functional.set_step_mode(model, step_mode)
    return model


def spikingjelly_lif(currents):
    v, spikes, potentials = torch.zeros_like(currents[0]), [], []
    for current in currents:
        v = v + (current - v) / 2
        spikes.append(surrogate.ATan()(v - 1))
        v = v * (1 - spikes[-1])
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize(("store_v_seq", "last"), [(True, slice(None)), (False, slice(-1, None))])
def test_spikingjelly_in_multi_step_mode(store_v_seq, last):
    model = spikingjelly("m", store_v_seq)
    chaos = ChaoticLoss(**AUTHORS).attach(model, layer.Linear).attach(model, neuron.LIFNode, "membrane")
    for seed in (0, 1):
        x = batch(seed=seed)
        known, currents, potentials = by_hand((model[0], model[2]), x, spikingjelly_lif)
        check(model, model(x), chaos, known, [*currents, *(v[last] for v in potentials)])
        functional.reset_net(model)


@pytest.mark.parametrize("store_v_seq", [True, False])
def test_spikingjelly_called_once_per_time_step(store_v_seq):
    model = spikingjelly("s", store_v_seq)
    chaos = ChaoticLoss(**AUTHORS).attach(model, layer.Linear).attach(model, neuron.LIFNode, "membrane")
    for seed in (0, 1):
        x = batch(seed=seed)
        known, currents, potentials = by_hand((model[0], model[2]), x, spikingjelly_lif)
        out = torch.stack([model(x_t) for x_t in x])
        check(model, out, chaos, known, [*currents, *potentials])
        functional.reset_net(model)


# snnTorch: a spike lowers the next potential by the threshold; beta is the leak; spikes are float32


def snntorch_lif(currents, alpha=0.0):
    i = v = reset = torch.zeros_like(currents[0])
    spikes, potentials = [], []
    for current in currents:
        i = alpha * i + current
        v = 0.5 * v + i - reset
        reset = snntorch_surrogate.fast_sigmoid()(v - 1)
        spikes.append(reset)
        potentials.append(v)
        reset = reset.detach()
    return torch.stack(spikes), torch.stack(potentials)


class LeakyNet(nn.Module):
    """The network of snnTorch's tutorials."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = linears(nn.Linear, torch.float32)
        self.lif1 = snntorch.Leaky(beta=0.5, spike_grad=snntorch_surrogate.fast_sigmoid())
        self.lif2 = snntorch.Leaky(beta=0.5, spike_grad=snntorch_surrogate.fast_sigmoid())

    def forward(self, x):
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        spk2_rec = []
        for step in range(len(x)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
        return torch.stack(spk2_rec)


class SynapticNet(LeakyNet):
    def __init__(self):
        super().__init__()
        settings = {"alpha": 0.75, "beta": 0.5, "spike_grad": snntorch_surrogate.fast_sigmoid()}
        self.lif1, self.lif2 = snntorch.Synaptic(**settings), snntorch.Synaptic(**settings)

    def forward(self, x):
        (syn1, mem1), (syn2, mem2) = self.lif1.reset_mem(), self.lif2.reset_mem()
        spk2_rec = []
        for step in range(len(x)):
            spk1, syn1, mem1 = self.lif1(self.fc1(x[step]), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
            spk2_rec.append(spk2)
        return torch.stack(spk2_rec)


@pytest.mark.parametrize(("net", "alpha"), [(LeakyNet, 0.0), (SynapticNet, 0.75)])
def test_snntorch_with_its_state_passed_on(net, alpha):
    model = net()
    chaos = ChaoticLoss(**AUTHORS).attach(model, "fc*").attach(model, snntorch.SpikingNeuron, "membrane")
    for seed in (0, 1):
        x = batch(dtype=torch.float32, seed=seed)
        known, currents, potentials = by_hand((model.fc1, model.fc2), x, lambda h: snntorch_lif(h, alpha))
        check(model, model(x), chaos, known, [*currents, *potentials])


@pytest.mark.parametrize("output", [False, True])
def test_snntorch_with_hidden_state(output):
    fc1, fc2 = linears(nn.Linear, torch.float32)
    settings = {"beta": 0.5, "spike_grad": snntorch_surrogate.fast_sigmoid(), "init_hidden": True}
    model = nn.Sequential(fc1, snntorch.Leaky(**settings), fc2, snntorch.Leaky(**settings, output=output))
    chaos = ChaoticLoss(**AUTHORS).attach(model, nn.Linear).attach(model, snntorch.Leaky, "membrane")
    for seed in (0, 1):
        utils.reset(model)
        x = batch(dtype=torch.float32, seed=seed)
        known, currents, potentials = by_hand((fc1, fc2), x, snntorch_lif)
        out = torch.stack([model(x_t)[0] if output else model(x_t) for x_t in x])
        check(model, out, chaos, known, [*currents, *potentials])


# norse: an Euler step of potential and current, float32; currents of order 10 spike


def norse_lif(currents):
    """Default parameters, dt = 1 ms: tau_mem = 10 ms, tau_syn = 5 ms."""
    v, i, spikes, potentials = torch.zeros_like(currents[0]), torch.zeros_like(currents[0]), [], []
    for current in currents:
        i = i + current
        v = v + 0.1 * (i - v)
        i = i - 0.2 * i
        spikes.append(threshold(v - 1, "super", 100.0))
        v = (1 - spikes[-1]) * v
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


@pytest.mark.parametrize(("record_states", "last"), [(True, slice(None)), (False, slice(-1, None))])
def test_norse_over_time(record_states, last):
    fc1, fc2 = linears(nn.Linear, torch.float32)
    settings = {"record_states": record_states}
    model = norse.SequentialState(fc1, norse.LIF(**settings), fc2, norse.LIF(**settings))
    chaos = ChaoticLoss(**AUTHORS).attach(model, nn.Linear).attach(model, norse.LIF, "membrane").attach(model, "3")
    for seed in (0, 1):
        x = batch(T=12, dtype=torch.float32, seed=seed)
        known, currents, potentials = by_hand((fc1, fc2), x, norse_lif)
        out, _ = model(x)
        check(model, out, chaos, known, [*currents, *(v[last] for v in potentials), known])


def test_norse_called_once_per_time_step():
    fc1, fc2 = linears(nn.Linear, torch.float32)
    model = norse.SequentialState(fc1, norse.LIFCell(), fc2, norse.LIFCell())
    chaos = ChaoticLoss(**AUTHORS).attach(model, nn.Linear).attach(model, norse.LIFCell, "membrane")
    for seed in (0, 1):
        x = batch(T=12, dtype=torch.float32, seed=seed)
        known, currents, potentials = by_hand((fc1, fc2), x, norse_lif)
        state, out = None, []
        for x_t in x:
            spikes, state = model(x_t, state)
            out.append(spikes)
        check(model, torch.stack(out), chaos, known, [*currents, *potentials])
