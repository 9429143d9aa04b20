"""Batches of fresh simulations, and batches divided."""

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate

from sbi_aalr.simulation.batches import Batch, divide, stream


@pytest.mark.parametrize(
    ("budget", "batch_size"), [(513, 256), (1_000, 256), (256, 256), (7, 3), (1, 5)]
)
def test_budget_is_spread_evenly_and_spent_exactly(budget, batch_size):
    sizes = [len(b.x) for b in stream(torch.clone, PRIOR, budget, batch_size)]
    assert sum(sizes) == budget
    assert len(sizes) == -(-budget // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_contrasting_theta_is_fresh_and_not_a_permutation():
    torch.manual_seed(0)
    made = list(stream(simulate, PRIOR, num_simulations=10_000, batch_size=1_000))
    theta, theta_prime, x = (torch.cat(column) for column in zip(*made, strict=True))
    assert len(torch.cat((theta, theta_prime)).unique(dim=0)) == 20_000
    both = torch.cat((theta_prime, x), dim=1).T
    between = torch.corrcoef(both)[:2, 2:]
    assert between.abs().max() < 5 / 10_000**0.5
    # The control: theta itself does correlate with x.
    assert torch.corrcoef(torch.cat((theta, x), dim=1).T)[0, 2] > 0.4


@pytest.mark.parametrize(
    ("rows", "batch_size", "least_rows", "sizes"),
    [
        (100, 40, 1, [34, 33, 33]),
        (40, 40, 1, [40]),
        (0, 40, 1, []),
        (100, 16, 15, [17, 17, 17, 17, 16, 16]),
        (96, 16, 15, [16] * 6),
        (10, 16, 15, [10]),
    ],
)
def test_parts_are_even_and_no_smaller_than_asked(rows, batch_size, least_rows, sizes):
    whole = Batch(*draw_pairs(rows, seed=1))
    parts = list(divide(whole, batch_size, least_rows))
    assert [len(part.theta) for part in parts] == sizes
    for part, column in zip(zip(*parts, strict=True), whole, strict=False):
        assert torch.equal(torch.cat(part), column)


def test_parts_of_a_batch_without_contrasts_have_none():
    theta, _, x = draw_pairs(5, seed=1)
    assert [part.theta_prime for part in divide(Batch(theta, None, x), 3)] == [None] * 2
