"""Where batches come from: simulations made on the way, or made before.

Both give the training loop the same thing: whoever goes through them goes through all
simulations once. In the first pass over streamed simulations every batch is fresh;
later passes meet the same simulations in another order and with other contrasts.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.loaders import TensorLoader


class Passes(Protocol):
    """Batches of simulations, to be gone through once for each pass.

    Attributes:
        num_simulations: Simulations in a pass.
    """

    num_simulations: int

    def __iter__(self) -> Iterator[Batch]:
        """Begin the next pass."""
        ...


class StreamedPasses:
    """Simulate in the first pass, and remember for the passes to come.

    Args:
        stream: Fresh batches, the whole budget of them.
        num_simulations: Simulations in it.
        batch_size: Rows in a batch of later passes.
        prior: Where fresh theta' come from.
        is_single: Whether there is one pass only, after which nothing is kept.
    """

    def __init__(
        self,
        stream: Iterable[Batch],
        num_simulations: int,
        batch_size: int,
        prior: Distribution,
        is_single: bool,
    ) -> None:
        self.num_simulations = num_simulations
        self._stream: Iterable[Batch] | None = stream
        self._batch_size = batch_size
        self._prior = prior
        self._is_single = is_single
        self._kept: list[tuple[Tensor, ...]] = []

    def __iter__(self) -> Iterator[Batch]:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            yield from self._keep(stream)
        elif self._kept:
            yield from self._repeat()

    def with_batches_of(self, batch_size: int) -> "StreamedPasses":
        """These passes, with batches of another size once all is simulated."""
        self._batch_size = batch_size
        return self

    def collect(self) -> tuple[Tensor, Tensor]:
        """All simulations made so far, theta and x; there must be some."""
        if len(self._kept) > 1:
            columns = zip(*self._kept, strict=True)
            self._kept = [tuple(torch.cat(column) for column in columns)]
        theta, x = self._kept[0]
        return theta, x

    def _keep(self, stream: Iterable[Batch]) -> Iterator[Batch]:
        for batch in stream:
            if not self._is_single:
                self._kept.append((batch.theta, batch.x))
            yield batch

    def _repeat(self) -> Iterator[Batch]:
        tensors = self.collect()
        rows = torch.arange(len(tensors[0]))
        for theta, x in TensorLoader(tensors, rows, min(self._batch_size, len(rows))):
            yield Batch(theta, self._prior.sample((len(theta),)), x)


class StoredPasses:
    """Pass over stored simulations, whose own theta serve as contrasts.

    Args:
        loader: Gives batches of theta, x and perhaps more that is left aside, in
            another order each time.
        num_simulations: Simulations in a pass.
        device: Where batches are wanted.
    """

    def __init__(
        self, loader: Iterable[Sequence[Tensor]], num_simulations: int, device: str
    ) -> None:
        self.num_simulations = num_simulations
        self._loader = loader
        self._device = device

    def __iter__(self) -> Iterator[Batch]:
        for theta, x, *_ in self._loader:
            yield Batch(theta.to(self._device), None, x.to(self._device))


def join_pairs(batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Theta and x of all batches."""
    nothing = torch.zeros(0)
    theta = [batch.theta for batch in batches] or [nothing]
    return torch.cat(theta), torch.cat([batch.x for batch in batches] or [nothing])


def detach(batch: Batch) -> Batch:
    """A batch that training can use, whatever it was made with.

    Simulations of a torch emulator have a graph of their own, through which nobody
    wants to go back; those made in `torch.inference_mode` could not be trained on.
    """

    def detach_rows(rows: Tensor) -> Tensor:
        return rows.clone() if rows.is_inference() else rows.detach()

    theta, theta_prime, x = batch
    prime = None if theta_prime is None else detach_rows(theta_prime)
    return Batch(detach_rows(theta), prime, detach_rows(x))
