"""What goes wrong with a hypergradient, and is no silent number."""

import math

import pytest
import torch
from fitted_regressions import (
    parabola,
)

from sbi_aalr.errors import IndefiniteHessianWarning
from sbi_aalr.tuning import hypergradient, hypergradient_with_info


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
