"""The log-posterior over chains and observations, from sbi's potentials.

For a ratio-based potential the data are embedded once per observation and never again,
rows are evaluated in blocks that fit the cache, and i.i.d. trials are summed. Any other
potential is evaluated as it is, one observation at a time.
"""

import copy
from collections.abc import Callable

import torch
from sbi.inference.potentials.base_potential import BasePotential
from sbi.inference.potentials.ratio_based_potential import RatioBasedPotential
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor

from sbi_aalr.checks import check_finite
from sbi_aalr.networks import is_plain
from sbi_aalr.sampling.log_prior import prior_log_prob_fn

# Entries of a layer's output in one block of rows. On a CPU a 256-wide network runs at
# 156 GFLOP/s on 1,000 rows, which fit the cache, and at 80 on 10,000; a GPU wants many.
_BLOCK_ENTRIES = {"cpu": 2**18}
_BLOCK_ENTRIES_ELSEWHERE = 2**26


class RatioLogProb:
    """log r(x|theta) + log p(theta), up to log p(theta|x) exactly, over a batch.

    Args:
        potential_fn: The ratio estimator with its prior.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
    """

    def __init__(self, potential_fn: RatioBasedPotential, x: Tensor) -> None:
        self._prior_log_prob = prior_log_prob_fn(potential_fn.prior)
        self._estimator = potential_fn.ratio_estimator
        self._splits = is_plain(self._estimator)
        self._entries = _BLOCK_ENTRIES.get(x.device.type, _BLOCK_ENTRIES_ELSEWHERE)
        weights = [p for p in self._estimator.net.parameters() if p.ndim == 2]
        self._width = max((len(weight) for weight in weights), default=1)
        if self._splits:
            with torch.no_grad():
                rows = self._estimator.embedding_net_x(x.flatten(0, 1))
            x = rows.unflatten(0, x.shape[:2])
        self._set_x(x)

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
        self._block = max(1, self._entries // row)
        repeats = -(-self._block // observations) + 1
        self._tiled = x.repeat(repeats, *[1] * (x.ndim - 1))

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate positions, shape `(C, B, D)` -> `(C, B)`, nats."""
        return self.log_ratio(position) + self._prior_log_prob(position)

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The same log-density at parameters that all observations share.

        Where the network is separable, these are embedded once for all observations,
        and meet any number of them in one matrix product.

        Args:
            theta: Parameters, shape `(K, D)`.

        Returns:
            A function of indices of observations, `(B',)` -> `(K, B')`, nats.
        """
        log_prior = self._prior_log_prob(theta).unsqueeze(1)
        all_pairs = getattr(self._estimator.net, "all_pairs", None)
        if not self._splits or all_pairs is None:
            return lambda index: (
                self.select(index).log_ratio(
                    theta.unsqueeze(1).expand(-1, len(index), -1)
                )
                + log_prior
            )
        rows = max(1, self._entries // self._width)
        embedded = torch.cat(
            [self._estimator.embedding_net_theta(part) for part in theta.split(rows)]
        )

        def pair(index: Tensor) -> Tensor:
            x = self._x[index]
            log_ratio = all_pairs(embedded, x.flatten(0, 1))
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
        x = x.flatten(0, 1)
        if self._splits:
            theta = self._estimator.embedding_net_theta(theta)
        if trials > 1:
            theta = theta.repeat_interleave(trials, dim=0)
        if self._splits:
            logit = self._estimator.net(torch.cat((theta, x), dim=-1)).squeeze(-1)
        else:
            logit = self._estimator(theta, x)
        return logit if trials == 1 else logit.reshape(-1, trials).sum(dim=-1)


class CallableLogProb:
    """Any sbi potential, evaluated one observation at a time.

    Args:
        potential_fn: The potential.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
    """

    def __init__(self, potential_fn: BasePotential, x: Tensor) -> None:
        self._potential_fn = potential_fn
        self._x = x

    def select(self, index: Tensor) -> "CallableLogProb":
        """The same function for the observations `index` only."""
        return CallableLogProb(self._potential_fn, self._x[index])

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The same log-density at parameters `(K, D)` that all observations share."""
        return lambda index: self.select(index)(
            theta.unsqueeze(1).expand(-1, len(index), -1)
        )

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate positions, shape `(C, B, D)` -> `(C, B)`, nats."""
        columns = []
        for observation in range(position.shape[1]):
            self._potential_fn.set_x(self._x[observation])
            column = self._potential_fn(
                position[:, observation], track_gradients=torch.is_grad_enabled()
            )
            columns.append(column.reshape(-1))
        return torch.stack(columns, dim=1)


def log_prob_fn(
    potential_fn: BasePotential, x: Tensor
) -> RatioLogProb | CallableLogProb:
    """Choose the fastest evaluation that a potential allows.

    Args:
        potential_fn: Any sbi potential.
        x: Observations with their trials, shape `(B, T, *event_shape)`.

    Returns:
        A function of positions `(C, B, D)` with a method `select` that keeps some of
        the observations.
    """
    if isinstance(potential_fn, RatioBasedPotential):
        return RatioLogProb(potential_fn, x)
    return CallableLogProb(potential_fn, x)


def check_estimator(estimator: object) -> RatioEstimator:
    """Return the estimator, or raise if it is no `RatioEstimator`."""
    if isinstance(estimator, RatioEstimator):
        return estimator
    raise TypeError(
        f"`estimator` must be a RatioEstimator, got {type(estimator).__name__}. Pass "
        "what `train` returned."
    )


def check_x(x: object, potential_fn: BasePotential) -> Tensor:
    """Return observations as float32 rows `(n, *event_shape)`, or raise.

    Args:
        x: One observation, shape `event_shape`, or several rows of that shape.
        potential_fn: Knows the event shape, if it has a ratio estimator.

    Raises:
        TypeError: If `x` is not made of numbers.
        ValueError: If it is empty, has another shape than in training, NaN or infinity.
    """
    try:
        rows = torch.as_tensor(x, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`x` must be a tensor or an array of numbers, got {type(x).__name__}."
        ) from error
    estimator = getattr(potential_fn, "ratio_estimator", None)
    shape = getattr(estimator, "condition_shape", None)
    if shape is None:
        rows = torch.atleast_2d(rows)
    elif rows.shape == shape:
        rows = rows.unsqueeze(0)
    elif rows.shape[1:] != shape:
        many = ", ".join(["n", *map(str, shape)])
        raise ValueError(
            f"`x` must have shape {tuple(shape)} or ({many}), as in training, got "
            f"{tuple(rows.shape)}."
        )
    if rows.numel() == 0:
        raise ValueError(f"`x` must not be empty, got shape {tuple(rows.shape)}.")
    return check_finite("x", rows)


def check_theta(theta: object, potential_fn: BasePotential) -> Tensor:
    """Return parameters as float32 rows `(N, D)`, or raise.

    Args:
        theta: Parameters, shape `(N, D)` or `(D,)`.
        potential_fn: Knows `D`, if it has a ratio estimator.

    Raises:
        TypeError: If `theta` is not made of numbers.
        ValueError: If it is empty, has another width than in training, NaN or infinity.
    """
    try:
        rows = torch.atleast_2d(torch.as_tensor(theta, dtype=torch.float32))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`theta` must be a tensor or an array of numbers, got "
            f"{type(theta).__name__}."
        ) from error
    estimator = getattr(potential_fn, "ratio_estimator", None)
    width = getattr(estimator, "input_shape", rows.shape[1:])
    if rows.ndim != 2 or rows.shape[1:] != width or rows.numel() == 0:
        raise ValueError(
            f"`theta` must have shape (N, {width[0]}), as in training, got "
            f"{tuple(rows.shape)}."
        )
    return check_finite("theta", rows)
