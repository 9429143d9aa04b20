"""The verdict on runs of known quality: right, and never trust in a flawed one."""

import warnings

import pytest
from known_runs import RUNS, get_run

from sbi_aalr.errors import AALRWarning
from sbi_aalr.report import Evidence, run_checks
from sbi_aalr.report.verdicts import judge_all, sum_up

# One of each kind that costs little, and where its flaw is found.
HANDFUL = {
    "exact, four modes": None,
    "missed modes": ("Converged?", ("bad",)),
    "stuck": None,
    "wrong simulator": ("Data predicted?", ("bad", "doubtful")),
}


def judge(name, num_simulations=4_000):
    """The verdict on a run, and what it is made of."""
    run = RUNS[name]
    tree, posterior, log_ratio = get_run(name)
    with warnings.catch_warnings():
        # Of data that are far from simulations, which is one of the flaws.
        warnings.simplefilter("ignore", AALRWarning)
        checks, tree = run_checks(
            tree,
            posterior,
            log_ratio,
            run.problem.simulate,
            run.problem.prior,
            num_simulations=num_simulations,
            seed=run.seed,
        )
    verdicts = judge_all(Evidence(tree, "").measure_convergence(), checks)
    return sum_up(verdicts).state, {one.question: one.state for one in verdicts}


@pytest.mark.parametrize(("name", "flaw"), HANDFUL.items())
def test_verdict_is_right_and_flaws_are_found_where_they_are(name, flaw):
    state, parts = judge(name)
    assert (state == "good") == RUNS[name].good, parts
    if flaw is not None:
        question, states = flaw
        assert parts[question] in states


@pytest.mark.slow
def test_nineteen_of_twenty_verdicts_are_right_and_no_bad_run_is_trusted():
    wrong = {}
    for name, run in RUNS.items():
        state, parts = judge(name, num_simulations=20_000)
        assert run.good or state in ("bad", "doubtful"), (name, parts)
        if (state == "good") != run.good:
            wrong[name] = parts
    assert len(wrong) <= len(RUNS) - 20 + 1, wrong
