"""Priors that cannot work are told at the start, with the rule and the remedy."""

import warnings

import numpy as np
import pytest
import torch
from sbi.utils import BoxUniform, MultipleIndependent
from sbi.utils.user_input_checks import process_prior
from torch import distributions as d

from sbi_aalr import AALR
from sbi_aalr.checks import check_prior

ZERO, ONE = torch.zeros(2), torch.ones(2)
LAX = {"validate_args": False}


def make_rows(distribution):
    return d.Independent(distribution, 1, validate_args=False)


def make_parts(first):
    return MultipleIndependent([first, d.Uniform(-ONE[:1], ONE[:1])])


CONTINUOUS = "`prior` must be a distribution of continuous parameters, got .*Learn the"
FREE = "`prior` must have parameters that can change one at a time, got .*Leave one out"
WIDTH = "`prior` must have a width in every parameter.*Leave this parameter out"
FINITE = "`prior` must have finite draws, got .* for parameter 1. Check its location"
DENSITY = "`prior` must give its own draws finite log-densities, got .*a lower bound"
ROWS = r"`prior` must give each parameter set \(D,\) one log-density.*Independent"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_rows(d.Poisson(ONE)), CONTINUOUS),
        (lambda: d.Poisson(ONE[:1]), CONTINUOUS),
        (lambda: d.Categorical(ONE), CONTINUOUS),
        (lambda: make_rows(d.Bernoulli(ONE / 2)), CONTINUOUS),
        (lambda: d.OneHotCategorical(ONE), CONTINUOUS),
        (lambda: make_parts(d.Poisson(ONE[:1])), CONTINUOUS),
        (lambda: process_prior(d.Geometric(ONE[:1] / 2))[0], CONTINUOUS),
        (
            lambda: d.TransformedDistribution(
                make_rows(d.Poisson(ONE)), d.AffineTransform(0.0, 2.0)
            ),
            CONTINUOUS,
        ),
        (lambda: d.Dirichlet(torch.ones(3)), FREE),
        (lambda: d.LogisticNormal(ZERO, ONE), FREE),
        (lambda: make_parts(d.Dirichlet(torch.ones(3))), FREE),
        (lambda: BoxUniform(ONE, torch.tensor([1.0, 2.0])), WIDTH),
        (lambda: make_rows(d.Uniform(ONE, ONE, **LAX)), WIDTH),
        (lambda: make_rows(d.Normal(ONE, ZERO, **LAX)), WIDTH),
        (lambda: BoxUniform(1e8 + ZERO, 1e8 + ONE), WIDTH),
        (lambda: make_rows(d.Uniform(ONE, ZERO, **LAX)), DENSITY),
        (lambda: make_rows(d.Exponential(-ONE, **LAX)), DENSITY),
        (lambda: make_rows(d.Normal(ZERO * torch.nan, ONE, **LAX)), FINITE),
        (lambda: BoxUniform(ZERO, ONE / 0), FINITE),
        (lambda: make_rows(d.Normal(ZERO, -ONE, **LAX)), "log-densities, got Runtime"),
        (lambda: d.Uniform(ZERO, ONE), ROWS),
        (lambda: d.Exponential(ONE[:1]), ROWS),
        (lambda: d.Normal(0.0, 1.0), ROWS + r".*the shape \(1,\)"),
        (lambda: d.LKJCholesky(3), ROWS),
    ],
)
def test_a_prior_that_cannot_work_is_told_before_training(make, message):
    prior = make()
    with pytest.raises(ValueError, match=message):
        AALR(prior)


def test_what_is_no_torch_distribution_is_told_what_becomes_one():
    import scipy.stats

    for prior in (scipy.stats.norm(0, 1), [d.Uniform(ZERO, ONE)], None, 3):
        with pytest.raises(
            TypeError, match=r"must be a torch Distribution, got .*SciPy"
        ):
            check_prior("prior", prior)


class InNumPy:
    """What `process_prior` makes a distribution of."""

    mean, variance = np.full(2, 0.5), np.full(2, 1 / 12)

    def sample(self, shape):
        return np.random.rand(*shape, 2)

    def log_prob(self, theta):
        return np.where(((theta >= 0) & (theta <= 1)).all(-1), 0.0, -np.inf)


GOOD = {
    "box": lambda: BoxUniform(ZERO, ONE),
    "box far out": lambda: BoxUniform(1e6 + ZERO, 1e6 + ONE),
    "one parameter": lambda: process_prior(d.Exponential(ONE[:1]))[0],
    "own": lambda: process_prior(InNumPy())[0],
    "float64": lambda: process_prior(make_rows(d.Normal(ZERO.double(), 1.0)))[0],
    "log-uniform": lambda: make_rows(
        d.TransformedDistribution(d.Uniform(-27 * ONE, ZERO), d.ExpTransform())
    ),
    "parts": lambda: make_parts(d.MultivariateNormal(ZERO, torch.eye(2))),
    "heavy": lambda: make_rows(d.Cauchy(ZERO, ONE)),
    "steep": lambda: make_rows(d.Beta(ONE / 100, ONE / 100)),
    "modes": lambda: d.MixtureSameFamily(
        d.Categorical(ONE), d.MultivariateNormal(torch.randn(2, 2), torch.eye(2))
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_priors_that_work_are_taken_and_nobody_else_s_draws_move(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior = GOOD[name]()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    for _ in range(50):
        assert check_prior("prior", prior) is prior
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_prior_of_another_width_than_the_estimator_is_named():
    prior = BoxUniform(ZERO, ONE)
    assert check_prior("prior", prior, 2) is prior
    with pytest.raises(ValueError, match="`prior` must have 3 parameters, got 2"):
        check_prior("prior", prior, 3)


class Box(d.Distribution):
    """Uniform between 0 and 1, of one's own."""

    def __init__(self):
        super().__init__(event_shape=torch.Size([2]), validate_args=False)

    def sample(self, sample_shape=()):
        return torch.rand(*sample_shape, 2)

    def log_prob(self, theta):
        inside = ((theta >= 0) & (theta <= 1)).all(dim=-1)
        return torch.where(inside, 0.0, -torch.inf)


class Seeding(Box):
    def sample(self, sample_shape=()):
        torch.manual_seed(0)
        return super().sample(sample_shape)


class Reusing(Box):
    rows = torch.zeros(10, 2)

    def sample(self, sample_shape=()):
        return self.rows[: sample_shape[0]].uniform_()


class Unbounded(Box):
    def log_prob(self, theta):
        return torch.zeros(len(theta))


class InArrays(Box):
    def log_prob(self, theta):
        return np.zeros(len(theta))


AGAIN = "`prior` must draw other parameters in every call, got the same again"
FALLS = "`prior` must have a density that falls where it draws nothing, got .*minus inf"


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (Seeding(), AGAIN),
        (Reusing(), AGAIN),
        (Unbounded(), FALLS),
        (make_rows(d.VonMises(ZERO, ONE)), FALLS),
        (make_rows(d.VonMises(ZERO, 50 * ONE)), FALLS),
        (make_parts(make_rows(d.VonMises(ZERO[:1], ONE[:1]))), FALLS),
        (InArrays(), "`prior` must give .* as torch tensors, got Tensor and ndarray"),
    ],
)
def test_a_prior_that_would_spoil_what_is_learned_or_sampled_is_told(prior, message):
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match=message):
            check_prior("prior", prior)


@pytest.mark.parametrize(
    "prior",
    [
        Box(),
        make_rows(d.Cauchy(ZERO, ONE)),
        make_rows(d.Pareto(ONE, ONE / 2)),
        make_rows(d.LogNormal(ZERO, 3 * ONE)),
        make_rows(d.Gamma(ONE, ONE)),
        make_rows(d.Beta(ONE / 10, ONE / 10)),
    ],
)
def test_heavy_tails_and_edges_are_no_fault(prior):
    for seed in range(50):
        torch.manual_seed(seed)
        check_prior("prior", prior)
