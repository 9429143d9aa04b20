"""The command on problems of one's own: names, truths, networks and tasks."""

import html
import shlex

import pytest
import torch
import xarray as xr
from linear_gaussian import draw_pairs
from reports import read_words
from typer.testing import CliRunner

from sbi_aalr import MHPosterior
from sbi_aalr.cli.app import app
from sbi_aalr.cli.compare import _read_tasks
from sbi_aalr.files import read_sealed, write_sealed
from sbi_aalr.simulators import TwoMoons
from sbi_aalr.training.classifiers import NamedBuilder

MODEL = """
import torch
from sbi_aalr.networks import two_towers
from sbi_aalr.simulators import TwoMoons

net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh())
build = two_towers(8, embedding_net_x=net)
nothing = 3

def make_net():
    return net

def fail_to_make():
    return {}["net"]

class MyTask:
    def __init__(self):
        self.prior = TwoMoons().prior
    def simulate(self, theta):
        return theta + torch.randn_like(theta)
"""
QUICK = {"kernel": "auto", "max_steps": 50, "warmup_steps": 5, "num_candidates": 99}


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A saved posterior with a network of one's own, and observations beside it."""
    (tmp_path / "own_model.py").write_text(MODEL)
    (tmp_path / "x.csv").write_text("0.1,-0.2\n0.3,0.1\n")
    (tmp_path / "truth.csv").write_text("0.2,-0.1\n0.1,0.3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import own_model

    theta, _, x = draw_pairs(50, seed=1)
    torch.manual_seed(1)
    estimator = own_model.build(theta, x)
    posterior = MHPosterior.from_estimator(
        estimator, TwoMoons().prior, parameter_names=["left", "right"]
    )
    folder = posterior.save(tmp_path / "run")
    document = read_sealed(folder / "posterior.json")
    document |= {"parameters": {**document["parameters"], **QUICK}}
    write_sealed(folder / "posterior.json", document)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_own_network_names_and_truth_go_from_samples_to_report(
    folder, tmp_path, unpictured
):
    chains = folder / "chains.nc"
    sample = ("sample", folder, "--x", "x.csv", "--num-samples", 20, "--num-chains", 4)
    result = call(*sample, "--out", chains)
    assert (
        result.exit_code == 1 and "a classifier that JSON cannot hold" in result.stderr
    )
    own = ("--classifier", "own_model:build")
    result = call(*sample, "--out", chains, *own)
    assert result.exit_code == 0, result.stderr
    with xr.open_datatree(chains) as tree:
        assert tree["posterior"]["parameter"].values.tolist() == ["left", "right"]
    page = tmp_path / "page.html"
    told = ("--truth", "truth.csv", "--parameter-names", "a b,c", "--title", "My run")
    result = call("report", folder, "--out", page, *own, *told, "--ci-prob", 0.94)
    assert result.exit_code == 0, result.stderr
    words = html.unescape(read_words(page))
    assert "My run" in words and "a b" in words and "94 % from" in words
    assert "truth" in words
    # The command that does it again is the one that was given.
    again = shlex.join(["--parameter-names", "a b,c", "--truth", "truth.csv"])
    assert again in words and "--title 'My run' --ci-prob 0.94" in words


@pytest.mark.filterwarnings("ignore")
def test_embedding_net_is_named_where_the_whole_network_is_not(
    folder, tmp_path, unpictured
):
    import own_model

    theta, _, x = draw_pairs(50, seed=1)
    small = {"hidden_features": 8, "num_blocks": 1}
    estimator = NamedBuilder("two_towers", small, own_model.net)(theta, x)
    posterior = MHPosterior.from_estimator(estimator, TwoMoons().prior, **QUICK)
    folder, chains = posterior.save(tmp_path / "other"), tmp_path / "chains.nc"
    sample = ("sample", folder, "--x", "x.csv", "--num-samples", 20, "--num-chains", 4)
    for name in ("net", "make_net"):
        net = ("--embedding-net", f"own_model:{name}")
        result = call(*sample, "--out", tmp_path / f"{name}.nc", *net)
        assert result.exit_code == 0, result.stderr
    for name, message in (
        ("nothing", "`embedding_net` must be a torch module"),
        ("nobody", "`embedding_net` must name something in own_model"),
        ("fail_to_make", "fail_to_make() raised KeyError"),
    ):
        wrong = ("--embedding-net", f"own_model:{name}")
        result = call(*sample, "--out", chains, *wrong)
        assert result.exit_code == 1 and message in result.stderr
    result = call(*sample, "--out", chains)
    assert result.exit_code == 1 and "`--embedding-net module:name`" in result.stderr
    page = tmp_path / "page.html"
    result = call("report", folder, "--chains", "net.nc", "--out", page, *net)
    assert result.exit_code == 0, result.stderr
    assert "--embedding-net own_model:make_net" in html.unescape(read_words(page))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--classifier", "own_model:nothing", "`classifier` must be a callable"),
        ("--classifier", "build", "`classifier` must be module:name, such as"),
        ("--parameter-names", "a", "`parameter_names` must be 2 names"),
        ("--parameter-names", "a,a", "`parameter_names` must be distinct"),
    ],
)
def test_wrong_names_are_told_in_one_line(folder, option, value, message):
    given = {"--classifier": "own_model:build", option: value}
    words = [word for pair in given.items() for word in pair]
    result = call("sample", folder, "--x", "x.csv", "--out", "a.nc", *words)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_own_tasks_stand_beside_those_of_the_package(folder):
    tasks = _read_tasks("two_moons, own_model:MyTask")
    assert list(tasks) == ["two_moons", "MyTask"]
    assert tasks["MyTask"].simulate(torch.zeros(3, 2)).shape == (3, 2)
    assert _read_tasks("two_moons,slcp") == ["two_moons", "slcp"]
    for text, message in (
        ("moon,own_model:MyTask", "must be module:name or one of"),
        ("own_model:MyTask,own_model:MyTask", "got MyTask twice"),
    ):
        result = call("compare", "--tasks", text, "--out", "out")
        assert result.exit_code == 2 and message in result.stderr


def test_comparison_runs_an_own_task(folder):
    result = call(
        *("compare", "--tasks", "own_model:MyTask", "--methods", "npe", "--out", "out"),
        *("--budgets", 100, "--observations", 1, "--num-samples", 50),
    )
    assert result.exit_code == 0, result.stderr
    assert "MyTask" in result.stdout
