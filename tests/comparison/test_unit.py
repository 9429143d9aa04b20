"""Rows of the table, against sbi run by hand."""

import warnings

import numpy as np
import pytest
import torch
from sbi.inference import NPE_C, NRE_A

from sbi_aalr.comparison import compare, mmd, two_sample_scores
from sbi_aalr.comparison.tasks import observe
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.trainer.no_tracker import NoTracker

BUDGET, SEED, NUM_SAMPLES = 60, 3, 100


def set_seed():
    torch.manual_seed(SEED)
    np.random.seed(SEED)


def run_small(folder, methods):
    table = compare(
        ["two_moons"],
        methods,
        [BUDGET],
        out=folder,
        observations=1,
        seeds=[SEED],
        num_samples=NUM_SAMPLES,
        show_progress_bars=False,
    )
    return table.set_index("method")


@pytest.mark.usefixtures("hasty_recipe")
def test_small_run_has_every_metric_that_applies(tmp_path):
    row = run_small(tmp_path, ["aalr"]).loc["aalr"]
    expect_metrics(row, has_chains=True)
    assert row["max_rhat"] <= 1.01


def expect_metrics(row, has_chains):
    assert row["error"] == ""
    chains = row[["min_ess", "max_rhat"]]
    assert chains.notna().all() if has_chains else chains.isna().all()
    assert row.drop([*chains.index, "ratio_roc_auc"]).notna().all()
    # Only where there are no exact draws.
    assert np.isnan(row["ratio_roc_auc"])
    assert 0.4 <= row["c2st"] <= 1 and 0.4 <= row["roc_auc"] <= 1
    assert row["num_evaluations"] >= NUM_SAMPLES


@pytest.mark.parametrize(
    ("name", "trainer"),
    [pytest.param("nre_a", NRE_A, marks=pytest.mark.slow), ("npe", NPE_C)],
)
def test_numbers_agree_with_sbi_by_hand(tmp_path, name, trainer):
    folder, table = tmp_path, run_small(tmp_path, [name])
    task = TwoMoons()
    observation = observe(folder / "observations", "two_moons", task, 1, NUM_SAMPLES)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_seed()
        theta = task.prior.sample((BUDGET,))
        x = task.simulate(theta)
        inference = trainer(
            prior=task.prior, tracker=NoTracker(), show_progress_bars=False
        )
        inference.append_simulations(theta, x).train()
        posterior = inference.build_posterior()
        set_seed()
        draws = posterior.sample(
            (NUM_SAMPLES,), x=observation.x, show_progress_bars=False
        )
    expected = two_sample_scores(draws, observation.reference)
    row = table.loc[name]
    expect_metrics(row, has_chains=name == "nre_a")
    assert row["c2st"] == pytest.approx(expected.c2st)
    assert row["roc_auc"] == pytest.approx(expected.roc_auc)
    assert row["mmd"] == pytest.approx(mmd(draws, observation.reference))
    if name == "npe":
        exact = posterior.log_prob(observation.theta[None], x=observation.x)
        assert row["log_prob_true"] == pytest.approx(float(exact), abs=0.1)


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
