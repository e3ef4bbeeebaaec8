"""What train.py trains on: images, recordings of an event camera, or moving patterns made here.

Every data set comes in three parts, for training, for validation and for the test, of samples
(x, class). Of an image x is [28, 28]; of events it is a sequence of frames [T, 2, side, side], each
with the number of OFF and of ON events at every pixel.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset, TensorDataset

from study.fashion_mnist.images import load

DIRECTIONS = 8  # of the moving patterns, which are their classes
TEST_SHARE = 0.1  # of CIFAR10-DVS, by the authors' split


class Data(NamedTuple):
    """A data set in three parts.

    Attributes:
        train: what the network is trained on.
        validation: held back from the training images; it may be empty.
        test: seen once, when the training is over.
        classes: how many there are.
    """

    train: Subset
    validation: Subset
    test: Subset
    classes: int


def split_by_class(labels: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """The rows of all samples but the last ones of each class, and the rows of those.

    Args:
        labels: the class of each sample.
        share: of each class that is split off, in [0, 1), rounded to whole samples.

    Example:
        >>> split_by_class([0, 0, 1, 1], share=0.5)
        ([0, 2], [1, 3])
    """
    classes = np.asarray(labels)
    is_last = np.zeros(len(classes), dtype=bool)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        kept = len(members) - round(share * len(members))
        is_last[members[kept:]] = True
    return np.flatnonzero(~is_last).tolist(), np.flatnonzero(is_last).tolist()


def in_three(train: Dataset, labels: Sequence[int], test: Any, validation: float) -> Data:
    """A data set whose training part has the labels, with a share of each class held back."""
    kept, held_back = split_by_class(labels, validation)
    whole_test = Subset(test, range(len(test)))
    return Data(Subset(train, kept), Subset(train, held_back), whole_test, len(set(labels)))


# Images


def fashion_mnist(folder: Path, validation: float) -> Data:
    """Fashion-MNIST, from a folder with its four IDX files, compressed or not."""
    images = load(folder, given_as="folder")
    train = TensorDataset(images.train.x, images.train.y)
    test = TensorDataset(images.test.x, images.test.y)
    return in_three(train, images.train.y.tolist(), test, validation)


# Recordings of an event camera, by SpikingJelly


def cifar10_dvs(folder: Path, time_steps: int, side: int, validation: float) -> Data:
    """CIFAR10-DVS by SpikingJelly; the last tenth of each class is the test set, as the authors'.

    SpikingJelly downloads it into the folder, if it is not there, and turns the events into frames
    with as many events each, which it keeps beside them.
    """
    frames = recordings("CIFAR10DVS", folder, time_steps, side)
    rest, last = split_by_class(frames.targets, TEST_SHARE)
    labels = [frames.targets[row] for row in rest]
    return in_three(Subset(frames, rest), labels, Subset(frames, last), validation)


def dvs128_gesture(folder: Path, time_steps: int, side: int, validation: float) -> Data:
    """DVS128-Gesture by SpikingJelly, whose train and test sets are those of the recordings.

    It has to be downloaded by hand: SpikingJelly says from where.
    """
    train = recordings("DVS128Gesture", folder, time_steps, side, train=True)
    test = recordings("DVS128Gesture", folder, time_steps, side, train=False)
    return in_three(train, train.targets, test, validation)


def recordings(name: str, folder: Path, time_steps: int, side: int, **part: bool) -> Any:
    """A data set of SpikingJelly's, as frames.

    Args:
        name: of its class.
        folder: where it is.
        time_steps: frames of a recording, >= 1.
        side: of a frame, in pixels, >= 1.
        part: what else the class takes.

    Raises ValueError, one line, where it cannot be imported, prepared or read.
    """
    # Only here: it imports torchvision and torchaudio, which nothing else in this project needs.
    try:
        from spikingjelly import datasets
    except Exception as error:  # they are not there, or a build that does not load beside torch
        raise ValueError(
            f"SpikingJelly's data sets cannot be imported ({error}): pip install spikingjelly "
            "torchvision torchaudio, the two of the same build as torch, for CPU or CUDA"
        ) from None
    refuse_broken((folder / "events_np").rglob("*.npz"))
    try:
        frames = getattr(datasets, name)(
            folder,
            data_type="frame",
            frames_number=time_steps,
            split_by="number",  # of events: each frame has the same
            transform=ToSide(side),
            **part,
        )
    except (RuntimeError, NotImplementedError, OSError) as error:  # OSError: no network, full disk
        reason = " ".join(str(error).split())
        raise ValueError(f"folder = {folder}: {reason}") from None
    refuse_incomplete(frames)
    return frames


def refuse_incomplete(frames: Any) -> None:
    """Refuse frames that are not those of all recordings."""
    cache = frames.processed_root
    events = sorted(path.relative_to(frames.raw_root) for path in frames.raw_root.rglob("*.np[yz]"))
    made = sorted(path.relative_to(cache) for path in cache.rglob("*.np[yz]"))
    if made != events:
        raise ValueError(
            f"{cache}: has frames of {len(made)} recordings, not of the {len(events)} in "
            f"{frames.raw_root}; remove it, and it is made again"
        )
    refuse_broken(Path(path) for path, _ in frames.samples)


def refuse_broken(files: Iterable[Path]) -> None:
    """Refuse files that end too early: better now than in the middle of a training."""
    for file in files:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{file}: is not a whole .npz file; get or make it again")


class ToSide:
    """Bring frames to another size: each new pixel has the mean over the old ones that it covers.

    Args:
        side: in pixels.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, frames: np.ndarray) -> Tensor:
        return F.adaptive_avg_pool2d(torch.from_numpy(frames).float(), self.side)  # [T, 2, s, s]


# Moving patterns


def synthetic(samples: int, time_steps: int, side: int, validation: float) -> Data:
    """Moving patterns as an event camera sees them; a quarter as many again for the test."""
    train = MovingPatterns(samples, time_steps, side, first=0)
    test = MovingPatterns(max(samples // 4, DIRECTIONS), time_steps, side, first=samples)
    return in_three(train, [n % DIRECTIONS for n in range(samples)], test, validation)


class MovingPatterns(Dataset):
    """Random patterns that move in one of eight directions, which is their class.

    A pattern is a sum of plane waves. Its picture is taken many times during each time step, and
    `events` says what the camera's pixels send.

    Args:
        samples: how many, >= 1.
        time_steps: T, >= 1.
        side: of the camera, in pixels, >= 1.
        first: the number of the first, >= 0; a pattern depends on its number alone.

    Example:
        >>> x, label = MovingPatterns(samples=9, time_steps=4, side=16, first=0)[8]
        >>> x.shape, label
        (torch.Size([4, 2, 16, 16]), 0)
    """

    WAVES = 4
    PICTURES = 4  # in a time step
    SHIFT = 0.5  # pixels from one picture to the next
    CONTRAST = 0.5  # of a wave, in the logarithm of the brightness

    def __init__(self, samples: int, time_steps: int, side: int, first: int) -> None:
        self.samples = samples
        self.time_steps = time_steps
        self.side = side
        self.first = first

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        number = self.first + row
        label = number % DIRECTIONS
        pictures = self.pictures(label, np.random.default_rng(number))
        counts = events(pictures).reshape(self.time_steps, self.PICTURES, 2, self.side, self.side)
        return torch.from_numpy(counts.sum(1, dtype=np.float32)), label

    def pictures(self, label: int, random: np.random.Generator) -> np.ndarray:
        """Logarithms of the brightness, [T * PICTURES + 1, side, side]."""
        angle = 2 * np.pi * label / DIRECTIONS
        velocity = self.SHIFT * np.array([np.cos(angle), np.sin(angle)])
        wavelength = random.uniform(4, 12, size=(self.WAVES, 1))  # pixels
        waves = random.normal(size=(self.WAVES, 2))
        waves *= 2 * np.pi / (wavelength * np.linalg.norm(waves, axis=1, keepdims=True))
        start = random.uniform(0, 2 * np.pi, size=self.WAVES)
        moved = np.arange(self.time_steps * self.PICTURES + 1)[:, None] * (waves @ velocity)
        pixels = np.arange(self.side)
        place = waves[:, 0, None] * pixels  # [waves, side]
        phase = place[:, None, :] + (waves[:, 1, None] * pixels)[:, :, None]  # [waves, side, side]
        phase = phase + (start - moved)[:, :, None, None]  # [pictures, waves, side, side]
        return self.CONTRAST * np.cos(phase).sum(1)


def events(pictures: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """What the pixels of an event camera send between pictures.

    A pixel remembers a level, at first the logarithm of the brightness that it sees. Whenever that
    is a threshold above or below the level, the pixel sends an ON or an OFF event, and the level
    moves by a threshold.

    Args:
        pictures: logarithms of the brightness, `[n + 1, height, width]`.
        threshold: > 0.

    Returns the number of OFF and of ON events before each picture but the first, integers,
    `[n, 2, height, width]`.

    Source: Lichtsteiner, Posch and Delbruck 2008, doi:10.1109/JSSC.2007.914337, without its noise.

    Example:
        >>> one_pixel = np.array([0.0, 0.5, 0.5, 0.1]).reshape(4, 1, 1)
        >>> events(one_pixel).reshape(3, 2).tolist()
        [[0, 2], [0, 0], [1, 0]]
    """
    level = pictures[0].copy()
    counts = []
    for picture in pictures[1:]:
        steps = np.trunc((picture - level) / threshold).astype(int)
        level += steps * threshold
        counts.append(np.stack([np.maximum(-steps, 0), np.maximum(steps, 0)]))
    return np.stack(counts)


# What training adds


class Augmented(Dataset):
    """Samples shifted and mirrored at random, every frame of a sequence alike.

    What a sample goes through depends on the seed, the epoch and its row alone: not on which
    process reads it, nor on whether the training was interrupted.

    Args:
        samples: of (x, class), x of [..., height, width].
        crop: how far x is shifted at most, in pixels, >= 0; zeros come in from the edge.
        flip: whether half of them are mirrored, left and right.
        seed: >= 0.
        epoch: >= 0.
    """

    def __init__(self, samples: Dataset, crop: int, flip: bool, seed: int, epoch: int) -> None:
        self.samples = samples
        self.crop = crop
        self.flip = flip
        self.seed = seed
        self.epoch = epoch

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        x, label = self.samples[row]
        if self.crop == 0 and not self.flip:
            return x, label
        random = np.random.default_rng([self.seed, self.epoch, row])
        top, left = random.integers(2 * self.crop + 1, size=2)
        height, width = x.shape[-2:]
        padded = F.pad(x, [self.crop] * 4)
        x = padded[..., top : top + height, left : left + width]
        if self.flip and random.random() < 0.5:
            x = x.flip(-1)
        return x, label
