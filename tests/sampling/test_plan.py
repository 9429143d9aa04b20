"""What a run chooses where the user leaves it open."""

import pytest
import torch
from linear_gaussian import SHORT
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch.distributions import MultivariateNormal

from sbi_aalr import MHPosterior


@pytest.mark.parametrize(
    ("dim", "kernel"), [(2, "jump_walk"), (20, "jump_walk"), (21, "hmc")]
)
def test_kernel_is_chosen_by_the_number_of_parameters(dim, kernel):
    prior = MultivariateNormal(torch.zeros(dim), torch.eye(dim))
    net = torch.nn.Linear(2 * dim, 1)
    estimator = RatioEstimator(net, torch.Size([dim]), torch.Size([dim]))
    posterior = MHPosterior.from_estimator(estimator, prior)
    assert posterior.parameters.kernel == "auto"
    posterior.sample((20,), x=torch.zeros(dim), seed=1, **SHORT)
    assert posterior.to_datatree().attrs["kernel"] == kernel
