"""Scaling and encoding of inputs."""

import pytest
import torch

from sbi_aalr.errors import PrecisionWarning
from sbi_aalr.networks import Encode, Scale, digits, scale


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


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (10 ** torch.linspace(-12, 0, 1_000), True),
        (torch.linspace(-5, 5, 1_000).mul(2).exp(), True),
        (torch.linspace(0.01, 0.99, 1_000).mul(torch.pi / 2).tan(), True),
        (torch.linspace(0.001, 1, 1_000), False),
        (-torch.linspace(0.001, 0.999, 1_000).log(), False),
        (torch.cat((torch.zeros(1), 10 ** torch.linspace(-12, 0, 1_000))), False),
        (torch.linspace(-5, 5, 1_000).mul(2).sinh(), False),
        (torch.full((10,), 3.0), False),
    ],
)
def test_only_positive_features_over_many_decades_become_logarithms(rows, expected):
    assert bool(scale.spans_decades(rows.unsqueeze(1))) is expected
    assert (Scale(rows.unsqueeze(1)).logarithmic is not None) is expected


def test_many_decades_are_scaled_evenly():
    decades = torch.linspace(-12, 0, 1_001).unsqueeze(1)
    scaled = Scale(10**decades)
    expected = (decades + 6) / (12 * (0.8413 - 0.1587) / 2)
    torch.testing.assert_close(scaled(10**decades), expected, atol=2e-3, rtol=0)
    # What was positive in training, and is not now, is far away, but a number.
    assert torch.isfinite(scaled(torch.tensor([[0.0], [-1.0]]))).all()


def test_pixels_of_an_image_are_logarithms_all_or_none():
    image = 10 ** torch.linspace(-12, 0, 50).reshape(-1, 1, 1).repeat(1, 2, 2)
    assert Scale(image).logarithmic.all()
    image[:, 0, 0] = 1.0
    assert Scale(image).logarithmic is None


def test_digits_of_float64_survive_the_scaling():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2_000, 1, generator=generator, dtype=torch.float64)
    for centre in (1e6, 1.7e9 + 1 / 3):
        scaled = Scale(centre + noise)(centre + noise)
        assert scaled.dtype == torch.float32
        assert abs(scaled.median()) < 0.01 and scaled.std() == pytest.approx(1, abs=0.1)
        assert len(scaled.unique()) > 1_990
    # The control: rounded first, hardly any are told apart.
    rounded = (1.7e9 + noise).float()
    assert len(rounded.unique()) < 3


def test_logarithms_have_as_many_digits():
    """In float32 the logarithms of these differ by three steps or so."""
    rows = 1e7 + torch.arange(-20.0, 21.0).unsqueeze(1)
    scaled = Scale(rows, torch.tensor([True]))
    for given in (rows, rows.double()):
        gaps = scaled(given).diff(dim=0)
        torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-3, atol=0)


def test_whole_numbers_are_centred_exactly():
    rows = 1_700_000_003 + torch.arange(-50, 51).unsqueeze(1)
    assert torch.equal(Scale(rows)(rows), -Scale(rows)(rows).flip(0))


def test_rounding_that_is_seen_is_told():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2_000, 1, generator=generator, dtype=torch.float64)
    coarse = torch.cat((noise, 1e6 + 0.5 * noise), dim=1).float()
    count = len(coarse[:, 1].unique())
    with pytest.warns(PrecisionWarning, match=f"`x` has only {count} .*column 1") as w:
        digits.warn_about_rounding("x", coarse)
    assert w[0].message.value == count < 60
    # Warnings are errors: neither of these may warn.
    digits.warn_about_rounding("x", coarse[:, :1])
    digits.warn_about_rounding("x", 1e6 + 0.5 * noise)
    digits.warn_about_rounding("x", torch.full((20, 1), 1e6))


@pytest.mark.parametrize("rows", [10 ** torch.linspace(-9, 0, 50), torch.randn(50)])
def test_logarithms_are_saved_and_forgotten_with_the_weights(rows):
    saved, other = Scale(rows.unsqueeze(1)), Scale(torch.rand(50, 1))
    also_other = Scale(10 ** torch.linspace(-5, 2, 50).unsqueeze(1))
    for scaled in (other, also_other):
        scaled.load_state_dict(saved.state_dict())
        assert torch.equal(scaled(rows.unsqueeze(1)), saved(rows.unsqueeze(1)))
    usual = {"location", "spread", "least", "greatest"}
    assert set(Scale(torch.randn(50, 1)).state_dict()) == usual


def test_trials_are_sorted_and_stay_so_with_the_weights():
    rows = torch.randint(3, (50, 4, 2), generator=torch.Generator().manual_seed(0))
    rows = rows.float()
    sorting, loaded = Scale(rows), Scale(rows)
    plain = sorting(rows)
    sorting.sort_rows()
    assert torch.equal(sorting(rows), sorting(rows.flip(1)))
    assert not torch.equal(sorting(rows), plain)
    # The same trials, in another order.
    for before, after in zip(plain, sorting(rows), strict=True):
        assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))
    loaded.load_state_dict(sorting.state_dict())
    assert torch.equal(loaded(rows), sorting(rows))
    loaded.load_state_dict(Scale(rows).state_dict())
    assert torch.equal(loaded(rows), plain)


def test_rows_that_are_no_trials_are_not_sorted():
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    vectors = Scale(rows)
    plain = vectors(rows)
    state = {**vectors.state_dict(), "sorted": torch.ones(3, dtype=torch.bool)}
    vectors.load_state_dict(state)
    assert torch.equal(vectors(rows), plain)
    with pytest.raises(ValueError, match="`sorted` does not fit"):
        vectors.load_state_dict({**state, "sorted": torch.ones(2, dtype=torch.bool)})


def test_trials_are_in_order_of_their_first_number_that_differs():
    x = torch.randint(3, (100, 6, 3), generator=torch.Generator().manual_seed(0))
    for before, after in zip(x, scale.sort_trials(x), strict=True):
        assert after.tolist() == sorted(before.tolist())


def replace(column, *shares):
    """Put values in the place of shares of a column, `{value: share}`."""
    column, start = column.clone(), 0
    for value, share in shares:
        end = start + round(share * len(column))
        column[start:end], start = value, end
    return column


NORMAL = torch.randn(2_000, generator=torch.Generator().manual_seed(0))
COUNTS = torch.poisson(torch.full((2_000,), 10.0), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("column", "location", "spread"),
    [
        (replace(NORMAL, (-999, 0.25)), 0.0, 1.0),
        (replace(NORMAL, (1e6, 0.6)), 0.0, 1.0),
        (replace(NORMAL, (-999, 0.25), (999, 0.25)), 0.0, 1.0),
        (replace(COUNTS, (-1_000, 0.3)), 10.0, 3.0),
        (replace((NORMAL > 0).float(), (1_000, 0.3)), 0.5, 0.5),
    ],
)
def test_stand_ins_for_what_failed_do_not_squeeze_the_rest(column, location, spread):
    """With a quarter of -999 all that had not failed gave one posterior."""
    found = Scale(column.unsqueeze(1))
    assert abs(float(found.location) - location) < 0.1
    assert float(found.spread) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    ("value", "share", "expected"),
    [(-99, 0.2, True), (-99, 0.0005, False), (0, 0.2, False)],
)
def test_what_was_not_measured_may_stand_among_many_decades(value, share, expected):
    column = replace((4 * NORMAL).exp(), (value, share))
    found = Scale(column.unsqueeze(1))
    assert (found.logarithmic is not None) == expected
    if expected:
        rest = found(column[column > 0].unsqueeze(1))
        assert float(rest.std()) == pytest.approx(1, rel=0.1)
        assert float(found(torch.tensor([[-99.0]]))) < -10


@pytest.mark.parametrize(
    "column",
    [
        NORMAL,
        COUNTS,
        (NORMAL > 1).float(),
        replace(NORMAL.exp(), (0, 0.3)),
        NORMAL.clamp(min=0.5),
        replace(NORMAL, (5, 0.1)),
        replace(torch.ones(2_000), (-999, 0.3)),
        # As far as it goes, but no two are the same.
        replace(NORMAL, (NORMAL[:500] - 999, 0.25)),
    ],
)
def test_values_that_belong_to_the_rest_count(column):
    low, high = column.quantile(torch.tensor(scale._QUANTILES))
    found = Scale(column.unsqueeze(1))
    assert float(found.location) == pytest.approx(float(column.median()), abs=1e-5)
    expected = (high - low) / 2 or column.std(correction=0)
    assert float(found.spread) == pytest.approx(float(expected), rel=1e-5)
