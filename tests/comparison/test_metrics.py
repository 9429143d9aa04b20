"""Metrics of exact draws, of spoiled ones, and of chains that are stuck."""

import math
import warnings
from functools import cache

import pytest
import torch
from joblib import parallel_config
from sbi.inference import NRE_A
from scipy import stats
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from sbi_aalr import MHPosterior, networks
from sbi_aalr.comparison import TASKS, mmd, two_sample_scores
from sbi_aalr.comparison.metrics import measure_mixing
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.trainer.sbi_trainer import NoTracker

EXACT = [name for name, task in TASKS.items() if hasattr(task, "sample_posterior")]
QUICK = {"slcp", "slcp_distractors", "two_moons", "gaussian_linear", "gaussian_mixture"}
CASES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in EXACT
]
SIZE = 500


@cache
def draw(name):
    """Two independent sets of exact draws, and the prior's width in each dimension."""
    torch.manual_seed(7)
    task = TASKS[name]()
    x_o = task.simulate(task.prior.sample((1,)))
    first, second = (task.sample_posterior(SIZE, x_o, seed=seed) for seed in (1, 2))
    return first, second


def spoil(draws):
    """Widen by a quarter and shift by half a standard deviation."""
    return draws.mean(0) + 1.25 * (draws - draws.mean(0)) + draws.std(0) / 2


def test_all_tasks_but_the_paper_s_have_exact_posteriors():
    assert set(TASKS) - set(EXACT) == {"lotka_volterra_jumps", "mg1"}


@pytest.mark.parametrize("name", CASES)
def test_c2st_and_roc_auc_of_exact_draws_are_one_half(name):
    first, second = draw(name)
    scores = two_sample_scores(first, second)
    # Each of the 2 S draws is held out once; the AUCs are those of five folds.
    assert abs(scores.c2st - 0.5) < 5 * 0.5 / math.sqrt(2 * SIZE)
    assert abs(scores.roc_auc - 0.5) < 5 / math.sqrt(6 * SIZE)


@pytest.mark.parametrize("name", CASES)
def test_c2st_and_roc_auc_of_spoiled_draws_are_higher(name):
    first, second = draw(name)
    scores = two_sample_scores(spoil(first), second)
    assert scores.c2st > 0.5 + 5 * 0.5 / math.sqrt(2 * SIZE)
    assert scores.roc_auc > 0.5 + 5 / math.sqrt(6 * SIZE)


@pytest.mark.parametrize("name", CASES)
def test_mmd_of_exact_draws_is_zero(name):
    first, second = draw(name)
    pairs = list(zip(first.split(100), second.split(100), strict=True))
    exact = torch.tensor([mmd(one, other) for one, other in pairs])
    spoiled = torch.tensor([mmd(spoil(one), other) for one, other in pairs])
    error = exact.std() / math.sqrt(len(pairs))
    assert abs(exact.mean()) < 5 * error
    assert spoiled.mean() > 5 * error


def test_c2st_is_sbi_s_and_the_perceptron_s():
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(120, 2, generator=generator)
    draws = torch.randn(120, 2, generator=generator) + 0.5
    classifier = MLPClassifier(
        hidden_layer_sizes=(20, 20),
        max_iter=1000,
        early_stopping=True,
        n_iter_no_change=50,
        random_state=1,
    )
    mean, std = reference.mean(0), reference.std(0)
    rows = (torch.cat([reference, draws]) - mean) / std
    labels = torch.arange(240) >= 120
    scores = {
        metric: cross_val_score(
            classifier,
            rows.numpy(),
            labels.double().numpy(),
            cv=KFold(n_splits=5, shuffle=True, random_state=1),
            scoring=metric,
        ).mean()
        for metric in ("accuracy", "roc_auc")
    }
    result = two_sample_scores(draws, reference)
    assert result.c2st == pytest.approx(scores["accuracy"])
    assert result.roc_auc == pytest.approx(scores["roc_auc"])


def test_scores_hold_inside_a_pool_of_processes():
    rows = torch.randn(2, 60, 2, generator=torch.Generator().manual_seed(1))
    with parallel_config(backend="loky", n_jobs=2):
        inside = two_sample_scores(*rows)
    assert inside == two_sample_scores(*rows)


def test_mmd_by_hand():
    draws = torch.tensor([[0.0], [1.0]])
    reference = torch.tensor([[0.0], [2.0]])

    def kernel(distance):
        return math.exp(-((distance / 2) ** 2) / 2)

    cross = (kernel(0) + kernel(2) + kernel(1) + kernel(1)) / 4
    expected = kernel(1) + kernel(2) - 2 * cross
    assert mmd(draws, reference) == pytest.approx(expected, abs=1e-6)


def test_mmd_in_blocks_equals_the_gaussian_formula():
    # E k(x, y) of two Gaussians under a Gaussian kernel is known in closed form.
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(4_000, 1, generator=generator)
    draws = torch.randn(4_500, 1, generator=generator) + 1
    # The median distance of two draws of N(0, 1).
    width = (math.sqrt(2) * stats.norm.ppf(0.75)) ** 2

    def mean_kernel(gap):
        total = width + 2
        return math.sqrt(width / total) * math.exp(-(gap**2) / (2 * total))

    expected = 2 * (mean_kernel(0) - mean_kernel(1))
    assert mmd(draws, reference) == pytest.approx(expected, rel=0.1)


def test_mmd_does_not_depend_on_units_or_place():
    first, second = draw("two_moons")
    expected = mmd(spoil(first), second)
    moved = mmd(1e-3 * spoil(first) + 1, 1e-3 * second + 1)
    assert moved == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("draws", "match"),
    [
        (torch.zeros(5, 3), "must have the same shape"),
        (torch.zeros(5), "must have the same shape"),
        (torch.zeros(1, 2), "at least two rows|same shape"),
        (torch.full((5, 2), math.nan), "`draws` must be finite"),
    ],
)
def test_bad_draws_raise(draws, match):
    for score in (mmd, two_sample_scores):
        with pytest.raises(ValueError, match=match):
            score(draws, torch.ones(5, 2))


def test_mixing_of_sbi_s_chains_sees_one_that_is_stuck():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = TwoMoons()
        inference = NRE_A(
            prior=task.prior, tracker=NoTracker(), show_progress_bars=False
        )
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


def test_mixing_of_our_chains_is_what_the_posterior_measured():
    estimator = networks.mlp((8,))(*torch.randn(2, 50, 2)).eval()
    posterior = MHPosterior.from_estimator(estimator, TwoMoons().prior)
    settings = {"num_chains": 10, "max_rhat": None, "min_ess": None, "seed": 1}
    draws = posterior.sample(
        (200,), x=torch.zeros(2), show_progress_bars=False, **settings
    )
    mixing, table = measure_mixing(posterior, draws), posterior.summary()
    assert mixing.max_rhat == pytest.approx(table["r_hat"].max(), rel=1e-4)
    sizes = table[["ess_bulk", "ess_tail"]].min(axis=None)
    assert mixing.min_ess == pytest.approx(sizes, rel=1e-3)


def test_mixing_where_there_are_no_chains_is_unknown():
    assert all(map(math.isnan, measure_mixing(object(), torch.zeros(5, 2))))
