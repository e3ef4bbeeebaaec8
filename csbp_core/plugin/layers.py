"""Which layers of a model are meant: by name, glob, module or type."""

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..torch_private import uncompiled

MOST_NAMES = 20  # that an error message lists


def find_layers(model: nn.Module, layers: Any) -> dict[str, nn.Module]:
    """The modules of `model` that `layers` means, by their names, each once.

    Args:
        model: a network, or its wrapper for data parallelism or by `torch.compile`, which is looked
            through.
        layers: a name as in `model.named_modules()`, a glob ("conv*"), a module or a type; or a
            list of them.

    Raises ValueError, one line, for what is not there.
    """
    model = unwrapped(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    name_of: dict[nn.Module, str] = {}
    for wanted in _as_list(layers):
        found = _matching_names(wanted, modules)
        if not found:
            raise ValueError(_not_found(wanted, type(model).__name__, modules))
        for name in found:
            name_of.setdefault(modules[name], name)  # a module may have several names
    if not name_of:
        raise ValueError("layers is empty: must be names, globs, modules or types")
    return {name: module for module, name in name_of.items()}


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside all its wrappers."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:  # wrappers come in any order: peel until nothing changes
        inner = uncompiled(model)
        if isinstance(inner, parallel):
            inner = inner.module
        if inner is model:
            return model
        model = inner


def _as_list(layers: Any) -> Iterable:
    """A list of what is wanted. An nn.Sequential is iterable, and one layer all the same."""
    is_single = isinstance(layers, str | type | nn.Module) or not hasattr(layers, "__iter__")
    return [layers] if is_single else layers


def _matching_names(wanted: Any, modules: dict[str, nn.Module]) -> list[str]:
    if isinstance(wanted, str):
        return [name for name in modules if name and fnmatchcase(name, wanted)]
    if isinstance(wanted, type):
        return [name for name, module in modules.items() if isinstance(module, wanted)]
    return [name for name, module in modules.items() if module is wanted]


def _not_found(wanted: Any, model_type: str, modules: dict[str, nn.Module]) -> str:
    """The message for a layer that is not there, with names that are."""
    near = []
    if isinstance(wanted, str) and wanted:
        near = difflib.get_close_matches(wanted, modules, n=3, cutoff=0.4)
    if near:
        return f"no layer {wanted!r} in {model_type}: did you mean {', '.join(near)}"
    names = [name for name in modules if name][:MOST_NAMES]
    return f"no layer {wanted!r} in {model_type}: it has {', '.join(names)}"
