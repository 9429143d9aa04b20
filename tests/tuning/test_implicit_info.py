"""What `Info` tells of a hypergradient."""

import warnings

import pytest
import torch
from fitted_regressions import (
    RIDGE,
    relative_error,
)

from sbi_aalr.errors import IndefiniteHessianWarning
from sbi_aalr.tuning import hypergradient_with_info


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
