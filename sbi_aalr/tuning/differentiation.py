"""What a hypergradient is made of, one step after the other."""

import math
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sbi_aalr.errors import DivergenceError, IndefiniteHessianWarning
from sbi_aalr.tuning import inverses
from sbi_aalr.tuning.info import Info, Settings, describe
from sbi_aalr.tuning.inverses import Solution
from sbi_aalr.tuning.spectrum import Range, find_spectrum, get_rounding
from sbi_aalr.tuning.training_gradient import (
    Loss,
    TrainingGradient,
    check_finite_vector,
    evaluate,
    join,
    name_some,
)
from sbi_aalr.tuning.trees import Tree, flatten


def differentiate(
    validation_loss: Loss,
    training_loss: Loss,
    weights: Tree,
    hyperparameters: Tree,
    settings: Settings,
    *,
    needs_spectrum: bool = False,
) -> tuple[Tree, Info]:
    """Do what `hypergradient_with_info` does, with settings that are checked.

    Args:
        validation_loss: The held-out loss.
        training_loss: The training loss.
        weights: Tensors.
        hyperparameters: Tensors or numbers.
        settings: Checked settings.
        needs_spectrum: Whether to find the distance, and the largest eigenvalue where
            nothing else needs it; they are NaN without.

    Returns:
        The hypergradient, and an `Info`.
    """
    leaves, unflatten_weights = flatten("weights", weights)
    knobs, unflatten = flatten("hyperparameters", hyperparameters)
    if {id(leaf) for leaf in leaves} & {id(knob) for knob in knobs}:
        raise ValueError("`hyperparameters` must not be weights, but one tensor is.")
    given = unflatten_weights(leaves), unflatten(knobs)
    with torch.inference_mode(False), torch.enable_grad():
        v, direct = _differentiate_validation(validation_loss, given, leaves, knobs)
        training = TrainingGradient(
            evaluate("training_loss", training_loss, *given), leaves
        )
        solution, spectrum, step = _solve(training, v, settings, needs_spectrum)
        mixed = training.multiply_mixed(solution.vector, knobs)
    gradients = _subtract(direct, mixed, knobs)
    check_finite_vector("the hypergradient", join(gradients, knobs))
    _warn_if_indefinite(solution, spectrum, v)
    info = describe(solution, spectrum, settings, training.norm, step, leaves)
    return unflatten(gradients), info


def _differentiate_validation(
    validation_loss: Loss, given: tuple[Tree, Tree], leaves: list, knobs: list
) -> tuple[Tensor, list[Tensor | None]]:
    """Gradient of the held-out loss in weights `(W,)`, and in hyperparameters."""
    value = evaluate("validation_loss", validation_loss, *given)
    gradients = torch.autograd.grad(value, [*leaves, *knobs], allow_unused=True)
    of_weights, of_knobs = gradients[: len(leaves)], gradients[len(leaves) :]
    if all(gradient is None for gradient in of_weights):
        raise ValueError(
            "`validation_loss` must depend on the weights, but does on none of "
            f"{len(leaves)}. Use the weights that it is given."
        )
    v = join(of_weights, leaves)
    return check_finite_vector("the gradient of `validation_loss`", v), [*of_knobs]


def _solve(
    training: TrainingGradient, v: Tensor, settings: Settings, needs_spectrum: bool
) -> tuple[Solution, Range | None, float]:
    """Solve for v; find the spectrum of the damped Hessian, and Newton's step."""
    size = inverses.find_power_of_two(v)
    v, product = v / size, training.multiply_hessian
    is_exact = settings.inverse == "exact"
    if is_exact:
        eigen = inverses.take_apart(inverses.build_matrix(product, v))
        damped = eigen._replace(values=eigen.values + settings.damping)
        solution = inverses.solve_exact(damped, v)
        spectrum: Range | None = solution.curvatures
        solve = partial(inverses.solve_exact, eigen)
    else:
        solution, spectrum = _solve_by_products(training, v, settings, needs_spectrum)
        terms = settings.num_terms
        solve = partial(inverses.solve_conjugate_gradient, product, num_terms=terms)
    _check_solved(solution, v, is_exact)
    step = _measure_step(training.gradient, solve) if needs_spectrum else math.nan
    return solution._replace(vector=solution.vector * size), spectrum, step


def _measure_step(gradient: Tensor, solve: Callable[[Tensor], Solution]) -> float:
    """Norm of Newton's step; infinite where it does not lead down."""
    size = inverses.find_power_of_two(gradient)
    step = solve(gradient / size)
    if step.num_terms == 0 and step.residual > 0:
        return math.inf
    return size * float(step.vector.norm())


def _solve_by_products(
    training: TrainingGradient, v: Tensor, settings: Settings, needs_spectrum: bool
) -> tuple[Solution, Range | None]:
    """Solve for v, and find the spectrum of the damped Hessian where it is needed."""

    def multiply(vector: Tensor) -> Tensor:
        product = training.multiply_hessian(vector)
        return product.add_(vector, alpha=settings.damping)

    inverse, num_terms, scale, _ = settings
    spectrum = None
    if needs_spectrum or (inverse == "neumann" and scale is None):
        spectrum = find_spectrum(multiply, v)
    if inverse == "conjugate_gradient":
        solution = inverses.solve_conjugate_gradient(multiply, v, num_terms)
        _check_begun(solution)
    elif inverse == "identity":
        solution = inverses.solve_identity(multiply, v, scale or 1.0)
    else:
        scale = scale or _choose_scale(spectrum)
        solution = inverses.solve_neumann(multiply, v, num_terms, scale)
        if solution.is_growing and not _is_indefinite(solution.curvatures, v):
            spectrum = spectrum or find_spectrum(multiply, v)
        _check_converging(solution, scale, spectrum)
    return solution, spectrum


def _choose_scale(spectrum: Range | None) -> float:
    size = spectrum.size if spectrum else 0.0
    if size == 0:
        raise ValueError(
            "`training_loss` must be curved in the weights, but the largest eigenvalue "
            "of its Hessian is 0. A loss that is linear in them has no minimum."
        )
    return 1 / size


def _check_converging(solution: Solution, scale: float, spectrum: Range | None) -> None:
    """Raise if the scale is too large for the series."""
    if spectrum is not None and scale * spectrum.greatest > 2:
        raise DivergenceError(
            "`scale` must be below 2 by the largest eigenvalue of the Hessian, 2 / "
            f"{spectrum.greatest:.3g} = {2 / spectrum.greatest:.3g}, or the Neumann "
            f"series diverges, got {scale:.3g}. Leave `scale=None` to have it found. "
            f"After {solution.num_terms} terms the residual was "
            f"{solution.residual:.3g}."
        )
    if solution.is_growing and spectrum is not None and spectrum.least >= 0:
        raise DivergenceError(
            f"The Neumann series diverges: its terms grow after {solution.num_terms}, "
            f"at a residual of {solution.residual:.3g}, with `scale` {scale:.3g}. Give "
            "a smaller `scale`, or more `damping`."
        )


def _check_solved(solution: Solution, v: Tensor, is_exact: bool) -> None:
    """Raise if the Hessian has no inverse where one is needed."""
    least, greatest = solution.curvatures
    is_short = is_exact and solution.residual > inverses.get_unreachable(v)
    if is_short or solution.doubt > 1:
        raise ValueError(
            "The Hessian of `training_loss` is singular where the held-out loss has a "
            f"gradient, as far as {v.dtype} can tell: its curvatures are from "
            f"{least:.3g} to {greatest:.3g}, and a share of {solution.residual:.3g} of "
            "that gradient is out of reach. Set `damping`, penalise the weights, or "
            "compute in float64."
        )


def _check_begun(solution: Solution) -> None:
    if solution.num_terms == 0 and solution.residual > 0:
        raise ValueError(
            "The Hessian of `training_loss` is not positive along the gradient of the "
            f"held-out loss: its curvature there is {solution.curvatures.least:.3g}. "
            "Conjugate gradients cannot begin; set `damping` to more than that, or "
            "train to a minimum first."
        )


def _is_indefinite(curvatures: Range, v: Tensor) -> bool:
    """Whether a curvature is below zero by more than rounding."""
    return curvatures.least < -get_rounding(v) * curvatures.size


def _warn_if_indefinite(solution: Solution, spectrum: Range | None, v: Tensor) -> None:
    curvatures = solution.curvatures.join(spectrum or Range())
    if not _is_indefinite(curvatures, v):
        return
    warnings.warn(
        IndefiniteHessianWarning(
            "The Hessian of `training_loss` is indefinite: a direction has curvature "
            f"{curvatures.least:.3g}, damping included, so the weights are at no "
            f"minimum. {solution.num_terms} terms were used, which leave a residual of "
            f"{solution.residual:.3g}. Train longer, or set `damping` to more than "
            f"{-curvatures.least:.3g} above what it is.",
            curvatures.least,
        ),
        stacklevel=4,
    )


def _subtract(
    direct: list[Tensor | None], mixed: tuple[Tensor | None, ...], knobs: list[Tensor]
) -> list[Tensor]:
    """Subtract the indirect from the direct gradients."""
    pairs = list(zip(direct, mixed, strict=True))
    idle = [i for i, (d, m) in enumerate(pairs) if d is None and m is None]
    if idle:
        raise ValueError(
            "`hyperparameters` must change the gradient of `training_loss`, or the "
            f"held-out loss, but {len(idle)} of {len(pairs)} do neither: "
            f"{name_some('hyperparameters', idle)}. What has no place in the loss, as "
            "a learning rate or a number of layers, has no hypergradient."
        )
    return [
        (torch.zeros_like(k) if d is None else d).detach() - (0 if m is None else m)
        for (d, m), k in zip(pairs, knobs, strict=True)
    ]
