"""Fresh (theta, theta', x) batches from a simulator: the data of Algorithm 1."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.simulation.guarded import GuardedSimulator
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
    least_rows: int = 1,
    num_done: int = 0,
) -> Iterator[Batch]:
    """Yield batches of fresh simulations until the budget is spent.

    Args:
        simulator: Batched simulator.
        prior: Where theta and theta' come from.
        num_simulations: Budget, in simulations.
        batch_size: Most rows in a batch.
        least_rows: Fewest rows in a batch, for which batches may be larger than
            `batch_size`.
        num_done: Batches that were made before, and are left out.

    Yields:
        Batches on the device of the prior's draws.

    Raises:
        ValueError: If the simulator raises, returns another number of rows, or returns
            NaN or infinity.
        TypeError: If it does not return real numbers.
    """
    if not isinstance(simulator, GuardedSimulator):
        simulator = GuardedSimulator(simulator)
    left = num_simulations
    count = min(-(-left // batch_size), max(1, left // least_rows))
    for steps_left in range(count, 0, -1):
        # Spread evenly, so that no last batch of a few rows is left over.
        rows = -(-left // steps_left)
        left -= rows
        if count - steps_left < num_done:
            continue
        theta = prior.sample((rows,))
        x = simulate(simulator, theta)
        yield Batch(theta, prior.sample((rows,)), x)


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
    """Run a batched simulator, guarded; see `GuardedSimulator`.

    Args:
        simulator: Over a batch `(N, D)`, guarded already or not.
        theta: Parameters, shape `(N, D)`.

    Returns:
        Data, shape `(N, *event_shape)`, float32, on the device of theta.

    Raises:
        ValueError: If the simulator raises, returns another number of rows, or returns
            NaN or infinity.
        TypeError: If it does not return real numbers.
    """
    if not isinstance(simulator, GuardedSimulator):
        simulator = GuardedSimulator(simulator)
    return simulator(theta)
