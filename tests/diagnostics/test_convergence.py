"""R-hat, ESS, the warning, and the table: honest where ArviZ is silent."""

import arviz_stats
import numpy as np
import pytest
import torch

from sbi_aalr.diagnostics import (
    measure_convergence,
    summary,
    to_datatree,
    warn_if_not_converged,
)
from sbi_aalr.errors import AALRWarning, ConvergenceWarning
from sbi_aalr.mcmc.chains import Chains


def draw_independent(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to_chains(theta):
    """Wrap draws `(C, S, B, D)` with statistics that do not matter."""
    flags = torch.ones(theta.shape[:3])
    return Chains(theta, flags, flags, flags.bool())


def test_measure_convergence_agrees_with_arviz():
    theta = draw_independent(4, 200, 3, 2).cumsum(1) * 0.1
    figures = measure_convergence(theta, parameter_names=["a", "b"])
    tree = to_datatree(theta.double(), parameter_names=["a", "b"])
    expected = {
        "r_hat": arviz_stats.rhat(tree),
        "ess_bulk": arviz_stats.ess(tree, method="bulk"),
        "ess_tail": arviz_stats.ess(tree, method="tail", prob=(0.05, 0.95)),
    }
    for name, values in expected.items():
        assert figures[name].dims == ("observation", "parameter")
        np.testing.assert_allclose(figures[name], values["theta"], rtol=1e-10)
    assert list(figures["parameter"].values) == ["a", "b"]
    assert figures["stuck_chains"].values.tolist() == [[0, 0]] * 3


def test_measure_convergence_is_the_same_for_every_form_of_draws():
    theta = draw_independent(4, 50, 1, 2)
    expected = measure_convergence(theta[:, :, 0])
    assert expected["r_hat"].dims == ("parameter",)
    for draws in (
        to_chains(theta),
        theta[:, :, 0].numpy(),
        to_datatree(to_chains(theta)),
    ):
        assert measure_convergence(draws).equals(expected)
    batched = measure_convergence(to_chains(theta), batched=True)
    assert batched["r_hat"].dims == ("observation", "parameter")


def test_measure_convergence_of_equal_constants_is_undefined_not_perfect():
    theta = torch.full((4, 100, 1), 2.0)
    # What ArviZ says of chains that never moved.
    assert float(arviz_stats.ess(to_datatree(theta))["theta"][0]) == 400
    figures = measure_convergence(theta)
    for name in ("r_hat", "ess_bulk", "ess_tail"):
        assert np.isnan(figures[name].values).all()
    assert figures["stuck_chains"].values.tolist() == [4]


def test_measure_convergence_of_unequal_constants_is_infinite():
    theta = torch.arange(4.0)[:, None, None].expand(4, 100, 1)
    figures = measure_convergence(theta)
    assert np.isposinf(figures["r_hat"].values).all()
    assert float(figures["ess_bulk"].max()) < 10
    assert figures["stuck_chains"].values.tolist() == [4]


@pytest.mark.parametrize(("num_chains", "num_draws"), [(1, 3), (4, 3), (4, 1), (1, 1)])
def test_measure_convergence_of_too_few_draws_is_undefined(num_chains, num_draws):
    figures = measure_convergence(draw_independent(num_chains, num_draws, 2))
    for name in ("r_hat", "ess_bulk", "ess_tail"):
        assert np.isnan(figures[name].values).all()
    assert figures["stuck_chains"].values.tolist() == [0, 0]


def test_measure_convergence_of_one_chain_has_ess_but_no_rhat():
    figures = measure_convergence(draw_independent(1, 1000, 2))
    assert np.isnan(figures["r_hat"].values).all()
    assert (figures["ess_bulk"].values > 400).all()


def test_warn_if_not_converged_is_silent_for_independent_draws():
    theta = draw_independent(10, 200, 3, 2)
    figures = warn_if_not_converged(to_chains(theta))
    assert figures.equals(measure_convergence(theta))
    figures = warn_if_not_converged(to_chains(theta[:, :, :1]))
    assert figures.equals(measure_convergence(theta[:, :, 0]))


def test_warn_if_not_converged_names_worst_parameter_and_rhat():
    theta = draw_independent(4, 500, 3)
    theta[0, :, 0] += 0.5
    theta[0, :, 2] += 2.0
    with pytest.warns(ConvergenceWarning) as caught:
        figures = warn_if_not_converged(theta, parameter_names=["a", "b", "c"])
    assert len(caught) == 1
    warning = caught[0].message
    assert isinstance(warning, AALRWarning)
    assert warning.value == float(figures["r_hat"].sel(parameter="c")) > 1.1
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
        figures = warn_if_not_converged(theta, max_rhat=2)
    assert "Raise `max_steps` or `thin`, or draw more samples." in str(got[0].message)
    ess = np.minimum(figures["ess_bulk"], figures["ess_tail"])
    assert got[0].message.value == float(ess.min()) < 400


def test_warn_if_not_converged_says_when_more_samples_are_needed():
    with pytest.warns(ConvergenceWarning, match="Draw more than these 200 samples"):
        warn_if_not_converged(draw_independent(4, 50, 1), max_rhat=2)


def test_warn_if_not_converged_sees_one_stuck_chain_among_many():
    theta = draw_independent(200, 200, 2)
    theta[17, :, 1] = 0.3
    figures = measure_convergence(theta)
    assert float(figures["r_hat"].max()) <= 1.02
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


def test_summary_has_numbers_beside_the_truth():
    theta = draw_independent(4, 500, 2) * torch.tensor([1.0, 3.0])
    tree = to_datatree(theta, parameter_names=["rate", "size"])
    table = summary(tree, truth=torch.tensor([0.5, -0.5]), ci_prob=0.9)
    assert list(table.index) == ["rate", "size"]
    assert list(table.columns) == [
        "truth",
        "mean",
        "sd",
        "eti90_lb",
        "eti90_ub",
        "ess_bulk",
        "ess_tail",
        "r_hat",
    ]
    assert all(dtype.kind == "f" for dtype in table.dtypes)
    flat = theta.reshape(-1, 2).double().numpy()
    np.testing.assert_allclose(table["truth"], [0.5, -0.5])
    np.testing.assert_allclose(table["mean"], flat.mean(0), rtol=1e-4)
    # ArviZ 0.8 divides by N, ArviZ 1 by N - 1.
    np.testing.assert_allclose(table["sd"], flat.std(0), rtol=1e-3)
    bounds = np.quantile(flat, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(table[["eti90_lb", "eti90_ub"]].T, bounds, rtol=1e-2)
    figures = measure_convergence(theta)
    np.testing.assert_array_equal(table["r_hat"], figures["r_hat"])
    assert list(summary(tree).columns)[:2] == ["mean", "sd"]


def test_summary_of_a_batch_labels_observation_and_parameter():
    theta = draw_independent(4, 100, 3, 2) + torch.tensor([0.0, 10.0, 20.0])[:, None]
    truth = torch.arange(6.0).reshape(3, 2)
    table = summary(to_datatree(theta), truth=truth)
    assert table.index.names == ["observation", "parameter"]
    assert table.loc[(2, "theta_1"), "truth"] == 4
    assert abs(table.loc[(1, "theta_2"), "mean"] - 10) < 0.5


def test_summary_does_not_call_a_stuck_chain_effective():
    table = summary(to_datatree(torch.ones(4, 100, 1)))
    assert table[["ess_bulk", "ess_tail", "r_hat"]].isna().all(axis=None)


def test_summary_refuses_what_does_not_fit():
    tree = to_datatree(draw_independent(4, 100, 2))
    with pytest.raises(ValueError, match=r"`truth` must have shape \(2,\).*got \(3,\)"):
        summary(tree, truth=[0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="`ci_prob` must lie strictly between 0 and 1"):
        summary(tree, ci_prob=94)
    with pytest.raises(ValueError, match="must have a variable `theta`"):
        summary(tree["posterior"])
