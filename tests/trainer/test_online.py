"""Algorithm 1: what it recovers, what it spends, and what it takes."""

import numpy as np
import pytest
import torch
from linear_gaussian import PRIOR, compare, draw_pairs, log_ratio, simulate
from sbi.utils import BoxUniform
from sbi.utils.user_input_checks import process_prior
from torch.distributions import Exponential, Gamma, Independent
from trainers import FEW, make_trainer

from sbi_aalr import networks
from sbi_aalr.training import RatioLoss


class Counter:
    """A simulator that counts its calls and keeps what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, theta):
        self.given.append(theta)
        return simulate(theta)


def test_online_training_recovers_analytic_log_ratio(estimator):
    theta, theta_prime, x = draw_pairs(5_000, seed=9)
    for pairs, max_error in ((theta, 0.05), (theta_prime, 0.06)):
        correlation, error = compare(estimator, pairs, x)
        assert correlation > 0.99
        assert error < max_error


def test_online_training_recovers_analytic_log_ratio_with_the_papers_network():
    estimator = make_trainer(networks.mlp((32, 32))).train_online(
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


def simulate_in_numpy(theta):
    theta = np.asarray(theta)
    return theta + np.random.standard_normal(theta.shape)


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
    estimator = make_trainer("selu_mlp").train_online(simulator, **FEW)
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
# A network that has seen so little may rise for ever, where no mode is.
@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.LostModesWarning")
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
    trainer = make_trainer("selu_mlp", prior)
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


@pytest.mark.parametrize("num_passes", [1, 3])
def test_budget_counts_simulations_and_passes_count_steps(num_passes):
    calls = []

    def counted(theta):
        calls.append(len(theta))
        return simulate(theta)

    trainer = make_trainer()
    trainer.train_online(counted, num_passes=num_passes, **FEW)
    assert sum(calls) == 200 + 5
    # Of 200, 20 are held out if there are several passes; the later leave 30 aside.
    assert len(trainer.summary["training_loss"]) == {1: 4, 3: 4 + 3 + 3}[num_passes]
    assert len(trainer.summary["validation_loss"]) == {1: 0, 3: 3}[num_passes]
    assert trainer.summary["recipe"][-1]["num_passes"] == num_passes


def test_streamed_passes_keep_the_best_on_simulations_never_trained_on():
    """A network with room for all of 400 simulations learns them by heart."""
    trained_on, made = [], []

    def remember(theta):
        made.append(simulate(theta))
        return made[-1]

    class Spy(RatioLoss):
        def of_batch(self, estimator, batch):
            if estimator.training:
                trained_on.append(batch.x)
            return super().of_batch(estimator, batch)

    trainer = make_trainer(networks.two_towers(64), loss=Spy())
    estimator = trainer.train_online(
        remember, num_simulations=400, batch_size=40, num_passes=60, seed=1
    )
    losses = trainer.summary["validation_loss"]
    assert len(losses) == 60 and losses[-1] > min(losses) + 0.3
    (opening,) = (x for x in made if len(x) == 400)
    held_out, rest = opening.split((40, 360))
    x = torch.cat(trained_on)
    assert torch.equal(x.unique(dim=0), rest.unique(dim=0)) and len(x) == 60 * 360
    assert not torch.isin(held_out, x).any()
    assert not estimator.training


def test_as_many_contrasts_as_other_rows_are_enough_in_every_pass():
    """Held-out batches of an even division would have one row too few."""
    trainer = make_trainer(loss=RatioLoss(num_contrasts=15))
    trainer.train_online(simulate, 1_000, batch_size=16, num_passes=2, seed=1)
    assert len(trainer.summary["validation_loss"]) == 2
    # Of a tenth of 60 simulations there would be too few altogether.
    trainer.train_online(simulate, 60, batch_size=15, num_passes=2, seed=1)
    assert trainer.summary["recipe"][-1]["num_simulations"] == 45


def test_wrong_number_of_passes_is_named():
    with pytest.raises(ValueError, match="`num_passes` must be a positive int, got 0"):
        make_trainer().train_online(simulate, num_passes=0, **FEW)
