import numpy as np
import pytest

from sbi_aalr.diagnostics.rank_ecdf import GRID, find_band, subtract_uniform


def test_differences_by_hand():
    difference = subtract_uniform(np.array([0.5, 0.0, 0.5, 1.0]))
    assert difference[0] == 0.25 and difference[-1] == 0
    assert difference[49] == pytest.approx(0.25 - GRID[49])
    assert difference[50] == pytest.approx(0.75 - GRID[50])


def count_outside(num_curves, power, num_trials=400, count=100):
    """How often at least one curve leaves its band."""
    generator = np.random.default_rng(0)
    band = find_band(count, num_curves)
    outside = 0
    for _ in range(num_trials):
        ranks = generator.uniform(size=(num_curves, count)) ** power
        curves = [subtract_uniform(curve) for curve in ranks]
        outside += np.abs(curves).max() > band
    return outside / num_trials


@pytest.mark.parametrize("num_curves", [1, 10])
def test_band_holds_uniform_ranks_and_no_others(num_curves):
    # 95 % stay, within 5 standard errors; a grid sees a little less than all levels.
    error = (0.05 * 0.95 / 400) ** 0.5
    assert 0.005 < count_outside(num_curves, power=1) < 0.05 + 5 * error
    assert count_outside(num_curves, power=2) > 0.9
