r"""Conditional mixtures of Gaussians as ratios, from either side of Bayes' rule.

By Bayes' rule the log-ratio is a log-density less a function of one side alone,

    log r(x|theta) = log q(theta|x) - log p(theta) = log q(x|theta) - log p(x).

So a normalised conditional density q is a ratio estimator, and maximum likelihood fits
it. One side is what the density is of, the target, and the other its condition. An
embedding net makes coordinates of the target and an offset that depends on it alone;
the other makes the components of the condition. What meets in the head is a quadratic
form for each component, so that one matrix product gives all pairs of a batch.

References:
    Bishop (1994), *Mixture density networks*, Aston University; Papamakarios & Murray
    (2016), arXiv:1605.06376, for q(theta|x); Papamakarios et al. (2019),
    arXiv:1805.07226, for q(x|theta).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sbi_aalr.checks import check_choice, check_positive_int

SIDES = ("posterior", "likelihood")
# Numbers in the largest intermediate result of all pairs, where nothing is learned.
_BLOCK_ENTRIES = 2**24
# Scales of a component stay within these factors of the residuals' of the regression.
_LARGEST_LOG_SCALE = 7.0


class Components(NamedTuple):
    """Components of each condition, in the form that evaluates quickest.

    Attributes:
        height: Log of weight and density at the centre, shape `(N, K)`, nats.
        factor: Whitening matrices A of each component, shape `(N, K, D, D)`: the
            residual of y is A y - b.
        centre: The vectors b, shape `(N, K, D)`.
    """

    height: Tensor
    factor: Tensor
    centre: Tensor


def pack(components: Components) -> Tensor:
    """Lay components out as rows of features, shape `(N, K (1 + D + D^2))`."""
    return torch.cat([part.flatten(1) for part in components], dim=1)


class MixtureHead(nn.Module):
    """The log-density of a mixture where coordinates and components meet.

    Args:
        num_dims: Dimensions of the target, D.
        num_components: Components, K.
        side: `"posterior"` for a density of theta given x, `"likelihood"` for one of x
            given theta.
        num_trials: Independent targets of each condition, T, whose log-densities add.
    """

    def __init__(
        self, num_dims: int, num_components: int, side: str, num_trials: int = 1
    ) -> None:
        super().__init__()
        self.num_dims = check_positive_int("num_dims", num_dims)
        self.num_components = check_positive_int("num_components", num_components)
        self.side = check_choice("side", side, SIDES)
        self.num_trials = check_positive_int("num_trials", num_trials)
        sizes = (
            num_trials * (num_dims + 1),
            num_components * (1 + num_dims + num_dims**2),
        )
        self._sizes = sizes if side == "posterior" else sizes[::-1]

    def forward(self, embedded: Tensor) -> Tensor:
        """Log-ratios of pairs, `cat(embedded theta, embedded x)` -> `(N, 1)`, nats."""
        rows = embedded.flatten(0, -2)
        log_ratio = self._log_density(*self._order(*rows.split(self._sizes, dim=1)))
        return log_ratio.reshape(*embedded.shape[:-1], 1)

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios of every pair, `(N, ...)` and `(M, ...)` -> `(N, M)`, nats."""
        target, condition = self._order(embedded_theta, embedded_x)
        target = self._separate(target)
        entries = len(condition) * self.num_components * self.num_dims
        rows = max(1, _BLOCK_ENTRIES // max(1, entries))
        if not torch.is_grad_enabled() and len(target) > rows:
            parts = [self._pair(part, condition) for part in target.split(rows)]
            pairs = torch.cat(parts)
        else:
            pairs = self._pair(target, condition)
        if self.num_trials > 1:
            pairs = pairs.unflatten(0, (-1, self.num_trials)).sum(dim=1)
        return pairs if self.side == "posterior" else pairs.T

    def residuals(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Whitened residuals of pairs under every component, row by row.

        Args:
            embedded_theta: Shape `(N, ...)`.
            embedded_x: Shape `(N, ...)`.

        Returns:
            Residuals, shape `(N, T K D)`, in standard deviations.
        """
        target, condition = self._order(embedded_theta, embedded_x)
        target, components = self._separate(target), self._repeat(condition)
        return self._whiten(target[:, :-1], components).reshape(len(condition), -1)

    @property
    def num_residuals(self) -> int:
        """Residuals of each pair."""
        return self.num_trials * self.num_components * self.num_dims

    def unpack(self, condition: Tensor) -> Components:
        """Read components from rows of features; see `pack`."""
        count, size = self.num_components, self.num_dims
        parts = condition.split((count, count * size**2, count * size), dim=1)
        height, factor, centre = parts
        return Components(
            height,
            factor.unflatten(1, (count, size, size)),
            centre.unflatten(1, (count, size)),
        )

    def _order(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Target and condition."""
        return (theta, x) if self.side == "posterior" else (x, theta)

    def _separate(self, target: Tensor) -> Tensor:
        """Trials as rows of their own."""
        return target.reshape(-1, self.num_dims + 1)

    def _repeat(self, condition: Tensor) -> Components:
        """Components of the condition of each trial."""
        if self.num_trials > 1:
            condition = condition.repeat_interleave(self.num_trials, dim=0)
        return self.unpack(condition)

    def _log_density(self, target: Tensor, condition: Tensor) -> Tensor:
        target, components = self._separate(target), self._repeat(condition)
        squares = self._whiten(target[:, :-1], components).square().sum(dim=-1)
        density = _add_up(components.height - squares / 2) + target[:, -1]
        if self.num_trials > 1:
            density = density.unflatten(0, (-1, self.num_trials)).sum(dim=1)
        return density

    def _whiten(self, coordinates: Tensor, components: Components) -> Tensor:
        factor = components.factor.flatten(1, 2)
        white = torch.bmm(factor, coordinates.unsqueeze(-1)).squeeze(-1)
        return white.unflatten(1, (-1, self.num_dims)) - components.centre

    def _pair(self, target: Tensor, condition: Tensor) -> Tensor:
        """Every target with every condition, `(N, M)`."""
        height, factor, centre = self.unpack(condition)
        # The components come last: sums over dimensions then run along whole rows.
        matrix = factor.permute(3, 2, 0, 1).flatten(1)
        white = torch.addmm(
            centre.permute(2, 0, 1).flatten().unsqueeze(0),
            target[:, :-1],
            matrix,
            beta=-1,
        )
        squares = white.unflatten(1, (self.num_dims, -1)).square().sum(dim=1)
        logits = height.flatten() - squares / 2
        pairs = _add_up(logits.unflatten(1, (-1, self.num_components)))
        return pairs + target[:, -1:]


class MixtureLayer(nn.Module):
    """A last layer that gives components around a linear regression.

    Everything is in units of the regression's residuals, which coordinates are whitened
    by: there, components are of order one however narrow the density is.

    Args:
        num_inputs: Features that come in.
        num_dims: Dimensions of the target, D.
        num_components: Components, K.
        log_volume: Log-determinant of the whitening, nats.
    """

    log_volume: Tensor
    _places: Tensor
    _rows: Tensor

    def __init__(
        self, num_inputs: int, num_dims: int, num_components: int, log_volume: Tensor
    ) -> None:
        super().__init__()
        self.num_dims, self.num_components = num_dims, num_components
        self.register_buffer("log_volume", log_volume.float())
        places = torch.tril_indices(num_dims, num_dims, offset=-1)
        self.register_buffer("_places", places[0] * num_dims + places[1], False)
        self.register_buffer("_rows", places[0], persistent=False)
        self._sizes = [
            num_components * size for size in (1, num_dims, num_dims, places.shape[1])
        ]
        self.linear = nn.Linear(num_inputs, sum(self._sizes))
        # At first nothing depends on the features, and the components differ a little.
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            self.linear.bias.zero_()
            if num_components > 1:
                spread = self.linear.bias[num_components:][: self._sizes[1]]
                spread.normal_(std=0.7)

    def forward(self, rows: Tensor, regression: Tensor) -> Tensor:
        """Make packed components of features `(N, F)` and the regression `(N, D)`."""
        count, size = self.num_components, self.num_dims
        weight, offset, log_scale, below = self.linear(rows).split(self._sizes, dim=1)
        middle = regression.unsqueeze(1) + offset.unflatten(1, (count, size))
        log_scale = _bound(log_scale).unflatten(1, (count, size))
        scale = log_scale.exp()
        factor = torch.diag_embed(scale)
        if size > 1:
            entries = below.unflatten(1, (count, -1)) * scale[..., self._rows]
            places = self._places.expand(entries.shape)
            factor = (
                factor.flatten(2).scatter(2, places, entries).unflatten(2, (size, size))
            )
        centre = (factor * middle.unsqueeze(2)).sum(dim=3)
        height = weight.log_softmax(dim=1) + log_scale.sum(dim=2) + self.log_volume
        height = height - size / 2 * math.log(2 * math.pi)
        return pack(Components(height, factor, centre))


def _add_up(logits: Tensor) -> Tensor:
    """Log of the sum of exponentials over the last dimension.

    By hand, as torch's own spends more on infinities than all else here takes.
    """
    if logits.shape[-1] == 1:
        return logits.squeeze(-1)
    top = logits.detach().amax(dim=-1, keepdim=True)
    return (logits - top).exp().sum(dim=-1).log() + top.squeeze(-1)


def _bound(log_scale: Tensor) -> Tensor:
    """Bound smoothly, as one that is cut off could not come back."""
    return _LARGEST_LOG_SCALE * torch.tanh(log_scale / _LARGEST_LOG_SCALE)
