"""Fashion-MNIST, from a folder that has its four IDX files; and the splits of it that are trained.

Debian's package dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist. The data:
Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from csbp_core.checks import check

CLASSES = 10
SIDE = 28  # pixels of an image, in each direction
PIXEL_MAX = 255

HELD_OUT = 500  # images of each class, beside those of a split, on which training is followed

UNSIGNED_BYTE = 8  # the IDX code of the type of the numbers
IMAGE_DIMENSIONS = 3
LABEL_DIMENSIONS = 1


class Images(NamedTuple):
    """Images with their classes.

    Attributes:
        x: pixels in [0, 1], float32, `[n, 28, 28]`.
        y: classes from 0 to 9, int64, `[n]`.
    """

    x: Tensor
    y: Tensor

    def at(self, rows: Tensor) -> Images:
        """Those in some rows."""
        return Images(self.x[rows], self.y[rows])

    def to(self, device: str) -> Images:
        """The same on another device."""
        return Images(self.x.to(device), self.y.to(device))


class FashionMNIST(NamedTuple):
    """The official training images and the official test images."""

    train: Images
    test: Images


class Split(NamedTuple):
    """What the networks of a split see of the training images.

    Attributes:
        train: what they are trained on, in random order, every class alike.
        held_out: others, on which training is followed: 500 of each class, or as many as are left.
    """

    train: Images
    held_out: Images


def load(folder: Path, given_as: str) -> FashionMNIST:
    """Read the four files, compressed (.gz) or not.

    Args:
        folder: where they are.
        given_as: the name that it was given by, for the message, such as "--data".

    Raises ValueError, one line, that names the folder or the file and what is wrong with it.
    """
    if not folder.is_dir():
        raise ValueError(f"{given_as} = {folder}: must be a folder with the files of Fashion-MNIST")
    return FashionMNIST(_images(folder, given_as, "train"), _images(folder, given_as, "t10k"))


def split(images: Images, number: int, per_class: int) -> Split:
    """The images of a split, the same for the same number.

    Args:
        images: the official training images, or as many as there are.
        number: of the split, >= 0.
        per_class: how many of each class it trains on, >= 1.

    Raises ValueError, one line, where a class has too few images.
    """
    check("split", number, "[0, inf)", integer=True)
    check("images of a class", per_class, "[1, inf)", integer=True)
    y = images.y.numpy()
    order = np.random.default_rng(number).permutation(len(y))
    place = np.empty(len(y), dtype=int)  # of each image of the order among those of its class
    for label in range(CLASSES):
        members = np.flatnonzero(y[order] == label)
        if len(members) < per_class:
            raise ValueError(
                f"images of a class = {per_class}: class {label} has no more than {len(members)}"
            )
        place[members] = np.arange(len(members))
    is_train = place < per_class
    is_held_out = ~is_train & (place < per_class + HELD_OUT)
    return Split(
        train=images.at(torch.from_numpy(order[is_train])),
        held_out=images.at(torch.from_numpy(order[is_held_out])),
    )


def _images(folder: Path, given_as: str, part: str) -> Images:
    """The images of a part of the data, "train" or "t10k", with their classes."""
    image_file = _file(folder, given_as, f"{part}-images-idx3-ubyte")
    label_file = _file(folder, given_as, f"{part}-labels-idx1-ubyte")
    pixels = read_idx(image_file, IMAGE_DIMENSIONS)
    labels = read_idx(label_file, LABEL_DIMENSIONS)
    if pixels.shape[1:] != (SIDE, SIDE):
        height, width = pixels.shape[1:]
        raise ValueError(f"{image_file}: images must have 28 x 28 pixels, not {height} x {width}")
    if len(pixels) != len(labels):
        raise ValueError(
            f"{label_file}: must have a label for each of {len(pixels)} images, not {len(labels)}"
        )
    if labels.max(initial=0) >= CLASSES:
        raise ValueError(f"{label_file}: labels must be from 0 to 9, not {labels.max()}")
    x = torch.from_numpy(pixels.astype(np.float32) / PIXEL_MAX)
    y = torch.from_numpy(labels.astype(np.int64))
    return Images(x, y)


def _file(folder: Path, given_as: str, file_name: str) -> Path:
    """A file of the data, compressed or not."""
    for path in (folder / file_name, folder / f"{file_name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{given_as} = {folder}: has no file {file_name} and no {file_name}.gz")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The numbers of an IDX file of unsigned bytes.

    Its head is two zero bytes, a byte 8 for the type, a byte that counts the dimensions, and the
    size of each as a big-endian integer of 32 bits; the numbers follow, the last dimension fastest.

    Args:
        path: of the file; one that ends in .gz is decompressed.
        dimensions: how many it must have.

    Returns uint8, of the shape in the head. Raises ValueError, one line, for any other file.
    """
    content = _content(path)
    length_of_head = 4 + 4 * dimensions
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if len(content) < length_of_head or content[:4] != magic:
        raise ValueError(
            f"{path}: must be an IDX file of bytes in {dimensions} dimensions, "
            f"whose first bytes are {magic.hex(' ')}, not {content[:4].hex(' ')}"
        )
    shape = struct.unpack_from(f">{dimensions}I", content, offset=4)
    found = len(content) - length_of_head
    if found != math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise ValueError(f"{path}: its head tells {sizes} numbers, but it has {found}")
    return np.frombuffer(content, np.uint8, offset=length_of_head).reshape(shape)


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed if need be."""
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
