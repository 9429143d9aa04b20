"""Lotka-Volterra, against exact moments and one event at a time."""

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats

from sbi_aalr.simulators import LotkaVolterra

OFF = -40.0


def run_one(rates, generator):
    """One population by its events, on the grid of times, shape `(151, 2)`."""
    predators, prey, clock, grid = 50, 100, 0.0, []
    for _ in range(10_000):
        each = (
            rates[0] * predators * prey,
            rates[1] * predators,
            rates[2] * prey,
            rates[3] * predators * prey,
        )
        wait = generator.expovariate(sum(each)) if sum(each) else math.inf
        while len(grid) < 151 and 0.2 * len(grid) < clock + wait:
            grid.append((predators, prey))
        clock += wait
        if len(grid) == 151:
            break
        kind = generator.choices(range(4), each)[0]
        predators += (1, -1, 0, 0)[kind]
        prey += (0, 0, 1, -1)[kind]
    grid += [(predators, prey)] * (151 - len(grid))
    return np.array(grid, dtype=float)


def simulate(theta, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.as_tensor(theta).expand(size, 4)
    return LotkaVolterra().simulate_populations(rows, generator=generator)


def test_pure_death_of_predators_is_binomial():
    rate = 0.1
    counts = simulate([OFF, math.log(rate), OFF, OFF], 4_000)
    assert (counts[:, :, 1] == 100).all() and (counts[:, 0, 0] == 50).all()
    for index in (1, 25, 150):
        alive = math.exp(-rate * 0.2 * index)
        for share, fits in ((alive, True), (0.95 * alive, False)):
            error = math.sqrt(50 * share * (1 - share) / 4_000)
            near = abs(float(counts[:, index, 0].mean()) - 50 * share) < 5 * error
            assert near == fits


def test_pure_birth_of_prey_grows_exponentially():
    rate = 0.05
    counts = simulate([OFF, OFF, math.log(rate), OFF], 3_000)
    last = counts[:, -1, 1]
    growth = math.exp(rate * 30)
    variance = 100 * growth * (growth - 1)
    assert abs(float(last.mean()) - 100 * growth) < 5 * math.sqrt(variance / 3_000)
    assert float(last.var()) == pytest.approx(variance, rel=0.15)


def test_summaries_match_populations_by_their_events():
    task = LotkaVolterra()
    theta = task.true_parameters
    generator = random.Random(1)
    rates = theta.exp().tolist()
    reference = torch.tensor(np.stack([run_one(rates, generator) for _ in range(120)]))
    expected = task.summarise(reference).numpy()
    x = task.summarise(simulate(theta, 600)).numpy()
    wrong = task.summarise(simulate(theta + torch.tensor([0, 0.3, 0, 0]), 600)).numpy()
    for rows, fits in ((x, True), (wrong, False)):
        p_values = [
            stats.ks_2samp(*pair).pvalue
            for pair in zip(rows.T, expected.T, strict=True)
        ]
        assert (min(p_values) > 1e-3) == fits


def test_run_with_too_many_events_stays_as_it_is():
    counts = simulate([OFF, OFF, 2.0, OFF], 5)
    assert (counts[:, -1, 1] == 10_100).all()
    assert (counts[:, 100] == counts[:, -1]).all()


def test_extinct_populations_have_finite_summaries():
    counts = simulate([OFF, 2.0, OFF, 2.0], 20)
    assert (counts[:, -1] == 0).any() and (counts >= 0).all()
    still = torch.ones(2, 151, 2)
    summary = LotkaVolterra.summarise(still)
    assert torch.isfinite(LotkaVolterra.summarise(counts)).all()
    torch.testing.assert_close(
        summary[0], torch.tensor([math.log(2), math.log(2)] + [0.0] * 7)
    )


def test_summaries_by_hand():
    counts = torch.tensor([[[0.0, 3.0], [2.0, 1.0], [4.0, -1.0]]])
    log = math.log
    expected = [log(3), log(2), log(5), log(5), 0.0, 0.0, -0.5, -0.5, -1.0]
    summary = LotkaVolterra.summarise(counts)[0]
    torch.testing.assert_close(summary, torch.tensor(expected))


def test_prior_predictive_is_finite_and_repeats():
    task = LotkaVolterra()
    torch.manual_seed(0)
    theta = task.prior.sample((50,))
    first, again = (
        task.simulate(theta, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.isfinite(first).all() and torch.equal(first, again)
    assert torch.isfinite(task.prior.log_prob(task.true_parameters))
