"""sbi's own tools, called as sbi documents them, on small real runs."""

import pickle

import matplotlib.pyplot as plt
import pytest
import torch
from linear_gaussian import PRIOR, X_O, draw_pairs, exact_posterior, simulate
from sbi.analysis import pairplot
from sbi.diagnostics import check_sbc, check_tarp, run_sbc, run_tarp
from sbi.inference import EnsemblePosterior, simulate_for_sbi
from sbi.inference.posteriors import (
    ImportanceSamplingPosterior,
    MCMCPosterior,
    RejectionPosterior,
    VIPosterior,
)
from sbi.inference.trainers.nre.nre_base import RatioEstimatorTrainer
from sbi.samplers.importance.importance_sampling import importance_sample
from sbi.utils.user_input_checks import process_prior, process_simulator
from torch import nn

from sbi_aalr import AALR, MHPosterior, networks

# Warnings are errors: a fall back from batched sampling would fail these tests.
FAST = {
    "num_chains": 25,
    "warmup_steps": 60,
    "thin": 5,
    "max_rhat": None,
    "min_ess": None,
    "num_candidates": 1_000,
}


@pytest.fixture
def fast(fitted):
    posterior = fitted.build_posterior()
    posterior.parameters = posterior.parameters.with_param(**FAST)
    return posterior


class Shrunk:
    """The control: half the distance from the prior's mean, so far too narrow."""

    def __init__(self, posterior):
        self.chains = posterior.chains.theta

    def sample_batched(self, sample_shape, x, **settings):
        return self.chains.flatten(0, 1) / 2


def test_run_sbc_finds_no_fault_and_the_control_does(fast):
    torch.manual_seed(1)
    theta, _, x = draw_pairs(200, seed=5)
    ranks, dap_samples = run_sbc(
        theta, x, fast, num_posterior_samples=200, show_progress_bar=False
    )
    assert ranks.shape == dap_samples.shape == (200, 2)
    assert fast.chains.num_observations == 200
    checks = check_sbc(ranks, theta, dap_samples, num_posterior_samples=200)
    assert (checks["ks_pvals"] > 0.01).all()
    ranks, _ = run_sbc(
        theta, x, Shrunk(fast), num_posterior_samples=200, show_progress_bar=False
    )
    checks = check_sbc(ranks, theta, dap_samples, num_posterior_samples=200)
    assert (checks["ks_pvals"] < 0.01).all()


@pytest.mark.slow
def test_run_sbc_takes_the_log_density_as_its_reducer(fast):
    theta, _, x = draw_pairs(100, seed=6)
    ranks, _ = run_sbc(
        theta,
        x,
        fast,
        reduce_fns=fast.log_prob,
        num_posterior_samples=100,
        show_progress_bar=False,
    )
    assert ranks.shape == (100, 1)
    assert 35 < ranks.mean() < 65


def test_run_tarp_finds_no_fault_and_the_control_does(fast):
    torch.manual_seed(1)
    theta, _, x = draw_pairs(200, seed=7)
    for is_right in (True, False):
        posterior = fast if is_right else Shrunk(fast)
        coverage, alpha = run_tarp(
            theta, x, posterior, num_posterior_samples=200, show_progress_bar=False
        )
        _, p_value = check_tarp(coverage, alpha)
        area = float((coverage - alpha).abs().mean())
        assert (p_value > 0.01 and area < 0.07) == is_right


def test_pairplot_draws_the_samples(fast):
    draws = fast.sample((200,), x=X_O, show_progress_bars=False)
    figure, axes = pairplot(draws, points=exact_posterior(X_O)[0][None])
    assert axes.shape == (2, 2)
    plt.close(figure)


def test_ensemble_mixes_posteriors(fast):
    ensemble = EnsemblePosterior([fast, pickle.loads(pickle.dumps(fast))])
    ensemble.set_default_x(X_O)
    draws = ensemble.sample((500,), show_progress_bars=False)
    assert draws.shape == (500, 2)
    assert (draws.mean(dim=0) - exact_posterior(X_O)[0]).abs().max() < 0.3
    batched = ensemble.sample_batched(
        torch.Size((40,)), torch.stack((X_O, -X_O)), show_progress_bars=False
    )
    assert batched.shape == (40, 2, 2)
    theta = draws[:10]
    # Two members that are the same are as one.
    torch.testing.assert_close(ensemble.log_prob(theta), fast.log_prob(theta, x=X_O))
    torch.testing.assert_close(ensemble.potential(theta), fast.potential(theta, x=X_O))


def test_rounds_with_a_posterior_as_proposal_sharpen():
    prior, _, returns_numpy = process_prior(PRIOR)
    simulator = process_simulator(
        lambda theta: theta + 0.1 * torch.randn_like(theta), prior, returns_numpy
    )
    torch.manual_seed(1)
    trainer = AALR(prior, networks.mlp((64, 64)), show_progress_bars=False)
    proposal, spreads = prior, []
    for round_number in range(3):
        theta, x = simulate_for_sbi(simulator, proposal, 1_000, show_progress_bar=False)
        trainer.append_simulations(theta, x, from_round=round_number).train(
            learning_rate=2e-3, stop_after_epochs=10
        )
        proposal = trainer.build_posterior().set_default_x(X_O)
        draws = proposal.sample((1_000,), show_progress_bars=False)
        spreads.append(draws.std(dim=0).mean())
    assert isinstance(proposal, MHPosterior)
    stored = [len(trainer.get_simulations(first)[0]) for first in range(3)]
    assert stored == [3_000, 2_000, 1_000]
    # The posterior has a standard deviation of 0.1, the prior one of 1.
    assert theta.std(dim=0).max() < 0.7
    assert spreads[2] < spreads[0] < 0.7
    assert (draws.mean(dim=0) - X_O).abs().max() < 0.2


class Patches(nn.Sequential):
    """A small convolutional network: images of 8 x 8 pixels to four features."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 4, 3, stride=2), nn.SELU(), nn.Flatten(), nn.Linear(36, 4)
        )


def simulate_images(theta):
    """Two bright rows whose brightness is theta, in noise."""
    images = 0.5 * torch.randn(len(theta), 1, 8, 8)
    images[:, 0, 2] += theta[:, :1]
    images[:, 0, 5] += theta[:, 1:]
    return images


def test_images_go_through_a_convolutional_embedding():
    trainer = AALR(
        PRIOR,
        networks.mlp((32, 32), embedding_net_x=Patches()),
        show_progress_bars=False,
    )
    estimator = trainer.train_online(
        simulate_images,
        num_simulations=40_000,
        batch_size=200,
        learning_rate=5e-3,
        seed=1,
    )
    assert estimator.x_shape == (1, 8, 8)
    posterior = trainer.build_posterior()
    theta = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    torch.manual_seed(0)
    images = simulate_images(theta)
    draws = posterior.sample_batched((500,), images, show_progress_bars=False, seed=1)
    assert draws.shape == (500, 2, 2)
    assert (draws.mean(dim=0) - theta).abs().max() < 0.7
    assert posterior.log_prob(theta, x=images[0]).argmax() == 0
    assert posterior.sample((5,), x=images[0], show_progress_bars=False).shape == (5, 2)


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        ("mh", MHPosterior),
        ("mcmc", MCMCPosterior),
        ("rejection", RejectionPosterior),
        ("vi", VIPosterior),
        ("importance", ImportanceSamplingPosterior),
    ],
)
def test_sbis_own_posteriors_are_still_there(fitted, sampler, kind):
    posterior = fitted.build_posterior(sample_with=sampler)
    assert type(posterior) is kind
    if sampler in ("rejection", "importance"):
        draws = posterior.sample((20,), x=X_O, show_progress_bars=False)
        assert draws.shape == (20, 2)


def test_posterior_is_a_proposal_of_sbis_importance_sampler(fast):
    potential = fast.potential_fn
    potential.set_x(X_O)
    fast.set_default_x(X_O)
    draws, log_weight = importance_sample(potential, fast, num_samples=300)
    # The weights of draws from the target itself are one number.
    assert draws.shape == (300, 2)
    assert log_weight.std() < 1e-3 and torch.isfinite(log_weight).all()


def test_posterior_follows_the_estimator_and_prior_it_is_given(fitted, estimator):
    trainer = AALR(show_progress_bars=False)
    posterior = trainer.build_posterior(estimator, prior=PRIOR)
    theta = draw_pairs(10, seed=1)[0]
    expected = fitted.build_posterior().log_prob(theta, x=X_O)
    assert torch.equal(posterior.log_prob(theta, x=X_O), expected)


@pytest.mark.usefixtures("hasty_recipe")
def test_build_posterior_keeps_its_estimator_when_training_goes_on():
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_online(simulate, num_simulations=100, seed=1)
    posterior = trainer.build_posterior()
    theta = draw_pairs(10, seed=1)[0]
    before = posterior.log_prob(theta, x=X_O)
    trainer.train_online(simulate, num_simulations=100, seed=2)
    assert torch.equal(posterior.log_prob(theta, x=X_O), before)


def test_trainer_is_one_of_sbis_ratio_trainers():
    assert issubclass(AALR, RatioEstimatorTrainer)
