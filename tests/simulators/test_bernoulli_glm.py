"""Bernoulli GLM, summarised and raw, against torch's densities and weighted draws."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli

from sbi_aalr.simulators import BernoulliGLM, BernoulliGLMRaw


@pytest.fixture(scope="module")
def task():
    return BernoulliGLM()


def find_peak(task, statistics):
    """Most probable parameters and their precision, by Newton's steps, float64."""
    design, precision = task.design.double(), task.prior.precision_matrix.double()
    theta = torch.zeros(10, dtype=torch.float64)
    for _ in range(50):
        share = torch.sigmoid(design @ theta)
        curvature = design.T @ ((share * (1 - share))[:, None] * design) + precision
        gradient = statistics - design.T @ share - precision @ theta
        theta = theta + torch.linalg.solve(curvature, gradient)
    assert gradient.abs().max() < 1e-9
    return theta, curvature


def test_design_delays_one_fixed_noise(task):
    noise = np.random.RandomState(42).randn(100).astype(np.float32)
    assert task.design.shape == (100, 10) and (task.design[:, 0] == 1).all()
    for delay in range(9):
        assert (task.design[:delay, 1 + delay] == 0).all()
        assert task.design[delay:, 1 + delay].tolist() == noise[: 100 - delay].tolist()


def test_prior_penalises_second_differences(task):
    theta = torch.randn(20, 10, generator=torch.Generator().manual_seed(1)).double()
    weights = theta[:, 1:]
    padded = torch.cat([torch.zeros(20, 2), weights], 1)
    second = padded[:, 2:] - 2 * padded[:, 1:-1] + padded[:, :-2]
    ridge = (torch.arange(9.0) / 9).sqrt()
    energy = (second + ridge * weights).square().sum(1) / 2 + theta[:, 0] ** 2 / 4
    log_prob = task.prior.log_prob(theta.float()).double()
    torch.testing.assert_close(
        log_prob + energy, (log_prob + energy)[0].expand(20), rtol=0, atol=1e-3
    )


def test_probabilities_of_spikes_are_bernoulli_s(task):
    torch.manual_seed(0)
    raw = BernoulliGLMRaw()
    theta = task.prior.sample((6,))
    x = raw.simulate(theta)
    assert x.shape == (6, 100) and ((x == 0) | (x == 1)).all()
    wanted = raw.log_likelihood(theta, x)
    torch.testing.assert_close(
        wanted,
        Bernoulli(logits=theta @ task.design.T).log_prob(x).sum(-1),
        rtol=1e-4,
        atol=1e-3,
    )
    torch.testing.assert_close(task.log_likelihood(theta, task.summarise(x)), wanted)
    assert raw.log_likelihood(theta, 0.5 * x + 0.1).eq(-math.inf).all()


def test_spikes_come_as_often_as_they_should(task):
    theta = task.true_parameters
    generator = torch.Generator().manual_seed(3)
    spikes = BernoulliGLMRaw().simulate(theta.expand(20_000, 10), generator=generator)
    share = torch.sigmoid(task.design @ theta)
    error = (share * (1 - share) / 20_000).sqrt()
    assert ((spikes.mean(0) - share).abs() / error).max() < 5
    wrong = torch.sigmoid(task.design @ (theta + 0.1))
    assert ((spikes.mean(0) - wrong).abs() / error).max() > 5
    summaries = task.simulate(
        theta.expand(20_000, 10), generator=torch.Generator().manual_seed(3)
    )
    torch.testing.assert_close(summaries, spikes @ task.design, rtol=1e-4, atol=1e-3)


def test_chains_have_the_moments_of_weighted_draws(task):
    torch.manual_seed(4)
    x_o = task.simulate(task.true_parameters[None])
    draws = task.sample_posterior(5_000, x_o, seed=1)
    peak, curvature = find_peak(task, x_o[0].double())
    # Wider tails than the posterior's, so that weights are bounded.
    factor = torch.linalg.cholesky(torch.linalg.inv(curvature))
    size = 200_000
    noise = torch.randn(size, 10, dtype=torch.float64)
    stretch = (5 / torch.distributions.Chi2(5.0).sample((size, 1)).double()).sqrt()
    theta = peak + (noise * stretch) @ factor.T
    square = (noise * stretch).square().sum(1)
    log_weight = (
        task.log_likelihood(theta, x_o[0].double())
        - torch.einsum(
            "ni,ij,nj->n", theta, task.prior.precision_matrix.double(), theta
        )
        / 2
        + (5 + 10) / 2 * torch.log1p(square / 5)
    )
    weight = log_weight.softmax(0)
    assert 1 / weight.square().sum() > 20_000

    def score(sample):
        features = torch.cat([sample, sample.square()], 1).double()
        exact = torch.cat([theta, theta.square()], 1)
        expected = weight @ exact
        variance = weight @ (exact - expected).square() * weight.square().sum()
        error = (features.var(0) / (0.7 * len(sample)) + variance).sqrt()
        return (features.mean(0) - expected).abs() / error

    assert score(draws).max() < 5
    assert score(draws + 0.15 * draws.std(0)).max() > 5
    wider = draws.mean(0) + 1.15 * (draws - draws.mean(0))
    assert score(wider).max() > 5


def test_raw_posterior_is_that_of_the_statistics(task):
    raw = BernoulliGLMRaw()
    spikes = raw.simulate(task.true_parameters[None])
    assert torch.equal(
        raw.sample_posterior(50, spikes, seed=1),
        task.sample_posterior(50, task.summarise(spikes.double()), seed=1),
    )
    with pytest.raises(ValueError, match="`x_o` must be of ones and zeros, got values"):
        raw.sample_posterior(5, 2 * spikes)


def test_wrong_widths_raise(task):
    with pytest.raises(ValueError, match="`theta` must have a last dimension of 10"):
        task.simulate(torch.ones(3, 9))
    with pytest.raises(ValueError, match="`x` must have a last dimension of 100"):
        BernoulliGLMRaw().log_likelihood(torch.ones(3, 10), torch.ones(3, 10))
    with pytest.raises(ValueError, match="`x_o` must have a last dimension of 10"):
        task.sample_posterior(5, torch.ones(9))
