"""How a hypergradient is computed, and what it rests on."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sbi_aalr.checks import (
    check_choice,
    check_non_negative_float,
    check_positive_float,
    check_positive_int,
)
from sbi_aalr.tuning.inverses import Solution
from sbi_aalr.tuning.spectrum import Range

INVERSES = ("neumann", "conjugate_gradient", "identity", "exact")
# Of the distance to the optimum, relative to the weights.
_STATIONARY = 1e-3


class Settings(NamedTuple):
    """How the inverse is approximated; the arguments of `hypergradient`."""

    inverse: str = "neumann"
    num_terms: int = 20
    scale: float | None = None
    damping: float = 0.0

    def check(self) -> "Settings":
        """Return checked settings, or raise a TypeError or ValueError."""
        check_choice("inverse", self.inverse, INVERSES)
        scale = self.scale
        return Settings(
            self.inverse,
            check_positive_int("num_terms", self.num_terms),
            None if scale is None else check_positive_float("scale", scale),
            check_non_negative_float("damping", self.damping),
        )


class Info(NamedTuple):
    r"""What a hypergradient rests on.

    Attributes:
        residual: $|v - (H + d) p| / |v|$ for the gradient v of the held-out loss, the
            Hessian H of the training loss, the damping d and what stands for
            $(H + d)^{-1} v$; 0 is exact, 1 no better than nothing.
        terms_used: Terms of the series, or steps of conjugate gradients.
        largest_eigenvalue: Eigenvalue of H that is largest in size.
        least_curvature: Least $u^T H u / u^T u$ of all u met; negative if H is
            indefinite.
        gradient_norm: Norm of the gradient of the training loss.
        distance: How far the optimum seems to be: the norm of Newton's step
            $H^{-1} g$ for that gradient g, as a share of the norm of the weights. It is
            solved for as exactly as v is, by conjugate gradients unless the inverse is
            exact, and is too small where those leave much.
        is_stationary: Whether that share is at most 0.001, so that the theorem holds.
    """

    residual: float
    terms_used: int
    largest_eigenvalue: float
    least_curvature: float
    gradient_norm: float
    distance: float
    is_stationary: bool


def describe(
    solution: Solution,
    spectrum: Range | None,
    settings: Settings,
    gradient_norm: float,
    step: float,
    leaves: list[Tensor],
) -> Info:
    """Sum up what was found, of the Hessian without damping."""
    curvatures = solution.curvatures.join(spectrum or Range())
    size = math.hypot(*(float(w.detach().norm(dtype=torch.float64)) for w in leaves))
    distance = step / size if size else math.inf
    distance = 0.0 if gradient_norm == 0 else distance
    largest = math.nan
    if spectrum is not None:
        ends = [end - settings.damping for end in spectrum]
        largest = max(ends, key=abs)
    return Info(
        residual=solution.residual,
        terms_used=solution.num_terms,
        largest_eigenvalue=largest,
        least_curvature=curvatures.least - settings.damping,
        gradient_norm=gradient_norm,
        distance=distance,
        is_stationary=distance <= _STATIONARY,
    )
