"""Features of series: what neighbours have to do with each other, in any unit."""

import pytest
import torch

from sbi_aalr.networks import Scale
from sbi_aalr.networks.series import Series

GENERATOR = torch.Generator().manual_seed(0)


def draw_walks(num_rows, length, size=1.0):
    """Random walks that begin anywhere."""
    steps = size * torch.randn(num_rows, length, generator=GENERATOR)
    return 30 * torch.randn(num_rows, 1, generator=GENERATOR) + steps.cumsum(dim=1)


def build(rows):
    torch.manual_seed(1)
    scale = Scale(rows)
    series = Series(scale, scale(rows))
    return lambda others: series(scale(others)).detach()


@pytest.mark.parametrize("length", [15, 33, 100, 1_000, 20_000])
def test_series_of_any_length_have_the_same_number_of_features(length):
    rows = draw_walks(20, length)
    features = build(rows)(rows)
    assert features.shape == (20, Series.num_features)
    assert torch.isfinite(features).all()
    # A row's features are its own.
    torch.testing.assert_close(build(rows)(rows[:1]), features[:1], atol=1e-5, rtol=0)


def test_series_that_is_too_short_is_refused():
    rows = torch.randn(50, 14)
    scale = Scale(rows)
    with pytest.raises(ValueError, match="must have 15 numbers or more, got 14"):
        Series(scale, scale(rows))


def test_unit_of_the_numbers_means_nothing():
    rows = draw_walks(200, 50)
    for gain, shift in ((1e-6, 0.0), (1e6, 0.0), (1.0, -300.0)):
        others = gain * rows + shift
        found = build(others)(others)
        torch.testing.assert_close(found, build(rows)(rows), atol=1e-3, rtol=0)


def test_steps_are_seen_however_far_a_walk_has_gone():
    """Where the numbers are spread by 30, steps of 1 and of 2 are told apart."""
    narrow, wide = draw_walks(1_000, 60), draw_walks(1_000, 60, size=2.0)
    kind = torch.cat((torch.zeros(1_000), torch.ones(1_000)))
    rows = torch.cat((narrow, wide))

    def measure_error(features):
        """Of telling the two apart linearly, on every other row."""
        inputs = torch.cat((features, torch.ones(len(features), 1)), dim=1)
        weights = torch.linalg.lstsq(inputs[::2], kind[::2]).solution
        return float((((inputs @ weights)[1::2] > 0.5) != kind[1::2]).float().mean())

    assert measure_error(build(rows)(rows)) < 0.25
    # The control: the numbers by themselves say nothing linear of it.
    assert measure_error(Scale(rows)(rows)) > 0.4


def test_stretches_are_told_apart():
    rows = torch.randn(500, 80, generator=GENERATOR)
    bump = torch.zeros(4, 80)
    for stretch in range(4):
        bump[stretch, 20 * stretch + 8 : 20 * stretch + 14] = 5.0
    features = build(rows)(bump)
    assert torch.pdist(features).min() > 0.01


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6])
def test_numbers_that_never_change_do_no_harm(value):
    rows = draw_walks(100, 40)
    rows[:, 5:15] = value
    assert torch.isfinite(build(rows)(rows)).all()
    constant = torch.full((100, 40), value)
    assert torch.isfinite(build(constant)(constant)).all()


def test_weights_bring_what_was_measured_with_them():
    rows, others = draw_walks(100, 40), 5 * draw_walks(100, 40)
    scale, other_scale = Scale(rows), Scale(others)
    series, loaded = (
        Series(scale, scale(rows)),
        Series(other_scale, other_scale(others)),
    )
    loaded.load_state_dict(series.state_dict())
    assert torch.equal(loaded(scale(rows)), series(scale(rows)))
