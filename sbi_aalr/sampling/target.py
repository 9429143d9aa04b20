"""What is sampled: a log-posterior over chains and observations at once."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import Transform

from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.sampling.guided import Guide, find_guide
from sbi_aalr.sampling.log_prior import LogPrior
from sbi_aalr.sampling.ratio_log_prob import RatioLogProb
from sbi_aalr.types import LogProbFn

# Nats between neighbouring log-densities, near the largest, that are told of.
_LARGEST_STEP = 0.01


class BatchLogProb(Protocol):
    """A log-density over chains and observations that can drop observations."""

    def __call__(self, position: Tensor, /) -> Tensor:
        """Map positions `(C, B, D)` to log-densities `(C, B)`, nats."""
        ...

    def select(self, index: Tensor) -> "BatchLogProb":
        """The same function for the observations `index` only."""
        ...


class PairedLogProb(BatchLogProb, Protocol):
    """One that can also be evaluated at parameters that all observations share."""

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Fix parameters `(K, D)`: indices of observations `(B',)` -> `(K, B')`."""
        ...


class Potential(Protocol):
    """A log-density of one observation at a time, as sbi's potentials are."""

    def set_x(self, x_o: Tensor) -> object:
        """Choose the observation, shape `(T, *event_shape)`."""
        ...

    def __call__(self, theta: Tensor, track_gradients: bool) -> Tensor:
        """Evaluate parameters `(N, D)` -> `(N,)`, nats."""
        ...


@dataclass(frozen=True)
class Target:
    """What is sampled, whatever the observations.

    Attributes:
        name: What kind of potential it is.
        proposal: Where candidates for the starts come from.
        log_proposal: Log-density of the proposal, nats.
        theta_transform: From prior units to unconstrained space, for kernels that need
            a target without bounds.
    """

    name: str
    proposal: Distribution
    log_proposal: LogProbFn
    theta_transform: Transform

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may evaluate it at once."""
        return False

    @property
    def ratio_dim(self) -> int | None:
        """Number of parameters of the ratio estimator; None if there is none."""
        return None

    @property
    def guide(self) -> Guide | None:
        """What draws from a density close to the posterior; None if nothing does."""
        return None

    def log_prob_fn(self, x: Tensor) -> PairedLogProb:
        """The log-posterior of some observations, up to a constant of each.

        Args:
            x: Observations with their trials, shape `(B, T, *event_shape)`.
        """
        raise NotImplementedError

    def log_prob_fn_of_one(self, x: Tensor) -> LogProbFn:
        """The log-posterior of one observation, which maps `(N, D)` to `(N,)`, nats.

        Args:
            x: The observation with its trials, shape `(T, *event_shape)`.
        """
        log_prob_fn = self.log_prob_fn(x.unsqueeze(0))
        return lambda theta: log_prob_fn(theta.unsqueeze(1))[:, 0]


@dataclass(frozen=True)
class RatioTarget(Target):
    """A ratio estimator with its prior.

    Attributes:
        estimator: The ratio estimator.
        prior: The prior that it was trained with.
        log_prior: Log-density of the prior, nats.
    """

    estimator: RatioEstimator
    prior: Distribution
    log_prior: LogPrior

    @property
    def is_thread_safe(self) -> bool:
        """Networks only read their weights."""
        return True

    @property
    def ratio_dim(self) -> int:
        """Number of parameters of the ratio estimator."""
        return self.estimator.input_shape.numel()

    @property
    def guide(self) -> Guide | None:
        """The density that a stack keeps beside its ratio."""
        return find_guide(self.estimator)

    def log_prob_fn(self, x: Tensor) -> RatioLogProb:
        """Log r(x|theta) + log p(theta); see `Target.log_prob_fn`."""
        return RatioLogProb(self.estimator, self.log_prior, x)


@dataclass(frozen=True)
class CallableTarget(Target):
    """Any other log-posterior.

    It has no density where the proposal has none, so that the prior bounds it whatever
    the kernel. Kernels in unconstrained space could not leave the prior anyway.

    Attributes:
        potential: The log-posterior of one observation at a time, up to a constant.
    """

    potential: Potential

    def log_prob_fn(self, x: Tensor) -> "CallableLogProb":
        """The potential, one observation after the other; see `Target.log_prob_fn`."""
        return CallableLogProb(self.potential, self.log_proposal, x)


class CallableLogProb:
    """Any potential, evaluated one observation at a time.

    Args:
        potential: The potential.
        log_proposal: Minus infinity where there is no density, nats.
        x: Observations with their trials, shape `(B, T, *event_shape)`.
    """

    def __init__(
        self, potential: Potential, log_proposal: LogProbFn, x: Tensor
    ) -> None:
        self._potential = potential
        self._log_proposal = log_proposal
        self._x = x

    def select(self, index: Tensor) -> "CallableLogProb":
        """The same function for the observations `index` only."""
        return CallableLogProb(self._potential, self._log_proposal, self._x[index])

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The same log-density at parameters `(K, D)` that all observations share."""

        def pair(index: Tensor) -> Tensor:
            values = self.select(index)(theta.unsqueeze(1).expand(-1, len(index), -1))
            _check_numbers(values, theta)
            return values

        return pair

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate positions, shape `(C, B, D)` -> `(C, B)`, nats."""
        with torch.no_grad():
            inside = ~self._log_proposal(position).isneginf()
        if not inside.any():
            return torch.full_like(position[..., 0], -torch.inf)
        # Not every potential can be evaluated outside.
        safe = torch.where(inside.unsqueeze(-1), position, position[inside][0])
        columns = []
        for observation in range(position.shape[1]):
            self._potential.set_x(self._x[observation])
            column = self._potential(
                safe[:, observation], track_gradients=torch.is_grad_enabled()
            )
            columns.append(_check_form(column, safe[:, observation]))
        return torch.stack(columns, dim=1).where(inside, -torch.inf)


def _check_form(values: object, theta: Tensor) -> Tensor:
    """Return what a potential gave for parameters `(N, D)`, shape `(N,)`, or raise."""
    if not isinstance(values, Tensor):
        raise TypeError(
            "`potential_fn` must return a tensor, a number for each row of theta, got "
            f"{type(values).__name__}."
        )
    is_one = values.numel() == len(theta) == 1
    if not is_one and values.shape not in ((len(theta),), (len(theta), 1)):
        raise ValueError(
            f"`potential_fn` must return {len(theta)} numbers, (N,), for {len(theta)} "
            f"rows of theta, got shape {tuple(values.shape)}. Sum over the last "
            "dimension alone, as by `.sum(dim=-1)`."
        )
    return values.reshape(-1).to(theta.dtype)


def _check_numbers(values: Tensor, theta: Tensor) -> None:
    """Raise if values `(K, B)` of a potential at draws of the prior are no numbers.

    Chains may go where a potential overflows; draws of the prior should not.

    Warns:
        PrecisionWarning: If the largest of them are so large that rounding shows.
    """
    bad = values.isnan() | values.isposinf()
    if bad.any():
        row, observation = bad.nonzero()[0].tolist()
        raise ValueError(
            "`potential_fn` must return numbers, or minus infinity where there is no "
            f"density, got {float(values[row, observation])} for theta = "
            f"{theta[row].tolist()}."
        )
    top = values.amax(dim=0)
    size = float(top.where(top.isfinite(), 0).abs().max())
    step = torch.finfo(values.dtype).eps * size
    if step > _LARGEST_STEP:
        warnings.warn(
            PrecisionWarning(
                f"`potential_fn` returns numbers of the size of {size:.3g}, of which "
                f"{values.dtype} cannot tell those apart that are closer than "
                f"{step:.2g}. Subtract a constant in it.",
                step,
            ),
            stacklevel=2,
        )
