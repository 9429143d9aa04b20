"""The M/G/1 queue, against one that serves customers one at a time."""

import random

import numpy as np
import pytest
import torch
from scipy import stats

from sbi_aalr.simulators import MG1


def serve(theta, generator):
    """One queue by its events; returns the gaps between 50 departures."""
    shortest, width, rate = theta
    clock, free_at, departures = 0.0, 0.0, [0.0]
    for _ in range(50):
        clock += generator.expovariate(rate)
        begins = max(clock, free_at)
        free_at = begins + shortest + width * generator.random()
        departures.append(free_at)
    return np.diff(departures)


@pytest.mark.parametrize("theta", [(1.0, 4.0, 0.2), (2.0, 1.0, 0.33), (0.1, 9.0, 0.05)])
def test_percentiles_match_a_queue_by_its_events(theta):
    generator = random.Random(1)
    expected = np.percentile(
        [serve(theta, generator) for _ in range(1_000)], range(0, 101, 25), axis=1
    )
    rows = torch.tensor(theta).expand(2_000, 3)
    x = MG1().simulate(rows, generator=torch.Generator().manual_seed(2)).numpy()
    other = torch.tensor([theta[0], 0.9 * theta[1], theta[2]]).expand(2_000, 3)
    wrong = MG1().simulate(other, generator=torch.Generator().manual_seed(2)).numpy()
    p_values = [
        stats.ks_2samp(*pair).pvalue for pair in zip(x.T, expected, strict=True)
    ]
    assert min(p_values) > 1e-3
    p_values = [
        stats.ks_2samp(*pair).pvalue for pair in zip(wrong.T, expected, strict=True)
    ]
    assert min(p_values) < 1e-3


def test_busy_server_leaves_only_its_service_times():
    theta = torch.tensor([[2.0, 0.0, 1e6]])
    torch.testing.assert_close(MG1().simulate(theta), torch.full((1, 5), 2.0))


def test_prior_truth_and_order():
    queue = MG1()
    theta = queue.prior.sample((200,))
    x = queue.simulate(theta)
    assert (x.diff(dim=1) >= 0).all() and (x[:, 0] >= theta[:, 0]).all()
    assert torch.isfinite(queue.prior.log_prob(queue.true_parameters))


def test_impossible_parameters_raise():
    for row in ([-1.0, 1.0, 0.1], [1.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match="`theta` must have times of at least 0"):
            MG1().simulate(torch.tensor([row]))
