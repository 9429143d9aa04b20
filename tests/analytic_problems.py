"""Problems whose log-ratio is known in closed form."""

from typing import NamedTuple

import torch
from torch.distributions import (
    Distribution,
    Gamma,
    Independent,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
)

from sbi_aalr.training.losses import binary_cross_entropy


class Problem(NamedTuple):
    """A prior, a simulator, and log p(x|theta) - log p(x)."""

    prior: Distribution
    simulate: object
    log_ratio: object


def make_linear_gaussian(dim):
    """Standard normal theta seen through noise, a mutual information of 2 nats."""
    noise = 1 / (torch.tensor(4.0 / dim).exp() - 1) ** 0.5
    prior = MultivariateNormal(torch.zeros(dim), torch.eye(dim), validate_args=False)
    evidence = Normal(0.0, (1 + noise**2) ** 0.5)

    def simulate(theta):
        return theta + noise * torch.randn_like(theta)

    def log_ratio(theta, x):
        return (Normal(theta, noise).log_prob(x) - evidence.log_prob(x)).sum(dim=-1)

    return Problem(prior, simulate, log_ratio)


def make_poisson():
    """A rate with a Gamma prior, seen as one count."""
    shape, rate = 2.0, 0.4
    prior = Independent(Gamma(torch.full((1,), shape), torch.full((1,), rate)), 1)
    evidence = NegativeBinomial(torch.tensor(shape), probs=torch.tensor(1 / (1 + rate)))

    def simulate(theta):
        return Poisson(theta).sample()

    def log_ratio(theta, x):
        return (Poisson(theta).log_prob(x) - evidence.log_prob(x)).squeeze(-1)

    return Problem(prior, simulate, log_ratio)


def draw_pairs(problem, num_rows, seed):
    """Fresh theta, theta' and x."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = problem.prior.sample((num_rows,))
        return theta, problem.prior.sample((num_rows,)), problem.simulate(theta)


@torch.no_grad()
def measure(estimator, problem, num_rows=20_000):
    """Excess of the held-out loss over the best one, its standard error, and the error.

    Returns:
        Excess and its Monte Carlo standard error in nats, and the mean absolute error
        of the log-ratio on joint pairs.
    """
    theta, theta_prime, x = draw_pairs(problem, num_rows, seed=99)
    found = estimator(theta, x), estimator(theta_prime, x)
    exact = problem.log_ratio(theta, x), problem.log_ratio(theta_prime, x)
    excess = binary_cross_entropy(*found) - binary_cross_entropy(*exact)
    error = (found[0] - exact[0]).abs().mean()
    return float(excess.mean()), float(excess.std() / num_rows**0.5), float(error)
