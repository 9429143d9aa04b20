"""A density that was fitted elsewhere, as a ratio estimator like the others.

sbi's estimators of q(theta|x) (NPE) and of q(x|theta) (NLE) have a log-density of one
side given the other. Less log p(theta), or less a function of x, it is a log-ratio.
"""

from collections.abc import Callable
from typing import Any

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor, nn

from sbi_aalr.checks import check_choice
from sbi_aalr.networks.mixture import SIDES

# Pairs to evaluate at once: flows take much memory for each.
_BLOCK_PAIRS = 2**15
# What a density of zero counts as, nats.
_LOWEST = -1e4
# The name that an estimator has it by; see `NamedBuilder`.
GIVEN_DENSITY = "given_density"


class GivenHead(nn.Module):
    """The log-ratio that a given density stands for.

    Args:
        density: Has `log_prob(input, condition)` with inputs `(1, N, ...)`, as sbi's
            conditional estimators do; not trained further.
        side: `"posterior"` for a density of theta given x, `"likelihood"` for one of x
            given theta.
        theta_shape: Shape of one parameter set.
        x_shape: Shape of one observation.
    """

    def __init__(
        self, density: Any, side: str, theta_shape: torch.Size, x_shape: torch.Size
    ) -> None:
        super().__init__()
        self.density = density.requires_grad_(False)
        self._side = check_choice("side", side, SIDES)
        self._theta_shape, self._x_shape = theta_shape, x_shape
        self._size = theta_shape.numel() + 1

    def forward(self, embedded: Tensor) -> Tensor:
        """Log-ratios of pairs, `cat(embedded theta, embedded x)` -> `(N, 1)`, nats."""
        rows = embedded.flatten(0, -2)
        parts = [self._evaluate(part) for part in rows.split(_BLOCK_PAIRS)]
        return torch.cat(parts).reshape(*embedded.shape[:-1], 1)

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios of every pair, `(N, ...)` and `(M, ...)` -> `(N, M)`, nats."""
        columns = len(embedded_x)
        parts = []
        for theta in embedded_theta.split(max(1, _BLOCK_PAIRS // columns)):
            tiled = theta.repeat_interleave(columns, dim=0)
            rows = torch.cat((tiled, embedded_x.repeat(len(theta), 1)), dim=1)
            parts.append(self._evaluate(rows).view(len(theta), columns))
        return torch.cat(parts)

    def _evaluate(self, rows: Tensor) -> Tensor:
        theta, log_prior = rows[:, : self._size - 1], rows[:, self._size - 1]
        theta = theta.unflatten(1, self._theta_shape)
        x = rows[:, self._size :].unflatten(1, self._x_shape)
        dtype = next(self.density.parameters(), rows).dtype
        theta, x = theta.to(dtype), x.to(dtype)
        if self._side == "posterior":
            log_density = self.density.log_prob(theta.unsqueeze(0), condition=x)[0]
            log_density = log_density - log_prior
        else:
            log_density = self.density.log_prob(x.unsqueeze(0), condition=theta)[0]
        log_density = log_density.to(rows.dtype)
        return log_density.nan_to_num(_LOWEST, neginf=_LOWEST).clamp(min=_LOWEST)


class ThetaWithPrior(nn.Module):
    """Parameters beside their log-density under the prior; zero outside of it.

    Args:
        log_prior: Log-density of the prior, minus infinity outside, nats.
    """

    def __init__(self, log_prior: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._log_prior = log_prior

    def forward(self, theta: Tensor) -> Tensor:
        """Map `(N, D)` to `(N, D + 1)`."""
        value = self._log_prior(theta).nan_to_num(0.0, posinf=0.0, neginf=0.0)
        return torch.cat((theta, value.to(theta).unsqueeze(1)), dim=1)


def wrap_density(
    density: nn.Module,
    side: str,
    log_prior: Callable[[Tensor], Tensor],
    theta: Tensor,
    x: Tensor,
) -> RatioEstimator:
    """Make a ratio estimator of a density of theta given x, or of x given theta.

    Args:
        density: sbi's conditional density estimator.
        side: `"posterior"` or `"likelihood"`.
        log_prior: Log-density of the prior, nats.
        theta: Rows of parameters, shape `(N, D)`, for their shape.
        x: Rows of data, shape `(N, *event_shape)`, for their shape.

    Returns:
        The estimator, in evaluation mode; it remembers the side that it is of.
    """
    shapes = theta.shape[1:], x.shape[1:]
    estimator: Any = RatioEstimator(
        GivenHead(density, side, *shapes), *shapes, ThetaWithPrior(log_prior), Flat()
    )
    estimator.embedded_name = GIVEN_DENSITY
    estimator.classifier_settings = {"is_posterior": int(side == "posterior")}
    return estimator.eval()


class Flat(nn.Module):
    """Data made flat, unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, *event_shape)` to `(N, E)`."""
        return x.flatten(1)
