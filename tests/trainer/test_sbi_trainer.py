"""`AALR` where sbi's `NRE_A` stands."""

import copy
import inspect
import pickle

import pytest
import torch
from linear_gaussian import build_quadratic, simulate
from sbi.inference import NRE_A
from sbi.inference.trainers._contracts import LossArgsNRE, LossArgsNRE_A
from sbi.neural_nets.net_builders.estimator_configs import ClassifierConfig
from sbi.utils.tracking import TensorBoardTracker
from torch import nn
from torch.distributions import MultivariateNormal
from trainers import FEW, SOON, append, get_estimator, make_trainer, weights

from sbi_aalr import AALR, MHPosteriorParameters, networks
from sbi_aalr.trainer.no_tracker import NoTracker


class Convolution(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(2, 3))

    def forward(self, x):
        return super().forward(x.unsqueeze(1))


@pytest.mark.parametrize("method", ["__init__", "train", "append_simulations"])
def test_signature_takes_what_nre_a_takes(method):
    theirs = inspect.signature(getattr(NRE_A, method)).parameters
    ours = inspect.signature(getattr(AALR, method)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    differ = {name for name in theirs if ours[name].default != theirs[name].default} - {
        "classifier",
        "algorithm",
        # Left out where the first argument is a store.
        "x",
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
    trainer = append(make_trainer(classifier))
    estimator = trainer.train(**SOON)
    assert estimator(torch.zeros(3, 2), torch.zeros(3, 2)).shape == (3,)
    before = weights(estimator)
    assert not torch.equal(weights(trainer.train_online(simulate, **FEW)), before)


@pytest.mark.parametrize(
    "make_copy", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))]
)
def test_copied_trainer_trains_as_the_first_one_does(make_copy):
    trainer = append(make_trainer())
    untrained = make_copy(trainer)
    estimator = trainer.train(**SOON)
    twin = make_copy(trainer)
    assert torch.equal(weights(get_estimator(twin)), weights(estimator))
    assert torch.equal(weights(untrained.train(**SOON)), weights(estimator))
    again = twin.train(retrain_from_scratch=True, **{**SOON, "seed": 2})
    expected = trainer.train(retrain_from_scratch=True, **{**SOON, "seed": 2})
    assert torch.equal(weights(again), weights(expected))
    assert not torch.equal(weights(again), weights(estimator))
    with pytest.warns(UserWarning, match="Maximum number of epochs"):
        twin.train(max_num_epochs=1, training_batch_size=50)


def test_copy_says_that_it_has_no_tracker():
    trainer = make_trainer(tracker=TensorBoardTracker.__new__(TensorBoardTracker))
    with pytest.warns(UserWarning, match="copy of this trainer has none"):
        assert isinstance(copy.deepcopy(trainer)._tracker, NoTracker)


def test_arguments_of_the_loss_are_those_of_nre_a():
    trainer = append(make_trainer())
    trainer.train(loss_kwargs=LossArgsNRE_A(), **SOON)
    for wrong in ({}, LossArgsNRE()):
        with pytest.raises(TypeError, match="`loss_kwargs` must be LossArgsNRE_A"):
            trainer.train(loss_kwargs=wrong, **SOON)


def test_parameters_decide_over_sample_with():
    trainer = make_trainer(prior=MultivariateNormal(torch.zeros(2), torch.eye(2)))
    trainer.train_online(simulate, **FEW)
    posterior = trainer.build_posterior(
        posterior_parameters=MHPosteriorParameters(num_chains=7)
    )
    assert posterior.parameters.num_chains == 7
