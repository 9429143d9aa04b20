"""Trials that are declared: their order means nothing, and the prior counts once."""

import pytest
import torch
from linear_gaussian import PRIOR, exact_posterior, simulate
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn
from trainers import make_trainer

from sbi_aalr import MHPosterior
from sbi_aalr.networks import Scale, scale
from sbi_aalr.networks.stack import Offset

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


class ByTrial(nn.Module):
    """A user's net with a scale inside, of what are no trials."""

    def __init__(self):
        super().__init__()
        self.scale = Scale(torch.randn(9, 2, NUM_TRIALS))

    def forward(self, x):
        return self.scale(x.transpose(1, 2)).flatten(1)


@pytest.mark.parametrize("base", ["auto", None])
def test_own_net_sees_trials_in_order_and_nothing_else_is_sorted(base):
    net = ByTrial()
    trainer = train(base=base, exchangeable=True, embedding_net_x=net)
    estimator = trainer._neural_net
    theta, x = draw(200, seed=2)
    assert torch.equal(estimator(theta, x), estimator(theta, change_order(x)))
    inside = [m for m in estimator.modules() if isinstance(m, ByTrial)]
    assert inside and all(one.scale.sorted is None for one in inside)


def test_whatever_a_fitted_net_serves_sees_the_same_data():
    """The offset and the correction take over the net of the density that proposes."""
    settings = {"exchangeable": True, "embedding_net_x": nn.Flatten()}
    trainer = train(base="auto", **settings)
    _, x = draw(2_000, seed=2)
    offset = trainer._neural_net.embedding_net_x[-1]
    density = trainer._neural_net.proposal.embedding_net_x
    assert isinstance(offset, Offset)
    difference = offset.scale(x).mean(0) - density.scale(x).mean(0)
    assert difference.abs().max() < 0.1


def test_classifier_that_does_not_sort_is_built_of_trials_as_they_are():
    """Else its own scales would be those of the least, the next, and so on."""
    shown = []

    def build(theta, x):
        shown.append(x)
        net = nn.Sequential(nn.Flatten(), nn.Linear(2 + 2 * NUM_TRIALS, 1))
        return RatioEstimator(net, (2,), x.shape[1:], nn.Identity(), nn.Flatten())

    trainer = make_trainer(build, exchangeable=True)
    trainer.append_simulations(*draw(200)).train(max_num_epochs=1, seed=1)
    means = shown[-1][..., 0].mean(dim=0)
    assert means.max() - means.min() < 0.5
    assert (scale.sort_trials(shown[-1])[..., 0].mean(dim=0).diff() > 0.5).all()


def test_control_undeclared_trials_are_told_apart():
    estimator = train(base=None)._neural_net
    theta, x = draw(200, seed=2)
    difference = estimator(theta, x) - estimator(theta, change_order(x))
    assert difference.abs().mean() > 0.01


def test_prior_is_counted_once():
    posterior = train(2_000, base="auto", exchangeable=True).build_posterior()
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
