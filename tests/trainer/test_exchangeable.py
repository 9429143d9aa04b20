"""Trials that are declared: their order means nothing, and the prior counts once."""

import pytest
import torch
from linear_gaussian import PRIOR, exact_posterior, simulate
from trainers import make_trainer

from sbi_aalr import MHPosterior

NUM_TRIALS = 5
pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
    pytest.mark.usefixtures("hasty_stack"),
]


def draw(num_rows, seed=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theta = PRIOR.sample((num_rows,))
        trials = [simulate(theta) for _ in range(NUM_TRIALS)]
        return theta, torch.stack(trials, dim=1)


def train(num_rows=800, max_num_epochs=3, **settings):
    trainer = make_trainer("two_towers", **settings)
    trainer.append_simulations(*draw(num_rows))
    trainer.train(max_num_epochs=max_num_epochs, seed=1)
    return trainer


def change_order(x):
    return x[:, torch.tensor([3, 0, 4, 2, 1])]


@pytest.mark.parametrize("base", ["auto", "posterior", None])
def test_order_of_trials_means_nothing(base, tmp_path):
    trainer = train(base=base, exchangeable=True)
    theta, x = draw(200, seed=2)
    estimators = [trainer._neural_net]
    estimators += [s.estimator for s in trainer._structures or []]
    posterior = trainer.build_posterior()
    posterior.save(tmp_path / "saved")
    loaded = MHPosterior.load(tmp_path / "saved", prior=PRIOR)
    estimators.append(loaded.potential_fn.ratio_estimator)
    for estimator in estimators:
        found = estimator(theta, x)
        assert torch.equal(estimator(theta, change_order(x)), found)
        # The control: trials of another row are something else.
        assert not torch.equal(estimator(theta, x.flip(0)), found)


def test_control_undeclared_trials_are_told_apart():
    estimator = train(base=None)._neural_net
    theta, x = draw(200, seed=2)
    difference = estimator(theta, x) - estimator(theta, change_order(x))
    assert difference.abs().mean() > 0.01


def test_prior_is_counted_once():
    posterior = train(2_000, exchangeable=True).build_posterior()
    _, x = draw(1, seed=3)
    settings = {"x": x, "seed": 1, "show_progress_bars": False}
    draws = posterior.sample((2_000,), **settings)
    mean, deviation = exact_posterior(x[0])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.35 * deviation, rtol=0)
    torch.testing.assert_close(
        draws.std(0), torch.full((2,), deviation), atol=0, rtol=0.15
    )
    # Five times the prior would have a standard deviation of this.
    wrong = (NUM_TRIALS + NUM_TRIALS / 1.5**2) ** -0.5
    assert (draws.std(0) > 1.2 * wrong).all()
