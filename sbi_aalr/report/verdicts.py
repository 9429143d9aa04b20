"""Five questions and one answer: may I trust this result?

Green is only for what was looked at and found right. What was not run is grey, a flaw
is yellow if small and red if not.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from sbi_aalr.diagnostics.prior_agreement import PriorAgreement
from sbi_aalr.report.evidence import ChainCheck, Checks

State: TypeAlias = Literal["good", "doubtful", "bad", "unknown"]

# A flaw that a test can see but a user may live with.
_SMALL_AUC = 0.55
_SMALL_LOG_MEAN = 0.2
_SMALL_IMBALANCE = 0.1
# A p-value so much smaller than its limit leaves no doubt.
_GRAVE_SHARE = 0.1
# Above this chains tell different stories.
_LARGE_RHAT = 1.05


class Verdict(NamedTuple):
    """The answer to one question.

    Attributes:
        question: Such as "Converged?".
        state: Which colour it gets.
        answer: The answer in a word or two.
        reason: The figures behind it, and what to do.
    """

    question: str
    state: State
    answer: str
    reason: str


def judge_all(chains: ChainCheck, checks: Checks) -> list[Verdict]:
    """Answer all questions, in the order in which the page shows them."""
    return [
        judge_convergence(chains, checks.agreement),
        judge_calibration(checks),
        judge_ratio(checks),
        judge_data(checks),
        judge_predictions(checks),
    ]


def sum_up(verdicts: list[Verdict]) -> Verdict:
    """Give the one answer: as bad as the worst, and never good if parts are unknown."""
    states = [verdict.state for verdict in verdicts]
    unknown = "unknown" in states
    left = f"Open: {_list_questions(verdicts, 'unknown')}"
    question = "May I trust this result?"
    if "bad" in states:
        wrong = _list_questions(verdicts, "bad")
        return Verdict(question, "bad", "Do not trust this result", f"See {wrong}.")
    if "doubtful" in states:
        weak = _list_questions(verdicts, "doubtful")
        reason = f"See {weak}." + (f" {left}." if unknown else "")
        return Verdict(question, "doubtful", "Use this result with care", reason)
    if unknown:
        answer = "Nothing wrong found, but not all was checked"
        return Verdict(question, "unknown", answer, f"{left}.")
    answer = "No flaw found"
    reason = "All checks passed. They can find flaws, not prove that there are none."
    return Verdict(question, "good", answer, reason)


def judge_convergence(
    found: ChainCheck, agreement: PriorAgreement | None = None
) -> Verdict:
    """Say whether the chains of all observations agree, are long enough and complete.

    Args:
        found: What was measured of the chains.
        agreement: How they compare with weighted prior draws, if that was looked at.
    """
    question = "Converged?"
    count = len(found.r_hat)
    worst = float(found.r_hat.max())
    least = float(found.ess.min())
    figures = (
        f"R-hat is at most {worst:.4f} (limit {found.max_rhat:g}), the effective "
        f"sample size at least {np.floor(least):,.0f} (limit {found.min_ess:g})."
    )
    own = [
        f"{name} {limit:g}"
        for name, limit in (
            ("R-hat", found.run_max_rhat),
            ("the effective sample size", found.run_min_ess),
        )
        if limit is not None
    ]
    if own:
        figures += (
            f" The run itself was content with {' and '.join(own)}, less strict than "
            "the usual limits, by which it is judged here."
        )
    failed = int((~found.converged).sum())
    if agreement is not None and agreement.passed is False:
        reason = f"{figures} {agreement.verdict}"
        return Verdict(question, "bad", "No: a part is missed", reason)
    if not failed:
        if agreement is not None:
            figures += f" {agreement.verdict}"
        return Verdict(question, "good", "Yes", figures)
    answer = "No" if count == 1 else f"{failed} of {count} not"
    if found.stuck_chains.any():
        stuck = int(found.stuck_chains.max())
        figures += f" {stuck} chain{'s' if stuck > 1 else ''} never moved."
    grave = not worst <= _LARGE_RHAT or bool(found.stuck_chains.any())
    advice = " Sample longer: raise max_steps or warmup_steps."
    return Verdict(question, "bad" if grave else "doubtful", answer, figures + advice)


def judge_calibration(checks: Checks) -> Verdict:
    """Say whether regions hold the truth as often as they claim."""
    question, found = "Calibrated?", checks.coverage
    if checks.num_trials > 1:
        reason = (
            "Errors of the ratio add up over trials, so that coverage of single ones "
            f"would say nothing of {checks.num_trials} together. Simulate sets of as "
            "many, and see how far their posteriors are off."
        )
        return Verdict(question, "unknown", "Not measured", reason)
    if found is None:
        return Verdict(question, "unknown", "Not run", _explain_missing("coverage"))
    if found.passed is None:
        return Verdict(question, "unknown", "Not judged", found.verdict)
    if found.passed:
        return Verdict(question, "good", "No flaw found", found.verdict)
    # Too wide is a loss of precision; too narrow or beside the truth is wrong.
    too_wide = found.verdict.startswith("Under-confident")
    state: State = "doubtful" if too_wide else "bad"
    return Verdict(question, state, "Too wide" if too_wide else "No", found.verdict)


def judge_ratio(checks: Checks) -> Verdict:
    """Say whether the estimated ratio stands the tests that it was put to."""
    question = "Ratio sound?"
    roc, normalisation, balance = (
        checks.ratio_roc,
        checks.normalisation,
        checks.balance,
    )
    run = [check for check in (roc, normalisation, balance) if check is not None]
    if not run:
        return Verdict(question, "unknown", "Not run", _explain_missing("ratio checks"))
    reason = " ".join(check.verdict for check in run)
    failed = [check for check in run if check.passed is False]
    if failed:
        small = not (roc in failed and roc is not None and roc.auc > _SMALL_AUC)
        if normalisation is not None and normalisation in failed:
            off = np.abs(normalisation.log_mean[normalisation.judged]).max()
            small &= bool(off <= _SMALL_LOG_MEAN)
        if balance is not None and balance in failed:
            small &= abs(balance.total - 1) <= _SMALL_IMBALANCE
        if small:
            return Verdict(question, "doubtful", "A small flaw", reason)
        return Verdict(question, "bad", "No", reason)
    if roc is None or roc.passed is None:
        return Verdict(question, "unknown", "Not judged", reason)
    return Verdict(question, "good", "No flaw found", reason)


def judge_data(checks: Checks) -> Verdict:
    """Say whether the observations are like anything that was simulated."""
    question, found = "Data familiar?", checks.familiarity
    if found is None:
        return Verdict(question, "unknown", "Not run", _explain_missing("this check"))
    far = int(found.far.sum())
    figures = (
        f"The {'largest ' if len(found.distance) > 1 else ''}distance to the nearest "
        f"simulations is {found.describe(float(found.distance.max()))}; the limit is "
        f"{found.describe(found.largest)}, the largest among "
        f"{found.num_held_out:,} simulations."
    )
    if not far:
        return Verdict(question, "good", "Yes", figures)
    answer = "No" if len(found.distance) == 1 else f"{far} of {len(found.distance)} not"
    advice = " Check units and order of the data, the simulator and the prior."
    return Verdict(question, "bad", answer, figures + advice)


def judge_predictions(checks: Checks) -> Verdict:
    """Say whether the posterior, put into the simulator, gives data like those seen."""
    question, found = "Data predicted?", checks.predictive
    if found is None:
        return Verdict(question, "unknown", "Not run", _explain_missing("this check"))
    if found.passed:
        return Verdict(question, "good", "Yes", found.verdict)
    p = float(np.minimum(found.p_values, 1 - found.p_values).min())
    advice = " The network is wrong here, or the simulator does not fit the data."
    grave = p < _GRAVE_SHARE * found.limit
    state: State = "bad" if grave else "doubtful"
    answer = "No" if grave else "Hardly"
    return Verdict(question, state, answer, found.verdict + advice)


def _list_questions(verdicts: list[Verdict], state: State) -> str:
    return ", ".join(f"“{v.question}”" for v in verdicts if v.state == state)


def _explain_missing(what: str) -> str:
    return f"No simulator was given, so {what} could not be run."
