"""Checks of single values: numbers, seeds, choices, devices."""

import math
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

# What torch counts with.
_LARGEST_COUNT = 2**63 - 1


def check_bool(name: str, value: object) -> bool:
    """Return `value`, or raise if it is neither True nor False: "no" would be true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"`{name}` must be True or False, got {value!r:.60} of type "
            f"{type(value).__name__}."
        )
    return bool(value)


def check_type(name: str, value: object, kind: Any, what: str) -> Any:
    """Return `value`, or raise if it is not of a kind.

    Args:
        name: Name of the argument, for the message.
        value: What was given.
        kind: A class, or several joined by `|`.
        what: The kind in words, such as "a DataTree".
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be {what}, got {type(value).__name__}: {value!r:.60}."
        )
    return value


def check_field(instance: object, name: str, check: Callable[[str, Any], Any]) -> None:
    """Check a field of a frozen dataclass, and keep what the check makes of it.

    Where NumPy's numbers are as good as Python's, torch and JSON take Python's only.

    Args:
        instance: The instance.
        name: Name of the field, which is that of the argument.
        check: One of the checks here.
    """
    object.__setattr__(instance, name, check(name, getattr(instance, name)))


def check_positive_int(name: str, value: object) -> int:
    """Return `value` as an int, or raise if it is not a whole number above zero."""
    return _check_int(name, value, minimum=1, rule="a positive int")


def check_non_negative_int(name: str, value: object) -> int:
    """Return `value` as an int, or raise if it is not a whole number from zero up."""
    return _check_int(name, value, minimum=0, rule="an int of at least 0")


def check_int_from(name: str, value: object, minimum: int) -> int:
    """Return `value` as an int, or raise if it is not a whole number from `minimum`."""
    return _check_int(name, value, minimum, rule=f"a positive int, at least {minimum}")


def check_seed(name: str, value: object) -> int:
    """Return `value` as an int that torch takes, or raise if it is no int from zero up.

    torch takes 64 bits; of a longer seed, such as `SeedSequence().entropy`, the last 63
    count, so that numbers may be added to it.
    """
    return _check_int(name, value, 0, "an int of at least 0", math.inf) % 2**63


def check_positive_float(name: str, value: object) -> float:
    """Return `value` as a float, or raise if it is not finite and above zero."""
    number = _check_real(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(f"`{name}` must be a positive finite number, got {value!r}.")
    return number


def check_non_negative_float(name: str, value: object) -> float:
    """Return `value` as a float, or raise if it is not finite and at least zero."""
    number = _check_real(name, value)
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"`{name}` must be a finite number of at least 0, got {value!r}."
        )
    return number


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float, or raise if it is not strictly between 0 and 1."""
    number = _check_real(name, value)
    if not 0 < number < 1:
        raise ValueError(f"`{name}` must lie strictly between 0 and 1, got {value!r}.")
    return number


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return `value`, or raise if it is not one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {options}, got {value!r}.")
    return value


def check_device(name: str, value: object) -> str:
    """Return `value` as a string, or raise if torch cannot compute there.

    `"gpu"` is sbi's word for whatever accelerator there is.
    """
    if not isinstance(value, str | torch.device):
        raise TypeError(
            f"`{name}` must be a torch device such as 'cpu' or 'cuda:0', got {value!r} "
            f"of type {type(value).__name__}."
        )
    gpu = "cuda" if torch.cuda.is_available() else "mps"
    try:
        device = torch.device(gpu if value == "gpu" else value)
    except RuntimeError as error:
        raise ValueError(
            f"`{name}` must be a torch device such as 'cpu' or 'cuda:0', got "
            f"{str(value)!r}."
        ) from error
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        # The rest of its first line is a list of some forty backends.
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise ValueError(
            f"`{name}` must be a torch device that works here, got {str(value)!r}, "
            f"for which torch says: {reason}. 'cpu' works everywhere."
        ) from error
    return str(device)


def _check_int(
    name: str, value: object, minimum: int, rule: str, largest: float = _LARGEST_COUNT
) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"`{name}` must be {rule}, got {value!r} of type {type(value).__name__}."
        )
    if value < minimum:
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
    if int(value) > largest:
        raise ValueError(f"`{name}` must be below 2**63, got {int(value):.3g}.")
    return int(value)


def _check_real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"`{name}` must be a number, got {value!r} of type {type(value).__name__}."
        )
    return float(value)


def check_executor(executor: object) -> Any:
    """Return an executor, or None for none, or raise a `TypeError`."""
    if not isinstance(executor, Executor | None):
        raise TypeError(
            "`executor` must be an Executor of `concurrent.futures`, got "
            f"{type(executor).__name__}. Of a Dask client, pass "
            "`client.get_executor()`."
        )
    return executor
