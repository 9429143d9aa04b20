"""What a search refuses."""

import math

import pytest
import torch
from fitted_regressions import Ridge
from searches import Line, build
from torch import nn

from sbi_aalr.tuning import Search

# What is refused.


@pytest.mark.parametrize(
    ("settings", "error", "found"),
    [
        ({"inner_steps": 0}, ValueError, "`inner_steps` must be a positive int"),
        ({"inverse": "guess"}, ValueError, "`inverse` must be one of"),
        ({"num_terms": 1.5}, TypeError, "`num_terms` must be"),
        ({"damping": -1}, ValueError, "`damping` must be"),
        ({"spectrum_every": 0}, ValueError, "`spectrum_every` must be"),
        ({"clip_max_norm": 0}, ValueError, "`clip_max_norm` must be"),
        ({"clip_hypergradient": "1"}, TypeError, "`clip_hypergradient` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
    ],
)
def test_bad_setting_is_named(settings, error, found):
    with pytest.raises(error, match=found):
        build(**settings)


def test_modules_and_optimizers_are_checked():
    model, knobs = Line(), nn.ParameterList([torch.zeros(1)])
    losses = (lambda: None), (lambda: None)

    def start(model=model, knobs=knobs, weights_of=model, knobs_of=knobs):
        rates = torch.optim.SGD(weights_of.parameters(), 0.1)
        return Search(
            model,
            knobs,
            *losses,
            optimizer=rates,
            hyperparameter_optimizer=torch.optim.SGD(knobs_of.parameters(), 0.1),
        )

    start()
    with pytest.raises(TypeError, match="`model` must be a torch module, got str"):
        start(model="net")
    with pytest.raises(TypeError, match="`hyperparameters` must be a torch module"):
        start(knobs=[torch.zeros(1)])
    with pytest.raises(ValueError, match="`hyperparameters` must not be weights"):
        start(knobs=model)
    with pytest.raises(ValueError, match="`hyperparameters` must have a parameter"):
        start(knobs=nn.Dropout())
    with pytest.raises(ValueError, match="`optimizer` must step each"):
        start(weights_of=Line())
    with pytest.raises(ValueError, match="`hyperparameter_optimizer` must step each"):
        start(knobs_of=Line())
    with pytest.raises(TypeError, match="`optimizer` must be a torch optimizer"):
        Search(model, knobs, *losses, optimizer=3, hyperparameter_optimizer=[])


def test_optimizer_that_needs_the_loss_itself_is_refused():
    with pytest.raises(TypeError, match=r"`hyperparameter_optimizer` .* LBFGS"):
        build(optimizer=torch.optim.LBFGS)


def test_learning_rate_is_no_hyperparameter():
    model, knobs = nn.Linear(1, 1), nn.ParameterList([torch.tensor(0.1)])
    search = Search(
        model,
        knobs,
        lambda: model.weight.square().sum() + model.bias.square().sum(),
        lambda: (model.weight - 1).square().sum() + model.bias.sum(),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        hyperparameter_optimizer=torch.optim.SGD(knobs.parameters(), 0.1),
    )
    with pytest.raises(ValueError, match="learning rate"):
        search.run(1)


def test_loss_that_becomes_nan_is_an_error():
    problem = Ridge()
    search = build(problem)
    search.run(1)
    problem.targets[0] = math.nan
    with pytest.raises(ValueError, match="`training_loss` must be finite, got nan"):
        search.run(1)
    assert len(search.history) == 1
