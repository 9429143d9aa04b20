"""`sbi-aalr fit`: from a store to a folder that the other commands take."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from sbi.utils import BoxUniform
from typer.testing import CliRunner

from sbi_aalr import MHPosterior
from sbi_aalr.cli.app import app
from sbi_aalr.persistence.prior_json import encode_prior
from sbi_aalr.persistence.training_json import read_training
from sbi_aalr.sampling import ValidPrior
from sbi_aalr.simulation import SimulationStore

PRIOR = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))

pytestmark = pytest.mark.usefixtures("hasty_recipe")


@pytest.fixture
def store(tmp_path):
    store = SimulationStore(tmp_path / "sims.zarr")
    torch.manual_seed(1)
    theta = PRIOR.sample((600,))
    x = theta + torch.randn(600, 2)
    store.append(theta, torch.where(theta[:, :1] > 1, torch.nan, x))
    store.note(simulator="my_model:simulate", prior=encode_prior(PRIOR))
    return store


def call(*arguments):
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


def test_store_becomes_a_posterior_that_knows_of_failures(store, tmp_path):
    folder = tmp_path / "run"
    result = call(store.path, "--out", folder, "--parameter-names", "rate,size")
    assert result.exit_code == 0, result.output
    assert f"Wrote {folder}" in result.output.replace("\n", "")
    posterior = MHPosterior.load(folder)
    assert posterior.parameter_names == ["rate", "size"]
    assert isinstance(posterior.proposal, ValidPrior)
    assert posterior.proposal.sample((2_000,))[:, 0].max() < 1.5
    training = read_training(folder)
    assert training["num_simulations"] == len(store) < 600
    assert training["num_simulations"] + training["num_failures"] == 600
    assert training["simulator"] == "my_model:simulate"
    assert "will be replaced" not in result.output
    again = call(store.path, "--out", folder, "--time-limit", 1)
    assert "will be replaced" in again.output
    assert MHPosterior.load(folder).parameter_names == ["theta_1", "theta_2"]


def test_what_cannot_be_fitted_is_said_in_one_line(store, tmp_path, monkeypatch):
    (tmp_path / "fit_model.py").write_text(
        "import torch\nfrom sbi.utils import BoxUniform\n"
        "prior = BoxUniform(-torch.ones(2), torch.ones(2))\n"
    )
    monkeypatch.chdir(tmp_path)
    nameless = SimulationStore(tmp_path / "nameless")
    nameless.append(torch.zeros(3, 2), torch.zeros(3, 2))
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "posterior.json").write_text("mine")
    for arguments, message in [
        (["nowhere"], "there is no nowhere"),
        (["."], "holds something else"),
        ([nameless.path], "does not hold its prior"),
        ([store.path, "--prior", "fit_model:prior"], "must be the one that filled"),
        ([store.path, "--out", "occupied"], "nothing is replaced"),
        ([store.path, "--seed", -1], "`seed` must be"),
    ]:
        result = call(*arguments)
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())
        assert "Traceback" not in result.output
    sys.modules.pop("fit_model", None)
    assert (tmp_path / "occupied" / "posterior.json").read_text() == "mine"


MODEL = """
import torch
from sbi.utils import BoxUniform

prior = BoxUniform(-2 * torch.ones(2), 2 * torch.ones(2))


def simulate(theta):
    x = theta + torch.randn_like(theta)
    return torch.where(theta[:, :1] > 1.5, torch.nan, x)
"""


def read_weights(folder):
    return MHPosterior.load(folder).potential_fn.ratio_estimator.state_dict()


def run_killed(arguments, folder, seconds):
    """Run the command, and kill it some seconds after its first checkpoint."""
    command = [sys.executable, "-m", "sbi_aalr.cli", "fit", *map(str, arguments)]
    command += ["--out", folder, "--checkpoint-every", "0.01"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (folder / "checkpoint.safetensors").exists():
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    time.sleep(seconds)
    child.kill()
    child.communicate()
    return child.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_fit_goes_on_and_leaves_no_checkpoint(store, tmp_path):
    arguments = [store.path]
    assert run_killed(arguments, tmp_path / "killed", 0.3)
    for name in ("killed", "whole"):
        result = call(*arguments, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    weights = [read_weights(tmp_path / name) for name in ("killed", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    found = {path.name for path in (tmp_path / "killed").iterdir()}
    assert found == {"posterior.json", "posterior.safetensors", "training.json"}


@pytest.mark.slow
def test_killed_fit_of_another_seed_is_begun_anew_on_demand(store, tmp_path):
    folder = tmp_path / "run"
    assert run_killed([store.path], folder, 0.1)
    result = call(store.path, "--out", folder, "--seed", 2)
    assert result.exit_code == 1
    assert "`seed` was 1 and is 2" in " ".join(result.output.split())
    more = ["--no-resume", "--time-limit", 20]
    result = call(store.path, "--out", folder, "--seed", 2, *more)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sbi_aalr.errors.InvalidSimulationsWarning")
def test_killed_streaming_goes_on_without_a_simulation_twice(tmp_path, monkeypatch):
    (tmp_path / "streamed_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    arguments = ["--simulator", "streamed_model:simulate"]
    arguments += ["--prior", "streamed_model:prior", "--num-simulations", 700]
    arguments += ["--workers", 2]
    assert run_killed(arguments, tmp_path / "killed", 1.0)
    for name in ("killed", "whole"):
        result = call(*arguments, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    weights = [read_weights(tmp_path / name) for name in ("killed", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    stores = [
        SimulationStore(tmp_path / name / "simulations.zarr")
        for name in ("killed", "whole")
    ]
    assert all(map(torch.equal, stores[0][:], stores[1][:]))
    known = stores[0].describe()
    assert known["num_simulations"] + known["num_failures"] == 700
    assert known["num_failures"] > 50
    assert isinstance(MHPosterior.load(tmp_path / "whole").proposal, ValidPrior)
    sys.modules.pop("streamed_model", None)


def test_what_cannot_be_streamed_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "other_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    named = ["--simulator", "other_model:simulate"]
    for arguments, message in [
        ([], "`store` must be given, or a simulator"),
        (named, "`prior` must be given with a simulator"),
        ([*named, "--prior", "other_model:prior", "--workers", 0], "`workers` must be"),
        (["--num-simulations", 0], "`num_simulations` must be"),
    ]:
        result = call(*arguments)
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())
        assert "Traceback" not in result.output
    sys.modules.pop("other_model", None)
