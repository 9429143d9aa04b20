"""Posteriors under priors for which sbi makes no transform."""

import pytest
import torch
from linear_gaussian import SHORT
from sbi.utils import BoxUniform
from torch.distributions import (
    Categorical,
    Cauchy,
    Independent,
    LogNormal,
    MixtureSameFamily,
    Normal,
    StudentT,
)

from sbi_aalr import MHPosterior
from sbi_aalr.sampling.prior_transform import find_transform

ONE = torch.ones(2)
CENTRES = torch.tensor([[-1.0, 0.0], [1.0, 0.5]])
PRIORS = {
    "Cauchy": Independent(Cauchy(ONE, 2 * ONE), 1),
    "Student, no mean": Independent(StudentT(ONE), 1),
    "Student, no variance": Independent(StudentT(2 * ONE), 1),
    "mixture": MixtureSameFamily(
        Categorical(ONE), Independent(Normal(CENTRES, 0.5), 1)
    ),
    "positive mixture": MixtureSameFamily(
        Categorical(ONE), Independent(LogNormal(CENTRES, 0.5), 1)
    ),
}


@pytest.mark.parametrize("name", PRIORS)
def test_transform_goes_there_and_back(name):
    torch.manual_seed(1)
    theta = PRIORS[name].sample((50,))
    transform = find_transform(PRIORS[name])
    free = transform(theta)
    assert free.shape == theta.shape and free.isfinite().all()
    assert torch.allclose(transform.inv(free), theta, rtol=1e-3, atol=1e-4)
    assert transform.log_abs_det_jacobian(theta, free).shape == (50,)
    # Of order one, and the same each time.
    assert 0.2 < float(free.median().abs() + free.abs().median()) < 5
    assert torch.equal(find_transform(PRIORS[name])(theta), free)


@pytest.mark.parametrize("name", PRIORS)
def test_posterior_is_sampled_and_has_a_maximum(name):
    prior, peak = PRIORS[name], torch.tensor([1.2, 0.8])

    def potential(theta, x_o):
        noise = Normal(theta, 0.1).log_prob(peak).sum(dim=-1)
        return noise + prior.log_prob(theta)

    posterior = MHPosterior(potential, prior).set_default_x(torch.zeros(1))
    for kernel in ("jump_walk", "hmc"):
        draws = posterior.sample((200,), seed=1, kernel=kernel, **SHORT)
        assert torch.allclose(draws.mean(dim=0), peak, atol=0.15)
    found = posterior.map(init_method="proposal", num_iter=100)
    assert torch.allclose(found[0], peak, atol=0.1)


@pytest.mark.parametrize(
    "kernel",
    ["jump_walk", "random_walk", pytest.param("hmc", marks=pytest.mark.slow)],
)
def test_callable_is_bounded_by_the_prior_whatever_the_kernel(kernel):
    """As in sbi's unconstrained space; most of this Gaussian lies outside."""
    seen = []

    def potential(theta, x_o):
        seen.append(theta.detach())
        return -(theta - 0.9).square().sum(dim=-1) / 0.5

    prior = BoxUniform(torch.zeros(2), torch.ones(2))
    posterior = MHPosterior(potential, prior)
    settings = {"max_rhat": None, "min_ess": None, "thin": 2, "num_candidates": 500}
    draws = posterior.sample(
        (4_000,), torch.zeros(1), False, seed=1, kernel=kernel, **settings
    )
    assert draws.min() >= 0 and draws.max() <= 1
    free = Normal(0.9, 0.5)
    grid = torch.linspace(0, 1, 10_001)
    weight = free.log_prob(grid).exp()
    mean = float((grid * weight).sum() / weight.sum())
    assert float(draws.mean()) == pytest.approx(mean, abs=0.03)
    assert mean < 0.65 < 0.9
    # A potential may raise outside the prior, so it is not asked there.
    assert all(((theta >= 0) & (theta <= 1)).all() for theta in seen)
    outside = posterior.potential(
        torch.tensor([[0.5, 1.5], [0.5, 0.5]]), torch.zeros(1)
    )
    assert outside.isneginf().tolist() == [True, False]
