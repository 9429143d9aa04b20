"""Sample in unconstrained space, for kernels that need a target without bounds."""

from dataclasses import replace

from torch import Tensor
from torch.distributions.transforms import Transform

from sbi_aalr.mcmc.chains import Chains
from sbi_aalr.sampling.target import BatchLogProb


class UnconstrainedTarget:
    """A log-density over transformed parameters, with the transform's Jacobian.

    Args:
        target: Log-density over parameters in prior units.
        theta_transform: From prior units to unconstrained space.
    """

    def __init__(self, target: BatchLogProb, theta_transform: Transform) -> None:
        self._target = target
        self._transform = theta_transform

    def __call__(self, position: Tensor) -> Tensor:
        """Evaluate unconstrained positions, shape `(C, B, D)` -> `(C, B)`, nats."""
        theta = self._transform.inv(position)
        jacobian = self._transform.log_abs_det_jacobian(theta, position)
        return self._target(theta) - jacobian

    def select(self, index: Tensor) -> "UnconstrainedTarget":
        """The same function for the observations `index` only."""
        return UnconstrainedTarget(self._target.select(index), self._transform)


def constrain(chains: Chains, theta_transform: Transform) -> Chains:
    """Bring unconstrained draws and their log-densities back to prior units."""
    theta = theta_transform.inv(chains.theta)
    jacobian = theta_transform.log_abs_det_jacobian(theta, chains.theta)
    return replace(chains, theta=theta, log_prob=chains.log_prob + jacobian)
