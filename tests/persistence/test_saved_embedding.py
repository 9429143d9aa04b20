"""A network with an embedding net of the user's inside is loaded with that net."""

import pytest
import torch
from linear_gaussian import PRIOR, X_O, draw_pairs
from torch import nn

from sbi_aalr import AALR, MHPosterior, average_log_ratios
from sbi_aalr.networks import Stack, two_towers
from sbi_aalr.training.classifiers import NamedBuilder

THETA, _, X = draw_pairs(300, seed=1)
SMALL = {"hidden_features": 8, "num_blocks": 1}
pytestmark = pytest.mark.usefixtures("hasty_stack")


def build(width=5):
    return nn.Sequential(nn.Linear(2, width), nn.SELU())


def train(**settings):
    trainer = AALR(PRIOR, show_progress_bars=False, **settings)
    trainer.append_simulations(THETA, X).train(seed=1, stop_after_epochs=1)
    return trainer.build_posterior()


def estimator_of(posterior):
    return posterior.potential_fn.ratio_estimator


@pytest.fixture(scope="module")
def stacked():
    return train(embedding_net_x=build())


def are_alike(first, second):
    return torch.equal(first.potential(THETA, X_O), second.potential(THETA, X_O))


def test_default_recipe_is_loaded_with_the_net_of_any_weights(stacked, tmp_path):
    stacked.save(tmp_path)
    loaded = MHPosterior.load(tmp_path, embedding_net_x=build())
    assert isinstance(estimator_of(loaded), Stack)
    assert are_alike(stacked, loaded)
    # What was loaded is what was saved, again.
    again = MHPosterior.load(loaded.save(tmp_path / "again"), embedding_net_x=build())
    assert are_alike(stacked, again)


@pytest.mark.parametrize("is_averaged", [False, True])
def test_networks_with_a_name_are_loaded_with_the_net(is_averaged, tmp_path):
    network = NamedBuilder("two_towers", SMALL, build())(THETA, X)
    other = NamedBuilder("two_towers", SMALL)(THETA, X)
    estimator = average_log_ratios([network, other]) if is_averaged else network
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    posterior.save(tmp_path)
    loaded = MHPosterior.load(tmp_path, embedding_net_x=build())
    assert are_alike(posterior, loaded)


def test_net_that_is_missing_is_asked_for(stacked, tmp_path):
    stacked.save(tmp_path)
    with pytest.raises(ValueError, match=r"load\(folder, embedding_net_x=\.\.\.\)"):
        MHPosterior.load(tmp_path)


def test_net_of_another_shape_or_no_net_is_refused(stacked, tmp_path):
    stacked.save(tmp_path)
    with pytest.raises(ValueError, match="do not fit"):
        MHPosterior.load(tmp_path, embedding_net_x=build(6))
    with pytest.raises(TypeError, match="`embedding_net_x` must be a torch"):
        MHPosterior.load(tmp_path, embedding_net_x="net")


def test_net_that_was_never_given_is_refused(tmp_path):
    network = NamedBuilder("two_towers", SMALL)(THETA, X)
    MHPosterior.from_estimator(network, PRIOR).save(tmp_path)
    with pytest.raises(ValueError, match="must be left out"):
        MHPosterior.load(tmp_path, embedding_net_x=build())


def test_builder_of_the_user_is_given_again_as_before(tmp_path):
    builder = two_towers(8, num_blocks=1, embedding_net_x=build())
    posterior = MHPosterior.from_estimator(builder(THETA, X), PRIOR)
    posterior.save(tmp_path)
    with pytest.raises(ValueError, match=r"load\(folder, classifier=\.\.\.\)"):
        MHPosterior.load(tmp_path, embedding_net_x=None)
    assert are_alike(posterior, MHPosterior.load(tmp_path, classifier=builder))
