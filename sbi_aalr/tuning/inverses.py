r"""Approximate $A^{-1} v$ for a symmetric matrix A that is known by its products only.

`neumann` is $\alpha \sum_{j<K} (I - \alpha A)^j v$, which gradient descent with step
$\alpha$ gives when it is started at zero: what is left after k terms,
$(I - \alpha A)^k v = v - A p_k$, is the next term and the residual at once. It
converges for a positive definite A with $\alpha < 2 / \lambda_{\max}$, and all that can
go wrong shows in the residual. `identity` puts I in the place of the inverse. Conjugate
gradients take the best step of each direction; of their vectors a mean is kept whose
residual never grows, as theirs does without end where A is singular. `exact` builds A
column by column and is for small problems.

References:
    Zhou & Walker (1994), SIAM Journal on Scientific Computing 15(2), for that mean.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

# The largest matrix that `exact` builds, in rows: 100 MB in float32.
MOST_EXACT = 5_000
# Products that it takes at most to find the largest eigenvalue.
MOST_PRODUCTS = 30
# By which a norm or an eigenvalue may be off for no other reason than rounding, as a
# multiple of a power of the machine epsilon: 1e-4 in float32, 1e-10 in float64.
_ROUNDING, _POWER = 4.0, 2 / 3
_EIGENVALUE_TOLERANCE = 1e-5
# Machine epsilons of the largest curvature below which there is none, and of the
# largest eigenvalue, by the root of their number, below which an eigenvalue is zero.
_FLAT, _EXACT_DIGITS = 10, 4
_FOLLOWED_TERMS = 20


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


class Solution(NamedTuple):
    """What an inverse made of v.

    Attributes:
        vector: The approximation p of $A^{-1} v$, shape `(W,)`.
        residual: $|v - A p| / |v|$; 0 for v = 0.
        num_terms: Products with A that went into p, or terms of the series.
        curvatures: Least and greatest $u^T A u / u^T u$ of all u met.
        is_growing: Whether the series was left because its terms began to grow.
        doubt: By how much p may be wrong for eigenvalues that rounding hides, as a
            share of its norm; infinite if A is singular.
    """

    vector: Tensor
    residual: float
    num_terms: int
    curvatures: Range
    is_growing: bool = False
    doubt: float = 0.0


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
        is_settled = abs(size - known.size) <= _EIGENVALUE_TOLERANCE * size
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


def get_unreachable(like: Tensor) -> float:
    """Share of v that counts as out of reach of a singular matrix."""
    return torch.finfo(like.dtype).eps ** (1 / 3)


def _compare(rest: Tensor, norm: float) -> float:
    """Norm of what is left as a share; 0 of nothing."""
    return float(rest.norm()) / norm if norm else 0.0


def get_rounding(like: Tensor) -> float:
    """Share of a norm or of the largest eigenvalue that is put down to rounding."""
    return _ROUNDING * torch.finfo(like.dtype).eps ** _POWER


def find_power_of_two(v: Tensor) -> float:
    """A power of two by which v has entries of about 1, so that no square overflows."""
    return 2.0 ** math.frexp(float(v.abs().max()))[1]


def solve_neumann(
    multiply: Product, v: Tensor, num_terms: int, scale: float
) -> Solution:
    r"""Sum the Neumann series, up to where its terms begin to grow.

    Args:
        multiply: Maps u `(W,)` to A u.
        v: What to multiply with the inverse, shape `(W,)`.
        num_terms: Terms of the series; fewer if one is too small to count.
        scale: The factor $\alpha$.
    """
    rounding, norm = get_rounding(v), float(v.norm())
    term, vector = v, torch.zeros_like(v)
    residual, curvatures, used = norm, Range(), 0
    while used < num_terms and residual > torch.finfo(v.dtype).eps * norm:
        product = multiply(term)
        curvature = float(term @ product) / residual**2
        curvatures = curvatures.add(curvature)
        following = term - scale * product
        left = float(following.norm())
        # Of a positive definite matrix all terms shrink; the first counts anyhow.
        is_growing = not left <= residual * (1 + rounding)
        if not (is_growing and used):
            vector, used = vector + scale * term, used + 1
            term, residual = following, left
        if is_growing:
            found = _descend(multiply, following, scale)
            curvatures = curvatures.join(found)
            return Solution(vector, residual / norm, used, curvatures, True)
    return Solution(vector, residual / norm if norm else 0.0, used, curvatures)


def _descend(multiply: Product, term: Tensor, scale: float) -> Range:
    """Follow growing terms until they show negative curvature, if they do."""
    found = Range()
    for _ in range(_FOLLOWED_TERMS):
        product = multiply(term)
        found = found.add(float(term @ product) / float(term @ term))
        if not 0 <= found.least < math.inf:
            break
        term = term - scale * product
        term = term / term.norm()
    return found


def solve_conjugate_gradient(multiply: Product, v: Tensor, num_terms: int) -> Solution:
    """Solve by conjugate gradients, up to a direction of negative curvature.

    Args:
        multiply: Maps u `(W,)` to A u.
        v: What to multiply with the inverse, shape `(W,)`.
        num_terms: Largest number of steps; fewer if the residual vanishes.

    Returns:
        The solution, of a residual that is at most 1.
    """
    epsilon, norm = torch.finfo(v.dtype).eps, float(v.norm())
    vector, rest = kept, kept_rest = torch.zeros_like(v), v
    direction, square = v, norm**2
    curvatures, used = Range(), 0
    # Where the residual has grown so far, nothing is left of the digits of v.
    while used < num_terms and (epsilon * norm) ** 2 < square < norm**2 / epsilon:
        product = multiply(direction)
        bend = float(direction @ product) / float(direction @ direction)
        curvatures = curvatures.add(bend)
        if bend <= _FLAT * epsilon * curvatures.size:
            break
        step = square / (bend * float(direction @ direction))
        vector, rest = vector + step * direction, rest - step * product
        change = rest - kept_rest
        share = -float(kept_rest @ change) / (float(change @ change) or 1.0)
        kept = kept + share * (vector - kept)
        kept_rest = kept_rest + share * change
        previous, square = square, float(rest @ rest)
        direction = rest + (square / previous) * direction
        used += 1
    if used:
        kept_rest = v - multiply(kept)
    residual = _compare(kept_rest, norm)
    # A direction of no curvature, or one by which the residual went beyond all bounds.
    is_flat = used < num_terms and curvatures.least > -get_rounding(v) * curvatures.size
    is_flat = is_flat and residual > get_unreachable(v)
    return Solution(kept, residual, used, curvatures, doubt=math.inf if is_flat else 0)


def solve_identity(multiply: Product, v: Tensor, scale: float) -> Solution:
    """Put a multiple of the identity in the place of the inverse.

    Args:
        multiply: Maps u `(W,)` to A u; the residual needs it.
        v: What to multiply with the inverse, shape `(W,)`.
        scale: The multiple.
    """
    norm, product = float(v.norm()), multiply(v)
    if norm == 0:
        return Solution(v, 0.0, 0, Range())
    residual = float((v - scale * product).norm()) / norm
    curvatures = Range().add(float(v @ product) / norm**2)
    return Solution(scale * v, residual, 0, curvatures)


def build_matrix(multiply: Product, like: Tensor) -> Tensor:
    """Build A, shape `(W, W)`, by its products with unit vectors.

    Args:
        multiply: Maps u `(W,)` to A u.
        like: A vector of the shape, type and device of u.

    Raises:
        ValueError: If there are too many rows.
    """
    size = len(like)
    if size > MOST_EXACT:
        raise ValueError(
            f"`inverse` 'exact' is for at most {MOST_EXACT:,} weights, got {size:,}: "
            "it builds the whole Hessian. Use 'neumann' or 'conjugate_gradient'."
        )
    columns = [multiply(unit) for unit in torch.eye(size).to(like)]
    matrix = torch.stack(columns)
    return (matrix + matrix.T) / 2


def solve_exact(matrix: Tensor, v: Tensor) -> Solution:
    """Solve by the eigenvalues of A, leaving out those that are zero.

    Args:
        matrix: A, shape `(W, W)`.
        v: What to multiply with the inverse, shape `(W,)`.

    Returns:
        The solution; its curvatures are the least and the greatest eigenvalue.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    # As far as eigenvalues move if every entry is off by a few last digits.
    noise = _EXACT_DIGITS * len(v) ** 0.5 * torch.finfo(v.dtype).eps
    least = float(values.abs().max()) * noise
    is_zero = values.abs() <= least
    inverses = torch.where(is_zero, 0.0, 1 / torch.where(is_zero, 1.0, values))
    target = v.double()
    parts = vectors.T @ target
    vector = (vectors @ (inverses * parts)).to(v)
    rest = target - matrix.double() @ vector.double()
    # An eigenvalue that was left out may be just below the least that counts.
    missing = float(parts[is_zero].norm()) / (least or 1.0)
    return Solution(
        vector,
        _compare(rest, float(target.norm())),
        len(v),
        Range(float(values[0]), float(values[-1])),
        doubt=missing / (float(vector.norm()) or 1.0),
    )
