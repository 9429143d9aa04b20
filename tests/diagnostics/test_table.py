"""The table: its columns, its rows and its numbers."""

import numpy as np
import pytest
import torch
from known_draws import draw_independent

from sbi_aalr.diagnostics import measure_convergence, summary, to_datatree


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
    found = measure_convergence(theta)
    np.testing.assert_array_equal(table["r_hat"], found["r_hat"])
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
