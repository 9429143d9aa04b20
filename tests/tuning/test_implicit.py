"""Hypergradients against closed forms, refitting, and unrolled gradient descent."""

import gc
import math

import pytest
import torch
from fitted_regressions import (
    RIDGE,
    Logistic,
    Ridge,
    count_terms,
    differentiate_ridge,
    relative_error,
)
from torch import nn
from torch.nn.functional import mse_loss

from sbi_aalr.tuning import hypergradient, hypergradient_with_info
from sbi_aalr.tuning.training_gradient import TrainingGradient

LOGISTIC = Logistic()
# How far each inverse may be from the truth, with the terms it is given.
STATED_ERRORS = {
    "exact": ({}, 1e-10),
    "conjugate_gradient": ({"num_terms": 4}, 1e-10),
    "neumann": ({"num_terms": 400}, 1e-8),
}


# The truth.


@pytest.mark.parametrize("inverse", STATED_ERRORS)
def test_ridge_agrees_with_its_closed_form(inverse):
    settings, error = STATED_ERRORS[inverse]
    found = differentiate_ridge(inverse=inverse, **settings)
    assert relative_error(found, RIDGE.solve()) < error


@pytest.mark.parametrize("inverse", STATED_ERRORS)
def test_logistic_regression_agrees_with_refitting(inverse):
    settings, _ = STATED_ERRORS[inverse]
    penalties, temperature = hypergradient(
        LOGISTIC.validation_loss,
        LOGISTIC.training_loss,
        (LOGISTIC.fit(),),
        (LOGISTIC.log_penalties, LOGISTIC.temperature),
        inverse=inverse,
        **settings,
    )
    of_penalties, of_temperature = LOGISTIC.differentiate_by_refitting()
    # Central differences are off by about this themselves.
    assert relative_error(penalties, of_penalties) < 1e-7
    assert float(temperature) == pytest.approx(of_temperature, rel=1e-7)


def test_identity_is_the_formula_without_the_inverse():
    found = differentiate_ridge(inverse="identity")
    identity = torch.eye(4, dtype=torch.float64)
    assert relative_error(found, RIDGE.solve(identity)) < 1e-12
    found = differentiate_ridge(inverse="identity", scale=0.3)
    assert relative_error(found, RIDGE.solve(0.3 * identity)) < 1e-12


def test_identity_is_exact_where_the_hessian_is_one():
    problem = Ridge(num_rows=4)
    problem.inputs = torch.linalg.qr(problem.inputs).Q
    problem.log_penalties.fill_(math.log(3 / 4))  # and the mean gives the other 1/4
    found = differentiate_ridge(problem, inverse="identity")
    assert relative_error(found, problem.solve()) < 1e-12


@pytest.mark.parametrize("inverse", STATED_ERRORS)
def test_damping_is_added_to_the_hessian(inverse):
    settings, error = STATED_ERRORS[inverse]
    found = differentiate_ridge(inverse=inverse, damping=0.5, **settings)
    damped = (RIDGE.hessian + 0.5 * torch.eye(4)).inverse()
    assert relative_error(found, RIDGE.solve(damped)) < error


def test_series_converges_with_its_terms_as_fast_as_it_should():
    values = torch.linalg.eigvalsh(RIDGE.hessian)
    condition_number = float(values[-1] / values[0])
    truth, errors = RIDGE.solve(), []
    for wanted in (0.1, 1e-3, 1e-6):
        num_terms = count_terms(condition_number, wanted)
        found = differentiate_ridge(num_terms=num_terms, scale=1 / float(values[-1]))
        errors.append(relative_error(found, truth) / (wanted * condition_number))
    assert max(errors) < 1 and num_terms > 15
    every = [relative_error(differentiate_ridge(num_terms=k), truth) for k in (1, 5, 9)]
    assert every == sorted(every, reverse=True)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("problem", [RIDGE, LOGISTIC], ids=["ridge", "logistic"])
def test_series_equals_unrolled_descent_term_by_term(problem, num_steps):
    penalties = problem.log_penalties.clone().requires_grad_()
    knobs = (penalties, problem.temperature) if problem is LOGISTIC else (penalties,)
    w = problem.fit().requires_grad_()
    for _ in range(num_steps):
        loss = problem.training_loss((w,), knobs)
        w = w - 0.2 * torch.autograd.grad(loss, w, create_graph=True)[0]
    loss = problem.validation_loss((w,), knobs)
    [unrolled] = torch.autograd.grad(loss, penalties)
    found = hypergradient(
        problem.validation_loss,
        problem.training_loss,
        (problem.fit(),),
        knobs,
        num_terms=num_steps,
        scale=0.2,
    )
    assert relative_error(found[0], unrolled) < 1e-12


# What each mutation of the method would do.


def is_right():
    return relative_error(differentiate_ridge(inverse="exact"), RIDGE.solve()) < 1e-8


def multiply_mixed_wrongly(self, vector, hyperparameters):
    parts = TrainingGradient.correct(self, vector, hyperparameters)
    return tuple(-part for part in parts)


def multiply_mixed_not_at_all(self, vector, hyperparameters):
    return tuple(torch.zeros_like(knob) for knob in hyperparameters)


@pytest.mark.parametrize(
    "mutation", [multiply_mixed_wrongly, multiply_mixed_not_at_all]
)
def test_wrong_mixed_term_is_noticed(monkeypatch, mutation):
    assert is_right()
    correct = TrainingGradient.multiply_mixed
    monkeypatch.setattr(TrainingGradient, "correct", correct, raising=False)
    monkeypatch.setattr(TrainingGradient, "multiply_mixed", mutation)
    assert not is_right()


def test_hessian_of_the_held_out_loss_is_noticed(monkeypatch):
    def multiply(self, vector):
        gram = RIDGE.held_out.T @ RIDGE.held_out / len(RIDGE.held_out)
        return gram @ vector

    assert is_right()
    monkeypatch.setattr(TrainingGradient, "multiply_hessian", multiply)
    assert not is_right()


def test_missing_direct_term_is_noticed():
    settings = {"inverse": "exact"}
    knobs = LOGISTIC.log_penalties, LOGISTIC.temperature
    losses = LOGISTIC.validation_loss, LOGISTIC.training_loss
    _, temperature = hypergradient(*losses, (LOGISTIC.fit(),), knobs, **settings)
    assert abs(float(temperature)) > 1e-3  # there is no other way for it to act


# Any module, any tree.


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(5, 1)

    def forward(self, rows):
        return self.head(self.layers(rows))


def build_net():
    torch.manual_seed(3)
    return Net(), torch.randn(16, 3), torch.randn(16, 1)


def losses_of(net, rows, targets):
    """Losses that use the parameters of the module, not what they are given."""

    def training_loss(weights, hyperparameters):
        net.train()
        penalty = sum((p**2).sum() for p in net.parameters())
        return mse_loss(net(rows), targets) + hyperparameters["penalty"] * penalty

    def validation_loss(weights, hyperparameters):
        net.eval()
        return mse_loss(net(rows), targets) * hyperparameters["nested"][0].mean()

    return validation_loss, training_loss


KNOBS = {"penalty": 2.0, "nested": [torch.ones(2, 1), {}]}


def test_module_is_differentiated_with_any_tree_and_left_alone():
    net, rows, targets = build_net()
    before = {name: value.clone() for name, value in net.named_parameters()}
    found = hypergradient(
        *losses_of(net, rows, targets), net.parameters(), KNOBS, damping=1.0
    )
    assert found.keys() == KNOBS.keys()
    assert found["penalty"].shape == () and found["penalty"].isfinite()
    assert found["nested"][0].shape == (2, 1) and found["nested"][1] == {}
    assert not found["nested"][0].requires_grad
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) and value.grad is None


class Called(nn.Module):
    """A loss as the forward of a module that holds the net, for functional_call."""

    def __init__(self, net, loss):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, *arguments):
        return self.loss(*arguments)


def test_functional_call_gives_the_same_as_the_parameters_themselves():
    def differentiate(wrap, take_weights):
        # Afresh, as batch normalisation has a memory.
        net, rows, targets = build_net()
        losses = [wrap(net, loss) for loss in losses_of(net, rows, targets)]
        return hypergradient(*losses, take_weights(net), KNOBS, damping=1.0)["penalty"]

    def call(net, loss):
        def functional(weights, hyperparameters):
            weights = {f"net.{name}": weight for name, weight in weights.items()}
            arguments = None, hyperparameters
            return torch.func.functional_call(Called(net, loss), weights, arguments)

        return functional

    def detach(net):
        return {name: weight.detach() for name, weight in net.named_parameters()}

    own = differentiate(lambda net, loss: loss, lambda net: net.parameters())
    functional = differentiate(call, detach)
    assert float(own) == pytest.approx(float(functional), rel=1e-5)


def test_noise_of_the_training_loss_is_drawn_once():
    draws = []

    def training_loss(weights, hyperparameters):
        draws.append(torch.randn(()))
        return (weights[0] - hyperparameters[0] * draws[-1]) ** 2

    def validation_loss(weights, hyperparameters):
        return (weights[0] - 1) ** 2

    found = hypergradient(validation_loss, training_loss, [torch.tensor(0.0)], [1.0])
    # dw/dlambda is the noise itself; a second draw in the mixed term would show.
    assert len(draws) == 1
    assert float(found[0]) == pytest.approx(-2 * float(draws[0]), rel=1e-5)


def test_generators_of_others_are_left_alone():
    state = torch.get_rng_state()
    differentiate_ridge()
    assert torch.equal(torch.get_rng_state(), state)


def test_no_graph_is_kept():
    gc.collect()
    before = sum(type(o) is torch.Tensor for o in gc.get_objects())
    for _ in range(3):
        hypergradient_with_info(
            RIDGE.validation_loss,
            RIDGE.training_loss,
            [RIDGE.fit()],
            [RIDGE.log_penalties],
        )
    # Not collected first: nothing may need the collector, which comes late.
    after = sum(type(o) is torch.Tensor for o in gc.get_objects())
    assert after <= before


def test_gradients_work_where_they_are_switched_off():
    with torch.no_grad():
        found = differentiate_ridge(inverse="exact")
    assert relative_error(found, RIDGE.solve()) < 1e-10
