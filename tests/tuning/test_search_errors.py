"""What a search refuses."""

import math
from functools import partial

import pytest
import torch
from fitted_regressions import Ridge
from searches import Line, build
from torch import nn

from sbi_aalr.tuning import Search, WeightPenalty

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


def start(optimizer, model):
    penalty = WeightPenalty(model)

    def compute_loss():
        return (model(torch.ones(5, 3)) - 1).square().mean()

    return Search(
        model,
        penalty,
        lambda: compute_loss() + penalty(model),
        compute_loss,
        optimizer=optimizer,
        hyperparameter_optimizer=torch.optim.SGD(penalty.parameters(), 0.1),
        inner_steps=5,
    )


def test_weight_that_two_optimizers_step_is_refused():
    model = nn.Linear(3, 1)
    both = [torch.optim.SGD(model.parameters(), rate) for rate in (1e-9, 0.1)]
    with pytest.raises(ValueError, match=r"once and no other, .* 2 are there again"):
        start(both, model)


def test_optimizer_may_know_of_weights_that_need_no_gradient():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    fixed = model[0].weight.clone()
    search = start(torch.optim.Adam(model.parameters(), 0.1), model)
    losses = [step.training_loss for step in search.run(5)]
    assert losses[-1] < losses[0] and torch.equal(model[0].weight, fixed)


def build_group(**settings):
    """An optimizer of somebody's own, which says nothing of its decay's kind."""

    class Own(torch.optim.Optimizer):
        def __init__(self, weights):
            super().__init__(weights, settings)

    return Own


@pytest.mark.parametrize(
    ("optimizer", "is_refused"),
    [
        (partial(torch.optim.SGD, lr=0.1, weight_decay=1e-3), True),
        (partial(torch.optim.RMSprop, weight_decay=1e-3), True),
        (partial(torch.optim.Adam, weight_decay=1e-3), True),
        (partial(torch.optim.AdamW, weight_decay=0.5), True),
        (build_group(weight_decay=0.5), True),
        (torch.optim.Adam, False),
        (torch.optim.AdamW, False),
        (build_group(weight_decay=0.1), False),
        (build_group(lr=1.0), False),
    ],
)
def test_optimizer_that_moves_the_minimum_is_refused(optimizer, is_refused):
    model = nn.Linear(3, 1)
    if is_refused:
        words = "`optimizer` must not decay the weights, got weight_decay=.* of .*sees"
        with pytest.raises(ValueError, match=words):
            start(optimizer(model.parameters()), model)
    else:
        start(optimizer(model.parameters()), model)


def test_gradient_that_is_not_finite_leaves_the_weights():
    calls = []

    def training_loss():
        weight = search._model.weight
        calls.append(weight.detach().clone())
        loss = (weight - 1).square().sum()
        # Finite, and its gradient is not.
        return loss + (0 * weight).abs().sqrt().sum() if len(calls) == 4 else loss

    search = build(training_loss=training_loss)
    words = "The gradient of `training_loss` must be finite, got NaN or infinity in 4"
    with pytest.raises(ValueError, match=words):
        search.run(3)
    assert len(calls) == 4 and torch.equal(search._model.weight, calls[-1])


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
