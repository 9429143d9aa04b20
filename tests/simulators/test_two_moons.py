"""Two moons: likelihood and exact draws, against integration on a grid."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from sbi_aalr.simulators import TwoMoons

OBSERVATIONS = {
    "origin": [0.0, 0.0],
    "joined": [0.30, 0.05],
    "corner": [-0.95, 0.1],
    "edge": [-0.3, 0.95],
}


def make_grid(size):
    """Midpoints of a square grid over the prior, shape `(size**2, 2)`."""
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    return torch.cartesian_prod(middle, middle)


def compute_features(theta):
    """Functions of parameters that tell shifts, widths, shares and corners apart."""
    first, second = theta.double().unbind(-1)
    return torch.stack(
        [
            first,
            second,
            first**2,
            second**2,
            first * second,
            (first + second > 0).double(),
            torch.sin(8 * first),
            torch.cos(8 * second),
        ],
        dim=-1,
    )


@cache
def integrate(x_o):
    """Means of the features under the posterior, by a grid."""
    grid = make_grid(1_500)
    log_weight = TwoMoons().log_likelihood(grid, torch.tensor(x_o).double())
    return torch.softmax(log_weight, 0) @ compute_features(grid)


def score(draws, x_o):
    """Errors of the draws' means in standard errors, against a grid."""
    expected = integrate(tuple(x_o))
    features = compute_features(draws)
    error = features.std(0) / math.sqrt(len(draws))
    # Where all draws agree, as in a corner that only one sign reaches, so must these.
    return (features.mean(0) - expected).abs() / error.clamp(min=1e-5)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_exact_posterior_matches_integration_on_a_grid(name):
    x_o = OBSERVATIONS[name]
    draws = TwoMoons().sample_posterior(20_000, x_o, seed=1)
    assert draws.shape == (20_000, 2) and draws.dtype == torch.float32
    assert len(draws.unique(dim=0)) > 19_990
    assert score(draws, x_o).max() < 5
    assert score(draws + torch.tensor([0.01, 0.0]), x_o).max() > 5
    wider = draws.mean(0) + 1.05 * (draws - draws.mean(0))
    assert score(wider, x_o).max() > 5


def test_likelihood_integrates_to_one_and_has_the_simulator_s_moments():
    two_moons = TwoMoons()
    theta = torch.tensor([0.3, -0.6], dtype=torch.float64)
    # Centred where the half circle ends, so that no cell lies across its edge.
    centre = torch.tensor([0.25 - 0.3 / math.sqrt(2), -0.9 / math.sqrt(2)])
    grid = 0.16 * make_grid(1_000) + centre.double()
    density = two_moons.log_likelihood(theta, grid).exp() * (0.32 / 1_000) ** 2
    assert float(density.sum()) == pytest.approx(1, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    x = two_moons.simulate(theta.expand(50_000, 2), generator=generator)
    for shift, fits in ((0.0, True), (0.003, False)):
        features = torch.cat([x + shift, (x + shift) ** 2], 1)
        expected = density @ torch.cat([grid, grid**2], 1)
        error = features.std(0) / math.sqrt(len(x))
        scores = (features.mean(0) - expected).abs() / error
        assert bool((scores < 5).all()) == fits


def test_ranks_of_prior_draws_are_uniform():
    two_moons = TwoMoons()
    torch.manual_seed(3)
    theta = two_moons.prior.sample((500,))
    ranks = {1.0: [], 1.1: []}
    for row, (truth, x_o) in enumerate(
        zip(theta, two_moons.simulate(theta), strict=True)
    ):
        draws = two_moons.sample_posterior(99, x_o, seed=row)
        for factor, collected in ranks.items():
            # The coordinate that is not folded sees how wide a crescent is.
            difference = (draws[:, 1] - draws[:, 0]) - (truth[1] - truth[0])
            centre = difference.mean()
            collected.append(
                int((centre + factor**5 * (difference - centre) < 0).sum())
            )
    p_values = [
        stats.chisquare(np.bincount(np.array(values) // 10, minlength=10)).pvalue
        for values in ranks.values()
    ]
    assert p_values[0] > 1e-3 and p_values[1] < 1e-3


def test_prior_truth_and_symmetry():
    two_moons = TwoMoons()
    assert two_moons.prior.sample((3,)).shape == (3, 2)
    x = two_moons.simulate(two_moons.true_parameters.expand(1_000, 2))
    assert (x.mean(0).abs() < 0.05).all()
    theta, x_o = torch.tensor([[0.1, 0.5], [-0.5, -0.1]]), torch.tensor([0.0, 0.4])
    first, mirrored = two_moons.log_likelihood(theta, x_o)
    assert torch.equal(first, mirrored)


def test_implausible_observation_raises():
    with pytest.raises(RuntimeError, match=r"accepted 0 of .* proposals, too few"):
        TwoMoons().sample_posterior(10, [3.0, 0.0], seed=0)


@pytest.mark.parametrize("rows", [torch.ones(3), torch.ones(2, 3)])
def test_wrong_width_raises(rows):
    with pytest.raises(ValueError, match="`theta` must have a last dimension of 2"):
        TwoMoons().simulate(rows)
    with pytest.raises(ValueError, match="`x_o` must have a last dimension of 2"):
        TwoMoons().sample_posterior(5, rows)
