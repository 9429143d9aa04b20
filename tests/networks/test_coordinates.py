"""Coordinates of densities: a density in them is one in prior units, by the offset."""

import copy
import math

import pytest
import torch
from linear_gaussian import PRIOR
from sbi.utils import BoxUniform, MultipleIndependent
from torch import distributions as d

from sbi_aalr.networks.coordinates import (
    ThetaCoordinates,
    Whiten,
    XCoordinates,
    choose_logarithms,
    find_steps,
    find_variation,
)
from sbi_aalr.networks.scale import Scale
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform

NUM_DRAWS = 20_000


def make_priors():
    box = BoxUniform(torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 100.0]))
    correlated = d.MultivariateNormal(
        torch.tensor([1.0, -3.0]), torch.tensor([[1.0, 0.8], [0.8, 4.0]])
    )
    parts = [
        BoxUniform(-torch.ones(1), 2 * torch.ones(1)),
        d.Exponential(torch.ones(1)),
        d.Normal(torch.zeros(1), torch.ones(1)),
    ]
    lognormal = d.LogNormal(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.5]))
    return {
        "bounded": box,
        "unbounded": correlated,
        "mixed": MultipleIndependent(parts),
        "log-normal": d.Independent(lognormal, 1),
        "positive": d.Independent(d.Gamma(torch.full((2,), 2.0), torch.ones(2)), 1),
    }


PRIORS = make_priors()


def make_coordinates(name, num_rows=2_000):
    torch.manual_seed(1)
    prior = PRIORS[name]
    theta = prior.sample((num_rows,))
    return prior, ThetaCoordinates(theta, find_transform(prior), LogPrior(prior))


def test_prior_that_cannot_be_copied_is_shared():
    """Such as sbi's `RestrictedPrior`, which holds what a gradient may flow through."""
    prior, coordinates = make_coordinates("unbounded")
    prior.threshold = torch.ones(1, requires_grad=True) + 1
    try:
        twin = copy.deepcopy(coordinates)
        assert torch.equal(twin(torch.ones(3, 2)), coordinates(torch.ones(3, 2)))
    finally:
        del prior.threshold


@pytest.mark.parametrize("name", PRIORS)
def test_density_in_coordinates_has_mean_ratio_one(name):
    prior, coordinates = make_coordinates(name)
    theta = prior.sample((NUM_DRAWS,))
    rows = coordinates(theta)
    inner, offset = rows[:, :-1], rows[:, -1]
    # Narrower than the prior, or the ratio would have no variance.
    ratio = (d.Normal(0.2, 0.6).log_prob(inner).sum(dim=1) + offset).exp().double()
    error = float(ratio.std()) / NUM_DRAWS**0.5
    assert error < 0.05
    assert abs(float(ratio.mean()) - 1) < 5 * error
    # The control: without the offset it is no ratio.
    wrong = d.Normal(0.2, 0.6).log_prob(inner).sum(dim=1).exp()
    assert abs(float(wrong.mean()) - 1) > 0.1


@pytest.mark.parametrize("name", PRIORS)
def test_whitening_stretches_by_its_determinant(name):
    prior, coordinates = make_coordinates(name)
    dim = coordinates.location.numel()
    matrix = torch.eye(dim) * 1.4
    matrix[-1, 0] = 0.5
    coordinates.whiten.matrix.copy_(matrix)
    rows = coordinates(prior.sample((NUM_DRAWS,)))
    log_ratio = d.Normal(0.0, 0.8).log_prob(rows[:, :-1]).sum(dim=1) + rows[:, -1]
    ratio = (log_ratio.double() + dim * math.log(1.4)).exp()
    error = float(ratio.std()) / NUM_DRAWS**0.5
    assert error < 0.05 and abs(float(ratio.mean()) - 1) < 5 * error


@pytest.mark.parametrize("name", PRIORS)
def test_inverse_brings_parameters_back(name):
    prior, coordinates = make_coordinates(name)
    dim = coordinates.location.numel()
    coordinates.whiten.matrix.copy_(torch.eye(dim) * 3 + torch.ones(dim, dim).tril(-1))
    theta = prior.sample((600,))
    found = coordinates.invert(coordinates(theta)[:, :-1])
    torch.testing.assert_close(found, theta, rtol=1e-3, atol=1e-4)
    grid = coordinates.invert(coordinates(theta)[:, :-1].reshape(20, 30, dim))
    torch.testing.assert_close(grid.reshape(600, dim), found)


@pytest.mark.parametrize("name", PRIORS)
def test_coordinates_are_of_order_one(name):
    prior, coordinates = make_coordinates(name)
    inner = coordinates(prior.sample((NUM_DRAWS,)))[:, :-1]
    assert inner.dtype == torch.float32
    assert inner.mean(dim=0).abs().max() < 0.15
    assert (inner.std(dim=0) - 1).abs().max() < 0.15


@pytest.mark.parametrize("name", ["bounded", "mixed", "log-normal", "positive"])
def test_outside_of_the_support_all_is_finite(name):
    _, coordinates = make_coordinates(name)
    dim = coordinates.location.numel()
    far = torch.tensor([-1e30, -1e3, -5.0, 0.0, 1e3, 1e30]).unsqueeze(1).expand(-1, dim)
    assert torch.isfinite(coordinates(far)).all()


@pytest.mark.parametrize("name", PRIORS)
def test_draws_of_wild_coordinates_are_in_the_support(name):
    prior, coordinates = make_coordinates(name)
    dim = coordinates.location.numel()
    theta = coordinates.invert(5 * torch.randn(1_000, dim))
    assert torch.isfinite(LogPrior(prior)(theta)).float().mean() > 0.95


def test_constant_parameter_leaves_all_finite():
    theta = PRIOR.sample((50,))
    theta[:, 0] = 1.0
    coordinates = ThetaCoordinates(theta, find_transform(PRIOR), LogPrior(PRIOR))
    assert torch.isfinite(coordinates(theta)).all()


def test_whitening_does_nothing_at_first_and_is_undone_by_its_inverse():
    whiten, rows = Whiten(3), torch.randn(2, 4, 3)
    assert torch.equal(whiten(rows), rows) and torch.equal(whiten.invert(rows), rows)
    whiten.matrix.copy_(torch.eye(3) + torch.ones(3, 3).tril())
    torch.testing.assert_close(whiten.invert(whiten(rows)), rows, rtol=1e-4, atol=1e-5)
    assert (whiten(rows) - rows).abs().max() > 0.1


def test_data_are_scaled_flat_and_without_offset():
    x = torch.randn(500, 2, 3) * 100 + 7
    coordinates = XCoordinates(x, torch.zeros(2, 3, dtype=torch.bool))
    rows = coordinates(x)
    assert rows.shape == (500, 7) and (rows[:, -1] == 0).all()
    assert rows[:, :-1].median(dim=0).values.abs().max() < 0.05
    # What is continuous gets no noise.
    assert torch.equal(rows, coordinates.eval()(x))


def test_counts_get_noise_of_their_step_while_training():
    torch.manual_seed(2)
    x = torch.cat((3.0 * torch.randint(0, 9, (500, 1)), torch.randn(500, 1)), dim=1)
    coordinates = XCoordinates(x, torch.zeros(2, dtype=torch.bool))
    fixed = coordinates.eval()(x)
    noisy = coordinates.train()(x)
    shift = (noisy - fixed) * coordinates.scale.spread[0]
    assert (shift[:, 1] == 0).all()
    assert -1.5 <= shift[:, 0].min() < -1.2 and 1.2 < shift[:, 0].max() <= 1.5
    assert not torch.equal(coordinates(x), noisy)
    assert torch.equal(coordinates.eval()(x), fixed)


@pytest.mark.parametrize(
    ("column", "step"),
    [
        (torch.arange(200.0) % 7, 1.0),
        (0.25 * (torch.arange(200.0) % 50), 0.25),
        (torch.randn(200, generator=torch.Generator().manual_seed(1)), 0.0),
        (torch.full((200,), 3.0), 0.0),
        (torch.arange(200.0), 0.0),
    ],
)
def test_steps_are_those_of_counts_only(column, step):
    assert float(find_steps(column.unsqueeze(1))) == step


def test_steps_have_the_shape_of_the_data():
    x = (torch.arange(600) % 5).reshape(100, 2, 3)
    steps = find_steps(x)
    assert steps.shape == (2, 3) and steps.dtype == torch.float32


def simulate_positive(kind, theta):
    noise = torch.randn(len(theta))
    middle = theta[:, 0]
    return {
        "log-normal": (middle + 0.5 * noise).exp(),
        # Far from zero, where a logarithm is nearly linear but not quite.
        "gaussian": 10 + middle.clamp(-3, 3) + 0.5 * noise,
        "negative": middle + noise,
        "with zeros": (middle + 0.5 * noise).exp() * (torch.rand(len(theta)) > 0.01),
    }[kind]


def test_logarithms_are_taken_of_log_normal_data_only():
    torch.manual_seed(3)
    theta = PRIOR.sample((3_000,))
    kinds = ["log-normal", "gaussian", "negative", "with zeros"]
    x = torch.stack([simulate_positive(kind, theta) for kind in kinds], dim=1)
    assert choose_logarithms(theta, x).tolist() == [True, False, False, False]
    assert choose_logarithms(theta, 1e3 * x).tolist() == [True, False, False, False]
    assert choose_logarithms(theta, x.reshape(-1, 2, 2)).shape == (2, 2)


def test_what_counts_is_the_noise_and_not_the_whole():
    """Log-normal as a whole, by its parameter; Gaussian about each."""
    torch.manual_seed(4)
    theta = PRIOR.sample((3_000,)) * 0.3
    mean = 20 + 10 * theta[:, :1]
    x = mean + 0.3 * torch.randn(3_000, 1)
    assert not choose_logarithms(theta, x).any()


def make_columns(name, offset):
    """Three columns of float32, of which the last says nothing of its own."""
    first = torch.randn(400, 2, generator=torch.Generator().manual_seed(5))
    third = {
        "constant": torch.full((400, 1), 7.0),
        "sum": first.sum(dim=1, keepdim=True),
        "other": torch.randn(400, 1, generator=torch.Generator().manual_seed(6)),
        "close": first[:, :1] + 1e-3 * first[:, 1:].square(),
    }[name]
    return torch.cat((first, third), dim=1) + offset


@pytest.mark.parametrize("offset", [0.0, 1_000.0])
@pytest.mark.parametrize("name", ["constant", "sum"])
def test_directions_that_never_vary_are_left_out(name, offset):
    x = make_columns(name, offset)
    matrix = find_variation(x, Scale(x, torch.zeros(3, dtype=torch.bool)))
    values = torch.linalg.eigvals(matrix).real.sort().values
    assert torch.allclose(values, torch.tensor([0.0, 1.0, 1.0]), atol=1e-5)
    # Of the simulations themselves nothing is lost.
    scaled = Scale(x, torch.zeros(3, dtype=torch.bool))(x)
    moved = scaled @ matrix.T
    assert (moved - scaled).std(dim=0).max() < 1e-3


@pytest.mark.parametrize("offset", [0.0, 1_000.0])
@pytest.mark.parametrize("name", ["other", "close"])
def test_directions_that_vary_little_stay_to_the_bit(name, offset):
    x = make_columns(name, offset)
    scale = Scale(x, torch.zeros(3, dtype=torch.bool))
    assert torch.equal(find_variation(x, scale), torch.eye(3))


def test_few_rows_leave_out_what_is_constant_alone():
    x = torch.cat((torch.randn(5, 3), torch.ones(5, 1)), dim=1)
    found = find_variation(x, Scale(x))
    assert torch.equal(found, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))


def test_logarithms_are_not_taken_of_what_is_a_sum_with_others():
    theta = torch.randn(400, 1)
    free = torch.exp(2 * torch.randn(400, 2))
    summed = torch.cat((free, free.sum(dim=1, keepdim=True)), dim=1)
    assert choose_logarithms(theta, free).all()
    assert not choose_logarithms(theta, summed).any()
