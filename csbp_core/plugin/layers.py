"""Which layers of a model are meant: by name, glob, module or type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..torch_private import uncompiled

MOST_NAMES = 20  # that an error message lists

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)

# What wrappers call the module inside them: torch.compile, checkpoint_wrapper and FSDP. Data
# parallelism calls it "module", as others may call a layer of theirs.
INNER_NAMES = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")

# Under this name `torch.nn.utils.parametrize` keeps the modules that compute a layer's weight.
NOT_LAYERS = "parametrizations"


def find_layers(model: nn.Module, layers: Any, exclude: Any = ()) -> dict[str, nn.Module]:
    """The modules of `model` that `layers` means, by their names, each once.

    Args:
        model: a network. Wrappers for data parallelism, checkpointing or by `torch.compile` are
            looked through, around it and inside it.
        layers: a name as in `model.named_modules()`, a glob, a module or a type; or a list of them.
            In a glob `*` and `?` stay within one part of a dotted name; `**` for a part stands for
            any number of parts. Modules that never run, as an nn.ModuleList, are passed over.
        exclude: what to leave out, given in the same ways.

    Raises ValueError, one line, for what is not there, or is there and never runs.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model = {_described(model)}: must be a network, as in attach(model, layers)"
        )
    network = _Names(unwrapped(model))
    left_out: dict[str, nn.Module] = {}
    for wanted in _as_list(exclude):
        left_out.update(network.find(wanted))
    found: dict[str, nn.Module] = {}
    seen = set(left_out.values())  # a module may have several names, and a name several wrappers
    for wanted in _as_list(layers):
        for name, module in network.find_running(wanted).items():
            if module not in seen and name not in left_out:
                found.setdefault(name, module)
                seen.add(module)
    if not found:
        reason = "exclude leaves no layer" if left_out else "layers is empty"
        raise ValueError(f"{reason}: must be names, globs, modules or types")
    return found


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside all its wrappers."""
    while True:  # wrappers come in any order: peel until nothing changes
        inner = uncompiled(model)
        if isinstance(inner, PARALLEL):
            inner = inner.module
        if inner is model:
            return model
        model = inner


class _Names:
    """The modules of a network by name: in full, and without the names of wrappers."""

    def __init__(self, model: nn.Module) -> None:
        self.model_type = type(model).__name__
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.plain = {name: self._without_wrappers(name) for name in self.modules}

    def find(self, wanted: Any) -> dict[str, nn.Module]:
        """What is meant by a name, glob, module or type."""
        names = self._matching(wanted)
        if not names:
            raise ValueError(self._not_found(wanted))
        found: dict[str, nn.Module] = {}
        for name in names:  # a wrapper and what is inside have one plain name: the wrapper counts
            found.setdefault(self.plain[name], self.modules[name])
        return found

    def find_running(self, wanted: Any) -> dict[str, nn.Module]:
        """What is meant and runs at all."""
        found = self.find(wanted)
        running = {name: module for name, module in found.items() if _ever_runs(module)}
        if not running:
            name, module = next(iter(found.items()))
            kind = type(module).__name__
            raise ValueError(f"layer {name!r} is a {kind}, which never runs: name what is inside")
        return running

    def _matching(self, wanted: Any) -> list[str]:
        if isinstance(wanted, str):
            return self._named(wanted)
        if isinstance(wanted, type):
            return [name for name in self._layers() if isinstance(self.modules[name], wanted)]
        return [name for name, module in self.modules.items() if module is wanted][:1]

    def _named(self, wanted: str) -> list[str]:
        """By a name, which may contain brackets, or else by a glob."""
        if wanted and wanted in self.modules:
            return [wanted]
        layers = self._layers()
        exact = [name for name in layers if self.plain[name] == wanted]
        if wanted and exact:
            return exact
        pattern = wanted.split(".")
        return [name for name in layers if name and _matches(self.plain[name].split("."), pattern)]

    def _layers(self) -> list[str]:
        """The names of all that may be a layer."""
        return [name for name in self.modules if NOT_LAYERS not in name.split(".")]

    def _without_wrappers(self, name: str) -> str:
        parts = name.split(".")
        plain = []
        for n, part in enumerate(parts):
            parent = self.modules[".".join(parts[:n])]
            is_inner = part in INNER_NAMES or (part == "module" and isinstance(parent, PARALLEL))
            if not is_inner:
                plain.append(part)
        return ".".join(plain)

    def _not_found(self, wanted: Any) -> str:
        """The message for a layer that is not there, with names that are."""
        missing = f"no layer {_described(wanted)} in {self.model_type}"
        names = list(dict.fromkeys(self.plain[name] for name in self._layers() if self.plain[name]))
        if isinstance(wanted, str) and wanted:
            if any(fnmatchcase(name, wanted) for name in names):
                return f"{missing}: * stays within one part of a dotted name, ** spans several"
            near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
            if near:
                return f"{missing}: did you mean {', '.join(near)}"
        return f"{missing}: it has {', '.join(names[:MOST_NAMES])}"


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether the parts of a name fit those of a glob, in which `**` is any number of parts."""
    if not pattern:
        return not parts
    first, *rest = pattern
    if first == "**":
        return any(_matches(parts[n:], rest) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def _ever_runs(module: nn.Module) -> bool:
    """Whether a module has a forward; an nn.ModuleList has none."""
    forward = getattr(module.forward, "__func__", module.forward)
    return forward is not nn.Module.forward


def _as_list(layers: Any) -> Iterable:
    """A list of what is wanted. An nn.Sequential is iterable, and one layer all the same."""
    is_single = isinstance(layers, str | type | nn.Module) or not hasattr(layers, "__iter__")
    return [layers] if is_single else layers


def _described(wanted: Any) -> str:
    """What was given, in a message: a whole model or a tensor would fill the screen."""
    if isinstance(wanted, nn.Module):
        is_short = not list(wanted.children())
    else:
        is_short = wanted is None or isinstance(wanted, str | type | int | float)
    return repr(wanted) if is_short else f"of type {type(wanted).__name__}"
