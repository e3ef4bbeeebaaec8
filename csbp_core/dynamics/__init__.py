"""Example 1 as an exact map, in plain scalar loops compiled by numba: one epoch of training is f.

With w = b and x = 1 the input current is s = 2 w. An epoch of CSBP, in which `Map` holds all that
stays and z decays, is::

    f(w; z) = w - lr (z (sigmoid(2 w) - I0) + G(w)),    z <- beta z
    G = dL_bp/dw,    L_bp = (sum_t k_t / rate_steps)**2
    m_t = decay m_(t-1) (1 - k_(t-1)) + s,    k_t = [m_t > v_threshold]
    dk/dm := max(0, gamma - |m - v_threshold|) / gamma**2

Every public function takes the settings of `Map` as keywords, computes in float64 and raises
ValueError for a value out of range. No code is shared with `single_neuron`: each is the other's
oracle. Exponents come from the true derivative of f, in which a spike has derivative zero; double
backward is wrong here. Source: the published Example 1, doi:10.1093/nsr/nwae037.
"""

from .bifurcation import Bifurcation, bifurcations
from .kernels import Map
from .map import gradient, slope, step
from .orbits import anneal, finite_time_lyapunov, lyapunov, orbit_diagram

__all__ = [
    "Bifurcation",
    "Map",
    "anneal",
    "bifurcations",
    "finite_time_lyapunov",
    "gradient",
    "lyapunov",
    "orbit_diagram",
    "slope",
    "step",
]
