"""In which order the rows of a store are read.

Appends are read in the order in which they were made, but the batches of a run in that
of their numbers: so a run gives the same store whichever of its batches was done first.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.simulation.store_arrays import Arrays
from sbi_aalr.simulation.store_marks import Mark


class Layout:
    """Where the rows of a store lie in its arrays.

    Args:
        marks: The marks, in the order in which they were written.

    Attributes:
        order: Which mark comes first, and so on.
        num_rows: Number of rows.
    """

    def __init__(self, marks: Sequence[Mark]) -> None:
        first: dict[int | None, int] = {}
        keys = [
            (number, 0)
            if mark.batch is None
            else (first.setdefault(mark.run, number), mark.batch)
            for number, mark in enumerate(marks)
        ]
        self.order = sorted(range(len(marks)), key=keys.__getitem__)
        filled = [marks[number] for number in self.order if marks[number].num_rows]
        self._starts = np.array([mark.start for mark in filled], dtype=np.int64)
        lengths = np.array([mark.num_rows for mark in filled], dtype=np.int64)
        # Where each append begins among the rows, and where the last one ends.
        self._places = np.concatenate(([0], lengths.cumsum()))
        self.num_rows = int(self._places[-1])

    def find(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Spans of the arrays that hold some rows, in the order of the rows.

        Args:
            start: The first row.
            stop: The row after the last one.
        """
        spans: list[tuple[int, int]] = []
        first = int(np.searchsorted(self._places, start, side="right")) - 1
        for number in range(first, len(self._starts)):
            place, end = int(self._places[number]), int(self._places[number + 1])
            if place >= stop:
                break
            shift = int(self._starts[number]) - place
            span = max(place, start) + shift, min(end, stop) + shift
            if spans and spans[-1][1] == span[0]:
                span = spans.pop()[0], span[1]
            spans.append(span)
        return spans


class FrozenRows:
    """The rows of a store as they were at some time.

    Args:
        arrays: The arrays of the store.
        layout: Where the rows lie in them.

    Attributes:
        layout: The same.
    """

    def __init__(self, arrays: Arrays, layout: Layout) -> None:
        self._arrays = arrays
        self.layout = layout

    def __len__(self) -> int:
        return self.layout.num_rows

    @property
    def num_appends(self) -> int:
        """How many appends to the store they are made of."""
        return len(self.layout.order)

    @property
    def path(self) -> Path:
        """The folder of the store."""
        return self._arrays.folder

    @property
    def x_shape(self) -> torch.Size:
        """Shape of a row of x."""
        return self._arrays.shapes[1]

    @property
    def x_dtype(self) -> torch.dtype:
        """What x is kept in."""
        return self._arrays.x_dtype

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Read some rows of `"theta"` or of `"x"`; none if there are none at all.

        Raises:
            ValueError: If what is read is damaged.
        """
        if not len(self):
            return torch.empty(0, 0)
        return self._arrays.read(name, self.layout.find(start, max(start, stop)))
