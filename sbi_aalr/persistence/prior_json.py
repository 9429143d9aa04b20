"""Priors as JSON: a list of known distributions, so that reading one runs no code.

A prior is described by its type and arguments, which may be distributions or transforms
of torch again. Tensors are written digit by digit, so floats come back exactly.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sbi_aalr.persistence.prior_kinds import KINDS

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Nothing in a prior has more numbers: a few lines of JSON cannot ask for much memory.
_MOST_NUMBERS = 2**20
# Distributions and transforms, each of which takes time to make.
_MOST_PARTS = 2_000
# Arguments that have one axis more than the others.
_MATRICES = ("cov_factor", "scale_tril")
_BY_NAME = {kind.__name__: found for kind, found in KINDS.items()}


class _UnknownError(Exception):
    """Something in a prior cannot be described."""


def encode_prior(prior: Distribution) -> dict[str, Any] | None:
    """Describe a prior by its type and arguments, or None if it is not known.

    Args:
        prior: A continuous distribution of torch or sbi, or one made of several:
            transformed, independent, a mixture. Not a subclass of your own.

    Returns:
        Plain data for JSON; floats are exact.

    Example:
        >>> rate = torch.tensor([2.0])
        >>> encode_prior(torch.distributions.Exponential(rate, validate_args=False))
        {'type': 'Exponential',
         'arguments': {'rate': {'dtype': 'float32', 'values': [2.0]},
                       'validate_args': False}}
    """
    try:
        document = _encode(prior)
    except _UnknownError:
        return None
    return None if _count_parts(document) > _MOST_PARTS else document


def decode_prior(document: Mapping[str, Any]) -> Distribution:
    """Rebuild a prior from what `encode_prior` returned, on the CPU.

    Raises:
        ValueError: If its type is not one of the known ones, or it is damaged.
    """
    try:
        if _count_parts(document) > _MOST_PARTS:
            raise ValueError(f"it has more than {_MOST_PARTS:,} parts")
        # sbi draws from a distribution to learn its shape.
        with torch.random.fork_rng(devices=[]):
            prior = _decode(_upgrade(document))
        if not isinstance(prior, Distribution):
            raise ValueError(f"it is a {type(prior).__name__}")
    except Exception as error:
        reason = str(error).splitlines() or [""]
        raise ValueError(
            f"The saved prior is damaged: {type(error).__name__}: {reason[0]}."
        ) from error
    return prior


def _count_parts(document: Mapping[str, Any]) -> int:
    return str(document).count("'type'")


def is_same_prior(document: Mapping[str, Any], prior: Distribution) -> bool:
    """Whether a prior is the one that was described, validation of arguments aside."""
    described, given = encode_prior(decode_prior(document)), encode_prior(prior)
    return _leave_out_validation(described) == _leave_out_validation(given)


def _leave_out_validation(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _leave_out_validation(part)
            for key, part in value.items()
            if key != "validate_args"
        }
    if isinstance(value, list):
        return [_leave_out_validation(part) for part in value]
    return value


def _encode(value: Any) -> Any:
    match value:
        case Tensor():
            dtype = str(value.dtype).removeprefix("torch.")
            if dtype not in _DTYPES or not value.isfinite().all():
                raise _UnknownError
            return {"dtype": dtype, "values": value.tolist()}
        case torch.dtype():
            return {"dtype": str(value).removeprefix("torch.")}
        case list() | tuple():
            return [_encode(part) for part in value]
        case int():
            return value
        case float() if math.isfinite(value):
            return value
    kind = KINDS.get(type(value))
    if kind is None:
        raise _UnknownError
    arguments = {
        name: _encode(getattr(value, attribute))
        for name, attribute in kind.attributes.items()
    }
    return {"type": type(value).__name__, "arguments": arguments}


def _decode(value: Any) -> Any:
    match value:
        case int() | float():
            return value
        case list():
            return [_decode(part) for part in value]
        case {"dtype": dtype, "values": values, **rest} if not rest:
            return torch.tensor(values, dtype=_DTYPES[dtype])
        case {"dtype": dtype, **rest} if not rest:
            return _DTYPES[dtype]
        case {"type": str(name), "arguments": dict(arguments), **rest} if not rest:
            return _make(name, {key: _decode(part) for key, part in arguments.items()})
    raise ValueError(f"{value!r:.60} describes nothing")


def _make(name: str, arguments: dict[str, Any]) -> Any:
    """Make a distribution or a transform, after a look at its size and its values."""
    if name not in _BY_NAME:
        raise ValueError(f"the type {name!r} is unknown")
    make, attributes = _BY_NAME[name]
    if arguments.keys() != attributes.keys():
        raise ValueError(f"{name} must have the arguments {', '.join(attributes)}")
    for key, value in arguments.items():
        if isinstance(value, bool) is not (key == "validate_args"):
            raise ValueError(f"{key} of {name} is {value!r}")
    if "validate_args" in arguments:
        # As they are written; shapes that differ could be broadcast to any size.
        shapes = {
            value.shape[:-1] if key in _MATRICES else value.shape
            for key, value in arguments.items()
            if isinstance(value, Tensor)
        }
        if len(shapes) > 1:
            raise ValueError(f"the arguments of {name} have different shapes")
        _check_size(make(**{**arguments, "validate_args": False}))
        make(**{**arguments, "validate_args": True})
    made = make(**arguments)
    if isinstance(made, Distribution):
        _check_size(made)
    return made


def _check_size(made: Distribution) -> None:
    size = math.prod((*made.batch_shape, *made.event_shape))
    if size > _MOST_NUMBERS:
        raise ValueError(f"{type(made).__name__} has {size:,} numbers")


def _upgrade(node: Any) -> Any:
    """Write what version 0.1.0 wrote as this one does."""
    if not isinstance(node, Mapping):
        return node
    unchecked = {"validate_args": False}
    match node:
        case {"type": "MultipleIndependent", "of": list(parts)}:
            dists = [_upgrade(part) for part in parts]
            return {"type": "MultipleIndependent", "arguments": {"dists": dists}}
        case {"type": "Independent", "of": part, "ndims": ndims}:
            arguments = {
                "base_distribution": _upgrade(part),
                "reinterpreted_batch_ndims": ndims,
            }
            return {"type": "Independent", "arguments": arguments | unchecked}
        case {"type": name, "dtype": dtype, "arguments": dict(values)}:
            arguments = {
                key: {"dtype": dtype, "values": value} for key, value in values.items()
            }
            if name == "BoxUniform":
                arguments["reinterpreted_batch_ndims"] = 1
            return {"type": name, "arguments": arguments | unchecked}
    return node
