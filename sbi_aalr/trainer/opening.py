"""The first simulations of online training, which are made before the first step.

A new network is scaled by them, held-out ones are taken from them, and under a time
limit they tell how long a simulation takes. So there are fewer of them where they take
long: a limit counts from the first simulation on.
"""

import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.distributions import Distribution

from sbi_aalr.simulation.batches import Batch, divide, simulate, stream
from sbi_aalr.trainer.journal import Journal
from sbi_aalr.training.recipe import Recipe
from sbi_aalr.types import Simulator

# Enough rows for the quantiles that the inputs are scaled by, and to tell passes apart.
_OPENING_ROWS = 1024
# Share of a small budget that is held out where there are several passes.
_HELD_OUT_SHARE = 0.1
# Shares of a time limit that the opening and each later batch may take.
_OPENING_SHARE = 0.2
_BATCH_SHARE = 0.05


class Opening(NamedTuple):
    """The first simulations.

    Attributes:
        batch: The simulations.
        is_cut: Whether the time limit kept them few.
        affordable: Simulations that the time limit would be over with, if they took
            all of it; None without one.
    """

    batch: Batch
    is_cut: bool = False
    affordable: int | None = None

    def expect(self, num_simulations: int) -> int:
        """How many of so many simulations may come, as far as can be told by now."""
        if self.affordable is None:
            return num_simulations
        return min(num_simulations, max(self.affordable, len(self.batch.theta)))


class Division(NamedTuple):
    """Simulations, divided into those trained on and those held out.

    Attributes:
        first_pass: Batches to train on, most of them not simulated yet.
        num_trained: Simulations in these batches.
        held_out: Batches to choose the best pass by.
        opening: What they were made of, with which the same division is made again.
    """

    first_pass: Iterator[Batch]
    num_trained: int
    held_out: list[Batch]
    opening: Opening


def simulate_opening(
    simulator: Simulator,
    prior: Distribution,
    num_simulations: int,
    num_contrasts: int | None,
    time_limit: float | None,
) -> Opening:
    """Make the first simulations.

    Args:
        simulator: Batched simulator.
        prior: Where theta and theta' come from.
        num_simulations: Budget, in simulations.
        num_contrasts: Contrasts of each x, if that is known already.
        time_limit: Seconds for simulations and training; None for no limit.

    Returns:
        All rows that are wanted, or under a time limit as many as a share of it allows.
    """
    least_rows = num_contrasts or 2
    wanted = min(num_simulations, max(_OPENING_ROWS, least_rows))
    if time_limit is None:
        return Opening(_make(simulator, prior, wanted))
    allowed, started = _OPENING_SHARE * time_limit, time.perf_counter()
    parts: list[Batch] = []
    rows, more = 0, min(wanted, 2 * least_rows)
    while True:
        began = time.perf_counter()
        parts.append(_make(simulator, prior, more))
        ended = time.perf_counter()
        each, rows = (ended - began) / more, rows + more
        more = min(rows, wanted - rows)
        spent = ended - started
        if more and len(parts) == 1:
            # It may have compiled, and says little of what other calls will take.
            more = more if spent <= allowed else 1
        elif not more or spent + each * more > allowed:
            affordable = int(time_limit / max(each, 1e-12))
            return Opening(_join(*parts), bool(more), affordable)


def keep_opening(journal: Journal, opening: Opening) -> None:
    """Have a journal keep the first simulations, with what was decided by them."""
    columns = opening.batch._asdict().items()
    tensors = {name: rows for name, rows in columns if rows is not None}
    journal.keep_opening(tensors)
    journal.note("opening_limits", [opening.is_cut, opening.affordable])


def recall_opening(journal: Journal) -> Opening | None:
    """The first simulations of a call that was begun before; None if it begins now."""
    tensors = journal.recall_opening()
    if tensors is None:
        return None
    return Opening(Batch(**tensors), *journal.note("opening_limits", [False, None]))


def check_rows(
    num_simulations: int, batch_size: int, num_contrasts: int | None
) -> None:
    """Raise if a batch would have fewer rows than contrasts are taken from.

    Args:
        num_simulations: Budget, in simulations.
        batch_size: Rows of a batch.
        num_contrasts: Contrasts of each x; None for all other rows of its batch.
    """
    least_rows = num_contrasts or 2
    reason = "each row's contrasts are the other rows of its batch"
    if num_contrasts is not None:
        reason = f"`num_contrasts` = {num_contrasts} rows of a batch are contrasts"
    for name, value in (
        ("num_simulations", num_simulations),
        ("batch_size", batch_size),
    ):
        if value < least_rows:
            raise ValueError(
                f"`{name}` must be at least {least_rows}, as {reason}, got {value}."
            )


def divide_simulations(
    simulator: Simulator,
    prior: Distribution,
    opening: Opening,
    num_simulations: int,
    recipe: Recipe,
    num_contrasts: int | None,
    always_holds_out: bool = False,
    num_done: int = 0,
) -> Division:
    """Hold out some of the opening; train on the rest, and on all that is to come.

    Args:
        simulator: Batched simulator.
        prior: Where theta and theta' come from.
        opening: The first simulations.
        num_simulations: Budget, in simulations.
        recipe: Whose passes and batches are meant.
        num_contrasts: Contrasts of each x; None for all other rows of its batch.
        always_holds_out: Whether to hold some out where there is a single pass, too.
        num_done: Batches of the first pass that were made before, and are left out.

    Returns:
        Batches, none with fewer rows than there are contrasts.
    """
    least_rows = num_contrasts or 2
    batch_size, made = recipe.batch_size, opening.batch
    left = num_simulations - len(made.theta)
    if 0 < left < least_rows:
        made = _join(made, _make(simulator, prior, left))
        left = 0
    held_out = 0
    if always_holds_out or recipe.num_passes != 1:
        expected = opening.expect(num_simulations)
        held_out = _count_held_out(expected, opening, least_rows)
    if 0 < len(made.theta) - held_out < least_rows:
        held_out = len(made.theta) if left else 0
    most_rows = batch_size
    if opening.affordable is not None:
        most_rows = min(batch_size, int(_BATCH_SHARE * opening.affordable))
        most_rows = max(most_rows, least_rows)
    first = list(divide(made.take(slice(held_out, None)), batch_size, least_rows))
    later = max(0, num_done - len(first))
    return Division(
        itertools.chain(
            first[num_done:],
            stream(simulator, prior, left, most_rows, least_rows, later),
        ),
        num_simulations - held_out,
        list(divide(made.take(slice(held_out)), batch_size, least_rows)),
        opening._replace(batch=made),
    )


def _count_held_out(num_simulations: int, opening: Opening, least_rows: int) -> int:
    """How many simulations of the opening to hold out."""
    rows = int(_HELD_OUT_SHARE * num_simulations)
    if rows < 2:
        return 0
    made = len(opening.batch.theta)
    # Fewer than `least_rows` would not have as many contrasts.
    rows = min(max(rows, least_rows), made // 2 if opening.is_cut else made)
    return rows if num_simulations - rows >= least_rows else 0


def _make(simulator: Simulator, prior: Distribution, rows: int) -> Batch:
    theta, theta_prime = prior.sample((rows,)), prior.sample((rows,))
    return Batch(theta, theta_prime, simulate(simulator, theta).to(theta.device))


def _join(*batches: Batch) -> Batch:
    columns: Any = zip(*batches, strict=True)
    return Batch(*(torch.cat(rows) for rows in columns))
