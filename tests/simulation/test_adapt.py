"""Any simulator that sbi accepts gives batches."""

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR

from sbi_aalr.simulation.adapt import prepare

THETA = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def double(theta):
    return 2 * theta


def double_in_numpy(theta):
    return 2 * np.asarray(theta)


def double_one(theta):
    first, second = theta.tolist()
    return torch.tensor([2 * first, 2 * second])


@pytest.mark.parametrize("simulator", [double, double_in_numpy, double_one])
def test_every_kind_of_simulator_gives_one_row_for_each_parameter_set(simulator):
    batched, _ = prepare(simulator, PRIOR)
    assert torch.equal(torch.as_tensor(batched(THETA)), 2 * THETA)


def test_what_takes_batches_is_called_once_for_all_rows():
    calls = []

    def count(theta):
        calls.append(len(theta))
        return double(theta)

    batched, _ = prepare(count, PRIOR)
    batched(THETA)
    # Two and three parameter sets found out whether it takes batches.
    assert calls == [2, 3, 3]


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (lambda theta: theta[1:], "got 1 rows for 2 parameter sets and 2 for 3"),
        (lambda theta: theta[:, 0], r"got one number. Give it the shape \(1,\)"),
    ],
)
def test_another_number_of_rows_is_named(simulator, message):
    with pytest.raises(ValueError, match=message):
        prepare(simulator, PRIOR)
