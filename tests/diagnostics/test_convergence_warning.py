"""The warning: which parameter, how far off, what to do."""

import numpy as np
import pytest
import torch
from known_draws import draw_independent, to_chains

from sbi_aalr.diagnostics import measure_convergence, warn_if_not_converged
from sbi_aalr.errors import AALRWarning, ConvergenceWarning


def test_warn_if_not_converged_is_silent_for_independent_draws():
    theta = draw_independent(10, 200, 3, 2)
    found = warn_if_not_converged(to_chains(theta))
    assert found.equals(measure_convergence(theta))
    found = warn_if_not_converged(to_chains(theta[:, :, :1]))
    assert found.equals(measure_convergence(theta[:, :, 0]))


def test_warn_if_not_converged_names_worst_parameter_and_rhat():
    theta = draw_independent(4, 500, 3)
    theta[0, :, 0] += 0.5
    theta[0, :, 2] += 2.0
    with pytest.warns(ConvergenceWarning) as caught:
        found = warn_if_not_converged(theta, parameter_names=["a", "b", "c"])
    assert len(caught) == 1
    warning = caught[0].message
    assert isinstance(warning, AALRWarning)
    assert warning.value == float(found["r_hat"].sel(parameter="c")) > 1.1
    assert str(warning) == (
        f"The chains have not converged: R-hat of `c` is {warning.value:.4f}, above "
        "1.01. Raise `max_steps`, `warmup_steps` or `thin`."
    )
    assert caught[0].filename == __file__


def test_warn_if_not_converged_names_worst_observation():
    theta = draw_independent(4, 500, 3, 2)
    theta[0, :, 0, 0] += 0.5
    theta[0, :, 2, 1] += 2.0
    message = (
        r"chains of 2 of 3 observations have not converged; the worst: R-hat of "
        r"`theta_2` for observation 2 is 1\.\d{4}, above 1\.01"
    )
    with pytest.warns(ConvergenceWarning, match=message):
        warn_if_not_converged(to_chains(theta))


def test_warn_if_not_converged_single_row_batch_names_observation():
    theta = draw_independent(4, 500, 1, 2)
    theta[0] += 2
    with pytest.warns(ConvergenceWarning, match="1 of 1 observations .* observation 0"):
        warn_if_not_converged(to_chains(theta), batched=True)


def test_warn_if_not_converged_limits_are_the_users():
    theta = draw_independent(4, 500, 1)
    theta[0] += 0.2
    with pytest.warns(ConvergenceWarning, match=r"above 1\.001"):
        warn_if_not_converged(theta, max_rhat=1.001)
    warn_if_not_converged(theta, max_rhat=1.1)
    with pytest.warns(ConvergenceWarning, match=r"below 2500"):
        warn_if_not_converged(theta, max_rhat=1.1, min_ess=2500)


def test_warn_if_not_converged_reports_smallest_ess():
    generator = torch.Generator().manual_seed(2)
    theta = torch.randn(50, 100, 2, generator=generator)
    for draw in range(1, 100):
        theta[:, draw, 1] = 0.9 * theta[:, draw - 1, 1] + 0.19**0.5 * theta[:, draw, 1]
    with pytest.warns(ConvergenceWarning, match=r"ESS of `theta_2` is \d+, be") as got:
        found = warn_if_not_converged(theta, max_rhat=2)
    assert "Raise `max_steps` or `thin`, or draw more samples." in str(got[0].message)
    ess = np.minimum(found["ess_bulk"], found["ess_tail"])
    assert got[0].message.value == float(ess.min()) < 400


def test_warn_if_not_converged_says_when_more_samples_are_needed():
    with pytest.warns(ConvergenceWarning, match="Draw more than these 200 samples"):
        warn_if_not_converged(draw_independent(4, 50, 1), max_rhat=2)


def test_warn_if_not_converged_sees_one_stuck_chain_among_many():
    theta = draw_independent(200, 200, 2)
    theta[17, :, 1] = 0.3
    found = measure_convergence(theta)
    assert float(found["r_hat"].max()) <= 1.02
    with pytest.warns(
        ConvergenceWarning,
        match=r"1 of 200 chains never moved in `theta_2`\. Raise `warmup_steps`",
    ) as caught:
        warn_if_not_converged(theta, max_rhat=1.02)
    assert caught[0].message.value == 1


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (torch.zeros(4, 100, 1), r"is not defined \(4 of 4 chains never moved\)"),
        (
            torch.arange(4.0)[:, None, None].expand(4, 100, 1),
            r"is inf, above 1\.01 \(4 of 4 chains never moved\)",
        ),
        (
            draw_independent(1, 1000, 1),
            r"not defined for fewer than 2 chains, got 1\. Raise `num_chains`",
        ),
        (
            draw_independent(500, 3, 1),
            r"not defined for fewer than 4 draws a chain, got 3\. Draw more samples",
        ),
        (
            torch.full((4, 100, 1), float("nan")),
            r"not defined for draws with NaN\. Check the log-density",
        ),
    ],
)
def test_warn_if_not_converged_takes_undefined_for_failure(theta, message):
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        warn_if_not_converged(theta)
    assert len(caught) == 1
    assert not np.isfinite(caught[0].message.value)


@pytest.mark.parametrize("name", ["max_rhat", "min_ess"])
def test_warn_if_not_converged_refuses_wrong_limits(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive finite number"):
        warn_if_not_converged(draw_independent(4, 100, 1), **{name: -1})
    with pytest.raises(TypeError, match=f"`{name}` must be a number"):
        warn_if_not_converged(draw_independent(4, 100, 1), **{name: "low"})
