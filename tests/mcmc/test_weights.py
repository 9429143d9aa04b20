"""Importance weights: effective sizes and means by hand."""

import math

import pytest
import torch

from sbi_aalr.mcmc.weights import effective_size, sum_weights

WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 2.0])
NO_WEIGHT = [-torch.inf, torch.nan]


def test_effective_size_by_hand():
    assert effective_size(WEIGHTS.log()).item() == pytest.approx(64 / 18)
    columns = torch.tensor([[1.0, 1.0, 5.0], [1.0, 3.0, 0.0]]).log()
    assert effective_size(columns).tolist() == pytest.approx([2.0, 1.6, 1.0])


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_effective_size_does_not_depend_on_the_units_of_weights(offset):
    log_weight = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(
        effective_size(log_weight + offset), effective_size(log_weight)
    )


@pytest.mark.parametrize("bad", NO_WEIGHT)
def test_draws_without_weight_do_not_count(bad):
    log_weight = torch.cat((WEIGHTS.log(), torch.tensor([bad, bad])))
    assert effective_size(log_weight).item() == pytest.approx(64 / 18)
    # Other columns do not mind.
    columns = torch.tensor([[0.0, 0.0], [0.0, bad]])
    assert effective_size(columns).tolist() == [2.0, 1.0]


@pytest.mark.parametrize("bad", NO_WEIGHT)
def test_without_any_weight_the_effective_size_is_zero(bad):
    assert effective_size(torch.full((3, 2), bad)).tolist() == [0.0, 0.0]
    assert sum_weights(torch.full((3, 2), bad)).effective_size.tolist() == [0.0, 0.0]


def test_mean_of_weights_by_hand():
    mean = sum_weights(WEIGHTS.double().log())
    assert mean.value.item() == pytest.approx(math.log(2))
    assert mean.effective_size.item() == pytest.approx(64 / 18)
    # The relative error of a mean: sqrt(population variance / N) / mean.
    assert mean.standard_error.item() == pytest.approx(math.sqrt(0.5 / 4) / 2)


def test_draws_without_weight_lower_the_mean():
    log_weight = torch.cat((WEIGHTS.log(), torch.full((4,), -torch.inf)))
    mean = sum_weights(log_weight)
    assert mean.num_draws == 8
    assert mean.value.item() == pytest.approx(0.0)
    assert mean.effective_size.item() == pytest.approx(64 / 18)


def test_mean_without_any_weight_is_zero_and_not_known():
    mean = sum_weights(torch.full((3,), -torch.inf))
    assert mean.value.item() == -torch.inf
    assert mean.standard_error.item() == torch.inf


def test_equal_weights_have_no_error():
    error = sum_weights(torch.full((7,), 3.0)).standard_error
    assert error.item() == pytest.approx(0.0, abs=1e-3)


def test_weights_that_overflow_have_a_mean():
    mean = sum_weights(torch.tensor([1e4, 1e4], dtype=torch.float64))
    assert mean.value.item() == pytest.approx(1e4)
    assert mean.effective_size.item() == pytest.approx(2.0)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_blocks_add_up_to_the_whole(cut):
    generator = torch.Generator().manual_seed(0)
    log_weight = 3 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    log_weight[0] = -torch.inf
    whole = sum_weights(log_weight)
    parts = sum_weights(log_weight[:cut]) + sum_weights(log_weight[cut:])
    assert parts.num_draws == whole.num_draws == 6
    for name in ("value", "effective_size", "standard_error"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_both_effective_sizes_agree():
    log_weight = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        sum_weights(log_weight).effective_size, effective_size(log_weight)
    )
