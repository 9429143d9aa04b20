"""Passes over streamed and stored simulations."""

import weakref

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate

from sbi_aalr.simulation.batches import stream
from sbi_aalr.training.passes import StoredPasses, StreamedPasses


def make_streamed(is_single):
    fresh = stream(simulate, PRIOR, num_simulations=90, batch_size=30)
    return StreamedPasses(fresh, 90, 30, PRIOR, is_single=is_single)


def test_later_passes_meet_the_same_simulations_with_other_contrasts():
    torch.manual_seed(0)
    passes = make_streamed(is_single=False)
    rows = [list(passes) for _ in range(3)]
    first, second, third = (torch.cat([b.x for b in batches]) for batches in rows)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    for later in (second, third):
        assert torch.equal(first.sort(0).values, later.sort(0).values)
    primes = torch.cat([b.theta_prime for batches in rows for b in batches])
    assert len(primes.unique(dim=0)) == 270
    # Rows stay together.
    pairs = {
        tuple(row) for b in rows[0] for row in torch.cat((b.theta, b.x), 1).tolist()
    }
    for batch in rows[2]:
        for row in torch.cat((batch.theta, batch.x), 1).tolist():
            assert tuple(row) in pairs


@pytest.mark.parametrize("is_single", [True, False])
def test_a_single_pass_keeps_nothing(is_single):
    passes = make_streamed(is_single)
    made = [weakref.ref(batch.x) for batch in passes]
    assert len(made) == 3
    assert all((x() is None) == is_single for x in made)
    assert len(list(passes)) == (0 if is_single else 3)


def test_stored_passes_leave_other_columns_aside():
    theta, _, x = draw_pairs(4, seed=1)
    passes = StoredPasses([(theta, x, torch.ones(4))], 4, "cpu")
    for _ in range(2):
        (batch,) = passes
        assert batch.theta_prime is None
        assert torch.equal(batch.theta, theta) and torch.equal(batch.x, x)
