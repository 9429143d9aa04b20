"""`sbi-aalr fit`: from a store to a folder that the other commands take."""

import sys

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
    result = call(store.path, "--out", folder)
    assert result.exit_code == 0, result.output
    assert f"Wrote {folder}" in result.output.replace("\n", "")
    posterior = MHPosterior.load(folder)
    assert isinstance(posterior.proposal, ValidPrior)
    assert posterior.proposal.sample((2_000,))[:, 0].max() < 1.5
    training = read_training(folder)
    assert training["num_simulations"] == len(store) < 600
    assert training["num_simulations"] + training["num_failures"] == 600
    assert training["simulator"] == "my_model:simulate"


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
