"""What a posterior says about the true parameters: log-probability and coverage.

References:
    Hermans et al. (2022), arXiv:2110.06581, for expected coverage.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import is_in_support
from sbi_aalr.mcmc import mixture_fit, student_mixture
from sbi_aalr.mcmc.weights import sum_weights

_NUM_PROPOSALS = 10_000
_PRIOR_SHARE = 0.1
_MIN_ESS = 100.0
# The level at which `coverage` asks whether the region holds the truth.
LEVEL = 0.9


class TruthScores(NamedTuple):
    """What a posterior says about the true parameters of one observation.

    Attributes:
        log_prob_true: Log-density of the truth under the normalised posterior, nats;
            NaN where it could not be normalised.
        coverage_level: Content of the smallest highest-density region that holds the
            truth; uniform over observations if the posterior is calibrated.
        coverage: Whether the 90 % region holds the truth; its mean over observations
            is the expected coverage, 0.9 if the posterior is calibrated.
    """

    log_prob_true: float
    coverage_level: float
    coverage: float


def truth_scores(
    log_posterior: Callable[[Tensor], Tensor],
    prior: Distribution,
    draws: Tensor,
    theta: Tensor,
    *,
    generator: torch.Generator,
) -> TruthScores:
    """Score the true parameters under a posterior that is known up to a constant.

    The constant is found by importance sampling, from a mixture fitted to the draws and
    a share of prior draws, in the same way for each method.

    Args:
        log_posterior: Maps parameters `(N, D)` to the log-density up to a constant,
            nats, shape `(N,)`.
        prior: The prior.
        draws: Draws from the posterior, shape `(S, D)`.
        theta: The true parameters, shape `(D,)`.
        generator: Source of randomness, on the device of the draws.

    Returns:
        The scores.
    """
    at_truth = float(log_posterior(theta.unsqueeze(0)))
    level = float((log_posterior(draws) > at_truth).double().mean())
    log_evidence = estimate_log_evidence(log_posterior, prior, draws, generator)
    return TruthScores(at_truth - log_evidence, level, float(level <= LEVEL))


def estimate_log_evidence(
    log_posterior: Callable[[Tensor], Tensor],
    prior: Distribution,
    draws: Tensor,
    generator: torch.Generator,
) -> float:
    """Estimate the log of the integral of a posterior known up to a constant.

    Args:
        log_posterior: As in `truth_scores`.
        prior: The prior.
        draws: Draws from the posterior, shape `(S, D)`.
        generator: Source of randomness, on the device of the draws.

    Returns:
        The estimate, nats; NaN if the weights have an effective size below 100.
    """
    mixture = mixture_fit.fit(generator, draws.unsqueeze(1)).mixture
    num_prior = int(_PRIOR_SHARE * _NUM_PROPOSALS)
    num_mixture = _NUM_PROPOSALS - num_prior
    drawn = student_mixture.sample(generator, mixture, num_mixture)[:, 0]
    theta = torch.cat([prior.sample((num_prior,)), drawn])
    theta = theta[is_in_support(theta, prior)]
    log_mixture = student_mixture.log_density(mixture, theta.unsqueeze(1))[:, 0]
    log_proposal = torch.logaddexp(
        log_mixture + math.log(1 - _PRIOR_SHARE),
        prior.log_prob(theta) + math.log(_PRIOR_SHARE),
    )
    weights = sum_weights((log_posterior(theta) - log_proposal).double())
    if weights.effective_size < _MIN_ESS:
        return math.nan
    # Points outside the prior count as points of weight zero.
    return float(weights._replace(num_draws=_NUM_PROPOSALS).value)
