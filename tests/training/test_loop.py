"""The training loop on networks and batches whose losses are known."""

import time

import pytest
import torch
from linear_gaussian import build_quadratic, draw_pairs
from torch import nn

from sbi_aalr import networks
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.training.loop import fit
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.training.recipe import Recipe

RECIPE = Recipe(batch_size=50, num_passes=2, learning_rate=0.01)
LOSS = RatioLoss(1, info_nce=0.0)


def weights(estimator):
    return nn.utils.parameters_to_vector(estimator.parameters()).detach().clone()


class Repeated:
    """The same batches in every pass."""

    def __init__(self, num_batches=4, seconds=0.0):
        self.num_simulations = 50 * num_batches
        self.batches = [Batch(*draw_pairs(50, seed=i)) for i in range(num_batches)]
        self.seconds = seconds

    def __iter__(self):
        for batch in self.batches:
            time.sleep(self.seconds)
            yield batch


def build(builder=build_quadratic):
    theta, _, x = draw_pairs(50, seed=0)
    torch.manual_seed(0)
    return builder(theta, x)


def run(estimator, passes=None, recipe=RECIPE, **settings):
    return fit(estimator, passes or Repeated(), recipe=recipe, loss=LOSS, **settings)


def test_every_batch_of_every_pass_is_one_step():
    estimator = build()
    history = run(estimator)
    assert len(history.losses) == len(history.learning_rates) == 8
    assert len(history.pass_losses) == len(history.pass_seconds) == 2
    assert history.pass_losses[1] == pytest.approx(sum(history.losses[4:]) / 4)
    assert history.validation_losses == [] and history.is_finished
    assert history.seconds > sum(history.pass_seconds) > 0
    with torch.no_grad():
        first = LOSS.of_batch(build(), Repeated().batches[0]).mean()
    assert history.losses[0] == pytest.approx(float(first))
    assert all(p.grad is None for p in estimator.parameters())
    assert not estimator.training


def test_learning_rate_falls_over_all_passes():
    rates = run(build()).learning_rates
    assert rates[0] == 0 and max(rates) == rates[1] <= 0.01
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_weights_of_the_best_pass_are_kept():
    recipe = RECIPE._replace(num_passes=40, learning_rate=0.02)
    held_out = [Batch(*draw_pairs(100, seed=99))]
    estimator = build(networks.mlp((64,)))
    history = run(estimator, recipe=recipe, held_out=held_out)
    losses = history.validation_losses
    assert len(losses) == 40 and losses[-1] > min(losses) + 0.01
    with torch.no_grad():
        kept = LOSS.of_batch(estimator, held_out[0]).mean()
    assert float(kept) == pytest.approx(min(losses), rel=1e-5)


def test_passes_end_when_the_held_out_loss_no_longer_falls():
    recipe = RECIPE._replace(num_passes=None, learning_rate=0.02)
    held_out = [Batch(*draw_pairs(100, seed=99))]
    history = run(
        build(networks.mlp((64,))), recipe=recipe, held_out=held_out, stop_after=3
    )
    losses = history.validation_losses
    assert losses.index(min(losses)) == len(losses) - 4
    assert history.is_finished
    # There is no end to come down to.
    assert set(history.learning_rates) == {0.02}


def test_time_limit_ends_within_a_pass_with_the_rate_down():
    recipe = RECIPE._replace(num_passes=None)
    passes = Repeated(num_batches=1_000, seconds=0.01)
    history = run(build(), passes, recipe=recipe, time_limit=0.5)
    assert 1 < len(history.losses) < 60
    assert history.learning_rates[-1] < 0.2 * max(history.learning_rates)
    assert not history.is_finished


def test_time_limit_that_is_far_changes_nothing():
    passes = [Repeated(), Repeated()]
    held_out = [Batch(*draw_pairs(100, seed=99))]
    histories = [
        run(build(), of, held_out=held_out, time_limit=limit)
        for of, limit in zip(passes, (None, 900.0), strict=True)
    ]
    for name in ("losses", "validation_losses", "learning_rates"):
        first, second = (getattr(history, name) for history in histories)
        assert first == pytest.approx(second, rel=1e-3, abs=1e-4)


def test_time_limit_does_not_delay_the_end_where_the_held_out_loss_decides():
    recipe = RECIPE._replace(num_passes=None, learning_rate=0.02)
    held_out = [Batch(*draw_pairs(100, seed=99))]
    counts = []
    for limit in (None, 900.0):
        estimator = build(networks.mlp((64,)))
        history = run(
            estimator, recipe=recipe, held_out=held_out, stop_after=3, time_limit=limit
        )
        assert history.is_finished
        counts.append(len(history.pass_losses))
    # A warm-up over a share of the seconds would take 27 of them.
    assert counts[0] == counts[1]


def test_time_limit_includes_the_held_out_loss():
    class Slow(RatioLoss):
        def of_batch(self, estimator, batch):
            if not estimator.training:
                time.sleep(0.2)
            return super().of_batch(estimator, batch)

    held_out = [Batch(*draw_pairs(50, seed=i)) for i in range(3)]
    passes = Repeated(num_batches=400, seconds=0.01)
    started = time.perf_counter()
    history = fit(
        build(),
        passes,
        recipe=RECIPE,
        loss=Slow(1, info_nce=0.0),
        held_out=held_out,
        time_limit=3.0,
    )
    assert len(history.validation_losses) == 1 and history.losses
    # Without seconds left for it, 3.6.
    assert time.perf_counter() - started < 3.35


class Interrupted(Repeated):
    """Batches until somebody presses Ctrl-C."""

    def __init__(self, num_steps):
        super().__init__()
        self.num_steps = num_steps

    def __iter__(self):
        for batch in super().__iter__():
            if not self.num_steps:
                raise KeyboardInterrupt
            self.num_steps -= 1
            yield batch


def test_ctrl_c_leaves_averaged_weights_and_tells():
    estimator, first = build(), build()
    history = run(estimator, Interrupted(6))
    assert isinstance(history.interruption, KeyboardInterrupt)
    assert not history.is_finished and not estimator.training
    assert len(history.losses) == 6 and len(history.pass_losses) == 2
    with pytest.raises(KeyboardInterrupt):
        history.raise_interruption()
    run(first, Interrupted(5))
    assert not torch.equal(weights(first), weights(estimator))
    assert all(p.grad is None for p in estimator.parameters())


def test_ctrl_c_after_a_pass_leaves_the_best_weights():
    held_out = [Batch(*draw_pairs(100, seed=99))]
    estimator = build()
    history = run(estimator, Interrupted(6), held_out=held_out)
    assert len(history.validation_losses) == 1
    with torch.no_grad():
        kept = LOSS.of_batch(estimator, held_out[0]).mean()
    assert float(kept) == pytest.approx(history.validation_losses[0], rel=1e-5)


def test_ctrl_c_before_the_first_step_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        run(build(), Interrupted(0))


def test_loss_that_is_not_finite_is_named_with_its_step():
    passes = Repeated()
    passes.batches[2] = passes.batches[2]._replace(x=torch.full((50, 2), torch.nan))
    estimator = build()
    message = r"loss became nan at step 3. .*`learning_rate` \(now 0.01\)"
    with pytest.raises(RuntimeError, match=message):
        run(estimator, passes)
    assert not estimator.training


def test_gradient_is_clipped():
    free, clipped = build(), build()
    run(free)
    run(clipped, clip_max_norm=1e-9)
    before = weights(build())
    assert (weights(free) - before).norm() > 0.01
    # Adam divides by the size of the gradient and its epsilon, which is the larger now.
    assert (weights(clipped) - before).norm() < (weights(free) - before).norm()


def test_bar_shows_the_held_out_loss(capsys):
    held_out = [Batch(*draw_pairs(100, seed=99))]
    run(build(), held_out=held_out, show_progress_bars=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.replace("\n", "\r").split("\r")
    assert "Pass 2/2" in lines[-2] and "200/200 simulations" in lines[-2]
    assert "validation=" in lines[-2]
