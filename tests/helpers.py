"""Checks and targets that tests of samplers share."""

from typing import NamedTuple

import arviz_stats
import numpy as np
import torch

from sbi_aalr.mcmc.run import run, warm_up
from sbi_aalr.mcmc.step import init

LIMIT = 5.0


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def measure_errors(features, expected, *, min_ess):
    """Errors of means in Monte Carlo standard errors, which come from the ESS.

    Args:
        features: Functions of the draws, shape `(C, S, B, F)`.
        expected: Their means under the target, shape `(B, F)`.
        min_ess: Effective sample size that each must have for the errors to mean much.

    Returns:
        Absolute errors, shape `(B, F)`.
    """
    values = features.double().numpy()
    ess = arviz_stats.ess(values, method="mean", chain_axis=0, draw_axis=1)
    assert (ess >= min_ess).all(), f"ESS {ess.min():.0f} is below {min_ess}"
    error = values.mean(axis=(0, 1)) - np.asarray(expected)
    return np.abs(error) / (values.std(axis=(0, 1), ddof=1) / np.sqrt(ess))


class Target(NamedTuple):
    """A density that is known, over a batch of two observations that differ.

    `features` maps draws `(..., B, D)` to functions `(..., B, F)` whose means are known
    to be `expected`. `scale` maps draws of the sampler to those that `features` wants.
    """

    log_prob_fn: object
    draw: object
    features: object
    expected: torch.Tensor
    scale: object = torch.as_tensor


def learn(target, kernel, *, seed, num_chains=64, num_steps=150):
    """Run warm-up; return the generator, the state reached and the parameters."""
    generator = make_generator(seed)
    with torch.no_grad():
        state, parameters, _ = warm_up(
            generator,
            init(target.draw(generator, num_chains), target.log_prob_fn),
            target.log_prob_fn,
            kernel=kernel,
            num_steps=num_steps,
        )
    return generator, state, parameters


def sample_exact_starts(target, kernel, *, seed, num_chains=500, num_draws=100):
    """Learn, then run chains from exact draws, which stay exact if all is right.

    However slowly a kernel mixes, each of its states then has the target's density.
    """
    generator, _, parameters = learn(target, kernel, seed=seed)
    with torch.no_grad():
        _, chains = run(
            generator,
            init(target.draw(generator, num_chains), target.log_prob_fn),
            target.log_prob_fn,
            kernel=kernel,
            parameters=parameters,
            num_draws=num_draws,
        )
    return target.features(target.scale(chains.theta))


def moments(theta):
    """First and second moments, the mixed one too, `(..., 2)` -> `(..., 5)`."""
    mixed = theta.prod(dim=-1, keepdim=True)
    return torch.cat((theta, theta.square(), mixed), dim=-1)


def expect_moments(mean, covariance):
    """Expected `moments` of means `(B, 2)` and covariances `(B, 2, 2)`."""
    second = covariance + mean.unsqueeze(-1) * mean.unsqueeze(-2)
    diagonal = second.diagonal(dim1=-2, dim2=-1)
    return torch.cat((mean, diagonal, second[:, 0, 1:]), dim=-1)


def make_gaussian():
    """Correlated Gaussians with correlations 0.9 and -0.5."""
    mean = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    covariance = torch.tensor([[[1.0, 0.9], [0.9, 1.0]], [[1.0, -1.0], [-1.0, 4.0]]])
    precision = torch.linalg.inv(covariance)
    cholesky = torch.linalg.cholesky(covariance)

    def log_prob_fn(theta):
        offset = theta - mean
        return -torch.einsum("cbi,bij,cbj->cb", offset, precision, offset) / 2

    def draw(generator, num_chains):
        noise = torch.randn(num_chains, 2, 2, generator=generator)
        return mean + torch.einsum("bij,cbj->cbi", cholesky, noise)

    return Target(log_prob_fn, draw, moments, expect_moments(mean, covariance))


def make_skewed():
    """Logarithms of Gamma variables: a long tail on one side, a cliff on the other."""
    shape = torch.tensor([[1.0, 2.0], [3.0, 1.0]])

    def log_prob_fn(theta):
        return (shape * theta - theta.exp()).sum(dim=-1)

    def draw(generator, num_chains):
        # A Gamma variable of integer shape is a sum of exponentials.
        uniform = torch.rand(num_chains, 2, 2, 3, generator=generator)
        part = torch.arange(3) < shape.unsqueeze(-1)
        return (-torch.log1p(-uniform) * part).sum(dim=-1).log()

    mean = torch.digamma(shape)
    variance = torch.special.polygamma(1, shape)
    expected = expect_moments(mean, torch.diag_embed(variance))
    return Target(log_prob_fn, draw, moments, expected)


def make_box():
    """Exponentials cut off by the unit square, most of their mass at one corner."""
    rate = torch.tensor([[3.0, -5.0], [8.0, 1.0]])
    end = torch.exp(-rate)

    def log_prob_fn(theta):
        inside = ((theta >= 0) & (theta <= 1)).all(dim=-1)
        return torch.where(inside, -(rate * theta).sum(dim=-1), -torch.inf)

    def draw(generator, num_chains):
        uniform = torch.rand(num_chains, 2, 2, generator=generator)
        return -torch.log1p(-uniform * (1 - end)) / rate

    mean = 1 / rate - end / (1 - end)
    variance = 1 / rate**2 - end / (1 - end) ** 2
    expected = expect_moments(mean, torch.diag_embed(variance))
    return Target(log_prob_fn, draw, moments, expected)


def make_unbounded(box):
    """The same box through the logistic transform, for kernels that need no bounds."""

    def log_prob_fn(position):
        theta = position.sigmoid()
        slope = torch.nn.functional.logsigmoid
        jacobian = (slope(position) + slope(-position)).sum(dim=-1)
        return box.log_prob_fn(theta) + jacobian

    def draw(generator, num_chains):
        return box.draw(generator, num_chains).logit()

    return box._replace(log_prob_fn=log_prob_fn, draw=draw, scale=torch.sigmoid)


def make_two_modes():
    """Two Gaussians that lie 12 of their standard deviations apart."""
    share = torch.tensor([0.3, 0.8])
    centre = torch.tensor([3.0, 0.0])

    def log_prob_fn(theta):
        left = share.log() - (theta + centre).square().sum(dim=-1) * 2
        right = (1 - share).log() - (theta - centre).square().sum(dim=-1) * 2
        return torch.logaddexp(left, right)

    def draw(generator, num_chains):
        # As many in either mode, so that chains must find the proportions.
        sign = torch.ones(num_chains, 2, 1)
        sign[::2] = -1
        return sign * centre + torch.randn(num_chains, 2, 2, generator=generator) / 2

    def features(theta):
        is_left = (theta[..., :1] < 0).to(theta.dtype)
        return torch.cat((is_left, theta, theta.square()), dim=-1)

    one = torch.ones_like(share)
    columns = (share, 3 * (1 - 2 * share), 0 * one, 9.25 * one, 0.25 * one)
    return Target(log_prob_fn, draw, features, torch.stack(columns, dim=-1))
