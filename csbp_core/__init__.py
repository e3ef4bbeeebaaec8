"""Chaotic spiking back-propagation (CSBP): neuron, surrogate, chaotic loss and what the notebooks share."""

from . import dynamics
from .loss import chaotic_loss, critical_z
from .neuron import LIF, lif_step
from .single_neuron import SingleNeuronRun, train_single_neuron
from .surrogate import triangle

__all__ = ["LIF", "SingleNeuronRun", "chaotic_loss", "critical_z", "dynamics", "lif_step", "train_single_neuron", "triangle"]
