"""Which parameters a prior rules out."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.checks.priors import draw_apart
from sbi_aalr.checks.ranges import is_in_support


def check_inside(name: str, theta: Tensor, prior: Distribution) -> None:
    """Raise unless the prior allows all parameters.

    Args:
        name: Name of the argument, for the message.
        theta: Parameters, shape `(N, D)`.
        prior: The prior.

    Raises:
        ValueError: If theta has another width than the prior, or rows lie outside it.
    """
    check_width(name, theta, prior)
    outside = find_outside(theta, prior)
    if outside.any():
        first = int(outside.nonzero()[0])
        share = int(outside.sum()) / len(outside)
        raise ValueError(
            f"`{name}` must lie inside the prior, got {int(outside.sum())} of "
            f"{len(outside)} rows ({share:.0%}) outside it (first: row {first}, "
            f"{theta[first].tolist()}). Give both in the same units and order, or "
            "choose a wider prior."
        )


def check_overlap(name: str, prior: Distribution, rounds: Sequence[Tensor]) -> None:
    """Raise if a prior rules out all parameters of earlier simulations.

    One that rules out some asks for the posterior under a narrower one, which is fine.

    Args:
        name: Name of the argument, for the message.
        prior: The prior.
        rounds: Parameters simulated in each round, shape `(N, D)`.
    """
    if rounds and all(find_outside(theta, prior).all() for theta in rounds):
        raise ValueError(
            f"`{name}` must be that of the simulations, got one that rules out all of "
            f"them (first: {rounds[0][0].tolist()}). Give both in the same units and "
            "order."
        )


def check_width(name: str, theta: Tensor, prior: Distribution) -> None:
    """Raise unless theta `(N, D)` has a column for each parameter of the prior."""
    width = count_parameters(prior)
    if theta.shape[-1] != width:
        raise ValueError(
            f"`{name}` must have a column for each of the {width} parameters of the "
            f"prior, got shape {tuple(theta.shape)}."
        )


def count_parameters(prior: Distribution) -> int:
    """The prior's D. Its `event_shape` is empty for some priors of one parameter."""
    return draw_apart(prior, 1).shape[-1]


def find_outside(theta: Tensor, prior: Distribution) -> Tensor:
    """Say which rows a prior gives no density.

    The density is asked as well as the support: that of a transformed distribution is
    wider, and a prior of your own may have none. What rounding moved across an edge,
    as it does to a prior's own draws, is inside.

    Args:
        theta: Parameters, shape `(N, D)`.
        prior: The prior.

    Returns:
        Bools, shape `(N,)`, on the prior's device.
    """
    centre = draw_apart(prior, 1)
    theta = theta.to(centre)
    possible = _is_possible(theta, prior)
    if not possible.all():
        moved = theta[~possible].nextafter(centre).lerp(centre, 1e-6)
        possible[~possible] = _is_possible(moved, prior)
    return ~possible


def _is_possible(theta: Tensor, prior: Distribution) -> Tensor:
    possible = is_in_support(theta, prior)
    possible[possible.nonzero()[:, 0]] = _has_density(theta[possible], prior)
    return possible


def _has_density(theta: Tensor, prior: Distribution) -> Tensor:
    if not len(theta):
        # Some of torch's cannot evaluate nothing.
        return torch.ones(0, dtype=torch.bool, device=theta.device)
    try:
        log_prob = prior.log_prob(theta)
    except ValueError:
        # It validates what it is given, and says nothing of single rows.
        prior = deepcopy(prior)
        _stop_validating(prior)
        log_prob = prior.log_prob(theta)
    return log_prob > -torch.inf


def _stop_validating(prior: Distribution) -> None:
    """Have a distribution, and those it is made of, take values out of its support."""
    prior._validate_args = False
    for value in vars(prior).values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, Distribution):
                _stop_validating(part)
