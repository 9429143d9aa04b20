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

BUDGET, SEED, NUM_SAMPLES = 120, 3, 200


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


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return folder, run_small(folder, ["aalr", "nre_a", "npe"])


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
