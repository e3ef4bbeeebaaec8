"""The study's data: how it is split, and what the random manifolds are like."""

import math

import numpy as np
import pytest
import torch

from study import data

SAMPLES = 1797
LABELS = np.arange(SAMPLES) % 10


@pytest.fixture(scope="module")
def numbered():
    """A split of samples that are their own numbers."""
    return data.split(np.arange(SAMPLES)[:, None], LABELS)


@pytest.fixture(scope="module")
def spikes():
    return data.randman()


def inputs_of(samples):
    return samples.x_train, samples.x_val, samples.x_test


def classes_of(samples):
    return samples.y_train, samples.y_val, samples.y_test


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


# how samples are split


def test_parts_have_their_sizes(numbered):
    assert [len(x) for x in inputs_of(numbered)] == [1000, 297, 500]


def test_every_sample_is_in_one_part(numbered):
    assert sorted(torch.cat(inputs_of(numbered)).flatten().tolist()) == list(range(SAMPLES))


def test_samples_keep_their_classes(numbered):
    for x, y in zip(inputs_of(numbered), classes_of(numbered), strict=True):
        assert np.array_equal(y, LABELS[x.flatten().long()])


def test_every_class_is_in_every_part_in_proportion(numbered):
    for y in classes_of(numbered):
        assert np.ptp(np.bincount(y)) <= 1


def test_a_split_repeats(numbered):
    assert same(numbered, data.split(np.arange(SAMPLES)[:, None], LABELS))


# digits


def test_digits_are_64_pixels_between_0_and_1():
    x = data.digits().x_train
    assert x.shape == (1000, 64)
    assert (x.min(), x.max()) == (0, 1)


def test_digit_images_are_the_same_digits():
    assert torch.equal(data.digit_images().x_test.flatten(1), data.digits().x_test)


# spike times on random manifolds


def test_every_unit_spikes_once(spikes):
    for x in inputs_of(spikes):
        assert x.shape[1:] == (20, 20)
        assert torch.equal(x.sum(1), torch.ones(len(x), 20))


def test_spike_times_repeat(spikes):
    assert same(spikes, data.randman())


def test_spike_times_depend_on_the_seed(spikes):
    assert not torch.equal(spikes.x_train, data.randman(seed=1).x_train)


def test_spikes_come_at_every_time_step(spikes):
    times = spikes.x_train.argmax(1)
    assert (times.min(), times.max()) == (0, 19)


def test_classes_lie_on_curves_of_their_own(spikes):
    times = spikes.x_train.argmax(1).float()
    distances = torch.cdist(times, times).fill_diagonal_(math.inf)
    classes_of_neighbours = spikes.y_train[distances.argmin(1)]
    assert (classes_of_neighbours == spikes.y_train).float().mean() > 0.9


# manifolds

GRID = np.linspace(0, 1, 2001)[:, None]


def curve(alpha, units=50, **settings):
    return data.manifold(GRID, units, alpha, np.random.default_rng(0), **settings)


def test_a_manifold_fills_the_unit_cube():
    smooth = curve(alpha=2.0)
    assert np.array_equal(smooth.min(0), np.zeros(50))
    assert np.array_equal(smooth.max(0), np.ones(50))


def test_a_manifold_is_smooth():
    assert np.abs(np.diff(curve(alpha=2.0), axis=0)).max() < 0.02


def test_a_smaller_alpha_is_rougher():
    smooth = np.abs(np.diff(curve(alpha=2.0), axis=0)).sum()
    rough = np.abs(np.diff(curve(alpha=0.5), axis=0)).sum()
    assert rough > 5 * smooth


def test_with_a_cutoff_of_1_a_manifold_is_a_single_wave():
    single = curve(alpha=2.0, units=5, cutoff=1)
    x = 2 * np.pi * GRID[:, 0]
    waves = np.stack([np.ones(2001), np.sin(x), np.cos(x)], axis=1)  # a shift is a mixture of two
    fit = waves @ np.linalg.lstsq(waves, single)[0]
    np.testing.assert_allclose(fit, single, atol=1e-12)
