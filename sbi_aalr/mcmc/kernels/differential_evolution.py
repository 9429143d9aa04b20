"""Differential evolution: proposals along the differences of other chains.

theta' = theta + scale * (theta_a - theta_b) + small noise, with a and b two chains of
the half that stands still. The difference of two chains has the covariance and the
modes of the target in it, so nothing has to be learned but the scale; with probability
0.1 the scale is 1, which carries a chain from one mode to the other.

References:
    ter Braak (2006), Statistics and Computing 16; the two halves follow Foreman-Mackey
    et al. (2013), arXiv:1202.3665, section 3.
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
_JUMP_PROBABILITY = 0.1
_NOISE = 1e-3


class Parameters(NamedTuple):
    """Parameters of differential evolution.

    Attributes:
        width: Spread of each parameter, shape `(B, D)`, prior units.
        scale: Factor on the difference of two chains.
    """

    width: Tensor
    scale: DualAveraging


def build(generator: Generator, starts: Tensor) -> Parameters:
    """Start with the scale 2.38 / sqrt(2 D) of ter Braak.

    Raises:
        ValueError: If there are fewer than four chains, two for each half.
    """
    if starts.shape[0] < 4:
        raise ValueError(
            "Differential evolution needs at least 4 chains, two for each half, got "
            f"{starts.shape[0]}. Raise `num_chains`."
        )
    return Parameters(spread(starts), adaptation.start(optimal_scale(starts) / 2**0.5))


def propose(
    generator: Generator,
    position: Tensor,
    others: Tensor,
    log_prob_fn: LogProbFn,
    parameters: Parameters,
) -> Proposal:
    """Propose along the difference of two of the `others`; symmetric."""
    chains, observations, _ = position.shape
    count = others.shape[0]
    uniform = torch.rand(
        (3, chains, observations),
        generator=generator,
        device=position.device,
        dtype=position.dtype,
    )
    first = (uniform[0] * count).long().clamp(max=count - 1)
    gap = (uniform[1] * (count - 1)).long().clamp(max=count - 2)
    second = (first + 1 + gap) % count
    pair = torch.stack((first, second)).unsqueeze(-1).expand(2, *position.shape)
    ends = others.expand(2, *others.shape).gather(1, pair)
    scale = parameters.scale.log_scale.exp()
    scale = torch.where(uniform[2] < _JUMP_PROBABILITY, torch.ones_like(scale), scale)
    noise = torch.empty_like(position).normal_(generator=generator)
    step = scale.unsqueeze(-1) * (ends[0] - ends[1])
    return Proposal(position + step + _NOISE * parameters.width * noise)


def refit(generator: Generator, parameters: Parameters, draws: Tensor) -> Parameters:
    """Take the noise's width from a window's draws; the scale goes on."""
    return parameters._replace(width=spread(draws.flatten(0, 1)))


KERNEL = Kernel(
    build,
    propose,
    partial(adaptation.tune, target=_TARGET_ACCEPTANCE),
    refit,
    uses_population=True,
)
