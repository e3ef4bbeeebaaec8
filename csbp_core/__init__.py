"""Chaotic spiking back-propagation (CSBP): the neuron, its surrogate gradient, the chaotic loss.

::

    from csbp_core import ChaoticLoss

    # After `total_steps` calls of chaos.step() a hundredth of z is left.
    chaos = ChaoticLoss(z=10, beta=0.01 ** (1 / total_steps)).attach(model, ["conv1", "fc1"])
    loss = criterion(model(x), y) + chaos()
    loss.backward()
    optimizer.step()
    chaos.step()

`csbp_core.dynamics`, the exact map behind the published Example 1, is imported at its first use:
its compiler, numba, takes longer to import than all the rest.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .loss import chaotic_loss
from .lyapunov import largest_lyapunov
from .neuron import LIF, lif_step
from .plugin import ChaoticLoss
from .single_neuron import SingleNeuronRun, train_single_neuron
from .stability import critical_z, largest_eigenvalue
from .surrogate import triangle

if TYPE_CHECKING:
    from . import dynamics

__version__ = "0.2.0"

__all__ = [
    "LIF",
    "ChaoticLoss",
    "SingleNeuronRun",
    "chaotic_loss",
    "critical_z",
    "dynamics",
    "largest_eigenvalue",
    "largest_lyapunov",
    "lif_step",
    "train_single_neuron",
    "triangle",
]


def __getattr__(name: str) -> Any:
    if name == "dynamics":
        return importlib.import_module(".dynamics", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
