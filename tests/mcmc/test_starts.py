"""Where chains start: distinct, spread over all modes, and in groups."""

import pytest
import torch
from helpers import make_generator
from sbi.utils import BoxUniform

from sbi_aalr.mcmc.starts import (
    choose_inverse_temperature,
    choose_starts,
    resample_candidates,
)
from sbi_aalr.mcmc.weights import effective_size


def draw_candidates(number=2_000, dim=2, seed=0):
    return 6 * torch.rand(number, dim, generator=make_generator(seed)) - 3


def weigh(candidates, centres, scale=0.3):
    """Log-ratios of Gaussian observations at the centres, shape `(K, B)`."""
    gap = candidates.unsqueeze(1) - torch.as_tensor(centres)
    return -gap.square().sum(dim=-1) / (2 * scale**2)


def choose(candidates, log_weight, num_chains, seed=0):
    """Temper the weights and resample, as a posterior does."""
    inverse_temperature = choose_inverse_temperature(log_weight, num_chains)
    generator = make_generator(seed)
    return resample_candidates(
        generator, candidates, log_weight, inverse_temperature, num_chains
    )


def test_starts_are_distinct_candidates_of_their_own_observation():
    candidates = draw_candidates()
    centres = [[0.0, 0.0], [2.0, -1.0], [-2.0, 2.0]]
    starts = choose(candidates, weigh(candidates, centres), 100)
    assert starts.shape == (100, 3, 2)
    for observation, centre in enumerate(centres):
        column = starts[:, observation]
        assert torch.unique(column, dim=0).shape[0] == 100
        assert (column.unsqueeze(1) == candidates).all(dim=-1).any(dim=1).all()
        assert (column.mean(dim=0) - torch.tensor(centre)).abs().max() < 0.3


def test_an_observation_that_few_candidates_suit_takes_none_from_the_others():
    candidates = draw_candidates()
    log_weight = weigh(candidates, [[0.0, 0.0], [0.0, 0.0]])
    log_weight[3:, 1] = -torch.inf
    starts = choose(candidates, log_weight, 100)
    assert torch.unique(starts[:, 0], dim=0).shape[0] == 100
    few, counts = torch.unique(starts[:, 1], dim=0, return_counts=True)
    assert torch.equal(few, torch.unique(candidates[:3], dim=0))
    assert counts.min() >= 33


def test_starts_are_wider_than_the_posterior_but_not_the_prior():
    candidates = draw_candidates(20_000)
    log_weight = weigh(candidates, [[0.0, 0.0]], scale=0.05)
    starts = choose(candidates, log_weight, 200)
    width = starts.std(dim=0)
    assert (width > 2 * 0.05).all()
    assert (width < 0.5).all()


def test_weights_are_not_tempered_where_candidates_suffice():
    candidates = draw_candidates(50_000)
    log_weight = weigh(candidates, [[0.0, 0.0]], scale=0.5)
    starts = choose(candidates, log_weight, 100)
    assert starts.std(dim=0).flatten().tolist() == pytest.approx([0.5, 0.5], rel=0.2)


def test_temperature_is_such_that_as_many_share_the_weight_as_there_are_chains():
    candidates = draw_candidates()
    log_weight = weigh(candidates, [[0.0, 0.0], [2.0, -1.0]], scale=0.01)
    log_weight[7] = torch.nan
    inverse_temperature = choose_inverse_temperature(log_weight, 50)
    assert ((inverse_temperature > 0) & (inverse_temperature < 1)).all()
    tempered = inverse_temperature * log_weight.nan_to_num(-1e30)
    assert effective_size(tempered).tolist() == pytest.approx([50, 50], rel=1e-3)


def test_temperature_is_one_where_full_weights_are_shared_by_enough():
    log_weight = weigh(draw_candidates(), [[0.0, 0.0]], scale=1.0)
    assert choose_inverse_temperature(log_weight, 50).item() == 1
    assert choose_inverse_temperature(torch.zeros(5, 1), 12).item() < 1e-6


def test_starts_cover_all_modes():
    candidates = draw_candidates(20_000)
    modes = torch.tensor([[2.0, 2.0], [-2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]])
    log_weight = weigh(candidates, modes, scale=0.05).logsumexp(dim=1, keepdim=True)
    starts = choose(candidates, log_weight, 100)[:, 0]
    nearest = torch.cdist(starts, modes).argmin(dim=1)
    assert (nearest.bincount(minlength=4) >= 12).all()


def test_starts_repeat_only_where_candidates_are_too_few():
    candidates = draw_candidates(5)
    starts = choose(candidates, torch.zeros(5, 2), 12)
    assert starts.shape == (12, 2, 2)
    assert torch.unique(starts[:, 0], dim=0).shape[0] == 5


# Of more chains than candidates with weight, all weights are taken as equal.
@pytest.mark.parametrize("num_chains", [99, 150])
def test_candidates_without_weight_are_never_chosen(num_chains):
    candidates = draw_candidates(300)
    log_weight = torch.zeros(300, 1)
    log_weight[::3] = -torch.inf
    log_weight[1::3] = torch.nan
    log_weight[2] = torch.inf
    starts = choose(candidates, log_weight, num_chains)[:, 0]
    good = candidates[2::3][1:]
    assert (starts.unsqueeze(1) == good).all(dim=-1).any(dim=1).all()


def test_same_seed_gives_same_starts():
    candidates = draw_candidates()
    log_weight = weigh(candidates, [[0.0, 0.0]])
    first, second, other = (
        choose(candidates, log_weight, 20, seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("bad", [-torch.inf, torch.nan, torch.inf])
def test_observation_without_weight_is_named(bad):
    log_weight = torch.zeros(50, 3)
    log_weight[:, 1] = bad
    with pytest.raises(ValueError, match=r"None of 50 prior draws .* observation 1"):
        choose(draw_candidates(50), log_weight, 4)


def test_choose_starts_from_the_proposal_repeats_candidates_if_need_be():
    prior = BoxUniform(-torch.ones(2), torch.ones(2))
    candidates = prior.sample((10,))
    starts = choose_starts(
        torch.Generator(),
        lambda position: torch.zeros(position.shape[:2]),
        prior.log_prob,
        candidates,
        None,
        (6, 3),
        max_steps=0,
    )
    assert starts.ancestor_share.tolist() == [1, 1, 1]
    starts = starts.position
    assert starts.shape == (6, 3, 2)
    known = {tuple(row) for row in candidates.tolist()}
    assert {tuple(row) for row in starts.flatten(0, 1).tolist()} <= known
