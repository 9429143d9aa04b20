"""How many simulations of a run failed, and what is said of that."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from sbi_aalr.errors import InvalidSimulationsWarning
from sbi_aalr.simulation.batch_runs import SimulatedBatch


class Account(NamedTuple):
    """What there is of a run.

    Attributes:
        num_simulations: Simulations done, those that failed included.
        num_failures: Those that failed.
    """

    num_simulations: int
    num_failures: int


def explain_emptiness(errors: Sequence[str]) -> str:
    """Why a store has no simulations, from what went wrong with those that failed."""
    if not errors:
        return (
            "holds no simulations yet. Add some by `append`, or by `sbi-aalr simulate`."
        )
    return (
        f"holds no simulations to train on: all {len(errors):,} that were tried "
        f"failed, the first because {errors[0].rstrip('.')}."
    )


def raise_failure(batch: SimulatedBatch) -> None:
    """Raise for the first simulation of a batch that failed."""
    first = batch.failures[0]
    raise ValueError(
        f"`simulator` failed for theta = {list(first.theta)}: {first.error} (seed "
        f"{first.seed}). What is done is kept. Mend it and do the same again, or pass "
        "`on_error='skip'` to set such simulations aside."
    )


def warn_of_failures(account: Account) -> None:
    """Say how many simulations failed, and what that means."""
    share = account.num_failures / account.num_simulations
    warnings.warn(
        InvalidSimulationsWarning(
            f"{account.num_failures} of {account.num_simulations} simulations failed "
            "and were set aside. Those that are left do not follow the prior, but "
            "p(θ | valid), which leaves out where they fail; a posterior is right only "
            "with the factor p(valid | θ), as that of a trainer which was given the "
            "store is.",
            share,
        ),
        # Past `fill_store`, to whoever called it.
        stacklevel=3,
    )
