"""SLCP: exact posterior draws, against independent maths and calibration."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sbi_aalr.simulators import SLCP
from sbi_aalr.simulators._slcp_density import ReducedPosterior
from sbi_aalr.simulators._slcp_exact import build_envelope, propose_and_thin

# Parameters whose observations are hard in different ways.
THETAS = {
    "truth": (0.7, -2.9, -1.0, -0.9, 0.6),
    "narrow": (1.0, -1.0, 0.01, 0.02, 0.5),
    "wide": (2.9, 2.9, 2.95, -2.95, 0.3),
    "correlated": (-1.0, 0.5, 1.2, 0.8, 2.9),
    "corner": (-2.99, 2.99, 1.5, 1.0, -2.5),
    "mixed": (2.999, 0.0, 0.03, 2.5, 0.0),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Keep small tensors off the thread pool, which is slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def observe(name: str) -> Tensor:
    """Simulate one observation, shape `(1, 8)`, float64."""
    generator = torch.Generator().manual_seed(1)
    theta = torch.tensor([THETAS[name]], dtype=torch.float64)
    return SLCP().simulate(theta, generator=generator)


@cache
def draw(name: str) -> Tensor:
    """Draw from the exact posterior of one observation, shape `(10_000, 5)`."""
    return SLCP().sample_posterior(10_000, observe(name), seed=3)


def compute_features(theta: Tensor) -> Tensor:
    """Return first and second moments' integrands, signs folded, shape `(S, 20)`."""
    folded = torch.cat([theta[:, :2], theta[:, 2:4].abs(), theta[:, 4:]], 1).double()
    pairs = torch.triu_indices(5, 5)
    return torch.cat([folded, folded[:, pairs[0]] * folded[:, pairs[1]]], 1)


def estimate_by_importance(x_o: Tensor, seed: int) -> tuple[Tensor, Tensor, float]:
    """Weigh independent proposals by `log_likelihood`: means, variances, ESS."""
    generator = torch.Generator().manual_seed(seed)
    points = x_o.reshape(4, 2)
    size = 200_000
    guess = points.std(0).log()
    low, high = guess - 1.5, (guess + 5.0).clamp(max=math.log(9.0))
    uniform = torch.rand(size, 3, dtype=torch.float64, generator=generator)
    scale = (low + (high - low) * uniform[:, :2]).exp()
    theta5 = 6 * uniform[:, 2:] - 3
    noise = torch.randn(size, 2, dtype=torch.float64, generator=generator)
    z1, z2 = noise[:, :1], noise[:, 1:]
    step = torch.cat([z1, theta5.tanh() * z1 + z2 / theta5.cosh()], 1) * scale
    location = points.mean(0) + 0.55 * step
    theta = torch.cat([location, scale.sqrt(), theta5], 1)
    log_proposal = theta5.cosh().log().squeeze(1) - 1.5 * scale.log().sum(1)
    log_proposal -= noise.square().sum(1) / 2
    log_weight = SLCP().log_likelihood(theta, x_o) - log_proposal
    log_weight[(theta.abs() > 3).any(1)] = -math.inf
    weight = torch.softmax(log_weight, 0)
    features = compute_features(theta)
    mean = weight @ features
    variance = weight.square() @ (features - mean).square()
    return mean, variance, float(1 / weight.square().sum())


def compute_scores(draws: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Distance of the draws' moments from a reference, in joint standard errors."""
    features = compute_features(draws)
    error = torch.sqrt(features.var(0) / len(draws) + variance)
    return (features.mean(0) - mean).abs() / error


def score_modes(draws: Tensor) -> Tensor:
    """Distance of the four modes' shares from 1/4, in standard errors."""
    mode = (draws[:, 2] > 0).long() * 2 + (draws[:, 3] > 0).long()
    share = torch.bincount(mode, minlength=4) / len(draws)
    return (share - 0.25).abs() / math.sqrt(0.25 * 0.75 / len(draws))


@pytest.mark.parametrize("name", THETAS)
def test_exact_posterior_matches_importance_sampling(name):
    x_o = observe(name)
    draws = draw(name)
    mean, variance, ess = estimate_by_importance(x_o, seed=5)
    assert ess > 400
    assert compute_scores(draws, mean, variance).max() < 5
    centre = draws.mean(0)
    stretched = centre + 1.2 * (draws - centre)
    assert compute_scores(stretched, mean, variance).max() > 5


@pytest.mark.parametrize("name", THETAS)
def test_exact_posterior_visits_four_modes_equally(name):
    draws = draw(name)
    assert score_modes(draws).max() < 5
    tilted = draws.clone()
    tilted[:1_000, 2:4] = tilted[:1_000, 2:4].abs()
    assert score_modes(tilted).max() > 5


@pytest.mark.parametrize("name", THETAS)
def test_exact_draws_are_distinct_independent_and_in_the_prior(name):
    draws = draw(name)
    assert draws.dtype == torch.float32 and draws.shape == (10_000, 5)
    assert len(draws.unique(dim=0)) == 10_000
    assert torch.isfinite(SLCP().prior.log_prob(draws)).all()
    standard = (draws - draws.mean(0)) / draws.std(0)
    lagged = (standard[1:] * standard[:-1]).mean(0)
    assert (lagged.abs() < 5 / math.sqrt(10_000)).all()


@pytest.fixture(scope="module")
def calibration() -> tuple[SLCP, Tensor, Tensor, list[Tensor]]:
    slcp = SLCP()
    torch.manual_seed(11)
    theta = slcp.prior.sample((300,)).double()
    x = slcp.simulate(theta)
    draws = [slcp.sample_posterior(99, x_o, seed=row) for row, x_o in enumerate(x)]
    return slcp, theta, x, draws


def compute_rank_p_values(slcp, theta, x, draws) -> np.ndarray:
    """Test ranks of the parameters, two sizes and the log-likelihood for uniformity."""

    def summarise(parameters: Tensor, x_o: Tensor) -> Tensor:
        log_likelihood = slcp.log_likelihood(parameters.double(), x_o)
        sizes = parameters[..., 2:4].abs()
        return torch.cat([parameters, sizes, log_likelihood[..., None]], -1)

    ranks = torch.stack(
        [
            (summarise(rows.double(), x_o) < summarise(truth, x_o)).sum(0)
            for rows, truth, x_o in zip(draws, theta, x, strict=True)
        ]
    )
    counts = [np.bincount(rank, minlength=10) for rank in (ranks // 10).T.numpy()]
    return np.array([stats.chisquare(count).pvalue for count in counts])


def test_exact_posterior_ranks_of_prior_draws_are_uniform(calibration):
    assert compute_rank_p_values(*calibration).min() > 1e-3


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_ranks_reveal_posterior_of_wrong_scale(calibration, factor):
    slcp, theta, x, draws = calibration
    wrong = [rows.mean(0) + factor * (rows - rows.mean(0)) for rows in draws]
    assert compute_rank_p_values(slcp, theta, x, wrong).min() < 1e-6


def test_ranks_reveal_posterior_of_other_observation(calibration):
    slcp, theta, x, draws = calibration
    assert compute_rank_p_values(slcp, theta, x, draws[1:] + draws[:1]).min() < 1e-6


@pytest.mark.parametrize("outside", [False, True])
def test_envelope_lies_above_the_density_everywhere(outside):
    torch.manual_seed(2)
    for _ in range(8):
        shift = 4.0 * torch.randn(2).double().sign() if outside else torch.zeros(2)
        points = torch.randn(4, 2).double() * torch.rand(2) * 3 + shift
        posterior = ReducedPosterior(points)
        cells = build_envelope(posterior).cells
        bounds = posterior.log_bound(cells)
        low, high, first, last = cells.unbind(-1)
        for _ in range(5):
            angle = low + (high - low) * torch.rand(len(low))
            theta5 = first + (last - first) * torch.rand(len(low))
            assert (posterior.log_density(angle, theta5) <= bounds + 1e-9).all()


def test_envelope_below_the_density_is_reported():
    posterior = ReducedPosterior(observe("truth").reshape(4, 2))
    envelope = build_envelope(posterior)
    wrong = envelope._replace(bounds=envelope.bounds - 0.5)
    with pytest.raises(RuntimeError, match=r"envelope .* must lie above the density"):
        propose_and_thin(posterior, wrong, 1_000, torch.Generator())


def test_prior_predictive_observations_are_accepted_often_enough():
    torch.manual_seed(13)
    slcp = SLCP()
    for x_o in slcp.simulate(slcp.prior.sample((100,)).double()):
        posterior = ReducedPosterior(x_o.reshape(4, 2))
        generator = torch.Generator().manual_seed(0)
        kept = propose_and_thin(posterior, build_envelope(posterior), 2_000, generator)
        assert len(kept) > 20


def test_one_row_and_array_likes_give_the_same_draws():
    x_o = observe("truth")[0]
    slcp = SLCP()
    expected = slcp.sample_posterior(50, x_o, seed=2)
    for same in (x_o[None], x_o.numpy(), x_o.tolist(), [x_o.tolist()]):
        assert torch.equal(slcp.sample_posterior(50, same, seed=2), expected)
    assert not torch.equal(slcp.sample_posterior(50, x_o, seed=3), expected)


def test_global_seed_decides_without_a_seed():
    torch.manual_seed(0)
    first = SLCP().sample_posterior(20, observe("truth"))
    again = SLCP().sample_posterior(20, observe("truth"))
    torch.manual_seed(0)
    assert torch.equal(SLCP().sample_posterior(20, observe("truth")), first)
    assert not torch.equal(first, again)


def test_sample_posterior_of_implausible_observation_raises():
    x_o = observe("truth")
    with pytest.raises(ValueError, match="differ in both coordinates"):
        SLCP().sample_posterior(10, torch.ones(8))
    with pytest.raises(RuntimeError, match=r"accepted .* proposals, too few"):
        SLCP().sample_posterior(10, x_o + torch.tensor([1e4, 0.0]).repeat(4))
    with pytest.raises(RuntimeError, match="out of the range of float64"):
        SLCP().sample_posterior(10, x_o * 1e200)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"num_samples": 0}, ValueError, "`num_samples` must be a positive int, got 0"),
        ({"num_samples": 2.5}, TypeError, "`num_samples` must be a positive int"),
        ({"seed": -1}, ValueError, "`seed` must be an int of at least 0"),
        ({"x_o": torch.ones(2, 8)}, ValueError, "`x_o` must be one observation"),
        ({"x_o": torch.ones(7)}, ValueError, "`x_o` .* last dimension of 8"),
        ({"x_o": [1] * 8}, TypeError, "`x_o` must hold floats"),
        ({"x_o": "eight"}, TypeError, "`x_o` must be a tensor, array or sequence"),
        ({"x_o": [math.nan] * 8}, ValueError, "`x_o` must be finite"),
    ],
)
def test_sample_posterior_with_bad_input_raises(arguments, error, match):
    call = {"num_samples": 10, "x_o": torch.randn(8), "seed": 0} | arguments
    with pytest.raises(error, match=match):
        SLCP().sample_posterior(**call)
