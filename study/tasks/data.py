"""Data that is always there: digits, spike times on smooth random manifolds, XOR."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

TRAIN = 1000
VALIDATION = 297
TEST = 500

PIXEL_MAX = 16  # of scikit-learn's digits


class Data(NamedTuple):
    """Samples to train on, to choose settings by, and to test on.

    x holds inputs presented at every time step, `[n, *]`, or spikes, `[n, T, units]`; y the
    classes, `[n]`.
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor

    def to(self, dtype: torch.dtype) -> Data:
        """The same samples, their inputs as another type."""
        return self._replace(
            x_train=self.x_train.to(dtype),
            x_val=self.x_val.to(dtype),
            x_test=self.x_test.to(dtype),
        )


def parted(x: np.ndarray, y: np.ndarray, split: int) -> Data:
    """Split 1,797 samples, every class in proportion.

    Args:
        x: inputs, `[1797, *]`.
        y: classes, `[1797]`, integers.
        split: the number of the split, >= 0; the same number splits in the same way.
    """
    samples = np.arange(len(y))
    rest, test = train_test_split(samples, test_size=TEST, stratify=y, random_state=split)
    train, validation = train_test_split(
        rest, test_size=VALIDATION, stratify=y[rest], random_state=split
    )
    inputs = torch.as_tensor(x, dtype=torch.float32)
    classes = torch.as_tensor(y)
    return Data(
        x_train=inputs[train],
        y_train=classes[train],
        x_val=inputs[validation],
        y_val=classes[validation],
        x_test=inputs[test],
        y_test=classes[test],
    )


def digits(split: int = 0) -> Data:
    """scikit-learn's handwritten digits, pixels in [0, 1]: x `[n, 64]`."""
    x, y = load_digits(return_X_y=True)
    return parted(x / PIXEL_MAX, y, split)


def digit_images(split: int = 0) -> Data:
    """The same digits as images, in the same order: x `[n, 1, 8, 8]`."""
    x, y = load_digits(return_X_y=True)
    return parted(x.reshape(-1, 1, 8, 8) / PIXEL_MAX, y, split)


def manifold(
    points: np.ndarray,
    units: int,
    alpha: float,
    rng: np.random.Generator,
    cutoff: int = 50,
) -> np.ndarray:
    """Points of the unit cube, on a smooth random manifold that is stretched to fill [0, 1].

    Per unit, with theta and phi uniform in [0, 1)::

        f(x) = prod_d sum_k theta_dk / k**alpha sin(2 pi (k x_d + phi_dk)),    k = 1..cutoff

    Args:
        points: coordinates in [0, 1], `[n, dim]`.
        units: coordinates on the manifold, >= 1.
        alpha: smoothness, > 0; the larger, the smoother.
        rng: the source of theta and phi; the same state gives the same manifold.
        cutoff: waves in each direction, >= 1.

    Returns the manifold's coordinates, `[n, units]`; the smallest of a unit is 0, the largest 1.

    Source: Zenke and Vogels 2021, doi:10.1162/neco_a_01367.

    Example:
        >>> manifold(np.array([[0.0], [0.5]]), 3, 2.0, np.random.default_rng(0)).max(0)
        array([1., 1., 1.])
    """
    k = np.arange(1, cutoff + 1)
    theta, phi = rng.random((2, units, points.shape[1], cutoff))
    waves = np.sin(2 * math.pi * (points[:, None, :, None] * k + phi))  # [n, units, dim, k]
    f = (theta / k**alpha * waves).sum(-1).prod(-1)  # [n, units]
    return (f - f.min(0)) / (f.max(0) - f.min(0))


def randman(
    classes: int = 5,
    units: int = 20,
    dim: int = 1,
    alpha: float = 2.0,
    time_steps: int = 20,
    split: int = 0,
) -> Data:
    """Spike times, a random manifold per class: a unit spikes once, at its coordinate times T.

    Args:
        classes: manifolds, >= 2.
        units: input neurons, >= 1.
        dim: dimension of a manifold, >= 1.
        alpha: smoothness of a manifold, > 0.
        time_steps: T, >= 1.
        split: fixes the manifolds, the points on them, and which of these train, validate and test.

    Returns x `[n, T, units]`, 0 or 1.
    """
    rng = np.random.default_rng(split)
    samples = TRAIN + VALIDATION + TEST
    y = np.arange(samples) % classes
    times = np.empty((samples, units))
    for label in range(classes):
        in_class = y == label
        points = rng.random((np.sum(in_class), dim))
        times[in_class] = manifold(points, units, alpha, rng)
    last = time_steps - 1
    step = np.minimum((times * time_steps).astype(int), last)  # [n, units]; a coordinate may be 1
    spikes = np.arange(time_steps)[:, None] == step[:, None]  # [n, T, units]
    return parted(spikes, y, split)


def xor(split: int = 0) -> Data:
    """The four patterns, to be solved: training, validation and test are the same in every split.

    Example:
        >>> xor().y_train
        tensor([0, 1, 1, 0])
    """
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0, 1, 1, 0])
    return Data(x_train=x, y_train=y, x_val=x, y_val=y, x_test=x, y_test=y)
