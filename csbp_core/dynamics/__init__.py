"""One spiking neuron in training, the published Example 1, as an exact map compiled by numba.

The neuron has the input x = 1 at every time step, a weight w, a bias b and the target rate 0. It is
trained from w = b, so that its input current is s = w + b = 2 w. One epoch of CSBP; the constants
are in `Map`, z decays from epoch to epoch::

    f(w; z) = w - lr (z (sigmoid(s) - I0) + G(w)),    z <- beta z
    G = dL_bp/ds at s = 2 w,    L_bp = (sum_t k_t / rate_steps)**2
    m_t = decay m_(t-1) (1 - k_(t-1)) + s,    k_t = [m_t > v_threshold]
    dk/dm := max(0, gamma - |m - v_threshold|) / gamma**2

G is the gradient by w at fixed b, which with x = 1 is dL_bp/ds. The gradient by b is the same, so
that w = b stays. The derivative df/dw, from which `slope` and the exponents come, is another one:
it is taken along w = b, where s changes twice as fast as w. It is the true derivative of f, in
which a spike has derivative zero. Double backward does not give it: that would send the surrogate
through the spike a second time.

Every public function takes the constants of `Map` as keywords, computes in float64 and raises
ValueError for a value out of range. No code is shared with `csbp_core.train_single_neuron`: these
are two independent implementations, tested against each other.

Source: the published Example 1, doi:10.1093/nsr/nwae037.
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
