"""The paper's network, alone and in every ratio trainer of sbi."""

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs
from sbi.inference import NRE_A, NRE_B, NRE_C

from sbi_aalr import MHPosterior, networks
from sbi_aalr.networks import is_plain
from sbi_aalr.trainer.no_tracker import NoTracker


def test_one_row_is_enough_to_build_a_network():
    estimator = networks.mlp((4,))(torch.ones(1, 2), torch.ones(1, 3))
    assert torch.isfinite(estimator(torch.zeros(5, 2), torch.zeros(5, 3))).all()


def test_scales_are_saved_with_the_weights():
    theta, x = torch.randn(9, 2), torch.randn(9, 2)
    names = networks.mlp((4,))(theta, x).state_dict()
    assert sum(name.endswith(("location", "spread")) for name in names) == 4


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
