"""Every private name of torch that this package relies on, and why.

This is the one place to look when torch changes.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]  # untyped


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor belongs to a vmap or torch.func.grad that is running.

    Such a tensor has no values of its own to measure, and no compiler takes it.
    """
    return _functorch.is_functorch_wrapped_tensor(tensor)


def has_left_its_transform(tensor: Tensor) -> bool:
    """Whether a tensor was made inside a vmap or torch.func.grad that the caller is not in.

    Using such a tensor fails deep inside torch, with a message that names neither layer nor cause.
    """
    level = _functorch.maybe_current_level() or 0
    return _functorch.is_dead_tensor_wrapper(tensor) or _functorch.maybe_get_level(tensor) > level


def in_backward_pass() -> bool:
    """Whether a backward pass is running: a checkpointed layer runs for a second time then."""
    return torch._C._current_graph_task_id() != -1  # type: ignore[attr-defined]


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to in place: autograd's own means to notice it."""
    return tensor._version


def forward_hooks(module: nn.Module) -> MutableMapping[int, Any]:
    """The forward hooks of a module; torch has a public way to add one, none to look at them."""
    return module._forward_hooks


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside one that torch.compile returned, or the model itself."""
    return getattr(model, "_orig_mod", model)
