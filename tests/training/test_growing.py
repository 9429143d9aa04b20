"""Passes over simulations that are still being made."""

import pytest
import torch
from linear_gaussian import PRIOR

from sbi_aalr.training.growing import GrowingPasses, GrowingRows


def number_rows(start, stop):
    rows = torch.arange(start, stop, dtype=torch.float32)[:, None]
    return rows.repeat(1, 2), rows


@pytest.fixture
def rows():
    return GrowingRows(200, *number_rows(0, 40))


def seen(batch):
    assert torch.equal(batch.theta[:, :1], batch.x)
    return batch.x[:, 0].int().tolist()


def test_each_row_is_new_once_and_others_are_drawn_from_before(rows):
    passes = GrowingPasses(rows, 200, 20, 5, PRIOR)
    batches, fresh = iter(passes), []
    known = set()
    for number in range(10):
        if number >= 4:
            rows.add(*number_rows(5 * number + 20, 5 * number + 25))
        batch = next(batches)
        found = seen(batch)
        assert len(found) == len(set(found)) == 20
        assert len(batch.theta_prime) == 20
        fresh += [row for row in found[:5] if row not in known]
        known.update(found[:5])
        assert max(found[5:]) < rows.count
    assert fresh == list(range(50))
    assert next(batches, None) is None


def test_rows_that_have_come_wait_for_their_turn(rows):
    batches = iter(GrowingPasses(rows, 200, 20, 5, None))
    first = seen(next(batches))
    assert first[:5] == [0, 1, 2, 3, 4] and max(first) < 40
    rows.add(*number_rows(40, 200))
    second = next(batches)
    # Where others serve, they are those that had their turn, if there are enough.
    assert seen(second)[:5] == [5, 6, 7, 8, 9] and second.theta_prime is None


def test_passes_over_all_show_all_once(rows):
    rows.add(*number_rows(40, 200))
    rows.is_complete = True
    passes = GrowingPasses(rows, 200, 20, 5, None)
    orders = [[row for batch in passes for row in seen(batch)] for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(200))
    assert orders[0] != orders[1]


def test_passes_are_as_long_where_some_have_failed(rows):
    rows.is_complete = True
    passes = GrowingPasses(rows, 200, 20, 5, None)
    found = [row for batch in passes for row in seen(batch)]
    assert len(found) == 200
    assert all(found.count(row) == 5 for row in range(40))


@pytest.mark.parametrize("is_complete", [True, False])
def test_pass_goes_on_where_it_was(rows, is_complete):
    rows.is_complete = is_complete
    passes = [GrowingPasses(rows, 200, 20, 5, None) for _ in range(2)]
    batches = iter(passes[0])
    for _ in range(3):
        next(batches)
    passes[1].unpack(passes[0].pack(), 3)
    torch.manual_seed(5)
    rest = [seen(batch) for batch in batches]
    torch.manual_seed(5)
    assert [seen(batch) for batch in passes[1]] == rest
    assert len(rest) == 7
    assert torch.equal(rows.collect()[1][:, 0], torch.arange(40.0))


def test_new_rows_are_told_once(rows):
    assert len(rows.take_new()[0][0]) == 40
    assert rows.take_new() == []
    rows.add(*number_rows(40, 45))
    rows.add(*number_rows(45, 50))
    (new,) = rows.take_new()
    assert new[1][:, 0].tolist() == list(range(40, 50))
