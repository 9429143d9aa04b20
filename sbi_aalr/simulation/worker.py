"""What a worker does: it seeds, simulates, and sets aside what fails.

What is simulated depends on the seed of the run, the number of the batch and that of
the row only, and on nothing that a worker did before. Simulators draw from global
generators, so in one process there is one simulation at a time.
"""

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch
from torch import Tensor

from sbi_aalr.seeding import derive_seed, generators_kept, seed_generators
from sbi_aalr.simulation.guarded import GuardedSimulator, modes_kept
from sbi_aalr.simulation.store_marks import Failure
from sbi_aalr.simulation.time_limits import call_within

# Parts of a batch that have seeds of their own.
OF_THETA, OF_BATCH, OF_ROWS, OF_TRIAL = range(4)

_NOT_FINITE = "it returned NaN or infinity, or a number too large for float32"
TURN = threading.Lock()

Payload = bytes | Callable[..., Any]


class Form(NamedTuple):
    """How a simulator is called, and what it returns.

    Attributes:
        takes_batches: Whether it takes `(N, D)`, or one row `(D,)` at a time.
        event_shape: Shape of the data of one row.
    """

    takes_batches: bool
    event_shape: tuple[int, ...]


class Job(NamedTuple):
    """A batch to simulate, or one row of a batch in which something failed.

    Attributes:
        run: Seed of the run.
        batch: Number of the batch.
        rows: Numbers of the rows in the batch.
        theta: Their parameters, shape `(N, D)`.
        form: How the simulator is called.
        timeout: Seconds that a call may take; None for any number.
        num_retries: How often to try again what has failed.
        may_exit: Whether the process may end to enforce the time limit.
        is_alone: Whether each row is to be simulated in a call of its own.
        num_losses: How many workers were lost that did this.
    """

    run: int
    batch: int
    rows: tuple[int, ...]
    theta: np.ndarray
    form: Form
    timeout: float | None
    num_retries: int
    may_exit: bool
    is_alone: bool = False
    num_losses: int = 0

    def split(self) -> "list[Job]":
        """Its rows, each a job of its own."""
        return [
            self._replace(
                rows=(row,), theta=self.theta[i : i + 1], is_alone=True, num_losses=0
            )
            for i, row in enumerate(self.rows)
        ]


class Outcome(NamedTuple):
    """What became of a job.

    Attributes:
        rows: Numbers of the rows that succeeded.
        x: Their data, shape `(n, *event_shape)`, float32 or float64.
        failures: Numbers of the rows that failed, and what is known of each.
    """

    rows: list[int]
    x: np.ndarray
    failures: list[tuple[int, Failure]]


def run_job(payload: Payload, job: Job) -> Outcome:
    """Simulate a batch, or some rows of it.

    Args:
        payload: The simulator, or the same pickled.
        job: What to simulate.

    Returns:
        Data and failures; together all rows of the job.

    Raises:
        ImportError: If the simulator cannot be loaded here.
    """
    simulate = _load(payload)
    with TURN, generators_kept():
        outcome = None
        if job.form.takes_batches and not job.is_alone:
            outcome = _simulate_batch(simulate, job)
        return outcome or _simulate_rows(simulate, job)


def find_form(payload: Payload, job: Job) -> Form | str:
    """Find out whether a simulator takes batches, by trying.

    Args:
        payload: The simulator, or the same pickled.
        job: Five rows to try, shape `(5, D)`; its form is not known yet, and the number
            of its batch is that of the attempt.

    Returns:
        Its form, or what went wrong.

    Raises:
        ImportError: If the simulator cannot be loaded here.
    """
    simulate, theta = _load(payload), torch.tensor(job.theta)
    problems = []
    with TURN, generators_kept():
        # Where many parameters fail, one row is likelier to work than five.
        for parts in (theta.split((2, 3)), *zip(theta.split(1), strict=True)):
            for takes_batches in (True, False):
                guarded = GuardedSimulator(simulate, by_row=not takes_batches)
                try:
                    found = _try_form(guarded, parts, job, takes_batches)
                except TimeoutError as error:
                    return f"it {error}"
                if isinstance(found, Form):
                    return found
                problems.append(found)
    together, by_row = problems[:2]
    return together if together == by_row else f"{together}; row by row {by_row}"


def _try_form(
    guarded: GuardedSimulator, parts: Sequence[Tensor], job: Job, takes_batches: bool
) -> Form | str:
    """The form if the simulator works in this one, or what went wrong."""
    seed_generators(derive_seed(job.run, job.batch, OF_TRIAL, 0))
    try:
        shapes = [_run(guarded, part, job).shape for part in parts]
    except Exception as error:
        if isinstance(cause := error.__cause__ or error, TimeoutError):
            raise cause from None
        return _describe(error)
    sizes = [len(part) for part in parts]
    if shapes == [(size,) for size in sizes]:
        return (
            "it must return one row for each parameter set, got one number. "
            "Give it the shape (1,): `x.unsqueeze(-1)`"
        )
    if [shape[0] for shape in shapes if len(shape) > 1] == sizes:
        return Form(takes_batches, tuple(shapes[0][1:]))
    return "it did not return one row for each parameter set"


def _load(payload: Payload) -> Callable[..., Any]:
    return _unpickle(payload) if isinstance(payload, bytes) else payload


@lru_cache(maxsize=4)
def _unpickle(payload: bytes) -> Callable[..., Any]:
    try:
        simulate: Callable[..., Any] = cloudpickle.loads(payload)
    except Exception as error:
        raise ImportError(
            "`simulator` must be one that workers can load, but there "
            f"{type(error).__name__} was raised: {error}. Define it in a module that "
            "they can import."
        ) from error
    return simulate


def _run(guarded: GuardedSimulator, theta: Tensor, job: Job) -> Tensor:
    if job.timeout is None:
        return guarded.run(theta)
    # Kept here, and not where it runs: it may be given up, and end much later.
    with modes_kept():
        return call_within(
            job.timeout, lambda: guarded.run_unguarded(theta), job.may_exit
        )


def _simulate_batch(simulate: Callable[..., Any], job: Job) -> Outcome | None:
    """Simulate all rows in one call; None if it fails, for whichever of them."""
    guarded, theta = GuardedSimulator(simulate), torch.tensor(job.theta)
    seed = derive_seed(job.run, job.batch, OF_BATCH)
    for _ in range(1 + job.num_retries):
        seed_generators(seed)
        try:
            x = _run(guarded, theta, job)
        except Exception:
            continue
        if x.shape == (len(theta), *job.form.event_shape):
            # Not tried again: with this seed it is what the batch gives.
            valid = torch.isfinite(x.float()).flatten(1).all(dim=1)
            failures = [
                (job.rows[i], Failure(tuple(theta[i].tolist()), _NOT_FINITE, seed))
                for i in (~valid).nonzero().flatten().tolist()
            ]
            rows = [row for row, good in zip(job.rows, valid, strict=True) if good]
            return Outcome(rows, x[valid].numpy(), failures)
    return None


def _simulate_rows(simulate: Callable[..., Any], job: Job) -> Outcome:
    """Simulate each row in a call of its own, with a seed of its own."""
    by_row = not job.form.takes_batches
    # How many digits are worth keeping is seen of all rows together.
    guarded = GuardedSimulator(simulate, by_row=by_row, keeps_all=True)
    rows, data, failures = [], [], []
    for row, theta in zip(job.rows, torch.tensor(job.theta), strict=True):
        seed = derive_seed(job.run, job.batch, OF_ROWS, row)
        x = _simulate_row(guarded, theta[None], seed, job)
        if isinstance(x, str):
            failures.append((row, Failure(tuple(theta.tolist()), x, seed)))
        else:
            rows.append(row)
            data.append(x)
    empty = np.empty((0, *job.form.event_shape), dtype=np.float32)
    return Outcome(rows, torch.cat(data).numpy() if data else empty, failures)


def _simulate_row(
    guarded: GuardedSimulator, theta: Tensor, seed: int, job: Job
) -> Tensor | str:
    """The data of one row, or what went wrong in the last of the attempts."""
    problem = ""
    for _ in range(1 + job.num_retries):
        seed_generators(seed)
        try:
            x = _run(guarded, theta, job)
        except Exception as error:
            problem = _describe(error)
            continue
        if x.shape != (1, *job.form.event_shape):
            problem = (
                f"it returned {tuple(x.shape[1:])}, not {job.form.event_shape} as for "
                "other parameters"
            )
        elif not torch.isfinite(x.float()).all():
            problem = _NOT_FINITE
        else:
            return x
    return problem


def _describe(error: Exception) -> str:
    """What the simulator raised, without what was wrapped around it."""
    cause = error.__cause__ or error
    if isinstance(cause, TimeoutError):
        return f"it {cause}"
    return f"it raised {type(cause).__name__}: {cause}".rstrip(".")[:500]
