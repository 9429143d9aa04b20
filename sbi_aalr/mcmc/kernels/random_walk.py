"""The paper's random walk: a Gaussian proposal around the current position.

theta' = theta + scale * width * z with z ~ N(0, I). The width of each parameter is the
spread of the starts; the one scale is learned in warm-up.

References:
    Hermans et al. (2020), arXiv:1903.04057, Algorithm 2; Roberts, Gelman & Gilks (1997)
    for the acceptance rate of 0.234.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sbi_aalr.mcmc import adaptation
from sbi_aalr.mcmc.adaptation import DualAveraging
from sbi_aalr.mcmc.kernel import Kernel, Proposal
from sbi_aalr.mcmc.shapes import optimal_scale, spread
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
    return Parameters(spread(starts), adaptation.start(optimal_scale(starts)))


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


# No `refit`: this walk learns nothing but its scale.
KERNEL = Kernel(build, propose, partial(adaptation.tune, target=_TARGET_ACCEPTANCE))
