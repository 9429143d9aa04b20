"""Simulators and simulations that cannot be trained on are named."""

import math

import pytest
import torch
from linear_gaussian import draw_pairs, simulate
from trainers import append, make_trainer

from sbi_aalr.errors import InvalidSimulationsWarning

THETA, _, X = draw_pairs(40, seed=1)
NAN = torch.full((40, 2), math.nan)


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
        (lambda theta: None, TypeError, "`simulator` must return real .*got NoneType"),
        (raise_error, ValueError, "`simulator` raised KeyError: 'no such table'"),
        (lambda theta: theta / 0, ValueError, "NaN or infinity in 100 of 100 rows"),
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
    with pytest.raises(ValueError, match="NaN or infinity in 49 of 49 rows"):
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
    with pytest.warns(InvalidSimulationsWarning, match="1 of 40 .*wrong") as caught:
        trainer.append_simulations(THETA, x, exclude_invalid_x=True)
    assert len(caught) == 1 and caught[0].message.value == 1 / 40
    assert caught[0].filename == __file__
    assert len(trainer.get_simulations()[0]) == 39
    with pytest.raises(ValueError, match=r"`x` must be finite in some rows.* all 40"):
        trainer.append_simulations(THETA, NAN, exclude_invalid_x=True)
    # Nothing is left out, so there is nothing to warn of.
    trainer.append_simulations(THETA, X, exclude_invalid_x=True)


def test_no_warning_of_scaling_that_there_is_none_of(recwarn, caplog):
    outlier, constant = X.clone(), X.clone()
    outlier[0, 0], constant[:, 1] = 1e6, 3.0
    for theta, x in ((THETA, outlier), (THETA, constant), (THETA[:1], X[:1])):
        make_trainer().append_simulations(theta, x)
    assert not recwarn.list and not caplog.records


def test_negative_round_is_named():
    with pytest.raises(ValueError, match="`from_round` must be"):
        append(make_trainer(), from_round=-1)


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
