"""SLCP: its simulator and likelihood, each against independent maths."""

import math

import pytest
import torch
from sbi.inference import simulate_for_sbi
from sbi.utils.user_input_checks import process_prior, process_simulator
from torch import Tensor
from torch.distributions import MultivariateNormal

from sbi_aalr.simulators import SLCP


def build_covariance(theta: Tensor) -> Tensor:
    """Write the covariance out from its definition, shape `(..., 2, 2)`."""
    s1, s2, rho = theta[..., 2] ** 2, theta[..., 3] ** 2, torch.tanh(theta[..., 4])
    rows = [s1**2, rho * s1 * s2, rho * s1 * s2, s2**2]
    return torch.stack(rows, dim=-1).unflatten(-1, (2, 2))


def test_simulate_matches_analytic_moments():
    theta = torch.tensor([0.5, -1.5, -1.2, 0.8, -0.7], dtype=torch.float64)
    size = 100_000
    generator = torch.Generator().manual_seed(0)
    x = SLCP().simulate(theta.expand(size, 5), generator=generator)
    covariance = torch.block_diag(*[build_covariance(theta)] * 4)
    centred = x - theta[:2].repeat(4)
    products = centred[:, :, None] * centred[:, None, :]
    mean_score = centred.mean(0) / (centred.std(0) / math.sqrt(size))
    error = products.std(0) / math.sqrt(size)
    assert x.shape == (size, 8)
    assert (mean_score.abs() < 5).all()
    assert ((products.mean(0) - covariance).abs() < 5 * error).all()
    transposed = torch.block_diag(*[build_covariance(theta).flip(0, 1)] * 4)
    assert ((products.mean(0) - transposed).abs() > 5 * error).any()


def test_simulate_at_zero_scales_returns_the_mean():
    theta = torch.tensor(
        [[1.0, 2.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.0, 1.0, 3.0], [1.0, 2.0, 1.0, 0.0, -3]]
    )
    x = SLCP().simulate(theta).reshape(3, 4, 2)
    assert torch.isfinite(x).all()
    assert (x[:2, :, 0] == 1.0).all() and (x[0, :, 1] == 2.0).all()
    assert (x[1, :, 1] != 2.0).all() and (x[2, :, 1] == 2.0).all()


def test_simulate_with_generator_is_reproducible_and_keeps_dtype():
    slcp = SLCP()
    theta = torch.rand(3, 5, dtype=torch.float64)
    state = torch.get_rng_state()
    first, second = (
        slcp.simulate(theta, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert torch.equal(first, second) and first.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), state)


def test_simulate_serves_sbi_as_batched_simulator():
    slcp = SLCP()
    prior, _, returns_numpy = process_prior(slcp.prior)
    simulator = process_simulator(slcp.simulate, prior, returns_numpy)
    theta, x = simulate_for_sbi(simulator, prior, 20, show_progress_bar=False)
    assert theta.shape == (20, 5) and x.shape == (20, 8)
    assert torch.isfinite(x).all()


def test_prior_and_truth_are_the_papers():
    slcp = SLCP()
    assert slcp.prior.sample((7,)).shape == (7, 5)
    edge = torch.full((5,), 3.0)
    assert slcp.prior.log_prob(edge - 1e-3) == pytest.approx(-5 * math.log(6))
    assert slcp.prior.log_prob(edge + 1e-3) == -math.inf
    assert slcp.true_parameters.tolist() == pytest.approx([0.7, -2.9, -1.0, -0.9, 0.6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_equals_multivariate_normal(dtype):
    torch.manual_seed(0)
    theta = SLCP().prior.sample((500,))
    theta = theta[(theta[:, 2:4].abs() > 0.3).all(1)].to(dtype)
    x = SLCP().simulate(theta)
    points = x.double().reshape(-1, 4, 2).transpose(0, 1)
    exact = theta.double()
    normal = MultivariateNormal(exact[:, :2], build_covariance(exact))
    expected = normal.log_prob(points).sum(0)
    result = SLCP().log_likelihood(theta, x)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)


def test_log_likelihood_broadcasts_leading_dimensions():
    torch.manual_seed(0)
    slcp = SLCP()
    theta, x = slcp.prior.sample((6,)), torch.randn(4, 8)
    table = slcp.log_likelihood(theta[:, None], x)
    assert table.shape == (6, 4)
    for row in range(6):
        assert torch.equal(table[row], slcp.log_likelihood(theta[row], x))
    assert slcp.log_likelihood(theta[0], x[0]).shape == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_likelihood_on_wide_grid_is_never_nan(dtype):
    location = torch.tensor([-3.0, 0.0, 3.0], dtype=dtype)
    scale = torch.tensor([-3, -1e-3, -1e-20, 0, 1e-40, 1e-6, 1, 3], dtype=dtype)
    last = torch.tensor([-1e3, -20.0, -3.0, 0.0, 3.0, 20.0, 1e3], dtype=dtype)
    theta = torch.cartesian_prod(location, location, scale, scale, last)
    x = torch.stack([torch.full((8,), v, dtype=dtype) for v in (0, 3, -1e4, 1e30)])
    result = SLCP().log_likelihood(theta[:, None], x)
    assert not torch.isnan(result).any() and not (result == math.inf).any()
    zero = (theta[:, 2] == 0) | (theta[:, 3] == 0)
    assert zero.any() and (result[zero] == -math.inf).all()
    usual = (theta[:, 2:4].abs() >= 1).all(1) & (theta[:, 4].abs() <= 3)
    assert torch.isfinite(result[usual][:, :3]).all()


def test_log_likelihood_has_finite_gradients_beside_zero_scales():
    theta = torch.tensor([[0.1, 0.2, 0.0, 1.0, 0.5], [0.1, 0.2, 0.9, 1.0, 0.5]])
    theta.requires_grad_()
    SLCP().log_likelihood(theta, torch.ones(8))[1].backward()
    assert theta.grad is not None and torch.isfinite(theta.grad).all()


@pytest.mark.parametrize(
    ("theta", "error", "match"),
    [
        ([[0.0] * 5], TypeError, "`theta` must be a torch.Tensor, got list"),
        (torch.ones(2, 5, dtype=torch.int64), TypeError, "`theta` must hold floats"),
        (torch.ones(2, 4), ValueError, r"`theta` .* last dimension of 5, .*\(2, 4\)"),
        (torch.ones(5), ValueError, r"`theta` must have shape \(N, 5\), got \(5,\)"),
        (torch.ones(2, 3, 5), ValueError, r"`theta` must have shape \(N, 5\)"),
        (torch.ones(0, 5), ValueError, "`theta` must have at least one row"),
        (torch.full((2, 5), math.nan), ValueError, "`theta` must be finite"),
    ],
)
def test_simulate_with_bad_theta_raises(theta, error, match):
    with pytest.raises(error, match=match):
        SLCP().simulate(theta)


@pytest.mark.parametrize(
    ("theta", "x", "error", "match"),
    [
        (torch.ones(5), [1.0] * 8, TypeError, "`x` must be a torch.Tensor"),
        (torch.ones(5), torch.ones(7), ValueError, "`x` .* last dimension of 8"),
        (torch.ones(6), torch.ones(8), ValueError, "`theta` .* last dimension of 5"),
        (torch.ones(5), torch.tensor(1.0), ValueError, "`x` .* last dimension of 8"),
        (torch.ones(5), torch.ones(0, 8), ValueError, "`x` .* at least one row"),
        (torch.ones(5), torch.full((8,), math.inf), ValueError, "`x` must be finite"),
        (torch.ones(2, 5), torch.ones(3, 8), ValueError, "dimensions that broadcast"),
    ],
)
def test_log_likelihood_with_bad_input_raises(theta, x, error, match):
    with pytest.raises(error, match=match):
        SLCP().log_likelihood(theta, x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_slcp_lives_on_its_device():
    slcp = SLCP(device="cuda")
    theta = slcp.prior.sample((10,))
    x = slcp.simulate(theta)
    assert x.is_cuda and slcp.log_likelihood(theta, x).is_cuda
    assert slcp.sample_posterior(10, x[0], seed=0).is_cuda
