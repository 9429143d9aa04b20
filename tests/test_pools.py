"""Where jobs run: this process, processes of its own, and a cluster."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from sbi_aalr import pools
from sbi_aalr.errors import NoWorkersWarning
from sbi_aalr.pools import InProcess, own_processes


def test_futures_of_this_process_tell_what_was_raised():
    with InProcess() as executor:
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 7, 0).result()


def test_own_processes_end_with_their_block():
    with own_processes(1) as pool:
        assert pool.submit(abs, -3).result() == 3
        processes = list(pool._processes.values())
    assert [process.is_alive() for process in processes] == [False]


def test_jobs_on_a_cluster_are_cancelled_with_their_futures():
    there = Future()
    client = SimpleNamespace(submit=lambda *arguments, **settings: there)
    executor = SimpleNamespace(_client=client, _kwargs={})
    here = pools._submit_to_dask(executor, print, ())
    assert here.cancel() and there.cancelled()
    there = Future()
    here = pools._submit_to_dask(executor, print, ())
    there.set_result(3)
    assert here.result() == 3


def test_cluster_without_workers_is_told(monkeypatch):
    class Client:
        scheduler, counts = SimpleNamespace(address="tcp://here"), [{"one": 1}, {}]

        def nthreads(self):
            if len(self.counts) == 1:
                there.set_result(3)
            return self.counts.pop(0)

    monkeypatch.setattr(pools, "_LONG", 0.01)
    pool, there = pools.Pool(None), Future()
    pool._is_dask, pool._executor = True, SimpleNamespace(_client=Client())
    assert pool.wait([there], 0.0) == set()
    with pytest.warns(NoWorkersWarning, match="tcp://here has had no result") as found:
        assert pool.wait([there]) == {there}
    assert len(found) == 1
