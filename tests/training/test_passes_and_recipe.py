"""Budgets, passes, time limits, and what the recipe writes down."""

import time

import pytest
import torch
from linear_gaussian import PRIOR, build_quadratic, draw_pairs, simulate
from torch import nn

from sbi_aalr import AALR, networks
from sbi_aalr.simulation.batches import stream
from sbi_aalr.training.loop import build_optimizers
from sbi_aalr.training.muon import Muon
from sbi_aalr.training.passes import StoredPasses, StreamedPasses
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import choose_recipe, choose_towers

FEW = {"num_simulations": 200, "batch_size": 50, "seed": 1}


def make_trainer(classifier=build_quadratic, **settings):
    return AALR(PRIOR, classifier, show_progress_bars=False, **settings)


def weights(estimator):
    return nn.utils.parameters_to_vector(estimator.parameters()).detach().clone()


def test_later_passes_meet_the_same_simulations_with_other_contrasts():
    torch.manual_seed(0)
    fresh = stream(simulate, PRIOR, num_simulations=90, batch_size=30)
    passes = StreamedPasses(fresh, 90, 30, PRIOR, is_single=False)
    rows = [list(passes.open(index)) for index in range(3)]
    first, second, third = (torch.cat([b.x for b in batches]) for batches in rows)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    for later in (second, third):
        assert torch.equal(first.sort(0).values, later.sort(0).values)
    primes = torch.cat([b.theta_prime for batches in rows for b in batches])
    assert len(primes.unique(dim=0)) == 270
    # Rows stay together.
    pairs = {
        tuple(row) for b in rows[0] for row in torch.cat((b.theta, b.x), 1).tolist()
    }
    for batch in rows[2]:
        for row in torch.cat((batch.theta, batch.x), 1).tolist():
            assert tuple(row) in pairs


def test_a_single_pass_keeps_nothing():
    fresh = stream(simulate, PRIOR, num_simulations=90, batch_size=30)
    passes = StreamedPasses(fresh, 90, 30, PRIOR, is_single=True)
    assert sum(len(batch.theta) for batch in passes.open(0)) == 90
    assert passes._kept == []


def test_stored_passes_leave_other_columns_aside():
    theta, _, x = draw_pairs(4, seed=1)
    (batch,) = StoredPasses([(theta, x, torch.ones(4))], 4, "cpu").open(0)
    assert batch.theta_prime is None and torch.equal(batch.x, x)


@pytest.mark.parametrize("num_passes", [1, 3])
def test_budget_counts_simulations_and_passes_count_steps(num_passes):
    calls = []

    def counted(theta):
        calls.append(len(theta))
        return simulate(theta)

    trainer = make_trainer()
    trainer.train_online(counted, num_passes=num_passes, **FEW)
    assert sum(calls) == 200 + 5
    # Of 200, 20 are held out if there are several passes; the later leave 30 aside.
    assert len(trainer.summary["training_loss"]) == {1: 4, 3: 4 + 3 + 3}[num_passes]
    assert len(trainer.summary["validation_loss"]) == {1: 0, 3: 3}[num_passes]
    assert trainer.summary["recipe"][-1]["num_passes"] == num_passes


def test_streamed_passes_keep_the_best_on_simulations_never_trained_on():
    """A network with room for all of 400 simulations learns them by heart."""
    trained_on, made = [], []

    def remember(theta):
        made.append(simulate(theta))
        return made[-1]

    class Spy(RatioLoss):
        def of_batch(self, estimator, batch):
            if estimator.training:
                trained_on.append(batch.x)
            return super().of_batch(estimator, batch)

    trainer = make_trainer(networks.two_towers(64), loss=Spy())
    estimator = trainer.train_online(
        remember, num_simulations=400, batch_size=40, num_passes=60, seed=1
    )
    losses = trainer.summary["validation_loss"]
    assert len(losses) == 60 and losses[-1] > min(losses) + 0.3
    (opening,) = (x for x in made if len(x) == 400)
    held_out, rest = opening.split((40, 360))
    x = torch.cat(trained_on)
    assert torch.equal(x.unique(dim=0), rest.unique(dim=0)) and len(x) == 60 * 360
    assert not torch.isin(held_out, x).any()
    assert not estimator.training


@pytest.mark.parametrize("is_stored", [True, False])
def test_time_limit_ends_training_with_the_rate_down(is_stored):
    trainer = make_trainer("two_towers")
    theta, _, x = draw_pairs(600, seed=1)
    trainer.append_simulations(theta, x)
    trainer.train_online(simulate, num_simulations=200, num_passes=1)  # imports
    started = time.perf_counter()
    if is_stored:
        trainer.train(time_limit=1.0, seed=1, stop_after_epochs=10**6)
    else:
        trainer.train_online(simulate, num_simulations=600, time_limit=1.0, seed=1)
        rates = trainer.summary["learning_rate"]
        assert rates[-1] < 0.2 * max(rates)
    assert 0.9 < time.perf_counter() - started < 5
    assert trainer.summary["recipe"][-1]["num_passes"] is None


def test_same_seed_gives_same_towers():
    first = make_trainer("two_towers").train_online(simulate, **FEW)
    second = make_trainer("two_towers").train_online(simulate, **FEW)
    assert torch.equal(weights(first), weights(second))


def test_best_epoch_is_kept_and_training_stops_early():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = make_trainer(networks.mlp((64,)))
    estimator = trainer.append_simulations(theta, x).train(
        learning_rate=0.02, stop_after_epochs=3, seed=1
    )
    losses = trainer.summary["validation_loss"]
    assert losses.index(min(losses)) == len(losses) - 4
    assert trainer.summary["best_validation_loss"] == [min(losses)]
    assert trainer.summary["epochs_trained"] == [len(losses)]
    assert not estimator.training


def test_resumed_training_holds_out_the_same_rows():
    theta, _, x = draw_pairs(300, seed=1)
    trainer = make_trainer().append_simulations(theta, x)
    settings = {"training_batch_size": 50, "stop_after_epochs": 1}
    first = weights(trainer.train(seed=1, **settings))
    held_out = trainer.val_indices
    second = weights(trainer.train(seed=2, resume_training=True, **settings))
    assert torch.equal(trainer.val_indices, held_out)
    assert not torch.equal(first, second)
    trainer.train(seed=2, **settings)
    assert not torch.equal(trainer.val_indices, held_out)


def test_recipe_is_written_down():
    trainer = make_trainer("two_towers")
    trainer.train_online(simulate, **FEW)
    chosen = trainer.summary["recipe"][-1]
    assert chosen["classifier"] == "two_towers" and chosen["batch_size"] == 50
    assert chosen["classifier_settings"] == choose_towers(200)
    assert chosen["num_contrasts"] is None and chosen["info_nce"] == 1.0
    trainer = make_trainer("two_towers", loss=RatioLoss(2, balance=3.0))
    trainer.train_online(simulate, **FEW)
    chosen = trainer.summary["recipe"][-1]
    assert chosen["num_contrasts"] == 2 and chosen["balance"] == 3.0


def test_recipe_grows_with_the_budget():
    budgets = [10**power for power in range(3, 8)]
    widths = [choose_towers(budget)["hidden_features"] for budget in budgets]
    assert widths == sorted(widths)
    for is_streamed in (True, False):
        passes = [
            choose_recipe(n, is_separable=True, is_streamed=is_streamed).num_passes
            for n in budgets
        ]
        assert passes == sorted(passes, reverse=True) and passes[-1] >= 1


def test_short_time_gets_a_smaller_network():
    usual, hurried = (choose_towers(10**6, limit) for limit in (None, 15.0))
    assert hurried["hidden_features"] < usual["hidden_features"]
    assert choose_towers(10**6, 300.0) == usual
    assert choose_towers(1_000, 15.0) == choose_towers(1_000)
    trainer = make_trainer("two_towers")
    trainer.train_online(simulate, 60_000, num_passes=1, time_limit=0.3, seed=1)
    assert trainer.summary["recipe"][-1]["classifier_settings"] == hurried


def test_wrong_loss_and_passes_are_named():
    with pytest.raises(TypeError, match="`loss` must be a RatioLoss, got str"):
        make_trainer(loss="bce")
    with pytest.raises(ValueError, match="`num_passes` must be a positive int, got 0"):
        make_trainer().train_online(simulate, num_passes=0, **FEW)
    with pytest.raises(ValueError, match=r"`time_limit` must be .*got -1\.0"):
        make_trainer().train_online(simulate, time_limit=-1.0, **FEW)


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest():
    theta, _, x = draw_pairs(9, seed=1)
    recipe = choose_recipe(1_000, is_separable=True, is_streamed=True)
    towers = networks.two_towers(16, 2)(theta, x)
    adam, muon = build_optimizers(towers, recipe)
    taken = [p for group in muon.param_groups for p in group["params"]]
    assert isinstance(muon, Muon) and len(taken) == 2 * 2 * 2
    counted = sum(len(g["params"]) for o in (adam, muon) for g in o.param_groups)
    assert counted == len(list(towers.parameters()))
    assert len(build_optimizers(networks.mlp((4,))(theta, x), recipe)) == 1


def test_frozen_weights_stay():
    def build(theta, x):
        estimator = networks.two_towers(8, 1)(theta, x)
        estimator.embedding_net_x.requires_grad_(False)
        return estimator

    trainer = make_trainer(build)
    torch.manual_seed(0)
    trainer.train_online(simulate, num_simulations=100)
    before = weights(trainer._neural_net.embedding_net_x)
    after = trainer.train_online(simulate, num_simulations=100)
    assert torch.equal(weights(after.embedding_net_x), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_code_trains_on_the_gpu():
    trainer = make_trainer("two_towers", device="cuda")
    estimator = trainer.train_online(simulate, **FEW)
    assert next(estimator.parameters()).is_cuda
    theta, _, x = draw_pairs(400, seed=1)
    trainer.append_simulations(theta, x).train(time_limit=2.0, seed=1)
