"""What more than one test file needs: the published models in plain torch, and small networks."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from csbp_core import LIF, ChaoticLoss
from csbp_notebooks.files import ROOT

I0 = 0.65  # of the published expression

# torch hands the linker its own folder without quotes, so that a space parts it in two.
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None or " " in torch.__file__,
    reason="torch compiles nothing here: no C++ compiler, or a space in the path of torch itself",
)


class Spike(torch.autograd.Function):
    """The published spike: 1 where u > 0, with the triangle max(0, 1 - |u|) as its derivative."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * torch.relu(1 - torch.abs(u))


# The document's two examples


class NeuronPath(NamedTuple):
    """What Example 1 went through, each `[epochs]`, recorded before the update."""

    w: np.ndarray
    b: np.ndarray
    bp_loss: np.ndarray
    loss: np.ndarray


def document_neuron(
    method: str,
    epochs: int,
    w0: float = 0.5,
    b0: float = 0.5,
    lr: float = 1.0,
    z: float = 10.0,
    beta: float = 0.9995,
    I0: float = 0.65,
    x: float = 1.0,
    target: float = 0.0,
    time_steps: int = 20,
    rate_steps: int = 10,
) -> NeuronPath:
    """Example 1 as a user of torch would write it: one float32 neuron, nn.Linear and SGD."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, w0)
    nn.init.constant_(layer.bias, b0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    inputs = torch.full((1, 1), x)
    wanted = torch.full((1, 1), target)
    records = []
    for _ in range(epochs):
        v = k = count = torch.zeros(1, 1)
        for _ in range(time_steps):
            v = v * 0.2 * (1 - k) + layer(inputs)
            k = Spike.apply(v - 1)
            count = count + k
        bp = total = nn.functional.mse_loss(count / rate_steps, wanted)
        if method == "csbp":
            s = torch.sigmoid(layer(inputs))
            total = bp + -z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))
        records.append((layer.weight.item(), layer.bias.item(), bp.item(), total.item()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        z *= beta
    return NeuronPath(*np.array(records).T)


class NetworkRun(NamedTuple):
    """What Example 2 gives."""

    output: Tensor  # [N, classes], averaged over time
    current: Tensor  # [T, N, C, H, W]
    v: Tensor  # the potential after the last reset, [N, C, H, W]


def document_network(image: Tensor, conv: nn.Conv2d, fc: nn.Linear, steps: int) -> NetworkRun:
    """Example 2's second snippet as a user of torch would write it; `conv` is 1 x 1."""
    v = 0
    outputs = []
    currents = []
    weight = conv.weight[:, :, 0, 0]
    for _ in range(steps):
        current = torch.einsum("oi,nihw->nohw", weight, image) + conv.bias[:, None, None]
        v = 0.5 * v + current
        k = Spike.apply(v - 1)
        v = v * (1 - k)
        outputs.append(fc(k.reshape(len(image), -1)))
        currents.append(current)
    return NetworkRun(sum(outputs) / steps, torch.stack(currents), v)


class LIFByHand(NamedTuple):
    """A LIF layer's run forwards and backwards."""

    spikes: np.ndarray  # [T, ...]
    v: np.ndarray  # the potential after the last reset, [...]
    v_seq: np.ndarray  # potentials before the reset, [T, ...]
    grad_x: np.ndarray  # gradient at the input, [T, ...]


def lif_by_hand(
    x: np.ndarray,
    grad_spikes: np.ndarray,
    grad_v: np.ndarray,
    grad_v_seq: np.ndarray,
    decay: float,
    v_threshold: float,
    gamma: float,
    detach_reset: bool,
) -> LIFByHand:
    """Forward and backward pass of the LIF layer in NumPy float64, written from the equations.

    `grad_x` is the gradient with respect to x of
    sum(spikes * grad_spikes) + sum(v * grad_v) + sum(v_seq * grad_v_seq).
    """
    steps = len(x)
    v = np.zeros_like(x)
    k = np.zeros_like(x)
    for t in range(steps):
        v[t] = x[t]
        if t > 0:
            v[t] += decay * v[t - 1] * (1 - k[t - 1])
        k[t] = v[t] > v_threshold
    last = v[-1] * (1 - k[-1])

    through_reset = 0.0 if detach_reset else 1.0
    grad_x = np.zeros_like(x)
    to_v = (1 - k[-1]) * grad_v
    to_k = -v[-1] * grad_v * through_reset
    for t in reversed(range(steps)):
        surrogate = np.maximum(0, gamma - np.abs(v[t] - v_threshold)) / gamma**2
        grad_x[t] = to_v + grad_v_seq[t] + surrogate * (to_k + grad_spikes[t])
        if t > 0:
            to_v = decay * (1 - k[t - 1]) * grad_x[t]
            to_k = -decay * v[t - 1] * grad_x[t] * through_reset
    return LIFByHand(k, last, v, grad_x)


# A network for the chaotic loss, and the loss as it was published


def network(
    depth: int = 2,
    store_v_seq: bool = True,
    width: int = 6,
    dtype: torch.dtype = torch.float64,
    gain: float = 6.0,
) -> nn.Sequential:
    """fc1, lif1, fc2, lif2, ...: currents large enough to spike and to leave the authors' clamp."""
    torch.manual_seed(depth)
    layers = OrderedDict[str, nn.Module]()
    for i in range(1, depth + 1):
        fc = nn.Linear(width, width, dtype=dtype)
        nn.init.normal_(fc.weight, std=gain / math.sqrt(width))
        layers[f"fc{i}"] = fc
        layers[f"lif{i}"] = LIF(store_v_seq=store_v_seq)
    return nn.Sequential(layers)


def batch(
    T: int = 4,
    N: int = 3,
    width: int = 6,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Tensor:
    """Random input `[T, N, width]` of a `network`."""
    return torch.randn(T, N, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Inside(NamedTuple):
    """What is inside a `network` as it runs; a list has an entry per layer, first to last."""

    output: Tensor  # [T, N, C]
    currents: list[Tensor]  # [T, N, C]
    before_reset: list[Tensor]  # potentials, [T, N, C]
    after_reset: list[Tensor]  # the last potential, [N, C]


def rewritten(model: nn.Module, x: Tensor) -> Inside:
    """`network` with a forward that returns what is inside."""
    currents = []
    before_reset = []
    after_reset = []
    for i in range(1, len(model) // 2 + 1):
        fc = model.get_submodule(f"fc{i}")
        current = x @ fc.weight.T + fc.bias
        v = k = 0.0
        spikes = []
        potentials = []
        for t in range(len(current)):
            v = v * 0.5 * (1 - k) + current[t]
            k = Spike.apply(v - 1)
            spikes.append(k)
            potentials.append(v)
        x = torch.stack(spikes)
        currents.append(current)
        before_reset.append(torch.stack(potentials))
        after_reset.append(v * (1 - k))
    return Inside(x, currents, before_reset, after_reset)


def authors_loss(
    layers: list[Tensor],
    z: float = 10.0,
    reduction: str = "mean",
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """The published expression, added up over layers; clamped as in the authors' training code."""
    total = 0.0
    for h in layers:
        if clamp is not None:
            low, high = clamp
            h = torch.where(h < low, low, torch.where(h > high, high, h))
        s = torch.sigmoid(h / 10)
        loss = -z * (I0 * torch.log(s) + (1 - I0) * torch.log(1 - s))
        total = total + getattr(loss, reduction)()
    return total


def assert_same(model: nn.Module, ours: Tensor, theirs: Tensor, tolerance: float = 1e-12) -> None:
    """Two losses are equal, and so are their gradients, relative to the largest element."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(ours, parameters, retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(theirs, parameters, retain_graph=True, allow_unused=True)
    assert any(known is not None and known.abs().max() > 0 for known in expected)
    for gradient, known in zip(gradients, expected, strict=True):
        if known is None:
            assert gradient is None or not gradient.any()
        else:
            atol = tolerance * known.abs().max().item()
            torch.testing.assert_close(gradient, known, rtol=0, atol=atol)


# What a ChaoticLoss leaves in a model


def records_kept(chaos: ChaoticLoss) -> list[int]:
    """How many tensors each attached layer holds on to."""
    return [len(layer.records) for layer in chaos.layers]


def forward_hooks(model: nn.Module) -> list[tuple[list, list]]:
    """Every forward hook of a model, in order, module by module."""
    return [
        (list(module._forward_hooks.items()), list(module._forward_hooks_with_kwargs.items()))
        for module in model.modules()
    ]


def watching(values: list, value_of: Callable = lambda output: output) -> Callable:
    """A way to read a layer's output that also notes something about it in `values`."""

    def read(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        values.append(value_of(output))
        return output

    return read


def read_doubled(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A way to read a layer that is found by its name."""
    return 2 * output


def loss_of(model: nn.Module, chaos: ChaoticLoss, x: Tensor) -> float:
    """The chaotic loss of one run: what another process is asked for."""
    model(x)
    return chaos().item()


# Linear stability of one layer


def design_matrices(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """X of a linear or 2d convolutional layer, a matrix per group.

    It has a row per sample and position, a column per input, and a column of ones for a bias.
    """
    if isinstance(layer, nn.Linear):
        matrices = [x]
    else:
        matrices = []
        for part in x.chunk(layer.groups, dim=1):
            patches = unfold(part, layer.kernel_size, padding=layer.padding, stride=layer.stride)
            matrices.append(patches.transpose(1, 2).flatten(0, 1))  # [samples * positions, inputs]
    if layer.bias is not None:
        matrices = [pad(matrix, (0, 1), value=1.0) for matrix in matrices]
    return matrices


def eigenvalue_by_library(layer: nn.Module, x: Tensor) -> float:
    """The largest eigenvalue of X^T X over the groups of a layer, from the matrix itself."""
    return max(torch.linalg.eigvalsh(X.T @ X)[-1].item() for X in design_matrices(layer, x))


# Signals


@contextlib.contextmanager
def signals_heard() -> Iterator[None]:
    """Let no signal be ignored, as Ctrl-C is in a shell's background and SIGHUP under nohup."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def storages_kept(run):
    """The storages that are kept for the backward pass of what a function runs, address: bytes."""
    kept = {}  # the storages themselves, so that no address is given away twice

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return {address: storage.nbytes() for address, storage in kept.items()}


# SpikingJelly's data sets

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def prose(page: str) -> str:
    """What a page tells in words, in one line: of a notebook its Markdown, or all of a text.

    Args:
        page: a file, by its path from the root.
    """
    text = (ROOT / page).read_text("utf-8")
    if page.endswith(".ipynb"):
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return " ".join(text.split())


def write_recordings(folder: Path, per_class: int, events: int) -> None:
    """Random recordings as CIFAR10-DVS has them on disk.

    Args:
        folder: of the data set.
        per_class: recordings of each class.
        events: of each recording.
    """
    random = np.random.default_rng(0)
    for name, number in itertools.product(CLASSES, range(per_class)):
        of_class = folder / "events_np" / name
        of_class.mkdir(parents=True, exist_ok=True)
        x, y = random.integers(128, size=(2, events))
        t = np.sort(random.integers(1000, size=events))
        np.savez(of_class / f"cifar10_{name}_{number}.npz", t=t, x=x, y=y, p=x % 2)


class FolderOfClasses:
    """torchvision's DatasetFolder, as far as SpikingJelly's data sets use it."""

    def __init__(self, root, loader, extensions, transform=None, target_transform=None):
        self.loader = loader
        self.transform = transform
        self.classes = sorted(folder.name for folder in Path(root).iterdir())
        self.samples = [
            (str(path), label)
            for label, name in enumerate(self.classes)
            for path in sorted((Path(root) / name).iterdir())
            if path.suffix in extensions
        ]
        self.targets = [label for _, label in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, row):
        path, label = self.samples[row]
        return self.transform(self.loader(path)), label


def stand_in_for_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SpikingJelly's data sets be imported without torchvision and torchaudio."""
    names = ("torchvision", "torchvision.datasets", "torchvision.datasets.utils", "torchaudio")
    modules = {name: ModuleType(name) for name in names}
    modules["torchvision"].transforms = None
    modules["torchvision.datasets"].DatasetFolder = FolderOfClasses
    for name in ("check_integrity", "download_url", "extract_archive", "verify_str_arg"):
        setattr(modules["torchvision.datasets.utils"], name, None)
    forget_data_sets(monkeypatch)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def forget_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SpikingJelly's data sets be imported anew."""
    import spikingjelly

    for name in list(sys.modules):
        if name.startswith("spikingjelly.datasets"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(spikingjelly, "datasets", raising=False)
