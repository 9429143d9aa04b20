import pytest
import torch
from torch import nn

from sbi_aalr.training.schedule import WeightAverage, compute_rate_factor


def test_rate_rises_and_falls_to_zero():
    factors = [compute_rate_factor(i / 1000) for i in range(1001)]
    peak = factors.index(max(factors))
    assert factors[0] == factors[-1] == 0 and max(factors) == 1
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_average_is_that_of_the_last_steps():
    layer = nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer)
    for value in range(1_000):
        layer.weight.data.fill_(float(value))
        average.update()
    with average.applied():
        # The last 3 % of 1,000 steps lie about 30 behind.
        assert layer.weight.item() == pytest.approx(970, abs=15)
    assert layer.weight.item() == 999


def test_first_update_takes_the_weights_as_they_are():
    layer = nn.Linear(2, 2)
    average = WeightAverage(layer)
    layer.weight.data.add_(1)
    average.update()
    expected = layer.weight.detach().clone()
    average.apply()
    assert torch.equal(layer.weight, expected)


def test_own_weights_come_back_after_an_error():
    layer = nn.Linear(2, 2)
    average = WeightAverage(layer)
    layer.weight.data.add_(1)
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), average.applied():
        raise RuntimeError("stop")
    assert torch.equal(layer.weight, before)
