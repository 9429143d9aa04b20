"""What `classifier` stands for, and the size it is built in."""

import pytest
import torch
from linear_gaussian import build_quadratic, draw_pairs
from sbi.neural_nets.net_builders.estimator_configs import ClassifierConfig
from torch import nn

from sbi_aalr.training.classifiers import (
    CLASSIFIERS,
    NamedBuilder,
    build_network,
    check_fits,
    resolve_classifier,
)
from sbi_aalr.training.recipe import find_entry

THETA, _, X = draw_pairs(20, seed=1)
MILLION = find_entry(10**6)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_named_network_remembers_what_it_was_made_from(name):
    estimator = build_network(resolve_classifier(name), THETA, X, MILLION)
    assert estimator.classifier_name == name
    expected = MILLION.towers if name == "two_towers" else {}
    assert estimator.classifier_settings == expected
    again = NamedBuilder(name, estimator.classifier_settings)(THETA, X)
    again.load_state_dict(estimator.state_dict())


def test_papers_network_has_the_papers_shape():
    estimator = resolve_classifier("selu_mlp")(torch.randn(9, 5), torch.randn(9, 8))
    layers = [m for m in estimator.net if isinstance(m, nn.Linear)]
    assert [layer.in_features for layer in layers] == [13, 256, 256, 256]
    assert layers[-1].out_features == 1
    assert sum(isinstance(m, nn.SELU) for m in estimator.net) == 3


def test_without_a_budget_the_rows_are_one():
    estimator = resolve_classifier("two_towers")(THETA, X)
    assert estimator.classifier_settings == find_entry(20).towers


@pytest.mark.parametrize("classifier", [build_quadratic, ClassifierConfig()])
def test_builder_of_the_users_is_taken_as_it_is(classifier):
    estimator = build_network(resolve_classifier(classifier), THETA, X, MILLION)
    assert estimator(THETA, X).shape == (20,)


@pytest.mark.parametrize(
    ("classifier", "error", "message"),
    [
        ("mpl", ValueError, "`classifier` .*'selu_mlp', 'mlp'.*got 'mpl'"),
        (nn.Linear(4, 1), TypeError, "`classifier` must be .*got Linear"),
        (3, TypeError, "`classifier` must be .*got int"),
    ],
)
def test_what_is_no_classifier_is_named(classifier, error, message):
    with pytest.raises(error, match=message):
        resolve_classifier(classifier)


def test_builder_of_something_else_is_named():
    builder = resolve_classifier(lambda theta, x: nn.Linear(4, 1))
    with pytest.raises(TypeError, match="must build a RatioEstimator, got Linear"):
        builder(THETA, X)


def test_rows_of_another_shape_than_the_network_takes_are_named():
    estimator = build_quadratic(THETA, X)
    check_fits(estimator, THETA[:3], X[:3])
    with pytest.raises(ValueError, match=r"`x` must have rows of shape \(2,\)"):
        check_fits(estimator, THETA, X[:, :1])
    with pytest.raises(ValueError, match=r"`theta` must have rows of shape \(2,\)"):
        check_fits(estimator, torch.zeros(4, 3), X)
