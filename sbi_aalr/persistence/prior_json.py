"""Priors as JSON: a list of known distributions, so that reading one runs no code."""

from typing import Any, cast

import torch
from sbi.utils import BoxUniform, MultipleIndependent
from torch import Tensor, distributions
from torch.distributions import Distribution

_ARGUMENTS = {
    "Beta": ("concentration1", "concentration0"),
    "Cauchy": ("loc", "scale"),
    "Dirichlet": ("concentration",),
    "Exponential": ("rate",),
    "Gamma": ("concentration", "rate"),
    "Gumbel": ("loc", "scale"),
    "HalfCauchy": ("scale",),
    "HalfNormal": ("scale",),
    "InverseGamma": ("concentration", "rate"),
    "Laplace": ("loc", "scale"),
    "LogNormal": ("loc", "scale"),
    # Not the covariance: its factor would then be rounded anew.
    "MultivariateNormal": ("loc", "scale_tril"),
    "Normal": ("loc", "scale"),
    "Pareto": ("scale", "alpha"),
    "StudentT": ("df", "loc", "scale"),
    "Uniform": ("low", "high"),
}


_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def encode_prior(prior: Distribution) -> dict[str, Any] | None:
    """Describe a prior by its type and arguments, or None if it is not known.

    Args:
        prior: A distribution of torch, alone, in `Independent` or in sbi's
            `BoxUniform` or `MultipleIndependent`.

    Returns:
        Plain data for JSON; floats are exact.

    Example:
        >>> encode_prior(torch.distributions.Exponential(torch.tensor([2.0])))
        {'type': 'Exponential', 'dtype': 'float32', 'arguments': {'rate': [2.0]}}
    """
    kind, known = type(prior), cast(Any, prior)
    if kind is BoxUniform:
        base = known.base_dist
        return _encode("BoxUniform", {"low": base.low, "high": base.high})
    if kind is MultipleIndependent:
        parts = [encode_prior(part) for part in known.dists]
        return None if None in parts else {"type": "MultipleIndependent", "of": parts}
    if kind is distributions.Independent:
        part = encode_prior(known.base_dist)
        ndims = known.reinterpreted_batch_ndims
        return part and {"type": "Independent", "of": part, "ndims": ndims}
    name = kind.__name__
    if name not in _ARGUMENTS or kind is not getattr(distributions, name):
        return None
    return _encode(name, {key: getattr(prior, key) for key in _ARGUMENTS[name]})


def decode_prior(document: dict[str, Any]) -> Distribution:
    """Rebuild a prior from what `encode_prior` returned, on the CPU.

    Raises:
        ValueError: If its type is not one of the known ones, or it is damaged.
    """
    try:
        return _decode(document)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The saved prior is damaged: {type(error).__name__}: {error}."
        ) from error


def _decode(document: dict[str, Any]) -> Distribution:
    name = document["type"]
    if name == "MultipleIndependent":
        return MultipleIndependent([_decode(part) for part in document["of"]])
    if name == "Independent":
        return distributions.Independent(
            _decode(document["of"]), document["ndims"], validate_args=False
        )
    if name != "BoxUniform" and name not in _ARGUMENTS:
        raise ValueError(f"the type {name!r} is unknown")
    dtype = _DTYPES[document["dtype"]]
    arguments = {
        key: torch.tensor(value, dtype=dtype)
        for key, value in document["arguments"].items()
    }
    if name == "BoxUniform":
        return BoxUniform(**arguments)
    return getattr(distributions, name)(**arguments, validate_args=False)


def _encode(name: str, arguments: dict[str, Tensor]) -> dict[str, Any] | None:
    dtype = str(next(iter(arguments.values())).dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        return None
    values = {key: value.tolist() for key, value in arguments.items()}
    return {"type": name, "dtype": dtype, "arguments": values}
