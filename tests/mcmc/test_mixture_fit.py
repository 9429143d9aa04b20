"""Mixtures fitted to points, and improved by their own weighted draws."""

import math

import pytest
import torch
from helpers import make_generator
from test_student_mixture import make_mixture

from sbi_aalr.mcmc import mixture_fit
from sbi_aalr.mcmc.mixture_fit import fit, refit, update
from sbi_aalr.mcmc.student_mixture import build, log_density, sample


def fit_mixture(generator, points):
    return fit(generator, points).mixture


def test_fit_recovers_a_mixture():
    """The fitted density is near the true one where the draws are."""
    mixture = make_mixture(torch.float32)
    draws = sample(make_generator(1), mixture, 6_000)
    points, fresh = draws[:3_000], draws[3_000:]
    fitted = fit_mixture(make_generator(2), points)
    divergence = log_density(mixture, fresh) - log_density(fitted, fresh)
    assert (divergence.mean(dim=0) < 0.15).all()
    plain = build(
        torch.zeros(2, 1),
        points.mean(dim=0).unsqueeze(1),
        torch.diag_embed(points.std(dim=0)).unsqueeze(1),
    )
    better = log_density(fitted, fresh) - log_density(plain, fresh)
    assert (better.mean(dim=0) > 0.3).all()


def test_fit_of_one_observation_does_not_depend_on_the_others_units():
    draws = sample(make_generator(1), make_mixture(torch.float32), 2_000)
    unit = torch.tensor([[1e-4, 1e4], [1.0, 1.0]])
    plain, scaled = (
        fit_mixture(make_generator(2), draws),
        fit_mixture(make_generator(2), draws * unit),
    )
    there = log_density(scaled, draws * unit) + unit.log().sum(dim=-1)
    torch.testing.assert_close(there, log_density(plain, draws), rtol=0, atol=0.05)


@pytest.mark.parametrize("dim", [1, 2, 10, 50])
@pytest.mark.parametrize("number", [1, 2, 5, 100, 3_500])
def test_fit_works_for_any_number_of_points(number, dim):
    points = torch.randn(number, 3, dim, generator=make_generator())
    check_usable(fit_mixture(make_generator(), points), dim)


@pytest.mark.parametrize("dim", [1, 3])
def test_fit_works_for_a_constant_parameter(dim):
    points = torch.randn(500, 2, dim, generator=make_generator())
    points[:, 0, 0] = 7.0
    mixture = fit_mixture(make_generator(), points)
    check_usable(mixture, dim)
    assert mixture.mean[0, :, 0].tolist() == pytest.approx([7] * mixture.mean.shape[1])


def test_fit_works_for_heavy_tails_and_far_clusters():
    generator = make_generator()
    cauchy = torch.randn(3_000, 2, 2, generator=generator)
    cauchy = cauchy / torch.randn(3_000, 2, 1, generator=generator)
    check_usable(fit_mixture(make_generator(), cauchy), 2)
    cluster = 1e-3 * torch.randn(3_000, 2, 2, generator=generator)
    cluster[::10] += 1.0
    mixture = fit_mixture(make_generator(), cluster)
    check_usable(mixture, 2)
    share = (sample(make_generator(), mixture, 5_000)[..., 0] > 0.5).double().mean()
    assert share.item() == pytest.approx(0.1, abs=0.02)


def test_fit_sees_every_chain_of_ordered_draws():
    """One chain in ten is elsewhere; draws come chain after chain, ten at a time."""
    draws = 0.1 * torch.randn(3_000, 10, 1, 1, generator=make_generator())
    draws[:, 7] += 5.0
    mixture = fit_mixture(make_generator(), draws.flatten(0, 1))
    share = (sample(make_generator(), mixture, 5_000) > 2.5).double().mean()
    assert share.item() == pytest.approx(0.1, abs=0.03)


def make_narrow_modes(number, seed=0, width=0.02, dim=5):
    """Four modes of one shape, far narrower than they are apart."""
    generator = make_generator(seed)
    sign = 2 * torch.randint(2, (number, 1, dim), generator=generator) - 1.0
    sign[..., 2:] = 0
    return sign + width * torch.randn(number, 1, dim, generator=generator)


def test_components_with_few_points_take_the_shape_that_all_have():
    points, fresh = make_narrow_modes(300), make_narrow_modes(2_000, seed=1)
    fitted = log_density(fit_mixture(make_generator(), points), fresh).mean()
    dim, width = points.shape[-1], 0.02
    entropy = math.log(4) + dim * math.log(width * math.sqrt(2 * math.pi * math.e))
    # Where components that have few points shrink to balls, it is 3.6 nats below.
    assert fitted > -entropy - 2


def test_refit_finds_what_no_draw_of_the_mixture_reaches():
    generator = make_generator()
    one = torch.randn(500, 1, 2, generator=generator)
    both = torch.randn(500, 1, 2, generator=generator)
    both[::2] += 30
    state = fit(generator, one)
    assert share_beyond(state) == 0
    # A draw counts for a tenth of one, and half of them are there.
    found = share_beyond(refit(generator, state, both))
    assert found == pytest.approx(25 / 500, abs=0.02)


def test_refit_of_many_observations_is_that_of_each(monkeypatch):
    generator = make_generator()
    state = fit(generator, torch.randn(200, 5, 2, generator=generator))
    points = torch.randn(300, 5, 2, generator=generator) + torch.arange(5)[:, None]
    whole = refit(make_generator(1), state, points)
    monkeypatch.setattr(mixture_fit, "_MAX_ENTRIES", 300 * 7 * 2)
    torch.testing.assert_close(refit(make_generator(1), state, points), whole)
    assert whole.moments.unique(dim=0).shape[0] == 5


def test_refit_sees_every_chain_of_ordered_draws():
    draws = 0.1 * torch.randn(40_000, 1, 1, generator=make_generator())
    state = fit(make_generator(), draws[:100])
    draws[20_000:] += 5.0
    assert share_beyond(refit(make_generator(), state, draws), 2.5) > 0.3


def share_beyond(state, edge=15.0):
    drawn = sample(make_generator(5), state.mixture, 4_000)
    return (drawn[..., 0] > edge).double().mean().item()


def log_target(theta):
    """Two narrow modes for the first observation, a correlated one for the second."""
    first = torch.logaddexp(
        -(theta - 2).square().sum(-1) / 0.02, 1 - (theta + 2).square().sum(-1) / 0.02
    )
    x, y = theta[..., 0], theta[..., 1]
    second = -(x.square() - 1.8 * x * y + y.square()) / 0.38
    return torch.stack((first[:, 0], second[:, 1]), dim=1)


def improve(state, rounds, number=700, seed=3):
    generator = make_generator(seed)
    for _ in range(rounds):
        points = sample(generator, state.mixture, number)
        weight = log_target(points) - log_density(state.mixture, points)
        state = update(state, points, weight)
    return state


def measure_efficiency(state):
    """Effective share of weighted draws, for each observation."""
    points = sample(make_generator(9), state.mixture, 4_000)
    weight = (log_target(points) - log_density(state.mixture, points)).softmax(dim=0)
    return 1 / weight.square().sum(dim=0) / len(weight)


def make_rough_fit(num_points=100):
    """What annealing leaves: a few points, in modes whose shares are not right."""
    points = torch.randn(num_points, 2, 2, generator=make_generator())
    points[:, 0] = 0.3 * points[:, 0] + 2
    points[::3, 0] -= 4
    return fit(make_generator(1), points)


def test_update_makes_weights_more_even():
    rough = make_rough_fit()
    better = improve(rough, rounds=20)
    before, after = measure_efficiency(rough), measure_efficiency(better)
    assert (after > 1.5 * before).all()
    assert (after > 0.6).all()


def test_update_finds_the_shares_of_modes():
    mixture = improve(make_rough_fit(), rounds=30).mixture
    share = (sample(make_generator(), mixture, 20_000)[:, 0, 0] > 0).double().mean()
    assert share.item() == pytest.approx(1 / (1 + torch.e), abs=0.03)


def test_update_with_equal_weights_is_expectation_maximisation():
    """Draws of the mixture itself, all worth the same, leave their moments behind."""
    state = make_rough_fit()
    points = sample(make_generator(2), state.mixture, 5_000)
    new = update(state, points, torch.zeros(5_000, 2))
    added = (new.moments - 0.9 * state.moments).sum(dim=1)
    z = (points.transpose(0, 1) - state.centre) / state.width
    assert added[:, 0].tolist() == pytest.approx([5_000, 5_000], rel=1e-3)
    torch.testing.assert_close(added[:, 1:3], z.sum(dim=1), rtol=1e-3, atol=0.5)


def test_update_without_any_weight_changes_nothing():
    state = make_rough_fit()
    points = sample(make_generator(2), state.mixture, 500)
    weight = torch.zeros(500, 2)
    weight[:, 0] = torch.tensor([-torch.inf, torch.nan, torch.inf]).repeat(167)[:500]
    new = update(state, points, weight)
    assert torch.equal(new.moments[0], state.moments[0])
    assert not torch.equal(new.moments[1], state.moments[1])
    assert new.moments.isfinite().all()


def test_no_single_draw_decides_an_update():
    state = make_rough_fit()
    points = sample(make_generator(2), state.mixture, 500)
    weight = torch.zeros(500, 2)
    weight[7] = 300.0
    new = update(state, points, weight)
    # The ten largest weights are made equal, so that none counts for more.
    assert ((new.moments - 0.9 * state.moments).sum(dim=1)[:, 0] > 5).all()


@pytest.mark.parametrize("dim", [1, 10, 50])
def test_update_works_in_any_dimension(dim):
    state = fit(make_generator(), torch.randn(100, 3, dim, generator=make_generator()))
    for seed in range(5):
        points = sample(make_generator(seed), state.mixture, 200)
        weight = -points.square().sum(-1) / 2 - log_density(state.mixture, points)
        state = update(state, points, weight)
    check_usable(state.mixture, dim)


def check_usable(mixture, dim):
    draws = sample(make_generator(), mixture, 50)
    assert draws.shape == (50, mixture.mean.shape[0], dim)
    assert draws.isfinite().all()
    assert log_density(mixture, draws).isfinite().all()
    assert (mixture.edge[:, -1] - 1).abs().max() < 1e-5
