"""What all ways to fit share: seeds, failures, and what is written down."""

import numpy as np
import pytest
import torch
from linear_gaussian import draw_pairs, simulate
from trainers import FEW, SOON, append, get_estimator, make_trainer, weights

from sbi_aalr import networks
from sbi_aalr.training import RatioLoss
from sbi_aalr.training.recipe import find_entry


class Tracker:
    log_dir = None

    def __init__(self):
        self.metrics, self.flushed = [], 0

    def log_metric(self, name, value, step=None):
        self.metrics.append((name, value, step))

    def log_params(self, params):
        self.params = params

    def flush(self):
        self.flushed += 1


def simulate_in_numpy(theta):
    theta = np.asarray(theta)
    return theta + np.random.standard_normal(theta.shape)


@pytest.mark.parametrize("simulator", [simulate, simulate_in_numpy])
def test_same_seed_gives_same_weights_and_leaves_generators_alone(simulator):
    def fit(seed):
        trainer = make_trainer()
        before = torch.get_rng_state(), np.random.get_state()
        estimator = trainer.train_online(simulator, **{**FEW, "seed": seed})
        after = torch.get_rng_state(), np.random.get_state()
        assert torch.equal(before[0], after[0])
        np.testing.assert_equal(before[1], after[1])
        return weights(estimator)

    first = fit(1)
    torch.rand(5), np.random.random(5)
    assert torch.equal(first, fit(1))
    assert not torch.equal(first, fit(2))


def test_training_goes_on_unless_told_to_begin_anew():
    trainer = make_trainer()
    first = trainer.train_online(simulate, **FEW)
    kept = weights(first)
    second = trainer.train_online(simulate, **{**FEW, "seed": 2})
    third = trainer.train_online(simulate, **FEW, retrain_from_scratch=True)
    assert torch.equal(weights(first), kept)
    assert not torch.equal(weights(second), kept)
    assert torch.equal(weights(third), kept)
    assert len(trainer.summary["training_loss"]) == 12


def test_estimator_from_before_survives_a_failure():
    trainer = make_trainer()
    first = trainer.train_online(simulate, **FEW)
    with pytest.raises(
        RuntimeError, match=r"loss became nan at step .* `learning_rate`"
    ):
        trainer.train_online(simulate, **FEW, learning_rate=1e38, clip_max_norm=None)
    assert torch.equal(weights(get_estimator(trainer)), weights(first))


def test_tracker_receives_the_loss_of_every_step():
    tracker = Tracker()
    trainer = make_trainer(tracker=tracker)
    trainer.train_online(simulate, **FEW)
    trainer.train_online(simulate, **FEW)
    losses = [m[1:] for m in tracker.metrics if m[0] == "training_loss"]
    assert losses == list(zip(trainer.summary["training_loss"], range(8), strict=True))
    assert tracker.flushed
    assert tracker.params == trainer.summary["recipe"][-1]
    # Then the epochs of stored simulations, and each of them once.
    theta, _, x = draw_pairs(100, seed=1)
    with pytest.warns(UserWarning, match="Maximum number of epochs"):
        trainer.append_simulations(theta, x).train(max_num_epochs=2)
    losses = [m[1:] for m in tracker.metrics if m[0] == "training_loss"]
    assert [step for _, step in losses] == list(range(10))


def test_nothing_is_printed_or_written_without_progress_bars(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    trainer = append(make_trainer())
    trainer.train_online(simulate, **FEW)
    trainer.train(**SOON)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_a_bar_and_not_printed(capsys):
    trainer = append(make_trainer(show_progress_bars=True))
    trainer.train_online(simulate, **FEW)
    trainer.train(**SOON)
    out, err = capsys.readouterr()
    assert out == ""
    # A pass of all 200, and not eight of them.
    assert "200/200 simulations" in err and "Pass 1/" in err and "validation=" in err


def test_frozen_weights_stay():
    def build(theta, x):
        estimator = networks.two_towers(8, 1)(theta, x)
        estimator.embedding_net_x.requires_grad_(False)
        return estimator

    trainer = make_trainer(build)
    torch.manual_seed(0)
    first = trainer.train_online(simulate, num_simulations=100)
    before = weights(first.embedding_net_x)
    after = trainer.train_online(simulate, num_simulations=100)
    assert torch.equal(weights(after.embedding_net_x), before)


def test_same_seed_gives_same_towers():
    first = make_trainer("two_towers").train_online(simulate, **FEW)
    second = make_trainer("two_towers").train_online(simulate, **FEW)
    assert torch.equal(weights(first), weights(second))


def test_recipe_is_written_down():
    trainer = make_trainer("two_towers")
    trainer.train_online(simulate, **FEW)
    chosen = trainer.summary["recipe"][-1]
    assert chosen["classifier"] == "two_towers" and chosen["batch_size"] == 50
    assert chosen["classifier_settings"] == find_entry(200).towers
    assert chosen["num_contrasts"] is None and chosen["info_nce"] == 1.0
    trainer = make_trainer("two_towers", loss=RatioLoss(2, balance=3.0))
    trainer.train_online(simulate, **FEW)
    chosen = trainer.summary["recipe"][-1]
    assert chosen["num_contrasts"] == 2 and chosen["balance"] == 3.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_code_trains_on_the_gpu():
    trainer = make_trainer("two_towers", device="cuda")
    estimator = trainer.train_online(simulate, **FEW)
    assert next(estimator.parameters()).is_cuda
    theta, _, x = draw_pairs(400, seed=1)
    trainer.append_simulations(theta, x).train(time_limit=2.0, seed=1)


def test_short_time_gets_a_smaller_network():
    trainer = make_trainer("two_towers")
    trainer.train_online(simulate, 60_000, num_passes=1, time_limit=0.3, seed=1)
    chosen = trainer.summary["recipe"][-1]["classifier_settings"]
    assert chosen == find_entry(60_000, 0.3).towers != find_entry(60_000).towers
