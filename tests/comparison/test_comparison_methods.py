"""sbi's methods in the comparison, against sbi run by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from sbi.inference import NPE_C, NRE_A

from sbi_aalr import AALR
from sbi_aalr.comparison import METHODS, compare, mmd, two_sample_scores
from sbi_aalr.comparison.evaluations import count_evaluations
from sbi_aalr.comparison.fits import fit
from sbi_aalr.comparison.memory import read_peak_memory, reset_peak_memory
from sbi_aalr.comparison.methods import build_posterior, draw
from sbi_aalr.comparison.mixing import measure_mixing
from sbi_aalr.comparison.tasks import observe
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.trainer.sbi_trainer import NoTracker

BUDGET, SEED, NUM_SAMPLES = 120, 3, 200
QUIET = {"tracker": NoTracker(), "show_progress_bars": False}


def set_seed():
    torch.manual_seed(SEED)
    np.random.seed(SEED)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    table = compare(
        ["two_moons"],
        ["aalr", "nre_a", "npe"],
        [BUDGET],
        out=folder,
        observations=1,
        seeds=[SEED],
        num_samples=NUM_SAMPLES,
        show_progress_bars=False,
    )
    return folder, table.set_index("method")


def test_small_run_has_every_metric_that_applies(small_run):
    _, table = small_run
    assert set(table["error"]) == {""}
    chains = table[["min_ess", "max_rhat"]]
    assert chains.loc[["aalr", "nre_a"]].notna().all(axis=None)
    assert chains.loc["npe"].isna().all()
    others = table.drop(columns=[*chains.columns, "ratio_roc_auc"])
    assert others.notna().all(axis=None)
    # Only where there are no exact draws.
    assert table["ratio_roc_auc"].isna().all()
    assert (
        table["c2st"].between(0.4, 1).all() and table["roc_auc"].between(0.4, 1).all()
    )
    assert (table["num_evaluations"] >= NUM_SAMPLES).all()
    assert table.loc["aalr", "max_rhat"] <= 1.01


@pytest.mark.parametrize(("name", "trainer"), [("nre_a", NRE_A), ("npe", NPE_C)])
def test_numbers_agree_with_sbi_by_hand(small_run, name, trainer):
    folder, table = small_run
    task = TwoMoons()
    observation = observe(folder / "observations", "two_moons", task, 1, NUM_SAMPLES)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_seed()
        theta = task.prior.sample((BUDGET,))
        x = task.simulate(theta)
        inference = trainer(prior=task.prior, **QUIET)
        inference.append_simulations(theta, x).train()
        posterior = inference.build_posterior()
        set_seed()
        draws = posterior.sample(
            (NUM_SAMPLES,), x=observation.x, show_progress_bars=False
        )
    expected = two_sample_scores(draws, observation.reference)
    row = table.loc[name]
    assert row["c2st"] == pytest.approx(expected.c2st)
    assert row["roc_auc"] == pytest.approx(expected.roc_auc)
    assert row["mmd"] == pytest.approx(mmd(draws, observation.reference))
    if name == "npe":
        exact = posterior.log_prob(observation.theta[None], x=observation.x)
        assert row["log_prob_true"] == pytest.approx(float(exact), abs=0.1)


@pytest.mark.parametrize(
    "name",
    [
        "aalr",
        "nre_a",
        "npe",
        "nle",
        *[
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("nre_b", "nre_c", "bnre", "snre", "snpe")
        ],
    ],
)
def test_fit_comes_back_from_disk(tmp_path, name, monkeypatch):
    method, task = METHODS[name], TwoMoons()
    x_o = torch.zeros(1, 2)
    folder, budget = tmp_path / "fit", 60 if method.rounds == 1 else 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = fit(folder, method, task, budget, SEED, x_o)
        monkeypatch.setattr("sbi_aalr.comparison.methods.fit", None)
        second = fit(folder, method, task, budget, SEED, x_o)
        theta = task.prior.sample((50,))
        values = [
            build_posterior(method, task, part.network).potential(theta, x=x_o)
            for part in (first, second)
        ]
    assert torch.equal(*values) and torch.isfinite(values[0]).all()
    assert second[1:] == first[1:] and first.train_seconds > 0


def test_evaluations_of_our_sampler_are_its_proposals():
    task = TwoMoons()
    trainer = AALR(task.prior, **QUIET)
    trainer.train_online(task.simulate, num_simulations=500, seed=1)
    posterior = trainer.build_posterior()
    settings = {"num_chains": 10, "warmup_steps": 100, "max_rhat": None, "thin": 3}
    settings |= {"min_ess": None, "init_strategy": "proposal"}
    with count_evaluations(posterior) as counter:
        posterior.sample(
            (50,), x=torch.zeros(2), seed=1, show_progress_bars=False, **settings
        )
    # Warm-up runs 100 chains; each starts with one evaluation.
    at_least = 100 * 100 + 10 * 5 * 3
    assert at_least <= counter.total <= 1.6 * at_least
    before = counter.total
    posterior.potential(torch.zeros(7, 2), x=torch.zeros(2))
    assert counter.total == before


def test_evaluations_of_density_estimators_are_counted():
    task = TwoMoons()
    theta = task.prior.sample((60,))
    x = task.simulate(theta)
    inference = NPE_C(prior=task.prior, **QUIET)
    posterior = inference.build_posterior(inference._build_neural_net(theta, x))
    network = posterior.posterior_estimator
    with count_evaluations(posterior) as counter:
        network.sample((5,), condition=x[:3])
        assert counter.total == 15
        network.log_prob(theta[:4].unsqueeze(0), condition=x[:4])
        assert counter.total == 19
    network.sample((5,), condition=x[:3])
    assert counter.total == 19
    with count_evaluations(object()) as counter:
        assert math.isnan(counter.total)


def test_mixing_of_sbi_s_chains_sees_one_that_is_stuck():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = TwoMoons()
        inference = NRE_A(prior=task.prior, **QUIET)
        network = inference._build_neural_net(*(torch.randn(2, 50, 2)))
        posterior = inference.build_posterior(network)
    good = torch.randn(posterior.num_chains * 50, 2)
    mixing = measure_mixing(posterior, good)
    assert mixing.max_rhat < 1.02 and 500 < mixing.min_ess < 1_500
    stuck = good.clone()
    stuck[:50] = 3.0
    mixing = measure_mixing(posterior, stuck)
    assert mixing.max_rhat > 1.05
    # A chain that was cut short is left out.
    assert math.isfinite(measure_mixing(posterior, good[:-7]).min_ess)


def test_peak_memory_rises_with_what_is_held_and_falls_after_a_reset():
    reset_peak_memory()
    before = read_peak_memory()
    held = torch.ones(64 * 2**20 // 4)
    assert read_peak_memory() > before + 50
    del held
    reset_peak_memory()
    assert read_peak_memory() < before + 40


def test_rejection_without_end_is_given_up(monkeypatch):
    task = TwoMoons()
    theta = task.prior.sample((60,))
    inference = NPE_C(prior=task.prior, **QUIET)
    network = inference._build_neural_net(theta + 100, task.simulate(theta))
    posterior = inference.build_posterior(network)
    monkeypatch.setattr("sbi_aalr.comparison.methods._MAX_REJECTION_SECONDS", 0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="time"):
            draw(posterior, 10, torch.zeros(1, 2))


@pytest.mark.slow
def test_ratio_is_tested_where_there_are_no_exact_draws(tmp_path):
    table = compare(
        ["mg1"],
        ["aalr"],
        [500],
        out=tmp_path,
        observations=1,
        num_samples=200,
        show_progress_bars=False,
    )
    assert table["error"].item() == ""
    assert 0.5 <= table["ratio_roc_auc"].item() <= 1
    assert table["c2st"].isna().all()
