"""Chains for GetDist, which draws triangle plots for cosmologists."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution, Independent, TransformedDistribution

from sbi_aalr.checks import check_finite
from sbi_aalr.diagnostics.draws import DrawsLike, read_draws
from sbi_aalr.diagnostics.plot_style import typeset
from sbi_aalr.seeding import generators_kept


def to_getdist(
    draws: DrawsLike,
    *,
    parameter_names: Sequence[str] | None = None,
    observation: int | None = None,
    label: str | None = None,
    bounds: Sequence[tuple[float | None, float | None]] | None = None,
) -> Any:
    """Convert draws to GetDist's `MCSamples`.

    Args:
        draws: A `Chains`, draws of shape `(C, S, D)` or `(C, S, B, D)`, or a DataTree
            made by `to_datatree`.
        parameter_names: One name a parameter, by default those of the DataTree, else
            `theta_1` to `theta_D`. Text between dollar signs is set as mathematics.
        observation: Which observation to take, where there are several.
        label: What GetDist's legends call the samples.
        bounds: Lower and upper end of each parameter that the prior does not go beyond,
            None where there is none.

    Returns:
        The samples, a chain each, of the same weight.

    Raises:
        ImportError: If GetDist is not installed.
        ValueError: If shapes or names do not fit, draws are not finite, or
            `observation` is missing.
    """
    try:
        from getdist import MCSamples  # type: ignore[import, unused-ignore]
    except ImportError as error:
        raise ImportError(
            "`to_getdist` needs GetDist. Install it with `pip install getdist`."
        ) from error
    read = read_draws(draws, parameter_names=parameter_names)
    theta = read.for_observation(observation).astype(np.float64)
    # It would leave such a parameter out, without a word.
    check_finite("draws", torch.from_numpy(theta).flatten(0, 1), "")
    # GetDist takes names without spaces, and sets labels as mathematics by itself.
    names = [f"p{index}" for index in range(1, theta.shape[-1] + 1)]
    if all(name.isidentifier() for name in read.parameter_names):
        names = read.parameter_names
    if bounds is not None and len(bounds) != len(names):
        raise ValueError(
            f"`bounds` must have {len(names)} pairs, one a parameter, got "
            f"{len(bounds)}."
        )
    return MCSamples(
        samples=list(theta),
        names=list(names),
        labels=[_set_as_mathematics(name) for name in read.parameter_names],
        ranges=None if bounds is None else dict(zip(names, bounds, strict=True)),
        label=label,
        settings={"ignore_rows": 0},
    )


def find_bounds(prior: Any) -> list[tuple[float | None, float | None]]:
    """Return the lower and upper end of each parameter of a prior, None for none."""
    parts = getattr(prior, "dists", None)
    if parts is not None:
        return [pair for part in parts for pair in find_bounds(part)]
    inner = getattr(prior, "prior", None)
    if isinstance(inner, Distribution):
        return find_bounds(inner)
    with generators_kept():
        count = prior.sample((1,)).shape[-1]
    return _find_pairs(prior, count)


def _find_pairs(prior: Any, count: int) -> list[tuple[float | None, float | None]]:
    if isinstance(prior, Independent):
        return _find_pairs(prior.base_dist, count)
    is_transformed = isinstance(prior, TransformedDistribution)
    # Some, such as HalfNormal, say themselves where they end.
    if is_transformed and type(prior).support is TransformedDistribution.support:
        inner = _find_pairs(prior.base_dist, count)
        return _carry_over(inner, prior.transforms)
    ends = [_find_end(prior, names) for names in (("low", "lower"), ("high", "upper"))]
    columns = [
        [None] * count if end is None else np.broadcast_to(end, count).tolist()
        for end in ends
    ]
    return list(zip(*columns, strict=True))


def _carry_over(
    pairs: list[tuple[float | None, float | None]], transforms: Sequence[Any]
) -> list[tuple[float | None, float | None]]:
    """Where transforms of single numbers bring the ends; None where nobody knows."""
    lower = [-math.inf if low is None else low for low, _ in pairs]
    upper = [math.inf if high is None else high for _, high in pairs]
    ends = torch.tensor([lower, upper])
    for transform in transforms:
        if transform.domain.event_dim or not transform.bijective:
            return [(None, None)] * len(pairs)
        ends = transform(ends).sort(dim=0).values
    return [(_keep_finite(low), _keep_finite(high)) for low, high in ends.T.tolist()]


def _keep_finite(end: float) -> float | None:
    return end if math.isfinite(end) else None


def _find_end(prior: Any, names: tuple[str, str]) -> Any:
    """An end of a uniform distribution, or of the support of any other."""
    found = getattr(prior, names[0], None)
    try:
        support = prior.support
    except (AttributeError, NotImplementedError):
        support = None
    support = getattr(support, "base_constraint", support)
    found = getattr(support, f"{names[1]}_bound", None) if found is None else found
    return None if found is None else np.asarray(found, dtype=float)


def _set_as_mathematics(name: str) -> str:
    shown = typeset(name)
    if len(shown) > 2 and shown[0] == shown[-1] == "$" and "$" not in shown[1:-1]:
        return shown[1:-1]
    return rf"\mathrm{{{shown.replace('$', '').replace(' ', '~').replace('_', ' ')}}}"
