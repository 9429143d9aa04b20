"""A finished run: its tree, its table and its warning."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
import xarray as xr
from known_draws import draw_independent, to_chains

from sbi_aalr.diagnostics import (
    measure_convergence,
    plot_trace_rank,
    read_convergence,
    summary,
    to_datatree,
    warn_if_not_converged,
)
from sbi_aalr.diagnostics.run_tree import (
    run_to_dataset,
    run_to_datatree,
    warn_about_run,
)
from sbi_aalr.errors import ConvergenceWarning
from sbi_aalr.mcmc import convergence
from sbi_aalr.sampling.run import Run

NAMES = ["rate", "size"]


def make_run(num_observations=2, batched=True):
    """160 chains that agree and are slow: their nested R-hat passes, plain fails."""
    shape = (160, 200, num_observations, 2)
    theta = draw_independent(*shape)
    for draw in range(1, shape[1]):
        theta[:, draw] = 0.8 * theta[:, draw - 1] + 0.6 * theta[:, draw]
    superchain = (torch.arange(160) // 10)[:, None].expand(-1, num_observations)
    ones = torch.ones(num_observations)
    measured = convergence.Convergence(
        r_hat=convergence.nested_rhat(theta, superchain),
        ess_bulk=convergence.ess_bulk(theta),
        ess_tail=convergence.ess_tail(theta),
        stuck_chains=convergence.count_stuck_chains(theta),
        acceptance_rate=0.3 * ones,
        num_steps=400 * ones.long(),
        converged=ones.bool(),
    )
    return Run(
        chains=to_chains(theta),
        warmup=to_chains(theta[:, :20] + 5),
        convergence=measured,
        observed=torch.arange(3.0 * num_observations).reshape(num_observations, 3),
        batched=batched,
        settings={
            "kernel": "jump_walk",
            "seed": 7,
            "max_rhat": 1.01,
            "num_chains": 160,
        },
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        target=None,
    )


def read_trace_title(draws, observation):
    figure = plot_trace_rank(draws, observation=observation)
    return figure.axes[0].get_title(loc="right")


@pytest.mark.parametrize(("count", "batched"), [(2, True), (1, True), (1, False)])
@pytest.mark.parametrize("is_stored", [False, True])
def test_what_the_sampler_stopped_on_is_what_everyone_reads(
    count, batched, is_stored, tmp_path
):
    run = make_run(count, batched)
    tree = run_to_datatree(run, NAMES)
    if is_stored:
        tree.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
        tree = xr.open_datatree(tmp_path / "run.nc").load()
        tree.close()
    nested = run.convergence.r_hat.numpy()
    plain = measure_convergence(run.chains.theta)["r_hat"].values
    assert nested.max() < 1.01 < plain.min()
    expected = nested if batched else nested[0]

    np.testing.assert_array_equal(measure_convergence(tree)["r_hat"], expected)
    np.testing.assert_array_equal(read_convergence(tree)["r_hat"], expected)
    assert read_convergence(tree)["converged"].values.all()
    np.testing.assert_array_equal(summary(tree)["r_hat"], expected.ravel())
    # Silent, as warnings are errors here.
    found = warn_if_not_converged(tree, parameter_names=["a", "b"])
    np.testing.assert_array_equal(found["r_hat"], expected)
    assert list(found["parameter"].values) == ["a", "b"]
    title = read_trace_title(tree, count - 1)
    assert title.startswith(f"R-hat {nested[-1, 0]:.3f}   ESS ")

    # The control: the same draws without their sampler's word are measured here.
    np.testing.assert_array_equal(
        measure_convergence(run.chains)["r_hat"], plain if count > 1 else plain[0]
    )
    with pytest.warns(ConvergenceWarning, match="above 1.01"):
        warn_if_not_converged(run.chains)
    assert read_trace_title(run.chains, count - 1) != title


@pytest.mark.parametrize(
    "cut",
    [
        {"draw": slice(100, None)},
        {"draw": slice(None, None, 2)},
        {"chain": slice(0, 80)},
    ],
)
def test_tree_that_was_cut_is_measured_anew(cut):
    tree = run_to_datatree(make_run(), NAMES).isel(cut)
    theta = tree["posterior"]["theta"].values
    expected = measure_convergence(theta, parameter_names=NAMES)
    assert measure_convergence(tree).equals(expected)
    assert read_convergence(tree).equals(expected)
    r_hat = expected["r_hat"].values
    np.testing.assert_array_equal(summary(tree)["r_hat"], r_hat.ravel())
    with pytest.warns(ConvergenceWarning):
        warn_if_not_converged(tree)
    title = f"R-hat {r_hat[1, 0]:.3f}   ESS "
    assert read_trace_title(tree, 1).startswith(title)


def test_chosen_observations_and_parameters_keep_their_convergence():
    run = make_run(3)
    tree = run_to_datatree(run, NAMES)
    nested = run.convergence.r_hat.numpy()
    for cut, expected in (
        ({"observation": 2}, nested[2]),
        ({"observation": [2, 0]}, nested[[2, 0]]),
        ({"parameter": [1]}, nested[:, [1]]),
    ):
        found = measure_convergence(tree.isel(cut))
        np.testing.assert_array_equal(found["r_hat"], expected)
    # Cut in the draws alone, the two do not belong together.
    other = tree.copy()
    chosen = tree["posterior"].to_dataset().isel(observation=[2, 0, 1])
    other["posterior"] = xr.DataTree(chosen)
    theta = chosen["theta"].values
    np.testing.assert_array_equal(
        measure_convergence(other)["r_hat"], measure_convergence(theta)["r_hat"]
    )


def test_diagnostics_that_do_not_say_what_they_are_of_are_measured_anew():
    run = make_run()
    tree = run_to_datatree(run)
    tree["diagnostics"].attrs = {}
    expected = measure_convergence(run.chains.theta)
    assert measure_convergence(tree).equals(expected)


@pytest.mark.parametrize(("count", "batched"), [(2, True), (1, False)])
def test_run_to_datatree_is_to_datatree_of_its_parts(count, batched):
    run = make_run(count, batched)
    tree = run_to_datatree(run, NAMES)
    expected = to_datatree(
        run.chains,
        warmup=run.warmup,
        observed_data=run.observed,
        parameter_names=NAMES,
        attributes=run.settings,
        batched=batched,
    )
    assert set(tree.children) == {*expected.children, "diagnostics"}
    for name, group in expected.children.items():
        assert tree[name].to_dataset().equals(group.to_dataset())
        now = {"created_at": group.attrs["created_at"]}
        assert {**tree[name].attrs, **now} == group.attrs
    assert tree.attrs["created_at"] == "2026-01-02T03:04:05+00:00"
    assert tree["diagnostics"].attrs["created_at"] == tree.attrs["created_at"]
    assert tree["diagnostics"].attrs["seed"] == 7


def test_run_to_datatree_without_warmup_has_no_group_for_it():
    run = make_run()
    tree = run_to_datatree(replace(run, warmup=to_chains(torch.zeros(160, 0, 2, 2))))
    assert "warmup_posterior" not in tree.children


def test_run_to_dataset_labels_every_field():
    run = make_run()
    found = run_to_dataset(run, NAMES)
    assert list(found["parameter"].values) == NAMES
    assert list(found["observation"].values) == [0, 1]
    for name, values in run.convergence._asdict().items():
        assert found[name].dims == ("observation", "parameter")[: values.ndim]
        np.testing.assert_array_equal(found[name], values.numpy())
    named = replace(run, parameter_names=NAMES)
    assert run_to_dataset(named).equals(found)
    assert list(run_to_dataset(named, ["a", "b"])["parameter"].values) == ["a", "b"]
    with pytest.raises(ValueError, match="must be 2 names, one a parameter, got 1"):
        run_to_dataset(run, ["rate"])


def test_warn_about_run_judges_what_the_sampler_measured():
    run = make_run()
    warn_about_run(run, 1.01, 400, stacklevel=1)
    warn_about_run(run, None, None, stacklevel=1)
    message = r"of 2 observations .* R-hat of `theta_.` .* above 1\.0001"
    with pytest.warns(ConvergenceWarning, match=message) as w:
        warn_about_run(run, 1.0001, None, stacklevel=1)
    assert w[0].filename == __file__
    assert w[0].message.value == float(run.convergence.r_hat.max())
    run = replace(run, parameter_names=NAMES)
    with pytest.warns(ConvergenceWarning, match="of `(rate|size)` .* below 1e\\+06"):
        warn_about_run(run, None, 1e6, stacklevel=1)
