"""Data that is always there: digits, spike times on smooth random manifolds, XOR."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

TRAIN, VALIDATION, TEST = 1000, 297, 500


class Data(NamedTuple):
    """Inputs, `[n, *]` presented at every time step or spikes `[n, T, units]`, and classes `[n]`."""

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor


def split(x: np.ndarray, y: np.ndarray) -> Data:
    """A fixed stratified split of 1,797 samples."""
    rest, test = train_test_split(np.arange(len(y)), test_size=TEST, stratify=y, random_state=0)
    train, validation = train_test_split(rest, test_size=VALIDATION, stratify=y[rest], random_state=0)
    x_all, y_all = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    return Data(*(part[rows] for rows in (train, validation, test) for part in (x_all, y_all)))


def digits(image: bool = False) -> Data:
    """scikit-learn's handwritten digits, pixels in [0, 1]: x `[n, 64]`, or `[n, 1, 8, 8]` as an image."""
    x, y = load_digits(return_X_y=True)
    return split(x.reshape(-1, 1, 8, 8) / 16 if image else x / 16, y)


def manifold(points: np.ndarray, units: int, alpha: float, rng: np.random.Generator, cutoff: int = 50) -> np.ndarray:
    """Points `[n, dim]` of the unit cube on a smooth random manifold, `[n, units]`, standardised to fill [0, 1].

        f(x) = prod_d sum_k theta_dk / k**alpha sin(2 pi (k x_d + phi_dk)),    k = 1..cutoff, per unit

    theta and phi are uniform in [0, 1); the larger alpha, the smoother.
    Source: Zenke and Vogels 2021, doi:10.1162/neco_a_01367.
    """
    k = np.arange(1, cutoff + 1)
    theta, phi = rng.random((2, units, points.shape[1], cutoff))
    waves = np.sin(2 * math.pi * (points[:, None, :, None] * k + phi))  # [n, units, dim, k]
    f = (theta / k**alpha * waves).sum(-1).prod(-1)
    return (f - f.min(0)) / (f.max(0) - f.min(0))


def randman(
    classes: int = 5, units: int = 20, dim: int = 1, alpha: float = 2.0, time_steps: int = 20,
    n: int = TRAIN + VALIDATION + TEST, seed: int = 0,
) -> Data:  # fmt: skip
    """Spike times on a random manifold per class: x `[n, T, units]`, every unit spikes once, at its coordinate times T."""
    rng, y = np.random.default_rng(seed), np.arange(n) % classes
    times = np.empty((n, units))
    for label in range(classes):
        times[y == label] = manifold(rng.random((np.sum(y == label), dim)), units, alpha, rng)
    step = np.minimum((times * time_steps).astype(int), time_steps - 1)  # [n, units]
    return split(np.arange(time_steps)[:, None] == step[:, None], y)


def xor() -> Data:
    """The four patterns, to be solved: training, validation and test are the same."""
    x, y = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])
    return Data(x, y, x, y, x, y)
