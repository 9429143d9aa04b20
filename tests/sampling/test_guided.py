"""Chains that a density starts: right whatever the density, and shorter if it is good.

The log-ratios here are exact, so that the draws are of a posterior that is known.
"""

import warnings

import pytest
import torch
from exact_ratios import make_density, make_known, make_posterior_density
from helpers import make_generator, measure_errors
from linear_gaussian import PRIOR, X_O, draw_pairs, exact_posterior, log_ratio
from sbi.utils import BoxUniform

from sbi_aalr import MHPosterior
from sbi_aalr.errors import AALRWarning
from sbi_aalr.networks import Stack
from sbi_aalr.sampling.guided import (
    NUM_STARTS,
    Guide,
    find_guided_starts,
)
from sbi_aalr.sampling.guided_kernel import LEAST_SHARE, WARMUP_THIN, follow
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.settings import Settings

QUIET = {"show_progress_bars": False}
X = torch.stack((X_O, torch.tensor([0.5, 3.0])))
BOX = BoxUniform(-torch.ones(1), torch.ones(1))
CENTRES, SHARES, WIDTH = torch.tensor([-0.6, 0.5]), torch.tensor([0.3, 0.7]), 0.04


def two_modes(theta, x):
    """A log-ratio of two peaks, whatever x is but for a shift."""
    gap = (theta - x - CENTRES) / WIDTH
    return (SHARES.log() - gap.square() / 2).logsumexp(dim=-1)


def stack(exact, proposal):
    return Stack([exact], torch.ones(1), proposal=proposal)


@torch.no_grad()
def spoil(estimator, shift=0.0, log_scale=0.0):
    """Move a closed form by standard deviations, and make it narrower by a factor."""
    dim = estimator.net.num_dims
    bias = estimator.embedding_net_x.layer.linear.bias
    bias[1 : 1 + dim] += shift
    bias[1 + dim : 1 + 2 * dim] += log_scale
    return estimator


PROPOSALS = {
    "good": lambda: make_posterior_density(),
    "too narrow": lambda: spoil(make_posterior_density(), log_scale=1.5),
    "a point": lambda: spoil(make_posterior_density(), log_scale=5.0),
    "too wide": lambda: spoil(make_posterior_density(), log_scale=-1.0),
    "shifted": lambda: spoil(make_posterior_density(), shift=2.5),
    "far off": lambda: spoil(make_posterior_density(), shift=20.0),
}


def sample(posterior, x, num_samples=1_500, **settings):
    """Chains, and whether a warning of the package came with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior.sample_batched((num_samples,), x=x, seed=1, **QUIET, **settings)
    assert all(issubclass(w.category, AALRWarning) for w in caught)
    return posterior.chains.theta, bool(caught)


@pytest.mark.parametrize("name", PROPOSALS)
def test_draws_are_right_whatever_proposes(name):
    estimator = stack(make_known(), PROPOSALS[name]())
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    theta, is_warned = sample(posterior, X)
    means, spreads = zip(*(exact_posterior(x) for x in X), strict=True)
    mean = torch.stack(means)
    second = mean.square() + torch.tensor(spreads).unsqueeze(1) ** 2
    features = torch.cat((theta, theta.square()), dim=-1)
    expected = torch.cat((mean, second), dim=-1)
    errors = measure_errors(features, expected, min_ess=200)
    assert is_warned or (errors < 5).all()
    # None of these is so bad that chains of a Gaussian would not converge.
    assert not is_warned


def make_two_modes(centres):
    """A proposal fitted to some of the modes only."""
    torch.manual_seed(1)
    theta = torch.tensor(centres)[torch.randint(len(centres), (600,))].unsqueeze(1)
    theta = (theta + WIDTH * torch.randn_like(theta)).clamp(-0.99, 0.99)
    return make_density(theta, torch.randn(600, 1), BOX)


@pytest.mark.parametrize("centres", [[-0.6], [0.5], [-0.6, 0.5]])
def test_mode_that_the_proposal_misses_keeps_its_share(centres):
    exact = make_known(two_modes, 1, 1)
    proposal = make_two_modes(centres)
    posterior = MHPosterior.from_estimator(stack(exact, proposal), BOX)
    theta, is_warned = sample(posterior, torch.zeros(2, 1))
    left = (theta < -0.05).float()
    expected = torch.full((2, 1), float(SHARES[0]))
    errors = measure_errors(left, expected, min_ess=100)
    assert is_warned or (errors < 5).all()
    # The control: the proposal itself knows of one mode, or of as much of each.
    generator = make_generator()
    drawn, _ = Guide(proposal).draw(generator, torch.zeros(1, 1), 1_000)
    assert ((drawn < -0.05).float().mean() - SHARES[0]).abs() > 0.1


def test_good_proposal_makes_chains_need_fewer_steps():
    steps, warmup = {}, {}
    for name in ("good", "none"):
        proposal = make_posterior_density() if name == "good" else None
        posterior = MHPosterior.from_estimator(stack(make_known(), proposal), PRIOR)
        _, is_warned = sample(posterior, X)
        assert not is_warned
        diagnostics = posterior.diagnostics()
        steps[name] = float(diagnostics["num_steps"].mean())
        warmup[name] = posterior.warmup_chains.theta.shape[:2]
        assert bool(diagnostics["converged"].all())
    assert steps["good"] < 0.7 * steps["none"]


def find_starts(proposal, x=X, prior=PRIOR, exact=None, seed=1):
    exact = exact or make_known()
    torch.manual_seed(seed)
    candidates = prior.sample((10_000,))
    log_prior = LogPrior(prior)

    def pair(theta):
        return exact.net.all_pairs(theta, x) + log_prior(theta).unsqueeze(1)

    def log_prob(position):
        rows = exact(position.flatten(0, 1), x.repeat(len(position), 1))
        return rows.view(position.shape[:2]) + log_prior(position)

    with torch.no_grad():
        return find_guided_starts(
            make_generator(seed),
            Guide(proposal),
            x,
            log_prob,
            log_prior,
            candidates,
            pair(candidates) - log_prior(candidates).unsqueeze(1),
        )


def test_good_proposal_serves_and_gives_starts_of_the_posterior():
    found = find_starts(make_posterior_density())
    assert (found.effective_share > 0.5).all()
    assert found.position.shape == (NUM_STARTS, 2, 2)
    for index, x in enumerate(X):
        mean, spread = exact_posterior(x)
        starts = found.position[:, index]
        assert (starts.mean(dim=0) - mean).abs().max() < 5 * spread / 300**0.5
        assert (starts.std(dim=0) / spread - 1).abs().max() < 0.25


def test_starts_have_both_modes_though_the_proposal_has_one():
    found = find_starts(
        make_two_modes([0.5]), torch.zeros(1, 1), BOX, make_known(two_modes, 1, 1)
    )
    share = (found.position < -0.05).float().mean()
    assert float(share) == pytest.approx(float(SHARES[0]), abs=0.12)


def test_proposal_of_no_use_does_not_serve():
    """Where neither its draws nor those of the prior reach the posterior."""
    narrow = make_known(
        lambda theta, x: -((theta - x / 2) / 0.002).square().sum(-1) / 2
    )
    for name in ("good", "far off"):
        found = find_starts(PROPOSALS[name](), exact=narrow)
        assert (found.effective_share < LEAST_SHARE).all()


def test_draws_at_the_very_edge_of_the_support_are_no_numbers_lost():
    """In float32 a wide density of logits reaches the bound of a box itself."""
    torch.manual_seed(1)
    theta = (1 - 0.001 * torch.rand(400, 1).log().neg()).clamp(-0.99, 1 - 1e-6)
    proposal = make_density(theta, torch.randn(400, 1), BOX)
    spoil(proposal, log_scale=-2.5)
    x = torch.zeros(1, 1)
    drawn, _ = Guide(proposal).draw(make_generator(1), x, 1_000)
    assert (drawn >= 1 - 1e-4).any()
    edge = make_known(
        lambda theta, x: -(1 - theta[..., 0]) / 0.001 + 0 * x[..., 0], 1, 1
    )
    found = find_starts(proposal, x, BOX, edge)
    assert torch.isfinite(found.effective_share).all()
    assert torch.isfinite(found.position).all()
    mean = float(1 - found.position.mean())
    assert mean == pytest.approx(0.001, rel=0.3)
    posterior = MHPosterior.from_estimator(stack(edge, proposal), BOX)
    theta, is_warned = sample(posterior, x, 800)
    errors = measure_errors(1_000 * (1 - theta), torch.ones(1, 1), min_ess=100)
    assert is_warned or (errors < 5).all()


@pytest.mark.parametrize("kernel", ["jump_walk", "hmc", "adaptive_random_walk"])
def test_kernel_of_the_users_works_beside_a_proposal(kernel):
    estimator = stack(make_known(), make_posterior_density())
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    no_limits = {"max_rhat": None, "min_ess": None, "num_chains": 20}
    theta, is_warned = sample(posterior, X[:1], 800, kernel=kernel, **no_limits)
    mean, _ = exact_posterior(X[0])
    errors = measure_errors(theta, mean.unsqueeze(0), min_ess=60)
    assert not is_warned and (errors < 5).all()


def test_warm_up_is_shorter_and_keeps_as_many_draws():
    plan = make_plan(Settings(), 1_000, 1, ratio_dim=2, is_guided=True)
    short = follow(plan, Guide(make_posterior_density()), X)
    assert short.settings.warmup_steps == 40 and short.thin == 2
    few = plan.settings.warmup_steps // 10
    assert short.settings.warmup_steps // WARMUP_THIN == few
    longer = make_plan(Settings(thin=7), 1_000, 1, ratio_dim=2, is_guided=True)
    longer = follow(longer, Guide(make_posterior_density()), X)
    assert longer.thin == 7 and longer.settings.warmup_steps // 7 == few


def test_observations_that_q_serves_and_others_stand_side_by_side():
    """Whatever is set: as many chains, and as many draws of their warm-up."""

    def shift(theta, x):
        # Of the second, far from where q is.
        return log_ratio(theta, torch.where(x[..., 1:] > 2.5, x - 6, x))

    estimator = stack(make_known(shift), make_posterior_density())
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    found = find_starts(make_posterior_density(), exact=make_known(shift))
    assert found.effective_share[0] > LEAST_SHARE > found.effective_share[1]
    for settings in ({"thin": 7}, {"num_chains": NUM_STARTS + 100}):
        theta, _ = sample(posterior, X, max_rhat=None, min_ess=None, **settings)
        assert theta.shape[0] == settings.get("num_chains", len(theta))
        assert posterior.warmup_chains.theta.shape[1] == 20


@pytest.mark.parametrize("name", PROPOSALS)
def test_share_says_how_well_the_proposal_covers_the_posterior(name):
    share = find_starts(PROPOSALS[name]()).effective_share
    if name == "good":
        assert (share > 0.8).all()
    elif name == "too wide":
        # Of Gaussians in two dimensions, each e times as wide.
        assert ((share > 0.05) & (share < 0.5)).all()
    else:
        assert (share < 0.1).all()


def test_trials_are_summed_with_a_proposal_of_single_ones():
    """A density of one x proposes nothing for several; the draws are right anyway."""
    estimator = stack(make_known(), make_posterior_density())
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    trials = draw_pairs(4, seed=5)[2]
    posterior.sample((1_500,), x=trials, seed=1, **QUIET)
    mean, spread = exact_posterior(trials)
    theta = posterior.chains.theta
    errors = measure_errors(theta, mean.unsqueeze(0), min_ess=200)
    assert (errors < 5).all()
    assert (theta.flatten(0, 2).std(dim=0) / spread - 1).abs().max() < 0.2


def test_same_seed_gives_same_draws():
    estimator = stack(make_known(), make_posterior_density())
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    settings = {"max_rhat": None, "min_ess": None, "num_candidates": 500}
    first, again = (
        posterior.sample((20,), x=X_O, seed=3, **QUIET, **settings) for _ in range(2)
    )
    assert torch.equal(first, again)
