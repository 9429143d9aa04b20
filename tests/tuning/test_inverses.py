"""Inverses and power iteration on matrices that are known."""

import math

import pytest
import torch

from sbi_aalr.tuning.inverses import (
    build_matrix,
    solve_conjugate_gradient,
    solve_exact,
    solve_identity,
    solve_neumann,
    take_apart,
)
from sbi_aalr.tuning.spectrum import find_spectrum, get_rounding

V = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)


def rotate(*values):
    """A symmetric matrix with these eigenvalues, and the product with it."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(noise).Q
    matrix = rotation @ torch.tensor(values, dtype=torch.float64).diag() @ rotation.T
    return matrix, lambda u: matrix @ u


@pytest.mark.parametrize("values", [(1, 2, 5), (5, 4.9, 1), (-7, 2, 5), (0, 0, 3)])
def test_spectrum_of_a_small_matrix_is_exact(values):
    _, multiply = rotate(*values)
    spectrum = find_spectrum(multiply, V)
    expected = min(values), max(values)
    assert spectrum == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_spectrum_of_a_large_matrix_is_found_from_inside():
    values = torch.linspace(-0.5, 1, 2_000, dtype=torch.float64) ** 3
    spectrum = find_spectrum(lambda u: values * u, values)
    assert 0.97 < spectrum.greatest <= 1 and -0.125 <= spectrum.least < -0.12
    assert find_spectrum(lambda u: values * u, values, 3).greatest < 0.97


def test_spectrum_of_nothing_is_nothing():
    assert find_spectrum(torch.zeros_like, V) == (0, 0)


def test_spectrum_counts_its_products():
    calls = []
    values = torch.arange(100.0)

    def count(u):
        calls.append(1)
        return values * u

    find_spectrum(count, values, 3)
    assert len(calls) == 3


def test_series_by_hand():
    # A = 2 and scale 1/4: v/4 (1 + 1/2 + 1/4), and 1/8 of v is left.
    v = torch.tensor([4.0])
    solution = solve_neumann(lambda u: 2 * u, v, 3, 0.25)
    assert solution.vector.tolist() == [1.75]
    assert solution.residual == 0.125 and solution.num_terms == 3
    assert solution.curvatures == (2.0, 2.0) and not solution.is_growing


def test_series_stops_where_nothing_is_left():
    solution = solve_neumann(lambda u: 2 * u, torch.tensor([4.0]), 9, 0.5)
    assert solution.vector.tolist() == [2.0]
    assert solution.num_terms == 1 and solution.residual == 0


def test_series_ends_where_its_terms_grow():
    _, multiply = rotate(4.0, 0.2, -0.1)
    solution = solve_neumann(multiply, V, 200, 0.1)
    assert solution.is_growing and 1 < solution.num_terms < 100
    assert solution.curvatures.least < 0
    beyond = solve_neumann(multiply, V, solution.num_terms, 0.1)
    assert torch.equal(solution.vector, beyond.vector)


def test_series_with_too_large_a_scale_keeps_its_first_term():
    solution = solve_neumann(lambda u: 2 * u, V, 20, 3.0)
    assert solution.is_growing and solution.num_terms == 1
    assert torch.equal(solution.vector, 3 * V)
    assert solution.residual == pytest.approx(5)


def test_conjugate_gradients_end_after_as_many_steps_as_eigenvalues():
    matrix, multiply = rotate(1.0, 3.0, 3.0)
    solution = solve_conjugate_gradient(multiply, V, 50)
    assert solution.num_terms <= 3 and solution.residual < 1e-12
    truth = torch.linalg.solve(matrix, V)
    torch.testing.assert_close(solution.vector, truth)


def test_conjugate_gradients_stop_before_negative_curvature():
    _, multiply = rotate(4.0, 1.0, -0.5)
    solution = solve_conjugate_gradient(multiply, V, 50)
    assert solution.num_terms < 3 and solution.curvatures.least < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_terms", [1, 3, 5, 6, 8, 25, 1_000])
def test_conjugate_gradients_do_not_explode_where_there_is_no_inverse(dtype, num_terms):
    values = torch.tensor([1.0, 0.7, 0.4, 0.3, 0.2, 0.0, 0.0, 0.0], dtype=dtype)
    v = torch.linspace(-1, 2, 8, dtype=dtype)
    solution = solve_conjugate_gradient(lambda u: values * u, v, num_terms)
    unreachable = float(v[5:].norm() / v.norm())
    assert unreachable * 0.999 < solution.residual <= 1
    assert float(solution.vector.norm()) < 100
    # What it stopped by is told; before that, the residual says that much is left.
    assert (solution.doubt == math.inf) == (solution.num_terms < num_terms)
    if num_terms >= 25:
        assert solution.doubt == math.inf
        assert solution.residual == pytest.approx(unreachable, rel=1e-3)


@pytest.mark.parametrize("num_terms", [1, 5, 10, 20])
def test_residual_of_conjugate_gradients_never_grows(num_terms):
    values = torch.logspace(0, -6, 40, dtype=torch.float64)
    v = torch.ones(40, dtype=torch.float64)
    found = [
        solve_conjugate_gradient(lambda u: values * u, v, k)
        for k in (num_terms, num_terms + 1)
    ]
    assert 1 > found[0].residual >= found[1].residual > 0.1
    assert found[0].doubt == 0


def test_exact_says_where_rounding_hides_what_matters():
    values = torch.linspace(0.5, 1, 50)
    values[0] = 2e-6
    v = torch.zeros(50)
    v[1], v[0] = 1.0, 0.003
    hidden = solve_exact(take_apart(values.diag()), v)
    assert hidden.residual < 0.005 and hidden.doubt > 100
    seen = solve_exact(take_apart(values.diag().double()), v.double())
    assert seen.doubt == 0 and float(seen.vector[0]) == pytest.approx(1_500, rel=1e-3)


def test_identity_tells_what_it_leaves():
    solution = solve_identity(lambda u: 2 * u, V, 0.25)
    assert torch.equal(solution.vector, V / 4) and solution.residual == 0.5
    assert solution.num_terms == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_solves_what_has_a_solution(dtype):
    matrix, multiply = rotate(2.0, 1.0, 0.0)
    built = build_matrix(lambda u: multiply(u.double()).to(dtype), V.to(dtype))
    torch.testing.assert_close(built, matrix.to(dtype))
    reachable = (matrix @ V).to(dtype)
    solution = solve_exact(take_apart(built), reachable)
    assert solution.residual < get_rounding(reachable)
    assert solution.curvatures == pytest.approx((0, 2), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(built @ solution.vector, reachable)
    assert solve_exact(take_apart(built), V.to(dtype)).residual > 0.1


@pytest.mark.parametrize("solve", [solve_neumann, solve_conjugate_gradient])
def test_nothing_is_the_inverse_of_nothing(solve):
    arguments = (5, 0.1) if solve is solve_neumann else (5,)
    solution = solve(lambda u: u, torch.zeros(2), *arguments)
    assert solution.vector.tolist() == [0, 0]
    assert solution.residual == solution.num_terms == 0
