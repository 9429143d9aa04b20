"""Truncated rounds: what they spend, and that the posterior is unchanged."""

import warnings

import pytest
import torch
from linear_gaussian import PRIOR, exact_posterior, simulate
from sbi.utils import BoxUniform
from trainers import get_estimator, make_trainer, weights

from sbi_aalr import AALR, networks
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.trainer import fitting
from sbi_aalr.trainer.fitting import begin_structures
from sbi_aalr.trainer.journal import Journal

X_O = torch.tensor([[1.0, -2.0]])


def test_rounds_spend_the_budget_and_cut_the_prior_of_the_posterior():
    given = []

    def remember(theta):
        given.append(theta)
        return simulate(theta)

    trainer = make_trainer(networks.two_towers(16, 1))
    estimator = trainer.train_truncated(
        remember, X_O, 801, num_rounds=2, epsilon=0.2, seed=1
    )
    # Two and three parameter sets found out that the simulator takes batches, and one
    # what an observation looks like.
    assert [len(theta) for theta in given] == [2, 3, 1, 401, 400]
    whole, share = trainer.summary["accepted_share"]
    assert whole == 1 and 0 < share < 0.9
    assert [len(trainer.summary[name]) for name in ("recipe", "fit_seconds")] == [2, 2]
    # Some draws of the first round lie inside the cut and are used again.
    used = trainer.summary["recipe"][-1]["num_simulations"]
    assert 0.9 * 400 < used < 0.9 * (400 + share * 401 + 60)
    posterior = trainer.build_posterior()
    assert torch.isneginf(posterior.potential(-3 * X_O, x=X_O)).all()
    # What fails changes neither the estimator nor the prior that it is for.
    with pytest.raises(RuntimeError, match="loss became"):
        trainer.train_online(simulate, 100, learning_rate=1e38, clip_max_norm=None)
    posterior = trainer.build_posterior()
    assert torch.isneginf(posterior.potential(-3 * X_O, x=X_O)).all()
    assert torch.equal(weights(get_estimator(trainer)), weights(estimator))
    # The next estimator that is not for one observation has the whole prior.
    trainer.train_online(simulate, 100, seed=1)
    posterior = trainer.build_posterior()
    assert torch.isfinite(posterior.potential(-3 * X_O, x=X_O)).all()


@pytest.mark.usefixtures("hasty_recipe")
def test_what_is_cut_off_still_serves_densities_of_the_data(monkeypatch):
    seen, fit, rounds = [], Journal.fit, []

    def note(journal, number, passes, **settings):
        structure = rounds[-1]._structures[number]
        seen.append((len(rounds), structure, passes.num_simulations))
        return fit(journal, number, passes, **settings)

    def begin(trainer, *arguments):
        rounds.append(trainer)
        return begin_structures(trainer, *arguments)

    monkeypatch.setattr(Journal, "fit", note)
    monkeypatch.setattr(fitting, "begin_structures", begin)
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_truncated(
        simulate, X_O, 800, num_rounds=2, epsilon=0.2, time_limit=5, seed=1
    )
    first = [(one.sees_all, rows) for number, one, rows in seen if number == 1]
    assert set(first) == {(False, 360)}
    # What is held out, and all else that is trained, lies inside the cut.
    theta, cut_off = rounds[1]._theta_roundwise[0], rounds[1]._cut_off[0]
    assert rounds[1]._cut(theta).all() and not rounds[1]._cut(cut_off).any()
    assert len(theta) + len(cut_off) == 800
    inside = int(0.9 * len(theta))
    last = {
        (one.name == "likelihood_mixture", one.sees_all, n)
        for k, one, n in seen
        if k == 2
    }
    assert last == {
        (True, True, inside + len(cut_off)),
        (True, False, inside),
        (False, False, inside),
    }
    tried = trainer.summary["recipe"][-1]["structures"]
    of_all = [one for one in tried if one.get("sees_all")]
    assert {one["structure"] for one in of_all} == {"likelihood_mixture"}
    # Closed forms have no passes.
    assert ["num_passes" in one for one in of_all].count(False) == 1


@pytest.mark.usefixtures("hasty_recipe")
def test_round_knows_how_little_of_the_prior_is_left(monkeypatch):
    """A share told too large makes posteriors too narrow, as far contrasts vanish."""
    rounds = []

    def begin(trainer, *arguments):
        rounds.append(trainer)
        return begin_structures(trainer, *arguments)

    monkeypatch.setattr(fitting, "begin_structures", begin)
    prior = BoxUniform(-10 * torch.ones(3), 10 * torch.ones(3))
    trainer = AALR(prior, show_progress_bars=False)
    trainer.train_truncated(
        lambda theta: theta + 0.02 * torch.randn_like(theta),
        torch.tensor([9.99, -3.0, 0.0]),
        300,
        num_rounds=2,
        seed=1,
    )
    (cut,) = trainer._truncated_prior.cuts
    sides = torch.minimum(cut.high, torch.tensor(10.0)) - cut.low
    inside = cut.low + sides * torch.rand(20_000, 3)
    share = (sides / 20).prod() * rounds[1]._cut(inside).float().mean()
    assert share < 1e-6
    assert abs(rounds[1]._cut_log_share - float(share.log())) < 0.2


@pytest.mark.slow
def test_posterior_after_rounds_is_that_of_the_original_prior():
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_truncated(
        simulate, X_O, num_simulations=9_000, num_rounds=2, time_limit=6, seed=1
    )
    assert trainer.summary["accepted_share"][0] == 1
    assert 0.05 < trainer.summary["accepted_share"][1] < 1
    posterior = trainer.build_posterior()
    draws = posterior.sample((4_000,), x=X_O, seed=1, show_progress_bars=False)
    mean, deviation = exact_posterior(X_O)
    assert ((draws.mean(0) - mean) / deviation).abs().max() < 0.2
    torch.testing.assert_close(
        draws.std(0), torch.full((2,), deviation), rtol=0.15, atol=0
    )
    # The control: without the prior, the mean would lie at the observation.
    assert ((X_O[0] - mean) / deviation).abs().max() > 0.5


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_rounds": 0}, ValueError, "`num_rounds` must .*got 0"),
        ({"epsilon": 1.0}, ValueError, "`epsilon` must lie strictly .*got 1.0"),
        ({"num_simulations": 1.5}, TypeError, "`num_simulations` must"),
        ({"time_limit": -1}, ValueError, "`time_limit` must .*got -1"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        AALR(PRIOR).train_truncated(simulate, X_O, **settings)


@pytest.mark.parametrize(
    ("x_o", "error", "message"),
    [
        (torch.zeros(2, 2), ValueError, r"`x_o` must be one .*\(2,\).* got \(2, 2\)"),
        (torch.zeros(3), ValueError, r"`x_o` must be one .*got \(3,\)"),
        (torch.zeros(2, 1), ValueError, r"`x_o` must be one .*got \(2, 1\)"),
        (torch.zeros(0, 2), ValueError, r"`x_o` must be one .*got \(0, 2\)"),
        (torch.tensor([0.0, torch.nan]), ValueError, "`x_o` must be finite"),
        (X_O.to(torch.complex64), TypeError, "`x_o` must .*real .*got torch.complex64"),
        ("a", TypeError, "`x_o` must be a tensor or an array .*got str"),
        (None, TypeError, "`x_o` must be a tensor or an array .*got NoneType"),
        ([[1.0], [1.0, 2.0]], TypeError, "`x_o` must be a tensor .*got list"),
    ],
)
def test_wrong_observation_is_named_before_the_first_round(x_o, error, message):
    given = []

    def remember(theta):
        given.append(len(theta))
        return simulate(theta)

    trainer = make_trainer()
    with pytest.raises(error, match=message):
        trainer.train_truncated(remember, x_o, 500, num_rounds=2)
    assert sum(given) <= 6
    with pytest.raises(RuntimeError, match="no estimator"):
        trainer.build_posterior()


def test_wrong_simulator_of_rounds_is_named():
    with pytest.raises(TypeError, match="`simulator` must be callable, got int"):
        make_trainer().train_truncated(3, X_O)
    with pytest.raises(ValueError, match="`num_simulations` must be at least 20 for"):
        make_trainer().train_truncated(simulate, X_O, 90, num_rounds=5)


def test_rounds_without_prior_are_named():
    with pytest.raises(RuntimeError, match="Rounds draw from the prior"):
        AALR().train_truncated(simulate, X_O)


@pytest.mark.parametrize("distance", [0.0, 30.0])
def test_observation_far_from_all_simulations_is_told(distance):
    trainer = make_trainer(networks.two_towers(8, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train_truncated(
            simulate, X_O + distance, 400, num_rounds=2, time_limit=1, seed=1
        )
    far = [one for one in caught if one.category is FarObservationWarning]
    assert len(far) == (distance > 0)
    assert all(one.filename == __file__ for one in far)
