r"""Contrasts of known density, drawn where the posterior lies.

A contrast theta' of the prior tells little about a narrow posterior, as nearly all are
far from it. One drawn from g(theta'|x), a mixture of the fitted densities q(theta|x)
and of the prior, tells more, and is as good for a ratio: in place of the log-ratio, the
logit to tell it from theta is log r(x|theta) + log p(theta) - log g(theta|x). So

    log Z(x) = log E_g [r(x|theta) p(theta) / g(theta|x)],

and the log-density of the posterior at the true theta is known, normalised.

References:
    Gutmann & Hyvarinen (2012), JMLR 13, for contrasts of another distribution.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.density import draw_theta
from sbi_aalr.networks.pairs import match

# Share of the contrasts that come from the prior, so that none is without any.
_PRIOR_SHARE = 0.1
_BLOCK_ROWS = 4096


class Pool(NamedTuple):
    """Draws of the prior to take contrasts from.

    Attributes:
        theta: Parameters of simulations, shape `(N, D)`.
        keeps: Where a prior that has been cut is left, `(N, D)` -> `(N,)`; None for one
            that has not.
        log_share: Log of the share of the prior that is left, nats.
    """

    theta: Tensor
    keeps: Callable[[Tensor], Tensor] | None = None
    log_share: float = 0.0


class Contrasts(NamedTuple):
    """Contrasts of each x.

    Attributes:
        theta: Parameters, shape `(S, N, D)`.
        log_weight: log p(theta) - log g(theta|x), shape `(S, N)`, nats.
        log_weight_joint: The same for the theta that made each x, shape `(N,)`.
    """

    theta: Tensor
    log_weight: Tensor
    log_weight_joint: Tensor


@torch.no_grad()
def draw_contrasts(
    proposals: Sequence[RatioEstimator],
    pool: Pool,
    theta: Tensor,
    x: Tensor,
    num_contrasts: int,
    generator: torch.Generator,
) -> Contrasts:
    """Draw contrasts from the proposals in equal shares, and some from the prior.

    Args:
        proposals: Ratio estimators q(theta|x) / p(theta) of `posterior_mixture`.
        pool: Draws of the prior, and where it has been cut.
        theta: The parameters that made the data, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        num_contrasts: Contrasts of each x, S.
        generator: Source of randomness, on the device of the data.

    Returns:
        Contrasts and their weights.
    """
    share = _PRIOR_SHARE if proposals else 1.0
    num_prior = max(1, round(share * num_contrasts))
    left = num_contrasts - num_prior
    rows = torch.randint(
        len(pool.theta), (num_prior, len(x)), generator=generator, device=x.device
    )
    parts = [pool.theta[rows]]
    counts = [num_prior]
    for index, proposal in enumerate(proposals):
        count = left * (index + 1) // len(proposals) - left * index // len(proposals)
        if count:
            blocks = [
                draw_theta(proposal, rows, count, generator)
                for rows in x.split(max(1, _BLOCK_ROWS // count))
            ]
            parts.append(torch.cat(blocks, dim=1))
        counts.append(count)
    drawn = torch.cat(parts)
    everything = torch.cat((theta.unsqueeze(0), drawn))
    shares = torch.tensor(counts, device=x.device) / num_contrasts
    # log g - log p: that of an uncut prior is 0, those of the others their log-ratios.
    logs = [torch.full(everything.shape[:2], -pool.log_share, device=x.device)]
    logs += [evaluate(proposal, everything, x) for proposal in proposals]
    stacked = torch.stack(logs, dim=-1) + shares.log()
    log_weight = -pool.log_share - stacked.logsumexp(dim=-1)
    if proposals:
        # A density may reach over edges of the prior that its support does not tell.
        is_beyond = ~proposals[0].embedding_net_theta.has_prior(drawn)
        log_weight[1:].masked_fill_(is_beyond, -torch.inf)
    if pool.keeps is not None:
        kept = pool.keeps(everything.flatten(0, 1)).view(log_weight.shape)
        kept[0] = True
        log_weight = log_weight.masked_fill(~kept, -torch.inf)
    return Contrasts(drawn, log_weight[1:], log_weight[0])


@torch.no_grad()
def evaluate(estimator: RatioEstimator, theta: Tensor, x: Tensor) -> Tensor:
    """Log-ratios of contrasts `(S, N, D)` with their x `(N, ...)`, `(S, N)`, nats."""
    num_contrasts = len(theta)
    columns = []
    size = max(1, _BLOCK_ROWS // num_contrasts)
    for thetas, rows in zip(theta.split(size, dim=1), x.split(size), strict=True):
        embedded_x = estimator.embedding_net_x(rows)
        embedded_theta = estimator.embedding_net_theta(thetas.flatten(0, 1))
        tiled = embedded_x.repeat(num_contrasts, 1)
        logits = match(estimator.net, embedded_theta, tiled)
        columns.append(logits.reshape(num_contrasts, len(rows)))
    return torch.cat(columns, dim=1)


def estimate_normaliser(log_ratio: Tensor, contrasts: Contrasts) -> Tensor:
    """Estimate log Z(x) = log E_prior r(x|theta), shape `(N,)`, nats."""
    total = (log_ratio + contrasts.log_weight).logsumexp(dim=0)
    return total - math.log(len(log_ratio))
