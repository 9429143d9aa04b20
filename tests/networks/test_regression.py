"""Ridge regression in closed form: right with many rows, careful with few."""

import pytest
import torch

from sbi_aalr.networks.regression import regress


def draw(num_rows, num_features=3, num_noise=0, scale=1.0, seed=1):
    """Features, of which the last are noise, and two targets that are linear in them.

    The residuals are correlated.
    """
    torch.manual_seed(seed)
    features = torch.randn(num_rows, num_features + num_noise) * scale + 2.0
    slope = torch.randn(num_features, 2)
    slope = torch.cat((slope, torch.zeros(num_noise, 2))) / scale
    mixing = torch.tensor([[0.5, 0.0], [0.4, 0.1]])
    noise = torch.randn(num_rows, 2) @ mixing.T
    return features, features @ slope + 1.5 + noise, slope, mixing @ mixing.T


def test_many_rows_give_ordinary_least_squares():
    features, targets, slope, _ = draw(5_000)
    found = regress(features, targets)
    design = torch.cat((features, torch.ones(len(features), 1)), dim=1).double()
    expected = torch.linalg.lstsq(design, targets.double()).solution.float()
    torch.testing.assert_close(found.slope, expected[:-1], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(found.intercept, expected[-1], atol=5e-3, rtol=1e-3)
    # Both know the truth as well as 5,000 rows allow, each slope to 0.5 / sqrt(5000).
    assert (found.slope - slope).abs().max() < 5 * 0.65 / 5_000**0.5
    assert {part.dtype for part in found} == {torch.float32}


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_do_not_matter(factor):
    features, targets, _, _ = draw(300)
    first, second = regress(features, targets), regress(factor * features, targets)
    torch.testing.assert_close(second.slope * factor, first.slope, rtol=1e-3, atol=1e-4)
    third = regress(features, factor * targets)
    torch.testing.assert_close(third.slope / factor, first.slope, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        third.whitening * factor, first.whitening, rtol=1e-2, atol=1e-3
    )


def test_slopes_of_noise_shrink():
    features, targets, slope, _ = draw(60, num_features=1, num_noise=40)
    design = torch.cat((features, torch.ones(len(features), 1)), dim=1)
    least_squares = torch.linalg.lstsq(design, targets).solution[:-1]
    found = regress(features, targets).slope
    assert found[1:].norm() < 0.7 * least_squares[1:].norm()
    assert (found - slope).norm() < 0.8 * (least_squares - slope).norm()


def test_pure_noise_gives_the_mean():
    torch.manual_seed(2)
    features, targets = torch.randn(500, 30), torch.randn(500, 2) + 3.0
    found = regress(features, targets)
    # Ordinary least squares would have a norm near sqrt(2 * 30 / 500) = 0.35.
    assert found.slope.norm() < 0.2
    predicted = features @ found.slope + found.intercept
    assert (predicted - 3.0).abs().mean() < 0.1


def test_each_target_has_a_penalty_of_its_own():
    torch.manual_seed(3)
    features = torch.randn(200, 50)
    clear = features @ torch.ones(50, 1)
    found = regress(features, torch.cat((clear, torch.randn(200, 1)), dim=1))
    torch.testing.assert_close(found.slope[:, 0], torch.ones(50), atol=1e-3, rtol=0)
    assert found.slope[:, 1].norm() < 0.3


@pytest.mark.parametrize("num_features", [0, 3])
def test_whitening_makes_residuals_white(num_features):
    features, targets, _, covariance = draw(20_000)
    features = features[:, :num_features]
    found = regress(features, targets)
    residuals = targets - features @ found.slope - found.intercept
    white = residuals @ found.whitening.T
    torch.testing.assert_close(white.T.cov(), torch.eye(2), atol=1e-2, rtol=0)
    assert white.mean(dim=0).abs().max() < 1e-3
    assert found.whitening[0, 1] == 0
    if num_features:
        inverse = torch.linalg.inv(found.whitening)
        torch.testing.assert_close(inverse @ inverse.T, covariance, atol=0.02, rtol=0)


def test_no_features_give_mean_and_covariance():
    _, targets, _, _ = draw(400)
    found = regress(targets[:, :0], targets)
    assert found.slope.shape == (0, 2)
    torch.testing.assert_close(found.intercept, targets.mean(dim=0))


def test_constant_features_and_repeated_ones_are_harmless():
    features, targets, _, _ = draw(300)
    both = torch.cat((features, features, torch.full((300, 1), 7.0)), dim=1)
    first, second = regress(features, targets), regress(both, targets)
    assert all(torch.isfinite(part).all() for part in second)
    torch.testing.assert_close(
        both @ second.slope + second.intercept,
        features @ first.slope + first.intercept,
        atol=0.02,
        rtol=0.01,
    )


@pytest.mark.parametrize("num_rows", [2, 3, 8])
def test_fewer_rows_than_features_stay_finite(num_rows):
    features, targets, _, _ = draw(num_rows, num_features=20)
    found = regress(features, targets)
    assert all(torch.isfinite(part).all() for part in found)


def test_exact_targets_leave_a_residual():
    features, _, _, _ = draw(300)
    found = regress(features, features @ torch.ones(3, 2))
    assert all(torch.isfinite(part).all() for part in found)
    # A share of 1e-9 of the variance at least, thirty thousand standard deviations.
    assert found.whitening.abs().max() < 1e5


def test_constant_targets_stay_finite():
    features, _, _, _ = draw(300)
    found = regress(features, torch.full((300, 2), 4.0))
    assert all(torch.isfinite(part).all() for part in found)
    torch.testing.assert_close(found.intercept, torch.full((2,), 4.0))
