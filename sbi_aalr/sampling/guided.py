r"""Starts from a density that the ratio estimator keeps beside it.

Draws of q(theta|x) and of the prior are weighted together, by the mixture of the two
that they come from: what q misses, the prior's draws still find. Where the weights
share the draws well, an observation needs no annealing and hardly any warm-up; where
they do not, q is of no use, and the observation goes the usual way.

References:
    Owen & Zhou (2000), JASA 95, for the weights of draws from several distributions.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Generator, Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.mcmc.run import block_size
from sbi_aalr.mcmc.starts import resample_own_candidates
from sbi_aalr.mcmc.weights import effective_size
from sbi_aalr.networks.density import draw_theta
from sbi_aalr.sampling.plan import Plan
from sbi_aalr.types import LogProbFn

# Draws of q for each observation, and how many of them must share the weight.
NUM_DRAWS = 1_000
_LEAST_EFFECTIVE = 100
# By which the warm-up is shorter.
_SHORTER = 5
# Starts that a kernel is built from, and chains that then move in warm-up.
NUM_STARTS = 400
POPULATION = 32


def shorten(plan: Plan) -> Plan:
    """A plan whose warm-up keeps as many draws, a fifth as many steps apart.

    Kernels that make several steps at once keep the last of every block of ten.
    """
    settings = plan.settings
    usual = max(plan.thin, block_size(plan.kernel))
    num_draws = settings.warmup_steps // usual
    thin = max(1, usual // _SHORTER)
    settings = replace(settings, warmup_steps=num_draws * thin)
    return plan._replace(settings=settings, thin=thin)


class Guide:
    """Draws from q(theta|x), and its density, in prior units or in others.

    Args:
        proposal: Ratio estimator q(theta|x) / p(theta) of `posterior_mixture`.
        theta_transform: From prior units to those that are sampled in; None for prior
            units.
    """

    def __init__(
        self, proposal: RatioEstimator, theta_transform: Transform | None = None
    ) -> None:
        self._proposal = proposal
        self._transform = theta_transform

    def transformed(self, theta_transform: Transform) -> "Guide":
        """The same in the units that a transform leads to."""
        return Guide(self._proposal, theta_transform)

    def draw(
        self, generator: Generator, x: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        """Draw for observations `(B, ...)`: `(S, B, D)` and log q `(S, B)`, nats."""
        theta = draw_theta(self._proposal, x, num_samples, generator)
        rows = theta.flatten(0, 1)
        embedded_x = self._proposal.embedding_net_x(x).repeat(num_samples, 1)
        embedded = torch.cat((self._proposal.embedding_net_theta(rows), embedded_x), 1)
        log_q = self._add_prior(self._proposal.net(embedded)[:, 0], rows)
        return self._move(theta), log_q.view(theta.shape[:2])

    def pair_with(self, position: Tensor, x: Tensor) -> Tensor:
        """Log q at shared positions `(K, D)` for all observations, `(K, B)`, nats."""
        theta = position
        if self._transform is not None:
            theta = self._transform.inv(position)
        log_ratio = self._proposal.net.all_pairs(
            self._proposal.embedding_net_theta(theta), self._proposal.embedding_net_x(x)
        )
        return log_ratio + self._add_prior(torch.zeros(()), theta).unsqueeze(1)

    def _add_prior(self, log_ratio: Tensor, theta: Tensor) -> Tensor:
        """From a log-ratio to a log-density in the units that are sampled in."""
        log_q = log_ratio.to(theta) + self._proposal.embedding_net_theta.log_prior(
            theta
        )
        if self._transform is not None:
            position = self._transform(theta)
            log_q = log_q - self._transform.log_abs_det_jacobian(theta, position)
        return log_q

    def _move(self, theta: Tensor) -> Tensor:
        if self._transform is None:
            return theta
        return self._transform(theta.flatten(0, -2)).reshape(theta.shape)


def find_guide(estimator: RatioEstimator) -> Guide | None:
    """The density that a stack keeps beside its ratio; None for other estimators."""
    proposal = getattr(estimator, "proposal", None)
    return None if proposal is None else Guide(proposal)


class Guided(NamedTuple):
    """Which observations q serves, and where their chains start.

    Attributes:
        is_served: Shape `(B,)`.
        position: Starts, shape `(C, B, D)`.
        effective_share: Effective share of the draws of q, shape `(B,)`.
    """

    is_served: Tensor
    position: Tensor
    effective_share: Tensor


def find_guided_starts(
    generator: Generator,
    guide: Guide,
    x: Tensor,
    log_prob_fn: LogProbFn,
    log_base_fn: LogProbFn,
    candidates: Tensor,
    log_weight: Tensor,
) -> Guided:
    """Weigh the draws of q and those of the prior together, and choose starts.

    Args:
        generator: Source of randomness.
        guide: What draws from q.
        x: Observations, shape `(B, *event_shape)`.
        log_prob_fn: Log-density of the target, nats.
        log_base_fn: Log-density of the prior, nats.
        candidates: Draws of the prior that observations share, shape `(K, D)`.
        log_weight: Log-density of the target less that of the prior at each, `(K, B)`.

    Returns:
        Starts, of use for those observations that q serves.
    """
    drawn, log_q = guide.draw(generator, x, NUM_DRAWS)
    log_base = log_base_fn(candidates).unsqueeze(1)
    total = NUM_DRAWS + len(candidates)
    shares = math.log(NUM_DRAWS / total), math.log(len(candidates) / total)
    own = log_prob_fn(drawn) - torch.logaddexp(
        log_q + shares[0], log_base_fn(drawn) + shares[1]
    )
    shared = log_weight - torch.logaddexp(
        guide.pair_with(candidates, x) - log_base + shares[0],
        torch.full_like(log_base, shares[1]),
    )
    weights = torch.cat((own, shared))
    size = effective_size(weights)
    everything = torch.cat(
        (drawn, candidates.unsqueeze(1).expand(-1, drawn.shape[1], -1))
    )
    return Guided(
        size >= _LEAST_EFFECTIVE,
        resample_own_candidates(generator, everything, weights, NUM_STARTS),
        size / NUM_DRAWS,
    )
