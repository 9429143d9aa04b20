"""Training on stored simulations: what it recovers, keeps and holds out."""

import math
import warnings

import pytest
import torch
from linear_gaussian import compare, draw_pairs
from trainers import SOON, append, make_trainer, weights

from sbi_aalr import networks


def train_stored(theta, x):
    trainer = make_trainer().append_simulations(theta, x)
    estimator = trainer.train(
        training_batch_size=1_000, learning_rate=0.01, stop_after_epochs=5, seed=1
    )
    return trainer, estimator


def test_stored_training_recovers_analytic_log_ratio():
    theta, _, x = draw_pairs(60_000, seed=1)
    trainer, estimator = train_stored(theta, x)
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    for pairs, max_error in ((theta, 0.1), (theta_prime, 0.1)):
        correlation, error = compare(estimator, pairs, x)
        assert correlation > 0.99
        assert error < max_error
    # Per pair, and not per pair and batch size as in sbi's NRE_A.
    assert 0.5 < trainer.summary["best_validation_loss"][0] < math.log(2)


def test_shuffled_theta_gives_log_ratio_zero():
    """The control of the test above: every label is random."""
    theta, _, x = draw_pairs(20_000, seed=1)
    shuffle = torch.randperm(20_000, generator=torch.Generator().manual_seed(1))
    trainer, estimator = train_stored(theta[shuffle], x)
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    for pairs in (theta, theta_prime):
        with torch.no_grad():
            assert estimator(pairs, x).abs().mean() < 0.2
        correlation, error = compare(estimator, pairs, x)
        assert correlation < 0.9 and error > 0.4
    assert trainer.summary["best_validation_loss"][0] == pytest.approx(
        math.log(2), 0.02
    )


def test_same_seed_gives_same_weights_from_stored_simulations():
    trainer = append(make_trainer())
    before = torch.get_rng_state()
    first = weights(trainer.train(**SOON, retrain_from_scratch=True))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, weights(trainer.train(**SOON, retrain_from_scratch=True)))
    assert not torch.equal(first, weights(trainer.train(**SOON)))


def test_rounds_can_be_discarded():
    trainer = append(make_trainer(), 400)
    append(trainer, 100, seed=2, from_round=1)
    trainer.train(**SOON, discard_prior_samples=True)
    assert len(trainer.train_indices) + len(trainer.val_indices) == 100


def test_best_epoch_is_kept_and_training_stops_early():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = make_trainer(networks.mlp((64,)))
    trainer.append_simulations(theta, x)
    with warnings.catch_warnings():
        # That it ended by itself is no reason to train for longer.
        warnings.simplefilter("error")
        estimator = trainer.train(
            learning_rate=0.02, stop_after_epochs=3, max_num_epochs=500, seed=1
        )
    losses = trainer.summary["validation_loss"]
    assert losses.index(min(losses)) == len(losses) - 4
    assert trainer.summary["best_validation_loss"] == [min(losses)]
    assert trainer.summary["epochs_trained"] == [len(losses)]
    assert not estimator.training


def test_resumed_training_holds_out_the_same_rows():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = make_trainer().append_simulations(theta, x)
    settings = {"training_batch_size": 50, "stop_after_epochs": 1}
    first = weights(trainer.train(seed=1, **settings))
    held_out = trainer.val_indices
    second = weights(trainer.train(seed=2, resume_training=True, **settings))
    assert torch.equal(trainer.val_indices, held_out)
    assert not torch.equal(first, second)
    trainer.train(seed=2, **settings)
    assert not torch.equal(trainer.val_indices, held_out)


def test_budget_of_passes_that_is_used_up_is_told_of():
    trainer = append(make_trainer())
    with pytest.warns(UserWarning, match="`max_num_epochs=2` reached"):
        trainer.train(max_num_epochs=2, stop_after_epochs=2, seed=1)
