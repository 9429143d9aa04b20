"""The container that draws of many chains travel in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chains:
    """Draws of `C` chains for each of `B` observations, oldest draw first.

    Attributes:
        theta: Draws, shape `(C, S, B, D)`, prior units.
        log_prob: Log-density of each draw up to a constant, shape `(C, S, B)`, nats.
        acceptance_rate: Mean Metropolis acceptance probability over the steps since
            the draw before, or over all that were made at once, shape `(C, S, B)`.
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

    def first(self, num_chains: int) -> "Chains":
        """The first chains of each observation."""
        return self._map(lambda field: field[:num_chains])

    def pick(self, index: Tensor) -> "Chains":
        """The chains of some observations, long, shape `(B',)`."""
        return self._map(lambda field: field[:, :, index])

    def followed_by(self, later: "Chains") -> "Chains":
        """The same chains with later draws behind these."""
        return _combine((self, later), dim=1)

    def thin_by_two(self) -> "Chains":
        """Every other draw, the last one included where their number is even."""
        thinned = self._map(lambda field: field[:, 1::2])
        rate = thinned.acceptance_rate
        skipped = self.acceptance_rate[:, ::2][:, : rate.shape[1]]
        return Chains(
            thinned.theta, thinned.log_prob, (rate + skipped) / 2, thinned.accepted
        )

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Chains":
        return Chains(*(function(getattr(self, field.name)) for field in fields(self)))


def concatenate(parts: Iterable[Chains]) -> Chains:
    """Put the observations of several chains side by side."""
    return _combine(parts, dim=2)


def _combine(parts: Iterable[Chains], dim: int) -> Chains:
    parts = list(parts)
    return Chains(
        *(
            torch.cat([getattr(part, field.name) for part in parts], dim=dim)
            for field in fields(Chains)
        )
    )
