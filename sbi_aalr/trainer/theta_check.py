"""Whether simulated parameters follow the prior that the trainer was given.

A density of theta given data learns the posterior under whatever its parameters
followed. Divided by another prior it is no ratio, while networks that tell pairs apart
and densities of data are right, whatever proposes.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from sbi_aalr.errors import OtherPriorWarning
from sbi_aalr.sampling.truncated_prior import take_off_cuts
from sbi_aalr.seeding import seeded
from sbi_aalr.trainer.sbi_trainer import SbiTrainer

_NUM_DRAWS = 20_000
# Random directions beside the axes, so that correlations count.
_NUM_DIRECTIONS = 16
# Probability with which parameters that do follow the prior are taken for others.
_FALSE_ALARM_RATE = 1e-6


@torch.no_grad()
def follows_prior(theta: Tensor, prior: Any) -> bool:
    """Compare parameters with draws of the prior.

    By the test of Kolmogorov and Smirnov, along each axis and some directions.

    Args:
        theta: Parameters of simulations, shape `(N, D)`.
        prior: Distribution of parameters of shape `(D,)`.

    Returns:
        Whether they may well be draws of it.
    """
    # It takes a second to import.
    from scipy.stats import ks_2samp

    with seeded(0):
        drawn = prior.sample((_NUM_DRAWS,)).double().cpu()
        rows = torch.randperm(len(theta))[:_NUM_DRAWS]
        directions = torch.randn(theta.shape[1], _NUM_DIRECTIONS, dtype=torch.double)
    given = theta.cpu()[rows].double()
    levels = torch.tensor((0.25, 0.5, 0.75), dtype=torch.double)
    low, centre, high = drawn.quantile(levels, dim=0)
    spread = (high - low).clamp_min(1e-300)
    both = [(part - centre) / spread for part in (given, drawn)]
    columns = [torch.cat((part, part @ directions), dim=1) for part in both]
    p_values = [
        ks_2samp(columns[0][:, i].numpy(), columns[1][:, i].numpy()).pvalue
        for i in range(columns[0].shape[1])
    ]
    return min(p_values) > _FALSE_ALARM_RATE / len(p_values)


def check_theta(trainer: SbiTrainer, theta: Tensor) -> bool:
    """Find out whether densities of theta given data can be used in the trainer's fit.

    Args:
        trainer: Whose prior is meant, and whose failures were drawn with theta.
        theta: Parameters of the simulations to train on, shape `(N, D)`.

    Returns:
        Whether the parameters follow the prior.

    Warns:
        OtherPriorWarning: If not, unless they are said to come from another round.
    """
    # What is left of a prior that was cut follows it there.
    if trainer._cut is not None:
        return True
    drawn = torch.cat([theta.cpu(), *trainer._failures])
    if follows_prior(drawn, take_off_cuts(trainer._prior)):
        return True
    if any(trainer._data_round_index):
        return False
    warnings.warn(
        OtherPriorWarning(
            "theta does not follow the prior that was given, so that densities of "
            "theta given data, which learn the posterior under another one, are left "
            "out; what is left is right for the prior, but often less accurate. Draw "
            "theta from the prior, or give the prior that it was drawn from."
        ),
        stacklevel=2,
    )
    return False
