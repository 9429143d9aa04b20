"""Make any simulator and prior that sbi accepts ones that give batches."""

from collections.abc import Callable
from typing import Any

from torch.distributions import Distribution

from sbi_aalr.checks import check_bool
from sbi_aalr.seeding import generators_kept
from sbi_aalr.simulation.guarded import GuardedSimulator
from sbi_aalr.types import Simulator


def prepare(
    simulator: Callable[..., Any], prior: Distribution
) -> tuple[Simulator, Distribution]:
    """Make any simulator that sbi accepts a batched one, and process the prior.

    Args:
        simulator: Over a batch `(N, D)` or one parameter set at a time.
        prior: The prior as the user gave it.

    Returns:
        The simulator, as `adapt` makes it, and the prior after sbi's own processing.

    Raises:
        TypeError: If the simulator is no callable.
        ValueError: As `adapt` raises it.
    """
    # Imported here because it loads sbi, which takes seconds.
    from sbi.utils.user_input_checks import process_prior

    _check_callable(simulator)
    prior, _, _ = process_prior(prior)
    return _adapt(simulator, prior), prior


def adapt(
    simulator: Callable[..., Any],
    prior: Distribution,
    exclude_invalid_x: bool = False,
) -> Simulator:
    """Make any simulator that sbi accepts a batched one that cannot spoil its data.

    As in sbi, it is tried on 2 and on 3 parameter sets, to see whether it takes
    batches. The global generators are left as they were, so that what a batched
    simulator gives does not depend on that.

    Args:
        simulator: Over a batch `(N, D)` or one parameter set at a time.
        prior: Where parameters to try come from.
        exclude_invalid_x: Simulate again where there was NaN or infinity.

    Returns:
        The batched simulator.

    Raises:
        TypeError: If the simulator is no callable.
        ValueError: If the number of rows returned depends on the number given, but is
            not the same, or if rows have no dimension.
    """
    _check_callable(simulator)
    check_bool("exclude_invalid_x", exclude_invalid_x)
    with generators_kept():
        guarded = _adapt(simulator, prior)
    return guarded.excluding_invalid() if exclude_invalid_x else guarded


def _adapt(simulator: Callable[..., Any], prior: Distribution) -> GuardedSimulator:
    if isinstance(simulator, GuardedSimulator):
        return simulator
    device = _choose_device(simulator, prior)
    guarded = GuardedSimulator(simulator, device=device)
    shapes, problem = [], ""
    for rows in (2, 3):
        try:
            shapes.append(guarded.run(prior.sample((rows,))).shape)
        except Exception as error:
            # It may take one parameter set at a time, or tell more when it is used.
            cause = error.__cause__ or error
            problem = f"{type(cause).__name__}: {cause}".rstrip(".")
    given = [shape[0] for shape in shapes if len(shape) > 1]
    if given == [2, 3]:
        return guarded
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
    return GuardedSimulator(simulator, by_row=True, device=device, no_batch=problem)


def _check_callable(simulator: object) -> None:
    if not callable(simulator):
        method = getattr(simulator, "simulate", None)
        remedy = " Pass its method `simulate`." if callable(method) else ""
        raise TypeError(
            f"`simulator` must be callable, got {type(simulator).__name__}.{remedy}"
        )


def _choose_device(simulator: Callable[..., Any], prior: Distribution) -> str | None:
    """Have parameters on the CPU if the simulator cannot take the prior's own."""
    theta = prior.sample((2,))
    if theta.device.type == "cpu":
        return None
    try:
        simulator(theta.clone())
    except (Exception, SystemExit):
        return "cpu"
    return None
