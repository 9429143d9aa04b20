"""`AALR` where sbi's `NRE_A` stands: stored simulations, classifiers, wrong input."""

import inspect
import math
import pickle

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, compare, draw_pairs, simulate
from sbi.inference import NRE_A
from sbi.neural_nets.net_builders.estimator_configs import ClassifierConfig
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn
from torch.distributions import MultivariateNormal

from sbi_aalr import AALR, MHPosteriorParameters, networks
from sbi_aalr.training.losses import binary_cross_entropy

FEW = {"num_simulations": 200, "batch_size": 50, "seed": 1}
SOON = {"stop_after_epochs": 1, "training_batch_size": 50, "seed": 1}


def make_trainer(prior=PRIOR, classifier=build_quadratic, **settings):
    return AALR(prior, classifier, **{"show_progress_bars": False, **settings})


def append(trainer, num_rows=400, seed=1, **settings):
    theta, _, x = draw_pairs(num_rows, seed)
    return trainer.append_simulations(theta, x, **settings)


def weights(estimator):
    return nn.utils.parameters_to_vector(estimator.parameters()).detach().clone()


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


class Matches(RatioEstimator):
    """Recognises theta that made x = theta, and nothing else."""

    def forward(self, theta, x):
        return torch.where((theta == x).all(dim=-1), 20.0, -20.0)


def test_loss_of_stored_pairs_is_per_pair_and_never_leaks():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = append(make_trainer())
    trainer._neural_net = Matches(nn.Identity(), (2,), (2,))
    for _ in range(300):
        # A row contrasted with its own theta would cost 10 nats instead of nothing.
        loss = trainer._loss(theta[:3], theta[:3], num_atoms=2)
        assert loss.shape == (3,)
        assert loss.max() < 1e-6
    trainer._neural_net = build_quadratic(theta, x)
    torch.manual_seed(5)
    shift = int(torch.randint(1, 300, ()))
    torch.manual_seed(5)
    with torch.no_grad():
        estimator = trainer._neural_net
        by_hand = binary_cross_entropy(
            estimator(theta, x), estimator(theta.roll(shift, 0), x)
        )
        torch.testing.assert_close(trainer._loss(theta, x, num_atoms=2), by_hand)


def test_same_seed_gives_same_weights_from_stored_simulations():
    trainer = append(make_trainer())
    before = torch.get_rng_state()
    first = weights(trainer.train(**SOON, retrain_from_scratch=True))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, weights(trainer.train(**SOON, retrain_from_scratch=True)))
    assert not torch.equal(first, weights(trainer.train(**SOON)))


def test_nothing_is_printed_or_written_without_progress_bars(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    trainer = append(make_trainer())
    trainer.train_online(simulate, **FEW)
    trainer.train(**SOON)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_a_bar_and_not_printed(capsys):
    trainer = append(make_trainer(show_progress_bars=True))
    trainer.train_online(simulate, **FEW)
    trainer.train(**SOON)
    out, err = capsys.readouterr()
    assert out == ""
    assert "200/200" in err and "simulations/s" in err and "validation=" in err


@pytest.mark.parametrize("method", ["__init__", "train", "append_simulations"])
def test_signature_takes_what_nre_a_takes(method):
    theirs = inspect.signature(getattr(NRE_A, method)).parameters
    ours = inspect.signature(getattr(AALR, method)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    differ = {name for name in theirs if ours[name].default != theirs[name].default} - {
        "classifier",
        "algorithm",
    }
    # None leaves these to the recipe.
    recipe = {"training_batch_size", "learning_rate"} if method == "train" else set()
    assert differ == recipe


def test_build_posterior_takes_what_nre_a_takes():
    theirs = inspect.signature(NRE_A.build_posterior).parameters
    trainer = make_trainer()
    trainer.train_online(simulate, **FEW)
    defaults = {name: value.default for name, value in theirs.items() if name != "self"}
    posterior = trainer.build_posterior(**defaults)
    assert type(posterior).__name__ == "MCMCPosterior"
    ours = inspect.signature(AALR.build_posterior).parameters
    assert list(ours)[:4] == list(theirs)[:4]
    assert ours["sample_with"].default == "mh"


class Convolution(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(2, 3))

    def forward(self, x):
        return super().forward(x.unsqueeze(1))


@pytest.mark.parametrize(
    "classifier",
    [
        "selu_mlp",
        "mlp",
        "resnet",
        "linear",
        build_quadratic,
        networks.mlp((8,), embedding_net_x=Convolution()),
        ClassifierConfig(hidden_features=8, embedding_net_x=Convolution()),
    ],
)
def test_classifiers_of_every_kind_are_taken(classifier):
    trainer = append(make_trainer(classifier=classifier))
    estimator = trainer.train(**SOON)
    assert estimator(torch.zeros(3, 2), torch.zeros(3, 2)).shape == (3,)
    before = weights(estimator)
    assert not torch.equal(weights(trainer.train_online(simulate, **FEW)), before)


def test_papers_network_has_the_papers_shape():
    estimator = networks.mlp()(torch.randn(9, 5), torch.randn(9, 8))
    layers = [m for m in estimator.net if isinstance(m, nn.Linear)]
    assert [layer.in_features for layer in layers] == [13, 256, 256, 256]
    assert layers[-1].out_features == 1
    assert sum(isinstance(m, nn.SELU) for m in estimator.net) == 3


def test_pickled_trainer_comes_back():
    trainer = append(make_trainer())
    estimator = trainer.train(**SOON)
    with pytest.warns(UserWarning, match="inference object is pickled"):
        copy = pickle.loads(pickle.dumps(trainer))
    assert torch.equal(weights(copy._neural_net), weights(estimator))
    copy.train(**SOON)
    with pytest.warns(UserWarning, match="Maximum number of epochs"):
        copy.train(max_num_epochs=1, training_batch_size=50)


def test_rounds_can_be_discarded():
    trainer = append(make_trainer(), 400)
    append(trainer, 100, seed=2, from_round=1)
    trainer.train(**SOON, discard_prior_samples=True)
    assert len(trainer.train_indices) + len(trainer.val_indices) == 100


def test_parameters_decide_over_sample_with():
    trainer = make_trainer(MultivariateNormal(torch.zeros(2), torch.eye(2)))
    trainer.train_online(simulate, **FEW)
    posterior = trainer.build_posterior(
        posterior_parameters=MHPosteriorParameters(num_chains=7)
    )
    assert posterior.parameters.num_chains == 7
