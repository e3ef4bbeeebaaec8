"""Every private name of torch that this package relies on, and why.

This is the one place to look when torch changes.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]  # untyped
_autograd: Any = torch._C._autograd  # type: ignore[attr-defined]  # untyped


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor belongs to a vmap or torch.func.grad that is running.

    Such a tensor has no values of its own to measure, and no compiler takes it.
    """
    return _functorch.is_functorch_wrapped_tensor(tensor)


def has_outer_gradient(tensor: Tensor) -> bool:
    """Whether a tensor requires a gradient, that of the innermost torch.func.grad not counted."""
    innermost = _functorch.maybe_current_level()
    while is_transformed(tensor):
        is_innermost = _functorch.maybe_get_level(tensor) == innermost
        if tensor.requires_grad and not is_innermost:
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return tensor.requires_grad


def has_left_its_transform(tensor: Tensor) -> bool:
    """Whether a tensor was made inside a vmap or torch.func.grad that the caller is not in.

    Using such a tensor fails deep inside torch, with a message that names neither layer nor cause.
    """
    level = _functorch.maybe_current_level() or 0
    return _functorch.is_dead_tensor_wrapper(tensor) or _functorch.maybe_get_level(tensor) > level


def in_backward_pass() -> bool:
    """Whether a backward pass is running: a checkpointed layer runs for a second time then."""
    return torch._C._current_graph_task_id() != -1  # type: ignore[attr-defined]


def backward_keeps_graph() -> bool:
    """Whether the backward pass that is running was told to retain the graph.

    torch before 2.6 does not tell; there every one counts as told.
    """
    tell = getattr(_autograd, "_get_current_graph_task_keep_graph", None)
    return tell is None or tell()


def compiled_graph_is_gone(h: Tensor) -> bool:
    """Whether a backward pass has freed the graph of what a compiled model gave.

    Nothing could watch that graph as it was built; but what it saved cannot be read any more. The
    last operations may have saved nothing, as a copy or a view.
    """
    node = h.grad_fn
    while node is not None:
        try:
            saves_tensors = any(isinstance(value, Tensor) for value in _saved_by(node))
        except RuntimeError:  # "Trying to backward through the graph a second time ..."
            return True
        if saves_tensors or not node.next_functions:
            return False
        node = node.next_functions[0][0]
    return False


def _saved_by(node: Any) -> list[Any]:
    """All that a node of the graph has saved for its backward pass."""
    names = [name for name in dir(node) if name.startswith("_saved_")]
    return [*getattr(node, "saved_tensors", ()), *(getattr(node, name) for name in names)]


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to in place: autograd's own means to notice it."""
    return tensor._version


def is_traced() -> bool:
    """Whether the model runs to be exported, by torch.export or torch.jit.trace."""
    is_exporting = getattr(torch.compiler, "is_exporting", None)  # since torch 2.7
    if is_exporting is not None and is_exporting():
        return True
    return not torch.compiler.is_compiling() and torch.jit.is_tracing()


def has_no_values(value: Any) -> bool:
    """Whether this stands for a tensor in a model that is traced, as torch.fx does."""
    return isinstance(value, FakeTensor | fx.Proxy)


def forward_hooks(module: nn.Module) -> MutableMapping[int, Any]:
    """The forward hooks of a module; torch has a public way to add one, none to look at them."""
    return module._forward_hooks


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks that run before and after a module's forward."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def remove_hook(module: nn.Module, hook: Any) -> None:
    """Take a hook out of a module. A copied module's hooks have no handle that could do it."""
    kinds = (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        (module._forward_hooks, module._forward_hooks_with_kwargs),
    )
    for hooks, with_kwargs in kinds:
        numbers = [
            number
            for number, other in hooks.items()
            if other is hook or getattr(other, "__self__", None) is hook  # or a method of it
        ]
        for number in numbers:
            del hooks[number]
            with_kwargs.pop(number, None)


def is_replica(module: nn.Module) -> bool:
    """Whether a module is a copy that data parallelism made for one run, with the same hooks."""
    return "_is_replica" in vars(module)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside one that torch.compile returned, or the model itself."""
    return getattr(model, "_orig_mod", model)


def convolve(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a convolution with these parameters gives, with the layer's padding, stride and groups.

    The public forward takes the layer's own parameters, and runs its hooks.
    """
    return layer._conv_forward(x, weight, bias)


def softplus_backward(gradient: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    """The gradient at x of `softplus(x, beta, threshold)`, from the gradient at its result.

    By public names, gradient * sigmoid(beta * x), it takes three passes over memory, not one.
    """
    return torch.ops.aten.softplus_backward.default(gradient, x, beta, threshold)
