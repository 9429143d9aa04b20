"""The default recipe: structures that are stacked, on a problem that is known.

Few passes are enough here, as the closed forms are all but exact; what is trained at
length is the control.
"""

import copy

import numpy as np
import pytest
import torch
from linear_gaussian import (
    PRIOR,
    X_O,
    draw_pairs,
    exact_posterior,
    log_ratio,
    simulate,
)
from stacked import NUM_ROWS, STORED, make, measure_error, train
from torch import nn
from trainers import append, get_estimator, make_trainer

from sbi_aalr import AALR, networks
from sbi_aalr.errors import FewHeldOutWarning
from sbi_aalr.networks import Stack, is_separable
from sbi_aalr.networks.density import draw_theta
from sbi_aalr.training.ratio_loss import RatioLoss

BASES = ("auto", "posterior", "likelihood")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
    pytest.mark.usefixtures("hasty_stack"),
]


@pytest.fixture(scope="module")
def stored():
    """A trainer of each base. Train copies of them only."""
    return {base: train(base) for base in BASES}


@pytest.fixture(scope="module")
def usual_error():
    """Errors of the towers alone, trained on the same rows as long as they want."""
    trainer = append(make(None), NUM_ROWS)
    return measure_error(trainer.train(seed=1))


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("base", BASES)
def test_every_base_is_closer_to_the_analytic_ratio(
    base, is_stored, stored, usual_error
):
    trainer = stored[base] if is_stored else train(base, is_stored=False)
    estimator = get_estimator(trainer)
    assert isinstance(estimator, Stack) and is_separable(estimator)
    assert not estimator.training
    joint, marginal = measure_error(estimator)
    assert joint < 0.7 * usual_error[0] and marginal < 0.7 * usual_error[1]
    assert joint < 0.2 and marginal < 0.3


@torch.no_grad()
@pytest.mark.parametrize("base", BASES)
def test_ratio_has_a_mean_of_one_over_the_prior(base, stored):
    estimator = get_estimator(stored[base])
    x = draw_pairs(50, seed=8)[2]
    drawn = draw_theta(estimator.proposal, x, 400, torch.Generator().manual_seed(1))
    prior = PRIOR.sample((400, 50))
    rows = torch.cat((drawn, prior)).flatten(0, 1)
    log_q = estimator.proposal(rows, x.repeat(800, 1))
    # Over the density and the prior in equal shares.
    log_weight = -torch.logaddexp(log_q, torch.zeros(())) + np.log(2)
    ratio = (estimator(rows, x.repeat(800, 1)) + log_weight).exp().view(800, 50)
    means = ratio.double().mean(dim=0)
    noise = ratio.std(dim=0) / 800**0.5
    # Monte Carlo error, and what an offset from few rows leaves; farther in the tails.
    assert ((means - 1).abs() < 5 * noise + 0.15).float().mean() > 0.9
    assert abs(float(means.mean()) - 1) < 0.06


@torch.no_grad()
def test_x_independent_of_theta_gives_log_ratio_zero():
    """The control: nothing to learn, nothing learnt."""
    trainer = make()
    theta, theta_prime, x = draw_pairs(NUM_ROWS, seed=1)
    trainer.append_simulations(theta_prime, x)
    estimator = trainer.train(**STORED)
    for rows in draw_pairs(2_000, seed=9)[:2]:
        found = estimator(rows, draw_pairs(2_000, seed=9)[2])
        assert found.abs().mean() < 0.12
    assert log_ratio(theta, x).abs().mean() > 0.4


@pytest.mark.parametrize("base", BASES)
def test_summary_lists_structures_with_weights_and_losses(base, stored):
    recipe = stored[base].summary["recipe"][-1]
    tried = recipe["structures"]
    names = [one["structure"] for one in tried]
    assert recipe["base"] == base and recipe["classifier"] == "stack"
    assert names[-1] == "two_towers" and "posterior_mixture" in names
    assert ("likelihood_mixture" in names) == (base != "posterior")
    for one in tried:
        assert 0 <= one["weight"] <= 2 and np.isfinite(one["held_out_loss"])
        assert one["num_weights"] > 0 and one["settings"]
    used = [one for one in tried if one["weight"] > 0]
    assert len(used) == len(get_estimator(stored[base]).stacked) > 0
    if base == "likelihood":
        known = {"likelihood_mixture", "two_towers"}
        # What proposes may weigh next to nothing.
        heavy = [one for one in used if one["weight"] > 1e-3]
        assert {one["structure"] for one in heavy} <= known
    # No worse than the best of those that it may choose from, but for what is noise.
    allowed = [
        one["held_out_loss"]
        for one in tried
        if base != "likelihood" or one["structure"] != "posterior_mixture"
    ]
    assert recipe["held_out_loss"] < min(allowed) + 0.05
    trained = [one for one in tried if "num_passes" in one]
    assert trained and all(one["num_passes"] == 2 for one in trained)


def test_unknown_base_is_refused():
    with pytest.raises(ValueError, match=r"`base` must be one of .*'both'") as caught:
        AALR(PRIOR, base="both")
    assert all(base in str(caught.value) for base in BASES)
    with pytest.raises((TypeError, ValueError), match="`base`"):
        AALR(PRIOR, base=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"classifier": "residual_mlp"},
        {"classifier": networks.two_towers(8, 1)},
        {"base": None},
        {"loss": RatioLoss()},
    ],
)
def test_whoever_names_another_network_gets_that(settings):
    settings = {"classifier": "two_towers", "base": "auto", **settings}
    trainer = append(make_trainer(**settings), 100)
    estimator = trainer.train(training_batch_size=50, **STORED)
    assert not isinstance(estimator, Stack)
    assert "structures" not in trainer.summary["recipe"][-1]


@pytest.mark.parametrize("base", ["auto", "likelihood"])
def test_trials_are_summed_and_sampled(base, stored):
    trials = torch.stack((X_O, torch.tensor([2.0, -1.0])))
    posterior = stored[base].build_posterior()
    draws = posterior.sample(
        (1_000,), x=trials, seed=1, show_progress_bars=False, min_ess=200
    )
    mean, spread = exact_posterior(trials)
    assert (draws.mean(dim=0) - mean).abs().max() < 0.25 * spread + 0.1
    assert (draws.std(dim=0) / spread - 1).abs().max() < 0.25


def simulate_images(theta):
    """A bright quarter for each parameter."""
    images = 0.5 * torch.randn(len(theta), 1, 6, 6)
    images[:, 0, :3, :3] += theta[:, 0, None, None]
    images[:, 0, 3:, 3:] += theta[:, 1, None, None]
    return images


@pytest.mark.parametrize("base", ["auto", "likelihood"])
def test_images_go_through_the_users_net(base):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=3), nn.ReLU(), nn.Flatten())
    before = copy.deepcopy(net.state_dict())
    trainer = make(base, embedding_net_x=net)
    trainer.train_online(simulate_images, 800, num_passes=5, seed=1)
    estimator = get_estimator(trainer)
    assert isinstance(estimator, Stack)
    theta = PRIOR.sample((300,))
    x = simulate_images(theta)
    with torch.no_grad():
        gain = estimator(theta, x) - estimator(theta.roll(1, dims=0), x)
    # The exact gain is far larger; half of it is luck otherwise.
    assert (gain > 0).float().mean() > 0.8
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_images_need_no_net():
    trainer = make()
    trainer.train_online(simulate_images, 300, num_passes=2, seed=1)
    theta = PRIOR.sample((5,))
    assert torch.isfinite(get_estimator(trainer)(theta, simulate_images(theta))).all()


def test_float64_by_default_changes_no_weights():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        trainer = train(num_rows=200)
        estimator = get_estimator(trainer)
        assert {p.dtype for p in estimator.parameters()} == {torch.float32}
        assert measure_error(estimator)[0] < 0.5
        posterior = trainer.build_posterior()
        short = {"max_rhat": None, "min_ess": None, "num_candidates": 500}
        draws = posterior.sample(
            (20,), x=X_O, seed=1, show_progress_bars=False, **short
        )
        assert torch.isfinite(draws).all()
    finally:
        torch.set_default_dtype(before)


def test_truncated_rounds_stack_too():
    trainer = make()
    estimator = trainer.train_truncated(
        simulate, X_O, 1_000, num_rounds=2, epsilon=0.01, time_limit=2.0, seed=1
    )
    assert isinstance(estimator, Stack) and len(trainer.summary["recipe"]) == 2
    posterior = trainer.build_posterior()
    draws = posterior.sample(
        (1_000,), x=X_O, seed=1, show_progress_bars=False, min_ess=200
    )
    mean, spread = exact_posterior(X_O)
    assert (draws.mean(dim=0) - mean).abs().max() < 0.25 * spread + 0.1
    assert (draws.std(dim=0) / spread - 1).abs().max() < 0.25


@pytest.mark.filterwarnings("ignore:.*rows are held out")
@pytest.mark.parametrize("num_rows", [4, 20, 60])
def test_few_simulations_are_enough_for_something(num_rows):
    trainers = [
        train(num_rows=num_rows, validation_fraction=0.5),
        train(is_stored=False, num_simulations=num_rows),
    ]
    for trainer in trainers:
        with torch.no_grad():
            found = get_estimator(trainer)(*draw_pairs(20, seed=9)[::2])
        assert torch.isfinite(found).all()


def test_closed_form_is_kept_where_too_few_rows_are_held_out():
    """Towers of sixty simulations would know next to nothing."""
    trainer = append(make_trainer("two_towers", base="auto"), 60)
    with pytest.warns(FewHeldOutWarning, match="6 rows are held out.*posterior_mix"):
        trainer.train(seed=1, max_num_epochs=10)
    assert "stack of posterior_mixture 1;" in str(trainer)
    posterior = trainer.build_posterior()
    x_o = torch.tensor([[0.5, -0.5]])
    draws = posterior.sample((2_000,), x_o, seed=1, show_progress_bars=False)
    mean, deviation = exact_posterior(x_o)
    assert torch.allclose(draws.mean(dim=0), mean, atol=0.4)
    assert torch.allclose(draws.std(dim=0), torch.tensor(deviation), rtol=0.3)
