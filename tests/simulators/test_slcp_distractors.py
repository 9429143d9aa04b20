"""SLCP with distractors: against SLCP and against scipy's Student t."""

import numpy as np
import pytest
import torch
from scipy import stats

from sbi_aalr.simulators import SLCP, SLCPDistractors


@pytest.fixture(scope="module")
def task():
    return SLCPDistractors()


def test_informative_features_are_slcp_s(task):
    theta = torch.tensor([[1.0, -2.0, 0.0, 0.0, 0.5]])
    x = task.simulate(theta)
    assert x.shape == (1, 100)
    assert x[0, task.informative].tolist() == [1.0, -2.0] * 4
    assert ((x == 1.0) | (x == -2.0)).sum() == 8
    assert torch.equal(task.informative, SLCPDistractors().informative)
    assert task.informative.tolist() != sorted(task.informative.tolist())


def test_posterior_is_slcp_s_and_ignores_distractors(task):
    torch.manual_seed(0)
    x_o = task.simulate(task.true_parameters[None])[0]
    draws = task.sample_posterior(100, x_o, seed=1)
    plain = SLCP().sample_posterior(100, x_o[task.informative], seed=1)
    assert torch.equal(draws, plain)
    changed = x_o + torch.ones(100).index_fill(0, task.informative, 0.0)
    assert torch.equal(task.sample_posterior(100, changed, seed=1), draws)
    changed = x_o + torch.zeros(100).index_fill(0, task.informative[:1], 1.0)
    assert not torch.equal(task.sample_posterior(100, changed, seed=1), draws)


def test_log_likelihood_is_slcp_s(task):
    torch.manual_seed(0)
    theta = task.prior.sample((6,))
    x = task.simulate(theta)
    expected = SLCP().log_likelihood(theta[:, None], x[:, task.informative])
    assert torch.equal(task.log_likelihood(theta[:, None], x), expected)


@pytest.mark.parametrize("weights", ["one feature", "all features"])
def test_distractors_follow_the_mixture(task, weights):
    # Any weighted sum of a multivariate t is a t of one dimension.
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(92, generator=generator)
    if weights == "one feature":
        weight = torch.zeros(92).index_fill(0, torch.tensor(42), 1.0)
    x = task.simulate(task.true_parameters.expand(4_000, 5), generator=generator)
    drawn = (x[:, task.distractors] @ weight).numpy()
    location = (task.locations @ weight).numpy()
    scale = torch.einsum("kij,i->kj", task.factors, weight).norm(dim=-1).numpy()

    def distribution(value, factor=1.0):
        score = (np.asarray(value)[:, None] - location) / (factor * scale)
        return stats.t(df=2).cdf(score).mean(1)

    assert stats.kstest(drawn, distribution).pvalue > 1e-3
    assert stats.kstest(drawn, lambda v: distribution(v, 1.3)).pvalue < 1e-3


def test_seed_repeats_and_wrong_shapes_raise(task):
    theta = task.prior.sample((3,))
    first, again = (
        task.simulate(theta, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="`x_o` must have a last dimension of 100"):
        task.sample_posterior(5, torch.ones(8))
    with pytest.raises(ValueError, match="`x` must have a last dimension of 100"):
        task.log_likelihood(theta, torch.ones(3, 8))
