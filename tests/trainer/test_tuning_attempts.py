"""What is tuned where the usual is not clearly better, and which fit is kept."""

import pytest
import torch
from trainers import weights
from tunable import SHORT, get_report, keep, make

from sbi_aalr.errors import TuningWarning
from sbi_aalr.trainer.tuned import DEFAULT_ATTEMPTS
from sbi_aalr.training import tuned, tuned_attempt

pytestmark = [
    pytest.mark.usefixtures("hasty_search"),
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
]


def test_something_else_is_tuned_where_the_usual_is_no_better(monkeypatch):
    trainer, one_by_one, plain = make(), [], make()
    keep(monkeypatch, False)
    monkeypatch.setattr(tuned_attempt, "_CLEAR", 1e9)
    trainer.train(tune=True, **SHORT)
    [entry] = trainer.summary["tuning"]
    reports = entry["structures"]
    assert [tuple(report["names"]) for report in reports] == list(DEFAULT_ATTEMPTS)
    assert entry["names"] == [name for names in DEFAULT_ATTEMPTS for name in names]
    assert not entry["is_kept"]
    parts = [entry["plain_seconds"], *(report["seconds"] for report in reports)]
    assert 0 < sum(parts) <= entry["seconds"]
    assert reports[0]["plain_seconds"] == entry["plain_seconds"]
    plain.train(**SHORT)
    assert torch.equal(weights(trainer._neural_net), weights(plain._neural_net))
    # Where the first is clearly better there is no second.
    keep(monkeypatch)
    monkeypatch.setattr(tuned_attempt, "_CLEAR", -1e9)
    for tune in (True, DEFAULT_ATTEMPTS[0]):
        one_by_one.append(make())
        one_by_one[-1].train(tune=tune, **SHORT)
        assert tuple(get_report(one_by_one[-1])["names"]) == DEFAULT_ATTEMPTS[0]
    first, second = (weights(one._neural_net) for one in one_by_one)
    assert torch.equal(first, second)


def tune_with_gains(monkeypatch, *gains, clear=1e9):
    """Tune with gains that are made up; weights by gain and by role, what is kept."""
    fits, left = {}, list(gains)

    def compare(plain, tuned_one, *rest):
        fits["plain"] = weights(plain).clone()
        fits[left[0]] = weights(tuned_one).clone()
        return {"gain": left.pop(0), "gain_error": 0.1}

    def remember(self, estimator, *arguments, **settings):
        history = improve(self, estimator, *arguments, **settings)
        fits["kept"] = weights(estimator).clone()
        fits["other"] = weights(self.others[estimator]).clone()
        return history

    improve = tuned.Tuner.improve
    monkeypatch.setattr(tuned_attempt, "_CLEAR", clear)
    monkeypatch.setattr(tuned_attempt, "_compare", compare)
    monkeypatch.setattr(tuned.Tuner, "improve", remember)
    trainer = make()
    trainer.train(tune=True, **SHORT)
    [entry] = trainer.summary["tuning"]
    assert torch.equal(weights(trainer._neural_net), fits["kept"])
    return fits, [report["is_kept"] for report in entry["structures"]]


def test_something_else_is_tuned_where_the_first_fails(monkeypatch):
    def fail_first(names, *arguments, **settings):
        if names == list(DEFAULT_ATTEMPTS[0]):
            raise ValueError("`training_loss` must be finite, got nan.")
        return search(names, *arguments, **settings)

    search = tuned_attempt.search_hyperparameters
    monkeypatch.setattr(tuned_attempt, "search_hyperparameters", fail_first)
    trainer = make()
    with pytest.warns(TuningWarning, match="weight_decay, octaves could not be tuned"):
        trainer.train(tune=True, **SHORT)
    first, second = trainer.summary["tuning"][-1]["structures"]
    assert "must be finite" in first["given_up"] and "gain" in second


def test_fit_without_a_finite_loss_is_neither_kept_nor_offered(monkeypatch):
    def spoil(*arguments):
        found = compare(*arguments)
        return {**found, "gain": float("nan")}

    compare = tuned_attempt._compare
    monkeypatch.setattr(tuned_attempt, "_compare", spoil)
    trainer, plain = make(), make()
    with pytest.warns(TuningWarning, match="held-out loss must be finite"):
        trainer.train(tune="dropout", **SHORT)
    plain.train(**SHORT)
    assert torch.equal(weights(trainer._neural_net), weights(plain._neural_net))
    assert "must be finite" in get_report(trainer)["given_up"]


@pytest.mark.parametrize(
    ("gains", "kept", "other"),
    [
        ((0.1, 0.2), 0.2, 0.1),
        ((0.2, 0.1), 0.2, 0.1),
        ((-0.1, 0.2), 0.2, "plain"),
        ((0.1, -0.2), 0.1, "plain"),
        ((-0.2, -0.1), "plain", -0.1),
    ],
)
def test_best_fit_is_kept_and_the_next_best_offered(gains, kept, other, monkeypatch):
    fits, are_kept = tune_with_gains(monkeypatch, *gains)
    assert are_kept == [gain == kept for gain in gains]
    for role, name in (("kept", kept), ("other", other)):
        assert torch.equal(fits[role], fits[name])
        assert not any(
            torch.equal(fits[role], fits[name])
            for name in (*gains, "plain")
            if name not in (kept, other)
        )


@pytest.mark.parametrize(
    ("gains", "are_kept"), [((0.25,), [True]), ((0.15, 0.1), [True, False])]
)
def test_nothing_else_is_tuned_where_the_gain_is_clear(gains, are_kept, monkeypatch):
    assert tune_with_gains(monkeypatch, *gains, clear=2.0)[1] == are_kept
