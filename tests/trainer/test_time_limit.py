"""A time limit ends training sooner, and never makes it longer."""

import itertools
import time
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from linear_gaussian import PRIOR, draw_pairs, simulate
from trainers import make_trainer

from sbi_aalr import AALR, networks
from sbi_aalr.errors import TimeLimitWarning
from sbi_aalr.sampling.truncated_prior import cut_prior
from sbi_aalr.simulation.batches import stream
from sbi_aalr.trainer import opening, truncated
from sbi_aalr.trainer.opening import simulate_opening
from sbi_aalr.training import budget
from sbi_aalr.training.history import History, warn_of_hurry
from sbi_aalr.training.passes import StreamedPasses


def simulate_slowly(theta):
    """A hundredth of a second for each row."""
    time.sleep(0.01 * len(theta))
    return simulate(theta)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Torch takes seconds to set up the first optimizer of a process."""
    make_trainer("two_towers").train_online(simulate, 200, num_passes=1)


def measure(act, *arguments, **settings):
    started = time.perf_counter()
    act(*arguments, **settings)
    return time.perf_counter() - started


def test_slow_simulations_count_from_the_first():
    trainer = make_trainer("two_towers")
    with pytest.warns(TimeLimitWarning, match="of 1 s ended training in pass 1 of 8,"):
        seconds = measure(
            trainer.train_online, simulate_slowly, 5_000, time_limit=1.0, seed=1
        )
    # A thousand of them would take ten.
    assert 0.7 < seconds < 1.3
    assert len(trainer.summary["training_loss"]) > 5
    assert len(trainer.summary["validation_loss"]) == 1
    rates = trainer.summary["learning_rate"]
    assert rates[-1] < 0.3 * max(rates)


@pytest.mark.parametrize("seconds_to_compile", [0.0, 3.0, 7.0])
def test_training_is_sized_for_the_simulations_that_may_come(
    seconds_to_compile, monkeypatch
):
    """A million would want large batches, of which a few thousand make hardly any."""
    now = [0.0]
    monkeypatch.setattr(opening, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def simulate_by_the_clock(theta):
        now[0] += 0.01 * len(theta) + (0.0 if now[0] else seconds_to_compile)
        return simulate(theta)

    made = simulate_opening(simulate_by_the_clock, PRIOR, 1_000_000, None, 30.0)
    assert made.is_cut and 1 < now[0] < 0.3 * 30
    assert made.affordable == pytest.approx(3_000, rel=0.01)
    assert made.expect(1_000_000) == made.affordable and made.expect(500) == 500


def test_simulations_that_time_cuts_short_are_as_many_as_came():
    passes = StreamedPasses(
        itertools.islice(stream(simulate, PRIOR, 900, 30), 2), 900, 30, PRIOR, False
    )
    list(passes)
    assert passes.num_simulations == 60
    single = StreamedPasses(
        itertools.islice(stream(simulate, PRIOR, 900, 30), 2), 900, 30, PRIOR, True
    )
    list(single)
    assert single.num_simulations == 60


def test_fast_simulations_are_as_many_as_without_a_limit():
    calls = []

    def remember(theta):
        calls.append(len(theta))
        return simulate(theta)

    trainer = make_trainer("selu_mlp")
    trainer.train_online(remember, 3_000, time_limit=100.0, seed=1)
    assert sum(calls) == 3_000 + 5


def test_stored_simulations_get_no_more_passes_than_without_a_limit():
    theta, _, x = draw_pairs(300, seed=1)
    counts = []
    for limit in (None, 100.0):
        trainer = make_trainer(networks.two_towers(16, 1))
        trainer.append_simulations(theta, x).train(time_limit=limit, seed=1)
        counts.append(trainer.summary["epochs_trained"])
    assert counts[0] == counts[1]


def test_streamed_simulations_get_no_more_passes_than_without_a_limit():
    counts = []
    for limit in (None, 100.0):
        trainer = make_trainer(networks.two_towers(16, 1))
        trainer.train_online(simulate, 300, time_limit=limit, seed=1)
        counts.append(len(trainer.summary["validation_loss"]))
    assert counts == [8, 8]


def test_stored_simulations_end_in_time():
    theta, _, x = draw_pairs(2_000, seed=1)
    trainer = make_trainer("two_towers").append_simulations(theta, x)
    seconds = measure(trainer.train, time_limit=0.5, seed=1)
    assert seconds < 0.8 and len(trainer.summary["training_loss"]) < 60
    assert not trainer.summary["interrupted"][-1]


def test_stack_that_has_hardly_begun_is_told_of(monkeypatch):
    """By a clock that runs half a second whenever a fit looks at it."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 2)
    monkeypatch.setattr(budget, "time", clock)
    trainer = AALR(PRIOR, show_progress_bars=False)
    theta, _, x = draw_pairs(300, seed=1)
    with pytest.warns(TimeLimitWarning, match="of 200 s ended training in") as told:
        trainer.append_simulations(theta, x).train(time_limit=200, seed=1)
    steps = [one.message.value for one in told if one.category is TimeLimitWarning]
    assert len(steps) == 1 and 0 < steps[0] < 200


@pytest.mark.parametrize(
    ("num_passes", "num_steps", "changes", "warns"),
    [
        (2, 16, {}, True),
        (2, 16, {"is_finished": True}, False),
        (2, 16, {"interruption": KeyboardInterrupt()}, False),
        (2, 16, {"num_planned": None}, False),
        (15, 120, {}, False),
        (1, 500, {}, False),
    ],
)
def test_only_fits_that_time_ended_early_are_told_of(
    num_passes, num_steps, changes, warns
):
    short = History(
        [1.0] * num_steps, [], [1.0] * num_passes, [], [], 1.0, False, num_planned=60
    )
    whole = short._replace(losses=[1.0] * 480, is_finished=True)
    histories = [None, whole, short._replace(**changes)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_hurry(histories, 5.0)
        warn_of_hurry(histories, None)
    assert [str(one.message)[:66] for one in told] == warns * [
        "`time_limit` of 5 s ended training in pass 2 of 60, after 16 steps"
    ]


@pytest.mark.parametrize("is_stored", [True, False])
def test_limit_without_time_for_a_step_is_named(is_stored):
    trainer = make_trainer()
    theta, _, x = draw_pairs(100, seed=1)
    trainer.append_simulations(theta, x)
    message = "`time_limit` must be long enough to simulate .*got 1e-06"
    train = trainer.train if is_stored else partial(trainer.train_online, simulate, 100)
    with pytest.raises(ValueError, match=message):
        train(time_limit=1e-6)
    with pytest.raises(RuntimeError, match="no estimator"):
        trainer.build_posterior()


def test_drawing_inside_cuts_ends_in_time(monkeypatch):
    """All but nothing passes the cut, so that drawing would take for ever."""

    def cut_nearly_all(*arguments):
        cut = cut_prior(*arguments)
        last = cut.cuts[-1]._replace(least_log_ratio=1e9)
        return type(cut)(cut.prior, (last,))

    monkeypatch.setattr(truncated, "cut_prior", cut_nearly_all)
    trainer = make_trainer(networks.two_towers(16, 1))
    message = r"Only 0 of [\d,]+ draws .* a share of 0, and 150 .*`time_limit`"
    with pytest.raises(RuntimeError, match=message):
        trainer.train_truncated(
            simulate, torch.zeros(2), 300, num_rounds=2, time_limit=0.3, seed=1
        )
    # The estimator of the first round stays, and what it is for.
    assert trainer.summary["accepted_share"] == [1.0]
    assert trainer.build_posterior().potential_fn.prior is PRIOR
