r"""Starts from a density that the ratio estimator keeps beside it.

Draws of q(theta|x) and of the prior are weighted together, by the mixture of the two
that they come from: what q misses, the prior's draws still find. Where the weights
share the draws well, an observation needs no annealing and hardly any warm-up; where
they do not, q is of no use, and the observation goes the usual way.

References:
    Owen & Zhou (2000), JASA 95, for the weights of draws from several distributions.
"""

import math
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Generator, Tensor
from torch.distributions.transforms import ComposeTransform, Transform

from sbi_aalr.mcmc.starts import resample_own_candidates
from sbi_aalr.networks.density import draw_embedded
from sbi_aalr.networks.pairs import match
from sbi_aalr.types import LogProbFn

# Draws of q for each observation.
NUM_DRAWS = 250
# Draws of the prior that are weighed beside them: those of most weight, and as many
# that stand for the others.
_MOST_CANDIDATES = 250
# Starts that a kernel is built from.
NUM_STARTS = 400


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
        """The same in the units that a transform of these leads to."""
        if self._transform is not None:
            theta_transform = ComposeTransform([self._transform, theta_transform])
        return Guide(self._proposal, theta_transform)

    def draw(
        self, generator: Generator, x: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        """Draw for observations `(B, ...)`: `(S, B, D)` and log q `(S, B)`, nats."""
        return self.draw_embedded(generator, self.embed(x), num_samples)

    def embed(self, x: Tensor) -> Tensor:
        """What is to be known of observations `(B, ...)`, shape `(B, F)`."""
        return self._proposal.embedding_net_x(x)

    def draw_embedded(
        self, generator: Generator, embedded_x: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        """The same as `draw` for observations that are embedded, `(B, F)`."""
        theta = draw_embedded(self._proposal, embedded_x, num_samples, generator)
        return self._move(theta), self._evaluate(embedded_x, theta)

    def log_density(self, embedded_x: Tensor, position: Tensor) -> Tensor:
        """Log q at positions `(C, B, D)` of each observation, `(C, B)`, nats."""
        theta = position
        if self._transform is not None:
            theta = self._transform.inv(position.flatten(0, -2)).view(position.shape)
        return self._evaluate(embedded_x, theta)

    def pair_with(self, position: Tensor, x: Tensor) -> Tensor:
        """Log q at shared positions `(K, D)` for all observations, `(K, B)`, nats."""
        theta = position
        if self._transform is not None:
            theta = self._transform.inv(position)
        log_ratio = self._proposal.net.all_pairs(
            self._proposal.embedding_net_theta(theta), self._proposal.embedding_net_x(x)
        )
        return log_ratio + self._add_prior(torch.zeros(()), theta).unsqueeze(1)

    def _evaluate(self, embedded_x: Tensor, theta: Tensor) -> Tensor:
        """Log q, in the units that are sampled in, at prior units `(C, B, D)`."""
        rows = theta.flatten(0, 1)
        embedded_theta = self._proposal.embedding_net_theta(rows)
        tiled = embedded_x.repeat(len(theta), 1)
        log_ratio = match(self._proposal.net, embedded_theta, tiled)
        return self._add_prior(log_ratio, rows).view(theta.shape[:2])

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
    """Where chains start, and how far q can be trusted.

    Attributes:
        position: Starts, shape `(C, B, D)`.
        effective_share: Draws of the target that a draw of q is worth, from 0 to 1,
            shape `(B,)`.
    """

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
    num_starts: int = NUM_STARTS,
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
        num_starts: Starts to choose for each observation, `C`.

    Returns:
        Starts, of use for those observations where q is worth something.
    """
    embedded_x = guide.embed(x)
    drawn, log_q = guide.draw_embedded(generator, embedded_x, NUM_DRAWS)
    index, log_count = _choose_candidates(log_weight)
    chosen = candidates[index]
    log_base = torch.cat((log_base_fn(drawn), log_base_fn(chosen)))
    log_q = torch.cat((log_q, guide.log_density(embedded_x, chosen)))
    log_prob = torch.cat((log_prob_fn(drawn), log_weight.gather(0, index)))
    log_prob[NUM_DRAWS:] += log_base[NUM_DRAWS:]
    total = NUM_DRAWS + len(candidates)
    shares = math.log(NUM_DRAWS / total), math.log(len(candidates) / total)
    weights = log_prob - torch.logaddexp(log_q + shares[0], log_base + shares[1])
    weights[NUM_DRAWS:] += log_count
    return Guided(
        resample_own_candidates(
            generator, torch.cat((drawn, chosen)), weights, num_starts
        ),
        _measure_share(weights, log_prob - log_q, total),
    )


def _choose_candidates(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Take the draws of the prior that weigh most, and some that stand for the others.

    Args:
        log_weight: Shape `(K, B)`, nats.

    Returns:
        Their places, and log of how many draws each stands for, both `(K', B)`.
    """
    log_weight = log_weight.nan_to_num(-torch.inf, posinf=-torch.inf)
    count = len(log_weight)
    top = log_weight.topk(min(_MOST_CANDIDATES, count), dim=0).indices
    others = torch.arange(min(_MOST_CANDIDATES, count), device=top.device)
    is_top = torch.zeros_like(log_weight, dtype=torch.bool).scatter_(0, top, True)
    is_other = ~is_top[others]
    each = (count - len(top)) / is_other.sum(dim=0)
    log_count = torch.where(is_other, each.log(), -torch.inf)
    return (
        torch.cat((top, others.unsqueeze(1).expand(-1, top.shape[1]))),
        torch.cat((torch.zeros_like(log_weight[: len(top)]), log_count)),
    )


def _measure_share(log_weight: Tensor, log_ratio: Tensor, total: int) -> Tensor:
    """How many draws of the target a draw of q is worth, from 0 to 1.

    It is one over the target's mean of p(theta|x) / q(theta). The mean runs over draws
    of the prior too: what q does not reach, its own draws would not tell. The ratio
    counts as no more than there are draws of q, so that a corner which holds less than
    one in as many does not decide.

    Args:
        log_weight: Weights that make draws of the target of these, `(N, B)`, nats.
        log_ratio: Log p(theta|x), up to a constant, less log q, `(N, B)`, nats.
        total: Number of draws, those of no weight included.
    """
    log_weight = log_weight.nan_to_num(-torch.inf, posinf=-torch.inf)
    log_sum = log_weight.logsumexp(dim=0)
    # The mean weight is the constant of p(theta|x).
    log_ratio = log_ratio.nan_to_num(-torch.inf) - (log_sum - math.log(total))
    log_ratio = log_ratio.clamp(max=math.log(NUM_DRAWS))
    log_mean = (log_weight - log_sum + log_ratio).logsumexp(dim=0)
    return (-log_mean).exp().nan_to_num(0.0).clamp(max=1.0)
