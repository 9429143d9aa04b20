"""Simulations on a real cluster of two worker processes, one of which is killed."""

import os
import signal
import threading
import time
import warnings

import clusters
import pytest
import torch
import unreliable
from torch.distributions import MultivariateNormal

from sbi_aalr.errors import InvalidSimulationsWarning
from sbi_aalr.simulation import SimulationStore, fill_store

distributed = pytest.importorskip("distributed")

PRIOR = MultivariateNormal(torch.zeros(2), torch.eye(2))
SETTINGS = {"num_simulations": 60, "batch_size": 10, "seed": 1}

# Of sockets and event loops, some of which Dask leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client():
    # Workers import what the tests import.
    with clusters.open_client(os.path.dirname(unreliable.__file__)) as client:
        yield client


def is_equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_worker_killed_on_the_way_changes_nothing(client, tmp_path):
    expected = SimulationStore(tmp_path / "expected")
    fill_store(expected, unreliable.simulate_slowly, PRIOR, **SETTINGS)
    store = SimulationStore(tmp_path / "sims")
    pids = list(client.run(os.getpid).values())
    assert len(pids) == 2 and os.getpid() not in pids
    killed = []

    def kill_one(account):
        if account.num_simulations >= 20 and not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    account = fill_store(
        store,
        unreliable.simulate_slowly,
        PRIOR,
        executor=client.get_executor(),
        on_batch=kill_one,
        **SETTINGS,
    )
    assert killed and account == (60, 0)
    assert is_equal(store[:], expected[:])
    assert killed[0] not in client.run(os.getpid).values()


@pytest.mark.slow
def test_cluster_that_is_restarted_on_the_way_changes_nothing(client, tmp_path):
    expected = SimulationStore(tmp_path / "expected")
    fill_store(expected, unreliable.simulate_slowly, PRIOR, **SETTINGS)
    store = SimulationStore(tmp_path / "sims")
    threads = []

    def restart(account):
        if account.num_simulations >= 20 and not threads:
            threads.append(threading.Thread(target=clusters.restart, args=[client]))
            threads[0].start()
            time.sleep(0.1)

    account = fill_store(
        store,
        unreliable.simulate_slowly,
        PRIOR,
        executor=client.get_executor(),
        on_batch=restart,
        **SETTINGS,
    )
    threads[0].join()
    assert account == (60, 0) and is_equal(store[:], expected[:])


@pytest.mark.slow
def test_failures_and_a_simulator_that_hangs_are_in_the_account(client, tmp_path):
    store = SimulationStore(tmp_path / "sims")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InvalidSimulationsWarning)
        account = fill_store(
            store,
            unreliable.hang,
            PRIOR,
            num_simulations=20,
            batch_size=10,
            seed=1,
            executor=client.get_executor(),
            timeout=0.2,
            num_retries=0,
            on_error="skip",
        )
    assert account.num_simulations == 20 and 0 < account.num_failures < 10
    assert unreliable.is_bad(store.failures.theta).all()
    assert set(store.failures.errors) == {"it took longer than 0.2 s"}


def test_result_that_is_lost_before_it_is_fetched_is_made_again(client, tmp_path):
    store, gather, lost = SimulationStore(tmp_path / "sims"), client._gather, []

    async def lose(futures, *arguments, **options):
        if len(lost) < 2:
            lost.append(futures)
            raise distributed.CancelledError("lost")
        return await gather(futures, *arguments, **options)

    client._gather = lose
    try:
        account = fill_store(
            store,
            unreliable.simulate_slowly,
            PRIOR,
            executor=client.get_executor(),
            **SETTINGS,
        )
    finally:
        client._gather = gather
    assert lost and account == (60, 0)
