"""A data loader for data on disk, of whatever size, in bounded memory.

Blocks of rows that lie together are read in a new random order in every pass, as many
at a time as a buffer holds, and the rows of a buffer are shuffled; the next buffer is
read while there is training on this one. Where all rows fit, they are read once, and
the order is that of `TensorLoader`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from sbi_aalr.simulation.stored_rows import StoredRows
from sbi_aalr.training.loaders import TensorLoader

# Bytes of data held by a loader at any time: two buffers, and as much to sort them.
MEMORY_BYTES = 2**28


class StoreLoader:
    """Batches of parameters and data, in a new random order in every pass.

    Args:
        theta: Parameters, shape `(N, D)`, in memory.
        x: Data, as many rows.
        indices: Rows to use, long, shape `(n,)`. Those of a block should be used
            together, as all of it is read for one.
        batch_size: Rows in a batch.
        is_shuffled: Whether to draw a new order; held-out rows need none.
        memory_bytes: Bytes of data that may be in memory.
    """

    def __init__(
        self,
        theta: Tensor,
        x: StoredRows,
        indices: Tensor,
        batch_size: int,
        is_shuffled: bool = True,
        memory_bytes: int | None = None,
    ) -> None:
        memory_bytes = MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._theta, self._x = theta, x
        self._indices = indices
        self.batch_size = batch_size
        self._is_shuffled = is_shuffled
        row_bytes = x.num_bytes // max(1, len(x))
        self._fits = len(indices) * row_bytes <= memory_bytes
        self._loaded: TensorLoader | None = None
        rows = max(batch_size, memory_bytes // 4 // row_bytes)
        self._groups = [] if self._fits else self._group(rows)

    def __len__(self) -> int:
        return len(self._indices) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if not self._fits:
            yield from self._stream()
            return
        if self._loaded is None:
            columns = [self._theta[self._indices], self._x[self._indices]]
            order = torch.arange(len(self._indices))
            self._loaded = TensorLoader(
                columns, order, self.batch_size, self._is_shuffled
            )
        yield from self._loaded

    def _group(self, most_rows: int) -> list[Tensor]:
        """Rows that lie together in a block."""
        ordered = self._indices.sort().values
        blocks = ordered // min(self._x.block_rows, most_rows)
        _, counts = blocks.unique_consecutive(return_counts=True)
        self._most_rows = most_rows
        return list(ordered.split(counts.tolist()))

    def _stream(self) -> Iterator[tuple[Tensor, ...]]:
        buffers = self._plan()
        # Of its own, so that a pass is the same whatever is drawn meanwhile.
        order_of = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        left: tuple[Tensor, ...] | None = None
        num_batches = len(self)
        with ThreadPoolExecutor(1, thread_name_prefix="store") as reader:
            ahead = reader.submit(self._read, buffers[0])
            for number in range(len(buffers)):
                rows: tuple[Tensor, ...] = ahead.result()
                if number + 1 < len(buffers):
                    ahead = reader.submit(self._read, buffers[number + 1])
                if left is not None:
                    pairs = zip(left, rows, strict=True)
                    rows = tuple(torch.cat(pair) for pair in pairs)
                if self._is_shuffled:
                    order = torch.randperm(len(rows[0]), generator=order_of)
                    rows = tuple(column[order] for column in rows)
                for batch in zip(
                    *(c.split(self.batch_size) for c in rows), strict=True
                ):
                    left = batch
                    if len(batch[0]) == self.batch_size and num_batches:
                        left, num_batches = None, num_batches - 1
                        yield batch

    def _plan(self) -> list[Tensor]:
        """The rows of each buffer of a pass."""
        numbers = range(len(self._groups))
        order = torch.randperm(len(numbers)).tolist() if self._is_shuffled else numbers
        buffers: list[list[Tensor]] = []
        size = self._most_rows
        for number in order:
            group = self._groups[number]
            if size + len(group) > self._most_rows:
                buffers.append([])
                size = 0
            buffers[-1].append(group)
            size += len(group)
        return [torch.cat(buffer) for buffer in buffers]

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self._theta[rows], self._x[rows]
