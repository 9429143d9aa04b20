"""A Dask cluster on this machine, for tests that lose its workers."""

import sys
import warnings
from contextlib import contextmanager

import pytest


@contextmanager
def open_client(folder):
    """The client of two worker processes that import from a folder, too."""
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        warnings.simplefilter("ignore")
        # A restart now and then leaves Dask without its workers.
        cluster.adapt(minimum=2, maximum=2)
        client.run(_import_from, str(folder))
        yield client


def restart(client):
    """Restart a cluster; Dask waits two minutes for workers that do not come back."""
    client.restart(timeout=10, wait_for_workers=False)


def _import_from(folder):
    sys.path.append(folder)
