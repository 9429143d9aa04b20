"""What `Info` tells of a hypergradient, and what is no silent number."""

import math
import warnings

import pytest
import torch
from fitted_regressions import (
    RIDGE,
    parabola,
    relative_error,
)

from sbi_aalr.errors import IndefiniteHessianWarning
from sbi_aalr.tuning import hypergradient, hypergradient_with_info

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
    # A step of Newton's is all there is to go where the loss is a parabola.
    assert info.distance == pytest.approx(float(1 / start.norm()))


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


@pytest.mark.parametrize("inverse", ["neumann", "identity", "exact"])
def test_flat_direction_is_far_from_stationary(inverse):
    """The largest eigenvalue says nothing of how far it is along the others."""

    def training_loss(weights, hyperparameters):
        steep, flat = weights[0]
        return 5e5 * (steep - 1) ** 2 + (flat - hyperparameters[0]) ** 2

    def validation_loss(weights, hyperparameters):
        return weights[0][1] ** 2

    for flat, is_stationary in ((2.5, False), (1.0, True)):
        weights = torch.tensor([1.0, flat], dtype=torch.float64)
        _, info = hypergradient_with_info(
            validation_loss, training_loss, [weights], [1.0], inverse=inverse
        )
        assert info.is_stationary == is_stationary
        assert info.distance == pytest.approx((flat - 1) / (1 + flat**2) ** 0.5)


@pytest.mark.parametrize("damping", [0.0, 0.6, 5.0])
def test_damping_is_no_part_of_what_is_told_of_the_hessian(damping):
    def training_loss(weights, hyperparameters):
        u, v = weights[0]
        return v**2 - 1.5 * u**2 - hyperparameters[0] * (u + v)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IndefiniteHessianWarning)
        _, info = hypergradient_with_info(
            lambda w, h: w[0].sum(),
            training_loss,
            [torch.tensor([-1 / 3, 0.6], dtype=torch.float64)],
            [1.0],
            inverse="exact",
            damping=damping,
        )
    assert info.largest_eigenvalue == pytest.approx(-3)
    assert info.distance == pytest.approx(0.1 / (1 / 9 + 0.36) ** 0.5)


@pytest.mark.parametrize("inverse", ["conjugate_gradient", "exact"])
def test_residual_is_that_of_what_is_used(inverse):
    """In float32 the residual that a recurrence carries along is far too small."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(noise).Q
    values = torch.logspace(0, -5, 8, dtype=torch.float64)
    hessian = (rotation @ values.diag() @ rotation.T).float()
    v = torch.randn(8, generator=generator)
    (vector,), info = hypergradient_with_info(
        lambda w, h: v @ w[0],
        lambda w, h: w[0] @ hessian @ w[0] / 2 - w[0] @ h[0],
        [torch.ones(8)],
        [hessian @ torch.ones(8)],
        inverse=inverse,
        num_terms=2_000,
    )
    rest = v.double() - hessian.double() @ vector.double()
    truth = float(rest.norm() / v.norm())
    assert truth > 1e-5 and info.residual == pytest.approx(truth, rel=0.5)


@pytest.mark.parametrize("size", [1e22, 1e-22])
@pytest.mark.parametrize("inverse", ["neumann", "conjugate_gradient", "exact"])
def test_size_of_the_held_out_loss_does_not_matter(inverse, size):
    gradient, info = hypergradient_with_info(
        lambda w, h: size * w[0].sum(),
        lambda w, h: (w[0][0] ** 2 + 2 * w[0][1] ** 2) / 2 - h[0] * w[0].sum(),
        [torch.tensor([1.0, 0.5])],
        [1.0],
        inverse=inverse,
        num_terms=100,
    )
    assert float(gradient[0]) == pytest.approx(1.5 * size, rel=1e-5)
    assert info.residual < 1e-5


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
