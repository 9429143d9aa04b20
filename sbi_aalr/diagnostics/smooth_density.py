r"""Densities of draws, smooth and whole up to where a prior cuts them off.

Kernel estimates on a grid. The bandwidth is that of Botev's diffusion, which does not
take several modes for one wide one; in the plane the kernel leans as the draws do. Mass
that would leave the range of the draws is reflected at its edge, so that a density does
not fall off towards a bound.

References:
    Botev, Grotowski & Kroese (2010), *Kernel density estimation via diffusion*, Annals
    of Statistics 38, arXiv:1011.2602.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sbi_aalr.diagnostics.draws import Array

_BINS, _BINS_OF_PAIRS = 512, 128
# A kernel narrower than this, in cells, would show single bins.
_LEAST_WIDTH = 0.7
_REACH = 4
_MOST_CORRELATED = 0.98
_FIXED_POINT_ORDER = 7
# Of the rule of thumb: Botev's width goes to nothing where a density has a spike, and
# in the plane it leaves islands.
_LEAST_SHARE, _PLANE_FACTOR = 0.7, 1.3
_COARSE_BINS = 64


class Plane(NamedTuple):
    """A density over a plane.

    Attributes:
        x: Where it is known, first coordinate, shape `(X,)`.
        y: Second coordinate, shape `(Y,)`.
        density: Shape `(Y, X)`; zero outside of the range of the draws.
        levels: Heights, in rising order, above which lie the shares asked for.
    """

    x: Array
    y: Array
    density: Array
    levels: list[float]


def find_window(parts: Sequence[Array]) -> tuple[float, float]:
    """Return the range of draws, without the few that lie far out.

    Args:
        parts: Draws of one parameter, shape `(N,)` each, which share an axis.
    """
    bounds = []
    for part in parts:
        low, high = (float(value) for value in np.quantile(part, [0.002, 0.998]))
        room = 0.5 * (high - low)
        bounds.append((max(part.min(), low - room), min(part.max(), high + room)))
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    if low < high:
        return float(low), float(high)
    room = max(0.5, 0.1 * abs(low))
    return float(low - room), float(low + room)


def smooth_line(
    values: Array, window: tuple[float, float], num_effective: float
) -> tuple[Array, Array]:
    """Estimate the density of one parameter.

    Args:
        values: Draws, shape `(N,)`.
        window: Range to estimate it in.
        num_effective: How many independent draws they are worth.

    Returns:
        Heights, shape `(K,)`, and edges of bins, shape `(K + 1,)`; they integrate to 1.
    """
    from scipy.ndimage import gaussian_filter1d

    # In float32 a narrow window far from zero has fewer numbers than bins.
    counts, edges = np.histogram(values.astype(float), _BINS, range=window)
    own = _range_of(counts)
    heights = counts.astype(float)
    width = _find_bandwidth(counts[own], num_effective) if counts.any() else 0.0
    if width > 0:
        heights[own] = gaussian_filter1d(
            heights[own], max(width, _LEAST_WIDTH), mode="reflect", truncate=_REACH
        )
    return heights / max(heights.sum(), 1) / np.diff(edges), edges


def smooth_plane(
    pairs: Array,
    window: tuple[tuple[float, float], tuple[float, float]],
    num_effective: float,
    shares: Sequence[float],
) -> Plane:
    """Estimate the density of two parameters.

    Args:
        pairs: Draws, shape `(N, 2)`.
        window: Ranges of both parameters.
        num_effective: How many independent draws they are worth.
        shares: Shares of the draws to find levels for, the largest first.
    """
    from scipy.signal import fftconvolve

    first, second = pairs.astype(float).T
    counts, *edges = np.histogram2d(
        first, second, bins=_BINS_OF_PAIRS, range=np.array(window)
    )
    density = counts
    if counts.any():
        own = tuple(_range_of(counts.sum(axis=1 - axis)) for axis in (0, 1))
        kernel = _make_kernel(counts[own], num_effective)
        reach = [(size // 2, size // 2) for size in kernel.shape]
        padded = np.pad(counts[own], reach, mode="symmetric")
        density = np.zeros_like(counts)
        density[own] = fftconvolve(padded, kernel, mode="valid").clip(min=0)
    x, y = (_list_places(part) for part in edges)
    # Out to the edges, and zero beyond, or contours would be open there.
    whole = np.pad(np.pad(density, 1, mode="edge"), 1)
    return Plane(x, y, whole.T, _find_levels(density, counts, shares))


def _range_of(counts: Array) -> slice:
    """Bins from the first that has draws to the last: a bound is at their edge."""
    filled = np.flatnonzero(counts)
    return slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0)


def _find_bandwidth(counts: Array, num_effective: float) -> float:
    """Width of a kernel, in bins, by the fixed point of Botev's equation."""
    from scipy.fft import dct
    from scipy.optimize import brentq

    size = len(counts)
    if size < 2:
        return 0.0
    rule = _apply_rule_of_thumb(counts, num_effective)
    squares = np.arange(1, size, dtype=float) ** 2
    power = (dct(counts / counts.sum())[1:] / 2) ** 2

    def measure_roughness(order: int, time: float) -> float:
        decay = np.exp(-squares * np.pi**2 * time)
        return 2 * np.pi ** (2 * order) * float((squares**order * power * decay).sum())

    def miss(time: float) -> float:
        roughness = measure_roughness(_FIXED_POINT_ORDER, time)
        for order in range(_FIXED_POINT_ORDER - 1, 1, -1):
            odd = np.prod(np.arange(1, 2 * order, 2)) / np.sqrt(2 * np.pi)
            factor = 2 * (1 + 0.5 ** (order + 0.5)) / 3 * odd / num_effective
            earlier = (factor / roughness) ** (2 / (3 + 2 * order))
            roughness = measure_roughness(order, earlier)
        return time - (2 * num_effective * np.sqrt(np.pi) * roughness) ** -0.4

    try:
        with np.errstate(all="ignore"):
            width = float(np.sqrt(brentq(miss, 1e-9, 0.1)) * size)
    except ValueError:
        # No fixed point, as for very few draws.
        return rule
    return max(width, _LEAST_SHARE * rule)


def _apply_rule_of_thumb(counts: Array, num_effective: float) -> float:
    """Silverman's width, in bins, for the width of the bins that hold half the draws.

    Of a normal variable these are as wide as its quartiles are apart; of several modes
    they do not count what lies between.
    """
    size = -(-len(counts) // _COARSE_BINS)
    coarse = np.add.reduceat(counts, np.arange(0, len(counts), size))
    ordered = np.sort(coarse)[::-1].cumsum() / counts.sum()
    before = int(np.searchsorted(ordered, 0.5))
    held = ordered[before - 1] if before else 0.0
    inner = before + (0.5 - held) / (ordered[before] - held)
    return float(0.9 * size * inner / 1.349 * num_effective**-0.2)


def _make_kernel(counts: Array, num_effective: float) -> Array:
    """A Gaussian that leans as the draws do, over whole cells; its sum is 1."""
    # The optimum in the plane is wider by this than that on a line.
    wider = _PLANE_FACTOR * num_effective ** (1 / 5 - 1 / 6)
    sides = (counts.sum(axis=1 - axis) for axis in (0, 1))
    widths = [wider * _find_bandwidth(side, num_effective) for side in sides]
    width = np.clip(widths, _LEAST_WIDTH, None)
    lean = _correlate(counts)
    reach = np.minimum(np.ceil(_REACH * width), np.array(counts.shape)).astype(int)
    rows, columns = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    a, b = rows / width[0], columns / width[1]
    kernel = np.exp(-(a**2 - 2 * lean * a * b + b**2) / (2 * (1 - lean**2)))
    return np.asarray(kernel / kernel.sum())


def _correlate(counts: Array) -> float:
    places = [np.arange(size) for size in counts.shape]
    total = counts.sum()
    means = [
        (counts.sum(axis=1 - axis) * places[axis]).sum() / total for axis in (0, 1)
    ]
    a, b = places[0] - means[0], places[1] - means[1]
    spread = (counts.sum(axis=1) * a**2).sum() * (counts.sum(axis=0) * b**2).sum()
    if not spread > 0:
        return 0.0
    lean = float(a @ counts @ b / np.sqrt(spread))
    return float(np.clip(lean, -_MOST_CORRELATED, _MOST_CORRELATED))


def _find_levels(density: Array, counts: Array, shares: Sequence[float]) -> list[float]:
    """Heights above which lie shares of the draws, not of the smoothed density."""
    order = np.argsort(density, axis=None)[::-1]
    ordered = density.ravel()[order]
    mass = np.cumsum(counts.ravel()[order]) / max(counts.sum(), 1)
    levels: list[float] = []
    for share in shares:
        place = min(int(np.searchsorted(mass, float(share))), ordered.size - 1)
        # Contours need rising levels, which draws in a single bin do not give.
        least = float(np.nextafter(levels[-1], np.inf)) if levels else 0.0
        levels.append(max(float(ordered[place]), least))
    return levels


def _list_places(edges: Array) -> Array:
    low, high = edges[0], edges[-1]
    beyond = 1e-6 * (high - low)
    centres = (edges[1:] + edges[:-1]) / 2
    return np.array([low - beyond, low, *centres, high, high + beyond])
