"""SIR: simulations and likelihood against scipy, the posterior against a grid."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp

from sbi_aalr.simulators import SIR

THETA = torch.tensor([[0.4, 0.125], [1.5, 0.2], [0.1, 0.2]])


def solve_shares(theta):
    """Share of the infected on all days, by another solver in people."""

    def slope(_, state):
        infections = theta[0] * state[0] * state[1] / 1e6
        return [-infections, infections - theta[1] * state[1]]

    days = np.arange(0, 154, 17.0)
    solution = solve_ivp(
        slope, (0, 153), [1e6 - 1, 1], t_eval=days, rtol=1e-10, atol=1e-9
    )
    return solution.y[1] / 1e6


def test_counts_are_binomial_with_the_infected_s_share():
    generator = torch.Generator().manual_seed(1)
    for theta in THETA:
        x = SIR().simulate(theta.expand(10_000, 2), generator=generator)
        assert x.dtype == torch.float32 and torch.equal(x, x.round())
        share = solve_shares(theta.tolist())
        # The last epidemic is over before anyone is found.
        for factor, fits in ((1.0, True), (1.1, theta[0] < 0.3)):
            expected = 1e3 * factor * share
            error = np.sqrt(1e3 * share * (1 - share) / 10_000) + 1e-5
            near = np.abs(x.mean(0).numpy() - expected) < 5 * error
            assert near.all() == fits


def test_likelihood_is_binomial():
    torch.manual_seed(2)
    x = SIR().simulate(THETA)
    expected = [
        stats.binom.logpmf(row.numpy(), 1_000, solve_shares(theta.tolist())).sum()
        for theta, row in zip(THETA, x, strict=True)
    ]
    found = SIR().log_likelihood(THETA, x)
    assert found.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-2)
    assert SIR().log_likelihood(THETA[:, None], x).shape == (3, 3)
    wrong = SIR().log_likelihood(1.1 * THETA[:2], x[:2]).tolist()
    assert wrong != pytest.approx(expected[:2], rel=1e-3, abs=1e-2)


def test_the_impossible_has_no_mass():
    x = SIR().simulate(THETA)
    for theta, data in (
        (-THETA, x),
        (THETA, x + 0.5),
        (THETA, x - 1_001),
        (THETA, x + 1_001),
    ):
        assert SIR().log_likelihood(theta, data).eq(-math.inf).all()


def test_bad_input_raises():
    task = SIR()
    with pytest.raises(ValueError, match=r"`theta` must be positive, got -1\.5"):
        task.simulate(-THETA)
    with pytest.raises(ValueError, match="`x_o` must be of whole numbers from 0 to 1"):
        task.sample_posterior(5, [0.5] * 10)
    with pytest.raises(ValueError, match="`x_o` must have a last dimension of 10"):
        task.sample_posterior(5, torch.ones(9))


def test_simulations_are_finite_and_repeat():
    theta = SIR().prior.sample((20_000,))
    first, again = (
        SIR().simulate(theta, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert torch.equal(first, again) and first.isfinite().all()
    assert first.min() >= 0 and first.max() <= 1_000


@pytest.mark.slow
def test_chains_match_integration_on_a_grid():
    torch.manual_seed(5)
    task = SIR()
    x_o = task.simulate(task.true_parameters[None])
    draws = task.sample_posterior(10_000, x_o, seed=1)
    centre, spread = draws.log().mean(0), draws.log().std(0)
    offset = torch.linspace(-6, 6, 201)
    logs = (centre + spread * torch.cartesian_prod(offset, offset)).double()
    theta = logs.exp()
    weight = torch.softmax(
        task.log_likelihood(theta, x_o.double())
        + task.prior.log_prob(theta)
        + logs.sum(1),
        0,
    )

    def compute_features(values):
        score = (values.log() - centre) / spread
        return torch.cat([score, score**2, score.prod(1, keepdim=True)], 1).double()

    expected = weight @ compute_features(theta)

    def score(values):
        features = compute_features(values)
        error = features.std(0) / math.sqrt(0.7 * len(values))
        return (features.mean(0) - expected).abs() / error

    assert score(draws).max() < 5
    assert score(draws * (1 + 0.1 * spread)).max() > 5
