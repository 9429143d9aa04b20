"""The paper's random walk: a Gaussian proposal around the current position.

theta' = theta + scale * width * z with z ~ N(0, I). The width of each parameter is the
spread of the starts; the one scale is learned in warm-up.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 2; Roberts, Gelman & Gilks (1997)
    for the acceptance rate of 0.234.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Info, Kernel, Proposal
from sbi_aalr.types import LogProbFn

_TARGET_ACCEPTANCE = 0.234


class Parameters(NamedTuple):
    """Parameters of the random walk.

    Attributes:
        width: Spread of each parameter, shape `(B, D)`, prior units.
        scale: Factor on the width.
    """

    width: Tensor
    scale: DualAveraging


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Take the widths from the starts, shape `(C, B, D)`."""
    width = spread(starts)
    return Parameters(width, adaptation.start(optimal_scale(starts)))


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Parameters,
) -> Proposal:
    """Propose theta' ~ N(theta, (scale * width)^2); symmetric, no correction."""
    noise = torch.empty_like(position).normal_(generator=generator)
    width = parameters.scale.log_scale.exp().unsqueeze(-1) * parameters.width
    return Proposal(position + width * noise)


def tune(parameters: Parameters, info: Info) -> Parameters:
    """Move the scale towards an acceptance rate of 0.234."""
    scale = adaptation.update(
        parameters.scale, info.acceptance_rate, _TARGET_ACCEPTANCE
    )
    return parameters._replace(scale=scale)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Keep the widths: this walk learns nothing but its scale."""
    return parameters


def spread(starts: Tensor) -> Tensor:
    """Standard deviation over chains, shape `(C, B, D)` -> `(B, D)`; 1 where zero."""
    width = starts.std(dim=0, correction=0)
    return torch.where(width > 0, width, torch.ones_like(width))


def optimal_scale(starts: Tensor) -> Tensor:
    """The scale 2.38 / sqrt(D) that is optimal for a Gaussian, shape `(B,)`."""
    _, num_observations, dim = starts.shape
    return starts.new_full((num_observations,), 2.38 / dim**0.5)


KERNEL = Kernel(build, propose, tune, refit)
