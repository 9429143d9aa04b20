"""What says which simulations a store holds: written when they are all on disk.

A mark is written after the rows that it is about, so what has one can be read. Marks
stand on pages, groups of the Zarr store whose attributes they are; a page is replaced
as a whole, and a full one is followed by the next.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from sbi_aalr.files import hash_document, hash_tensors, lock, read_sealed, write_json

GROUP = "zarr.json"
_MOST_MARKS, _MOST_BYTES = 256, 2**16
_SEAL = "sha256"


class Failure(NamedTuple):
    """A simulation that failed.

    Attributes:
        theta: Its parameters, `D` numbers.
        error: What went wrong.
        seed: What the generators were seeded with before the call; None if unknown.
    """

    theta: tuple[float, ...]
    error: str
    seed: int | None = None


class Failures(NamedTuple):
    """The simulations of a store that failed.

    Attributes:
        theta: Their parameters, shape `(F, D)`.
        errors: What went wrong with each.
        seeds: What the generators were seeded with before each, where that is known.
    """

    theta: Tensor
    errors: list[str]
    seeds: list[int | None]


class Mark(NamedTuple):
    """One append.

    Attributes:
        start: Its first row in the arrays.
        num_rows: Its rows there; failures have none.
        sha256: Hash of these rows.
        run: Seed of the run that it is a batch of; None if it is no batch.
        batch: Number of that batch.
        failures: The simulations of it that failed.
    """

    start: int
    num_rows: int
    sha256: str
    run: int | None
    batch: int | None
    failures: tuple[Failure, ...]

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.start + self.num_rows

    def to_json(self) -> dict[str, Any]:
        """Names and values that JSON holds."""
        failures = [failure._asdict() for failure in self.failures]
        return {**self._asdict(), "failures": failures}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` was made of."""
        failures = tuple(
            Failure(tuple(one["theta"]), one["error"], one["seed"])
            for one in values["failures"]
        )
        return cls(**{**values, "failures": failures})


class Marks:
    """The marks of a store, of which others may write more at any time.

    Args:
        folder: Where they are, or will be.

    Attributes:
        known: Those read so far, in the order in which they were written.
        batches: Run and number of each batch among them.
        num_rows: Rows that they are about.
        stop: The row of the arrays after the last of these.
    """

    def __init__(self, folder: Path) -> None:
        self.known: list[Mark] = []
        self.batches: set[tuple[int | None, int]] = set()
        self.num_rows = self.stop = 0
        self._folder = folder
        self._page, self._num_on_page = 0, 0
        self._seen: tuple[int, ...] = ()
        self._guard = threading.RLock()

    def read(self) -> "Marks":
        """Look for new marks, and return these.

        Raises:
            ValueError: If a page is damaged.
        """
        with self._guard:
            while True:
                # Asked first: a page that has a next one does not change any more.
                is_full = self._locate(self._page + 1).exists()
                self._read_page()
                if not is_full:
                    return self
                self._page, self._num_on_page = self._page + 1, 0

    def add(self, mark: Mark) -> None:
        """Write one more; for whoever has locked the store.

        Raises:
            OSError: If it cannot be written.
        """
        with self._guard:
            self.read()
            path, number = self._locate(self._page), self._num_on_page
            is_full = number >= _MOST_MARKS
            if (number and path.stat().st_size > _MOST_BYTES) or is_full:
                path, number = self._locate(self._page + 1), 0
            path.parent.mkdir(parents=True, exist_ok=True)
            before = self.known[len(self.known) - number :]
            marks = [one.to_json() for one in (*before, mark)]
            write_attributes(path, {"marks": marks})
            self.read()

    def _locate(self, number: int) -> Path:
        return self._folder / f"{number:06d}" / GROUP

    def _read_page(self) -> None:
        path = self._locate(self._page)
        try:
            found = path.stat()
        except FileNotFoundError:
            return
        seen = (self._page, found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return
        try:
            marks = [Mark.from_json(one) for one in read_attributes(path)["marks"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it holds no marks.") from error
        for mark in marks[self._num_on_page :]:
            self.known.append(mark)
            self.num_rows += mark.num_rows
            self.stop = max(self.stop, mark.stop)
            if mark.batch is not None:
                self.batches.add((mark.run, mark.batch))
        self._num_on_page, self._seen = len(marks), seen


def write_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the group of a Zarr store, with a hash of its attributes."""
    sealed = {**attributes, _SEAL: hash_document(attributes)}
    group = {"zarr_format": 3, "node_type": "group", "attributes": sealed}
    write_json(path, group, indent=None)


def read_attributes(path: Path) -> dict[str, Any]:
    """Read what `write_attributes` wrote.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or no group of ours.
    """
    attributes = read_sealed(path).get("attributes")
    if not isinstance(attributes, dict) or _SEAL not in attributes:
        raise ValueError(f"{path} must be a group of a store of simulations.")
    if attributes.pop(_SEAL) != hash_document(attributes):
        raise ValueError(f"{path} is damaged: its content does not fit its hash.")
    return attributes


@contextlib.contextmanager
def writing(group: Path) -> Iterator[None]:
    """Be the only one who writes to a store; wait until others have finished.

    Args:
        group: A file of the store that is never replaced.

    Raises:
        OSError: If it cannot be written.
    """
    handle = os.open(group, os.O_RDWR)
    try:
        lock(handle, waits=True)
        yield
    finally:
        os.close(handle)


def join_failures(marks: Sequence[Mark], shapes: Sequence[torch.Size]) -> Failures:
    """The failures of marks, one after the other.

    Args:
        marks: The marks, in the order in which they are read.
        shapes: Shapes of a row of theta and of x; none where there are no rows.
    """
    found = [one for mark in marks for one in mark.failures]
    theta = torch.tensor([one.theta for one in found], dtype=torch.float32)
    if not found:
        theta = theta.reshape(0, *(shapes[0] if shapes else (0,)))
    errors, seeds = [one.error for one in found], [one.seed for one in found]
    return Failures(theta, errors, seeds)


def hash_rows(start: int, theta: Tensor, x: Tensor) -> str:
    """A hash of rows, and of where they lie."""
    return hash_tensors({"theta": theta, "x": x}, str(start))
