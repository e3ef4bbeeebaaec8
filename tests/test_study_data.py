"""The study's data: how it is split, and what the random manifolds are like."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from study.tasks import data

SAMPLES = 1797
LABELS = np.arange(SAMPLES) % 10
# The first samples of every part, for these classes. With others the study has to be repeated.
FIRST = [[41, 1033, 1064, 1738, 1049], [73, 1107, 114, 989, 960], [653, 380, 222, 1626, 1509]]


@pytest.fixture(scope="module")
def numbered():
    """A split of samples that are their own numbers."""
    return data.parted(np.arange(SAMPLES)[:, None], LABELS, 0)


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


def test_the_split_is_that_of_the_committed_results(numbered):
    first = [x[:5].flatten().tolist() for x in inputs_of(numbered)]
    assert first == FIRST


def test_inputs_are_float32_and_another_type_changes_nothing_else(numbered):
    doubled = numbered.to(torch.float64)
    for before, after in zip(inputs_of(numbered), inputs_of(doubled), strict=True):
        assert (before.dtype, after.dtype) == (torch.float32, torch.float64)
        assert torch.equal(before.double(), after)
    assert same(classes_of(numbered), classes_of(doubled))


def test_a_split_repeats(numbered):
    assert same(numbered, data.parted(np.arange(SAMPLES)[:, None], LABELS, 0))


def test_splits_differ_and_each_holds_every_sample_once():
    rows = [data.parted(np.arange(SAMPLES)[:, None], LABELS, split) for split in (0, 1)]
    for made in rows:
        assert torch.equal(torch.cat(inputs_of(made)).sort(0).values[:, 0], torch.arange(1797.0))
    assert not torch.equal(rows[0].x_test, rows[1].x_test)


# digits


def test_digits_are_64_pixels_between_0_and_1():
    x = data.digits().x_train
    assert x.shape == (1000, 64)
    assert (x.min(), x.max()) == (0, 1)


def test_digits_are_those_of_scikit_learn():
    """Pixel by pixel, wherever the split has put them."""
    pixels, classes = load_digits(return_X_y=True)
    order = data.parted(np.arange(SAMPLES)[:, None], classes, 0)
    loaded = data.digits()
    for x, y, rows in zip(inputs_of(loaded), classes_of(loaded), inputs_of(order), strict=True):
        rows = rows.flatten().int().numpy()
        assert np.array_equal(16 * x.numpy(), pixels[rows])
        assert np.array_equal(y, classes[rows])


def test_digit_images_are_the_same_digits():
    assert data.digit_images().x_train.shape == (1000, 1, 8, 8)
    assert torch.equal(data.digit_images().x_test.flatten(1), data.digits().x_test)


# spike times on random manifolds


def test_every_unit_spikes_once(spikes):
    for x in inputs_of(spikes):
        assert x.shape[1:] == (20, 20)
        assert torch.equal(x.sum(1), torch.ones(len(x), 20))


def test_spike_times_are_split_like_the_digits(spikes):
    assert [len(x) for x in inputs_of(spikes)] == [1000, 297, 500]
    for y in classes_of(spikes):
        assert y.unique().tolist() == [0, 1, 2, 3, 4]
        assert np.ptp(np.bincount(y)) <= 1


def test_spike_times_are_curves_cut_into_time_steps(spikes):
    """Of two classes in turn, each with a manifold of its own, drawn one after the other."""
    made = data.randman(classes=2, units=3, dim=2, alpha=1.5, time_steps=7, split=4)
    rng = np.random.default_rng(4)
    times = np.empty((SAMPLES, 3))
    for label, samples in ((0, 899), (1, 898)):
        points = rng.random((samples, 2))
        times[label::2] = data.manifold(points, 3, 1.5, rng)
    steps = np.clip(np.floor(7 * times), 0, 6)
    rows = data.parted(np.arange(SAMPLES)[:, None], np.arange(SAMPLES) % 2, 4)
    for x, y, row in zip(inputs_of(made), classes_of(made), inputs_of(rows), strict=True):
        row = row.flatten().int().numpy()
        assert np.array_equal(x.argmax(1), steps[row])
        assert np.array_equal(y, row % 2)


def test_without_other_settings_there_are_five_curves_of_20_units_in_20_steps(spikes):
    settings = {"classes": 5, "units": 20, "dim": 1, "alpha": 2.0, "time_steps": 20, "split": 0}
    assert same(spikes, data.randman(**settings))


def test_spike_times_repeat(spikes):
    assert same(spikes, data.randman())


def test_another_split_has_other_spike_times(spikes):
    assert not torch.equal(spikes.x_train, data.randman(split=1).x_train)


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


def test_a_manifold_is_the_product_of_sums_of_waves():
    """The formula of its docstring, wave by wave."""
    points = np.random.default_rng(1).random((7, 2))
    theta, phi = np.random.default_rng(5).random((2, 3, 2, 50))  # [units, dim, k]
    f = np.ones((7, 3))
    for unit in range(3):
        for d in range(2):
            total = 0.0
            for k in range(1, 51):
                wave = np.sin(2 * np.pi * (k * points[:, d] + phi[unit, d, k - 1]))
                total = total + theta[unit, d, k - 1] / k**1.5 * wave
            f[:, unit] *= total
    expected = (f - f.min(0)) / np.ptp(f, axis=0)
    found = data.manifold(points, 3, 1.5, np.random.default_rng(5))
    np.testing.assert_allclose(found, expected, atol=1e-12)


# XOR


def test_xor_has_the_four_patterns_in_every_part():
    patterns = {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 0}
    for x, y in zip(inputs_of(data.xor()), classes_of(data.xor()), strict=True):
        found = {tuple(row): label for row, label in zip(x.tolist(), y.tolist(), strict=True)}
        assert len(x) == 4
        assert found == patterns
