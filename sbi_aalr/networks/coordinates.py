"""Coordinates in which densities are fitted: unconstrained parameters, scaled data."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from sbi_aalr.networks.regression import regress
from sbi_aalr.networks.scale import Scale, sort_trials

# A column with fewer different values than this share of its rows is one of counts.
_FEW_VALUES = 0.5
# Rows that tell which directions of the data vary, and how far from rounding they do.
_MOST_ROWS, _ROUNDINGS = 100_000, 0.5
# What a feature has less of in a constant sum is not part of it.
_SMALL_PART = 1e-6


class Whiten(nn.Module):
    """A linear map of coordinates to units of a regression's residuals.

    Args:
        num_dims: Dimensions D; it does nothing at first.
    """

    matrix: Tensor

    def __init__(self, num_dims: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(num_dims))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Map `(N, D)` to `(N, D)`."""
        return coordinates @ self.matrix.T

    def invert(self, white: Tensor) -> Tensor:
        """Map `(..., D)` back."""
        solved = torch.linalg.solve_triangular(
            self.matrix, white.flatten(0, -2).T, upper=False
        )
        return solved.T.reshape(white.shape)


class ThetaCoordinates(nn.Module):
    """Unconstrained, standardised parameters, and log|du/dtheta| - log p(theta).

    Outside of the prior's support there are no coordinates; what comes out there is
    finite, so that the prior decides alone.

    Args:
        theta: Draws of the prior to take the scales from, shape `(N, D)`.
        theta_transform: From prior units to unconstrained space.
        log_prior: Log-density of the prior, minus infinity outside, nats.
    """

    location: Tensor
    spread: Tensor

    def __init__(
        self,
        theta: Tensor,
        theta_transform: Transform,
        log_prior: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self._transform, self.log_prior = theta_transform, log_prior
        self._home = theta.device
        self.whiten = Whiten(theta.shape[1])
        inner = self._move(theta)[0].double()
        spread = inner.std(dim=0, correction=0)
        self.register_buffer("location", inner.mean(dim=0).float())
        self.register_buffer(
            "spread", torch.where(spread > 0, spread, torch.ones_like(spread)).float()
        )

    def forward(self, theta: Tensor) -> Tensor:
        """Map parameters `(N, D)` to coordinates and the offset, `(N, D + 1)`."""
        inner, jacobian = self._move(theta)
        log_prior = self.log_prior(theta.to(self._home))
        offset = jacobian - log_prior - self.spread.log().sum().to(self._home)
        inner = ((inner.to(theta.device) - self.location) / self.spread).float()
        inner = self.whiten(inner)
        joined = torch.cat((inner, offset.to(inner).unsqueeze(1)), dim=1)
        return joined.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def has_prior(self, theta: Tensor) -> Tensor:
        """Whether the prior has density at parameters `(..., D)`, bool, `(...)`."""
        return ~self.log_prior(theta.to(self._home)).isneginf().to(theta.device)

    def invert(self, coordinates: Tensor) -> Tensor:
        """Map coordinates `(..., D)` back to parameters in prior units."""
        coordinates = self.whiten.invert(coordinates)
        inner = (coordinates * self.spread + self.location).to(self._home)
        rows = self._transform.inv(inner.flatten(0, -2))
        return rows.reshape(inner.shape).to(coordinates)

    def _move(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Unconstrained parameters, and the log-Jacobian of getting there, nats."""
        rows = theta.to(self._home)
        inner = self._transform(rows)
        return inner, self._transform.log_abs_det_jacobian(rows, inner)


class XCoordinates(nn.Module):
    """Scaled data, flat, with an offset of zero: what depends on x alone is left out.

    So are directions in which no two simulations differ; see `find_variation`.

    Counts get noise of their own step while a density is fitted to them, or it would
    grow without bound on the few values that there are.

    Args:
        x: Simulations to take the scales from, shape `(N, *event_shape)`.
        logarithmic: Which features to take the logarithm of.
        is_exchangeable: Whether x, `(N, T, E)`, are T trials of one distribution.
    """

    step: Tensor

    def __init__(
        self, x: Tensor, logarithmic: Tensor, is_exchangeable: bool = False
    ) -> None:
        super().__init__()
        self._is_exchangeable = is_exchangeable
        x = x.flatten(0, 1) if is_exchangeable else x
        self.scale = Scale(x, logarithmic)
        self.register_buffer("step", find_steps(x))
        self.whiten = Whiten(x[0].numel())
        self.whiten.matrix.copy_(find_variation(x, self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map data `(N, *event_shape)` to `(N, E + 1)`, or `(N, T (E + 1))`."""
        rows, trials = len(x), x.shape[1] if self._is_exchangeable else 1
        if self.scale.sorted is not None:
            # In the order that other structures see, beside whom its residuals stand.
            x = sort_trials(x)
        x = x.flatten(0, 1) if self._is_exchangeable else x
        if self.training and bool(self.step.any()):
            x = x + self.step * (torch.rand(x.shape, device=x.device) - 0.5)
        inner = self.whiten(self.scale(x).flatten(1))
        # Sizes and no -1, which no rows leave open.
        return nn.functional.pad(inner, (0, 1)).reshape(
            rows, trials * (inner.shape[1] + 1)
        )


def find_steps(x: Tensor) -> Tensor:
    """Distance between neighbouring values of counts; 0 for what is continuous.

    Args:
        x: Rows, shape `(N, *event_shape)`.

    Returns:
        Steps, shape `event_shape`.

    Example:
        >>> counts = torch.tensor([0.0, 2.0, 4.0]).repeat(10)
        >>> find_steps(torch.stack((counts, torch.linspace(0, 1, 30)), dim=1))
        tensor([2., 0.])
    """
    steps = []
    for column in x.flatten(1).T:
        values = column.unique()
        few = len(values) <= _FEW_VALUES * len(column)
        is_count = len(values) > 1 and few
        steps.append(values.diff().min() if is_count else column.new_zeros(()))
    return torch.stack(steps).reshape(x.shape[1:]).float()


def find_variation(x: Tensor, scale: Scale) -> Tensor:
    """Project scaled data on the directions in which simulations differ.

    A constant number, or the sum of others beside them, tells nothing. But where an
    observation is off the constant or the sum, by rounding say, its density would be as
    good as zero whatever theta, and all else be lost in the rounding of its logarithm.

    Args:
        x: Rows, shape `(N, *event_shape)`.
        scale: What scales them.

    Returns:
        The projection, shape `(E, E)`; the identity where all directions vary.

    Example:
        >>> x = torch.linspace(0, 1, 50).unsqueeze(1)
        >>> find_variation(torch.cat((x, torch.ones_like(x)), dim=1), Scale(x))
        tensor([[1., 0.],
                [0., 0.]])
    """
    rows = x[:_MOST_ROWS]
    scaled = scale(rows).flatten(1).double()
    spread = scaled.std(dim=0, correction=0)
    # What rounding does to each number before it is scaled, in its spreads, and after.
    size = rows.flatten(1).double().square().mean(dim=0).sqrt()
    if scale.logarithmic is not None:
        size = torch.where(scale.logarithmic.flatten(), 1.0, size)
    kind = torch.float64 if rows.dtype == torch.float64 else torch.float32
    step = torch.finfo(kind).eps * size / scale.spread.flatten() / spread
    rounding = (step + torch.finfo(torch.float32).eps) / 12**0.5
    keep = (spread > 0) & (rounding < _ROUNDINGS)
    projection = torch.diag(keep.double())
    # Of fewer rows than numbers some sum is always constant.
    if len(rows) > 2 * scaled.shape[1] and keep.any():
        standard = (scaled - scaled.mean(dim=0))[:, keep] / spread[keep]
        values, vectors = torch.linalg.eigh(standard.T @ standard / len(standard))
        blur = (vectors.square().T @ rounding[keep].square()).sqrt()
        fixed = vectors[:, values.clamp(min=0).sqrt() < blur / _ROUNDINGS]
        if fixed.shape[1]:
            lost = spread[keep, None] * (fixed @ fixed.T) / spread[keep]
            kept = keep.nonzero()[:, 0]
            projection[kept[:, None], kept] -= lost
    return projection.float()


def choose_logarithms(theta: Tensor, x: Tensor) -> Tensor:
    """Which positive features are closer to Gaussian, given theta, as logarithms.

    The two densities are compared in x's own units: a logarithm has a Jacobian. What is
    a sum of other features, or one of these, stays as it is, and so the sum linear.

    Args:
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.

    Returns:
        Booleans, shape `event_shape`.
    """
    flat = x.flatten(1).double()
    chosen = torch.zeros(flat.shape[1], dtype=torch.bool, device=x.device)
    is_positive = (flat > 0).all(dim=0)
    if is_positive.any():
        variation = find_variation(x, Scale(x, chosen.view(x.shape[1:])))
        is_positive &= variation.diagonal() > 1 - _SMALL_PART
    positive = is_positive.nonzero()[:, 0]
    if len(positive):
        features = Scale(theta)(theta).clamp(-8, 8)
        features = torch.cat((features, features.square()), dim=1)
        plain, logs = flat[:, positive], flat[:, positive].log()
        entropy = [-_measure_height(features, values) for values in (plain, logs)]
        chosen[positive] = entropy[1] + logs.mean(dim=0) < entropy[0]
    return chosen.reshape(x.shape[1:])


def _measure_height(features: Tensor, values: Tensor) -> Tensor:
    """Minus the log of the residuals' standard deviation, shape `(E,)`."""
    found = regress(features, values)
    residuals = values - features.double() @ found.slope.double() - found.intercept
    return -residuals.std(dim=0).clamp(min=1e-30).log()
