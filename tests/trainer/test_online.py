"""Algorithm 1: what it recovers, what it spends, and what it repeats."""

import numpy as np
import pytest
import torch
from linear_gaussian import (
    PRIOR,
    build_quadratic,
    compare,
    draw_pairs,
    log_ratio,
    simulate,
)
from sbi.utils import BoxUniform
from sbi.utils.user_input_checks import process_prior
from torch.distributions import Exponential, Gamma, Independent

from sbi_aalr import AALR, networks
from sbi_aalr.simulation.batches import stream

FEW = {"num_simulations": 200, "batch_size": 50, "seed": 1}


def make_trainer(prior=PRIOR, classifier=build_quadratic, **settings):
    return AALR(prior, classifier, show_progress_bars=False, **settings)


def weights(estimator):
    return torch.nn.utils.parameters_to_vector(estimator.parameters()).detach().clone()


class Counter:
    """A simulator that counts its calls and keeps what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, theta):
        self.given.append(theta)
        return simulate(theta)


def test_online_training_recovers_analytic_log_ratio(fitted):
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    estimator = fitted._neural_net
    for pairs, max_error in ((theta, 0.05), (theta_prime, 0.06)):
        correlation, error = compare(estimator, pairs, x)
        assert correlation > 0.99
        assert error < max_error


def test_online_training_recovers_analytic_log_ratio_with_the_papers_network():
    estimator = make_trainer(classifier=networks.mlp((32, 32))).train_online(
        simulate,
        num_simulations=1_000_000,
        batch_size=512,
        learning_rate=0.02,
        seed=1,
    )
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    joint, marginal = compare(estimator, theta, x), compare(estimator, theta_prime, x)
    assert joint[0] > 0.99 and joint[1] < 0.08
    # Few of the marginal pairs in the tails were ever seen.
    assert marginal[0] > 0.98 and marginal[1] < 0.15


def test_x_independent_of_theta_gives_log_ratio_zero():
    """The control of the two tests above: nothing to learn, nothing learnt."""
    estimator = make_trainer().train_online(
        lambda theta: simulate(PRIOR.sample((len(theta),))),
        num_simulations=100_000,
        batch_size=500,
        learning_rate=0.03,
        seed=1,
    )
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    for pairs in (theta, theta_prime):
        with torch.no_grad():
            assert estimator(pairs, x).abs().mean() < 0.1
        correlation, error = compare(estimator, pairs, x)
        assert correlation < 0.9 and error > 0.5
    assert log_ratio(theta_prime, x).abs().mean() > 0.5


@pytest.mark.parametrize(
    ("num_simulations", "batch_size", "steps"),
    [(1_000, 100, 10), (1_001, 100, 11), (30, 100, 1), (5, 1, 5), (1, 1, 1)],
)
def test_budget_is_spent_exactly(num_simulations, batch_size, steps):
    counter, trainer = Counter(), make_trainer()
    trainer.train_online(
        counter, num_simulations=num_simulations, batch_size=batch_size
    )
    # Two and three parameter sets find out whether the simulator takes batches.
    probes, given = counter.given[:2], counter.given[2:]
    assert [len(theta) for theta in probes] == [2, 3]
    assert sum(map(len, given)) == num_simulations
    assert len(torch.cat(given).unique(dim=0)) == num_simulations
    assert len(trainer.summary["training_loss"]) == steps
    assert len(trainer.summary["learning_rate"]) == steps


def test_contrasting_theta_is_fresh_and_not_a_permutation():
    torch.manual_seed(0)
    batches = list(stream(simulate, PRIOR, num_simulations=10_000, batch_size=1_000))
    theta = torch.cat([batch.theta for batch in batches])
    theta_prime = torch.cat([batch.theta_prime for batch in batches])
    x = torch.cat([batch.x for batch in batches])
    assert len(torch.cat((theta, theta_prime)).unique(dim=0)) == 20_000
    both = torch.cat((theta_prime, x), dim=1).T
    between = torch.corrcoef(both)[:2, 2:]
    assert between.abs().max() < 5 / 10_000**0.5
    # The control: theta itself does correlate with x.
    assert torch.corrcoef(torch.cat((theta, x), dim=1).T)[0, 2] > 0.4


def simulate_in_numpy(theta):
    theta = np.asarray(theta)
    return theta + np.random.standard_normal(theta.shape)


@pytest.mark.parametrize("simulator", [simulate, simulate_in_numpy])
def test_same_seed_gives_same_weights_and_leaves_generators_alone(simulator):
    def fit(seed):
        trainer = make_trainer()
        before = torch.get_rng_state(), np.random.get_state()
        estimator = trainer.train_online(simulator, **{**FEW, "seed": seed})
        after = torch.get_rng_state(), np.random.get_state()
        assert torch.equal(before[0], after[0])
        np.testing.assert_equal(before[1], after[1])
        return weights(estimator)

    first = fit(1)
    torch.rand(5), np.random.random(5)
    assert torch.equal(first, fit(1))
    assert not torch.equal(first, fit(2))


def test_training_goes_on_unless_told_to_begin_anew():
    trainer = make_trainer()
    first = trainer.train_online(simulate, **FEW)
    kept = weights(first)
    second = trainer.train_online(simulate, **{**FEW, "seed": 2})
    third = trainer.train_online(simulate, **FEW, retrain_from_scratch=True)
    assert torch.equal(weights(first), kept)
    assert not torch.equal(weights(second), kept)
    assert torch.equal(weights(third), kept)
    assert len(trainer.summary["training_loss"]) == 12


def test_estimator_from_before_survives_a_failure():
    trainer = make_trainer()
    first = trainer.train_online(simulate, **FEW)
    with pytest.raises(
        RuntimeError, match=r"loss became nan at step .* `learning_rate`"
    ):
        trainer.train_online(simulate, **FEW, learning_rate=1e38, clip_max_norm=None)
    assert torch.equal(weights(trainer._neural_net), weights(first))


def simulate_one(theta):
    first, second = theta.tolist()
    return np.array([first, second, first * second]) + np.random.standard_normal(3)


def simulate_image(theta):
    return theta[:, :1, None, None] + torch.randn(len(theta), 1, 4, 4)


@pytest.mark.parametrize(
    ("simulator", "shape"),
    [(simulate_in_numpy, (2,)), (simulate_one, (3,)), (simulate_image, (1, 4, 4))],
)
def test_simulators_of_every_kind_are_taken(simulator, shape):
    estimator = make_trainer(classifier="selu_mlp").train_online(simulator, **FEW)
    assert estimator.x_shape == shape
    assert estimator(torch.zeros(3, 2), torch.zeros(3, *shape)).shape == (3,)


class NumpyPrior:
    def sample(self, shape=()):
        return np.random.standard_normal((*shape, 2)).astype(np.float32)

    def log_prob(self, theta):
        return -(theta**2).sum(axis=-1) / 2


def make_prior_of_one():
    return Exponential(torch.ones(1))


@pytest.mark.filterwarnings("ignore:Prior was provided as a sequence")
@pytest.mark.filterwarnings("ignore:Prior is lacking:UserWarning:sbi")
@pytest.mark.filterwarnings("ignore:No prior bounds were passed")
@pytest.mark.parametrize(
    "make_prior",
    [
        lambda: BoxUniform(-torch.ones(2), torch.ones(2)),
        lambda: Independent(Gamma(torch.ones(2), torch.ones(2)), 1),
        lambda: process_prior([make_prior_of_one(), make_prior_of_one()])[0],
        lambda: process_prior(NumpyPrior())[0],
        lambda: process_prior(make_prior_of_one())[0],
    ],
)
def test_priors_of_every_kind_are_taken(make_prior):
    prior = make_prior()
    trainer = make_trainer(prior, classifier="selu_mlp")
    estimator = trainer.train_online(simulate, **FEW)
    draws = trainer.build_posterior().sample(
        (20,),
        x=torch.full(estimator.x_shape, 0.5),
        show_progress_bars=False,
        max_rhat=None,
        min_ess=None,
    )
    assert draws.shape == (20, *estimator.theta_shape)
    assert torch.isfinite(prior.log_prob(draws)).all()


class Tracker:
    log_dir = None

    def __init__(self):
        self.metrics, self.flushed = [], 0

    def log_metric(self, name, value, step=None):
        self.metrics.append((name, value, step))

    def log_params(self, params):
        self.params = params

    def flush(self):
        self.flushed += 1


def test_tracker_receives_the_loss_of_every_step():
    tracker = Tracker()
    trainer = make_trainer(tracker=tracker)
    trainer.train_online(simulate, **FEW)
    trainer.train_online(simulate, **FEW)
    losses = [m[1:] for m in tracker.metrics if m[0] == "training_loss"]
    assert losses == list(zip(trainer.summary["training_loss"], range(8), strict=True))
    assert tracker.flushed
    assert tracker.params == trainer.summary["recipe"][-1]
    # Then the epochs of stored simulations, and each of them once.
    theta, _, x = draw_pairs(100, seed=1)
    with pytest.warns(UserWarning, match="Maximum number of epochs"):
        trainer.append_simulations(theta, x).train(max_num_epochs=2)
    losses = [m[1:] for m in tracker.metrics if m[0] == "training_loss"]
    assert [step for _, step in losses] == list(range(10))
