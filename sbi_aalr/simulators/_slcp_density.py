"""The exact SLCP posterior, reduced to a bounded density in two dimensions.

Write `xbar` and `S` for the mean and the scatter matrix of the four points, and
`u = 1 / theta_3^2`, `v = 1 / theta_4^2`, `rho = tanh(theta_5)`. The posterior in theta
is flat times

    |Sigma|^-2 exp(-[tr(Sigma^-1 S) + 4 q(mu - xbar)] / 2),   q(e) = e' Sigma^-1 e.

**Location.** Let `mu*` be the point of the prior's box nearest to `xbar` in the norm
`q`, and `m = 4 q(mu* - xbar)`. A projection on a convex set makes an obtuse angle, so
inside the box

    4 q(mu - xbar) = m + 4 q(mu - mu*) + 8 (mu - mu*)' Sigma^-1 (mu* - xbar)

with a last term that is never negative. To draw `mu ~ N(mu*, Sigma / 4)`, and to keep
it if it lies in the box with probability `exp(-half of the last term)`, is therefore
exact once `Sigma` follows `|Sigma|^-3/2 exp(-[tr(Sigma^-1 S) + m] / 2)`.

**Radius.** In `u sqrt(S11) = R cos(phi)`, `v sqrt(S22) = R sin(phi)` both `tr(Sigma^-1
S)` and `m` grow as `R^2`: their sum is `k R^2` with `k` a function of `phi` and
`theta_5`. The Jacobian leaves `R^4 exp(-k R^2 / 2)`, so `t = k R^2 / 2` is
Gamma(5/2), cut off where `|theta_3|` or `|theta_4|` reaches the box. It is drawn by
inverting its distribution function.

**Angle and correlation.** What remains is a density in the rectangle (phi, theta_5),

    (sin 2 phi)^3/2 cosh(theta_5)^3 k^-5/2 Gamma(5/2, t_min).

Every factor has an upper bound on a sub-rectangle; splitting where the bound is loose
gives a tight piecewise constant envelope, from which points are drawn and thinned.

The signs of `theta_3` and `theta_4` do not enter: each is a fair coin.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

BOUND = 3.0


@dataclass(frozen=True)
class ReducedPosterior:
    """The SLCP posterior of one observation, reduced to a density in a rectangle.

    Args:
        points: The four points of the observation, shape `(4, 2)`, float64 on the CPU.

    Raises:
        ValueError: If the points do not spread in one of the two coordinates; the
            posterior has infinite mass at a zero scale then.

    Example:
        >>> import torch
        >>> points = torch.tensor([[0, 1], [1, 0], [2, 2], [3, 0]]).double()
        >>> posterior = ReducedPosterior(points)
        >>> posterior.log_density(torch.tensor([0.8]), torch.tensor([0.0])).shape
        torch.Size([1])
    """

    points: Tensor

    def __post_init__(self) -> None:
        spread = self.points.amax(0) - self.points.amin(0)
        if not bool((spread > 0).all()):
            raise ValueError(
                "`x_o` must hold four points that differ in both coordinates, got "
                f"a spread of {spread.tolist()}. At zero spread the exact posterior "
                "cannot be normalised; use another observation, or float64 data."
            )

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the points, shape `(2,)`."""
        return self.points.mean(0)

    @cached_property
    def root_scatter(self) -> Tensor:
        """Square roots of the scatter matrix's diagonal, shape `(2,)`."""
        return torch.linalg.vector_norm(self.points - self.mean, dim=0)

    @cached_property
    def correlation(self) -> Tensor:
        """Correlation of the four points, shape `()`."""
        standardised = (self.points - self.mean) / self.root_scatter
        return standardised.prod(1).sum().clamp(-1, 1)

    def find_offset(self, angle: Tensor, theta5: Tensor) -> Tensor:
        """Return `xbar - mu*` in units of the scales at `R = 1`, shape `(N, 2)`."""
        roots = self.compute_precision_roots(angle)
        return self._find_offset(roots, roots, torch.tanh(theta5))

    def compute_rate(self, angle: Tensor, theta5: Tensor) -> Tensor:
        """Return the k of `k R^2 = tr(Sigma^-1 S) + m`, shape `(N,)`."""
        offset = self.find_offset(angle, theta5)
        distance = compute_inner(offset, offset, torch.tanh(theta5))
        trace = self._compute_trace(torch.sin(2 * angle), theta5)
        return trace + 4 * distance * torch.cosh(theta5).square()

    def log_density(self, angle: Tensor, theta5: Tensor) -> Tensor:
        """Log-density of angle and theta_5, up to a constant, shape `(N,)`."""
        rate = self.compute_rate(angle, theta5)
        floor = self.compute_floor(angle, angle, rate)
        return _combine(torch.sin(2 * angle), theta5.abs(), rate, floor)

    def log_bound(self, cells: Tensor) -> Tensor:
        """Bound the log-density from above on rectangles.

        Args:
            cells: Lowest angle, highest angle, lowest and highest theta_5, `(N, 4)`.

        Returns:
            Upper bounds, shape `(N,)`.
        """
        low, high, first, last = cells.unbind(-1)
        peak = torch.sin(2 * torch.full_like(low, math.pi / 4).clamp(low, high))
        dip = torch.minimum(torch.sin(2 * low), torch.sin(2 * high))
        # The trace is linear in sin(2 phi), so that an end of its range is lowest.
        trace = torch.minimum(
            self._minimise_trace(peak, first, last),
            self._minimise_trace(dip, first, last),
        )
        # q is half the sum of (e1 - e2)^2 / (1 - rho) and (e1 + e2)^2 / (1 + rho).
        across, along = 1 / (1 - torch.tanh(first)), 1 / (1 + torch.tanh(last))
        rho = (across - along) / (across + along)
        smallest = torch.stack([torch.cos(high), torch.sin(low)], dim=-1)
        largest = torch.stack([torch.cos(low), torch.sin(high)], dim=-1)
        offset = self._find_offset(
            smallest / self.root_scatter, largest / self.root_scatter, rho
        )
        distance = compute_inner(offset, offset, rho) * (across + along) / 2
        rate = trace + 4 * distance
        floor = self.compute_floor(low, high, rate)
        return _combine(peak, torch.maximum(first.abs(), last.abs()), rate, floor)

    def compute_precision_roots(self, angle: Tensor) -> Tensor:
        """Return `1 / s_1` and `1 / s_2` at `R = 1`, shape `(N, 2)`."""
        sides = torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
        return sides / self.root_scatter

    def _find_offset(self, smallest: Tensor, largest: Tensor, rho: Tensor) -> Tensor:
        if bool((self.mean.abs() <= BOUND).all()):
            return torch.zeros_like(smallest)
        sides = [
            (self.mean + edge) * roots
            for edge in (-BOUND, BOUND)
            for roots in (smallest, largest)
        ]
        return _find_smallest(
            torch.minimum(sides[0], sides[1]), torch.maximum(sides[2], sides[3]), rho
        )

    def _compute_trace(self, sine: Tensor, theta5: Tensor) -> Tensor:
        shrink = 1 - self.correlation * torch.tanh(theta5) * sine
        return shrink * torch.cosh(theta5).square()

    def _minimise_trace(self, sine: Tensor, first: Tensor, last: Tensor) -> Tensor:
        # Convex in theta_5, lowest where tanh(2 theta_5) is correlation times sine.
        lowest = torch.atanh(self.correlation * sine) / 2
        return self._compute_trace(sine, lowest.clamp(first, last))

    def compute_floor(self, low: Tensor, high: Tensor, rate: Tensor) -> Tensor:
        """Bound `t = k R^2 / 2` from below by the prior's box.

        Args:
            low: Lowest angle, shape `(N,)`, radians.
            high: Highest angle; the bound is attained where both are equal.
            rate: The smallest k, shape `(N,)`.
        """
        smallest = self.root_scatter / BOUND**2
        radius = torch.maximum(
            smallest[0] / torch.cos(low), smallest[1] / torch.sin(high)
        )
        return rate * radius.square() / 2


def _find_smallest(low: Tensor, high: Tensor, rho: Tensor) -> Tensor:
    """Find the points of rectangles with the smallest norm, shape `(N, 2)`."""
    candidates = [torch.zeros_like(low).clamp(low, high)]
    for side in (low, high):
        follow = (rho[:, None] * side).flip(-1).clamp(low, high)
        candidates.append(torch.stack([side[:, 0], follow[:, 1]], dim=-1))
        candidates.append(torch.stack([follow[:, 0], side[:, 1]], dim=-1))
    points = torch.stack(candidates)
    best = compute_inner(points, points, rho).argmin(0)
    return points[best, torch.arange(len(low))]


def compute_inner(left: Tensor, right: Tensor, rho: Tensor) -> Tensor:
    """Inner product of offsets in units of the scales; `q` times `1 - rho^2`."""
    crossed = left[..., 0] * right[..., 1] + left[..., 1] * right[..., 0]
    return (left * right).sum(-1) - rho * crossed


def _combine(sine: Tensor, theta5: Tensor, rate: Tensor, floor: Tensor) -> Tensor:
    return (
        1.5 * torch.log(sine)
        + 3 * torch.log(torch.cosh(theta5))
        - 2.5 * torch.log(rate)
        + log_upper_gamma(floor)
    )


def log_upper_gamma(floor: Tensor) -> Tensor:
    """Log of the upper incomplete gamma function of order 5/2, without underflow."""
    root = torch.sqrt(floor)
    tail = 0.75 * math.sqrt(math.pi) * torch.special.erfcx(root)
    return torch.log(tail + root * (floor + 1.5)) - floor
