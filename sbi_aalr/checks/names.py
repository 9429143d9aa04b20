"""Checks of what parameters are called."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch.distributions import Distribution

from sbi_aalr.checks.support import count_parameters


def check_parameter_names(
    parameter_names: Sequence[str] | None, num_parameters: int
) -> list[str]:
    """Return one name a parameter: those given, or `theta_1` to `theta_D`.

    Raises:
        ValueError: If they are not as many distinct strings as there are parameters.
    """
    if parameter_names is None:
        return [f"theta_{index}" for index in range(1, num_parameters + 1)]
    names = _check_texts(parameter_names)
    if len(names) != num_parameters:
        raise ValueError(
            f"`parameter_names` must be {num_parameters} names, one a parameter, got "
            f"{len(names)}: {names!r}."
        )
    return names


def find_parameter_names(
    parameter_names: Sequence[str] | None,
    prior: Distribution | None,
    num_parameters: int | None = None,
) -> list[str] | None:
    """Return the names given, or those that the prior has; None if there are none.

    Args:
        parameter_names: One name a parameter.
        prior: The prior. Names may be in a field `parameter_names` of it, or of the
            prior that it wraps.
        num_parameters: How many there are, if that is known; else the prior tells.

    Raises:
        ValueError: If they are not as many distinct strings as there are parameters.
    """
    inner: Any = prior
    while parameter_names is None and inner is not None:
        parameter_names = getattr(inner, "parameter_names", None)
        inner = getattr(inner, "prior", None)
    if parameter_names is None:
        return None
    if num_parameters is None and prior is not None:
        num_parameters = count_parameters(prior)
    if num_parameters is None:
        return _check_texts(parameter_names)
    return check_parameter_names(parameter_names, num_parameters)


def _check_texts(parameter_names: object) -> list[str]:
    is_listed = isinstance(parameter_names, Iterable)
    names: list[Any] = list(parameter_names) if is_listed else []  # type: ignore[call-overload]
    if (
        isinstance(parameter_names, str)
        or not is_listed
        or not all(isinstance(name, str) and name.strip() for name in names)
    ):
        raise ValueError(
            f"`parameter_names` must be a list of strings, got {parameter_names!r}."
        )
    if len(set(names)) != len(names):
        raise ValueError(f"`parameter_names` must be distinct, got {names!r}.")
    return names
