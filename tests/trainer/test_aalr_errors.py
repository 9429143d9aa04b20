"""What `AALR` says about wrong input: the argument, the rule and what was given."""

import math

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate
from torch import nn
from torch.distributions import Independent, Normal
from trainers import append, make_trainer

from sbi_aalr import AALR, networks
from sbi_aalr.training import RatioLoss

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
        ({"num_passes": 1.5}, TypeError, "`num_passes` must .*got 1.5"),
    ],
)
def test_wrong_settings_online_are_named(settings, error, message):
    settings = {"simulator": simulate, "num_simulations": 9, **settings}
    with pytest.raises(error, match=message):
        make_trainer().train_online(**settings)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (None, {"num_simulations": 1}, "`num_simulations` must be at least 2.*got 1"),
        (None, {"batch_size": 1}, "`batch_size` must be at least 2.*got 1"),
        (RatioLoss(50), {"num_simulations": 49}, "`num_sim.*at least 50.*`num_contr"),
        (RatioLoss(300), {}, "`batch_size` must be at least 300.*`num_contr.*got 256"),
        (RatioLoss(9), {"batch_size": 8}, "`batch_size` must be at least 9.*got 8"),
    ],
)
def test_too_few_rows_for_contrasts_online_are_named(loss, settings, message):
    trainer = make_trainer(networks.two_towers(8, 1), loss=loss)
    with pytest.raises(ValueError, match=message):
        trainer.train_online(simulate, **{"num_simulations": 500, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "enough rows for 51 .*got 40 with.*`num_contrasts`"),
        ({"training_batch_size": 9}, "enough rows for 51"),
    ],
)
def test_too_few_stored_rows_for_contrasts_are_named(settings, message):
    network = networks.two_towers(8, 1)
    trainer = append(make_trainer(network, loss=RatioLoss(50)), 40)
    with pytest.raises(ValueError, match=message):
        trainer.train(**settings)
    append(trainer, 1_000, seed=2)
    with pytest.raises(ValueError, match="`training_batch_size` must be at least 51"):
        trainer.train(training_batch_size=50)
    trainer.train(training_batch_size=51, stop_after_epochs=1)


@pytest.mark.parametrize("num_simulations", [2, 3, 5, 1_025, 1_027, 10_235])
@pytest.mark.parametrize("num_contrasts", [None, 2])
def test_no_batch_is_too_small_for_its_contrasts(num_simulations, num_contrasts):
    sizes = []

    class Spy(RatioLoss):
        def of_batch(self, estimator, batch):
            sizes.append(len(batch.theta))
            return super().of_batch(estimator, batch)

    trainer = make_trainer(networks.two_towers(4, 1), loss=Spy(num_contrasts))
    size = 2 if num_simulations < 10 else 256
    trainer.train_online(simulate, num_simulations, batch_size=size, num_passes=2)
    assert min(sizes) >= 2


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, 2**64, 2**128 + 5])
def test_seeds_of_any_size_are_taken(seed):
    first, second = (
        make_trainer().train_online(simulate, 50, seed=seed) for _ in range(2)
    )
    assert all(map(torch.equal, first.parameters(), second.parameters()))


@pytest.mark.parametrize(
    ("device", "error"),
    [("gpux", ValueError), ("", ValueError), (3, TypeError), ("cuda:99", ValueError)],
)
def test_wrong_device_is_named(device, error):
    with pytest.raises(error, match=r"`device` must be a torch device .*got"):
        make_trainer(device=device)
    with pytest.raises(error, match=r"`data_device` must be a torch device .*got"):
        append(make_trainer(), data_device=device)


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has a GPU"
)
def test_missing_gpu_is_named():
    with pytest.raises(ValueError, match=r"`device` must be .* works here, got 'gpu'"):
        make_trainer(device="gpu")


@pytest.mark.parametrize(
    ("num_rows", "settings", "error", "message"),
    [
        (9, {}, ValueError, "enough rows for 2 in both .*got 9 with"),
        (400, {"validation_fraction": 1.5}, ValueError, "`validation_fraction` .*1.5"),
        (400, {"training_batch_size": 1}, ValueError, "`training_batch_size` .*got 1"),
        (400, {"training_batch_size": 0}, ValueError, "`training_batch_size` .*got 0"),
        (400, {"training_batch_size": "a"}, TypeError, "`training_batch_size` .*'a'"),
        (1, {}, ValueError, "enough rows for 2 in both .*got 1 with"),
        (400, {"dataloader_kwargs": {"shuffle": True}}, ValueError, "`dataloader_kw"),
        (400, {"dataloader_kwargs": {"speed": 3}}, TypeError, "`dataloader_kw.*speed"),
        (400, {"dataloader_kwargs": 3}, TypeError, "`dataloader_kwargs` must .*got 3"),
        (400, {"max_num_epochs": 0}, ValueError, "`max_num_epochs` .*got 0"),
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
            {"mcmc_parameters": 2},
            TypeError,
            "`mcmc_parameters` must be a dict, got int",
        ),
        ({"mcmc_method": "gibbs"}, ValueError, "`method` must be one of"),
        ({"num_chains": 2}, TypeError, "has no argument `num_chains`"),
        ({"posterior_parameters": {}}, TypeError, "posterior_parameters must be"),
    ],
)
def test_wrong_settings_of_posterior_are_named(fitted, settings, error, message):
    with pytest.raises(error, match=message):
        fitted.build_posterior(**settings)


def test_posterior_without_prior_is_named(estimator):
    with pytest.raises(ValueError, match="You did not pass a prior"):
        AALR().build_posterior(estimator)
