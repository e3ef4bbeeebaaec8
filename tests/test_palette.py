"""The colours of the figures: apart from each other for every eye, in grey, and on paper."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from csbp_notebooks import palette

MARKS = {
    name: to_rgb(getattr(palette, name))
    for name in ("PUBLISHED", "CSBP", "REST", "CRITICAL", "CSBP_MEMBRANE", "CONTROL", "BP")
}
GROUNDS = {name: to_rgb(getattr(palette, name)) for name in ("NEUTRAL", "WINDOW")}

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(  # of linear sRGB, white point D65
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def linear(colour):
    colour = np.asarray(colour)
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb):
    """L*, a* and b* of a colour in linear RGB."""
    x, y, z = TO_XYZ @ np.clip(linear_rgb, 0, 1) / TO_XYZ.sum(axis=1)
    f = [np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(colour):
    return TO_XYZ[1] @ linear(colour)


def test_the_conversion_knows_white_and_red():
    np.testing.assert_allclose(lab(linear((1, 1, 1))), (100, 0, 0), atol=0.05)
    np.testing.assert_allclose(lab(linear((1, 0, 0))), (53.24, 80.09, 67.20), atol=0.1)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_any_two_colours_are_apart_for_every_eye(deficiency):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = {name: lab(matrix @ linear(rgb)) for name, rgb in (MARKS | GROUNDS).items()}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 14, (one, other)


def test_methods_are_apart_in_grey():
    lightness = sorted(lab(linear(MARKS[name]))[0] for name in ("CSBP", "CONTROL", "BP"))
    assert np.diff(lightness).min() > 6


def test_lines_are_apart_in_grey_by_their_dashes():
    dashes = {line["linestyle"] for line in (palette.CRITICAL_LINE, palette.REST_LINE)}
    assert len(dashes | {"-"}) == 3


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_has_three_times_less_light_than_paper(name):
    assert 1.05 / (luminance(MARKS[name]) + 0.05) >= 3
