"""What a report's commands are, and priors that are named on the command line."""

import html
import json
import shlex
from pathlib import Path

import pytest
import torch
from linear_gaussian import SHORT, draw_pairs
from reports import read_words
from typer.testing import CliRunner

from sbi_aalr import MHPosterior
from sbi_aalr.cli.app import app
from sbi_aalr.cli.named_simulator import import_prior
from sbi_aalr.cli.report_folder import _list_commands
from sbi_aalr.errors import UnsavedPriorWarning
from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.training.classifiers import NamedBuilder

OWN_PRIOR = """
import torch
from sbi.utils import BoxUniform

class Own(BoxUniform): pass

prior = Own(-torch.ones(2), torch.ones(2))
nothing = 3

class Model:
    def __init__(self): self.prior = prior
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make(prior):
    theta, _, x = draw_pairs(50, seed=1)
    torch.manual_seed(1)
    estimator = NamedBuilder("two_towers", {"hidden_features": 8})(theta, x)
    posterior = MHPosterior.from_estimator(estimator, prior)
    return posterior.set_default_x(x[:1])


def test_commands_are_quoted_for_the_shell():
    folder = Path("my run; rm -rf ~")
    training = {"num_simulations": 10, "num_samples": 20, "seed": 3}
    options = {"--out": folder / "it's.html", "--chains": None, "--prior": "a:b"}
    demo, report = _list_commands(folder, training, options).split("\n")
    words = ["demo", "--num-simulations", "10", "--seed", "3", "--num-samples", "20"]
    assert shlex.split(demo) == ["sbi-aalr", *words, "--out", str(folder)]
    words = ["report", str(folder), "--out", str(folder / "it's.html")]
    assert shlex.split(report) == ["sbi-aalr", *words, "--prior", "a:b"]
    dashed = _list_commands(Path("-x"), {}, {"--out": Path("-x/r.html")})
    assert dashed == "sbi-aalr report ./-x --out ./-x/r.html"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"training_loss": ["low"]}, "`training_loss` must be a list of finite"),
        ({"num_samples": "; rm -rf ~"}, "`num_samples` must be a positive int, got '"),
    ],
)
def test_values_of_training_are_refused_before_the_checks(tmp_path, training, message):
    posterior = make(TwoMoons().prior)
    folder = posterior.save(tmp_path / "my run")
    posterior.sample((20,), seed=1, out=folder / "chains.nc", **SHORT)
    (folder / "training.json").write_text(json.dumps({"simulator": "slcp", **training}))
    result = call("report", folder)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert f"training.json is damaged: {message}" in result.stderr
    assert "…" not in result.stdout


def test_prior_that_is_not_saved_can_be_named(tmp_path, unpictured, monkeypatch):
    (tmp_path / "own_prior.py").write_text(OWN_PRIOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "my run"
    with pytest.warns(UnsavedPriorWarning, match="a Own, was not saved"):
        make(import_prior("own_prior:prior")).save(folder)
    rows = tmp_path / "x.csv"
    rows.write_text("0.1,-0.2\n0.3,0.1\n")
    sample = ("sample", folder, "--x", rows, "--num-samples", 20, "--num-chains", 4)
    quick = {"kernel": "auto", "max_steps": 50, "warmup_steps": 5, "num_candidates": 99}
    quick |= {"min_ess": 20.0, "max_rhat": None}
    document = read_sealed(folder / "posterior.json")
    document |= {"parameters": {**document["parameters"], **quick}}
    write_sealed(folder / "posterior.json", document)
    for command, out in (
        (sample, folder / "chains.nc"),
        (("report", folder), folder / "a page.html"),
    ):
        result = call(*command, "--out", out)
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert "a prior that JSON cannot hold" in result.stderr
        for name, message in (
            ("prior", "`prior` must be module:name, such as my_model:prior, got"),
            ("nowhere:prior", "`prior` must name a module that can be imported"),
            ("own_prior:gone", "`prior` must name something in own_prior, got gone"),
            ("own_prior:nothing", "`prior` must be a torch Distribution, got int"),
        ):
            result = call(*command, "--out", out, "--prior", name)
            assert result.exit_code == 1 and message in result.stderr
        assert not out.exists()
        result = call(*command, "--out", out, "--prior", "own_prior:Model")
        assert result.exit_code == 0, result.stderr
        assert out.exists()
    command = shlex.join(["sbi-aalr", "report", str(folder), "--out", str(out)])
    words = html.unescape(read_words(out))
    assert command in words and "--prior own_prior:Model" in words


def test_prior_of_a_simulator_can_be_named():
    prior = import_prior("sbi_aalr.simulators:TwoMoons")
    assert torch.equal(prior.mean, TwoMoons().prior.mean)


def test_named_prior_must_be_the_one_saved(tmp_path):
    folder = make(TwoMoons().prior).save(tmp_path / "run")
    rows = tmp_path / "x.csv"
    rows.write_text("0.1,-0.2\n")
    result = call(
        "sample", folder, "--x", rows, "--prior", "sbi_aalr.simulators:GaussianLinear"
    )
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "`prior` must be the one that the posterior was saved with" in result.stderr
