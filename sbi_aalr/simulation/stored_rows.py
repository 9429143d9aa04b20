"""Data of several appends one after the other, some in memory, some on disk."""

import bisect
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from sbi_aalr.simulation.store_layout import FrozenRows

# Of rows in memory, as many are taken at a time as would lie together on disk.
_BLOCK_BYTES = 2**20


class StoredRows:
    """Rows of x that are read when they are asked for.

    It has what a trainer asks of a tensor: a length, a shape, and rows by number.

    Args:
        parts: Tensors of data, shape `(N, *event_shape)`, and rows of stores.

    Attributes:
        shape: Shape of all rows together, `(N, *event_shape)`.
        block_rows: Rows that are best read together, from a multiple of this on.
    """

    def __init__(self, parts: Sequence["Tensor | FrozenRows | StoredRows"]) -> None:
        self._parts: list[Tensor | FrozenRows] = []
        for part in parts:
            self._parts.extend(part._parts if isinstance(part, StoredRows) else [part])
        self._lengths = [len(part) for part in self._parts]
        self._ends = list(itertools.accumulate(self._lengths))
        first = self._parts[0]
        row = first.shape[1:] if isinstance(first, Tensor) else first.x_shape
        self.shape = torch.Size((self._ends[-1], *row))
        self.block_rows = max(1, _BLOCK_BYTES // (4 * row.numel()))

    @property
    def stores(self) -> list[FrozenRows]:
        """The rows of stores among the parts."""
        return [part for part in self._parts if isinstance(part, FrozenRows)]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows together, of the precision that they are kept in."""
        dtypes = [
            part.dtype if isinstance(part, Tensor) else part.x_dtype
            for part in self._parts
        ]
        return self.shape.numel() * max(dtype.itemsize for dtype in dtypes)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Read rows, a slice or by their numbers `(n,)` in any order.

        Raises:
            ValueError: If what is read is damaged.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self.read(start, stop)[::step]
        order = rows.argsort()
        wanted = rows[order]
        blocks, counts = (wanted // self.block_rows).unique_consecutive(
            return_counts=True
        )
        pieces = []
        for block, chosen in zip(
            blocks.tolist(), wanted.split(counts.tolist()), strict=True
        ):
            start = block * self.block_rows
            stop = min(start + self.block_rows, len(self))
            pieces.append(self.read(start, stop)[chosen - start])
        found = torch.cat(pieces) if pieces else torch.empty(0, *self.shape[1:])
        result = torch.empty_like(found)
        result[order] = found
        return result

    def read(self, start: int, stop: int) -> Tensor:
        """Read the rows from `start` to before `stop`."""
        pieces = []
        number = bisect.bisect_right(self._ends, start)
        while start < stop:
            begin = self._ends[number] - self._lengths[number]
            end = min(stop, self._ends[number])
            part, first, last = self._parts[number], start - begin, end - begin
            if isinstance(part, Tensor):
                pieces.append(part[first:last])
            else:
                pieces.append(part.read("x", first, last))
            start, number = max(start, end), number + 1
        return torch.cat(pieces) if pieces else torch.empty(0, *self.shape[1:])
