"""Chains that start near each other are in one group."""

import pytest
import torch
from helpers import make_generator

from sbi_aalr.mcmc.superchains import group_nearby


@pytest.mark.parametrize("num_groups", [1, 2, 8, 16])
def test_groups_are_of_equal_size(num_groups):
    starts = torch.randn(200, 3, 4, generator=make_generator())
    group = group_nearby(starts, num_groups)
    size = 200 // num_groups
    assert group.shape == (size * num_groups, 3)
    for column in group.T:
        assert column.bincount(minlength=num_groups).tolist() == [size] * num_groups


def test_near_chains_share_a_group():
    generator = make_generator()
    corner = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    which = torch.stack([torch.randperm(80, generator=generator) % 4 for _ in "ab"], 1)
    # Of widely different units, as parameters are.
    starts = corner[which] * torch.tensor([1e-3, 1e3])
    starts = starts * (1 + 0.01 * torch.randn(80, 2, 2, generator=generator))
    group = group_nearby(starts, 4)
    for observation in range(2):
        for index in range(4):
            members = which[group[:, observation] == index, observation]
            assert (members == members[0]).all()


def test_groups_of_constant_starts_do_not_fail():
    group = group_nearby(torch.zeros(16, 1, 2), 4)
    assert group[:, 0].bincount().tolist() == [4, 4, 4, 4]
