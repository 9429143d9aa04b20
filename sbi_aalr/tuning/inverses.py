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
from typing import NamedTuple

import torch
from torch import Tensor

from sbi_aalr.tuning.spectrum import Product, Range, get_rounding

# The largest matrix that `exact` builds, in rows: 100 MB in float32.
MOST_EXACT = 5_000
# Machine epsilons of the largest curvature below which there is none, and of the
# largest eigenvalue, by the root of their number, below which an eigenvalue is zero.
_FLAT, _EXACT_DIGITS = 10, 4
_FOLLOWED_TERMS = 20


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


def get_unreachable(like: Tensor) -> float:
    """Share of v that counts as out of reach of a singular matrix."""
    return torch.finfo(like.dtype).eps ** (1 / 3)


def _compare(rest: Tensor, norm: float) -> float:
    """Norm of what is left as a share; 0 of nothing."""
    return float(rest.norm()) / norm if norm else 0.0


def find_power_of_two(v: Tensor) -> float:
    """A power of two by which v has entries of about 1, so that no square overflows."""
    return math.ldexp(0.5, math.frexp(float(v.abs().max()))[1])


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
        bend, length = float(direction @ product), float(direction @ direction)
        curvatures = curvatures.add(bend / length)
        if bend <= _FLAT * epsilon * curvatures.size * length:
            break
        step = square / bend
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


class Eigen(NamedTuple):
    """A symmetric matrix A, taken apart, in float64.

    Attributes:
        values: Eigenvalues, least first, shape `(W,)`.
        vectors: Eigenvectors in its columns, shape `(W, W)`.
    """

    values: Tensor
    vectors: Tensor


def take_apart(matrix: Tensor) -> Eigen:
    """Find eigenvalues and eigenvectors of A, shape `(W, W)`."""
    return Eigen(*torch.linalg.eigh(matrix.double()))


def solve_exact(eigen: Eigen, v: Tensor) -> Solution:
    """Solve by the eigenvalues of A, leaving out those that are zero.

    Args:
        eigen: A, whose entries were computed in the type of v.
        v: What to multiply with the inverse, shape `(W,)`.

    Returns:
        The solution; its curvatures are the least and the greatest eigenvalue.
    """
    values, vectors = eigen
    # As far as eigenvalues move if every entry is off by a few last digits.
    noise = _EXACT_DIGITS * len(v) ** 0.5 * torch.finfo(v.dtype).eps
    least = float(values.abs().max()) * noise
    is_zero = values.abs() <= least
    inverses = torch.where(is_zero, 0.0, 1 / torch.where(is_zero, 1.0, values))
    target = v.double()
    parts = vectors.T @ target
    vector = (vectors @ (inverses * parts)).to(v)
    rest = target - vectors @ (values * (vectors.T @ vector.double()))
    # An eigenvalue that was left out may be just below the least that counts.
    missing = float(parts[is_zero].norm()) / (least or 1.0)
    return Solution(
        vector,
        _compare(rest, float(target.norm())),
        len(v),
        Range(float(values[0]), float(values[-1])),
        doubt=missing / (float(vector.norm()) or 1.0),
    )
