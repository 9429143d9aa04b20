"""Where jobs run: any executor, a pool of our own processes, or this process."""

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import Any

from sbi_aalr.errors import NoWorkersWarning

# What a loss of workers does not raise; errors of a job itself it has to give back.
NOT_LOSSES = (ImportError, AttributeError, pickle.PickleError, MemoryError)
# Seconds without a result after which a cluster is asked whether it has workers.
_LONG = 60.0


class InProcess(Executor):
    """An executor that does everything at once, in this process."""

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Call a function, and return what it returned as a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Pool:
    """An executor, and the one that takes its place when all its workers are lost.

    `concurrent.futures` gives up a pool of processes as soon as one of them dies.

    Args:
        executor: Any executor; None for this process.

    Attributes:
        num_workers: How many jobs it can do at a time, as far as that can be told.
        may_exit: Whether its workers are processes that it, or what stands behind it,
            replaces.
    """

    def __init__(self, executor: Executor | None) -> None:
        self._given = executor
        self._executor = executor or InProcess()
        self.num_workers = count_workers(executor)
        kind = type(executor).__module__.partition(".")[0]
        self._is_dask = kind == "distributed"
        self.may_exit = isinstance(executor, ProcessPoolExecutor) or self._is_dask
        self._generation = 0
        self._last_result = time.monotonic()

    def submit(
        self, function: Callable[..., Any], *arguments: Any
    ) -> tuple[Future[Any], int]:
        """Hand in a call; return its future, and which pool it was given to."""
        if self._is_dask:
            return _submit_to_dask(self._executor, function, arguments), 0
        try:
            return self._executor.submit(function, *arguments), self._generation
        except BrokenProcessPool:
            self.renew(self._generation)
            return self._executor.submit(function, *arguments), self._generation

    def wait(
        self, futures: Collection[Future[Any]], patience: float | None = None
    ) -> set[Future[Any]]:
        """Wait until one is done.

        Args:
            futures: What was handed in.
            patience: Most seconds to wait; None for any number.

        Returns:
            Those that are done; none where patience is over.
        """
        until = None if patience is None else time.monotonic() + patience
        while True:
            left = _LONG if until is None else max(0.0, until - time.monotonic())
            done = wait_for(futures, min(left, _LONG), FIRST_COMPLETED).done
            if done:
                self._last_result = time.monotonic()
            elif self._is_dask and time.monotonic() - self._last_result >= _LONG:
                self._warn_if_empty()
            if done or (until is not None and time.monotonic() >= until):
                return done

    def _warn_if_empty(self) -> None:
        self._last_result = time.monotonic()
        executor: Any = self._executor
        # Whatever is wrong with the cluster shows in what was handed in.
        with contextlib.suppress(Exception):
            if not executor._client.nthreads():
                warnings.warn(
                    f"The cluster at {executor._client.scheduler.address} has had no "
                    "result for a minute and has no workers; what was handed in waits "
                    "for some. Start workers there, or interrupt: what is done stays "
                    "in the store or in `out`, if there is one.",
                    NoWorkersWarning,
                    stacklevel=2,
                )

    def renew(self, generation: int) -> None:
        """Replace a pool that has lost a worker, unless that was done already."""
        is_pool = isinstance(self._executor, ProcessPoolExecutor)
        if generation < self._generation or not is_pool:
            return
        broken: Any = self._executor
        self._generation += 1
        self._executor = ProcessPoolExecutor(
            broken._max_workers,
            mp_context=broken._mp_context,
            initializer=broken._initializer,
            initargs=broken._initargs,
        )
        if broken is not self._given:
            broken.shutdown(wait=False)

    def close(self) -> None:
        """End the processes that took the place of those that were given."""
        if self._generation:
            _end(self._executor)


def _submit_to_dask(
    executor: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Future[Any]:
    """Hand in a call to a cluster, and learn of its end whatever that is.

    Dask's own executor leaves a future pending for ever where a result is lost before
    it is fetched, as it is when a cluster is restarted at that moment.
    """
    settings = {"pure": False, **executor._kwargs}
    there = executor._client.submit(function, *arguments, **settings)
    here: Future[Any] = Future()

    def hand_over(there: Any) -> None:
        if not here.set_running_or_notify_cancel():
            return
        try:
            result = there.result()
        # A cancelled one raises what is no `Exception`.
        except BaseException as error:
            lost = RuntimeError(f"{type(error).__name__}: {error}")
            here.set_exception(error if isinstance(error, Exception) else lost)
        else:
            here.set_result(result)

    there.add_done_callback(hand_over)
    here.add_done_callback(lambda one: there.cancel() if one.cancelled() else None)
    return here


def count_workers(executor: Executor | None) -> int:
    """How many jobs an executor can do at a time, as far as that can be told."""
    if executor is None:
        return 1
    threads = getattr(getattr(executor, "_client", None), "nthreads", None)
    if callable(threads):
        return max(1, sum(threads().values()))
    return getattr(executor, "_max_workers", None) or os.cpu_count() or 1


@contextlib.contextmanager
def own_processes(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end with this block, or with this process.

    Args:
        num_workers: How many, each of which takes one core.
    """
    # What is imported from the current folder is looked for in that of now.
    path = [folder or os.getcwd() for folder in sys.path]
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=get_context("spawn"),
        initializer=_prepare_worker,
        initargs=(path,),
    )
    try:
        yield pool
    finally:
        _end(pool)


def _end(pool: Any) -> None:
    """End the processes of a pool, whatever they are at."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker(path: list[str]) -> None:
    import torch

    sys.path[:] = path
    # Ctrl-C is for the process that hands out the jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that made it is gone, however that ended."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
