import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs
from sbi.inference import NRE_A, NRE_B, NRE_C
from sbi.neural_nets.ratio_estimators import RatioEstimator
from torch import nn

from sbi_aalr import MHPosterior, networks
from sbi_aalr.networks import Scale, is_plain, scale
from sbi_aalr.networks.selu import SELU
from sbi_aalr.trainer.sbi_trainer import NoTracker


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


def test_one_row_is_enough_to_build_a_network():
    estimator = networks.mlp((4,))(torch.ones(1, 2), torch.ones(1, 3))
    assert torch.isfinite(estimator(torch.zeros(5, 2), torch.zeros(5, 3))).all()


def test_scales_are_saved_with_the_weights():
    theta, x = torch.randn(9, 2), torch.randn(9, 2)
    names = networks.mlp((4,))(theta, x).state_dict()
    assert sum(name.endswith(("location", "spread")) for name in names) == 4


def test_selu_without_gradients_is_torchs():
    x = torch.cat((torch.linspace(-20, 20, 10_001), torch.tensor([-torch.inf, 1e30])))
    expected = nn.SELU()(x)
    torch.testing.assert_close(SELU()(x.clone()), expected, atol=1e-6, rtol=1e-6)
    trained = x[:-2].clone().requires_grad_()
    SELU()(trained).sum().backward()
    slope = (expected[1:-2] - expected[:-3]) / (x[1:-2] - x[:-3])
    assert (trained.grad[1:] - slope).abs().max() < 0.01


@pytest.mark.parametrize("method", [NRE_A, NRE_B, NRE_C])
def test_network_serves_every_ratio_trainer_of_sbi(method):
    theta, _, x = draw_pairs(300, seed=1)
    trainer = method(
        PRIOR,
        classifier=networks.mlp((16,)),
        tracker=NoTracker(),
        show_progress_bars=False,
    )
    torch.manual_seed(0)
    estimator = trainer.append_simulations(theta, x).train(
        stop_after_epochs=1, training_batch_size=50
    )
    assert is_plain(estimator)
    posterior = MHPosterior.from_estimator(estimator, PRIOR)
    draws = posterior.sample(
        (30,), x=x[0], max_rhat=None, min_ess=None, show_progress_bars=False
    )
    assert draws.shape == (30, 2)


def test_towers_begin_with_features_of_order_one():
    torch.manual_seed(0)
    theta, x = torch.randn(200, 3), torch.randn(200, 2)
    estimator = networks.two_towers(32)(theta, x)
    for embed, rows in zip(
        (estimator.embedding_net_theta, estimator.embedding_net_x),
        (theta, x),
        strict=True,
    ):
        spread = embed(rows).std()
        assert 0.2 < spread < 3


def test_towers_stay_finite_whatever_their_weights_say():
    torch.manual_seed(0)
    theta, x = torch.randn(200, 3), torch.randn(200, 2)
    estimator = networks.two_towers(32)(theta, x)
    with torch.no_grad():
        for embed in (estimator.embedding_net_theta, estimator.embedding_net_x):
            embed[-1][-1].linear.weight.mul_(1e3)
        logits = estimator(1e30 * theta, 1e30 * x)
    assert torch.isfinite(logits).all() and logits.abs().max() > 1e6


def test_split_evaluation_is_only_for_plain_estimators():
    class Rescaled(RatioEstimator):
        def forward(self, theta, x):
            return 2 * super().forward(theta, x)

    net = nn.Linear(4, 1)
    assert is_plain(RatioEstimator(net, (2,), (2,)))
    assert not is_plain(Rescaled(net, (2,), (2,)))
