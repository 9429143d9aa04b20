"""Observations in shards, on processes and on a cluster, one worker of it killed."""

import os
import pickle
import signal
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import clusters
import joblib
import pytest
import torch
from exact_ratios import make_known, make_posterior_density
from linear_gaussian import SHORT, draw_pairs
from torch.distributions import Independent, Normal

from sbi_aalr import MHPosterior
from sbi_aalr.comparison import compare
from sbi_aalr.persistence.run_store import read_run
from sbi_aalr.pools import InProcess, own_processes
from sbi_aalr.sampling import chunks, elsewhere

X = draw_pairs(10, seed=4)[2]
SETTINGS = {**SHORT, "seed": 1}


@pytest.fixture
def prior():
    """Of its own, as other tests leave on theirs what cannot be sent."""
    return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


@pytest.fixture
def posterior(prior):
    return MHPosterior.from_estimator(make_known(), prior)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK", 3)


def sample(posterior, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return posterior.sample_batched((50,), X, **{**SETTINGS, **settings})


def test_kernel_that_a_density_guides_is_the_same_on_a_worker(posterior, prior):
    """A kernel that was sent is another object, but no other kernel."""
    estimator = make_known()
    estimator.proposal = make_posterior_density()
    guided = MHPosterior.from_estimator(estimator, prior)
    expected = sample(guided)
    with Counted() as executor:
        assert torch.equal(sample(guided, executor=executor), expected)
    assert not torch.equal(sample(posterior), expected)


class Counted(ThreadPoolExecutor):
    """An executor that counts its jobs, and fails after some of them."""

    def __init__(self, most=100):
        super().__init__(1)
        self.count, self.most = 0, most

    def submit(self, *arguments, **options):
        self.count += 1
        if self.count > self.most:
            raise RuntimeError("no workers")
        return super().submit(*arguments, **options)


def test_executor_gives_the_same_draws(posterior, tmp_path):
    expected = sample(posterior)
    with Counted() as executor:
        draws = sample(posterior, executor=executor)
    assert torch.equal(draws, expected) and executor.count == 4
    out = tmp_path / "draws.nc"
    with Counted() as executor:
        assert torch.equal(sample(posterior, executor=executor, out=out), expected)
    assert out.exists()


def test_what_was_done_before_is_not_done_again(posterior, tmp_path, monkeypatch):
    out, sample_there = tmp_path / "draws.nc", elsewhere._sample_there

    def fail_late(payload, number, x):
        if number > 1:
            raise RuntimeError("the worker was lost")
        return sample_there(payload, number, x)

    monkeypatch.setattr(elsewhere, "_sample_there", fail_late)
    with Counted() as executor, pytest.raises(RuntimeError, match="was lost"):
        sample(posterior, executor=executor, out=out)
    monkeypatch.setattr(elsewhere, "_sample_there", sample_there)
    with Counted() as executor:
        draws = sample(posterior, executor=executor, out=out)
    assert executor.count == 2
    assert torch.equal(draws, sample(posterior))


class Losing(Counted):
    """An executor that loses the first results of every job."""

    def __init__(self, num_losses):
        super().__init__()
        self.num_losses, self.lost = num_losses, Counter()

    def submit(self, function, payload, number, x):
        self.lost[number] += 1
        if self.lost[number] > self.num_losses:
            return super().submit(function, payload, number, x)
        self.count += 1
        future = Future()
        future.set_exception(OSError("connection lost"))
        return future


def test_shard_whose_worker_was_lost_is_sampled_again(posterior):
    with Losing(2) as executor:
        draws = sample(posterior, executor=executor)
    assert executor.count == 3 * 4
    assert torch.equal(draws, sample(posterior))


def test_shard_that_always_loses_its_worker_is_given_up(posterior):
    with (
        Losing(100) as executor,
        pytest.raises(OSError, match="connection lost") as caught,
    ):
        sample(posterior, executor=executor)
    assert "observations, lost its worker 4 times" in caught.value.__notes__[0]
    assert max(executor.lost.values()) == 4


class Breaking(InProcess):
    """An executor that loses all that is out when one job is done, time and again."""

    def __init__(self):
        self.lost = Counter()

    def submit(self, function, payload, number, x):
        self.lost[number] += 1
        if self.lost[number] > number:
            return super().submit(function, payload, number, x)
        future = Future()
        future.set_exception(BrokenProcessPool("a worker was lost"))
        return future


def test_losses_count_only_while_nothing_is_done(posterior, monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK", 1)
    executor = Breaking()
    draws = sample(posterior, executor=executor)
    assert torch.equal(draws, sample(posterior))
    assert max(executor.lost.values()) == len(X)


class TwoWordsError(Exception):
    """One that cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize(
    "error", [OverflowError("of the ratio"), TwoWordsError("of the", "ratio")]
)
def test_error_comes_back_whatever_it_is(error):
    found = pickle.loads(pickle.dumps(elsewhere._make_portable(error)))
    assert "of the ratio" in str(found) and type(error).__name__ in repr(found)


def fail(*arguments):
    raise OverflowError("of the ratio itself")


def test_error_of_the_ratio_is_not_tried_again(posterior, monkeypatch):
    monkeypatch.setattr(elsewhere.Job, "sample", fail)
    with (
        Counted() as executor,
        pytest.raises(OverflowError, match="of the ratio itself") as caught,
    ):
        sample(posterior, executor=executor)
    assert executor.count == 4
    assert "On a worker:" in caught.value.__notes__[0]


@pytest.mark.slow
def test_processes_that_are_killed_are_replaced(posterior):
    expected = sample(posterior)
    with own_processes(2) as executor:
        executor.submit(os.getpid).result()
        first = next(iter(executor._processes.values()))
        thread = threading.Timer(0.5, first.kill)
        thread.start()
        draws = sample(posterior, executor=executor)
        thread.join()
        assert not first.is_alive()
    assert torch.equal(draws, expected)


def test_executor_must_be_one(posterior):
    with pytest.raises(TypeError, match="`executor` must be an Executor"):
        sample(posterior, executor="dask")


@pytest.fixture(scope="module")
def client():
    with clusters.open_client(os.path.dirname(os.path.dirname(__file__))) as client:
        yield client


@pytest.mark.filterwarnings("ignore")
def test_draws_on_disk_do_not_wait_for_a_cluster(client, posterior, tmp_path):
    """Where there is one, xarray asks it for a lock on what only this process has."""
    draws = sample(posterior, out=tmp_path / "draws.zarr")
    out = tmp_path / "draws.nc"
    assert torch.equal(sample(posterior, out=out), draws)
    chains = read_run(out, posterior.target).chains
    torch.testing.assert_close(chains.theta, posterior.chains.theta)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cluster_samples_shards_with_a_worker_killed(client, posterior):
    expected = sample(posterior)
    pids = list(client.run(os.getpid).values())

    def kill():
        time.sleep(0.3)
        os.kill(pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    draws = sample(posterior, executor=client.get_executor())
    thread.join()
    assert torch.equal(draws, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3, 1.0])
def test_cluster_that_is_restarted_samples_all_shards(client, posterior, wait):
    expected = sample(posterior)
    thread = threading.Timer(wait, clusters.restart, [client])
    thread.start()
    draws = sample(posterior, executor=client.get_executor())
    thread.join()
    assert torch.equal(draws, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cluster_compares(client, tmp_path):
    columns = ["task", "method", "budget", "observation", "seed", "c2st"]
    settings = {"observations": 1, "num_samples": 100, "show_progress_bars": False}
    arguments = ["two_moons", "gaussian_linear"], ["npe"], [100]
    expected = compare(*arguments, out=tmp_path / "here", **settings)
    with joblib.parallel_config(backend="dask"):
        table = compare(*arguments, out=tmp_path / "there", **settings)
    assert table[columns].equals(expected[columns])
