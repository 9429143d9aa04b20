"""Contrasts of known density: what is estimated with them is unbiased."""

import math

import pytest
import torch
from exact_ratios import make_density, make_known, make_posterior_density
from linear_gaussian import draw_pairs, log_ratio
from sbi.utils import BoxUniform
from torch.distributions import Normal
from torch.distributions.transforms import IndependentTransform, identity_transform

from sbi_aalr.networks.density import draw_theta, posterior_mixture
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.training import contrasts as module
from sbi_aalr.training.contrasts import (
    Pool,
    draw_contrasts,
    estimate_normaliser,
    evaluate,
)

NUM_CONTRASTS = 100


@pytest.fixture(scope="module")
def pairs():
    theta, _, x = draw_pairs(400, seed=1)
    return theta, x


@pytest.fixture(scope="module")
def pool():
    return Pool(draw_pairs(3_000, seed=2)[0])


def make_generator(seed=1):
    return torch.Generator().manual_seed(seed)


def draw(pairs, pool, proposals, num_contrasts=NUM_CONTRASTS, seed=1):
    generator = make_generator(seed)
    return draw_contrasts(proposals, pool, *pairs, num_contrasts, generator)


def make_wide():
    """A proposal that is off, and too wide."""
    estimator = make_posterior_density(500)
    with torch.no_grad():
        # One weight, two shifts and two log-scales, one number below the diagonal.
        estimator.embedding_net_x.layer.linear.bias[1:5] -= 0.5
    return estimator


def list_proposals():
    return {
        "none": [],
        "one": [make_posterior_density()],
        "two": [make_posterior_density(), make_wide()],
    }


PROPOSALS = list_proposals()


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_normaliser_of_a_ratio_plus_a_constant_is_the_constant(
    name, offset, pairs, pool
):
    found = draw(pairs, pool, PROPOSALS[name])
    estimator = make_known(lambda theta, x: log_ratio(theta, x) + offset)
    values = evaluate(estimator, found.theta, pairs[1])
    normaliser = estimate_normaliser(values, found)
    assert normaliser.shape == (400,)
    # Z is unbiased, its logarithm is not.
    ratio = (normaliser - offset).double().exp()
    error = float(ratio.std()) / 400**0.5
    assert error < 0.06 and abs(float(ratio.mean()) - 1) < 5 * error


def test_normaliser_of_a_function_of_x_is_that_function(pairs, pool):
    found = draw(pairs, pool, PROPOSALS["one"])
    estimator = make_known(lambda theta, x: log_ratio(theta, x) + x[..., 0].sin())
    values = evaluate(estimator, found.theta, pairs[1])
    error = estimate_normaliser(values, found) - pairs[1][:, 0].sin()
    assert error.abs().mean() < 0.05


def test_a_good_proposal_knows_the_normaliser_better_than_the_prior(pairs, pool):
    errors = []
    for name in ("none", "one"):
        found = draw(pairs, pool, PROPOSALS[name])
        values = evaluate(make_known(), found.theta, pairs[1])
        errors.append(estimate_normaliser(values, found).std())
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("name", PROPOSALS)
def test_weights_are_those_of_the_mixture(name, pairs, pool):
    """Under the weights, functions of theta have the means that the prior gives."""
    found = draw(pairs, pool, PROPOSALS[name])
    assert found.theta.shape == (NUM_CONTRASTS, 400, 2)
    assert found.log_weight.shape == (NUM_CONTRASTS, 400)
    weights = found.log_weight.double().exp()
    for function, expected in ((1.0, 1.0), (found.theta[..., 0] > 1, 0.1587)):
        means = (weights * function).mean(dim=0)
        error = float(means.std()) / 400**0.5
        # The pool is a sample of 3,000 itself.
        assert abs(float(means.mean()) - expected) < 5 * (error + 0.007 * expected)
    # No weight is above that of the prior's own share.
    share = 1.0 if name == "none" else 0.1
    assert weights.max() <= 1 / share + 1e-4


def test_weight_of_the_true_parameters_is_of_the_same_density(pairs, pool):
    found = draw(pairs, pool, PROPOSALS["two"])
    shares = torch.tensor([10, 45, 45]) / 100
    logs = [torch.zeros(400)] + [p(*pairs).detach() for p in PROPOSALS["two"]]
    expected = -(torch.stack(logs) + shares.log().unsqueeze(1)).logsumexp(dim=0)
    torch.testing.assert_close(found.log_weight_joint, expected, rtol=1e-4, atol=1e-4)


def test_contrasts_are_draws_of_pool_and_proposals(pairs, pool):
    found = draw(pairs, pool, PROPOSALS["one"]).theta
    rows = {tuple(row) for row in pool.theta.tolist()}
    is_known = torch.tensor(
        [[tuple(row) in rows for row in column[:20].tolist()] for column in found]
    )
    assert is_known[:10].all() and not is_known[10:].any()


@pytest.mark.parametrize("num_contrasts", [1, 2, 7])
def test_few_contrasts_are_as_many_as_were_asked_for(num_contrasts, pairs, pool):
    found = draw(pairs, pool, PROPOSALS["two"], num_contrasts)
    assert found.theta.shape[0] == num_contrasts
    assert torch.isfinite(found.log_weight).all()


def test_nothing_counts_outside_of_what_is_left_of_the_prior(pairs):
    theta, x = pairs
    inside = theta[:, 0] > 0
    every = draw_pairs(4_000, seed=3)[0]

    def keeps(rows):
        return rows[:, 0] > 0

    pool = Pool(every[keeps(every)], keeps)
    found = draw((theta[inside], x[inside]), pool, PROPOSALS["one"])
    kept = found.theta[..., 0] > 0
    assert (~kept).float().mean() > 0.05
    assert torch.isneginf(found.log_weight[~kept]).all()
    assert torch.isfinite(found.log_weight[kept]).all()
    assert torch.isfinite(found.log_weight_joint).all()
    # True parameters stay, whatever rounding says at the edge.
    edge = draw((theta[~inside], x[~inside]), pool, PROPOSALS["one"])
    assert torch.isfinite(edge.log_weight_joint).all()


def test_normaliser_under_a_cut_is_that_of_the_cut_prior():
    torch.manual_seed(1)
    prior = BoxUniform(-torch.ones(1), torch.ones(1))
    theta = prior.sample((3_000,))
    x = theta + 0.3 * torch.randn_like(theta)
    proposal = make_density(theta, x, prior)
    inside = theta[:, 0] > 0
    rows = theta[inside][:300], x[inside][:300]
    draws = draw_theta(proposal, rows[1], 1_000, make_generator())
    # The mean of q / p over the half that is left is twice the mass of q there.
    expected = 2 * (draws[..., 0] > 0).double().mean(dim=0)
    means = {}
    for log_share in (-math.log(2), 0.0):
        pool = Pool(theta[inside], lambda rows: rows[:, 0] > 0, log_share)
        found = draw(rows, pool, [proposal], 200)
        logs = estimate_normaliser(evaluate(proposal, found.theta, rows[1]), found)
        means[log_share] = float((logs.double().exp() / expected).mean())
    assert means[-math.log(2)] == pytest.approx(1, abs=0.05)
    # The control: as if nothing had been cut.
    assert means[0.0] < 0.8


@pytest.mark.parametrize("rows", [1, 64])
def test_blocks_give_the_same_numbers(rows, pairs, pool, monkeypatch):
    found = draw(pairs, pool, PROPOSALS["one"])
    whole = evaluate(PROPOSALS["one"][0], found.theta, pairs[1])
    monkeypatch.setattr(module, "_BLOCK_ROWS", rows * NUM_CONTRASTS)
    again = evaluate(PROPOSALS["one"][0], found.theta, pairs[1])
    torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-4)
    expected = PROPOSALS["one"][0](found.theta[3], pairs[1])
    torch.testing.assert_close(again[3], expected, rtol=1e-4, atol=1e-4)


def test_same_seed_gives_same_contrasts_and_spares_the_global_generator(pairs, pool):
    state = torch.random.get_rng_state()
    first, again, other = (
        draw(pairs, pool, PROPOSALS["one"], 10, seed=seed).theta for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_exact_normaliser_of_two_draws_by_hand():
    theta = torch.zeros(2, 3, 2)
    found = module.Contrasts(theta, torch.zeros(2, 3), torch.zeros(3))
    values = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, 3.0, 2.0]])
    expected = [0.0, math.log((math.e + math.e**3) / 2), 2 - math.log(2)]
    assert estimate_normaliser(values, found).tolist() == pytest.approx(expected)


@torch.no_grad()
def measure_normalisers_at_an_edge(log_prior):
    """Mean of log Z(x) of the exact ratio, by a density that goes over the edges."""
    torch.manual_seed(1)
    theta = torch.rand(2_000, 1)
    noise = Normal(0.0, 0.5)
    x = theta + noise.sample(theta.shape)
    build = posterior_mixture(IndependentTransform(identity_transform, 1), log_prior, 1)
    proposal = build(theta, x).eval()
    pairs = theta[:400], x[:400]
    found = draw(pairs, Pool(theta), [proposal])
    assert ((found.theta < 0) | (found.theta > 1)).float().mean() > 0.05
    evidence = noise.cdf(pairs[1]) - noise.cdf(pairs[1] - 1)
    log_likelihood = noise.log_prob(pairs[1] - found.theta)
    log_z = estimate_normaliser((log_likelihood - evidence.log())[..., 0], found)
    return float(log_z.exp().mean()), float(log_z.exp().std()) / 20


def test_contrasts_beyond_a_prior_s_edges_do_not_count():
    """A prior may have edges that its support does not tell, as one of sbi's can."""
    box = BoxUniform(torch.zeros(1), torch.ones(1))
    mean, error = measure_normalisers_at_an_edge(LogPrior(box))
    assert error < 0.02 and abs(mean - 1) < 5 * error
    # The control: without the edges they do.
    mean, _ = measure_normalisers_at_an_edge(
        lambda theta: torch.zeros(theta.shape[:-1])
    )
    assert mean > 1.2
