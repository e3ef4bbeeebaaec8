"""CSBP in any network: a chaotic loss that attaches to layers, reads them as they run, and anneals.

`layers` finds the layers, `hooks` reads them, `measurement` says what the loss does to them, and
`chaotic_loss` has the class that a training script uses.
"""

from .chaotic_loss import ChaoticLoss

__all__ = ["ChaoticLoss"]
