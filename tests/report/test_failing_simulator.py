"""Checks of a simulator that fails now and then: of what it gives when it does not."""

import pytest
import torch
from known_runs import RUNS, get_run

from sbi_aalr.diagnostics import (
    add_predictive,
    classifier_balance,
    predictive_check,
    ratio_roc,
)
from sbi_aalr.report import Evidence, run_checks
from sbi_aalr.report.verdicts import judge_all, sum_up

NAME = "exact"
PROBLEM = RUNS[NAME].problem


def fail_sometimes(theta):
    x = PROBLEM.simulate(theta)
    return torch.where(torch.rand(len(x), 1) < 0.2, torch.nan, x)


def call_each(exclude_invalid_x):
    """Calls of all checks that simulate."""
    tree, _, log_ratio = get_run(NAME)
    given = fail_sometimes, PROBLEM.prior
    kept = {"seed": 1, "exclude_invalid_x": exclude_invalid_x}
    few = {"num_simulations": 500, **kept}
    return [
        lambda: ratio_roc(log_ratio, *given, torch.zeros(2), **few),
        lambda: classifier_balance(log_ratio, *given, **few),
        lambda: add_predictive(tree, *given, num_draws=50, **kept),
        lambda: predictive_check(tree, *given, **kept),
    ]


@pytest.mark.parametrize("number", range(4))
def test_every_check_that_simulates_can_leave_failures_out(number):
    with pytest.raises(ValueError, match="`exclude_invalid_x=True`"):
        call_each(False)[number]()
    assert call_each(True)[number]() is not None
    with pytest.raises(TypeError, match="`exclude_invalid_x` must be True or False"):
        call_each("yes")[number]()


@pytest.mark.parametrize("name", [NAME, "over-confident"])
def test_failures_by_chance_change_no_verdict(name):
    run = RUNS[name]
    tree, posterior, log_ratio = get_run(name)
    given = tree, posterior, log_ratio, fail_sometimes, run.problem.prior
    checks, tree = run_checks(
        *given, num_simulations=4_000, seed=run.seed, exclude_invalid_x=True
    )
    verdicts = judge_all(Evidence(tree, "").measure_convergence(), checks)
    state = sum_up(verdicts).state
    assert (state == "good") == run.good, verdicts
