"""Encoded features: shapes, and the squashed copies in any size."""

import pytest
import torch

from sbi_aalr.networks.encode import Encode, squash


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squashed_features_are_inverse_hyperbolic_sines(dtype):
    size = torch.logspace(-30, 17, 2_000, dtype=dtype)
    z = torch.cat((-size, torch.zeros(1, dtype=dtype), size))
    expected = torch.asinh(z.double()).to(dtype)
    tolerance = {torch.float32: 3e-7, torch.float64: 1e-15}[dtype]
    torch.testing.assert_close(squash(z), expected, rtol=tolerance, atol=0)
    assert squash(z).dtype == dtype


def test_squashed_features_stay_finite_and_keep_what_is_no_number():
    squashed = squash(torch.tensor([3e38, -torch.inf, torch.nan]))
    assert 42 < squashed[0] == -squashed[1] < 43
    assert squashed[2].isnan()


def test_squashed_features_have_the_right_slope_at_zero_too():
    z = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
    squash(z).sum().backward()
    torch.testing.assert_close(z.grad, (1 + z.detach().square()).rsqrt())


@pytest.mark.parametrize("num_octaves", [0, 9])
def test_columns_are_squashed_clipped_and_waves(num_octaves):
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    encoded = Encode(2, num_octaves)(rows)
    assert encoded.shape == (50, 2 * (3 + 2 * num_octaves))
    parts = torch.asinh(rows), torch.asinh(10 * rows), rows.clamp(-3, 3)
    torch.testing.assert_close(encoded[:, :6], torch.cat(parts, dim=1))
