"""Simulate batches on any executor; what fails or kills its worker takes nobody along.

No more than a number of jobs is handed out at a time. When a worker is lost, all jobs
that were out are suspects, and each is done again with no other beside it; one that
loses its worker once more is guilty. Of a guilty batch each row is done alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sbi_aalr.checks import keep_digits
from sbi_aalr.pools import NOT_LOSSES, Pool
from sbi_aalr.seeding import derive_seed
from sbi_aalr.simulation.store_marks import Failure
from sbi_aalr.simulation.worker import (
    OF_ROWS,
    Form,
    Job,
    Outcome,
    Payload,
    find_form,
    run_job,
)

# Jobs handed out for each worker, so that none waits for the next one.
_JOBS_AHEAD = 2


class SimulatedBatch(NamedTuple):
    """A batch, all of its rows simulated or failed.

    Attributes:
        number: Its number in the run.
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`, finite; float32, or float64 where that
            would blur them.
        failures: The simulations of it that failed.
    """

    number: int
    theta: Tensor
    x: Tensor
    failures: tuple[Failure, ...]


class BatchRunner:
    """Simulates batches on an executor.

    Args:
        payload: The simulator, or the same pickled.
        executor: Any executor; None for this process.
        run: Seed of the run.
        timeout: Seconds that a call of the simulator may take; None for any number.
        num_retries: How often to try again what has failed.
        max_in_flight: Most batches handed out at a time; None for two a worker.

    Attributes:
        patience: Seconds after which `run` gives None while nothing is done; None to
            wait.
    """

    def __init__(
        self,
        payload: Payload,
        executor: Executor | None,
        *,
        run: int,
        timeout: float | None,
        num_retries: int,
        max_in_flight: int | None,
    ) -> None:
        self.patience: float | None = None
        self._payload = payload
        self._pool = Pool(executor)
        most = _JOBS_AHEAD * self._pool.num_workers if executor is not None else 1
        self._most = max_in_flight or most
        self._blank = Job(
            run, 0, (), np.empty(0), Form(True, ()), timeout, num_retries, False
        )._replace(may_exit=self._pool.may_exit)
        self._running: dict[Future[Any], tuple[Job, int, bool]] = {}
        self._suspects: deque[Job] = deque()

    def find_form(self, theta: Tensor) -> Form:
        """Find out whether the simulator takes batches, by a few simulations.

        Args:
            theta: Parameters to try, shape `(A, 5, D)` for A attempts.

        Raises:
            ImportError: If workers cannot load the simulator.
            ValueError: If all attempts failed.
        """
        problem = "it lost its worker"
        for number, rows in enumerate(theta):
            job = self._blank._replace(batch=number, theta=rows.numpy())
            future, generation = self._pool.submit(find_form, self._payload, job)
            self._pool.wait([future])
            try:
                found: Form | str = future.result()
            except NOT_LOSSES:
                raise
            except Exception as error:
                problem = f"its worker was lost ({type(error).__name__})"
                self._pool.renew(generation)
                continue
            if isinstance(found, Form):
                return found
            problem = found
        raise ValueError(
            f"`simulator` must work on parameters of the prior, but of {len(theta)} "
            f"attempts none did; in the last one {problem}."
        )

    def run(
        self, batches: Iterable[tuple[int, Tensor]], form: Form
    ) -> Iterator[SimulatedBatch | None]:
        """Simulate batches; they come as they are done, in whatever order.

        Args:
            batches: Number and parameters `(N, D)` of each, asked for as late as
                possible.
            form: How the simulator is called.

        Yields:
            Each batch once, and None where `patience` is over.

        Raises:
            ImportError: If workers cannot load the simulator.
        """
        collected: dict[int, _Collected] = {}

        def make_jobs() -> Iterator[Job]:
            for number, theta in batches:
                collected[number] = _Collected(number, theta)
                yield self._blank._replace(
                    batch=number,
                    rows=tuple(range(len(theta))),
                    theta=theta.numpy(),
                    form=form,
                )

        try:
            for found in self._run(make_jobs()):
                if found is None:
                    yield None
                    continue
                job, outcome = found
                if collected[job.batch].add(outcome):
                    yield collected.pop(job.batch).join(form)
        finally:
            for future in self._running:
                future.cancel()
            self._running.clear()
            self._suspects.clear()

    def close(self) -> None:
        """End what was begun here; the executor that was given stays."""
        self._pool.close()

    def _run(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Outcome] | None]:
        while True:
            self._hand_out(jobs)
            if not self._running:
                return
            done = self._pool.wait(self._running, self.patience)
            if not done:
                yield None
            for future in done:
                job, generation, is_only = self._running.pop(future)
                try:
                    outcome = future.result()
                except NOT_LOSSES:
                    raise
                # What an executor raises for a lost worker has no common class.
                except Exception as error:
                    self._pool.renew(generation)
                    outcome = self._take_back(job, error, is_only)
                if outcome is not None:
                    yield job, outcome

    def _hand_out(self, jobs: Iterator[Job]) -> None:
        if self._suspects:
            if not self._running:
                self._submit(self._suspects.popleft(), is_only=True)
            return
        while len(self._running) < self._most:
            job = next(jobs, None)
            if job is None:
                return
            self._submit(job, is_only=False)

    def _submit(self, job: Job, is_only: bool) -> None:
        future, generation = self._pool.submit(run_job, self._payload, job)
        self._running[future] = job, generation, is_only

    def _take_back(self, job: Job, error: Exception, is_only: bool) -> Outcome | None:
        """Do a job again whose worker was lost, or give it up if it is to blame."""
        job = job._replace(num_losses=job.num_losses + 1)
        if not is_only:
            self._suspects.append(job)
        elif job.num_losses <= job.num_retries:
            self._suspects.appendleft(job)
        elif len(job.rows) > 1:
            self._suspects.extendleft(reversed(job.split()))
        else:
            theta = tuple(job.theta[0].tolist())
            problem = f"its worker was lost {job.num_losses} times"
            problem = f"{problem} ({type(error).__name__})"
            empty = np.empty((0, *job.form.event_shape), dtype=np.float32)
            seed = derive_seed(job.run, job.batch, OF_ROWS, job.rows[0])
            return Outcome([], empty, [(job.rows[0], Failure(theta, problem, seed))])
        return None


class _Collected:
    """What has come back of a batch."""

    def __init__(self, number: int, theta: Tensor) -> None:
        self._number, self._theta = number, theta
        self._x: dict[int, Tensor] = {}
        self._failures: dict[int, Failure] = {}

    def add(self, outcome: Outcome) -> bool:
        """Take in an outcome; tell whether all rows are there."""
        x = torch.tensor(outcome.x)
        self._x.update(zip(outcome.rows, x, strict=True))
        self._failures.update(outcome.failures)
        return len(self._x) + len(self._failures) == len(self._theta)

    def join(self, form: Form) -> SimulatedBatch:
        rows = sorted(self._x)
        # Not a stack, as some may have more digits than others.
        x = torch.cat([self._x[row].unsqueeze(0) for row in rows]) if rows else None
        return SimulatedBatch(
            self._number,
            self._theta[rows],
            torch.empty(0, *form.event_shape) if x is None else keep_digits(x),
            tuple(self._failures[row] for row in sorted(self._failures)),
        )
