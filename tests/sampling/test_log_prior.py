"""What asks a prior leaves the global generators alone, and does not depend on them."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn
from torch.distributions import Distribution, constraints

from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.truncated_prior import cut_prior
from sbi_aalr.sampling.validity import Validity, ValidPrior


class DrawnByNumpy(Distribution):
    """Two standard normal numbers that NumPy draws."""

    arg_constraints: ClassVar[dict] = {}
    support = constraints.independent(constraints.real, 1)

    def __init__(self):
        super().__init__(event_shape=torch.Size((2,)), validate_args=False)

    def sample(self, sample_shape=torch.Size()):
        return torch.as_tensor(np.random.randn(*sample_shape, 2)).float()

    def log_prob(self, value):
        return torch.distributions.Normal(0.0, 1.0).log_prob(value).sum(dim=-1)


class Near(RatioEstimator):
    """A log-ratio that falls with the distance from zero."""

    def __init__(self):
        super().__init__(nn.Identity(), (2,), (2,))

    def forward(self, theta, x):
        return -theta.square().sum(dim=-1)


def make_valid():
    weights = [torch.tensor([[-2.0, 0.0]]), torch.zeros(1)]
    validity = Validity(torch.zeros(2), torch.ones(2), torch.zeros(2), weights)
    return ValidPrior(DrawnByNumpy(), validity)


def make_truncated():
    draws = 0.1 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    return cut_prior(DrawnByNumpy(), Near(), torch.ones(1, 2), draws, 0.01)


@pytest.mark.parametrize("make", [DrawnByNumpy, make_valid, make_truncated])
def test_density_is_the_same_whatever_was_drawn_before(make):
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        found.append(LogPrior(make())(torch.zeros(1, 2)).item())
        assert (np.random.get_state()[1] == before).all()
    assert found[0] == found[1]
