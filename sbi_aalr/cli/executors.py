"""Where the command simulates: processes of this machine, or a Dask cluster."""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Annotated

import typer

Workers = Annotated[
    int | None,
    typer.Option(help="Processes that simulate.", show_default="one a core"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler whose workers are to simulate instead, "
        "such as tcp://host:8786."
    ),
]


@contextlib.contextmanager
def open_executor(workers: int | None, scheduler: str | None) -> Iterator[Executor]:
    """Open processes of this machine, or the workers of a Dask cluster.

    Args:
        workers: Number of processes; None for one a core.
        scheduler: Address of a Dask scheduler; None for processes.

    Raises:
        ImportError: If Dask is needed and not there.
        ValueError: If both are given, or there are no workers.
    """
    from sbi_aalr.checks import check_positive_int
    from sbi_aalr.pools import own_processes

    if workers is not None:
        workers = check_positive_int("workers", workers)
    if scheduler is None:
        with own_processes(workers or os.cpu_count() or 1) as executor:
            yield executor
        return
    if workers is not None:
        raise ValueError(
            "`workers` must be left out with `scheduler`, whose cluster has its own."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "`scheduler` needs Dask. Install it with `pip install 'sbi-aalr[dask]'`."
        ) from error
    with Client(scheduler, set_as_default=False) as client:
        yield client.get_executor()
