"""Sample in unconstrained space, where a target has no bounds and no decades."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor
from torch.distributions.transforms import (
    IndependentTransform,
    Transform,
    identity_transform,
)

from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.sampling.guided import Guide
from sbi_aalr.sampling.target import BatchLogProb, PairedLogProb, Target


class UnconstrainedTarget:
    """A log-density over transformed parameters, with the transform's Jacobian.

    Args:
        target: Log-density over parameters in prior units.
        theta_transform: From prior units to unconstrained space.
    """

    def __init__(self, target: BatchLogProb, theta_transform: Transform) -> None:
        self._target = target
        self._transform = theta_transform
        self.num_cheap_rows = getattr(target, "num_cheap_rows", 0)

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate unconstrained positions, shape `(C, B, D)` -> `(C, B)`, nats."""
        theta, jacobian = invert(self._transform, position)
        return self._target(theta) - jacobian

    def select(self, index: Tensor) -> "UnconstrainedTarget":
        """The same function for the observations `index` only."""
        return UnconstrainedTarget(self._target.select(index), self._transform)


class PairedUnconstrained(UnconstrainedTarget):
    """The same of a log-density that can also be evaluated at shared parameters."""

    _target: PairedLogProb

    def pair_with(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """Fix positions `(K, D)`: indices of observations `(B',)` -> `(K, B')`."""
        inside, jacobian = invert(self._transform, theta)
        pair = self._target.pair_with(inside)
        return lambda index: pair(index) - jacobian.unsqueeze(1)


@dataclass(frozen=True)
class UnconstrainedSpace(Target):
    """A target whose parameters are those of another in unconstrained space.

    Attributes:
        target: The other one, in prior units.
    """

    target: Target

    @property
    def guide(self) -> Guide | None:
        """What draws from a density close to the posterior; None if nothing does."""
        guide = self.target.guide
        return guide and guide.transformed(self.target.theta_transform)

    def log_prob_fn(self, x: Tensor) -> PairedLogProb:
        """The log-posterior with the Jacobian; see `Target.log_prob_fn`."""
        return PairedUnconstrained(
            self.target.log_prob_fn(x), self.target.theta_transform
        )


def unconstrain(target: Target) -> UnconstrainedSpace:
    """Move a target to unconstrained space.

    Its proposal still draws in prior units; `to_unconstrained` carries draws over.
    """
    transform, log_proposal = target.theta_transform, target.log_proposal

    def evaluate(position: Tensor) -> Tensor:
        theta, jacobian = invert(transform, position)
        return log_proposal(theta) - jacobian

    identity = IndependentTransform(identity_transform, 1)
    return UnconstrainedSpace(target.name, target.proposal, evaluate, identity, target)


def to_unconstrained(theta_transform: Transform, theta: Tensor) -> Tensor:
    """Bring parameters `(..., D)` to unconstrained space; some transforms want rows."""
    return theta_transform(theta.flatten(0, -2)).reshape(theta.shape)


def invert(theta_transform: Transform, position: Tensor) -> tuple[Tensor, Tensor]:
    """Bring positions back to prior units, with log-Jacobians of the transform.

    Args:
        theta_transform: From prior units to unconstrained space.
        position: Unconstrained positions, shape `(..., D)`.

    Returns:
        Parameters in prior units, `(..., D)`, and log-Jacobians `(...)`, nats.
    """
    rows = position.flatten(0, -2)
    theta = theta_transform.inv(rows)
    jacobian = theta_transform.log_abs_det_jacobian(theta, rows)
    return theta.reshape(position.shape), jacobian.reshape(position.shape[:-1])


def constrain(chains: Chains, theta_transform: Transform) -> Chains:
    """Bring unconstrained draws and their log-densities back to prior units."""
    theta, jacobian = invert(theta_transform, chains.theta)
    return replace(chains, theta=theta, log_prob=chains.log_prob + jacobian)
