import pytest
import torch
from linear_gaussian import (
    PRIOR,
    SHORT,
    build_quadratic,
    compare,
    draw_pairs,
    simulate,
)
from sbi.inference.posteriors.ensemble_posterior import EnsemblePosterior
from torch import nn

from sbi_aalr import AALR, MHPosterior, networks
from sbi_aalr.networks import average_log_ratios, is_plain, is_separable
from sbi_aalr.training.ratio_loss import compute_all_pairs

THETA, _, X = draw_pairs(40, seed=1)
BUILDERS = {
    "two_towers": networks.two_towers(8, 1),
    "residual_mlp": networks.residual_mlp(8, 1),
    "mlp": networks.mlp((8,)),
}


def make_members(*names):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [BUILDERS[name](THETA, X).eval() for name in names]


@pytest.mark.parametrize("names", [["two_towers"] * 3, ["two_towers", "mlp"], ["mlp"]])
def test_ensemble_is_the_mean_of_its_members(names):
    members = make_members(*names)
    ensemble = average_log_ratios(members)
    expected = torch.stack([member(THETA, X) for member in members]).mean(dim=0)
    torch.testing.assert_close(ensemble(THETA, X), expected)
    assert is_plain(ensemble)
    assert is_separable(ensemble) == (set(names) == {"two_towers"})


def test_all_pairs_of_an_ensemble_are_the_mean_of_its_members():
    members = make_members("two_towers", "two_towers")
    pairs = [compute_all_pairs(member, THETA, X[:5]) for member in members]
    ensemble = compute_all_pairs(average_log_ratios(members), THETA, X[:5])
    torch.testing.assert_close(ensemble, sum(pairs) / 2)


def test_ensembles_nest():
    members = make_members("two_towers", "two_towers")
    nested = average_log_ratios([average_log_ratios(members), members[0]])
    expected = (3 * members[0](THETA, X) + members[1](THETA, X)) / 4
    torch.testing.assert_close(nested(THETA, X), expected)
    assert is_separable(nested)
    torch.testing.assert_close(compute_all_pairs(nested, THETA, X).diagonal(), expected)


def test_ensemble_is_better_than_its_members_on_average():
    members = []
    for seed in range(3):
        trainer = AALR(PRIOR, networks.mlp((16,)), show_progress_bars=False)
        members.append(trainer.train_online(simulate, 20_000, 100, seed=seed))
    theta, _, x = draw_pairs(5_000, seed=9)
    errors = [compare(member, theta, x)[1] for member in members]
    assert compare(average_log_ratios(members), theta, x)[1] < sum(errors) / 3


def test_mixture_of_posteriors_is_sbis():
    settings = {name: SHORT[name] for name in SHORT if name != "show_progress_bars"}
    posteriors = [
        MHPosterior.from_estimator(member, PRIOR, **settings)
        for member in make_members("two_towers", "mlp")
    ]
    mixture = EnsemblePosterior(posteriors)
    mixture.set_default_x(X[0])
    assert mixture.sample((20,), show_progress_bars=False).shape == (20, 2)


@pytest.mark.parametrize(
    ("estimators", "error", "message"),
    [
        ([], ValueError, "at least one, got none"),
        ([nn.Linear(2, 2)], TypeError, "got Linear"),
        (
            [build_quadratic(THETA, X), build_quadratic(THETA[:, :1], X)],
            ValueError,
            "same theta and x",
        ),
    ],
)
def test_wrong_members_are_named(estimators, error, message):
    with pytest.raises(error, match=message):
        average_log_ratios(estimators)
