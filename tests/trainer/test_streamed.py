"""Training beside the simulations: the same whatever simulates, and on budget."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest
import torch
from linear_gaussian import PRIOR, simulate
from test_checkpoints import SMALL, are_same, die_after
from test_simulation_stores import X_O, exact_mean, fail_where_large
from trainers import make_trainer

from sbi_aalr import AALR
from sbi_aalr.errors import InvalidSimulationsWarning
from sbi_aalr.pools import own_processes
from sbi_aalr.sampling import ValidPrior
from sbi_aalr.simulation import SimulationStore, fill_store
from sbi_aalr.trainer import journal

FEW = {"num_simulations": 1_000, "num_passes": 4, "batch_size": 50, "seed": 1}


class Counter:
    """A simulator that counts, and takes a while if it shall."""

    def __init__(self, seconds=0.0):
        self.rows, self.seconds = 0, seconds

    def __call__(self, theta):
        self.rows += len(theta)
        time.sleep(self.seconds * len(theta))
        return simulate(theta)


class Watched(ThreadPoolExecutor):
    """An executor that remembers how many jobs it had at a time."""

    most = 0

    def __init__(self, num_workers):
        super().__init__(num_workers)
        self._futures = []

    def submit(self, *arguments, **options) -> Future:
        future = super().submit(*arguments, **options)
        self._futures.append(future)
        self.most = max(self.most, sum(not one.done() for one in self._futures))
        return future


def stream(simulator=simulate, classifier=SMALL, **settings):
    trainer = make_trainer(classifier)
    trainer.train_online(simulator, **{**FEW, **settings})
    return trainer


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """A fit beside simulations that are made in this process, and their store."""
    store = tmp_path_factory.mktemp("inline") / "sims.zarr"
    counter = Counter()
    trainer = stream(counter, store=store)
    # Five more find out how the simulator is called.
    assert counter.rows == 1_000 + 5
    return trainer, SimulationStore(store)


def test_threads_and_processes_give_the_same(inline):
    for number in (1, 3):
        with ThreadPoolExecutor(number) as executor:
            assert are_same(stream(executor=executor), inline[0])
    with own_processes(2) as executor:
        assert are_same(stream(executor=executor), inline[0])
    # The control.
    with pytest.raises(AssertionError):
        are_same(stream(on_error="skip", seed=2), inline[0])


def test_simulations_are_those_of_fill_store(inline, tmp_path):
    store = SimulationStore(tmp_path / "filled")
    fill_store(store, simulate, PRIOR, 1_000, batch_size=20, seed=1)
    for ours, theirs in zip(inline[1][:], store[:], strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_in_the_store_is_not_simulated_again(inline, tmp_path):
    counter = Counter()
    assert are_same(stream(counter, store=inline[1]), inline[0])
    assert counter.rows == 0
    store = SimulationStore(tmp_path / "part")
    fill_store(store, counter, PRIOR, 500, batch_size=20, seed=1)
    counter.rows = 0
    with ThreadPoolExecutor(2) as executor:
        first = stream(counter, store=store, executor=executor)
    assert counter.rows == 500 and len(store) == 1_000
    assert are_same(first, inline[0])
    # More than are wanted are left where they are.
    counter.rows = 0
    fewer = stream(counter, store=store, num_simulations=710)
    assert counter.rows == 0 and len(store) == 1_000
    assert len(fewer.summary["training_loss"]) == 4 * ((710 - 36) // 50)


def test_budget_of_steps_is_that_of_the_recipe(inline):
    summary = inline[0].summary
    # Of the first hundred simulations, half are held out.
    assert len(summary["training_loss"]) == 4 * (950 // 50)
    assert len(summary["validation_loss"]) == 4
    assert summary["recipe"][-1]["stored_per_fresh"] == 2
    assert max(summary["learning_rate"]) > 10 * summary["learning_rate"][-1]


def test_number_of_jobs_in_flight_is_bounded():
    with Watched(2) as executor:
        stream(Counter(0.0005), executor=executor, num_passes=1)
    assert 2 <= executor.most <= 4


def test_failure_ends_the_call_and_leaves_all_as_it_was():
    trainer = stream(store=None, on_error="skip", num_simulations=200)
    before = trainer._neural_net
    with pytest.raises(ValueError, match=r"`simulator` failed for theta = .*skip"):
        trainer.train_online(
            fail_where_large, 200, seed=1, executor=ThreadPoolExecutor(1)
        )
    assert trainer._neural_net is before


@pytest.mark.usefixtures("hasty_recipe")
def test_what_failed_is_set_aside_and_corrected_for():
    trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
    settings = {"num_simulations": 4_000, "num_passes": 3, "seed": 1}
    with pytest.warns(InvalidSimulationsWarning, match="of 4000 simulations failed"):
        trainer.train_online(fail_where_large, on_error="skip", **settings)
    posterior = trainer.build_posterior()
    assert isinstance(posterior.proposal, ValidPrior)
    settings = {"x": X_O, "seed": 1, "show_progress_bars": False}
    draws = posterior.sample((2_000,), **settings)
    assert float(draws[:, 0].mean()) == pytest.approx(exact_mean(), abs=0.06)
    # The control: without the factor it is that of a simulator that never fails.
    plain = trainer.build_posterior(trainer._neural_net, PRIOR)
    wrong = plain.sample((2_000,), **settings)
    assert float(wrong[:, 0].mean()) > exact_mean() + 0.1


def test_time_limit_holds_while_simulations_are_waited_for():
    trainer = make_trainer(SMALL)
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as executor:
        trainer.train_online(
            Counter(0.01), 5_000, seed=1, executor=executor, time_limit=6
        )
        seconds = time.perf_counter() - started
    assert 4 < seconds < 9
    rates = trainer.summary["learning_rate"]
    assert rates[-1] < 0.5 * max(rates)


def test_limit_within_which_nothing_comes_is_named():
    message = "must leave time for simulations, got 0.5 s, in which 0 came of the 100"
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match=message):
        stream(Counter(0.05), executor=executor, time_limit=0.5)


def test_ctrl_c_while_waiting_leaves_what_was_learnt(monkeypatch):
    calls = []

    def press(theta):
        calls.append(len(theta))
        if len(calls) > 30:
            raise KeyboardInterrupt
        return simulate(theta)

    trainer = make_trainer(SMALL)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_online(press, on_error="skip", **FEW)
    assert trainer.summary["interrupted"] == [True]
    assert 0 < len(trainer.summary["training_loss"]) < 4 * 19
    assert trainer.build_posterior() is not None
    del calls[:30]
    with pytest.raises(KeyboardInterrupt):
        make_trainer(SMALL).train_online(press, on_error="skip", **FEW)


@pytest.mark.parametrize(
    ("has_store", "numbers"),
    [pytest.param(False, (1, 30), marks=pytest.mark.slow), (True, (1, 5))],
)
def test_killed_call_goes_on_bit_for_bit(
    has_store, numbers, inline, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "_TIMES_AS_LONG", 0)
    counter = Counter()
    more = {"store": tmp_path / "store"} if has_store else {"on_error": "raise"}
    with ThreadPoolExecutor(2) as executor:
        more["executor"] = executor
        call = partial(stream, counter, checkpoint_every=1e-9, **more)
        for number in numbers:
            folder = {"checkpoint": tmp_path / f"run_{number}"}
            assert die_after(monkeypatch, number, lambda f: call(**f), folder) == number
            assert are_same(call(**folder), inline[0])
            counter.rows = 0
            assert are_same(call(**folder), inline[0])
            assert counter.rows <= 5


@pytest.mark.usefixtures("hasty_recipe")
def test_killed_stack_goes_on_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_TIMES_AS_LONG", 0)

    def call(folder):
        trainer = AALR(PRIOR, base="posterior", show_progress_bars=False)
        settings = {"num_simulations": 300, "num_passes": 2, "seed": 1}
        trainer.train_online(simulate, on_error="skip", **settings, **folder)
        return trainer

    unbroken = call({})
    folder = {"checkpoint": tmp_path, "checkpoint_every": 1e-9}
    assert die_after(monkeypatch, 6, call, folder) == 6
    assert are_same(call({**folder, "checkpoint_every": 1}), unbroken)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"executor": 3}, TypeError),
        ({"store": 3}, TypeError),
        ({"on_error": "ignore"}, ValueError),
        ({"timeout": 0}, ValueError),
    ],
)
def test_arguments_are_checked(given, error):
    with pytest.raises(error, match=f"`{next(iter(given))}` must be"):
        stream(**given)
