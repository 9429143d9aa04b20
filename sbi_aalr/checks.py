"""Checks of what users pass in: one helper a rule, one wording for all.

Every message says the name, the rule, what was given and, where it is not obvious,
what to do.
"""

from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution


def check_positive_int(name: str, value: object) -> int:
    """Return `value` as an int, or raise if it is not a whole number above zero."""
    return _check_int(name, value, minimum=1, rule="a positive int")


def check_non_negative_int(name: str, value: object) -> int:
    """Return `value` as an int, or raise if it is not a whole number from zero up."""
    return _check_int(name, value, minimum=0, rule="an int of at least 0")


def check_seed(name: str, value: object) -> int:
    """Return `value` as an int that torch takes, or raise if it is no int from zero up.

    torch takes 64 bits; of a longer seed, such as `SeedSequence().entropy`, the last 63
    count, so that numbers may be added to it.
    """
    return check_non_negative_int(name, value) % 2**63


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


def check_prior(name: str, value: object) -> Distribution:
    """Return `value`, or raise if it is no distribution of whole parameter sets.

    Raises:
        TypeError: If it is no torch distribution.
        ValueError: If a draw is no row of parameters with one log-density.
    """
    if not isinstance(value, Distribution):
        raise TypeError(
            f"`{name}` must be a torch Distribution, got {type(value).__name__}. Wrap "
            "it first with sbi.utils.user_input_checks.process_prior."
        )
    # Not `fork_rng` without devices: it warns where there are several GPUs.
    with torch.random.fork_rng(devices=[]):
        theta = value.sample((2,))
    log_prob = value.log_prob(theta)
    if theta.ndim != 2 or log_prob.shape != (2,):
        raise ValueError(
            f"`{name}` must give each parameter set (D,) one log-density, got draws "
            f"{tuple(theta.shape)} with log-densities {tuple(log_prob.shape)} for 2 "
            "sets. Wrap it in torch.distributions.Independent(..., 1)."
        )
    if theta.dtype != torch.float32:
        raise ValueError(
            f"`{name}` must draw float32, got {theta.dtype}. Make it from float32 "
            "tensors, or wrap it with sbi.utils.user_input_checks.process_prior."
        )
    return value


def check_finite(name: str, value: Tensor) -> Tensor:
    """Return `value`, or raise if it holds NaN or infinity, saying how many and where.

    Args:
        name: Name of the argument, for the message.
        value: Tensor of any shape whose first dimension counts rows.

    Raises:
        ValueError: If any entry is NaN or infinite.
    """
    bad = ~torch.isfinite(value)
    if bad.any():
        rows = bad.reshape(bad.shape[0], -1).any(dim=1) if bad.ndim else bad.reshape(1)
        first = int(rows.nonzero()[0])
        raise ValueError(
            f"`{name}` must be finite, got NaN or infinity in {int(rows.sum())} of "
            f"{rows.numel()} rows (first: row {first}). Remove or repair these rows."
        )
    return value


def check_simulations(
    theta: object,
    x: object,
    allow_invalid_x: bool = False,
    earlier: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return stored simulations as float32 tensors, or raise.

    Args:
        theta: Parameters, shape `(N, D)`.
        x: Data, shape `(N, *event_shape)`.
        allow_invalid_x: Let NaN and infinity in `x` pass.
        earlier: Parameters and data stored before, whose widths these must have.

    Raises:
        TypeError: If either is no floating-point tensor.
        ValueError: If they are empty, differ in their number of rows or from `earlier`
            in their width, or hold NaN or infinity.
    """
    for name, value in (("theta", theta), ("x", x)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"`{name}` must be a torch tensor, got {type(value).__name__}. Convert "
                f"it with torch.as_tensor({name}, dtype=torch.float32)."
            )
        if value.ndim < 2 or value.numel() == 0:
            raise ValueError(
                f"`{name}` must have at least one row and one column, got shape "
                f"{tuple(value.shape)}."
            )
    theta, x = cast(Tensor, theta).float(), cast(Tensor, x).float()
    if theta.ndim != 2:
        raise ValueError(f"`theta` must be (N, D), got shape {tuple(theta.shape)}.")
    if theta.shape[0] != x.shape[0]:
        raise ValueError(
            "`theta` and `x` must have the same number of rows, got "
            f"{theta.shape[0]} and {x.shape[0]}."
        )
    if earlier:
        shapes = [before.shape[1:] for before in earlier]
        check_row_shapes(theta, x, shapes, "the simulations appended before")
    check_finite("theta", theta)
    if not allow_invalid_x:
        check_finite("x", x)
    return theta, x


def check_row_shapes(
    theta: Tensor, x: Tensor, shapes: Sequence[torch.Size], source: str
) -> None:
    """Raise if rows of `theta` and `x` do not have the `shapes` that `source` has."""
    for name, value, shape in zip(("theta", "x"), (theta, x), shapes, strict=True):
        if value.shape[1:] != shape:
            raise ValueError(
                f"`{name}` must have rows of shape {tuple(shape)} as in {source}, got "
                f"{tuple(value.shape[1:])}."
            )


def check_split(rows: int, validation_fraction: float, batch_size: int) -> None:
    """Raise if the training or the validation part gives no batch of two rows."""
    check_fraction("validation_fraction", validation_fraction)
    if check_positive_int("training_batch_size", batch_size) < 2:
        raise ValueError(
            f"`training_batch_size` must be at least 2, got {batch_size}. Each row's "
            "contrast is another row of its batch."
        )
    training = int((1 - validation_fraction) * rows)
    if min(training, rows - training) < 2:
        raise ValueError(
            "`append_simulations` must be given enough rows for two in both the "
            f"training and the validation part, got {rows} rows with "
            f"`validation_fraction` = {validation_fraction}. Simulate more."
        )


def _check_int(name: str, value: object, minimum: int, rule: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"`{name}` must be {rule}, got {value!r} of type {type(value).__name__}."
        )
    if value < minimum:
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
    return int(value)


def _check_real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"`{name}` must be a number, got {value!r} of type {type(value).__name__}."
        )
    return float(value)
