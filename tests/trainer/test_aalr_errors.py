"""What `AALR` says about wrong input: the argument, the rule and what was given."""

import math

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate
from torch import nn
from torch.distributions import Independent, Normal
from trainers import append, make_trainer

from sbi_aalr import AALR

THETA, _, X = draw_pairs(40, seed=1)
NAN = torch.full((40, 2), math.nan)
DOUBLE = Independent(Normal(torch.zeros(2).double(), 1.0), 1)


def build_linear(theta, x):
    return nn.Linear(4, 1)


@pytest.mark.parametrize(
    ("prior", "classifier", "error", "message"),
    [
        ([PRIOR], "mlp", TypeError, "`prior` must be .*got list.*process_prior"),
        (Normal(torch.zeros(2), 1.0), "mlp", ValueError, "`prior` must .*Independent"),
        (Normal(0.0, 1.0), "mlp", ValueError, "`prior` must give each"),
        (DOUBLE, "mlp", ValueError, "`prior` must draw float32, got torch.float64"),
        (PRIOR, "mpl", ValueError, "`classifier` .*'selu_mlp', 'mlp'.*got 'mpl'"),
        (PRIOR, nn.Linear(4, 1), TypeError, "`classifier` must be .*got Linear"),
        (PRIOR, 3, TypeError, "`classifier` must be .*got int"),
    ],
)
def test_wrong_trainer_is_named(prior, classifier, error, message):
    with pytest.raises(error, match=message):
        make_trainer(classifier, prior)


def test_wrong_loss_is_named():
    with pytest.raises(TypeError, match="`loss` must be a RatioLoss, got str"):
        make_trainer(loss="bce")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"simulator": 3}, TypeError, "`simulator` must be callable, got int"),
        ({"num_simulations": 0}, ValueError, "`num_simulations` must .*got 0"),
        ({"num_simulations": 2.5}, TypeError, "`num_simulations` must .*got 2.5"),
        ({"num_simulations": True}, TypeError, "`num_simulations` must .*got True"),
        ({"batch_size": -3}, ValueError, "`batch_size` must .*got -3"),
        ({"learning_rate": 0}, ValueError, "`learning_rate` must .*got 0"),
        ({"learning_rate": "1"}, TypeError, "`learning_rate` must .*got '1'"),
        ({"time_limit": -1.0}, ValueError, r"`time_limit` must be .*got -1\.0"),
        ({"clip_max_norm": -1.0}, ValueError, "`clip_max_norm` must .*got -1"),
        ({"seed": -1}, ValueError, "`seed` must .*got -1"),
        ({"seed": 1.5}, TypeError, "`seed` must .*got 1.5"),
    ],
)
def test_wrong_settings_online_are_named(settings, error, message):
    settings = {"simulator": simulate, "num_simulations": 9, **settings}
    with pytest.raises(error, match=message):
        make_trainer().train_online(**settings)


def raise_error(theta):
    raise KeyError("no such table")


def fail_on_the_second_batch():
    calls = iter(range(100))

    def simulator(theta):
        return theta if next(calls) < 3 else theta.clone().fill_(math.inf)

    return simulator


@pytest.mark.parametrize(
    ("simulator", "error", "message"),
    [
        (lambda theta: simulate(theta)[1:], ValueError, "got 1 rows for 2 .* 2 for 3"),
        (
            lambda theta: theta[:, 0],
            ValueError,
            r"one row .*one number.*\(1,\)",
        ),
        (lambda theta: theta[:, :0], ValueError, r"one row for each.*got \(100, 0\)"),
        (lambda theta: None, ValueError, "`simulator` raised TypeError"),
        (raise_error, ValueError, "`simulator` raised KeyError: 'no such table'"),
        (lambda theta: theta / 0, ValueError, "finite numbers.*100 of 100 rows"),
    ],
)
def test_wrong_simulator_is_named(simulator, error, message):
    trainer = make_trainer()
    with pytest.raises(error, match=message):
        trainer.train_online(simulator, num_simulations=100, batch_size=50)
    with pytest.raises(RuntimeError, match="Call `train` or"):
        trainer.build_posterior()


def test_simulator_that_fails_later_is_named():
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"finite numbers.*49 of 49 rows"):
        trainer.train_online(
            fail_on_the_second_batch(), num_simulations=2_000, batch_size=50
        )
    with pytest.raises(RuntimeError, match="Call `train` or"):
        trainer.build_posterior()


@pytest.mark.parametrize(
    ("theta", "x", "error", "message"),
    [
        ([1.0], X, TypeError, "`theta` must be a torch tensor, got list"),
        (THETA, X.numpy(), TypeError, "`x` must be a torch tensor, got ndarray"),
        (NAN, X, ValueError, "`theta` must be finite.*40 of 40 rows"),
        (THETA, NAN, ValueError, "`x` must be finite.*40 of 40 rows"),
        (THETA, X / 0, ValueError, "`x` must be finite"),
        (THETA, X[:3], ValueError, "same number of rows, got 40 and 3"),
        (THETA[:0], X[:0], ValueError, r"`theta` must have at least one row.*\(0, 2\)"),
        (THETA, X[:, 0], ValueError, r"`x` must have .*got shape \(40,\)"),
        (THETA[None], X, ValueError, r"`theta` must be \(N, D\)"),
        (
            THETA,
            X[:, :1],
            ValueError,
            r"`x` .*\(2,\) as in the sim.*got \(1,\)",
        ),
        (THETA[:, :1], X, ValueError, r"`theta` must have rows of shape \(2,\)"),
    ],
)
def test_wrong_simulations_are_named(theta, x, error, message):
    with pytest.raises(error, match=message):
        append(make_trainer()).append_simulations(theta, x)


def test_invalid_x_can_be_left_out():
    x = X.clone()
    x[3, 1] = math.nan
    trainer = make_trainer()
    with pytest.warns(UserWarning, match="systematically wrong|invalid"):
        trainer.append_simulations(THETA, x, exclude_invalid_x=True)
    assert len(trainer.get_simulations()[0]) == 39


def test_negative_round_is_named():
    with pytest.raises(ValueError, match="`from_round` must be"):
        append(make_trainer(), from_round=-1)


@pytest.mark.parametrize(
    ("num_rows", "settings", "error", "message"),
    [
        (9, {}, ValueError, "enough rows for two in both .*got 9 rows"),
        (400, {"validation_fraction": 1.5}, ValueError, "`validation_fraction` .*1.5"),
        (400, {"training_batch_size": 1}, ValueError, "`training_batch_size` .*got 1"),
        (400, {"resume_training": True}, RuntimeError, "no training to resume"),
        (400, {"seed": 1.5}, TypeError, "`seed` must .*got 1.5"),
        (
            22,
            {"training_batch_size": 9, "dataloader_kwargs": {"drop_last": False}},
            ValueError,
            "at least 2 rows, got 1.*`drop_last`",
        ),
    ],
)
def test_wrong_settings_of_training_are_named(num_rows, settings, error, message):
    trainer = append(make_trainer(), num_rows)
    with pytest.raises(error, match=message):
        trainer.train(**settings)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: make_trainer().train(), "no simulations.*`append_simulations"),
        (lambda: make_trainer().build_posterior(), "Call `train` or `train_online`"),
        (lambda: AALR().train_online(simulate), "draws from the prior.*`AALR.prior.`"),
    ],
)
def test_wrong_order_of_calls_is_named(act, message):
    with pytest.raises(RuntimeError, match=message):
        act()


def test_classifier_that_builds_no_ratio_estimator_is_named():
    with pytest.raises(TypeError, match="must build a RatioEstimator, got Linear"):
        make_trainer(build_linear).train_online(simulate, num_simulations=9)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sample_with": "mcm"}, ValueError, "`sample_with` .*'mh', 'mcmc'.*got 'mcm'"),
        ({"density_estimator": nn.Linear(2, 2)}, TypeError, "`density_est.*got Linear"),
        ({"prior": 3}, TypeError, "`prior` must be .*got int"),
        (
            {"mcmc_parameters": {"num_chains": 2}},
            ValueError,
            "`mcmc_para.*sample_with=",
        ),
        ({"posterior_parameters": {}}, TypeError, "posterior_parameters must be"),
    ],
)
def test_wrong_settings_of_posterior_are_named(fitted, settings, error, message):
    with pytest.raises(error, match=message):
        fitted.build_posterior(**settings)


def test_posterior_without_prior_is_named(estimator):
    with pytest.raises(ValueError, match="You did not pass a prior"):
        AALR().build_posterior(estimator)


def test_simulations_of_another_shape_than_before_are_named():
    trainer = make_trainer()
    trainer.train_online(simulate, num_simulations=50)
    message = r"`x` must have rows of shape \(2,\) as in the estimator fitted before"
    with pytest.raises(ValueError, match=message):
        trainer.train_online(lambda theta: theta[:, :1], num_simulations=50)
    trainer.append_simulations(THETA, X[:, :1])
    with pytest.raises(ValueError, match=message):
        trainer.train()
    estimator = trainer.train(retrain_from_scratch=True, stop_after_epochs=1)
    assert estimator.x_shape == (1,)
