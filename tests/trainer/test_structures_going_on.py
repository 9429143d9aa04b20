"""The default recipe under limits, after Ctrl-C, and in further calls of training."""

import random
import time

import numpy as np
import pytest
import torch
from linear_gaussian import draw_pairs, simulate
from stacked import NUM_ROWS, ONLINE, STORED, make, measure_error, train
from trainers import append, get_estimator, weights

from sbi_aalr.trainer import structures
from sbi_aalr.training.density_loss import DensityLoss
from sbi_aalr.training.ratio_loss import RatioLoss

pytestmark = [
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
    pytest.mark.usefixtures("hasty_recipe"),
]


def list_weights(trainer):
    tried = trainer.summary["recipe"][-1]["structures"]
    return [(one["structure"], one["weight"]) for one in tried]


@pytest.mark.parametrize("is_stored", [True, False])
def test_time_limit_is_kept(is_stored):
    started = time.perf_counter()
    trainer = train(
        is_stored=is_stored,
        time_limit=2.0,
        **({"max_num_epochs": 10_000} if is_stored else {"num_passes": 10_000}),
    )
    # Other programs may be running.
    assert time.perf_counter() - started < 5.0
    assert measure_error(get_estimator(trainer))[0] < 0.2


@pytest.mark.parametrize("limit", [0.02, 0.1, 0.3])
def test_short_limits_give_a_stack_or_say_why_not(limit):
    trainer = append(make(), 200)
    message = None
    try:
        trainer.train(time_limit=limit, seed=1)
    except ValueError as error:
        message = str(error)
    if message is None:
        assert np.isfinite(measure_error(get_estimator(trainer))).all()
    else:
        assert "`time_limit` must be long enough" in message


def test_busy_machine_comes_to_a_step_all_the_same(monkeypatch):
    """Where all time has gone before the first fit, the last one gets a share."""
    monkeypatch.setattr(structures, "_STACK_SHARE", 1.0)
    monkeypatch.setattr(structures, "_LEAST_SHARE", 1e-9)
    trainer = append(make(), 200)
    trainer.train(time_limit=4.0, seed=1)
    assert trainer.summary["training_loss"]
    assert np.isfinite(measure_error(get_estimator(trainer))).all()


def press_after(monkeypatch, loss, num_calls):
    """Press Ctrl-C in a step of training."""
    calls, of_batch = [], loss.of_batch

    def press(self, estimator, batch):
        if torch.is_grad_enabled():
            calls.append(None)
        if len(calls) > num_calls:
            raise KeyboardInterrupt
        return of_batch(self, estimator, batch)

    monkeypatch.setattr(loss, "of_batch", press)


# Two passes of 12 batches for each mixture, after which the towers come.
@pytest.mark.parametrize(
    ("loss", "num_calls"),
    [(DensityLoss, 3), (DensityLoss, 30), (RatioLoss, 3), (RatioLoss, 0)],
)
def test_ctrl_c_leaves_an_estimator_that_can_be_used(loss, num_calls, monkeypatch):
    trainer = append(make(), NUM_ROWS)
    with monkeypatch.context() as patch:
        press_after(patch, loss, num_calls)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(**STORED)
    assert trainer.summary["interrupted"] == [True]
    estimator = get_estimator(trainer)
    assert not estimator.training and torch.isfinite(weights(estimator)).all()
    assert measure_error(estimator)[0] < 0.2
    # What comes after goes on from there.
    trainer.train(**STORED, resume_training=True)
    assert measure_error(get_estimator(trainer))[0] < 0.2


def test_ctrl_c_while_stacking_loses_no_training(monkeypatch):
    trainer = append(make(), NUM_ROWS)

    def press(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sbi_aalr.training.assemble.fit_offset", press)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(**STORED)
    assert measure_error(get_estimator(trainer))[0] < 0.5


def test_same_seed_gives_same_weights_and_global_generators_are_untouched():
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    short = {"num_rows": 200, "max_num_epochs": 1}
    first, again, other = (train(seed=seed, **short) for seed in (1, 1, 2))
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1][1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()
    pairs = draw_pairs(50, seed=9)[::2]
    with torch.no_grad():
        found = [get_estimator(t)(*pairs) for t in (first, again, other)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(weights(get_estimator(first)), weights(get_estimator(again)))
    assert list_weights(first) == list_weights(again)


def test_training_goes_on():
    trainer = train()
    first = get_estimator(trainer)
    before, kept = measure_error(first)[0], weights(first)
    split = [rows.tolist() for rows in trainer._split]
    trainer.train(**STORED, resume_training=True)
    assert [rows.tolist() for rows in trainer._split] == split
    assert len(trainer.summary["recipe"]) == 2
    assert measure_error(get_estimator(trainer))[0] < before + 0.05
    # The one it went on from is as it was.
    assert torch.equal(weights(first), kept)


def test_online_training_goes_on_and_changes_no_estimator_given_before():
    trainer = train(is_stored=False)
    first = get_estimator(trainer)
    kept, error = weights(first), measure_error(first)[0]
    trainer.train_online(simulate, **{**ONLINE, "seed": 2})
    second = get_estimator(trainer)
    assert torch.equal(weights(first), kept) and second is not first
    assert measure_error(second)[0] < error + 0.05
    trainer.train_online(simulate, **ONLINE, retrain_from_scratch=True)
    assert measure_error(get_estimator(trainer))[0] == error
