"""The ends of the spectrum of a symmetric matrix that is known by its products only."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# Products at most to find the largest eigenvalue.
MOST_PRODUCTS = 30
# By which a norm or an eigenvalue may be off for no other reason than rounding, as a
# multiple of a power of the machine epsilon: 1e-4 in float32, 1e-10 in float64.
_ROUNDING, _POWER = 4.0, 2 / 3
_TOLERANCE = 1e-5


class Range(NamedTuple):
    """The least and the greatest of some numbers; infinite if there are none."""

    least: float = float("inf")
    greatest: float = float("-inf")

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return max(abs(self.least), abs(self.greatest))

    def add(self, value: float) -> "Range":
        """Take one number more."""
        return self.join(Range(value, value))

    def join(self, other: "Range") -> "Range":
        """Take the numbers of another one, too."""
        return Range(min(self.least, other.least), max(self.greatest, other.greatest))


def find_spectrum(
    multiply: Product, like: Tensor, most_products: int = MOST_PRODUCTS
) -> Range:
    """Find the least and the greatest eigenvalue of A, each from inside.

    It is power iteration that forgets nothing of what it saw (Lanczos' recurrence): the
    eigenvalues of A among the first k vectors come from a tridiagonal matrix, and only
    the last two vectors are kept.

    Args:
        multiply: Maps u `(W,)` to A u.
        like: A vector of the shape, type and device of u.
        most_products: Largest number of products with A.
    """
    vector, previous = _draw_vector(like), torch.zeros_like(like)
    diagonal: list[float] = []
    beside: list[float] = []
    spectrum = Range(0.0, 0.0)
    while len(diagonal) < most_products:
        product = multiply(vector)
        diagonal.append(float(vector @ product))
        known, spectrum = spectrum, _find_ritz_values(diagonal, beside)
        rest = product - diagonal[-1] * vector
        if beside:
            rest -= beside[-1] * previous
        length, size = float(rest.norm()), spectrum.size
        is_settled = abs(size - known.size) <= _TOLERANCE * size
        if length <= get_rounding(like) * size or is_settled:
            break
        previous, vector = vector, rest / length
        beside.append(length)
    return spectrum


def _find_ritz_values(diagonal: list[float], beside: list[float]) -> Range:
    matrix = torch.tensor(diagonal, dtype=torch.float64).diag()
    sides = torch.tensor(beside, dtype=torch.float64)
    values = torch.linalg.eigvalsh(matrix + sides.diag(1) + sides.diag(-1))
    return Range(float(values[0]), float(values[-1]))


def _draw_vector(like: Tensor) -> Tensor:
    """Draw a unit vector without touching anybody's generator."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return (vector / vector.norm()).to(like)


def get_rounding(like: Tensor) -> float:
    """Share of a norm or of the largest eigenvalue that is put down to rounding."""
    return _ROUNDING * torch.finfo(like.dtype).eps ** _POWER
