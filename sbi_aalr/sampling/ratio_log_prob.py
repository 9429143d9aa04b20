"""The log-posterior of a ratio estimator, over chains and observations at once.

The data are embedded once per observation and never again, rows are evaluated in blocks
that fit the cache, and the log-ratios of i.i.d. trials are summed.
"""

import copy
from collections.abc import Callable

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.networks.pairs import take_apart
from sbi_aalr.types import LogProbFn

# Entries of a layer's output in one block of rows. On a CPU a 256-wide network runs at
# 156 GFLOP/s on 1,000 rows, which fit the cache, and at 80 on 10,000; a GPU wants many.
_BLOCK_ENTRIES = {"cpu": 2**18}
_BLOCK_ENTRIES_ELSEWHERE = 2**26
# Rows in a block at most: the layers that embed parameters may be wider than the head.
_BLOCK_ROWS = {"cpu": 2**11}
# Rows that a network takes hardly longer for than for a few.
_CHEAP_ROWS = 128


class RatioLogProb:
    """log r(x|theta) + log p(theta), which is log p(theta|x) for the exact ratio.

    Args:
        estimator: The ratio estimator.
        log_prior: Log-density of the prior that it was trained with, nats.
        x: Observations with their trials, shape `(B, T, *event_shape)`.

    Attributes:
        num_cheap_rows: Positions up to which a call takes hardly longer than for a few.
    """

    def __init__(
        self, estimator: RatioEstimator, log_prior: LogProbFn, x: Tensor
    ) -> None:
        self.num_cheap_rows = _CHEAP_ROWS // x.shape[1]
        self._log_prior = log_prior
        self._parts = take_apart(estimator)
        self._entries = _BLOCK_ENTRIES.get(x.device.type, _BLOCK_ENTRIES_ELSEWHERE)
        self._most_rows = _BLOCK_ROWS.get(x.device.type, self._entries)
        weights = [p for p in estimator.net.parameters() if p.ndim == 2]
        self._width = max((len(weight) for weight in weights), default=1)
        with torch.no_grad():
            rows = self._parts.embed_x(x.flatten(0, 1))
        self._set_x(rows.unflatten(0, x.shape[:2]))

    def select(self, index: Tensor) -> "RatioLogProb":
        """The same function for the observations `index` only."""
        chosen = copy.copy(self)
        chosen._set_x(self._x[index])
        return chosen

    def _set_x(self, x: Tensor) -> None:
        """Tile the observations, so that any block of rows is a slice of them."""
        observations, trials = x.shape[:2]
        self._x = x
        row = trials * max(self._width, x[0, 0].numel())
        self._block = min(self._most_rows, max(1, self._entries // row))
        repeats = -(-self._block // observations) + 1
        self._tiled = x.repeat(repeats, *[1] * (x.ndim - 1))

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate positions, shape `(C, B, D)` -> `(C, B)`, nats.

        Where the prior has no density, the network is not asked.
        """
        log_prior = self._log_prior(position)
        inside = ~log_prior.isneginf()
        if not torch.is_grad_enabled() and not inside.all():
            return self._evaluate_inside(position, log_prior, inside)
        return self.log_ratio(position) + log_prior

    def _evaluate_inside(
        self, position: Tensor, log_prior: Tensor, inside: Tensor
    ) -> Tensor:
        where = inside.nonzero(as_tuple=True)
        if len(where[0]) == 0:
            return log_prior
        theta, index = position[where], where[1]
        rows = zip(theta.split(self._block), index.split(self._block), strict=True)
        log_ratio = [self._evaluate(part, self._x[own]) for part, own in rows]
        log_prob = log_prior.clone()
        log_prob[where] += torch.cat(log_ratio)
        return log_prob

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The same log-density at parameters that all observations share.

        Where the network is separable, these are embedded once for all observations,
        and meet any number of them in one matrix product.

        Args:
            theta: Parameters, shape `(K, D)`.

        Returns:
            A function of indices of observations, `(B',)` -> `(K, B')`, nats.
        """
        log_prior = self._log_prior(theta).unsqueeze(1)
        combine_all = self._parts.combine_all
        if combine_all is None:
            return lambda index: (
                self.select(index).log_ratio(
                    theta.unsqueeze(1).expand(-1, len(index), -1)
                )
                + log_prior
            )
        rows = max(1, self._entries // self._width)
        embedded = torch.cat([self._parts.embed_theta(t) for t in theta.split(rows)])

        def pair(index: Tensor) -> Tensor:
            x = self._x[index]
            log_ratio = combine_all(embedded, x.flatten(0, 1))
            return log_ratio.unflatten(1, x.shape[:2]).sum(dim=-1) + log_prior

        return pair

    def log_ratio(self, position: Tensor) -> Tensor:
        """Log-ratios summed over trials, shape `(C, B, D)` -> `(C, B)`, nats."""
        chains, observations, _ = position.shape
        theta = position.flatten(0, 1)
        pieces = []
        for start in range(0, theta.shape[0], self._block):
            piece = theta[start : start + self._block]
            offset = start % observations
            x = self._tiled[offset : offset + piece.shape[0]]
            pieces.append(self._evaluate(piece, x))
        log_ratio = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return log_ratio.reshape(chains, observations)

    def _evaluate(self, theta: Tensor, x: Tensor) -> Tensor:
        """Log-ratios of `(M, D)` against `(M, T, ...)`, summed over `T`."""
        trials = x.shape[1]
        embedded = self._parts.embed_theta(theta)
        if trials > 1:
            embedded = embedded.repeat_interleave(trials, dim=0)
        logit = self._parts.combine(embedded, x.flatten(0, 1))
        return logit if trials == 1 else logit.reshape(-1, trials).sum(dim=-1)
