"""Batches of fresh simulations."""

import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr.simulation.batches import simulate, stream

PRIOR = BoxUniform(-torch.ones(2), torch.ones(2))


@pytest.mark.parametrize(
    ("budget", "batch_size"), [(513, 256), (1_000, 256), (256, 256), (7, 3), (1, 5)]
)
def test_budget_is_spread_evenly_and_spent_exactly(budget, batch_size):
    sizes = [len(b.x) for b in stream(torch.clone, PRIOR, budget, batch_size)]
    assert sum(sizes) == budget
    assert len(sizes) == -(-budget // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_a_simulation_that_fails_is_named_by_its_parameters():
    theta = torch.tensor([[0.5, 0.25], [0.75, -0.5]])

    def fail(theta):
        return torch.where(theta[:, :1] > 0.6, torch.nan, theta)

    with pytest.raises(ValueError, match=r"1 of 2 rows \(first: theta = \[0.75, -0.5"):
        simulate(fail, theta)
