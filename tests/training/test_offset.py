"""The offset c(x): found through noise, and left out where it is of no use."""

import pytest
import torch
from linear_gaussian import draw_pairs
from torch import nn

from sbi_aalr.networks.stack import Offset
from sbi_aalr.training.offset import fit_offset

NUM_ROWS = 2_000
X = draw_pairs(NUM_ROWS, seed=1)[2]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """A third of the usual steps are enough here."""
    monkeypatch.setattr("sbi_aalr.training.offset._NUM_STEPS", 200)


def known(x):
    return 0.5 * x[:, 0] - 0.3 * x[:, 1].clamp(-1, 1)


def draw_noise(size, seed=1):
    """Noise of log Z where estimates of Z are unbiased."""
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(NUM_ROWS, generator=generator) - size**2 / 2


def fit(log_normaliser, x=X, **settings):
    torch.manual_seed(1)
    offset = Offset(x)
    is_useful = fit_offset(offset, x, log_normaliser, **settings)
    return offset.eval(), is_useful


@torch.no_grad()
def measure(offset, expected, seed=2):
    """Root of the mean squared error of c(x) at fresh data."""
    x = draw_pairs(NUM_ROWS, seed)[2]
    return float((offset(x)[:, 0] - expected(x)).square().mean().sqrt())


def test_function_of_x_is_found_through_noise():
    offset, is_useful = fit(known(X) + draw_noise(0.5))
    assert is_useful
    # Zero, the control, would be off by the function itself.
    assert measure(offset, lambda x: -known(x)) < 0.15
    assert measure(Offset(X).eval(), lambda x: -known(x)) > 0.6


def test_mean_of_the_ratio_is_brought_to_one_and_not_that_of_its_logarithm():
    noise = draw_noise(1.0)
    offset, is_useful = fit(1.0 + noise)
    assert is_useful
    # The mean of the logarithms is lower by a half.
    assert measure(offset, lambda x: torch.full((len(x),), -1.0)) < 0.2


@pytest.mark.parametrize("size", [0.0, 0.005])
def test_zeros_need_no_offset(size):
    _, is_useful = fit(size * torch.ones(NUM_ROWS))
    assert not is_useful


def test_constant_is_found_exactly_and_without_a_network():
    offset, is_useful = fit(torch.full((NUM_ROWS,), 2.5))
    assert is_useful and torch.equal(offset.last.weight, torch.zeros(1, 64))
    assert measure(offset, lambda x: torch.full((len(x),), -2.5)) < 1e-6


def test_pure_noise_gives_little_more_than_a_constant():
    offset, _ = fit(draw_noise(0.3))
    assert measure(offset, lambda x: torch.zeros(len(x))) < 0.1


def test_an_outlier_pulls_and_does_not_tear():
    log_normaliser = known(X) + draw_noise(0.1)
    log_normaliser[700] += 30.0
    offset, _ = fit(log_normaliser)
    assert measure(offset, lambda x: -known(x)) < 0.3


@pytest.mark.parametrize("num_rows", [1, 5, 25])
def test_few_rows_are_enough_for_a_constant(num_rows):
    x = X[:num_rows]
    offset, is_useful = fit(torch.full((num_rows,), 1.0), x)
    assert is_useful and measure(offset, lambda x: -torch.ones(len(x))) < 1e-6


def test_time_limit_makes_it_shorter(monkeypatch):
    steps = []
    step = torch.optim.AdamW.step

    def count(self, *arguments, **settings):
        steps.append(None)
        return step(self, *arguments, **settings)

    monkeypatch.setattr(torch.optim.AdamW, "step", count)
    fit(known(X), seconds=0.2)
    assert 10 <= len(steps) <= 20


def test_features_of_the_users_net_are_not_trained():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 4))
    offset = Offset(X, net)
    before = {name: part.clone() for name, part in offset.embed.state_dict().items()}
    fit_offset(offset, X, known(X), seconds=0.2)
    after = offset.embed.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_images_have_no_quadratic():
    """Of a thousand pixels it would take longer than all else."""
    x = torch.randn(400, 1, 32, 32)
    log_normaliser = 1 + 0.5 * x[:, 0, 0, 0]
    offset = Offset(x)
    assert fit_offset(offset, x, log_normaliser, seconds=0.1)
    assert not offset.slope.any()
    assert float(offset.intercept) == pytest.approx(-1, abs=0.2)
