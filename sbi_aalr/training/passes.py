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
        num_simulations: Simulations in it, if nothing ends it early.
        batch_size: Rows in a batch of later passes.
        prior: Where fresh theta' come from.
        is_single: Whether there is one pass only, after which nothing is kept.
        notes_new: Whether somebody asks for new simulations now and then, by
            `take_new`.

    Attributes:
        begun: Batches of the pass to come that were given before, and are not again.
    """

    def __init__(
        self,
        stream: Iterable[Batch],
        num_simulations: int,
        batch_size: int,
        prior: Distribution,
        is_single: bool,
        notes_new: bool = False,
    ) -> None:
        self.num_simulations = num_simulations
        self.begun = 0
        self._is_begun = False
        self._new: list[tuple[Tensor, ...]] | None = [] if notes_new else None
        self._stream: Iterable[Batch] | None = stream
        self._batch_size = batch_size
        self._prior = prior
        self._is_single = is_single
        self._kept: list[tuple[Tensor, ...]] = []
        self._num_made = 0

    def __iter__(self) -> Iterator[Batch]:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._is_begun = True
            try:
                yield from self._keep(stream)
            finally:
                self._is_begun, self.begun = False, 0
                self._count()
        elif self._kept:
            yield from self._repeat()

    def take_new(self) -> list[tuple[Tensor, ...]]:
        """Simulations since the last call, theta and x of each batch, where noted."""
        new, self._new = self._new or [], []
        return new

    def go_on(self, kept: Sequence[tuple[Tensor, ...]], begun: int | None) -> None:
        """Take up what was made before.

        Args:
            kept: Theta and x, batch by batch.
            begun: Batches of the first pass that are done, after which the stream
                begins; None where it is over.
        """
        self._kept, self.begun = list(kept), begun or 0
        self._num_made = sum(len(theta) for theta, _ in kept)
        if begun is None:
            self._stream = None
            self._count()

    @property
    def is_streaming(self) -> bool:
        """Whether the first pass is still to begin, or in progress."""
        return self._stream is not None or self._is_begun

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

    def _count(self) -> None:
        """Later passes have what was made, which a limit of time may have cut short."""
        if self._num_made:
            self.num_simulations = self._num_made

    def _keep(self, stream: Iterable[Batch]) -> Iterator[Batch]:
        for batch in stream:
            self._num_made += len(batch.theta)
            if not self._is_single:
                self._kept.append((batch.theta, batch.x))
                if self._new is not None:
                    self._new.append((batch.theta, batch.x))
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


def pass_over(
    pairs: Sequence[tuple[Tensor, Tensor]], batch_size: int, device: str
) -> StoredPasses:
    """Passes over several sets of simulations, theta and x of each."""
    rows = [torch.cat(column) for column in zip(*pairs, strict=True)]
    count = len(rows[0])
    loader = TensorLoader(rows, torch.arange(count), min(batch_size, count))
    return StoredPasses(loader, count, device)


def begin_pass(passes: Passes, num_done: int) -> Iterator[Batch]:
    """Begin the next pass behind some of its batches.

    Args:
        passes: The passes, with the generators as they were when the pass was begun
            first.
        num_done: Batches to leave out.

    Returns:
        The others.
    """
    batches = iter(passes)
    for _ in range(num_done - getattr(passes, "begun", 0)):
        next(batches)
    return batches


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
