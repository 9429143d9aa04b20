"""What kernels read off draws, by hand."""

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc.shapes import covariance_cholesky, optimal_scale, spread


def test_spread_is_the_standard_deviation_over_draws():
    draws = torch.tensor([[[1.0, 0.0]], [[3.0, 8.0]]])
    assert spread(draws).tolist() == [[1.0, 4.0]]


def test_spread_of_a_constant_is_one():
    assert spread(torch.full((5, 2, 3), 7.0)).tolist() == [[1.0] * 3] * 2
    assert spread(torch.zeros(1, 1, 1)).tolist() == [[1.0]]


def test_covariance_is_that_of_each_observation():
    draws = torch.randn(50, 2, 3, generator=make_generator())
    draws[:, 1] = draws[:, 1] @ torch.randn(3, 3, generator=make_generator(1))
    factor = covariance_cholesky(draws)
    assert torch.equal(factor, factor.tril())
    for observation in range(2):
        expected = draws[:, observation].T.cov()
        torch.testing.assert_close(
            factor[observation] @ factor[observation].T, expected, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_covariance_of_draws_in_a_plane_has_a_factor(unit):
    draws = torch.randn(20, 1, 1, generator=make_generator()) * torch.ones(3) * unit
    factor = covariance_cholesky(draws)[0]
    assert (factor.diagonal() > 0).all()
    # The plane shows: along it, draws are far wider than across.
    assert factor[0, 0] > 10 * factor[1, 1]


def test_covariance_of_too_few_draws_has_a_factor():
    for number in (1, 2):
        draws = torch.randn(number, 2, 4, generator=make_generator())
        assert covariance_cholesky(draws).isfinite().all()


@pytest.mark.parametrize(("dim", "expected"), [(1, 2.38), (4, 1.19)])
def test_scale_is_that_of_roberts_gelman_and_gilks(dim, expected):
    assert optimal_scale(torch.zeros(10, 2, dim)).tolist() == pytest.approx(
        [expected] * 2
    )


def test_covariance_of_chains_that_ran_away_is_finite():
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(50, 2, 3, generator=generator)
    # Of the second observation; its squares and their sums are infinite in float32.
    far = draws * torch.tensor([[[1.0], [3e37]]])
    factor = covariance_cholesky(far)
    near = covariance_cholesky(draws)
    torch.testing.assert_close(factor, near * torch.tensor([1.0, 3e37]).view(2, 1, 1))
