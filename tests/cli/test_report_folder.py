"""The command that reports on a run in a folder."""

import json
import shutil

import pytest
import torch
import xarray as xr
from linear_gaussian import SHORT, X_O
from reports import read_words
from typer.testing import CliRunner

from sbi_aalr import AALR, MHPosterior
from sbi_aalr.cli.app import app
from sbi_aalr.cli.named_simulator import import_simulator
from sbi_aalr.simulators import SLCP

BUDGET = ["--num-simulations", "2000"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, hasty_recipe):
    """What the demo leaves, made by the shortest way."""
    folder = tmp_path_factory.mktemp("runs") / "slcp"
    slcp = SLCP()
    trainer = AALR(slcp.prior, show_progress_bars=False)
    trainer.train_online(slcp.simulate, num_simulations=1_000, time_limit=4, seed=1)
    torch.manual_seed(1)
    x_o = slcp.simulate(slcp.true_parameters[None])
    posterior = trainer.build_posterior()
    posterior.set_default_x(x_o).save(folder)
    posterior.sample((200,), seed=1, **SHORT)
    tree = posterior.to_datatree()
    tree.attrs["true_parameters"] = slcp.true_parameters.tolist()
    tree.to_netcdf(folder / "chains.nc", engine="h5netcdf")
    history = {"simulator": "slcp", "num_simulations": 1_000, "num_samples": 200}
    history |= {"seed": 1, "training_loss": trainer.summary["training_loss"]}
    (folder / "training.json").write_text(json.dumps(history))
    return folder


@pytest.mark.slow
def test_report_of_a_demo_runs_all_checks(folder):
    result = call("report", folder, *BUDGET)
    assert result.exit_code == 0, result.stderr
    path = folder / "report.html"
    assert f"Wrote {path}" in result.stdout.replace("\n", "")
    words = read_words(path)
    assert f"Run {folder}" in words
    assert "Not run" not in words and "not run" not in words
    assert "Do not trust this result" in words
    assert "Do not trust this result" in result.stdout
    command = "sbi-aalr demo --num-simulations 1000 --seed 1 --num-samples 200"
    assert f"{command} --out {folder}" in words
    assert "over the exact posterior in grey" in path.read_text("utf-8")
    path.unlink()


def test_report_without_a_known_simulator_shows_the_chains(
    folder, unpictured, tmp_path
):
    copy = tmp_path / "mine"
    shutil.copytree(folder, copy)
    (copy / "training.json").unlink()
    (copy / "chains.nc").rename(copy / "samples.nc")
    out = tmp_path / "new" / "page.html"
    result = call("report", copy, "--out", out)
    assert result.exit_code == 0, result.stderr
    words = read_words(out)
    assert "mine, samples.nc" in words
    assert words.count("Not run") == 3
    assert (
        "the log E[r] furthest from zero" in words or "prior draws is at most" in words
    )
    assert "sbi-aalr demo" not in words
    assert "sbi-aalr report" in words and "--chains" in words
    assert list(out.parent.iterdir()) == [out]


def test_named_simulator_checks_the_network(
    folder, hasty, unpictured, tmp_path, monkeypatch
):
    copy = tmp_path / "mine"
    shutil.copytree(folder, copy)
    history = json.loads((copy / "training.json").read_text())
    del history["simulator"]
    (copy / "training.json").write_text(json.dumps(history))
    module = "one_by_one_slcp"
    (tmp_path / f"{module}.py").write_text(
        "import torch\n"
        "from sbi_aalr.simulators import SLCP\n"
        "def simulate(theta):\n"
        "    assert theta.shape == (5,)\n"
        "    return SLCP().simulate(theta[None])[0].numpy()\n"
        "nothing = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("--num-simulations", 200, "--simulator")
    result = call("report", copy, *arguments, f"{module}:simulate")
    assert result.exit_code == 0, result.stderr
    words = read_words(copy / "report.html")
    assert "Not run" not in words and "E[d] sums to" in words
    assert f"--simulator {module}:simulate" in words
    for name, message in (
        ("simulate", "must be module:name, such as my_model:simulate, got 'simulate'"),
        ("nowhere:simulate", "must name a module that can be imported, but nowhere"),
        (f"{module}:gone", f"must name something in {module}, got gone"),
        (f"{module}:nothing", "must be callable or have a method `simulate`, got int"),
    ):
        result = call("report", copy, *arguments, name)
        assert result.exit_code == 1
        assert message in result.stderr and result.stderr.count("\n") == 1


def test_class_with_exact_posterior_can_be_named():
    found = import_simulator("sbi_aalr.simulators:TwoMoons")
    x_o = found.simulate(torch.zeros(1, 2))
    assert found.sample_posterior(10, x_o, seed=1).shape == (10, 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "chains.nc").unlink(), "must hold chains.nc or one other"),
        (lambda f: (f / "chains.nc").write_text("no"), "is no NetCDF file of chains"),
        (lambda f: (f / "training.json").write_text("{"), "training.json is damaged"),
        (lambda f: (f / "training.json").write_text("3"), "it must hold an object"),
        (lambda f: (f / "posterior.json").unlink(), "must hold a saved posterior"),
        (
            lambda f: xr.DataTree.from_dict({"/posterior": xr.Dataset()}).to_netcdf(
                f / "chains.nc", engine="h5netcdf"
            ),
            "must have the groups `posterior` and `observed_data`",
        ),
    ],
)
def test_damaged_folder_is_one_line_and_exit_code_1(folder, tmp_path, spoil, message):
    copy = tmp_path / "slcp"
    shutil.copytree(folder, copy)
    spoil(copy)
    result = call("report", copy, *BUDGET)
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize("name", ["posterior.json", "chains.nc", "mine.html"])
def test_report_replaces_nothing_but_a_report(folder, tmp_path, name):
    copy = tmp_path / "mine"
    shutil.copytree(folder, copy)
    (copy / "mine.html").write_text("mine")
    before = (copy / name).read_bytes()
    result = call("report", copy, "--out", copy / name)
    assert result.exit_code == 1 and "`out` must" in result.stderr
    assert (copy / name).read_bytes() == before


def test_chains_of_another_estimator_are_refused(folder, tmp_path):
    copy = tmp_path / "mine"
    shutil.copytree(folder, copy)
    posterior = MHPosterior.load(copy)
    posterior.sample((20,), out=copy / "night.nc", seed=1, **SHORT)
    with torch.no_grad():
        next(posterior.potential_fn.ratio_estimator.parameters()).add_(0.01)
    posterior.save(copy)
    result = call("report", copy, "--chains", copy / "night.nc")
    assert result.exit_code == 1 and "drawn with another" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "."), "`out` must be a file, but . is a folder"),
        (("--out", ""), "`out` must be a file, but . is a folder"),
        (("--out", "report.pdf"), "`out` must end in .html or .htm"),
        (("--out", "/dev/null"), "`out` must end in .html or .htm"),
        (("--out", "/proc/r.html"), "`out` must lie where files can be written"),
        (("--chains", "nowhere.nc"), "`chains` must be a NetCDF file"),
        (("--num-simulations", 0), "`num_simulations` must be a positive int"),
        (("--seed", -1), "`seed` must be"),
    ],
)
def test_wrong_option_is_one_line_and_exit_code_1(folder, arguments, message):
    result = call("report", folder, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_chains_of_another_posterior_are_refused(folder, posterior, tmp_path):
    posterior.sample((50,), x=X_O, seed=1, **SHORT)
    chains = tmp_path / "other.nc"
    posterior.to_datatree().to_netcdf(chains, engine="h5netcdf")
    result = call("report", folder, "--chains", chains)
    assert result.exit_code == 1
    assert "must have the 5 parameters of the posterior" in result.stderr
