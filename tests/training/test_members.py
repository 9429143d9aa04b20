"""What the default recipe fits, by what the data allow."""

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs
from torch import nn

from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.prior_transform import find_transform
from sbi_aalr.training.assemble import is_proposal
from sbi_aalr.training.members import (
    DENSITIES,
    Materials,
    Member,
    build_member,
    choose_density_recipe,
    list_members,
)

BASES = ("auto", "posterior", "likelihood")
BUDGETS = (10, 1_000, 10_000, 100_000, 10_000_000)


def make_rows(*x_shape, dim=2):
    return torch.randn(20, dim), torch.randn(20, *x_shape)


def name_members(base, *x_shape, num_simulations=1_000, has_embedding=False):
    rows = make_rows(*x_shape)
    members = list_members(base, num_simulations, *rows, has_embedding)
    return [member.name for member in members]


def make_materials(net=None):
    return Materials(find_transform(PRIOR), LogPrior(PRIOR), net)


@pytest.mark.parametrize("num_simulations", BUDGETS)
@pytest.mark.parametrize("x_shape", [(1,), (8,), (200,), (1, 6, 6)])
@pytest.mark.parametrize("base", BASES)
def test_something_always_proposes(base, x_shape, num_simulations):
    for has_embedding in (False, True):
        names = name_members(
            base,
            *x_shape,
            num_simulations=num_simulations,
            has_embedding=has_embedding,
        )
        assert "posterior_mixture" in names
        assert set(names) <= set(DENSITIES)


@pytest.mark.parametrize("base", ["auto", "likelihood"])
def test_likelihoods_are_fitted_to_short_vectors_only(base):
    assert "likelihood_mixture" in name_members(base, 8)
    assert "likelihood_mixture" not in name_members(base, 1_000)
    assert "likelihood_mixture" not in name_members(base, 1, 6, 6)
    assert "likelihood_mixture" not in name_members(base, 8, has_embedding=True)


def test_posterior_alone_has_no_likelihood():
    assert set(name_members("posterior", 8)) == {"posterior_mixture"}


def test_long_vectors_are_looked_at_as_series():
    def list_series(*x_shape, has_embedding=False, trials=False):
        rows = make_rows(*x_shape)
        members = list_members("auto", 1_000, *rows, has_embedding, trials)
        return [m.name for m in members if m.settings.get("is_series")]

    assert list_series(33) == list_series(2_000) == ["posterior_mixture"]
    assert list_series(32) == list_series(1, 6, 6) == []
    assert list_series(100, has_embedding=True) == []
    assert list_series(4, 100, trials=True) == []


def test_closed_forms_come_first_and_know_no_net():
    members = list_members("auto", 1_000, *make_rows(8), False)
    closed = [member.recipe is None for member in members]
    assert closed[0] and any(closed[1:])
    for member in members:
        assert (member.settings["hidden_features"] == 0) == (member.recipe is None)
    members = list_members("auto", 1_000, *make_rows(8), True)
    assert all(member.recipe is not None for member in members)


@pytest.mark.parametrize("num_simulations", BUDGETS)
@pytest.mark.parametrize("repeats", [1, 20])
def test_every_member_can_be_built_and_remembers_what_it_is(num_simulations, repeats):
    theta, _, x = draw_pairs(50, seed=1)
    x = x.repeat(1, repeats)
    members = list_members("auto", num_simulations, theta, x, False)
    for member in members:
        estimator = build_member(member, make_materials(), theta, x).eval()
        assert estimator.classifier_name == member.name
        assert estimator.classifier_settings == member.settings
        assert is_proposal(estimator) == (member.name == "posterior_mixture")
        assert torch.isfinite(estimator(theta, x)).all()
        for value in member.settings.values():
            assert type(value) in (int, float)


def test_net_of_the_users_has_no_name():
    theta, x = PRIOR.sample((50,)), torch.randn(50, 1, 6, 6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    for member in list_members("auto", 1_000, theta, x, True):
        estimator = build_member(member, make_materials(net), theta, x)
        assert not hasattr(estimator, "classifier_name")
        assert estimator(theta, x).shape == (50,)


def test_settings_reach_the_builder():
    theta, _, x = draw_pairs(50, seed=1)
    settings = {"num_components": 3, "hidden_features": 7, "num_blocks": 1}
    for name in DENSITIES:
        estimator = build_member(
            Member(name, settings, None), make_materials(), theta, x
        )
        assert estimator.net.num_components == 3
        sizes = {size for p in estimator.parameters() for size in p.shape}
        assert 7 in sizes


def test_more_simulations_want_larger_batches_and_no_more_passes():
    recipes = [choose_density_recipe(count) for count in BUDGETS]
    sizes = [recipe.batch_size for recipe in recipes]
    passes = [recipe.num_passes for recipe in recipes]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert passes == sorted(passes, reverse=True)


def test_correlations_of_many_numbers_may_stay_fixed_while_there_are_few_rows():
    def list_fixed(numbers, count):
        members = list_members("auto", count, *make_rows(numbers), False)
        return [m for m in members if m.settings.get("fixed_correlations")]

    assert [m.name for m in list_fixed(10, 1_000)] == ["likelihood_mixture"]
    assert list_fixed(8, 1_000) == list_fixed(10, 10_000) == []
