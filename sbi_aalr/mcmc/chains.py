"""The container that draws of many chains travel in."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Chains:
    """Draws of `C` chains for each of `B` observations, oldest draw first.

    Attributes:
        theta: Draws, shape `(C, S, B, D)`, prior units.
        log_prob: Log-density of each draw up to a constant, shape `(C, S, B)`, nats.
        acceptance_rate: Mean Metropolis acceptance probability over the steps since
            the draw before, shape `(C, S, B)`.
        accepted: Whether the step that made the draw was accepted, bool, shape
            `(C, S, B)`.
    """

    theta: Tensor
    log_prob: Tensor
    acceptance_rate: Tensor
    accepted: Tensor

    @property
    def num_chains(self) -> int:
        """Number of chains per observation, `C`."""
        return self.theta.shape[0]

    @property
    def num_draws(self) -> int:
        """Number of draws kept in each chain, `S`."""
        return self.theta.shape[1]

    @property
    def num_observations(self) -> int:
        """Number of observations, `B`."""
        return self.theta.shape[2]
