"""Training in whatever mode torch is, and what it leaves of the generators."""

import random

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, SHORT, draw_pairs, simulate
from sbi.utils import BoxUniform
from sbi.utils.user_input_checks import process_prior
from torch import nn
from trainers import FEW, SOON, append, get_estimator, make_trainer, weights

from sbi_aalr import MHPosterior, networks

X_O = torch.zeros(2)
SMALL = networks.two_towers(8, 1)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def read_generators():
    _, keys, position, *_ = np.random.get_state()
    return torch.get_rng_state().tolist(), keys.tolist(), position, random.getstate()


class NumpyPrior:
    """Draws from every generator that there is."""

    def sample(self, shape=()):
        torch.rand(1), random.random()
        return np.random.standard_normal((*shape, 2)).astype(np.float32)

    def log_prob(self, theta):
        return -(theta**2).sum(axis=-1) / 2


@pytest.mark.parametrize("classifier", [SMALL, "selu_mlp", "mlp", "resnet"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_needs_no_gradient_mode(classifier, mode):
    def fit():
        trainer = append(make_trainer(classifier), 100)
        first = weights(trainer.train_online(simulate, **FEW))
        trainer.train(**SOON)
        return first, trainer

    expected, _ = fit()
    with mode():
        found, trainer = fit()
        posterior = trainer.build_posterior()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert torch.equal(found, expected)
    # What was made there can be used and trained elsewhere.
    assert posterior.sample((5,), x=X_O, kernel="hmc", **SHORT).shape == (5, 2)
    assert not torch.equal(weights(trainer.train(**SOON)), expected)


def test_rounds_need_no_gradient_mode():
    trainer = make_trainer(SMALL)
    with torch.inference_mode():
        trainer.train_truncated(simulate, X_O, 200, num_rounds=1, seed=1)
    assert torch.isfinite(weights(get_estimator(trainer))).all()


EMULATOR = nn.Linear(2, 2)


@pytest.mark.parametrize(
    "emulate", [EMULATOR, torch.inference_mode()(EMULATOR.forward)]
)
@pytest.mark.parametrize("classifier", [SMALL, "selu_mlp"])
def test_simulations_with_a_graph_of_their_own_are_taken(emulate, classifier):
    theta, _, _ = draw_pairs(100, seed=1)
    before = weights(EMULATOR)
    trainer = make_trainer(classifier)
    trainer.append_simulations(theta.clone().requires_grad_(), emulate(theta))
    trainer.train(stop_after_epochs=2, training_batch_size=40, seed=1)
    trainer.train_online(emulate, **FEW, num_passes=2)
    assert torch.equal(weights(EMULATOR), before)
    assert all(p.grad is None for p in EMULATOR.parameters())


@pytest.mark.parametrize(
    "classifier", ["two_towers", "residual_mlp", "selu_mlp", "mlp"]
)
def test_double_as_default_is_taken(classifier, double):
    trainer = append(make_trainer(classifier), 100)
    trainer.train_online(lambda theta: simulate(theta.double()), **FEW)
    trainer.train(**SOON)
    draws = trainer.build_posterior().sample((5,), x=X_O, **SHORT)
    assert draws.dtype == torch.float32 and draws.shape == (5, 2)
    assert torch.get_default_dtype() == torch.float64


def test_double_as_default_gives_the_same_weights():
    first = make_trainer("selu_mlp").train_online(simulate, **FEW)
    torch.set_default_dtype(torch.float64)
    try:
        second = make_trainer("selu_mlp").train_online(simulate, **FEW)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.filterwarnings("ignore:No prior bounds were passed")
@pytest.mark.filterwarnings("ignore:Prior is lacking:UserWarning:sbi")
@pytest.mark.parametrize(
    "make_prior",
    [
        lambda: PRIOR,
        lambda: BoxUniform(-torch.ones(2), torch.ones(2)),
        lambda: process_prior(NumpyPrior())[0],
    ],
)
def test_setting_up_leaves_generators_alone(make_prior, tmp_path):
    prior = make_prior()
    before = read_generators()
    trainer = make_trainer("selu_mlp", prior)
    assert read_generators() == before
    trainer.train_online(simulate, **FEW)
    before = read_generators()
    trainer.build_posterior()
    trainer.build_posterior(sample_with="rejection")
    assert read_generators() == before
    estimator = get_estimator(trainer)
    posterior = MHPosterior.from_estimator(estimator, prior)
    assert read_generators() == before
    if isinstance(prior, BoxUniform):
        posterior.save(tmp_path / "run")
        MHPosterior.load(tmp_path / "run")
        assert read_generators() == before
    # The control: such a prior does draw from one of them.
    prior.sample((1,))
    assert read_generators() != before
