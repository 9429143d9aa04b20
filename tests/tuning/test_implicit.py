"""Hypergradients against closed forms, refitting, and unrolled gradient descent."""

import gc
import math

import pytest
import torch
from fitted_regressions import Logistic, Ridge, count_terms, relative_error
from torch import nn
from torch.nn.functional import mse_loss

from sbi_aalr.errors import IndefiniteHessianWarning
from sbi_aalr.tuning import hypergradient, hypergradient_with_info
from sbi_aalr.tuning.training_gradient import TrainingGradient

RIDGE, LOGISTIC = Ridge(), Logistic()
# How far each inverse may be from the truth, with the terms it is given.
STATED_ERRORS = {
    "exact": ({}, 1e-10),
    "conjugate_gradient": ({"num_terms": 4}, 1e-10),
    "neumann": ({"num_terms": 400}, 1e-8),
}


def differentiate_ridge(problem=RIDGE, **settings):
    losses = problem.validation_loss, problem.training_loss
    [found] = hypergradient(
        *losses, [problem.fit()], [problem.log_penalties], **settings
    )
    return found


def parabola(*curvatures):
    """Losses in two weights at their optimum, curved as given; a penalty is tuned."""
    h = torch.tensor(curvatures, dtype=torch.float64)

    def training_loss(weights, hyperparameters):
        return (h * weights[0] ** 2 + hyperparameters[0] * weights[0]).sum()

    def validation_loss(weights, hyperparameters):
        return (weights[0] * torch.tensor([1.0, 2.0])).sum()

    zeros = torch.zeros(2, dtype=torch.float64)
    return validation_loss, training_loss, [zeros], [zeros.clone()]


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


# What Info tells.


@pytest.mark.parametrize("inverse", ["neumann", "conjugate_gradient", "exact"])
def test_info_tells_the_residual_and_the_spectrum(inverse):
    gradient, info = hypergradient_with_info(
        RIDGE.validation_loss,
        RIDGE.training_loss,
        (RIDGE.fit(),),
        (RIDGE.log_penalties,),
        inverse=inverse,
        num_terms=3,
    )
    values = torch.linalg.eigvalsh(RIDGE.hessian)
    assert info.largest_eigenvalue == pytest.approx(float(values[-1]), rel=1e-3)
    assert 0 < float(values[0]) <= info.least_curvature * 1.001
    assert info.is_stationary and info.gradient_norm < 1e-12
    if inverse == "exact":
        assert info.residual < 1e-12
    else:
        assert info.terms_used == 3
        v = RIDGE.differentiate_held_out(RIDGE.fit())
        mixed = RIDGE.log_penalties.exp() * RIDGE.fit()
        p = -gradient[0] / mixed
        residual = float((v - RIDGE.hessian @ p).norm() / v.norm())
        assert info.residual == pytest.approx(residual, rel=1e-6)


def test_info_tells_of_weights_that_are_not_fitted():
    start = RIDGE.fit() + 0.5
    _, info = hypergradient_with_info(
        RIDGE.validation_loss, RIDGE.training_loss, (start,), (RIDGE.log_penalties,)
    )
    assert not info.is_stationary
    # The distance is told from below.
    assert 0.05 < info.distance < float(1 / start.norm())


def test_held_out_loss_at_its_optimum_has_no_hypergradient():
    def validation_loss(weights, hyperparameters):
        return ((weights[0] - RIDGE.fit()) ** 2).sum()

    for inverse in ("neumann", "conjugate_gradient", "identity", "exact"):
        gradient, info = hypergradient_with_info(
            validation_loss,
            RIDGE.training_loss,
            (RIDGE.fit(),),
            (RIDGE.log_penalties,),
            inverse=inverse,
        )
        assert float(gradient[0].abs().max()) == info.residual == 0


# What goes wrong.


@pytest.mark.parametrize("function", [hypergradient, hypergradient_with_info])
def test_series_that_diverges_is_an_error_with_the_largest_scale(function):
    arguments = parabola(1.0, 2.0)  # a Hessian of 2 and 4
    with pytest.raises(ValueError, match=r"2 / 4 = 0.5.* got 0.75"):
        function(*arguments, scale=0.75)
    function(*arguments, scale=0.45)


@pytest.mark.parametrize("inverse", ["neumann", "conjugate_gradient", "exact"])
def test_indefinite_hessian_is_a_warning_with_the_curvature(inverse):
    arguments = parabola(1.0, -0.2)
    with pytest.warns(IndefiniteHessianWarning, match="indefinite") as caught:
        hypergradient(*arguments, inverse=inverse)
    assert -0.4001 < caught[0].message.value < 0
    hypergradient(*arguments, inverse=inverse, damping=0.9)


@pytest.mark.parametrize("inverse", ["neumann", "exact"])
def test_damping_by_the_advice_silences_the_warning(inverse):
    arguments = parabola(1.0, -2.0)
    with pytest.warns(IndefiniteHessianWarning, match="more than") as caught:
        hypergradient(*arguments, inverse=inverse, damping=0.1)
    damping = 0.1 - 1.3 * caught[0].message.value
    hypergradient(*arguments, inverse=inverse, damping=damping)


def test_conjugate_gradients_that_cannot_begin_are_an_error():
    with pytest.raises(ValueError, match=r"curvature there is -2.*`damping`"):
        hypergradient(*parabola(-1.0, -1.0), inverse="conjugate_gradient")


def test_flat_training_loss_is_an_error():
    with pytest.raises(ValueError, match=r"largest eigenvalue .* is 0"):
        hypergradient(*parabola(0.0, 0.0))
    with pytest.raises(ValueError, match=r"singular .* share of 0.894"):
        hypergradient(*parabola(1.0, 0.0), inverse="exact")


def test_weight_that_the_training_loss_does_not_see_is_named():
    def training_loss(weights, hyperparameters):
        return ((weights[1] - hyperparameters[0]) ** 2).sum()

    def validation_loss(weights, hyperparameters):
        return weights[0].sum() + weights[1].sum()

    weights = [torch.zeros(2), torch.zeros(3), torch.zeros(4)]
    with pytest.raises(ValueError, match=r"on 2 of 3: `weights\[0\]`, `weights\[2\]`"):
        hypergradient(validation_loss, training_loss, weights, [torch.zeros(3)])


def test_held_out_loss_that_sees_no_weight_is_an_error():
    _, training_loss, weights, knobs = parabola(1.0, 1.0)
    with pytest.raises(ValueError, match="`validation_loss` must depend on the weig"):
        hypergradient(lambda w, h: h[0].sum(), training_loss, weights, knobs)


def test_hyperparameter_without_a_place_in_the_loss_is_refused():
    validation_loss, training_loss, weights, knobs = parabola(1.0, 1.0)
    with pytest.raises(ValueError, match=r"`hyperparameters\[1\]`.*learning rate"):
        hypergradient(validation_loss, training_loss, weights, [*knobs, 1e-3])


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda w: w * math.nan, "`{}` must be finite, got nan"),
        (lambda w: w / 0, "`{}` must be finite, got (inf|nan)"),
        (lambda w: (w - 1).abs().sqrt().sum(), "gradient of `{}` must be finite, got"),
        (lambda w: w.detach(), "`{}` must depend on the weights and"),
        (lambda w: w.expand(2), r"`{}` must return one number, got shape \(2,\)"),
    ],
)
def test_loss_that_is_no_finite_number_is_an_error(spoil, found):
    validation_loss, training_loss, _, knobs = parabola(1.0, 1.0)
    weights = [torch.ones(2, dtype=torch.float64)]

    def spoiled(weights, hyperparameters):
        return spoil(weights[0].sum() / 2)

    with pytest.raises(ValueError, match=found.format("validation_loss")):
        hypergradient(spoiled, training_loss, weights, knobs)
    with pytest.raises(ValueError, match=found.format("training_loss")):
        hypergradient(validation_loss, spoiled, weights, knobs)


def test_hessian_that_is_not_finite_is_an_error():
    validation_loss, _, weights, knobs = parabola(1.0, 1.0)

    def training_loss(weights, hyperparameters):
        return (weights[0].abs() ** 1.5 + hyperparameters[0] * weights[0]).sum()

    with pytest.raises(ValueError, match="Hessian of `training_loss` must be finite"):
        hypergradient(validation_loss, training_loss, weights, knobs)


@pytest.mark.parametrize(
    ("name", "value", "error", "found"),
    [
        ("validation_loss", 3.0, TypeError, "`validation_loss` must be a function"),
        ("training_loss", lambda w, h: 1.0, TypeError, "return a tensor .* float"),
        ("weights", torch.zeros(2), TypeError, r"`weights` must be a sequence .*\(wei"),
        ("weights", "w", TypeError, "`weights` must be a sequence of tensors, got str"),
        ("weights", [None], TypeError, r"`weights\[0\]` must be a tensor.*NoneType"),
        ("weights", [], ValueError, "`weights` must hold at least one tensor"),
        ("hyperparameters", 3.0, TypeError, "`hyperparameters` must be a sequence"),
        ("hyperparameters", [True], TypeError, "must be a tensor or a number, got Tr"),
        ("hyperparameters", {}, ValueError, "at least one tensor, got none"),
        ("hyperparameters", [torch.zeros(2).long()], TypeError, "got torch.int64"),
        ("hyperparameters", [torch.tensor([1, math.nan])], ValueError, "in 1 of 2 ent"),
        ("inverse", "lanczos", ValueError, "`inverse` must be one of 'neumann'"),
        ("num_terms", 0, ValueError, "`num_terms` must be a positive int"),
        ("num_terms", 2.0, TypeError, "`num_terms` must be a positive int"),
        ("scale", 0.0, ValueError, "`scale` must be a positive finite number"),
        ("scale", "1", TypeError, "`scale` must be a number"),
        ("damping", -1.0, ValueError, "`damping` must be a finite number of at least"),
    ],
)
def test_bad_argument_is_named(name, value, error, found):
    names = "validation_loss", "training_loss", "weights", "hyperparameters"
    arguments = dict(zip(names, parabola(1.0, 1.0), strict=True)) | {name: value}
    positional = [arguments.pop(name) for name in names]
    with pytest.raises(error, match=found):
        hypergradient(*positional, **arguments)


def test_exact_inverse_refuses_what_does_not_fit():
    weights = torch.zeros(5_001)
    with pytest.raises(ValueError, match=r"at most 5,000 weights, got 5,001"):
        hypergradient(
            lambda w, h: w[0].sum(),
            lambda w, h: ((w[0] - h[0]) ** 2).sum(),
            [weights],
            [1.0],
            inverse="exact",
        )


def test_weight_that_is_a_hyperparameter_too_is_refused():
    both = torch.zeros(2, requires_grad=True)
    losses = parabola(1.0, 1.0)[:2]
    with pytest.raises(ValueError, match="`hyperparameters` must not be weights"):
        hypergradient(*losses, [both], [both])


def test_memory_and_time_do_not_need_the_hessian():
    # 300,000 weights: a Hessian would have 360 GB.
    target = torch.randn(300_000, generator=torch.Generator().manual_seed(1))

    def training_loss(weights, hyperparameters):
        return ((weights[0] - target) ** 2 + hyperparameters[0] * weights[0] ** 2).sum()

    def validation_loss(weights, hyperparameters):
        return (weights[0] - 0.9 * target).square().sum()

    penalties = torch.full_like(target, 0.1)
    best = target / 1.1
    gradient, info = hypergradient_with_info(
        validation_loss, training_loss, [best], [penalties]
    )
    truth = -2 * (best - 0.9 * target) * target / 1.1**2
    assert relative_error(gradient[0], truth) < 1e-3 and info.residual < 1e-3
