"""Which colour the report gives to what, without drawing anything."""

from functools import cache

import numpy as np
import pytest
import torch
from helpers import make_generator
from linear_gaussian import PRIOR, X_O, exact_posterior, simulate
from spoiled import KINDS, POSTERIORS, RATIOS

from sbi_aalr.diagnostics import (
    ClassifierBalance,
    measure_misspecification,
    to_datatree,
)
from sbi_aalr.errors import FarObservationWarning
from sbi_aalr.report import Checks, Evidence, Verdict, run_checks
from sbi_aalr.report.evidence import ChainCheck
from sbi_aalr.report.verdicts import (
    judge_all,
    judge_convergence,
    judge_ratio,
    sum_up,
)


def make_tree(x_o=X_O, **attributes):
    torch.manual_seed(0)
    mean, scale = exact_posterior(x_o)
    theta = mean + scale * torch.randn(4, 250, 2)
    return to_datatree(theta, observed_data=x_o, attributes=attributes)


def judge(tree, checks):
    convergence = Evidence(tree, "").measure_convergence()
    return {one.question: one for one in judge_all(convergence, checks)}


@cache
def check(kind, far=1):
    return run_checks(
        make_tree(far * X_O),
        POSTERIORS[kind],
        RATIOS[kind],
        simulate,
        PRIOR,
        num_simulations=4_000,
        seed=1,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_exact_network_is_green_and_spoiled_ones_are_not(kind):
    checks, tree = check(kind)
    verdicts = judge(tree, checks)
    states = {question: one.state for question, one in verdicts.items()}
    assert states["Data familiar?"] == "good"
    # These chains are exact, and no draws of a spoiled ratio.
    assert states["Converged?"] == ("good" if kind == "exact" else "bad")
    answer = sum_up(list(verdicts.values()))
    if kind == "exact":
        assert set(states.values()) == {"good"}
        assert (answer.state, answer.answer) == ("good", "No flaw found")
    else:
        assert states["Ratio sound?"] == "bad"
        expected = "doubtful" if kind == "under-confident" else "bad"
        assert states["Calibrated?"] == expected
        assert answer.state == "bad"
        assert "“Ratio sound?”" in answer.reason


def test_observation_far_away_is_red_and_warned_of():
    with pytest.warns(FarObservationWarning, match="The observation is farther"):
        checks, tree = check("exact", far=100)
    verdict = judge(tree, checks)["Data familiar?"]
    assert (verdict.state, verdict.answer) == ("bad", "No")
    assert "Check units" in verdict.reason


def test_counts_that_have_their_equals_are_judged():
    x = torch.poisson(torch.full((400, 1), 3.0), generator=make_generator(1))
    for x_o, state in ((x[0], "good"), (torch.tensor([90.0]), "bad")):
        familiarity = measure_misspecification(x_o[None], x)
        verdict = judge(make_tree(), Checks(familiarity=familiarity))["Data familiar?"]
        assert verdict.state == state
        assert "interquartile ranges; the limit is" in verdict.reason


def test_without_a_simulator_four_questions_are_open_and_none_is_green():
    verdicts = judge(make_tree(), Checks())
    states = [one.state for one in verdicts.values()]
    assert states == ["good", *["unknown"] * 4]
    answer = sum_up(list(verdicts.values()))
    assert answer.state == "unknown"
    assert answer.answer == "Nothing wrong found, but not all was checked"
    assert "“Calibrated?”, “Ratio sound?”, “Data familiar?”" in answer.reason


def test_what_cannot_be_judged_is_open_too():
    checks, tree = check("exact")
    harder = {"min_effective_sample_size": 1e9}
    roc = type(checks.ratio_roc)(**{**vars(checks.ratio_roc), **harder})
    weak = Checks(ratio_roc=roc, coverage=checks.coverage)
    assert judge(tree, weak)["Ratio sound?"].state == "unknown"


def make_convergence(r_hat, ess, stuck=0):
    shape = (len(r_hat), 1)
    return ChainCheck(
        np.reshape(r_hat, shape).astype(float),
        np.reshape(ess, shape).astype(float),
        np.full(shape, stuck),
        max_rhat=1.01,
        min_ess=400.0,
    )


@pytest.mark.parametrize(
    ("r_hat", "ess", "stuck", "state"),
    [
        (1.005, 500, 0, "good"),
        (1.02, 500, 0, "doubtful"),
        (1.005, 399.9, 0, "doubtful"),
        (1.2, 500, 0, "bad"),
        (1.005, 500, 1, "bad"),
        (np.nan, 500, 0, "bad"),
        (1.005, np.nan, 0, "doubtful"),
        (np.inf, 500, 0, "bad"),
    ],
)
def test_convergence_by_hand(r_hat, ess, stuck, state):
    found = judge_convergence(make_convergence([r_hat], [ess], stuck))
    assert found.state == state
    assert ("Sample longer" in found.reason) == (state != "good")


def test_limits_are_those_of_the_run_where_they_are_stricter():
    found = Evidence(make_tree(max_rhat=1.0001, min_ess=50), "").measure_convergence()
    assert (found.max_rhat, found.min_ess) == (1.0001, 400)
    assert (found.run_max_rhat, found.run_min_ess) == (None, 50)
    verdict = judge_convergence(found)
    assert verdict.state == "doubtful" and "(limit 1.0001)" in verdict.reason
    assert "was content with the effective sample size 50, less" in verdict.reason


@pytest.mark.parametrize("max_rhat", [9.01, 1.05, -1.0, np.nan, np.inf, "much", [2, 3]])
def test_loose_limit_of_the_run_does_not_decide(max_rhat):
    tree = make_tree(max_rhat=max_rhat)
    # Chains that tell different stories.
    tree["posterior"]["theta"][0] += 1
    found = Evidence(tree, "").measure_convergence()
    assert found.max_rhat == 1.01
    verdict = judge_convergence(found)
    assert verdict.state == "bad" and "(limit 1.01)" in verdict.reason
    is_told = max_rhat in (9.01, 1.05)
    assert (f"was content with R-hat {max_rhat}" in verdict.reason) == is_told


def test_order_puts_faults_first_then_r_hat_then_ess():
    found = make_convergence(
        [1.001, 1.003, np.nan, 1.2, 1.002, 1.002], [900, 900, 900, 900, 500, 800]
    )
    assert found.order_by_trouble(None) == [2, 3, 1, 4, 5, 0]
    far = np.array([True, False, False, False, False, False])
    assert found.order_by_trouble(far) == [2, 3, 0, 1, 4, 5]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("good", "good"), "good"),
        (("good", "unknown"), "unknown"),
        (("doubtful", "unknown"), "doubtful"),
        (("bad", "doubtful"), "bad"),
        (("unknown", "bad"), "bad"),
    ],
)
def test_sum_is_as_bad_as_the_worst(states, expected):
    verdicts = [Verdict("Q?", state, "", "") for state in states]
    assert sum_up(verdicts).state == expected


def test_coverage_of_single_trials_says_nothing_of_many_together():
    torch.manual_seed(3)
    trials = simulate(torch.tensor([[0.5, -0.5]]).expand(50, 2))
    calls = []

    def count(theta):
        calls.append(len(theta))
        return simulate(theta)

    mean, scale = exact_posterior(trials[:1])
    draws = mean + scale * torch.randn(4, 250, 2) / 50**0.5
    tree = to_datatree(draws, observed_data=trials)
    exact = POSTERIORS["exact"], RATIOS["exact"]
    checks, _ = run_checks(tree, *exact, count, PRIOR, num_simulations=4_000)
    verdict = judge(tree, checks)["Calibrated?"]
    assert (verdict.state, checks.coverage) == ("unknown", None)
    assert "50 together" in verdict.reason
    assert sum(calls) < 80_000


def test_a_large_imbalance_is_no_small_flaw():
    """A level that is off by many nats, where the other tests cannot be judged."""
    for total, state in ((0.94, "doubtful"), (0.38, "bad")):
        balance = ClassifierBalance(total, 0.0, 0.005, 3.0, 0.05)
        verdict = judge_ratio(Checks(balance=balance))
        assert (verdict.question, verdict.state) == ("Ratio sound?", state)
