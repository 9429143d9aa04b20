"""`train(tune=...)`: what is tuned, what is kept of it, and that nothing leaks."""

import copy

import pytest
import torch
from linear_gaussian import draw_pairs
from trainers import get_estimator, make_trainer, weights
from tunable import NUM_ROWS, SHORT, get_report, keep, make

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.errors import TuningWarning
from sbi_aalr.simulation.batches import Batch
from sbi_aalr.simulators import GaussianLinear, TwoMoons
from sbi_aalr.trainer.tuned import DEFAULT_ATTEMPTS
from sbi_aalr.training import tuned, tuned_attempt
from sbi_aalr.training.ratio_loss import RatioLoss
from sbi_aalr.tuning.ratio import TUNABLE

pytestmark = [
    pytest.mark.usefixtures("hasty_search"),
    pytest.mark.filterwarnings("ignore:Maximum number of epochs"),
]


@pytest.mark.parametrize("name", TUNABLE)
def test_every_name_is_tuned_and_leaves_a_usual_estimator(name, monkeypatch):
    keep(monkeypatch)
    trainer = make()
    estimator = trainer.train(tune=(name,), **SHORT)
    report = get_report(trainer)
    assert report["names"] == [name] and report["is_kept"]
    assert "given_up" not in report
    ends = report["hyperparameters"][name]
    assert ends["from"] != ends["to"]
    assert report["num_hyperparameters"] > 0
    assert not estimator.training
    assert not any(module._forward_hooks for module in estimator.modules())
    assert all(p.requires_grad for p in estimator.parameters())
    theta, _, x = draw_pairs(50, seed=5)
    assert torch.isfinite(estimator(theta, x)).all()


@pytest.mark.parametrize("base", [None, pytest.param("auto", marks=pytest.mark.slow)])
def test_what_is_kept_is_the_plain_fit_or_the_tuned_one(base, monkeypatch):
    plain = get_estimator_of(make(base), False)
    found = {}
    for is_kept in (True, False):
        keep(monkeypatch, is_kept)
        trainer = make(base)
        found[is_kept] = get_estimator_of(trainer, True)
        [entry] = trainer.summary["tuning"]
        assert entry["is_kept"] == is_kept
        kept = [report["is_kept"] for report in entry["structures"]]
        assert any(kept) == is_kept
    # Bit for bit, so that a guard that says no costs time and nothing else.
    assert torch.equal(weights(found[False]), weights(plain))
    assert not torch.equal(weights(found[True]), weights(plain))


def get_estimator_of(trainer, tune):
    trainer.train(tune=tune, **SHORT)
    # The tuned structures, as the stack may leave some out.
    if trainer._structures is None:
        return trainer._neural_net
    return torch.nn.ModuleList(one.estimator for one in trainer._structures)


@pytest.mark.slow
def test_every_structure_that_is_trained_is_tuned():
    trainer = make("auto")
    trainer.train(tune=("weight_decay", "octaves", "x_noise"), **SHORT)
    [entry] = trainer.summary["tuning"]
    assert entry["names"] == ["weight_decay", "octaves", "x_noise"]
    tuned_names = [(one["structure"], one["names"]) for one in entry["structures"]]
    every = ["weight_decay", "octaves", "x_noise"]
    assert tuned_names == [
        ("posterior_mixture", ["weight_decay", "x_noise"]),
        ("likelihood_mixture", ["weight_decay"]),
        ("likelihood_mixture", ["weight_decay"]),
        ("two_towers", every),
    ]
    assert entry["seconds"] > entry["plain_seconds"] > 0
    # The stack may choose the other fit of each as well.
    tried = trainer.summary["recipe"][-1]["structures"]
    others = [one for one in tried if one.get("is_runner_up")]
    assert [one["structure"] for one in others] == [name for name, _ in tuned_names]
    assert all(one["weight"] >= 0 and "held_out_loss" in one for one in others)


def test_the_stack_takes_the_fit_that_was_not_kept_if_it_is_better(monkeypatch):
    def spoil(self, estimator, begun, passes, history, **settings):
        self.others[estimator] = copy.deepcopy(estimator)
        self.reports.append({"is_kept": True, "plain_seconds": history.seconds})
        for parameter in estimator.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
        return history

    monkeypatch.setattr(tuned.Tuner, "improve", spoil)
    # No closed form is right here.
    task = TwoMoons()
    torch.manual_seed(1)
    theta = task.prior.sample((NUM_ROWS,))
    trainer = AALR(task.prior, show_progress_bars=False)
    trainer.append_simulations(theta, task.simulate(theta))
    trainer.train(tune=True, **SHORT)
    tried = trainer.summary["recipe"][-1]["structures"]
    trained = [one for one in tried if "num_passes" in one]
    others = [one for one in tried if one.get("is_runner_up")]
    assert len(others) == len(trained)
    assert sum(one["weight"] for one in trained) < 0.05
    assert sum(one["weight"] for one in others) > 0.2


def test_the_same_seed_finds_the_same_and_leaves_the_generators_alone(monkeypatch):
    keep(monkeypatch)
    found = []
    state = torch.get_rng_state()
    for seed in (1, 1, 2):
        trainer = make()
        trainer.train(tune=("weight_decay", "dropout"), **{**SHORT, "seed": seed})
        found.append((weights(trainer._neural_net), get_report(trainer)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1]["hyperparameters"] == found[1][1]["hyperparameters"]
    assert found[0][1]["held_out_loss"] == found[1][1]["held_out_loss"]
    assert not torch.equal(found[0][0], found[2][0])


def test_summary_says_what_it_cost_and_what_it_did(monkeypatch):
    monkeypatch.setattr(tuned_attempt, "_CLEAR", -1e9)
    trainer = make()
    trainer.train(tune=True, **SHORT)
    report = get_report(trainer)
    assert tuple(report["names"]) == DEFAULT_ATTEMPTS[0]
    losses = report["held_out_loss"]
    assert report["gain"] == pytest.approx(losses["plain"] - losses["tuned"])
    assert report["is_kept"] == (report["gain"] > 0)
    parts = ("search_seconds", "final_seconds")
    assert 0 < sum(report[part] for part in parts) <= report["seconds"]
    [seconds] = trainer.summary["fit_seconds"]
    assert report["plain_seconds"] + report["seconds"] <= seconds
    counts = [report[f"num_{part}"] for part in ("training", "tuning", "held_out")]
    assert counts == [203, 67, 30]


def test_three_parts_share_no_row(monkeypatch):
    seen = {}
    split = tuned.split_for_tuning

    def remember(theta, x, seed):
        seen["rows"] = split(theta, x, seed)
        return seen["rows"]

    monkeypatch.setattr(tuned, "split_for_tuning", remember)
    trainer = make()
    trainer.train(tune=True, **SHORT)
    theta, x, training, tuning = seen["rows"]
    held_out = trainer._theta_roundwise[0][trainer.val_indices]
    parts = [theta[training], theta[tuning], held_out]
    every = torch.cat(parts)
    assert len(every.unique(dim=0)) == len(every) == NUM_ROWS
    # Each x is still that of its theta.
    assert torch.equal(x, trainer._x_roundwise[0][trainer.train_indices])


@pytest.mark.parametrize(
    "name",
    ["weight_decay", pytest.param("each_weight_decay", marks=pytest.mark.slow)],
)
def test_tuning_rows_of_noise_gain_nothing_on_the_report(name, monkeypatch):
    """The control of leaks: what fits noise is seen on rows that did not tune."""
    split = tuned.split_for_tuning

    def spoil(theta, x, seed):
        rows = split(theta, x, seed)
        x = x.clone()
        x[rows.tuning] = x[rows.tuning][torch.randperm(len(rows.tuning))]
        return rows._replace(x=x)

    monkeypatch.setattr(tuned, "split_for_tuning", spoil)
    trainer, plain = make(num_rows=600), make(num_rows=600)
    trainer.train(tune=name, seed=1)
    report = get_report(trainer)
    assert report["gain"] <= 0 and not report["is_kept"]
    # So what comes out is as if nothing had been tuned.
    plain.train(seed=1)
    assert torch.equal(weights(trainer._neural_net), weights(plain._neural_net))


@torch.no_grad()
def measure_loss(estimator, theta, x):
    parts = zip(theta.split(128), x.split(128), strict=True)
    losses = [RatioLoss().of_batch(estimator, Batch(t, None, d)) for t, d in parts]
    return torch.cat(losses)


@pytest.mark.slow
def test_towers_that_over_fit_are_helped():
    """Of ten parameters and few rows they learn noise from the third pass on."""
    task = GaussianLinear()
    torch.manual_seed(1)
    theta = task.prior.sample((3_048,))
    x = task.simulate(theta)
    losses = []
    for tune in (False, True):
        trainer = make_trainer("two_towers", prior=task.prior)
        trainer.append_simulations(theta[:1_000], x[:1_000]).train(tune=tune, seed=1)
        losses.append(measure_loss(trainer._neural_net, theta[1_000:], x[1_000:]))
    assert get_report(trainer)["is_kept"]
    gains = losses[0] - losses[1]
    assert gains.mean() > 5 * gains.std() / len(gains) ** 0.5


@pytest.mark.parametrize("classifier", ["residual_mlp", "mlp"])
def test_other_networks_are_tuned_too(classifier, monkeypatch):
    keep(monkeypatch)
    trainer = make(classifier=classifier)
    trainer.train(tune=("weight_decay", "x_noise"), **SHORT)
    assert get_report(trainer)["is_kept"]


def test_by_default_a_network_is_tuned_in_what_it_has(monkeypatch):
    keep(monkeypatch)
    trainer = make(classifier="mlp")
    trainer.train(tune=True, **SHORT)
    assert get_report(trainer)["names"] == ["weight_decay"]


def test_training_goes_on_with_other_things_tuned(monkeypatch):
    keep(monkeypatch)
    trainer = make()
    trainer.train(tune=("octaves",), **SHORT)
    with pytest.warns(TuningWarning, match="rows that tune now.*retrain_from_scratch"):
        trainer.train(tune=("weight_decay",), resume_training=True, **SHORT)
    assert [entry["names"] for entry in trainer.summary["tuning"]] == [
        ["octaves"],
        ["weight_decay"],
    ]
    trainer.train(resume_training=True, **SHORT)
    assert len(trainer.summary["tuning"]) == 2


def test_a_tuned_posterior_is_saved_like_any_other(monkeypatch, tmp_path):
    keep(monkeypatch)
    # Only what has a name can be rebuilt.
    trainer = make(classifier="two_towers")
    trainer.train(tune=("octaves", "dropout", "weight_decay"), **SHORT)
    trainer.build_posterior().save(tmp_path / "saved")
    loaded = MHPosterior.load(tmp_path / "saved").potential_fn.ratio_estimator
    theta, _, x = draw_pairs(20, seed=3)
    with torch.no_grad():
        assert torch.allclose(loaded(theta, x), get_estimator(trainer)(theta, x))
