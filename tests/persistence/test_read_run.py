"""Runs that were written, by this version and by the first one, and read again."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
import xarray as xr
from linear_gaussian import SHORT, X_O, simulate
from typer.testing import CliRunner

from sbi_aalr import MHPosterior
from sbi_aalr.cli.app import app
from sbi_aalr.diagnostics import to_datatree
from sbi_aalr.persistence.run_store import read_run, write_run

# What version 0.1.0 printed of the run that it left here.
OLD = Path(__file__).with_name("written_by_0_1_0")
OLD_THETA = [[0.5, 0.3], [0.0, 0.9]]
OLD_POTENTIAL = [1.1669020652770996, -1.369373083114624]
# The same seed gives other draws since, see the changelog: these are of 467689e.
DRAWS = [
    [0.18521037697792053, 0.20475871860980988],
    [0.25754815340042114, 0.5882337093353271],
]
OLD_FIRST_DRAW = [0.36388060450553894, 0.0022195130586624146]
OLD_R_HAT = [0.9993059039115906, 0.9966728091239929]


def test_posterior_of_the_first_version_loads_and_samples():
    posterior = MHPosterior.load(OLD)
    potential = posterior.potential(torch.tensor(OLD_THETA))
    assert potential.tolist() == pytest.approx(OLD_POTENTIAL, rel=1e-4)
    short = {"num_chains": 8, "warmup_steps": 10, "max_rhat": None, "min_ess": None}
    draws = posterior.sample((8,), seed=2, show_progress_bars=False, **short)
    torch.testing.assert_close(draws[:2], torch.tensor(DRAWS), rtol=1e-3, atol=1e-3)


def test_chains_of_the_first_version_are_read_whole():
    run = read_run(OLD / "chains.nc", MHPosterior.load(OLD).target)
    assert run.parameter_names == ["slope", "rate"]
    assert run.chains.theta.shape == (8, 100, 1, 2)
    assert run.chains.theta[0, 0, 0].tolist() == pytest.approx(OLD_FIRST_DRAW)
    assert run.warmup.num_draws > 0
    assert run.observed.tolist() == [pytest.approx([0.5, 0.3, 0.2])]
    assert run.settings["kernel"] == "jump_walk" and run.settings["seed"] == 1
    assert run.created_at.tzinfo is not None
    assert run.convergence.r_hat[0].tolist() == pytest.approx(OLD_R_HAT, abs=1e-4)


def test_folder_of_the_first_version_is_reported_on(tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    training = json.loads((folder / "training.json").read_text())
    assert training["num_simulations"] == 5_000
    result = CliRunner().invoke(
        app, ["report", str(folder), "--num-simulations", "2000"]
    )
    assert result.exit_code == 0, result.stderr
    page = (folder / "report.html").read_text("utf-8")
    assert "slope" in page and "5,000" in page


@pytest.mark.parametrize("is_batch", [True, False])
def test_what_is_read_is_what_was_written(posterior, tmp_path, is_batch):
    if is_batch:
        posterior.sample_batched((40,), simulate(torch.zeros(3, 2)), seed=4, **SHORT)
    else:
        trials = simulate(torch.zeros(4, 2))
        posterior.sample((40,), x=trials, seed=4, **SHORT)
    run = posterior.run
    path = write_run(tmp_path / "chains.nc", run)
    read = read_run(path, posterior.target)
    for name in ("chains", "warmup"):
        written, found = vars(getattr(run, name)), vars(getattr(read, name))
        assert written.keys() == found.keys()
        for field, values in written.items():
            torch.testing.assert_close(found[field], values)
    for found, values in zip(read.convergence, run.convergence, strict=True):
        torch.testing.assert_close(found, values, equal_nan=True, check_dtype=False)
    assert torch.equal(read.observed, run.observed)
    assert read.batched == run.batched
    assert read.created_at == run.created_at
    assert read.settings["seed"] == 4
    assert read.settings["thin"] == SHORT["thin"]


def test_chains_without_statistics_are_read_with_nan(posterior, tmp_path):
    theta = torch.randn(4, 50, 2)
    path = tmp_path / "chains.nc"
    to_datatree(theta, observed_data=X_O).to_netcdf(path, engine="h5netcdf")
    run = read_run(path, posterior.target)
    assert torch.equal(run.chains.theta[:, :, 0], theta)
    assert run.chains.log_prob.isnan().all()
    assert run.warmup.num_draws == 0
    assert run.convergence.r_hat.isfinite().all()
    assert (datetime.now(UTC) - run.created_at).total_seconds() < 60


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("no"), "is no NetCDF file of chains"),
        (
            lambda path: xr.DataTree.from_dict({"/posterior": xr.Dataset()}).to_netcdf(
                path, engine="h5netcdf"
            ),
            "must have the groups `posterior` and `observed_data`",
        ),
        (
            lambda path: to_datatree(
                torch.randn(4, 50, 3), observed_data=X_O
            ).to_netcdf(path, engine="h5netcdf"),
            "must have the 2 parameters of the posterior",
        ),
    ],
)
def test_what_is_no_run_of_the_target_is_refused(posterior, tmp_path, spoil, message):
    path = tmp_path / "chains.nc"
    spoil(path)
    with pytest.raises(ValueError, match=message):
        read_run(path, posterior.target)
