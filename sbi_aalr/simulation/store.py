"""Simulations on disk, to which any number of processes add; a kill loses none.

A store is a folder in Zarr format 3 with the arrays `theta` and `x`, which xarray and
zarr read too, and a group `marks`. Rows are written first, then the mark that says that
they are there, with a hash of them. What a killed process had not marked does not
count, and is overwritten by the next append.
"""

import operator
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sbi_aalr.checks import check_row_shapes, check_simulations
from sbi_aalr.errors import CallOrderError
from sbi_aalr.files import check_path
from sbi_aalr.simulation.failing import explain_emptiness
from sbi_aalr.simulation.store_arrays import Arrays
from sbi_aalr.simulation.store_folder import (
    MARKS,
    open_folder,
    read_facts,
    write_facts,
)
from sbi_aalr.simulation.store_layout import FrozenRows, Layout
from sbi_aalr.simulation.store_marks import (
    GROUP,
    Failure,
    Failures,
    Mark,
    Marks,
    hash_rows,
    join_failures,
    writing,
)


class SimulationStore:
    """Simulations in a folder, for as many as a disk holds.

    Args:
        path: The folder. Where there is none, an empty store is made.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If it is something else, damaged, or of a newer format.

    Example:
        >>> import tempfile, torch
        >>> store = SimulationStore(tempfile.mkdtemp() + "/sims.zarr")
        >>> theta = torch.randn(100, 2)
        >>> store.append(theta, theta + torch.randn(100, 2))
        >>> len(store), [tuple(part.shape) for part in store[10:30]]
        (100, [(20, 2), (20, 2)])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_path("path", path)
        self._versions = open_folder(self.path)
        self._marks = Marks(self.path / MARKS)
        self._arrays = Arrays(self.path)
        self._layout: tuple[int, Layout] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SimulationStore, (self.path,)

    def __repr__(self) -> str:
        return f"SimulationStore({str(self.path)!r})"

    def append(self, theta: Tensor, x: Tensor) -> None:
        """Add simulations; when this returns, they are on disk.

        Rows that are not finite in `x`, as float32, are kept apart, among the failures.

        Args:
            theta: Parameters, shape `(N, D)`.
            x: Data, shape `(N, *event_shape)`.

        Raises:
            OSError: If they cannot be written. What was there is as it was.
            TypeError: If `theta` or `x` is no tensor of real numbers.
            ValueError: If the two differ in their number of rows, have other widths
                than those in the store, or parameters are not finite.
        """
        theta, x = check_simulations(theta, x, allow_invalid_x=True)
        valid = torch.isfinite(x.float()).flatten(1).all(dim=1)
        error = "`x` has NaN or infinity."
        failures = [Failure(tuple(row), error) for row in theta[~valid].tolist()]
        self._write(theta[valid], x[valid], failures)

    def append_batch(
        self,
        theta: Tensor,
        x: Tensor,
        failures: Sequence[Failure],
        *,
        run: int,
        batch: int,
    ) -> None:
        """Add a batch of a run, unless it is there already.

        Batches of a run are read in the order of their numbers, whichever of them was
        done first.

        Args:
            theta: Parameters, shape `(N, D)`, finite.
            x: Data, shape `(N, *event_shape)`, finite.
            failures: The simulations of the batch that failed.
            run: Seed of the run.
            batch: Number of the batch in it.

        Raises:
            OSError: If it cannot be written. What was there is as it was.
            ValueError: If rows have other widths than those in the store.
        """
        self._write(theta, x, failures, run, batch)

    def find_batches(self, run: int) -> dict[int, tuple[int, int]]:
        """Which batches of a run are there.

        Args:
            run: Seed of the run.

        Returns:
            By their numbers, how many simulations each holds and how many of it failed.
        """
        return {
            mark.batch: (mark.num_rows, len(mark.failures))
            for mark in self._marks.read().known
            if mark.batch is not None and mark.run == run
        }

    def read_batch(self, run: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Read theta and x of what succeeded in a batch, and theta of what failed."""
        known = self._marks.read().known
        (mark,) = (m for m in known if (m.run, m.batch) == (run, batch))
        rows = FrozenRows(self._arrays, Layout([mark]))
        theta, x = (rows.read(name, 0, len(rows)) for name in ("theta", "x"))
        failed = join_failures([mark], self._arrays.shapes).theta
        return theta.reshape(-1, failed.shape[1]), x, failed

    def _write(
        self,
        theta: Tensor,
        x: Tensor,
        failures: Sequence[Failure],
        run: int | None = None,
        batch: int | None = None,
    ) -> None:
        theta, x = theta.cpu().contiguous(), x.cpu().contiguous()
        with writing(self.path / GROUP):
            marks = self._marks.read()
            if batch is not None and (run, batch) in marks.batches:
                return
            start = marks.stop
            if len(theta):
                if not start:
                    self._arrays.create(theta, x)
                shapes = self._arrays.shapes
                check_row_shapes(theta, x, shapes, f"the store {self.path}")
                x = self._arrays.fit(x)
                self._arrays.write(start, theta, x)
            sha256 = hash_rows(start, theta, x)
            self._marks.add(
                Mark(start, len(theta), sha256, run, batch, tuple(failures))
            )

    def __len__(self) -> int:
        return self._marks.read().num_rows

    def __getitem__(self, rows: slice | int) -> tuple[Tensor, Tensor]:
        """Read some rows: theta, shape `(N, D)`, and x, shape `(N, *event_shape)`.

        Raises:
            IndexError: If a single row is out of range.
            TypeError: If `rows` is neither a slice nor an int.
            ValueError: If what is read is damaged.
        """
        found = self.freeze()
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(found))
            if step < 0:
                raise ValueError(f"`rows` must not go backwards, got the step {step}.")
            theta, x = found.read("theta", start, stop), found.read("x", start, stop)
            return theta[::step], x[::step]
        try:
            row = operator.index(rows)
        except TypeError as error:
            raise TypeError(
                f"`rows` must be a slice or an int, got {type(rows).__name__}."
            ) from error
        if not -len(found) <= row < len(found):
            raise IndexError(f"There are {len(found)} rows, got row {row}.")
        row %= len(found)
        return found.read("theta", row, row + 1)[0], found.read("x", row, row + 1)[0]

    def freeze(self, num_appends: int | None = None) -> FrozenRows:
        """The rows that are there now, in the order in which they are read now.

        Others may add to the store, and to the batches of a run also before the last;
        these rows stay what they are.

        Args:
            num_appends: How many of the appends to take; None for all.

        Raises:
            ValueError: If there are not so many.
        """
        marks = self._marks.read().known
        if num_appends is not None:
            if num_appends > len(marks):
                raise ValueError(
                    f"{self.path} must hold {num_appends} appends, got {len(marks)}."
                )
            return FrozenRows(self._arrays, Layout(marks[:num_appends]))
        if self._layout is None or self._layout[0] != len(marks):
            self._layout = len(marks), Layout(marks)
        return FrozenRows(self._arrays, self._layout[1])

    @property
    def chunk_rows(self) -> int:
        """Rows that lie together on disk, some megabyte of them."""
        self.require_rows()
        return self._arrays.chunk_rows

    @property
    def shapes(self) -> tuple[torch.Size, torch.Size]:
        """Shapes of a row of theta and of one of x."""
        self.require_rows()
        theta, x = self._arrays.shapes
        return theta, x

    @property
    def failures(self) -> Failures:
        """The simulations that failed, with what is needed to do them again."""
        order, marks = self.freeze().layout.order, self._marks.known
        return join_failures([marks[number] for number in order], self._arrays.shapes)

    def note(self, **facts: Any) -> None:
        """Write down what `describe` is to tell, beside what was noted before.

        Args:
            **facts: Values that JSON can hold, by name.

        Raises:
            TypeError: If JSON cannot hold one.
        """
        with writing(self.path / GROUP):
            write_facts(self.path, {**read_facts(self.path), **facts})

    def describe(self) -> dict[str, Any]:
        """Tell what is in the store, and what is known of where it comes from.

        Returns:
            `num_simulations`, `num_failures`, `theta_shape`, `x_shape` (None as long as
            there are none), `versions` of what made the store, and what was noted:
            `simulator`, `prior`, `seed` and others of the run that filled it.
        """
        marks = self._marks.read()
        shapes: list[Any] = [tuple(shape) for shape in self._arrays.shapes]
        theta_shape, x_shape = shapes or (None, None)
        return {
            "num_simulations": marks.num_rows,
            "num_failures": sum(len(mark.failures) for mark in marks.known),
            "theta_shape": theta_shape,
            "x_shape": x_shape,
            **dict.fromkeys(("simulator", "prior", "seed")),
            "versions": self._versions,
            **read_facts(self.path),
        }

    def validate(self) -> int:
        """Read all simulations, and compare them with the hashes of their marks.

        Returns:
            The number of simulations, failures not counted.

        Raises:
            ValueError: If any are damaged; the message says which rows.
        """
        read_facts(self.path)
        for mark in filter(lambda mark: mark.num_rows, self._marks.read().known):
            span = [(mark.start, mark.stop)]
            theta, x = (self._arrays.read(name, span) for name in ("theta", "x"))
            if hash_rows(mark.start, theta, x) != mark.sha256:
                raise ValueError(
                    f"{self.path} is damaged: rows {mark.start} to {mark.stop - 1} of "
                    "its arrays do not fit their hash."
                )
        return len(self)

    def require_rows(self) -> None:
        """Raise `CallOrderError` if there are no simulations, and say why."""
        if not len(self):
            why = explain_emptiness(self.failures.errors)
            raise CallOrderError(f"{self.path} {why}")
