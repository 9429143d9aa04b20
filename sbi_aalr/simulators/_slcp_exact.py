"""Independent draws from the exact SLCP posterior, by rejection.

Nothing is approximated: points are drawn under a piecewise constant envelope that is
proven to lie above the two-dimensional density of `_slcp_density`, thinned to it, and
completed with the radius and the location, whose distributions are known.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sbi_aalr.simulators._slcp_density import (
    BOUND,
    ReducedPosterior,
    compute_inner,
    log_upper_gamma,
)

_FIRST_SPLITS = 5
_MAX_SPLITS = 20
_MAX_CELLS = 40_000
_LOOSENESS = 0.25
_MIN_PROPOSALS_AT_ONCE = 1_000
_MAX_PROPOSALS_AT_ONCE = 100_000
_MAX_PROPOSALS = 2_000_000
_MAX_PROPOSALS_PER_DRAW = 250
_ROUNDING = 1e-9
_BISECTIONS = 60


class Envelope(NamedTuple):
    """A piecewise constant upper bound of a density in angle and theta_5.

    Attributes:
        cells: Lowest angle, highest angle, lowest and highest theta_5, `(N, 4)`.
        bounds: Upper bound of the log-density in each cell, shape `(N,)`.
        weights: Share of each cell in the envelope's mass, shape `(N,)`.
    """

    cells: Tensor
    bounds: Tensor
    weights: Tensor


def sample_exact(
    posterior: ReducedPosterior, num_samples: int, generator: torch.Generator
) -> Tensor:
    """Draw independent parameters from an exact SLCP posterior.

    Args:
        posterior: The posterior of one observation.
        num_samples: Number of draws S.
        generator: Source of randomness, on the CPU.

    Returns:
        Draws, shape `(S, 5)`, float64.

    Raises:
        RuntimeError: If fewer than one proposal in 250 is accepted, or if a
            proposal shows the envelope to lie below the density.

    Example:
        >>> import torch
        >>> points = torch.tensor([[0, 1], [1, 0], [2, 2], [3, 0]]).double()
        >>> generator = torch.Generator().manual_seed(0)
        >>> sample_exact(ReducedPosterior(points), 100, generator).shape
        torch.Size([100, 5])
    """
    envelope = build_envelope(posterior)
    budget = max(_MAX_PROPOSALS, _MAX_PROPOSALS_PER_DRAW * num_samples)
    parts: list[Tensor] = []
    kept, tried, size = 0, 0, 3 * num_samples
    while kept < num_samples:
        if tried >= budget:
            raise RuntimeError(
                f"The exact sampler accepted {kept} of {tried} proposals, too few "
                f"for {num_samples} draws. Check that `x_o` is a plausible outcome "
                "of the simulator: points far outside the prior's reach are slow."
            )
        size = max(_MIN_PROPOSALS_AT_ONCE, min(size, _MAX_PROPOSALS_AT_ONCE))
        parts.append(propose_and_thin(posterior, envelope, size, generator))
        kept, tried = kept + len(parts[-1]), tried + size
        size = math.ceil(1.1 * (num_samples - kept) * tried / max(kept, 1))
    return torch.cat(parts)[:num_samples]


def build_envelope(posterior: ReducedPosterior) -> Envelope:
    """Split the rectangle of angles and theta_5 where the bound is loose.

    Raises:
        RuntimeError: If the density leaves the range of float64.
    """
    cells = torch.tensor([[0, math.pi / 2, -BOUND, BOUND]], dtype=torch.float64)
    for _ in range(_FIRST_SPLITS):
        cells = _split_cells(cells)
    for _ in range(_MAX_SPLITS):
        bounds = posterior.log_bound(cells)
        area = (cells[:, 1] - cells[:, 0]) * (cells[:, 3] - cells[:, 2])
        weights = torch.softmax(bounds + torch.log(area), dim=0)
        if not bool(torch.isfinite(weights).all()):
            raise RuntimeError(
                "The exact posterior of `x_o` is out of the range of float64, got "
                f"points {posterior.points.tolist()}. Use a plausible observation."
            )
        centres = posterior.log_density(cells[:, :2].mean(1), cells[:, 2:].mean(1))
        excess = weights * -torch.expm1(centres - bounds)
        envelope = Envelope(cells, bounds, weights)
        if excess.sum() < _LOOSENESS or len(cells) > _MAX_CELLS:
            break
        loose = excess >= excess.mean()
        cells = torch.cat([cells[~loose], _split_cells(cells[loose])])
    return envelope


def propose_and_thin(
    posterior: ReducedPosterior,
    envelope: Envelope,
    num_proposals: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw under the envelope and keep what the exact posterior accepts.

    Returns:
        Accepted draws, float64, at most `num_proposals` rows of 5.

    Raises:
        RuntimeError: If the density exceeds the envelope at a proposal.
    """
    cell = torch.multinomial(
        envelope.weights, num_proposals, replacement=True, generator=generator
    )
    low, high, first, last = envelope.cells[cell].unbind(-1)
    uniform = torch.rand(2, num_proposals, dtype=torch.float64, generator=generator)
    angle = low + (high - low) * uniform[0]
    theta5 = first + (last - first) * uniform[1]
    log_keep = posterior.log_density(angle, theta5) - envelope.bounds[cell]
    if not bool((log_keep <= _ROUNDING).all()):
        raise RuntimeError(
            "The envelope of the exact sampler must lie above the density, got an "
            f"excess of {float(log_keep.max()):.3g} nats. Please report `x_o`."
        )
    kept = _draw_log_uniform(num_proposals, generator) < log_keep
    angle, theta5 = angle[kept], theta5[kept]
    rate = posterior.compute_rate(angle, theta5)
    floor = posterior.compute_floor(angle, angle, rate)
    half_square = _invert_gamma(floor, _draw_log_uniform(len(angle), generator))
    radius = torch.sqrt(2 * half_square / rate)
    return _complete_draws(posterior, angle, theta5, radius, generator)


def _complete_draws(
    posterior: ReducedPosterior,
    angle: Tensor,
    theta5: Tensor,
    radius: Tensor,
    generator: torch.Generator,
) -> Tensor:
    roots = posterior.compute_precision_roots(angle)
    scales = 1 / (roots * radius[:, None])
    rho = torch.tanh(theta5)
    noise = torch.randn(len(angle), 2, dtype=torch.float64, generator=generator)
    correlated = rho * noise[:, 0] + noise[:, 1] / torch.cosh(theta5)
    step = torch.stack([noise[:, 0], correlated], dim=-1) / 2
    offset = posterior.find_offset(angle, theta5)
    location = posterior.mean - offset / roots + step * scales
    slope = compute_inner(offset * radius[:, None], step, rho)
    log_keep = 4 * slope * torch.cosh(theta5).square()
    kept = (location.abs() <= BOUND).all(1)
    kept &= _draw_log_uniform(len(angle), generator) < log_keep
    signs = 2 * torch.randint(2, (len(angle), 2), generator=generator) - 1
    signed = signs * scales.sqrt().clamp(max=BOUND)
    return torch.cat([location, signed, theta5[:, None]], dim=-1)[kept]


def _split_cells(cells: Tensor) -> Tensor:
    low, high, first, last = cells.unbind(-1)
    angle, theta5 = (low + high) / 2, (first + last) / 2
    return torch.cat(
        [
            torch.stack([*sides, *ends], dim=-1)
            for sides in ((low, angle), (angle, high))
            for ends in ((first, theta5), (theta5, last))
        ]
    )


def _invert_gamma(floor: Tensor, log_survival: Tensor) -> Tensor:
    """Find the t above `floor` that a Gamma(5/2) exceeds with the given log-odds."""
    target = log_upper_gamma(floor) + log_survival
    low, high = floor, floor + 20 - 2 * log_survival
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        beyond = log_upper_gamma(middle) < target
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return (low + high) / 2


def _draw_log_uniform(size: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(size, dtype=torch.float64, generator=generator)
    return torch.log1p(-uniform)
