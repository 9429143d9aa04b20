"""R-hat and ESS: honest where ArviZ is silent."""

import arviz_stats
import numpy as np
import pytest
import torch
from known_draws import draw_independent, to_chains

from sbi_aalr.diagnostics import measure_convergence, to_datatree


def test_measure_convergence_agrees_with_arviz():
    theta = draw_independent(4, 200, 3, 2).cumsum(1) * 0.1
    found = measure_convergence(theta, parameter_names=["a", "b"])
    tree = to_datatree(theta.double(), parameter_names=["a", "b"])
    expected = {
        "r_hat": arviz_stats.rhat(tree),
        "ess_bulk": arviz_stats.ess(tree, method="bulk"),
        "ess_tail": arviz_stats.ess(tree, method="tail", prob=(0.05, 0.95)),
    }
    for name, values in expected.items():
        assert found[name].dims == ("observation", "parameter")
        np.testing.assert_allclose(found[name], values["theta"], rtol=1e-10)
    assert list(found["parameter"].values) == ["a", "b"]
    assert found["stuck_chains"].values.tolist() == [[0, 0]] * 3


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
    found = measure_convergence(theta)
    for name in ("r_hat", "ess_bulk", "ess_tail"):
        assert np.isnan(found[name].values).all()
    assert found["stuck_chains"].values.tolist() == [4]


def test_measure_convergence_of_unequal_constants_is_infinite():
    theta = torch.arange(4.0)[:, None, None].expand(4, 100, 1)
    found = measure_convergence(theta)
    assert np.isposinf(found["r_hat"].values).all()
    assert float(found["ess_bulk"].max()) < 10
    assert found["stuck_chains"].values.tolist() == [4]


@pytest.mark.parametrize(("num_chains", "num_draws"), [(1, 3), (4, 3), (4, 1), (1, 1)])
def test_measure_convergence_of_too_few_draws_is_undefined(num_chains, num_draws):
    found = measure_convergence(draw_independent(num_chains, num_draws, 2))
    for name in ("r_hat", "ess_bulk", "ess_tail"):
        assert np.isnan(found[name].values).all()
    assert found["stuck_chains"].values.tolist() == [0, 0]


def test_measure_convergence_of_one_chain_has_ess_but_no_rhat():
    found = measure_convergence(draw_independent(1, 1000, 2))
    assert np.isnan(found["r_hat"].values).all()
    assert (found["ess_bulk"].values > 400).all()
