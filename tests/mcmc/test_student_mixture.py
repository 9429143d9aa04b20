"""The mixture of Student t densities: density, draws and fit."""

import math

import pytest
import torch
from helpers import LIMIT, make_generator

from sbi_aalr.mcmc.student_mixture import build, draw_offset, log_density, sample

# Degrees of freedom.
DOF = 4


def make_mixture(dtype=torch.float64):
    """Two mixtures of two components in two dimensions."""
    weight = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=dtype)
    mean = torch.tensor([[[-2.0, 0], [1, 1]], [[0, 3], [0, -3]]], dtype=dtype)
    cholesky = torch.tensor([[1.0, 0.0], [0.5, 0.4]], dtype=dtype)
    scale = torch.tensor([[1.0, 0.5], [2.0, 1.0]], dtype=dtype)[..., None, None]
    return build(weight.log(), mean, scale * cholesky)


def test_density_in_one_dimension_is_that_of_torch():
    mean = torch.tensor([[[-1.0], [2.0]]], dtype=torch.float64)
    scale = torch.tensor([[0.5, 3.0]], dtype=torch.float64)
    weight = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    mixture = build(weight.log(), mean, scale[..., None, None])
    theta = torch.linspace(-20, 20, 101, dtype=torch.float64).reshape(-1, 1, 1)
    student = torch.distributions.StudentT(DOF, mean[0, :, 0], scale[0])
    expected = (student.log_prob(theta[:, 0]) + weight[0].log()).logsumexp(dim=1)
    torch.testing.assert_close(log_density(mixture, theta)[:, 0], expected)


def test_density_integrates_to_one_for_each_observation():
    grid = torch.linspace(-60, 60, 1201, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid).unsqueeze(1).expand(-1, 2, -1)
    total = log_density(make_mixture(), points).exp().sum(dim=0) * 0.1**2
    assert total.tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_density_in_high_dimensions_by_hand():
    dim = 50
    mean = torch.ones(1, 1, dim, dtype=torch.float64)
    cholesky = 2 * torch.eye(dim, dtype=torch.float64).expand(1, 1, dim, dim)
    mixture = build(torch.zeros(1, 1, dtype=torch.float64), mean, cholesky)
    at = torch.full((1, 1, dim), 3.0, dtype=torch.float64)
    expected = (
        math.lgamma((DOF + dim) / 2)
        - math.lgamma(DOF / 2)
        - dim / 2 * math.log(DOF * math.pi)
        - dim * math.log(2)
        - (DOF + dim) / 2 * math.log1p(dim / DOF)
    )
    assert log_density(mixture, at).item() == pytest.approx(expected)


def count_in_boxes(draws):
    """Share of draws in each unit square of a grid."""
    edges = torch.arange(-6, 6.5, 1.0, dtype=draws.dtype)
    cell = torch.bucketize(draws.contiguous(), edges)
    index = cell[:, 0] * (len(edges) + 1) + cell[:, 1]
    share = index.bincount(minlength=(len(edges) + 1) ** 2) / len(draws)
    return share.unflatten(0, (len(edges) + 1, -1))[1:-1, 1:-1]


def test_samples_match_the_density():
    """Shares of draws in unit squares against integrals of the density."""
    mixture, number = make_mixture(), 100_000
    draws = sample(make_generator(), mixture, number)
    assert draws.shape == (number, 2, 2)
    middle = torch.arange(-5.95, 6, 0.1, dtype=torch.float64)
    grid = torch.cartesian_prod(middle, middle).unsqueeze(1).expand(-1, 2, -1)
    density = log_density(mixture, grid).exp() * 0.1**2
    for observation in range(2):
        fine = density[:, observation].reshape(12, 10, 12, 10)
        expected = fine.sum(dim=(1, 3))
        counted = count_in_boxes(draws[:, observation])
        error = (counted - expected) / (expected / number).sqrt()
        usual = expected > 1e-4
        assert error[usual].abs().max() < LIMIT
        other = count_in_boxes(draws[:, 1 - observation])
        wrong = (other - expected) / (expected / number).sqrt()
        assert wrong[usual].abs().max() > 10 * LIMIT


def test_samples_have_the_mean_of_the_mixture():
    draws = sample(make_generator(), make_mixture(), 100_000)
    expected = torch.tensor([[0.4, 0.8], [0.0, 0.0]], dtype=torch.float64)
    error = (draws.mean(dim=0) - expected) / (draws.std(dim=0) / 100_000**0.5)
    assert error.abs().max() < LIMIT


def test_components_are_drawn_by_their_weights():
    _, rows = draw_offset(make_generator(), make_mixture(), 20_000)
    share = [(rows[:, 0] == 1).double().mean(), (rows[:, 1] == 3).double().mean()]
    assert rows[:, 0].max() <= 1 and rows[:, 1].min() >= 2
    assert share == pytest.approx([0.8, 0.5], abs=0.02)


def test_offsets_have_the_shape_of_their_component():
    mixture = make_mixture()
    offset, rows = draw_offset(make_generator(), mixture, 200_000)
    for observation, component in ((0, 1), (1, 2)):
        own = offset[rows[:, observation] == component, observation]
        root = mixture.root[observation].unflatten(-1, (2, 2))
        cholesky = root[:, component - 2 * observation].T
        torch.testing.assert_close(
            own.T.cov(), cholesky @ cholesky.T, rtol=0.05, atol=0
        )
