"""Protocols and the shape letters that the whole package uses.

Shapes are written with one letter a dimension: `N` batch rows, `C` chains, `S` draws
per chain, `B` observations, `D` parameters, `E` data features, `T` i.i.d. trials.
"""

from typing import Protocol

from torch import Tensor


class Simulator(Protocol):
    """A batched stochastic simulator."""

    def __call__(self, theta: Tensor, /) -> Tensor:
        """Map parameters `(N, D)` to data `(N, *event_shape)`."""
        ...


class LogProbFn(Protocol):
    """A log-density, up to a constant per observation, over chains and observations."""

    def __call__(self, position: Tensor, /) -> Tensor:
        """Map positions `(C, B, D)` to log-densities `(C, B)`, nats."""
        ...
