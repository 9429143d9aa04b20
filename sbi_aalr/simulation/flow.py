"""Simulations as they are made, in the order of their numbers, to be trained on.

The same seed gives the same simulations as `fill_store` does with batches of as many
rows, whatever the executor. A number of batches is in flight; while there is training
on what has come, others are handed out as soon as some are done. With a store, what is
there is read, and what is made goes there.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.simulation.batch_runs import BatchRunner, SimulatedBatch
from sbi_aalr.simulation.failing import raise_failure
from sbi_aalr.simulation.fill import (
    begin_run,
    draw_theta,
    pack_simulator,
    settle_form,
)
from sbi_aalr.simulation.store import SimulationStore
from sbi_aalr.simulation.worker import OF_THETA, TURN

# Simulations of a job, and the least number of jobs of a run.
_BATCH_ROWS, _LEAST_BATCHES = 100, 50
_NUM_RETRIES = 1
# Seconds to wait for simulations where there is a deadline.
_PATIENCE = 0.02


class Arrival(NamedTuple):
    """Simulations that have come.

    Attributes:
        theta: Parameters of those that succeeded, shape `(N, D)`.
        x: Their data, shape `(N, *event_shape)`.
        failed: Parameters of those that failed, shape `(F, D)`.
    """

    theta: Tensor
    x: Tensor
    failed: Tensor

    @property
    def num_tried(self) -> int:
        """How many there are, those that failed included."""
        return len(self.theta) + len(self.failed)

    def take(self, most: int) -> "Arrival":
        """The first of them, where more came than are wanted."""
        valid = min(most, len(self.theta))
        failed = self.failed[: most - valid]
        return Arrival(self.theta[:valid], self.x[:valid], failed)


class Flow:
    """Simulations of a run, one batch after the other.

    Args:
        simulator: Any simulator that sbi accepts.
        prior: Where parameters come from.
        num_simulations: Budget, those that fail included.
        run: Seed of the run.
        executor: Any executor; None for this process.
        store: Where simulations go to and come from; None for nowhere.
        on_error: `"raise"` or `"skip"`.
        timeout: Seconds that a batch may take; None for no limit.

    Raises:
        ImportError: If workers cannot load the simulator.
        TypeError: If the simulator cannot be pickled.
        ValueError: If the store was begun with another simulator or prior, or no
            simulation works.

    Attributes:
        num_batches: Batches that have come.
        num_tried: Simulations that have come, those that failed included.
        deadline: When to wait no more, by `time.perf_counter`; None for never. Where
            there is one, nothing may arrive, so that nobody waits for long.
    """

    def __init__(
        self,
        simulator: Callable[..., Any],
        prior: Distribution,
        num_simulations: int,
        *,
        run: int,
        executor: Executor | None,
        store: SimulationStore | None,
        on_error: str,
        timeout: float | None,
    ) -> None:
        payload = pack_simulator(simulator, executor)
        self._prior, self._run = prior, run
        self._num_simulations, self._on_error = num_simulations, on_error
        self._rows = max(1, min(_BATCH_ROWS, num_simulations // _LEAST_BATCHES))
        self._is_kept = False
        self._store, self._is_inline = store, executor is None
        self.num_batches = self.num_tried = 0
        self.deadline: float | None = None
        if store is not None:
            begin_run(store, simulator, prior, run, {})
        self._runner = BatchRunner(
            payload,
            executor,
            run=run,
            timeout=timeout,
            num_retries=_NUM_RETRIES,
            max_in_flight=None,
        )
        self._form = settle_form(store, self._runner, prior, run)
        self._there = {} if store is None else store.find_batches(run)
        width = draw_theta(prior, 1, run, 0, OF_THETA).shape[1]
        empty = torch.empty(0, width), torch.empty(0, *self._form.event_shape)
        self._nothing = (*empty, torch.empty(0, width))
        self._early: dict[int, SimulatedBatch] = {}
        self._made: Iterator[SimulatedBatch | None] | None = None

    def go_on(self, num_batches: int, num_tried: int) -> None:
        """Begin behind some batches, which are known already."""
        self.num_batches, self.num_tried = num_batches, num_tried

    def __iter__(self) -> Iterator[Arrival]:
        while self.num_tried < self._num_simulations:
            number = self.num_batches
            if number in self._there and self._store is not None:
                self.poll()
                theta, x, failed = self._store.read_batch(self._run, number)
                found = Arrival(theta, x.reshape(-1, *self._form.event_shape), failed)
            else:
                while number not in self._early:
                    if self.deadline is None:
                        self._collect(None)
                        continue
                    if time.perf_counter() > self.deadline:
                        return
                    self._collect(_PATIENCE)
                    if number not in self._early:
                        yield Arrival(*self._nothing)
                batch = self._early.pop(number)
                failed = torch.tensor([one.theta for one in batch.failures])
                width = batch.theta.shape[1]
                found = Arrival(batch.theta, batch.x, failed.reshape(-1, width))
            found = found.take(self._num_simulations - self.num_tried)
            self.num_batches += 1
            self.num_tried += found.num_tried
            yield found

    def poll(self) -> None:
        """Take in what is done, and hand out more, without waiting."""
        if not self._is_inline:
            self._collect(0.0)

    @contextlib.contextmanager
    def turn_kept(self) -> Iterator[None]:
        """Keep simulations that share this process, in threads, from running meanwhile.

        They seed the global generators, which training draws from as well. They get
        their turn whenever it is waited for them.
        """
        self._is_kept = True
        with TURN:
            try:
                yield
            finally:
                self._is_kept = False

    def close(self) -> None:
        """End what is in flight."""
        made: Any = self._made
        if made is not None:
            made.close()
        self._runner.close()

    def _collect(self, patience: float | None) -> None:
        """Take in a batch, if one comes within some seconds; None to wait for it."""
        if self._made is None:
            self._made = self._runner.run(self._plan(), self._form)
        self._runner.patience = patience
        with _given_up(TURN) if self._is_kept else contextlib.nullcontext():
            batch = next(self._made, None)
        if batch is None:
            return
        if batch.failures and self._on_error == "raise":
            raise_failure(batch)
        if self._store is not None:
            self._store.append_batch(
                batch.theta, batch.x, batch.failures, run=self._run, batch=batch.number
            )
        self._early[batch.number] = batch

    def _plan(self) -> Iterator[tuple[int, Tensor]]:
        """The batches that are to be made yet, with their parameters."""
        number, left = self.num_batches, self._num_simulations - self.num_tried
        while left > 0:
            rows = sum(self._there.get(number, ())) or min(self._rows, left)
            if number not in self._there:
                yield number, draw_theta(self._prior, rows, self._run, number, OF_THETA)
            left -= rows
            number += 1


@contextlib.contextmanager
def _given_up(lock: threading.Lock) -> Iterator[None]:
    """Let others have a lock for a while."""
    lock.release()
    try:
        yield
    finally:
        lock.acquire()
