"""Posteriors under priors for which sbi makes no transform."""

import pytest
import torch
from linear_gaussian import SHORT
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
from sbi_aalr.posterior.transform import make_transform

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
    transform = make_transform(PRIORS[name])
    free = transform(theta)
    assert free.shape == theta.shape and free.isfinite().all()
    assert torch.allclose(transform.inv(free), theta, rtol=1e-3, atol=1e-4)
    assert transform.log_abs_det_jacobian(theta, free).shape == (50,)
    # Of order one, and the same each time.
    assert 0.2 < float(free.median().abs() + free.abs().median()) < 5
    assert torch.equal(make_transform(PRIORS[name])(theta), free)


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
