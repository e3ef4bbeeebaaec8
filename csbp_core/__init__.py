"""Chaotic spiking back-propagation (CSBP): neuron, surrogate, chaotic loss and what the notebooks share."""

from . import dynamics as dynamics
from .loss import chaotic_loss as chaotic_loss, critical_z as critical_z
from .lyapunov import largest_lyapunov as largest_lyapunov
from .neuron import LIF as LIF, lif_step as lif_step
from .plugin import ChaoticLoss as ChaoticLoss
from .single_neuron import SingleNeuronRun as SingleNeuronRun, train_single_neuron as train_single_neuron
from .surrogate import triangle as triangle
