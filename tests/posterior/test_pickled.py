"""Posteriors and trainers are pickled like sbi's, whatever was asked of them before."""

import copy
import pickle

import pytest
import torch
from bad_inputs import make_stored
from linear_gaussian import SHORT, X_O


@pytest.mark.parametrize(
    "copy_it", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copy_of_a_posterior_gives_the_same_draws_and_densities(posterior, copy_it):
    draws = posterior.sample((20,), x=X_O, seed=1, **SHORT)
    density = posterior.log_prob(draws, x=X_O)
    twin = copy_it(posterior)
    assert torch.equal(twin.log_prob(draws, x=X_O), density)
    assert torch.equal(twin.chains.theta, posterior.chains.theta)
    assert torch.equal(twin.sample((20,), x=X_O, seed=1, **SHORT), draws)


@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
@pytest.mark.filterwarnings("ignore:When the inference object is pickled")
def test_pickled_trainer_builds_the_same_posterior():
    trainer = make_stored()
    trainer.train(max_num_epochs=1, seed=1)
    posterior = trainer.build_posterior()
    density = posterior.log_prob(torch.zeros(3, 2), x=X_O)
    twin = pickle.loads(pickle.dumps(trainer)).build_posterior()
    assert torch.equal(twin.log_prob(torch.zeros(3, 2), x=X_O), density)
