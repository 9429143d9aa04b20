"""Fill a store with simulations, on any executor, from where it was stopped."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import cloudpickle
import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks import (
    check_choice,
    check_non_negative_int,
    check_positive_float,
    check_positive_int,
    check_prior,
    check_seed,
)
from sbi_aalr.files import hash_tensors
from sbi_aalr.seeding import derive_seed, generators_kept, seeded
from sbi_aalr.simulation.batch_runs import BatchRunner
from sbi_aalr.simulation.failing import Account, raise_failure, warn_of_failures
from sbi_aalr.simulation.store import SimulationStore
from sbi_aalr.simulation.worker import OF_THETA, OF_TRIAL, TURN, Form, Payload

ON_ERROR = ("raise", "skip")
_ATTEMPTS, _TRIED_ROWS = 4, 5


def fill_store(
    store: SimulationStore,
    simulator: Callable[..., Any],
    prior: Distribution,
    num_simulations: int,
    *,
    batch_size: int = 100,
    seed: int | None = None,
    executor: Executor | None = None,
    timeout: float | None = None,
    num_retries: int = 1,
    on_error: str = "raise",
    max_in_flight: int | None = None,
    facts: Mapping[str, Any] | None = None,
    on_batch: Callable[[Account], object] | None = None,
) -> Account:
    """Simulate until a store holds a number of simulations; go on where one stopped.

    The same seed gives the same store, whatever the executor, the number of its workers
    and how often it was stopped. For that the global generators of torch, NumPy and
    Python are seeded before every call of the simulator.

    Args:
        store: Where to. What other runs put there stays and does not count.
        simulator: Any simulator that sbi accepts; with an executor of processes, one
            that can be pickled.
        prior: Where parameters come from.
        num_simulations: How many the run is to have, those that fail included.
        batch_size: Simulations that a worker does and hands back at a time. Some
            seconds' worth of them are best.
        seed: Seed of the run; None for the one that was begun, else for a new one.
        executor: Any `concurrent.futures.Executor`; None for this process.
        timeout: Seconds that a batch may take; None for no limit. In threads that are
            not the main one of a process, a simulator that hangs ends
            when it comes back to Python, and holds its thread until then.
        num_retries: How often what raises, hangs or loses its worker is tried again,
            with the same seed, before it counts as failed.
        on_error: `"raise"` to end with the first failure, `"skip"` to set it aside. The
            simulations that remain then are not draws from the prior: see
            `sbi_aalr.training.validity`.
        max_in_flight: Most batches handed out at a time; None for two a worker.
        facts: What else `store.describe` is to tell.
        on_batch: Called after each batch with what there is by then.

    Returns:
        What there is of the run.

    Raises:
        ImportError: If workers cannot load the simulator.
        OSError: If the store cannot be written.
        TypeError: If an argument has the wrong type, or the simulator cannot be
            pickled.
        ValueError: If a value is out of range, the store was begun with another
            simulator or prior, no simulation works, or one failed and `on_error` is
            `"raise"`.

    Warns:
        InvalidSimulationsWarning: If some failed and were set aside.
    """
    num_simulations = check_positive_int("num_simulations", num_simulations)
    batch_size = check_positive_int("batch_size", batch_size)
    num_retries = check_non_negative_int("num_retries", num_retries)
    check_choice("on_error", on_error, ON_ERROR)
    if timeout is not None:
        timeout = check_positive_float("timeout", timeout)
    if max_in_flight is not None:
        max_in_flight = check_positive_int("max_in_flight", max_in_flight)
    payload = pack_simulator(simulator, executor)
    prior = read_prior(prior)
    run = begin_run(store, simulator, prior, seed, facts or {})
    done = {number: sum(count) for number, count in store.find_batches(run).items()}
    num_failed = sum(failed for _, failed in store.find_batches(run).values())
    account = Account(sum(done.values()), num_failed)
    if account.num_simulations < num_simulations:
        runner = BatchRunner(
            payload,
            executor,
            run=run,
            timeout=timeout,
            num_retries=num_retries,
            max_in_flight=max_in_flight,
        )
        with closing(runner):
            form = settle_form(store, runner, prior, run)
            plan = _plan(done, num_simulations, batch_size, prior, run)
            for batch in runner.run(plan, form):
                if batch is None:
                    continue
                if batch.failures and on_error == "raise":
                    raise_failure(batch)
                store.append_batch(
                    batch.theta, batch.x, batch.failures, run=run, batch=batch.number
                )
                account = Account(
                    account.num_simulations + len(batch.theta) + len(batch.failures),
                    account.num_failures + len(batch.failures),
                )
                if on_batch is not None:
                    on_batch(account)
    if account.num_failures:
        warn_of_failures(account)
    return account


def pack_simulator(simulator: Callable[..., Any], executor: Executor | None) -> Payload:
    """Pickle a simulator, where it is to go to another process.

    Functions of `__main__` and closures can be pickled too.

    Raises:
        TypeError: If it is no callable, or cannot be pickled.
    """
    if not callable(simulator):
        raise TypeError(
            f"`simulator` must be callable, got {type(simulator).__name__}."
        )
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return simulator
    try:
        payload: bytes = cloudpickle.dumps(simulator)
    # Whatever an object raises that does not want to be pickled.
    except Exception as error:
        raise TypeError(
            "`simulator` must be one that can be pickled, to be sent to workers, but "
            f"{type(error).__name__} was raised: {error}. Define it in a module."
        ) from error
    return payload


def draw_theta(prior: Distribution, rows: int, *key: int) -> Tensor:
    """Draw parameters that depend on a seed and a key only, shape `(rows, D)`."""
    # Workers that are threads draw from the same generators.
    with TURN, seeded(derive_seed(*key)):
        theta = prior.sample((rows,))
    return theta.detach().cpu().float().reshape(rows, -1)


def read_prior(prior: Distribution) -> Distribution:
    """A prior after sbi's own processing, checked."""
    # Imported here because it loads sbi, which takes seconds.
    from sbi.utils.user_input_checks import process_prior

    with generators_kept():
        return check_prior("prior", process_prior(prior)[0])


def begin_run(
    store: SimulationStore,
    simulator: Callable[..., Any],
    prior: Distribution,
    seed: int | None,
    facts: Mapping[str, Any],
) -> int:
    """Note in a store what a run is of, or see that it is the same.

    Args:
        store: The store.
        simulator: Any simulator that sbi accepts.
        prior: Where parameters come from.
        seed: Seed of the run; None for the one that was begun, else for a new one.
        facts: What else is to be noted.

    Returns:
        The seed.

    Raises:
        ValueError: If it was begun with another simulator or prior.
    """
    known = store.describe()
    if seed is None:
        seed = known["seed"]
    if seed is None:
        entropy: Any = np.random.SeedSequence().entropy
        seed = int(entropy)
    seed = check_seed("seed", seed)
    if known["seed"] not in (None, seed) and not store.find_batches(known["seed"]):
        # A run that was ended before it had anything.
        known = {**known, "seed": None}
    probe = draw_theta(prior, _TRIED_ROWS, 0)
    identity: dict[str, Any] = {
        "simulator": facts.get("simulator", name_simulator(simulator)),
        "prior_draws": probe.tolist(),
    }
    if isinstance(known.get("prior_draws"), str):
        # Stores of earlier versions.
        identity["prior_draws"] = hash_tensors({"theta": probe})
    for name, value in identity.items():
        if not _is_same(known.get(name), value):
            was, is_now = known[name], value
            if isinstance(value, list):
                was, is_now = "of another prior", "not of that"
            raise ValueError(
                f"{store.path} must be filled by the simulator and the prior that "
                f"filled it first, but `{name}` was {was} and is {is_now}. "
                "Choose another store."
            )
    news = {"seed": seed, "prior": repr(prior), **identity, **facts}
    news = {name: value for name, value in news.items() if known.get(name) is None}
    if news:
        store.note(**news)
    return seed


def _is_same(known: Any, value: Any) -> bool:
    """Whether what a store knows is a value; last digits depend on the processor."""
    if known is None or not isinstance(value, list):
        return known in (None, value)
    if np.shape(known) != np.shape(value):
        return False
    largest = np.abs(value).max(axis=0)
    return bool((np.abs(np.subtract(known, value)) <= 1e-4 * largest).all())


def name_simulator(simulator: Callable[..., Any]) -> str:
    """What a simulator is called: its module, and its name there."""
    found = simulator if hasattr(simulator, "__qualname__") else type(simulator)
    return f"{found.__module__}:{found.__qualname__}"


def settle_form(
    store: SimulationStore | None, runner: BatchRunner, prior: Distribution, run: int
) -> Form:
    """Find out how the simulator is called, once for all runs of a store, if any."""
    known = {} if store is None else store.describe()
    if known.get("takes_batches") is not None:
        return Form(known["takes_batches"], tuple(known["event_shape"]))
    rows = _ATTEMPTS * _TRIED_ROWS
    theta = draw_theta(prior, rows, run, 0, OF_TRIAL)
    form = runner.find_form(theta.reshape(_ATTEMPTS, _TRIED_ROWS, -1))
    if store is not None:
        shape = list(form.event_shape)
        store.note(takes_batches=form.takes_batches, event_shape=shape)
    return form


def _plan(
    done: Mapping[int, int],
    num_simulations: int,
    batch_size: int,
    prior: Distribution,
    run: int,
) -> Iterator[tuple[int, Tensor]]:
    """The batches that are still missing, with their parameters."""
    left = num_simulations - sum(done.values())
    number = 0
    while left > 0:
        if number not in done:
            rows = min(batch_size, left)
            yield number, draw_theta(prior, rows, run, number, OF_THETA)
            left -= rows
        number += 1
