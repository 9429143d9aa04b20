"""Training that goes on: with more simulations, after other training, after Ctrl-C."""

import pytest
import torch
from linear_gaussian import PRIOR, compare, draw_pairs, simulate
from trainers import FEW, SOON, append, get_estimator, make_trainer, weights

from sbi_aalr import networks
from sbi_aalr.training import loop, recipe

X_O = torch.tensor([1.0, -2.0])


def collect_split(trainer):
    return set(trainer.train_indices.tolist()), set(trainer.val_indices.tolist())


@pytest.mark.parametrize("classifier", [networks.two_towers(8, 1), "selu_mlp"])
@pytest.mark.parametrize("num_new", [1, 7, 2_000])
def test_resumed_training_uses_new_rows(classifier, num_new):
    trainer = append(make_trainer(classifier), 200)
    trainer.train(**SOON)
    trained, held_out = collect_split(trainer)
    append(trainer, num_new, seed=2)
    trainer.train(**SOON, resume_training=True)
    trained_now, held_out_now = collect_split(trainer)
    # The old rows stay where they were, and the new ones are divided as those were.
    assert trained < trained_now or num_new == 1
    assert held_out <= held_out_now
    assert not trained_now & held_out_now
    assert trained_now | held_out_now == set(range(200 + num_new))
    assert len(trained_now) == 180 + int(0.9 * num_new)
    assert trainer.summary["recipe"][-1]["num_simulations"] == len(trained_now)


def test_new_rows_teach_what_old_rows_did_not():
    """Old rows whose parameters were shuffled say that there is nothing to learn."""
    theta, _, x = draw_pairs(2_000, seed=1)
    trainer = make_trainer().append_simulations(theta.roll(1, 0), x)
    settings = {"training_batch_size": 500, "learning_rate": 0.02, "seed": 1}
    trainer.train(stop_after_epochs=3, **settings)
    pairs = draw_pairs(2_000, seed=9)
    assert compare(get_estimator(trainer), pairs[0], pairs[2])[0] < 0.8
    append(trainer, 40_000, seed=2)
    trainer.train(stop_after_epochs=3, resume_training=True, **settings)
    assert compare(get_estimator(trainer), pairs[0], pairs[2])[0] > 0.95


def test_resumed_training_keeps_to_its_split_when_rounds_are_left_out():
    trainer = append(make_trainer(), 200)
    append(trainer, 100, seed=2, from_round=1)
    trainer.train(**SOON)
    held_out = {row - 200 for row in trainer.val_indices.tolist() if row >= 200}
    append(trainer, 50, seed=3, from_round=0)
    trainer.train(**SOON, resume_training=True, discard_prior_samples=True)
    trained, held_out_now = collect_split(trainer)
    # Sbi counts the rows of the rounds in use; the others keep their part for later.
    assert held_out_now == held_out
    assert trained | held_out_now == set(range(100))
    trainer.train(**SOON, resume_training=True)
    trained, held_out_now = collect_split(trainer)
    assert trained | held_out_now == set(range(350))
    assert {row - 200 for row in held_out_now if 200 <= row < 300} == held_out


def test_rows_trained_on_are_not_held_out_later():
    trainer = append(make_trainer(), 100)
    trainer.train(**SOON)
    for seed in (2, 3, 4):
        before, _ = collect_split(trainer)
        append(trainer, 30, seed=seed)
        trainer.train(**SOON, resume_training=True)
        assert before <= collect_split(trainer)[0]


def test_training_of_every_kind_follows_any_other():
    trainer = append(make_trainer(), 200)
    before = weights(trainer.train(**SOON))
    for train in (
        lambda: trainer.train_online(simulate, **FEW),
        lambda: trainer.train(**SOON),
        lambda: trainer.train(**SOON, resume_training=True),
        lambda: trainer.train_online(simulate, **FEW),
        lambda: trainer.train_online(simulate, **FEW, retrain_from_scratch=True),
        lambda: trainer.train(**SOON, retrain_from_scratch=True),
    ):
        after = weights(train())
        assert not torch.equal(after, before)
        assert torch.equal(weights(get_estimator(trainer)), after)
        before = after
    assert trainer.summary["interrupted"] == [False] * 7


def test_training_after_rounds_begins_anew_with_the_whole_prior():
    trainer = make_trainer(networks.two_towers(8, 1))
    trainer.train_truncated(simulate, X_O, 200, num_rounds=2, epsilon=0.2, seed=1)
    assert trainer.build_posterior().potential_fn.prior is not PRIOR
    # Inputs scaled to what was left of the prior would not suit the whole of it.
    after = weights(trainer.train_online(simulate, **FEW))
    new = make_trainer(networks.two_towers(8, 1)).train_online(simulate, **FEW)
    assert torch.equal(after, weights(new))
    assert trainer.build_posterior().potential_fn.prior is PRIOR


class Interruptible:
    """A simulator during which somebody presses Ctrl-C, or which fails."""

    def __init__(self, num_calls, error=KeyboardInterrupt):
        # Two calls find out whether it takes batches.
        self.left = num_calls + 2
        self.error = error

    def __call__(self, theta):
        if not self.left:
            raise self.error
        self.left -= 1
        return simulate(theta)


def interrupt(trainer, num_calls, **settings):
    settings = {"num_simulations": 2_000, "batch_size": 100, "seed": 1, **settings}
    with pytest.raises(KeyboardInterrupt):
        trainer.train_online(Interruptible(num_calls), **settings)


@pytest.mark.parametrize("num_passes", [1, 3])
def test_after_ctrl_c_the_estimator_and_the_summary_are_there(num_passes):
    trainer = make_trainer()
    interrupt(trainer, 5, num_passes=num_passes)
    summary = trainer.summary
    # Of the opening of 1,024, some are held out if there are several passes.
    assert len(summary["training_loss"]) == {1: 11 + 4, 3: 9 + 4}[num_passes]
    assert summary["interrupted"] == [True] and summary["fit_seconds"][0] > 0
    assert len(summary["recipe"]) == 1
    estimator = get_estimator(trainer)
    assert not estimator.training and torch.isfinite(weights(estimator)).all()
    # What comes after goes on from there.
    trainer.train_online(simulate, **FEW)
    assert trainer.summary["interrupted"] == [True, False]


def test_after_ctrl_c_weights_are_averages():
    ends = []
    for num_calls in (15, 16):
        trainer = make_trainer()
        interrupt(trainer, num_calls, num_simulations=20_000, num_passes=1)
        ends.append(weights(get_estimator(trainer)))
    trainer = make_trainer()
    trainer.train_online(simulate, 20_000, batch_size=100, num_passes=1, seed=1)
    whole = weights(get_estimator(trainer))
    # Both lie on the same way to the end.
    assert (ends[1] - ends[0]).norm() < 0.2 * (whole - ends[0]).norm()


def test_ctrl_c_before_the_first_step_leaves_nothing_untrained():
    trainer = make_trainer()
    interrupt(trainer, 0)
    with pytest.raises(RuntimeError, match="There is no estimator"):
        trainer.build_posterior()
    assert trainer.summary["training_loss"] == []
    first = trainer.train_online(simulate, **FEW)
    interrupt(trainer, 0, retrain_from_scratch=True)
    assert torch.equal(weights(get_estimator(trainer)), weights(first))


def test_ctrl_c_before_the_first_step_of_stored_simulations(monkeypatch):
    def press(*_, **__):
        raise KeyboardInterrupt

    trainer = append(make_trainer(), 200)
    with monkeypatch.context() as patch:
        patch.setattr("sbi_aalr.training.loop._run_pass", press)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(**SOON)
    with pytest.raises(RuntimeError, match="There is no estimator"):
        trainer.build_posterior()
    with pytest.raises(RuntimeError, match="no training to resume"):
        trainer.train(resume_training=True)
    trainer.train(**SOON)
    trainer.train(**SOON, resume_training=True)


def test_simulator_that_fails_midway_leaves_all_as_it_was():
    trainer = append(make_trainer(), 200)
    first = trainer.train(**SOON)
    split, kept = collect_split(trainer), weights(first)
    summary = {name: list(values) for name, values in trainer.summary.items()}
    with pytest.raises(ValueError, match="`simulator` raised OSError"):
        trainer.train_online(
            Interruptible(5, OSError), 2_000, batch_size=100, num_passes=1
        )
    assert trainer.summary == summary and collect_split(trainer) == split
    assert torch.equal(weights(get_estimator(trainer)), kept)
    assert torch.equal(weights(first), kept)


@pytest.mark.parametrize("round_index", [0, 1])
def test_ctrl_c_in_a_round_leaves_the_round_before(round_index, monkeypatch):
    run_pass, passes = loop._run_pass, []

    def press(*arguments):
        passes.append(None)
        if len(passes) == 4:
            raise KeyboardInterrupt
        return run_pass(*arguments)

    monkeypatch.setattr(loop, "_run_pass", press)
    # Rounds of 60 passes, or of 2, so that the fourth belongs to the second round.
    few = recipe._ENTRIES[0]
    if round_index:
        few = few._replace(recipe=few.recipe._replace(num_passes=2))
    monkeypatch.setattr(recipe, "_ENTRIES", [few])
    trainer = make_trainer(networks.two_towers(8, 1))
    with pytest.raises(KeyboardInterrupt):
        trainer.train_truncated(simulate, X_O, 200, num_rounds=2, epsilon=0.2, seed=1)
    assert trainer.build_posterior().potential_fn.prior is PRIOR
    assert trainer.summary["interrupted"] == [not round_index]
