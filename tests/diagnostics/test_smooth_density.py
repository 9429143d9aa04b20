"""Densities of draws: right, whole up to bounds, and without islands."""

import numpy as np
import pytest
from scipy.stats import norm

from sbi_aalr.diagnostics.smooth_density import (
    find_window,
    smooth_line,
    smooth_plane,
)


def draw(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count)


def count_islands(plane, level):
    from scipy.ndimage import label

    return label(plane.density > level)[1]


def smooth(pairs, shares=(0.95, 0.68)):
    window = tuple(find_window([pairs[:, axis]]) for axis in (0, 1))
    return smooth_plane(pairs, window, len(pairs), shares)


def test_density_of_a_normal_is_found():
    values = draw(4_000)
    heights, edges = smooth_line(values, find_window([values]), len(values))
    place = (edges[1:] + edges[:-1]) / 2
    assert (heights * np.diff(edges)).sum() == pytest.approx(1)
    assert np.abs(heights - norm.pdf(place)).max() < 0.03


def test_two_modes_are_not_one_wide_one():
    values = np.concatenate((draw(2_000) * 0.1 - 3, draw(2_000, 1) * 0.1 + 3))
    heights, edges = smooth_line(values, find_window([values]), len(values))
    assert heights.max() == pytest.approx(0.5 * norm.pdf(0) / 0.1, rel=0.1)
    middle = heights[np.searchsorted(edges, 0.0)]
    assert middle < 1e-6


@pytest.mark.parametrize("power", [1, 2])
def test_density_does_not_fall_off_at_a_bound(power):
    values = np.random.default_rng(0).random(4_000) ** power
    heights, edges = smooth_line(values, (-0.5, 1.5), len(values))
    inside = np.flatnonzero(heights)
    assert edges[inside[0]] > -0.01 and edges[inside[-1] + 1] < 1.01
    # Of a uniform variable it is 1 throughout, of its square it is largest at zero.
    assert heights[inside[0]] > (0.9 if power == 1 else 5)
    assert heights[inside[-1]] == pytest.approx(1 / power, rel=0.15)


def test_contours_are_closed_at_a_bound_and_hold_their_shares():
    rng = np.random.default_rng(0)
    pairs = np.column_stack((rng.standard_normal(4_000), rng.random(4_000)))
    plane = smooth(pairs)
    assert (plane.density[[0, -1]] == 0).all() and (
        plane.density[:, [0, -1]] == 0
    ).all()
    inner = plane.density[1:-1, 1:-1]
    x, y = (
        np.searchsorted(a[1:-1], v) for a, v in zip(plane[:2], pairs.T, strict=True)
    )
    at = inner[np.minimum(y, len(inner) - 1), np.minimum(x, inner.shape[1] - 1)]
    for level, share in zip(plane.levels, (0.95, 0.68), strict=True):
        assert (at >= level).mean() == pytest.approx(share, abs=0.02)
        assert count_islands(plane, level) == 1


def test_kernel_leans_as_the_draws_do():
    first = draw(4_000)
    pairs = np.column_stack((first, first + 0.05 * draw(4_000, 1)))
    plane = smooth(pairs)
    x, y = np.meshgrid(plane.x, plane.y)
    spread = np.sqrt((plane.density * (y - x) ** 2).sum() / plane.density.sum())
    # A kernel along the axes would be several times as wide as the ridge.
    assert spread < 3 * 0.05
    assert count_islands(plane, plane.levels[0]) == 1


def test_draws_far_out_do_not_coarsen_the_rest():
    values = np.append(draw(4_000), 1e6)
    low, high = find_window([values])
    assert high - low < 15
    heights, _ = smooth_line(values, (low, high), len(values))
    assert heights.max() == pytest.approx(norm.pdf(0), rel=0.1)


def test_draws_of_float32_far_from_zero_have_enough_bins():
    """Between 6,563 and the next number of float32 lie 5e-4."""
    values = (6563 + 0.02 * np.random.default_rng(1).normal(size=2_000)).astype("f4")
    window = float(values.min()), float(values.max())
    heights, edges = smooth_line(values, window, 2_000)
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
    pairs = np.stack((values, values[::-1]), axis=1)
    plane = smooth_plane(pairs, (window, window), 2_000, (0.95, 0.68))
    assert np.isfinite(plane.density).all()
