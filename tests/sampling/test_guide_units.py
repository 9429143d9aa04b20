"""The density that proposes, in the units that are sampled in."""

import math

import torch
from exact_ratios import make_density
from helpers import make_generator
from sbi.utils import BoxUniform
from torch.distributions import AffineTransform

from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.prior_transform import find_transform


@torch.no_grad()
def test_density_in_other_units_has_the_jacobian():
    prior = BoxUniform(-torch.ones(1), torch.ones(1))
    torch.manual_seed(1)
    theta = prior.sample((400,))
    proposal = make_density(theta, theta + 0.5 * torch.randn_like(theta), prior)
    transform = find_transform(prior)
    x = torch.zeros(2, 1)
    plain, moved = Guide(proposal), Guide(proposal).transformed(transform)
    inside, log_q = plain.draw(make_generator(), x, 300)
    outside, log_moved = moved.draw(make_generator(), x, 300)
    rows = transform(inside.flatten(0, 1))
    torch.testing.assert_close(outside.flatten(0, 1), rows)
    jacobian = transform.log_abs_det_jacobian(inside.flatten(0, 1), rows)
    torch.testing.assert_close(
        log_moved, log_q - jacobian.view(300, 2), rtol=1e-3, atol=1e-3
    )
    shared = moved.pair_with(outside[:, 0], x)
    torch.testing.assert_close(shared[:, 0], log_moved[:, 0], rtol=1e-3, atol=1e-3)
    # A second transform goes on from the first.
    twice, log_twice = moved.transformed(AffineTransform(3.0, 2.0, 1)).draw(
        make_generator(), x, 300
    )
    torch.testing.assert_close(twice, 3 + 2 * outside)
    torch.testing.assert_close(log_twice, log_moved - math.log(2))
