"""Ready hyperparameters: what they do to a loss, and that it can be differentiated."""

import math

import pytest
import torch
from small_towers import build_towers
from torch import nn

from sbi_aalr.networks import residual_mlp, two_towers
from sbi_aalr.networks.encode import Encode
from sbi_aalr.tuning import (
    Augmentation,
    ColumnNoise,
    DropoutRates,
    OctaveGains,
    TermWeights,
    WeightPenalty,
)

ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor(
    [1.0, 10.0, 0.1]
)


# Penalties.


@pytest.mark.parametrize(("per", "count"), [("weight", 8), ("layer", 2), ("model", 1)])
def test_penalty_is_half_the_weighted_sum_of_squares(per, count):
    model = nn.Linear(3, 2)
    penalty = WeightPenalty(model, per, start=0.5)
    assert sum(p.numel() for p in penalty.parameters()) == count
    squares = sum(float(p.detach().square().sum()) for p in model.parameters())
    assert penalty(model).item() == pytest.approx(0.25 * squares)
    with torch.no_grad():
        penalty.log_penalties[0].add_(math.log(3))
    heavier = 0.25 * squares
    first = squares if per == "model" else float(model.weight.detach().square().sum())
    assert penalty(model).item() == pytest.approx(heavier + 0.5 * first)


def test_penalty_passes_over_what_is_not_trained():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert [p.shape for p in WeightPenalty(model, "weight").parameters()] == [(2, 3)]


def test_penalty_keeps_type_of_the_weights():
    penalty = WeightPenalty(nn.Linear(2, 1).double(), "layer")
    assert {p.dtype for p in penalty.parameters()} == {torch.float64}


def test_penalty_checks_its_arguments():
    with pytest.raises(TypeError, match="`model` must be a torch module, got list"):
        WeightPenalty([])
    with pytest.raises(ValueError, match="`model` must have a weight"):
        WeightPenalty(nn.ReLU())
    with pytest.raises(ValueError, match="`per` must be one of 'weight', 'layer'"):
        WeightPenalty(nn.Linear(1, 1), "row")
    with pytest.raises(ValueError, match="`start` must be a positive finite number"):
        WeightPenalty(nn.Linear(1, 1), start=0)
    model = nn.Linear(1, 1)
    penalty = WeightPenalty(model)
    model.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"`model` must have 2 tensors .*got 1"):
        penalty(model)


# Terms of a loss.


def test_weights_of_terms_keep_their_proportions_and_their_mean():
    weights = TermWeights({"a": 1.0, "b": 3.0})
    assert weights.compute_weights().tolist() == pytest.approx([0.5, 1.5])
    total = weights({"b": torch.ones(4), "a": torch.full((4,), 2.0)})
    assert total.tolist() == pytest.approx([2.5] * 4)


def test_weights_of_terms_check_their_arguments():
    with pytest.raises(TypeError, match="`starts` must map names"):
        TermWeights([1.0, 2.0])
    with pytest.raises(ValueError, match="at least two terms, got 1"):
        TermWeights({"a": 1.0})
    with pytest.raises(ValueError, match=r"`starts\['b'\]` must be a positive"):
        TermWeights({"a": 1.0, "b": 0.0})
    with pytest.raises(ValueError, match="`terms` must be a, b, got a"):
        TermWeights({"a": 1.0, "b": 1.0})({"a": torch.ones(())})
    with pytest.raises(ValueError, match=r"one shape, got {'a': \(\), 'b': \(2,\)}"):
        TermWeights({"a": 1.0, "b": 1.0})({"a": torch.ones(()), "b": torch.ones(2)})


# Noise.


def test_noise_of_columns_has_their_spread():
    noise = ColumnNoise(ROWS, start=0.2)
    torch.manual_seed(1)
    moved = noise(ROWS.repeat(500, 1)) - ROWS.repeat(500, 1)
    assert moved.mean(dim=0).abs().max() < 0.1
    wanted = 0.2 * noise.spread
    assert torch.allclose(moved.std(dim=0), wanted, rtol=0.05)
    assert noise.spread[1] > 5 * noise.spread[0] > 25 * noise.spread[2]
    assert torch.equal(noise.eval()(ROWS), ROWS)


def test_dropout_rates_give_the_moments_of_dropout():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9))
    rates = DropoutRates(model, start=0.2)
    rates.attach(model)
    torch.manual_seed(1)
    out = model(torch.full((100_000,), 2.0))
    assert out.mean().item() == pytest.approx(2, abs=0.02)
    # Dropout has the variance x^2 p / (1 - p).
    assert out.var().item() == pytest.approx(4 * 0.2 / 0.8, rel=0.03)
    assert torch.equal(model.eval()(torch.ones(5)), torch.ones(5))
    rates.detach()
    kept = model.train()(torch.ones(500)).unique().tolist()
    assert kept == pytest.approx([0, 10])


def test_dropout_in_place_is_replaced_like_any_other():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5, inplace=True)).train()
    rates = DropoutRates(model, start=1e-6)
    rates.attach(model)
    ones = torch.ones(1, 1_000)
    assert 0 < float((model(ones) - 1).abs().max().detach()) < 0.01
    rates.detach()
    assert float((model(ones.clone()) == 0).float().mean()) > 0.4
    assert model[1].inplace


def test_dropout_rates_are_one_a_block():
    estimator, _, _ = build_towers()
    assert DropoutRates(estimator).compute_rates().shape == (2,)
    with pytest.raises(ValueError, match=r"must have a torch[.]nn[.]Dropout layer"):
        DropoutRates(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="`start` must lie strictly between 0 and 1"):
        DropoutRates(estimator, 1.0)
    with pytest.raises(ValueError, match=r"2 dropout layers .* got 1"):
        DropoutRates(estimator).attach(nn.Dropout())


@pytest.mark.parametrize("make", [ColumnNoise, Augmentation])
def test_noise_checks_its_rows(make):
    with pytest.raises(TypeError, match="`batch` must be a torch tensor, got list"):
        make([[1.0]])
    with pytest.raises(ValueError, match=r"at least 2 rows, got shape \(3,\)"):
        make(torch.zeros(3))
    with pytest.raises(ValueError, match="`start` must be a positive finite number"):
        make(ROWS, start=-1.0)


def test_augmentation_begins_as_small_as_told_and_ends_with_training():
    torch.manual_seed(1)
    augment = Augmentation(ROWS, start=0.05)
    moved = (augment(ROWS) - ROWS) / augment.scale.spread
    assert moved.square().mean().sqrt().item() == pytest.approx(0.05, rel=0.3)
    again = (augment(ROWS) - ROWS) / augment.scale.spread
    assert not torch.equal(moved, again)
    assert torch.equal(augment.eval()(ROWS), ROWS)


def test_augmentation_moves_no_row_on_average():
    torch.manual_seed(1)
    augment = Augmentation(ROWS, start=0.5)
    with torch.no_grad():
        for weight in augment.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
        many = ROWS[:1].repeat(40_000, 1)
        moved = (augment(many) - many) / augment.scale.spread
    assert (moved.std(dim=0) > 0.1).all()
    assert (moved.mean(dim=0).abs() < 5 * moved.std(dim=0) / 200).all()


def test_augmentation_has_the_type_of_its_rows():
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    torch.set_default_dtype(torch.float64)
    try:
        augment = Augmentation(rows)
    finally:
        torch.set_default_dtype(torch.float32)
    assert augment(rows).dtype == torch.float32
    assert Augmentation(rows.double())(rows.double()).dtype == torch.float64


@pytest.mark.parametrize("make", [ColumnNoise, Augmentation])
def test_rows_that_are_not_finite_are_refused(make):
    rows = torch.ones(5, 2)
    rows[1, 0] = math.nan
    with pytest.raises(ValueError, match=r"`batch` must be finite.*in 1 of 5 rows"):
        make(rows)


def test_augmentation_takes_rows_of_any_shape():
    images = torch.randn(10, 1, 4, 4)
    assert Augmentation(images)(images).shape == images.shape
    with pytest.raises(ValueError, match="`hidden_features` must be a positive int"):
        Augmentation(images, hidden_features=0)


# Octaves.


def test_gains_multiply_the_waves_of_their_octave_only():
    encode = Encode(2, num_octaves=3)
    model = nn.Sequential(encode, nn.Identity())
    rows = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    before = model(rows)
    gains = OctaveGains(model)
    gains.attach(model)
    assert torch.equal(model(rows), before)
    with torch.no_grad():
        gains.logs[0][1] = -math.inf  # no second octave
    after = model(rows)
    # asinh, asinh and clip of two features, then three sines of each, then cosines.
    silenced = [6 + 1, 6 + 3 + 1, 12 + 1, 12 + 3 + 1]
    waves = (rows.unsqueeze(2) * encode.frequencies).sin()
    assert torch.allclose(before[:, [7, 10]], waves[:, :, 1])
    kept = [i for i in range(18) if i not in silenced]
    assert after[:, silenced].abs().max().item() == 0
    assert torch.equal(after[:, kept], before[:, kept])
    gains.detach()
    assert torch.equal(model(rows), before)


@pytest.mark.parametrize("build", [two_towers, residual_mlp])
def test_gains_folded_into_the_weights_change_nothing(build):
    torch.manual_seed(3)
    theta, x = torch.randn(32, 2), torch.randn(32, 3)
    estimator = build(hidden_features=16)(theta, x).eval()
    plain = estimator(theta, x)
    gains = OctaveGains(estimator)
    gains.attach(estimator)
    with torch.no_grad():
        for log in gains.logs:
            log.normal_()
    amplified = estimator(theta, x)
    assert not torch.allclose(amplified, plain, atol=0.01)
    gains.fold(estimator, theta, x)
    assert torch.allclose(estimator(theta, x), amplified, atol=1e-4)
    assert not any(m._forward_hooks for m in estimator.modules())


def test_gains_that_cannot_be_folded_stay():
    model = nn.Sequential(Encode(2, num_octaves=2), nn.Tanh(), nn.Linear(14, 1))
    gains = OctaveGains(model)
    gains.attach(model)
    with torch.no_grad():
        gains.logs[0].fill_(1.0)
    rows = torch.randn(5, 2)
    before = model(rows)
    with pytest.raises(ValueError, match="by linear layers only"):
        gains.fold(model, rows)
    assert torch.equal(model(rows), before)


def test_gains_need_an_encoding():
    with pytest.raises(ValueError, match="`model` must encode an input"):
        OctaveGains(nn.Linear(1, 1))
    estimator, _, _ = build_towers()
    with pytest.raises(ValueError, match=r"2 encodings .* got 1"):
        OctaveGains(estimator).attach(Encode(2))
