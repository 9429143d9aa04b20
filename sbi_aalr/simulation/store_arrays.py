"""The two arrays of a store of simulations, in Zarr format 3, row by row.

Each chunk of them ends in a checksum, which is compared whenever it is read; a changed
chunk takes the place of the old one as a whole.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.errors import PrecisionWarning

_NAMES = ("theta", "x")
# Bytes of a chunk, and most rows in it.
_CHUNK_BYTES, _CHUNK_ROWS = 2**20, 2**14


class Arrays:
    """Arrays of parameters and data, which only grow.

    Args:
        folder: The folder of the store.

    Attributes:
        folder: The same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[Any] = []

    @property
    def shapes(self) -> list[torch.Size]:
        """Shapes of a row of theta and of x; none before the first append."""
        return [torch.Size(array.shape[1:]) for array in self._open()]

    @property
    def x_dtype(self) -> torch.dtype:
        """What x is kept in, float32 or float64."""
        dtype: torch.dtype = getattr(torch, str(self._open()[1].dtype))
        return dtype

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk."""
        return int(self._open()[0].chunks[0])

    def create(self, theta: Tensor, x: Tensor) -> None:
        """Make the arrays anew, for rows of these shapes and x of this dtype."""
        import zarr
        from zarr.codecs import Crc32cCodec

        row_bytes = max(4, x.element_size() * x[0].numel())
        rows = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // row_bytes))
        group = zarr.open_group(self.folder, mode="r+")
        names = ["simulation", "parameter"], ["simulation"]
        names[1].extend(f"x_{axis}" for axis in range(1, x.ndim))
        for name, tensor, dimensions in zip(_NAMES, (theta, x), names, strict=True):
            group.create_array(
                name,
                shape=(0, *tensor.shape[1:]),
                chunks=(rows, *tensor.shape[1:]),
                dtype=str(tensor.dtype).removeprefix("torch."),
                compressors=[Crc32cCodec()],
                fill_value=float("nan"),
                dimension_names=dimensions,
                overwrite=True,
            )
        self._opened = []

    def fit(self, x: Tensor) -> Tensor:
        """Data in the dtype that the store has them in.

        Warns:
            PrecisionWarning: If that has not all of their digits.
        """
        dtype = self.x_dtype
        # A single row is float64 whatever its digits mean.
        if x.dtype == torch.float64 and dtype != torch.float64 and len(x) > 1:
            warnings.warn(
                PrecisionWarning(
                    f"`x` is rounded to float32 as all data in {self.folder} are, and "
                    "varies by less than a thousand of its steps. Subtract a constant, "
                    "or begin another store.",
                ),
                stacklevel=4,
            )
        return x.to(dtype)

    def write(self, start: int, theta: Tensor, x: Tensor) -> None:
        """Write rows from `start` on, and wait until they are on disk.

        What is behind them, of an append that was killed, is gone afterwards.
        """
        stop = start + len(theta)
        for array, tensor in zip(self._open(), (theta, x), strict=True):
            _remove_leftovers(self.folder / array.basename)
            array.resize((stop, *array.shape[1:]))
            if start < stop:
                array[start:stop] = tensor.numpy()
        self._wait_for_disk(start, stop)

    def read(self, name: str, spans: Sequence[tuple[int, int]]) -> Tensor:
        """Read some spans of rows, one after the other.

        Args:
            name: `"theta"` or `"x"`.
            spans: First row, and the one after the last, of each.

        Raises:
            ValueError: If a chunk is damaged or missing.
        """
        number = _NAMES.index(name)
        if not spans:
            return torch.empty(0, *self.shapes[number])
        # Others may have made the arrays longer.
        if self._open()[number].shape[0] < max(stop for _, stop in spans):
            self._opened = []
        array = self._open()[number]
        try:
            pieces = [array[start:stop] for start, stop in spans]
        except Exception as error:
            raise ValueError(f"{self.folder / name} is damaged: {error}.") from error
        rows = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        # Of a chunk that is not there, all is NaN; of one that is, nothing.
        if np.isnan(np.min(rows, initial=0)):
            raise ValueError(f"{self.folder / name} is damaged: a chunk is missing.")
        return torch.from_numpy(rows)

    def _open(self) -> list[Any]:
        import zarr

        if not self._opened and (self.folder / "x" / "zarr.json").exists():
            try:
                group: Any = zarr.open_group(self.folder, mode="r+")
                self._opened = [group[name] for name in _NAMES]
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{self.folder} is damaged: {error!r}.") from error
        return self._opened

    def _wait_for_disk(self, start: int, stop: int) -> None:
        rows = self.chunk_rows
        for array in self._open():
            home = self.folder / array.basename
            # Of a file that is new, the name comes to disk with it.
            _flush(home / "zarr.json")
            zeros = ["0"] * (array.ndim - 1)
            for chunk in range(start // rows, -(-stop // rows)):
                _flush(home.joinpath("c", str(chunk), *zeros))


def _flush(path: Path) -> None:
    """Wait until a file is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(home: Path) -> None:
    """Remove what zarr had half-written in an array when it was killed."""
    for path in home.glob("*.partial"):
        path.unlink(missing_ok=True)
