"""A problem whose ratio and posterior are known: theta ~ N(0, 1), x = theta + noise."""

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn
from torch.distributions import MultivariateNormal, Normal

NOISE = 1.5
PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2), validate_args=False)
X_O = torch.tensor([1.0, -2.0])

# A short run without limits, for tests of shapes and of the same seed.
SHORT = {
    "num_chains": 10,
    "warmup_steps": 20,
    "thin": 2,
    "max_rhat": None,
    "min_ess": None,
    "num_candidates": 500,
    "show_progress_bars": False,
}


def simulate(theta):
    return theta + NOISE * torch.randn_like(theta)


def log_ratio(theta, x):
    """The exact log r(x|theta), nats."""
    evidence = Normal(0.0, (1 + NOISE**2) ** 0.5)
    return (Normal(theta, NOISE).log_prob(x) - evidence.log_prob(x)).sum(dim=-1)


def exact_posterior(x):
    """Mean and standard deviation of p(theta|x) in each dimension, given trials."""
    trials = torch.atleast_2d(x)
    precision = 1 + trials.shape[0] / NOISE**2
    return trials.sum(dim=0) / NOISE**2 / precision, precision**-0.5


def draw_pairs(num_rows, seed):
    """Fresh theta, theta' and x."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = PRIOR.sample((num_rows,))
        return theta, PRIOR.sample((num_rows,)), simulate(theta)


def compare(estimator, theta, x):
    """Correlation and mean absolute error of an estimator's log-ratio."""
    with torch.no_grad():
        estimated = estimator(theta, x)
    exact = log_ratio(theta, x)
    correlation = torch.corrcoef(torch.stack((estimated, exact)))[0, 1]
    return float(correlation), float((estimated - exact).abs().mean())


class Quadratic(nn.Module):
    """All products of two features, in which the exact log-ratio is linear."""

    def forward(self, rows):
        rows = torch.cat((rows, torch.ones_like(rows[:, :1])), dim=1)
        return (rows.unsqueeze(1) * rows.unsqueeze(2)).flatten(1)


def build_quadratic(theta, x):
    """A classifier that can represent the exact ratio, and learns it in no time."""
    width = (theta.shape[1] + x.shape[1] + 1) ** 2
    return RatioEstimator(
        nn.Sequential(Quadratic(), nn.Linear(width, 1)), theta.shape[1:], x.shape[1:]
    )
