"""Series of many numbers have posteriors as narrow as they say, without a net given."""

import pytest
import torch
from sbi.utils import BoxUniform

from sbi_aalr import AALR
from sbi_aalr.trainer import begin
from sbi_aalr.training.members import list_members

LENGTH = 60
PRIOR = BoxUniform(torch.tensor([-1.0, 0.5]), torch.tensor([1.0, 2.0]))


def walk(theta):
    """Random walks with a drift and a size of the steps, `(N, 2)` to `(N, 60)`."""
    steps = theta[:, :1] + theta[:, 1:] * torch.randn(len(theta), LENGTH)
    return steps.cumsum(dim=1)


def find_sizes(x):
    """Exact mean and sd of the size of the steps, on a grid with the drift."""
    steps = torch.diff(x.double(), prepend=torch.zeros(len(x), 1), dim=1)
    drift, size = (
        torch.linspace(low, high, 301, dtype=torch.float64)
        for low, high in zip(PRIOR.base_dist.low, PRIOR.base_dist.high, strict=True)
    )
    total, square = (steps**power for power in (1, 2))
    total, square = total.sum(dim=1)[:, None, None], square.sum(dim=1)[:, None, None]
    misfit = square - 2 * drift[:, None] * total + LENGTH * drift[:, None] ** 2
    log_prob = -LENGTH * size.log() - misfit / (2 * size**2)
    weight = log_prob.flatten(1).softmax(dim=1).unflatten(1, (301, 301)).sum(dim=1)
    mean = weight @ size
    return mean, (weight @ size**2 - mean**2).sqrt()


def measure_widths(num_simulations):
    """Ratio of each posterior's rms distance from the exact mean to the exact sd."""
    torch.manual_seed(1)
    theta = PRIOR.sample((num_simulations,))
    trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
    trainer.append_simulations(theta, walk(theta)).train(seed=1)
    x = walk(PRIOR.sample((20,)))
    posterior = trainer.build_posterior()
    draws = posterior.sample_batched((500,), x, seed=1, show_progress_bars=False)
    mean, sd = find_sizes(x)
    return ((draws[:, :, 1] - mean).square().mean(dim=0).sqrt() / sd).median()


@pytest.mark.usefixtures("hasty_towers")
@pytest.mark.parametrize(
    ("is_control", "low", "high"),
    [(False, 0.9, 1.6), pytest.param(True, 2.0, 20.0, marks=pytest.mark.slow)],
)
def test_steps_of_a_random_walk_are_measured(monkeypatch, is_control, low, high):
    if is_control:

        def leave_out(*arguments):
            members = list_members(*arguments)
            return [one for one in members if not one.settings.get("is_series")]

        monkeypatch.setattr(begin, "list_members", leave_out)
    assert low < measure_widths(1_000) < high
