"""Two modes in many dimensions: the right shares, or a warning."""

import math
import warnings

import arviz_stats
import pytest
import torch
from helpers import make_generator
from sbi.utils import BoxUniform
from torch.distributions import Exponential, Independent

from sbi_aalr import MHPosterior
from sbi_aalr.errors import LostModesWarning
from sbi_aalr.mcmc import search as searching
from sbi_aalr.mcmc.search import cool_down, find_missed, search

QUIET = {"show_progress_bars": False, "x": torch.zeros(1)}


def make_box(dim):
    return BoxUniform(-5 * torch.ones(dim), 5 * torch.ones(dim))


def log_modes(theta, share=0.3, centres=(2.0, -2.0), widths=(0.5, 0.5)):
    """A mixture of two Gaussians, the first of which has the share."""
    parts = []
    for weight, centre, width in zip((share, 1 - share), centres, widths, strict=True):
        square = ((theta - centre) / width).square().sum(dim=-1)
        height = math.log(weight) - theta.shape[-1] * math.log(width)
        parts.append(height - square / 2)
    return torch.logaddexp(*parts)


def make_posterior(dim, log_likelihood=log_modes, **settings):
    prior = make_box(dim)
    return MHPosterior(
        lambda theta, x_o: log_likelihood(theta) + prior.log_prob(theta),
        prior,
        kernel="jump_walk",
        **settings,
    )


def measure_error(theta, boundary, share):
    """Error of the share of the first mode in standard errors, draws `(C, S, D)`."""
    inside = (theta.mean(dim=-1) > boundary).double()
    if inside.std() == 0:
        return math.inf
    ess = arviz_stats.ess(inside.numpy(), method="mean", chain_axis=0, draw_axis=1)
    assert ess > 200
    error = float(inside.mean()) - share
    return abs(error) / math.sqrt(share * (1 - share) / float(ess))


def is_right_or_told(posterior, seed, boundary=0.0, share=0.3):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior.sample((1_000,), seed=seed, **QUIET)
    error = measure_error(posterior.chains.theta[:, :, 0], boundary, share)
    return error < 5 or bool(caught)


@pytest.mark.parametrize(
    ("dim", "seed"), [(15, 1), pytest.param(20, 2, marks=pytest.mark.slow)]
)
def test_smaller_mode_has_its_share(dim, seed):
    posterior = make_posterior(dim)
    posterior.sample((1_000,), seed=seed, **QUIET)
    assert bool(posterior.diagnostics()["converged"])
    assert measure_error(posterior.chains.theta[:, :, 0], 0.0, 0.3) < 5


MIXTURES = {
    "unequal shares": {"share": 0.1},
    "unequal widths": {"widths": (0.4, 0.5)},
    "one half as wide": {"widths": (0.3, 0.5)},
    "off centre": {"centres": (3.5, -1.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two modes", *MIXTURES])
@pytest.mark.parametrize("dim", [13, 15, 20])
def test_no_mode_is_lost_in_silence_over_20_seeds(dim, name):
    options = MIXTURES.get(name, {})
    posterior = make_posterior(dim, lambda theta: log_modes(theta, **options))
    # Halfway in units of the widths.
    (left, right), (narrow, wide) = (
        options.get("centres", (2.0, -2.0)),
        options.get("widths", (0.5, 0.5)),
    )
    boundary = (left * wide + right * narrow) / (narrow + wide)
    share = options.get("share", 0.3)
    for seed in range(1, 21):
        assert is_right_or_told(posterior, seed, boundary, share), seed


def spoil(monkeypatch):
    """Neither cool down nor rise slowly: all chains come from the few luckiest."""
    monkeypatch.setattr(searching, "cool_down", lambda _, position, *rest: position)
    monkeypatch.setattr(searching, "_MAX_STEPS", 10)


def test_starts_that_collapsed_are_told(monkeypatch):
    spoil(monkeypatch)
    posterior = make_posterior(15, max_rhat=None, min_ess=None)
    with pytest.warns(LostModesWarning, match="descend from few draws") as caught:
        posterior.sample((100,), seed=1, **QUIET)
    assert 0 < caught[0].message.value < 0.04
    assert caught[0].filename == __file__


def test_collapsed_observations_of_all_chunks_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr("sbi_aalr.sampling.chunks._CHUNK", 1)
    spoil(monkeypatch)
    posterior = make_posterior(15, max_rhat=None, min_ess=None, warmup_steps=20)
    options = {**QUIET, "x": torch.zeros(2, 1), "seed": 1}
    with pytest.warns(LostModesWarning, match="2 of 2 observations"):
        posterior.sample_batched((100,), out=tmp_path / "run.nc", **options)


@pytest.mark.parametrize("dim", [2, 13, pytest.param(20, marks=pytest.mark.slow)])
def test_one_mode_raises_no_warning(dim):
    posterior = make_posterior(
        dim,
        lambda theta: -(theta / 0.05).square().sum(dim=-1) / 2,
        max_rhat=None,
        min_ess=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior.sample((1_000,), seed=1, **QUIET)
    assert posterior.chains.theta.std() == pytest.approx(0.05, rel=0.1)


def log_box(position):
    return torch.where((position.abs() <= 5).all(dim=-1), 0.0, -torch.inf)


def test_population_has_modes_that_hardly_any_candidate_belongs_to():
    """Of the candidates 3 in 100 lie nearer to the mode that holds 3 draws in 10."""
    generator = make_generator()
    candidates = 10 * torch.rand(10_000, 15, generator=generator) - 5

    def log_prob(position):
        return log_modes(position, centres=(3.5, -1.0)) + log_box(position)

    found = search(
        generator, log_prob, log_box, candidates, log_prob(candidates.unsqueeze(1))
    )
    assert found.position.shape == (1_000, 1, 15)
    assert float(found.ancestor_share) > 0.3
    share = (found.position.mean(dim=-1) > 1.25).float().mean()
    assert abs(share - 0.3) < 0.1


def search_half_as_wide(seed=3):
    """Share of a mode half as wide as the other, in 20-D, which should be 0.3."""
    generator = make_generator(seed)
    candidates = 10 * torch.rand(10_000, 20, generator=generator) - 5

    def log_prob(position):
        return log_modes(position, widths=(0.25, 0.5)) + log_box(position)

    found = search(
        generator, log_prob, log_box, candidates, log_prob(candidates.unsqueeze(1))
    )
    return float((found.position.mean(dim=-1) > 0.67).float().mean())


def test_mode_that_a_few_chains_in_a_thousand_find_has_its_share(monkeypatch):
    assert search_half_as_wide() == pytest.approx(0.3, abs=0.06)
    # The control: one mixture for all of them.
    monkeypatch.setattr(searching, "separate_modes", lambda chains, _: [chains])
    assert search_half_as_wide() < 0.1


def test_chains_cool_down_to_both_modes_whatever_their_shares():
    generator = make_generator()
    position = 10 * torch.rand(300, 1, 15, generator=generator) - 5
    cooled = cool_down(
        generator,
        position,
        lambda theta: log_modes(theta, share=1e-3) + log_box(theta),
        log_box,
    )
    right = cooled.mean(dim=-1) > 0
    assert right.float().mean() > 0.1
    assert (cooled[right] - 2).square().mean().sqrt() < 0.9


def test_missed_chains_are_those_of_a_mode_that_the_population_is_not_in():
    generator = make_generator()
    noise = 0.5 * torch.randn(50, 1, 15, generator=generator)
    cooled = noise + torch.tensor([2.0, -2.0]).repeat(25).view(-1, 1, 1)
    population = 0.5 * torch.randn(40, 1, 15, generator=generator) - 2
    missed = find_missed(cooled, population, log_modes)
    assert missed.tolist() == [True, False] * 25
    assert not find_missed(cooled, cooled + 0.1, log_modes).any()


def test_target_that_rises_for_ever_is_told_of_and_gives_numbers():
    prior = Independent(Exponential(torch.ones(1)), 1)
    posterior = MHPosterior(lambda theta, x_o: 30 * theta.sum(dim=-1), prior)
    settings = {"max_rhat": None, "min_ess": None, "warmup_steps": 100}
    with pytest.warns(LostModesWarning, match="descend from few draws"):
        draws = posterior.sample((20,), seed=1, **settings, **QUIET)
    assert draws.isfinite().all()


def test_starts_that_repeat_few_candidates_are_told_of():
    """Two boxes that two or three candidates hit: R-hat may see one of them only."""

    def log_boxes(theta):
        inside = ((theta.abs() - 3).abs() < 0.1).all(dim=-1)
        return torch.where(inside, 0.0, -torch.inf)

    posterior = make_posterior(1, log_boxes, num_candidates=60)
    with pytest.warns(LostModesWarning):
        draws = posterior.sample((100,), seed=7, **QUIET)
    assert bool((draws > 0).all())
