"""Checks of priors: whether one can be learned and sampled with, told at the start."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.constraints import Constraint

from sbi_aalr.checks.ranges import is_in_support

# Draws that a prior is judged by: no continuous one gives the same value so often.
_NUM_TRIED = 8
# So many spreads away from its draws a prior has no mass to speak of; places to look.
_FAR, _NUM_FAR = 1e5, 64


def check_prior(
    name: str, value: object, num_parameters: int | None = None
) -> Distribution:
    """Return `value`, or raise if it is no prior of continuous parameters.

    Args:
        name: Name of the argument, for the message.
        value: What should be a distribution of rows `(D,)`.
        num_parameters: How many parameters it must have, where that is known.

    Raises:
        TypeError: If it is no torch distribution.
        ValueError: If a draw is no row of parameters with one log-density, parameters
            are discrete, bound to one another or without a width, or draws are NaN,
            infinite or ruled out by the prior itself.
    """
    if not isinstance(value, Distribution):
        raise TypeError(
            f"`{name}` must be a torch Distribution, got {type(value).__name__}. Most "
            "of SciPy's have a counterpart in torch.distributions. A list of such, or "
            "an object with `sample` and `log_prob`, becomes one in the first thing "
            "that sbi.utils.user_input_checks.process_prior returns; where it has "
            "bounds, pass custom_prior_wrapper_kwargs={'lower_bound': ..., "
            "'upper_bound': ...}."
        )
    check_support(name, value)
    try:
        theta = draw_apart(value, _NUM_TRIED)
        log_prob = value.log_prob(theta)
    except Exception as error:
        raise ValueError(
            f"`{name}` must give draws with their log-densities, got "
            f"{type(error).__name__}: {str(error) or 'it has none'}. Check its "
            "parameters."
        ) from error
    if not isinstance(theta, Tensor) or not isinstance(log_prob, Tensor):
        raise ValueError(
            f"`{name}` must give draws and log-densities as torch tensors, got "
            f"{type(theta).__name__} and {type(log_prob).__name__}."
        )
    if theta.ndim != 2 or log_prob.shape != (_NUM_TRIED,):
        remedy = "Wrap it in torch.distributions.Independent(..., 1)"
        if theta.ndim == 1:
            remedy += ", and give its parameters the shape (1,)"
        raise ValueError(
            f"`{name}` must give each parameter set (D,) one log-density, got draws "
            f"{tuple(theta.shape)} with log-densities {tuple(log_prob.shape)} for "
            f"{_NUM_TRIED} sets. {remedy}."
        )
    if not theta.shape[1]:
        raise ValueError(
            f"`{name}` must have at least one parameter, got draws of shape "
            f"{tuple(theta.shape)}."
        )
    if theta.dtype != torch.float32:
        raise ValueError(
            f"`{name}` must draw float32, got {theta.dtype}. Make it from float32 "
            "tensors, or wrap it with sbi.utils.user_input_checks.process_prior."
        )
    if num_parameters not in {None, theta.shape[1]}:
        raise ValueError(
            f"`{name}` must have {num_parameters} parameters, got {theta.shape[1]}. "
            "Pass the prior that the ratio was trained with."
        )
    _check_draws(name, theta, log_prob)
    _check_own_support(name, value, theta)
    if torch.equal(theta, draw_apart(value, _NUM_TRIED, calls_before=1)):
        raise ValueError(
            f"`{name}` must draw other parameters in every call, got the same again: "
            f"{theta[:2].tolist()}. Its `sample` must neither seed a generator nor "
            "return the same memory again."
        )
    _check_tails(name, value, theta)
    return value


def draw_apart(prior: Distribution, num_draws: int, calls_before: int = 0) -> Tensor:
    """Draw `(num_draws, D)`, and leave the global generators as they were.

    Args:
        prior: The prior.
        num_draws: Number of rows.
        calls_before: How often as many are drawn before.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        # Not `fork_rng` without devices: it warns where there are several GPUs.
        with torch.random.fork_rng(devices=[]):
            for _ in range(calls_before):
                prior.sample((num_draws,))
            return prior.sample((num_draws,))
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def check_support(name: str, prior: Distribution) -> None:
    """Raise if parameters are discrete, or bound to one another."""
    for part in _list_constraints(prior):
        if part.is_discrete:
            raise ValueError(
                f"`{name}` must be a distribution of continuous parameters, got "
                f"{part}. Learn the ratio for each value apart, or put a continuous "
                "parameter in its place."
            )
        # Vectors only; matrices are no rows of parameters.
        if part.event_dim == 1 and biject_to(part).inverse_shape((3,)) != (3,):
            raise ValueError(
                f"`{name}` must have parameters that can change one at a time, got "
                f"{part}. Leave one out of theta, and let the simulator compute it "
                "from the others."
            )


def _list_constraints(prior: Any) -> Iterator[Constraint]:
    """Yield the supports of all parts of a prior, as far as it tells them."""
    try:
        found = [prior.support]
    except (NotImplementedError, AttributeError):
        found = []
    while found:
        constraint: Any = found.pop()
        # `cat` and `stack` have several, `independent` and mixtures one.
        inner = getattr(constraint, "cseq", None)
        base = getattr(constraint, "base_constraint", None)
        if inner is None and base is None:
            yield constraint
        found.extend(inner or [])
        found.extend([] if base is None else [base])
    if hasattr(prior, "base_dist"):
        yield from _list_constraints(prior.base_dist)


def _check_draws(name: str, theta: Tensor, log_prob: Tensor) -> None:
    for rule, wrong, remedy in (
        ("finite draws", ~theta.isfinite().all(dim=0), "Check its location and scale."),
        (
            "a width in every parameter, as float32 tells it",
            (theta == theta[0]).all(dim=0),
            "Leave this parameter out, or give it a range.",
        ),
    ):
        if wrong.any():
            index = int(wrong.nonzero()[0])
            values = theta[:3, index].tolist()
            raise ValueError(
                f"`{name}` must have {rule}, got {values} for parameter {index + 1}. "
                f"{remedy}"
            )
    # A draw may be rounded out of the prior, or onto a pole, but not all of them.
    if log_prob.isnan().any() or log_prob.isinf().all():
        raise ValueError(
            f"`{name}` must give its own draws finite log-densities, got "
            f"{log_prob[:3].tolist()}. Check its parameters: is a lower bound above an "
            "upper one, or a scale not positive?"
        )


def _check_own_support(name: str, prior: Distribution, theta: Tensor) -> None:
    """Raise if a prior draws what it rules out itself, but for what rounding does."""
    outside = ~is_in_support(theta, prior)
    if 2 * outside.sum() > len(theta):
        raise ValueError(
            f"`{name}` must draw from its own `support`, got {int(outside.sum())} of "
            f"{len(theta)} draws outside it, such as {theta[outside][0].tolist()}. "
            "Give it the support that it draws from."
        )


def _check_tails(name: str, prior: Distribution, theta: Tensor) -> None:
    """Raise if the density is as high far from all draws as it is among them.

    Chains would leave for where the prior draws nothing, as they do with a von Mises
    distribution, whose density is periodic.
    """
    dim = theta.shape[1]
    reach = _FAR * (theta - theta.median(dim=0).values).abs().amax(dim=0)
    # At many distances either way, as a density may go up and down.
    step = torch.linspace(0.5, 1, _NUM_FAR, device=theta.device)
    steps = torch.cat((-step, step)).repeat(dim)
    index = torch.arange(dim, device=theta.device).repeat_interleave(2 * _NUM_FAR)
    far = theta[:1].repeat(len(index), 1)
    far[torch.arange(len(index)), index] += steps * reach[index]
    inside = is_in_support(far, prior)
    if not inside.any():
        return
    try:
        log_prob = prior.log_prob(far[inside])
    except (ValueError, RuntimeError):
        # It validates what it is given, and says so: there is no density.
        return
    log_prob = torch.where(log_prob.isfinite(), log_prob, -torch.inf)
    if log_prob.max() >= prior.log_prob(theta).min():
        worst = int(inside.nonzero()[log_prob.argmax()])
        parameter = int(index[worst])
        raise ValueError(
            f"`{name}` must have a density that falls where it draws nothing, got one "
            f"that is as high at {float(far[worst, parameter]):.3g} for parameter "
            f"{parameter + 1}, far from all draws. Let its `log_prob` be minus "
            "infinity outside of the range that it draws from."
        )
