"""Proposals of q and of the default kernel's mixture are those of one density."""

import math

import pytest
import torch
from exact_ratios import make_posterior_density
from helpers import LIMIT, make_generator, measure_errors
from linear_gaussian import X_O, exact_posterior
from test_guided import spoil

from sbi_aalr.mcmc.ahead import advance
from sbi_aalr.mcmc.kernels import independence
from sbi_aalr.mcmc.run import run
from sbi_aalr.mcmc.step import init
from sbi_aalr.mcmc.student_mixture import log_density
from sbi_aalr.sampling import guided_kernel
from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.guided_kernel import count_warmed_up, guide_jumps
from sbi_aalr.sampling.plan import make_plan
from sbi_aalr.sampling.settings import Settings

X = torch.stack((X_O, torch.tensor([0.5, 3.0])))
KNOWN = [exact_posterior(x) for x in X]


def log_posterior(position):
    """The exact posterior of both observations, normalised."""
    columns = [
        -((position[:, index] - mean) / spread).square().sum(dim=-1) / 2
        - 2 * math.log(spread)
        - math.log(2 * math.pi)
        for index, (mean, spread) in enumerate(KNOWN)
    ]
    return torch.stack(columns, dim=1)


def make_starts(num_starts=400, seed=0):
    noise = torch.randn(num_starts, len(X), 2, generator=make_generator(seed))
    means, spreads = zip(*KNOWN, strict=True)
    return torch.stack(means) + torch.tensor(spreads).view(-1, 1) * noise


@torch.no_grad()
def weigh(log_scale):
    """Mean weights of the proposals for each observation, with standard errors."""
    guide = Guide(spoil(make_posterior_density(), log_scale=log_scale))
    kernel = guide_jumps(guide, X)
    starts = make_starts()
    parameters = kernel.build(make_generator(1), starts)
    _, info = advance(
        make_generator(2),
        init(starts[:4], log_posterior),
        log_posterior,
        kernel=kernel,
        parameters=parameters,
        num_steps=2_500,
    )
    jumps, walk = info.parts
    assert len(walk.path.log_prob) == pytest.approx(100, abs=30)
    weights = jumps.log_weight.exp().flatten(0, 1)
    return weights.mean(dim=0), weights.std(dim=0) / len(weights) ** 0.5


# As q should be, and far too narrow, so that most of the weight is the mixture's.
@pytest.mark.parametrize("log_scale", [0.0, 1.5])
def test_weights_are_those_of_a_normalised_density(log_scale):
    mean, error = weigh(log_scale)
    assert (error < 0.04).all()
    assert ((mean - 1).abs() < 5 * error).all()


def test_a_density_that_the_draws_do_not_follow_is_caught(monkeypatch):
    defend = guided_kernel._defend
    monkeypatch.setattr(
        guided_kernel, "_defend", lambda log_q, log_own: defend(log_own, log_q)
    )
    mean, error = weigh(1.5)
    assert ((mean - 1).abs() > 10 * error).all()


def test_posterior_that_q_is_too_narrow_for_has_no_great_weights():
    """Without the mixture, draws in the tails would weigh a thousand times as much."""
    guide = Guide(spoil(make_posterior_density(), log_scale=1.5))
    starts = make_starts()
    embedded = guide.embed(X)
    kernel = guide_jumps(guide, X)
    (jumps, _) = kernel.build(make_generator(1), starts)
    alone = log_posterior(starts) - guide.log_density(embedded, starts)
    assert torch.equal(jumps[0], embedded)
    own = guided_kernel.independence.find_log_density(jumps[1], starts)
    both = log_posterior(starts) - guided_kernel._defend(
        guide.log_density(embedded, starts), own
    )
    assert alone.amax() > math.log(1_000) and both.amax() < math.log(20)


@torch.no_grad()
def sample_few(num_draws=16_000):
    """Errors of means and squares by two chains, with a q that is too narrow."""
    guide = Guide(spoil(make_posterior_density(), log_scale=1.5))
    kernel = guide_jumps(guide, X)
    starts = make_starts()
    _, chains = run(
        make_generator(2),
        init(starts[:2], log_posterior),
        log_posterior,
        kernel=kernel,
        parameters=kernel.build(make_generator(1), starts),
        num_draws=num_draws,
        thin=2,
    )
    means, spreads = zip(*KNOWN, strict=True)
    unit = (chains.theta - torch.stack(means)) / torch.tensor(spreads).view(-1, 1)
    features = torch.cat((unit, unit.square()), dim=-1)
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 4)
    return measure_errors(features, expected, min_ess=300).max()


def test_two_chains_leave_the_posterior_invariant():
    assert sample_few() < LIMIT


@pytest.mark.slow
def test_a_density_of_q_alone_where_chains_stand_is_caught(monkeypatch):
    """Of three calls in a step two are of the draws: they stay as they are."""
    make_kernel = independence.make_kernel

    def forget(build, draw, log_density):
        def log_density_of_q(parameters, position):
            return guide.log_density(parameters[0], position)

        return make_kernel(build, draw, log_density_of_q)

    guide = Guide(spoil(make_posterior_density(), log_scale=1.5))
    monkeypatch.setattr(independence, "make_kernel", forget)
    monkeypatch.setattr(guided_kernel, "_WALK_SHARE", 0.2)
    assert sample_few(24_000) > 2 * LIMIT


def test_mixture_learns_from_draws_and_the_walk_in_warm_up_alone():
    guide = Guide(make_posterior_density())
    kernel = guide_jumps(guide, X)
    before = kernel.build(make_generator(), make_starts())
    draws = make_starts(seed=1).unsqueeze(0) + 20
    warmed_up, later = (
        learn(make_generator(), before, draws)
        for learn in (kernel.refit, kernel.relearn)
    )
    first, in_warm_up, between_rounds = (
        [
            log_density(part, draws[0]).mean(dim=0)
            for part in (fit.mixture, walk.mixture)
        ]
        for (_, fit), walk in (before, warmed_up, later)
    )
    assert (in_warm_up[0] > first[0] + 1).all()
    assert torch.equal(in_warm_up[1], in_warm_up[0])
    assert torch.equal(between_rounds[0], in_warm_up[0])
    assert torch.equal(between_rounds[1], first[1])


def test_few_chains_warm_up_where_little_is_to_be_learned():
    def count(**settings):
        plan = make_plan(Settings(**settings), 1_000, 1_000, 2, is_guided=True)
        return count_warmed_up(plan)

    assert count() == 8 and count(num_chains=20) == 20
    assert count(kernel="hmc") == 32
