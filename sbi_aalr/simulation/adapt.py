"""Make any simulator and prior that sbi accepts ones that give batches."""

import contextlib
from collections.abc import Callable
from typing import Any

from sbi.utils.user_input_checks import (
    get_batch_loop_simulator,
    process_prior,
    wrap_as_joblib_efficient_simulator,
)
from torch.distributions import Distribution

from sbi_aalr.types import Simulator


def prepare(
    simulator: Callable[..., Any], prior: Distribution
) -> tuple[Simulator, Distribution]:
    """Make any simulator that sbi accepts a batched one, and process the prior.

    As in sbi, the simulator is tried on 2 and on 3 parameter sets, which come on top of
    the budget, to see whether it takes batches.

    Args:
        simulator: Over a batch `(N, D)` or one parameter set at a time.
        prior: The prior as the user gave it.

    Returns:
        The batched simulator, and the prior after sbi's own processing.

    Raises:
        ValueError: If the number of rows returned depends on the number given, but is
            not the same, or if rows have no dimension.
    """
    prior, _, returns_numpy = process_prior(prior)
    if prior.sample((2,)).device.type != "cpu":
        simulator = _choose_device(simulator, prior)
    # What sbi's `process_simulator` does, which tells less about a wrong answer.
    run = wrap_as_joblib_efficient_simulator(simulator, prior, returns_numpy)
    shapes = []
    for rows in (2, 3):
        # A failure here says nothing: one parameter set at a time is fine as well.
        with contextlib.suppress(Exception):
            shapes.append(run(prior.sample((rows,))).shape)
    given = [shape[0] for shape in shapes if len(shape) > 1]
    if given == [2, 3]:
        return run, prior
    if shapes == [(2,), (3,)]:
        raise ValueError(
            "`simulator` must return one row for each parameter set, (N, *event_shape),"
            " got one number. Give it the shape (1,): `x.unsqueeze(-1)`."
        )
    if len(given) == 2 and given[0] != given[1]:
        raise ValueError(
            "`simulator` must return one row for each parameter set, got "
            f"{given[0]} rows for 2 parameter sets and {given[1]} for 3."
        )
    return get_batch_loop_simulator(run), prior


def _choose_device(simulator: Callable[..., Any], prior: Distribution) -> Any:
    """Give the simulator parameters on the CPU if it cannot take the prior's own."""
    try:
        simulator(prior.sample((2,)))
    except Exception:
        return lambda theta: simulator(theta.cpu())
    return simulator
