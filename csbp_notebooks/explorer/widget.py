"""The explorer as a widget: a slider that is moved in the browser moves in Python, and back."""

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from csbp_core import dynamics
from csbp_core.checks import check

FOLDER = Path(__file__).parent
EPOCHS = 4000  # of a run, as published

# What the sliders reach; the same as in explorer.js, which tests/test_explorer.py holds.
RANGES = {
    "z0": "[0.5, 12]",
    "beta": "[0.998, 1]",
    "I0": "[0.05, 0.95]",
    "lr": "[0.1, 2]",
    "w0": "[-5, 5]",
    "time_steps": "[1, 40]",
    "rate_steps": "[5, 40]",
    "epoch": f"[0, {EPOCHS - 1}]",
}
INTEGERS = ("time_steps", "rate_steps", "epoch")


class Explorer(anywidget.AnyWidget):
    """The neuron of Example 1 in training: its trajectory, its orbit diagram and its return map.

    ::

        w <- w - lr (z (sigmoid(2 w) - I0) + G(w)),    z <- beta z

    where G is the BP gradient of `csbp_core.dynamics.gradient`. Show it as the last line of a cell.
    Each argument is an attribute, too, and follows its slider.

    Args:
        z0: strength of the chaotic loss at epoch 0, in [0.5, 12].
        beta: factor of z per epoch, in [0.998, 1].
        I0: what the chaotic loss pulls sigmoid(2 w) to, in [0.05, 0.95].
        lr: learning rate, in [0.1, 2].
        w0: weight and bias at epoch 0, in [-5, 5].
        time_steps: number of simulated time steps, an integer in [1, 40].
        rate_steps: what the count of spikes is divided by, an integer in [5, 40].
        bp: whether the BP gradient acts beside the chaotic loss.
        epoch: that is looked at, an integer in [0, 3999].

    Raises ValueError for a number out of range, and traitlets.TraitError, which says the type, for
    what is no number, integer or boolean.

    Source: the published Example 1, doi:10.1093/nsr/nwae037.

    Example:
        >>> explorer = Explorer(z0=5.5, beta=1.0)
        >>> explorer.anneal()[-2:].round(3).tolist()
        [-0.256, 1.258]
    """

    _esm = FOLDER / "explorer.js"
    _css = FOLDER / "explorer.css"

    z0 = traitlets.Float(10.0).tag(sync=True)
    beta = traitlets.Float(0.9995).tag(sync=True)
    I0 = traitlets.Float(0.65).tag(sync=True)
    lr = traitlets.Float(1.0).tag(sync=True)
    w0 = traitlets.Float(0.5).tag(sync=True)
    time_steps = traitlets.Int(20).tag(sync=True)
    rate_steps = traitlets.Int(10).tag(sync=True)
    bp = traitlets.Bool(True).tag(sync=True)
    epoch = traitlets.Int(1200).tag(sync=True)

    def __repr__(self) -> str:
        """What stands in a stored notebook, where no kernel shows the widget."""
        values = [f"{name}={getattr(self, name)!r}" for name in (*RANGES, "bp")]
        return f"Explorer({', '.join(values)})"

    @traitlets.validate(*RANGES)
    def _refuse_out_of_range(self, proposal: Any) -> float:
        name = proposal["trait"].name
        check(name, proposal["value"], RANGES[name], integer=name in INTEGERS)
        return proposal["value"]

    @property
    def constants(self) -> dict[str, Any]:
        """What an epoch does not change, as keywords for the functions of `csbp_core.dynamics`."""
        names = ("lr", "I0", "bp", "time_steps", "rate_steps")
        return {name: getattr(self, name) for name in names}

    def anneal(self) -> np.ndarray:
        """The run that is shown, by `csbp_core.dynamics`: w before each update, [4000]."""
        return dynamics.anneal(self.w0, self.z0, self.beta, EPOCHS, **self.constants)[:, 0]
