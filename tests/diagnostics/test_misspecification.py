import warnings

import numpy as np
import pytest
import torch

from sbi_aalr.diagnostics import measure_misspecification, warn_if_misspecified
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.seeding import seeded
from sbi_aalr.simulators import SLCP


def draw_heavy(count, seed):
    """Student's t with two degrees of freedom in three correlated features."""
    with seeded(seed):
        x = torch.distributions.StudentT(2.0).sample((count, 3))
        return x @ torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 50.0], [0.0, 0.0, 1.0]])


def test_p_values_of_further_simulations_are_uniform_even_with_heavy_tails():
    found = measure_misspecification(draw_heavy(1_000, 1), draw_heavy(2_000, 2))
    assert found.num_held_out == 1_000
    for level in (0.05, 0.5):
        # Two samples of 1,000 are compared.
        error = (2 * level * (1 - level) / 1_000) ** 0.5
        assert abs((found.p_value <= level).mean() - level) < 5 * error
    # One in a thousand is farther than the farthest of a thousand.
    assert found.far.sum() <= 6


def test_distance_is_small_for_a_simulation_and_large_elsewhere():
    x = draw_heavy(2_000, 2)
    x_o = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1e5, 0.0]])
    found = measure_misspecification(x_o, x)
    assert found.far.tolist() == [False, True]
    assert found.distance[0] < found.typical < found.largest < found.distance[1]
    assert found.p_value[1] == pytest.approx(1 / 1_001)


def test_units_and_images_make_no_difference():
    x_o, x = draw_heavy(5, 1), draw_heavy(400, 2)
    plain = measure_misspecification(x_o, x)
    scaled = measure_misspecification(1e4 * x_o + 7, 1e4 * x + 7)
    np.testing.assert_allclose(plain.distance, scaled.distance, rtol=1e-3)
    image = measure_misspecification(x_o.reshape(5, 3, 1), x.reshape(400, 3, 1))
    np.testing.assert_array_equal(plain.distance, image.distance)


def test_constant_feature_does_not_divide_by_zero():
    x = torch.cat((draw_heavy(200, 1), torch.ones(200, 1)), dim=1)
    inside, outside = x[:1].clone(), x[:1].clone()
    outside[0, 3] = 2.0
    found = measure_misspecification(torch.cat((inside, outside)), x)
    assert found.far.tolist() == [False, True]


def test_counts_have_their_equals_and_a_typical_distance_of_zero():
    with seeded(1):
        x = torch.poisson(torch.full((400, 1), 3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = warn_if_misspecified(x[:2], x)
    assert found.typical == 0 and not found.far.any()
    with pytest.warns(FarObservationWarning, match="interquartile ranges") as w:
        warn_if_misspecified(torch.tensor([[90.0]]), x)
    assert w[0].message.value == float("inf")


def test_warning_says_how_far_and_what_to_do():
    slcp = SLCP()
    with seeded(1):
        x = slcp.simulate(slcp.prior.sample((2_000,)))
        x_o = slcp.simulate(slcp.true_parameters[None])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = warn_if_misspecified(x_o, x)
    assert not found.far.any()
    with pytest.warns(FarObservationWarning, match="1,?000 simulations held out") as w:
        found = warn_if_misspecified(torch.cat((x_o, 1e3 * x_o)), x)
    assert w[0].filename == __file__
    assert w[0].message.value == pytest.approx(found.distance[1] / found.typical)
    assert "1 of 2 observations, the worst is number 1" in str(w[0].message)
    assert "check units" in str(w[0].message)


def test_what_does_not_fit_is_refused():
    x = draw_heavy(200, 1)
    with pytest.raises(ValueError, match=r"rows of shape \(3,\) as `x`, got \(2,\)"):
        measure_misspecification(x[:, :2], x)
    with pytest.raises(ValueError, match="`x` must have at least 100 rows, got 99"):
        measure_misspecification(x, x[:99])
    with pytest.raises(ValueError, match="`x_o` must be finite"):
        measure_misspecification(x * torch.nan, x)
    with pytest.raises(ValueError, match="`x_o` must have one row an observation"):
        measure_misspecification(x[0], x)
