"""Passes over simulations that are still being made.

Whoever waits for slow simulations trains on those that are there. Of each batch a fixed
share of the rows is new, so that all are used soon after they come; the others are
drawn from what was there before, with fresh contrasts. When all have come, passes go
over all of them in a random order, as they do over stored simulations.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.simulation.batches import Batch

# With more rows than these, two of a batch may be the same.
_MANY_ROWS = 50_000


class GrowingRows:
    """Simulations, to which others are added.

    Args:
        num_rows: As many as there may be.
        theta: The first ones, parameters `(N, D)`.
        x: Their data, shape `(N, *event_shape)`.

    Attributes:
        count: How many there are.
        is_complete: Whether no more will come.
    """

    def __init__(self, num_rows: int, theta: Tensor, x: Tensor) -> None:
        self.count, self.is_complete = 0, False
        self._theta = theta.new_empty((num_rows, *theta.shape[1:]))
        self._x = x.new_empty((num_rows, *x.shape[1:]))
        self._num_taken = 0
        self.add(theta, x)

    def add(self, theta: Tensor, x: Tensor) -> None:
        """Add simulations."""
        end = self.count + len(theta)
        self._theta[self.count : end] = theta.to(self._theta.device)
        self._x[self.count : end] = x.to(self._x.device)
        self.count = end

    def take(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Theta and x of some rows."""
        return self._theta[rows], self._x[rows]

    def collect(self) -> tuple[Tensor, Tensor]:
        """Theta and x of all."""
        return self.take(slice(self.count))

    def take_new(self) -> list[tuple[Tensor, ...]]:
        """Those added since the last call."""
        new = self.take(slice(self._num_taken, self.count))
        is_new, self._num_taken = self.count > self._num_taken, self.count
        return [new] if is_new else []


class GrowingPasses:
    """Passes over growing simulations.

    Args:
        rows: The simulations.
        num_simulations: How many there will be, failures included, which is how many a
            pass shows.
        batch_size: Rows in a batch.
        num_fresh: New rows in a batch, while there are some.
        prior: Where fresh theta' come from; None where other rows' theta serve.

    Attributes:
        begun: Batches of the pass to come that were given before, and are not again.
    """

    def __init__(
        self,
        rows: GrowingRows,
        num_simulations: int,
        batch_size: int,
        num_fresh: int,
        prior: Distribution | None,
    ) -> None:
        self.num_simulations = num_simulations
        self.num_batches = max(1, num_simulations // batch_size)
        self.begun = 0
        self._rows, self._batch_size, self._prior = rows, batch_size, prior
        self._num_fresh, self._next = num_fresh, 0
        self._seed: int | None = None

    def pack(self) -> dict[str, Any]:
        """Where it is in a pass, as JSON holds it."""
        return {"next": self._next, "seed": self._seed}

    def unpack(self, place: dict[str, Any], num_done: int) -> None:
        """Go on within a pass, behind some batches."""
        self._next, self._seed, self.begun = place["next"], place["seed"], num_done

    def __iter__(self) -> Iterator[Batch]:
        first, self.begun = self.begun, 0
        if not first:
            is_whole = self._rows.is_complete
            self._seed = int(torch.randint(2**62, ())) if is_whole else None
        if self._seed is None:
            for _ in range(first, self.num_batches):
                yield self._make(self._draw())
            return
        order = self._shuffle(self._seed)
        for number in range(first, self.num_batches):
            start = number * self._batch_size
            yield self._make(order[start : start + self._batch_size])

    def _shuffle(self, seed: int) -> Tensor:
        """All rows in a random order, over again where some have failed."""
        generator, count = torch.Generator().manual_seed(seed), self._rows.count
        wanted = self.num_batches * self._batch_size
        rounds = math.ceil(wanted / count)
        orders = [torch.randperm(count, generator=generator) for _ in range(rounds)]
        return torch.cat(orders)

    def _draw(self) -> Tensor:
        """Some rows that are new, and others that are not."""
        size, count = min(self._batch_size, self._rows.count), self._rows.count
        end = min(count, self._next + min(size, self._num_fresh))
        fresh = torch.arange(self._next, end)
        before, self._next = self._next, end
        wanted = size - len(fresh)
        # Where there are too few from before, others that wait for their turn serve.
        limit = before if before >= wanted else count - len(fresh)
        if limit > _MANY_ROWS:
            others = torch.randint(limit, (wanted,))
        else:
            others = torch.randperm(limit)[:wanted]
        others = torch.where(others < before, others, others + len(fresh))
        return torch.cat((fresh, others)) if wanted else fresh

    def _make(self, rows: Tensor) -> Batch:
        theta, x = self._rows.take(rows.to("cpu"))
        prime = None if self._prior is None else self._prior.sample((len(theta),))
        return Batch(theta, prime, x)
