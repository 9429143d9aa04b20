"""Scaling and encoding of inputs."""

import pytest
import torch

from sbi_aalr.networks import Encode, Scale, scale


def test_scale_brings_features_to_order_one():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(10_000, 3, generator=generator)
    scaled = Scale(rows * torch.tensor([1e-6, 1.0, 1e6]) + 1e3)
    result = scaled(rows * torch.tensor([1e-6, 1.0, 1e6]) + 1e3)
    # 1e3 + 1e-6 z is 1e3 in float32: constant.
    assert result[:, 0].abs().max() == 0
    assert result[:, 1:].median(dim=0).values.abs().max() < 1e-3
    torch.testing.assert_close(result[:, 1:].std(0), torch.ones(2), atol=0.05, rtol=0)


def test_heavy_tails_do_not_squeeze_the_bulk():
    generator = torch.Generator().manual_seed(0)
    rows = (torch.rand(10_000, 1, generator=generator) * torch.pi).tan()
    bulk = Scale(rows)(rows).abs().median()
    assert 0.2 < bulk < 2
    # The control: with mean and standard deviation the bulk shrinks to a point.
    assert ((rows - rows.mean()) / rows.std()).abs().median() < 0.1


def test_constant_columns_become_zero():
    rows = torch.full((20, 2), 7.0)
    assert torch.equal(Scale(rows)(rows), torch.zeros(20, 2))


def test_rare_counts_are_scaled_by_their_standard_deviation():
    counts = torch.zeros(100, 1)
    counts[::20] = 3.0
    scale = Scale(counts)
    assert scale.spread.item() == pytest.approx(counts.std(correction=0).item())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_other_dtypes_are_scaled_in_floats(dtype):
    rows = torch.arange(10).unsqueeze(1).to(dtype)
    result = Scale(rows)(rows)
    assert result.is_floating_point()
    assert result.std() == pytest.approx(1.0, abs=0.2)


def test_images_are_scaled_pixel_by_pixel():
    images = torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scale = Scale(images)
    assert scale.spread.shape == (3, 8, 8)
    assert scale(images).shape == images.shape


def test_large_images_stay_within_what_torch_can_rank(monkeypatch):
    monkeypatch.setattr(scale, "_MAX_ENTRIES", 640)
    images = torch.ones(50, 1, 8, 8)
    images[10:] = 5.0
    assert torch.equal(Scale(images).location, torch.ones(1, 8, 8))


def test_encoding_gives_up_frequencies_where_there_are_many_features():
    def count_waves(num_features):
        encoded = Encode(num_features)(torch.zeros(1, num_features))
        return encoded.shape[1] / num_features - 3

    assert [count_waves(width) for width in (1, 28, 64, 257)] == [18, 18, 8, 0]
