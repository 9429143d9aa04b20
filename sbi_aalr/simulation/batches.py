"""Fresh (theta, theta', x) batches from a simulator: the data of Algorithm 1."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.types import Simulator


class Batch(NamedTuple):
    """One batch of Algorithm 1.

    Attributes:
        theta: Parameters, prior draws, shape `(N, D)`.
        theta_prime: Independent prior draws, shape `(N, D)`; None where other rows'
            theta serve.
        x: Data simulated from `theta`, shape `(N, *event_shape)`.
    """

    theta: Tensor
    theta_prime: Tensor | None
    x: Tensor

    def take(self, rows: Tensor | slice) -> "Batch":
        """A batch of some of the rows."""
        prime = self.theta_prime
        return Batch(
            self.theta[rows], None if prime is None else prime[rows], self.x[rows]
        )


def stream(
    simulator: Simulator,
    prior: Distribution,
    num_simulations: int,
    batch_size: int,
) -> Iterator[Batch]:
    """Yield batches of fresh simulations until the budget is spent.

    Args:
        simulator: Batched simulator.
        prior: Where theta and theta' come from.
        num_simulations: Budget, in simulations.
        batch_size: Most rows in a batch.

    Yields:
        Batches on the device of the prior's draws.

    Raises:
        ValueError: If the simulator raises, returns another number of rows, or returns
            NaN or infinity.
        TypeError: If it does not return a tensor.
    """
    left = num_simulations
    for steps_left in range(-(-num_simulations // batch_size), 0, -1):
        # Spread evenly, so that no last batch of a few rows is left over.
        rows = -(-left // steps_left)
        theta = prior.sample((rows,))
        x = simulate(simulator, theta).to(theta.device)
        yield Batch(theta, prior.sample((rows,)), x)
        left -= rows


def divide(batch: Batch, batch_size: int, least_rows: int = 1) -> Iterator[Batch]:
    """Divide a batch into parts of about the same size.

    Args:
        batch: The batch.
        batch_size: Most rows in a part.
        least_rows: Fewest rows in a part, for which parts may be larger than
            `batch_size`.

    Yields:
        Parts in order; none of an empty batch.
    """
    rows = len(batch.theta)
    count = min(-(-rows // batch_size), max(1, rows // least_rows))
    index = torch.arange(rows, device=batch.theta.device)
    for part in index.tensor_split(count) if count else ():
        yield batch.take(part)


def simulate(simulator: Simulator, theta: Tensor) -> Tensor:
    """Run a simulator and check what it returns.

    Args:
        simulator: Batched simulator.
        theta: Parameters, shape `(N, D)`.

    Returns:
        Data, shape `(N, *event_shape)`, float32.

    Raises:
        ValueError: If the simulator raises, returns another number of rows, or returns
            NaN or infinity.
        TypeError: If it does not return a tensor.
    """
    try:
        x = simulator(theta)
    except Exception as error:
        raise ValueError(
            f"`simulator` raised {type(error).__name__}: {error} (for {len(theta)} "
            f"parameter sets, the first is {theta[0].tolist()})."
        ) from error
    if not isinstance(x, Tensor):
        raise TypeError(f"`simulator` must return a tensor, got {type(x).__name__}.")
    if x.ndim < 2 or x.shape[0] != theta.shape[0] or x.numel() == 0:
        raise ValueError(
            "`simulator` must return one row for each parameter set: "
            f"({theta.shape[0]}, *event_shape), got {tuple(x.shape)}. Give a single "
            "number the shape (1,)."
        )
    x = x.to(torch.float32)
    valid = torch.isfinite(x).flatten(1).all(dim=1)
    if not valid.all():
        failed = theta[(~valid).to(theta.device)]
        raise ValueError(
            f"`simulator` must return finite numbers, got NaN or infinity in "
            f"{len(failed)} of {len(theta)} rows (first: theta = {failed[0].tolist()})."
            " Let it return a finite value there, or leave such parameters out of the "
            "prior."
        )
    return x
