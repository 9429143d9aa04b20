"""Any simulator that sbi accepts gives batches."""

import random

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR

from sbi_aalr.seeding import generators_kept
from sbi_aalr.simulation.adapt import adapt, prepare
from sbi_aalr.simulators import TwoMoons

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


def test_trying_a_simulator_moves_nobody_s_draws():
    def draw_everywhere(theta):
        random.random()
        return torch.randn_like(theta) + torch.from_numpy(np.random.randn(*theta.shape))

    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    with generators_kept():
        expected = draw()
    adapt(draw_everywhere, PRIOR)
    assert draw() == expected
    # The control: it does draw.
    draw_everywhere(THETA)
    assert draw() != expected


def test_what_is_adapted_is_tried_no_more():
    calls = []
    adapted = adapt(lambda theta: calls.append(0) or theta, PRIOR)
    assert len(calls) == 2
    assert adapt(adapted, PRIOR) is adapted is prepare(adapted, PRIOR)[0]
    assert len(calls) == 2


def test_what_is_no_simulator_is_named():
    with pytest.raises(TypeError, match=r"`simulator` must be callable, got int\.$"):
        adapt(3, PRIOR)
    with pytest.raises(TypeError, match=r"got TwoMoons\. Pass its method `simulate`"):
        prepare(TwoMoons(), PRIOR)


def test_a_row_that_fails_is_named_and_not_the_first_of_its_batch():
    def fail_above_2(theta):
        first, second = theta.tolist()
        return [1 / (first - 3), second]

    with pytest.raises(
        ValueError,
        match=r"raised ZeroDivisionError: .* \(for theta = \[3.0, 4.0\]\). It takes no "
        "batch either, which raised ValueError: too many values",
    ):
        adapt(fail_above_2, PRIOR)(THETA)
    assert adapt(fail_above_2, PRIOR)(THETA[:1]).tolist() == [[-0.5, 2.0]]


def test_rows_of_two_shapes_are_named():
    def grow(theta):
        first, _ = theta.tolist()
        return np.ones(2 if first < 3 else 3)

    with pytest.raises(
        ValueError,
        match=r"rows of one shape, got \(2,\) at theta = \[1.0, 2.0\] and \(3,\) at",
    ):
        adapt(grow, PRIOR)(THETA)
