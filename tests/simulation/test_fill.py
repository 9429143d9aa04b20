import threading
from concurrent.futures import Executor, Future

import pytest
import torch
import unreliable
from filled import EXECUTORS, PRIOR, SETTINGS, fill, is_equal, open_executor
from kills import choose_steps, count_steps, kill_at, needs_fork
from torch.distributions import MultivariateNormal

from sbi_aalr.errors import InvalidSimulationsWarning
from sbi_aalr.pools import own_processes
from sbi_aalr.seeding import seeded
from sbi_aalr.simulation import SimulationStore, fill_store
from sbi_aalr.simulation import fill as filling

pytestmark = pytest.mark.filterwarnings(
    # Python warns of threads in the parent, which the workers do not use.
    "ignore:This process:DeprecationWarning"
)


@pytest.mark.parametrize("name", EXECUTORS)
@pytest.mark.parametrize("simulator", [unreliable.simulate, unreliable.simulate_row])
def test_seed_gives_the_same_simulations_on_any_executor(tmp_path, name, simulator):
    expected, account = fill(tmp_path / "expected", simulator)
    assert account == (60, 0) and len(expected) == 60
    before = torch.random.get_rng_state()
    with open_executor(name) as executor:
        found, _ = fill(tmp_path / "found", simulator, executor=executor)
    assert is_equal(found[:], expected[:])
    assert torch.equal(torch.random.get_rng_state(), before)
    other, _ = fill(tmp_path / "other", simulator, seed=2)
    assert not is_equal(other[:], expected[:])


def test_simulations_are_all_different_and_follow_prior_and_simulator(tmp_path):
    settings = {"num_simulations": 3_000, "batch_size": 100}
    theta, x = fill(tmp_path / "sims", unreliable.simulate, **settings)[0][:]
    assert len(theta.unique(dim=0)) == len(x.unique(dim=0)) == 3_000
    assert theta.mean(0).abs().max() < 0.1 and (theta.std(0) - 1).abs().max() < 0.1
    noise = (x - theta) / 0.1
    assert (noise.std(0) - 2**0.5).abs().max() < 0.1
    # Neither rows nor batches share their noise with parameters or with one another.
    assert (
        torch.corrcoef(torch.cat((theta, noise), 1).T).fill_diagonal_(0).abs().max()
        < 0.1
    )
    by_batch = noise[:, 0].reshape(30, 100)
    assert torch.corrcoef(by_batch).fill_diagonal_(0).abs().max() < 0.5


class StopError(Exception):
    """Stands for whatever ends a run."""


def test_run_that_was_stopped_goes_on_to_the_same_store(tmp_path, good):
    def stop(account):
        if account.num_simulations in (20, 50):
            raise StopError

    path = tmp_path / "sims"
    for number in (20, 50):
        with pytest.raises(StopError):
            fill(path, unreliable.simulate, on_batch=stop)
        assert len(SimulationStore(path)) == number
    store, account = fill(path, unreliable.simulate, seed=None)
    assert account == (60, 0) and is_equal(store[:], good)
    calls = []
    fill(path, unreliable.simulate, on_batch=calls.append)
    assert calls == []
    store, account = fill(path, unreliable.simulate, num_simulations=85)
    assert account == (85, 0) and is_equal(store[:60], good)


@needs_fork
@pytest.mark.parametrize("num_kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_run_that_is_killed_at_any_step_loses_and_repeats_nothing(
    tmp_path, good, num_kills
):
    def run(path):
        fill(path, unreliable.simulate)

    steps = count_steps(lambda: run(tmp_path / "count"))
    assert steps > 60
    for kill, number in enumerate(choose_steps(steps, num_kills)):
        path = tmp_path / str(kill)
        kill_at(lambda path=path: run(path), number)
        before = SimulationStore(path).find_batches(1)
        batches = []
        store, account = fill(path, unreliable.simulate, on_batch=batches.append)
        assert account == (60, 0) and is_equal(store[:], good)
        assert len(batches) == 6 - len(before) and store.validate() == 60


@pytest.mark.parametrize(
    "simulator",
    [unreliable.raise_in_batch, unreliable.raise_in_row, unreliable.return_nan],
)
@pytest.mark.parametrize("name", EXECUTORS)
def test_failures_are_set_aside_alone(tmp_path, good, simulator, name):
    with open_executor(name) as executor:
        store, account = fill(
            tmp_path / "sims", simulator, executor=executor, on_error="skip"
        )
    bad = unreliable.is_bad(good[0])
    assert account == (60, bad.sum()) and 3 < bad.sum() < 20
    assert torch.equal(store.failures.theta, good[0][bad])
    assert torch.equal(store[:][0], good[0][~bad])
    error = (
        "it returned NaN"
        if simulator is unreliable.return_nan
        else ("it raised ZeroDivisionError: too stiff")
    )
    assert all(found.startswith(error) for found in store.failures.errors)
    assert store.describe()["num_failures"] == bad.sum()


def test_failure_can_be_done_again(tmp_path):
    def fail_by_chance(theta):
        noise = torch.randn(2)
        if noise[0] > 1.5 or theta.ndim > 1:
            raise ValueError(f"unlucky {float(noise[0]):.4f}")
        return theta + noise

    store, _ = fill(tmp_path / "sims", fail_by_chance, on_error="skip")
    failures = store.failures
    assert len(failures.errors) > 2
    for theta, error, seed in zip(*failures, strict=True):
        with seeded(seed), pytest.raises(ValueError, match="unlucky") as raised:
            fail_by_chance(theta)
        assert str(raised.value) in error


def test_retry_has_the_same_seed_and_may_succeed(tmp_path):
    calls = []

    def fail_first(theta):
        x = simulate_row(theta)
        calls.append(x)
        # The second call with the same data finds the licence free.
        if sum(torch.equal(x, other) for other in calls) < 2:
            raise OSError("no licence free")
        return x

    def simulate_row(theta):
        if theta.ndim > 1:
            raise ValueError("one at a time")
        return theta + torch.randn(2)

    expected, _ = fill(tmp_path / "expected", simulate_row)
    store = SimulationStore(tmp_path / "sims")
    store.note(takes_batches=False, event_shape=[2])
    fill_store(store, fail_first, PRIOR, **SETTINGS)
    assert is_equal(store[:], expected[:])
    calls.clear()
    with pytest.raises(ValueError, match="no licence free"):
        fill(tmp_path / "other", fail_first, num_retries=0)


def test_error_ends_the_run_and_keeps_what_is_done(tmp_path):
    settings = {**SETTINGS, "batch_size": 2, "num_simulations": 20}
    expected = fill(tmp_path / "expected", unreliable.simulate, **settings)[0][:]
    bad = unreliable.is_bad(expected[0])
    first = int(bad.nonzero()[0]) // 2
    assert first > 0
    with pytest.raises(ValueError, match=r"failed for theta = .*too stiff.*on_error"):
        fill(tmp_path / "sims", unreliable.raise_in_batch, **settings)
    store = SimulationStore(tmp_path / "sims")
    assert is_equal(store[:], [part[: 2 * first] for part in expected])
    with pytest.warns(InvalidSimulationsWarning, match=r"p\(valid \| θ\)") as caught:
        fill_store(store, unreliable.raise_in_batch, PRIOR, on_error="skip", **settings)
    assert caught[0].message.value == pytest.approx(float(bad.float().mean()))


def test_no_more_batches_are_out_than_allowed(tmp_path):
    futures, most = [], 0

    class Slow(Executor):
        """Two workers that give everything back late."""

        _max_workers = 2

        def submit(self, function, *arguments):
            nonlocal most
            futures.append(Future())
            result = function(*arguments)
            threading.Timer(0.3, futures[-1].set_result, [result]).start()
            most = max(most, sum(not future.done() for future in futures))
            return futures[-1]

    settings = {"executor": Slow(), "batch_size": 5}
    fill(tmp_path / "sims", unreliable.simulate, max_in_flight=3, **settings)
    assert most == 3
    fill(tmp_path / "more", unreliable.simulate, **settings)
    assert most == 4


def test_store_is_filled_by_one_simulator_and_one_prior(tmp_path):
    store, _ = fill(tmp_path / "sims", unreliable.simulate)
    with pytest.raises(ValueError, match="`simulator` was unreliable:simulate and is"):
        fill(store.path, unreliable.simulate_row)
    wide = MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))
    with pytest.raises(ValueError, match="`prior_draws` was"):
        fill_store(store, unreliable.simulate, wide, 70)
    found = store.describe()
    assert found["simulator"] == "unreliable:simulate" and found["seed"] == 1
    assert found["prior"].startswith("MultivariateNormal")


def test_wrong_arguments_are_refused(tmp_path):
    store = SimulationStore(tmp_path / "sims")

    def fill_with(simulator=unreliable.simulate, **settings):
        fill_store(store, simulator, PRIOR, **{**SETTINGS, **settings})

    for name, value, error in [
        ("num_simulations", 0, ValueError),
        ("batch_size", 1.5, TypeError),
        ("num_retries", -1, ValueError),
        ("on_error", "ignore", ValueError),
        ("timeout", 0, ValueError),
        ("max_in_flight", 0, ValueError),
        ("seed", -1, ValueError),
    ]:
        with pytest.raises(error, match=f"`{name}`"):
            fill_with(**{name: value})
    with pytest.raises(TypeError, match="`simulator` must be callable"):
        fill_with(3)
    with own_processes(1) as pool, pytest.raises(TypeError, match="can be pickled"):
        fill_with((row for row in ()).__next__, executor=pool)
    with pytest.raises(ValueError, match=r"of 4 attempts none did.*one number"):
        fill_with(lambda theta: theta.sum(-1))
    with pytest.raises(ValueError, match=r"of 4 attempts none did.*KeyError"):
        fill_with(lambda theta: {}[0])
    assert len(store) == 0


def test_seed_of_a_store_is_that_of_what_is_in_it(tmp_path):
    def stop(theta):
        raise KeyboardInterrupt

    settings = {"facts": {"simulator": "mine"}}
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "sims", stop, seed=1, **settings)
    for seed in (2, 3):
        store, _ = fill(tmp_path / "sims", unreliable.simulate, seed=seed, **settings)
        assert store.describe()["seed"] == 2


def test_last_digits_of_a_processor_make_no_other_prior(tmp_path, monkeypatch):
    store, _ = fill(tmp_path / "sims", unreliable.simulate)
    draw = filling.draw_theta

    def draw_elsewhere(prior, rows, *key):
        return draw(prior, rows, *key) * (1 + 2e-6)

    monkeypatch.setattr(filling, "draw_theta", draw_elsewhere)
    fill(store.path, unreliable.simulate)
    known = store.describe()["prior_draws"]
    monkeypatch.setattr(filling, "draw_theta", lambda *given: draw(*given) + 0.01)
    with pytest.raises(ValueError, match="`prior_draws` was"):
        fill(store.path, unreliable.simulate)
    assert store.describe()["prior_draws"] == known
