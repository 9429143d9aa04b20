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
# Targets, and numbers in the largest intermediate result, of a block of all pairs where
# nothing is learned: on a CPU a third of the time that it takes beyond the cache.
_BLOCK_ROWS = 2**9
_BLOCK_ENTRIES = {"cpu": 2**19}
_BLOCK_ENTRIES_ELSEWHERE = 2**24
# Scales of a component stay within these factors of the residuals' of the regression.
_LARGEST_LOG_SCALE = 7.0


class Components(NamedTuple):
    """Components of each condition.

    Attributes:
        height: Log of weight and density at the centre, shape `(N, K)`, nats.
        middle: Centres m, shape `(N, K, D)`.
        scale: Diagonals of the whitening matrices, shape `(N, K, D)`.
        below: What stands below the diagonal, in units of it and row by row, shape
            `(N, K, D (D - 1) / 2)`: the residual of y is scale * (z + below z), where
            z = y - m.
    """

    height: Tensor
    middle: Tensor
    scale: Tensor
    below: Tensor

    @property
    def factor(self) -> Tensor:
        """Lower whitening matrices A of each component, shape `(N, K, D, D)`."""
        size = self.scale.shape[-1]
        rows, columns = torch.tril_indices(
            size, size, offset=-1, device=self.scale.device
        )
        unit = torch.eye(size, dtype=self.scale.dtype, device=self.scale.device)
        factor = unit.expand(*self.scale.shape, size).clone()
        factor[..., rows, columns] = self.below
        return factor * self.scale.unsqueeze(-1)


def pack(components: Components) -> Tensor:
    """Lay components out as rows of features, shape `(N, F)`."""
    return torch.cat([part.flatten(1) for part in components], dim=1)


def count_numbers(num_components: int, num_dims: int) -> tuple[int, int, int, int]:
    """Numbers of each part of packed components."""
    below = num_dims * (num_dims - 1) // 2
    parts = (1, num_dims, num_dims, below)
    height, middle, scale, rest = (num_components * size for size in parts)
    return height, middle, scale, rest


class MixtureHead(nn.Module):
    """The log-density of a mixture where coordinates and components meet.

    Args:
        num_dims: Dimensions of the target, D.
        num_components: Components, K.
        side: `"posterior"` for a density of theta given x, `"likelihood"` for one of x
            given theta.
        num_trials: Independent targets of each condition, T, whose log-densities add.
    """

    _columns: Tensor
    _rows: Tensor

    def __init__(
        self, num_dims: int, num_components: int, side: str, num_trials: int = 1
    ) -> None:
        super().__init__()
        self.num_dims = check_positive_int("num_dims", num_dims)
        self.num_components = check_positive_int("num_components", num_components)
        self.side = check_choice("side", side, SIDES)
        self.num_trials = check_positive_int("num_trials", num_trials)
        self._parts = count_numbers(num_components, num_dims)
        sizes = num_trials * (num_dims + 1), sum(self._parts)
        self._sizes = sizes if side == "posterior" else sizes[::-1]
        # Two products with zeros and ones are quicker than a matrix for each row.
        rows, columns = torch.tril_indices(num_dims, num_dims, offset=-1)
        unit = torch.eye(num_dims)
        self.register_buffer("_columns", unit[:, columns].contiguous(), False)
        self.register_buffer("_rows", unit[rows].contiguous(), persistent=False)

    def forward(self, embedded: Tensor) -> Tensor:
        """Log-ratios of pairs, `cat(embedded theta, embedded x)` -> `(N, 1)`, nats."""
        rows = embedded.flatten(0, -2)
        log_ratio = self.row_pairs(*rows.split(self._sizes, dim=1))
        return log_ratio.reshape(*embedded.shape[:-1], 1)

    def row_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios row by row, `(N, ...)` twice -> `(N,)`, nats."""
        return self._log_density(*self._order(embedded_theta, embedded_x))

    def all_pairs(self, embedded_theta: Tensor, embedded_x: Tensor) -> Tensor:
        """Log-ratios of every pair, `(N, ...)` and `(M, ...)` -> `(N, M)`, nats."""
        target, condition = self._order(embedded_theta, embedded_x)
        target = self._separate(target)
        if torch.is_grad_enabled():
            pairs = self._pair(target, condition)
        else:
            device = condition.device.type
            most = _BLOCK_ENTRIES.get(device, _BLOCK_ENTRIES_ELSEWHERE)
            rows = self.num_components * self.num_dims * min(len(target), _BLOCK_ROWS)
            blocks = condition.split(max(1, most // max(1, rows)))
            parts = [
                torch.cat([self._pair(part, block) for block in blocks], dim=1)
                for part in target.split(_BLOCK_ROWS)
            ]
            pairs = torch.cat(parts)
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
        white = self._whiten(target[:, :-1], components)
        return white.reshape(len(condition), self.num_residuals)

    @property
    def num_residuals(self) -> int:
        """Residuals of each pair."""
        return self.num_trials * self.num_components * self.num_dims

    def unpack(self, condition: Tensor) -> Components:
        """Read components from rows of features; see `pack`."""
        height, *parts = condition.split(self._parts, dim=1)
        count = self.num_components
        middle, scale, below = (
            part.reshape(len(part), count, part.shape[1] // count) for part in parts
        )
        return Components(height, middle, scale, below)

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
        gap = coordinates.unsqueeze(1) - components.middle
        if self.num_dims > 1:
            gap = gap + (components.below * (gap @ self._columns)) @ self._rows
        return components.scale * gap

    def _pair(self, target: Tensor, condition: Tensor) -> Tensor:
        """Every target with every condition, `(N, M)`."""
        components = self.unpack(condition)
        height, factor = components.height, components.factor
        centre = (factor * components.middle.unsqueeze(2)).sum(dim=3)
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
        fixed_correlations: Whether correlations do not depend on the features.
    """

    log_volume: Tensor

    def __init__(
        self,
        num_inputs: int,
        num_dims: int,
        num_components: int,
        log_volume: Tensor,
        fixed_correlations: bool = False,
    ) -> None:
        super().__init__()
        self.num_dims, self.num_components = num_dims, num_components
        self.register_buffer("log_volume", log_volume.float())
        *varying, below = count_numbers(num_components, num_dims)
        self._sizes = (*varying, 0 if fixed_correlations else below)
        self.below = nn.Parameter(torch.zeros(below)) if fixed_correlations else None
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
        shape = (len(rows), self.num_components, self.num_dims)
        weight, offset, log_scale, below = self.linear(rows).split(self._sizes, dim=1)
        if self.below is not None:
            below = self.below.expand(len(rows), -1)
        log_scale = _bound(log_scale)
        height = weight.log_softmax(dim=1) + log_scale.reshape(shape).sum(dim=2)
        height = height + (self.log_volume - self.num_dims / 2 * math.log(2 * math.pi))
        middle = regression.unsqueeze(1) + offset.reshape(shape)
        return torch.cat((height, middle.flatten(1), log_scale.exp(), below), dim=1)


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
