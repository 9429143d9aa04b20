"""What ends `train(tune=...)` early, and what it refuses."""

import time

import pytest
import torch
from trainers import append, make_trainer, weights
from tunable import SHORT, SMALL, get_report, make

from sbi_aalr.errors import TuningWarning
from sbi_aalr.training import tuned_attempt, tuning_search

pytestmark = [
    pytest.mark.usefixtures("hasty_search"),
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
]


def test_time_limit_leaves_the_plain_fit_its_time():
    trainer = make()
    started = time.perf_counter()
    trainer.train(tune=True, seed=1, time_limit=0.1)
    assert time.perf_counter() - started < 10
    assert get_report(trainer)["given_up"] == "no time was left"
    trainer = make()
    started = time.perf_counter()
    trainer.train(tune=True, time_limit=4.0, **SHORT)
    assert time.perf_counter() - started < 12
    assert "held_out_loss" in get_report(trainer)


def test_fit_that_is_too_short_is_not_tuned(monkeypatch):
    """A search of more steps than the fit would gain by its steps alone."""
    monkeypatch.setattr(tuning_search, "_AVERAGED", 8)
    trainer = make()
    with pytest.warns(TuningWarning, match="passes leave 1 steps to tune in.*least 8"):
        trainer.train(tune=("octaves",), max_num_epochs=3, seed=1)
    assert trainer.summary["epochs_trained"] == [3]
    assert "held_out_loss" not in get_report(trainer)


def test_ctrl_c_in_the_search_keeps_the_plain_fit(monkeypatch):
    plain = make()
    plain.train(**SHORT)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuned_attempt, "search_hyperparameters", interrupt)
    trainer = make()
    with pytest.raises(KeyboardInterrupt):
        trainer.train(tune=True, **SHORT)
    assert torch.equal(weights(trainer._neural_net), weights(plain._neural_net))
    assert get_report(trainer)["given_up"] == "interrupted"
    assert trainer.summary["interrupted"] == [True]


def test_what_cannot_be_tuned_is_told_and_the_plain_fit_kept(monkeypatch):
    def fail(*_, **__):
        raise ValueError("`training_loss` must be finite, got nan.")

    monkeypatch.setattr(tuned_attempt, "search_hyperparameters", fail)
    trainer = make()
    with pytest.warns(TuningWarning, match="must be finite, got nan"):
        trainer.train(tune=True, **SHORT)
    assert "must be finite" in get_report(trainer)["given_up"]
    plain = make()
    plain.train(**SHORT)
    assert torch.equal(weights(trainer._neural_net), weights(plain._neural_net))


@pytest.mark.parametrize(
    ("tune", "error", "message"),
    [
        ("learning_rate", ValueError, "no place in the training loss"),
        (("octaves", "num_blocks"), ValueError, "cannot have 'num_blocks'"),
        (("wings",), ValueError, "`tune` must be of .* got 'wings'"),
        ((), ValueError, "at least one name"),
        (None, TypeError, "`tune` must be names of what to tune, got None"),
        (1, TypeError, "`tune` must be names of what to tune, got 1"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_the_reason(tune, error, message):
    trainer = make()
    with pytest.raises(error, match=message):
        trainer.train(tune=tune)
    assert trainer._neural_net is None


def test_what_no_network_has_is_refused():
    trainer = append(make_trainer())
    with pytest.raises(ValueError, match="`tune` cannot have 'dropout' here"):
        trainer.train(tune=("dropout",), seed=1)


def test_too_few_rows_are_told():
    trainer = append(make_trainer(SMALL), 40)
    with pytest.raises(ValueError, match=r"`tune` needs at least 40 .* got 36"):
        trainer.train(tune=True, **SHORT)


def test_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`checkpoint` must be left out with `tune`"):
        make().train(tune=True, checkpoint=tmp_path / "kept", **SHORT)
    assert not (tmp_path / "kept").exists()
