"""Evaluations and memory are counted, and only while they are asked for."""

import math

import torch
from sbi.inference import NPE_C
from torch.distributions import MultivariateNormal

from sbi_aalr import MHPosterior
from sbi_aalr.comparison.cost import (
    count_evaluations,
    read_peak_memory,
    reset_peak_memory,
)
from sbi_aalr.networks import two_towers
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.trainer.sbi_trainer import NoTracker

PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
QUIET = {"tracker": NoTracker(), "show_progress_bars": False}


def test_evaluations_of_our_sampler_are_its_proposals():
    theta = PRIOR.sample((64,))
    network = two_towers(8, 1)(theta, theta).eval()
    posterior = MHPosterior.from_estimator(network, PRIOR)
    settings = {"num_chains": 10, "warmup_steps": 100, "max_rhat": None, "thin": 3}
    settings |= {"min_ess": None, "init_strategy": "proposal"}
    with count_evaluations(posterior) as counter:
        posterior.sample(
            (50,), x=torch.zeros(2), seed=1, show_progress_bars=False, **settings
        )
    # Warm-up runs 100 chains; each starts with one evaluation. Nothing is outside of
    # this prior, and what walks look ahead at is not always gone to.
    proposals = 100 * (1 + 100) + 10 * 5 * 3
    assert proposals <= counter.total <= 1.6 * proposals
    before = counter.total
    posterior.potential(torch.zeros(7, 2), x=torch.zeros(2))
    assert counter.total == before


def test_evaluations_of_density_estimators_are_counted():
    task = TwoMoons()
    theta = task.prior.sample((60,))
    x = task.simulate(theta)
    inference = NPE_C(prior=task.prior, **QUIET)
    posterior = inference.build_posterior(inference._build_neural_net(theta, x))
    network = posterior.posterior_estimator
    with count_evaluations(posterior) as counter:
        network.sample((5,), condition=x[:3])
        assert counter.total == 15
        network.log_prob(theta[:4].unsqueeze(0), condition=x[:4])
        assert counter.total == 19
    network.sample((5,), condition=x[:3])
    assert counter.total == 19
    with count_evaluations(object()) as counter:
        assert math.isnan(counter.total)


def test_peak_memory_rises_with_what_is_held_and_falls_after_a_reset():
    reset_peak_memory()
    before = read_peak_memory()
    held = torch.ones(64 * 2**20 // 4)
    assert read_peak_memory() > before + 50
    del held
    reset_peak_memory()
    assert read_peak_memory() < before + 40
