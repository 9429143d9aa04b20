"""The command line, in this process where it can be and in a real one where not."""

import subprocess
import sys

import pytest
import torch
import xarray as xr
from calls import call
from sbi.utils import BoxUniform

from sbi_aalr import AALR, __version__
from sbi_aalr.simulators import SLCP

HEAVY = {"torch", "sbi", "xarray", "matplotlib", "arviz_base", "arviz_stats"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    slcp = SLCP()
    trainer = AALR(slcp.prior, show_progress_bars=False)
    trainer.train_online(slcp.simulate, 2_000, seed=1, time_limit=5)
    folder = tmp_path_factory.mktemp("slcp")
    return trainer.build_posterior().save(folder)


@pytest.fixture
def observations(tmp_path):
    def write(*rows):
        path = tmp_path / "observations.csv"
        path.write_text("\n".join(rows))
        return path

    return write


ROW = "0.1,-2.9,1,-3,0.4,-2,2,-1.5"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments):
    result = call(*arguments)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("demo", "sample", "report"))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("demo", ("--num-simulations", "--seed", "--out", "--device")),
        ("sample", ("--x", "--num-samples", "--out", "--seed", "--num-chains")),
        ("report", ("--out", "--chains", "--num-simulations", "--seed")),
    ],
)
def test_help_of_a_command_lists_its_options(command, options):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert all(option in result.stdout for option in options)


def test_version_is_the_package_s():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"sbi-aalr {__version__}\n")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom sbi_aalr.cli.app import app\n"
        "try:\n    app(['demo', '--help'])\n"
        "except SystemExit as stop:\n    print('code', stop.code)\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--num-simulations" in shown and "code 0" in shown
    assert not HEAVY & set(shown.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bogus",), "No such option: --bogus"),
        (("bogus",), "No such command 'bogus'"),
        (("demo", "--bogus"), "No such option: --bogus"),
        (("demo", "--num-simulations", "many"), "'--num-simulations'"),
        (("sample",), "Missing"),
        (("sample", "runs/slcp"), "Missing option '--x'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--num-simulations", 0, "`num_simulations` must be a positive int, got 0"),
        ("--num-samples", -1, "`num_samples` must be a positive int, got -1"),
        ("--seed", -1, "`seed` must be"),
        ("--device", "abacus", "`device` must be a torch device"),
        ("--out", __file__, "`out` must be a folder"),
    ],
)
def test_wrong_value_for_demo_is_one_line_and_exit_code_1(option, value, message):
    result = call("demo", option, value)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "extra", "message"),
    [
        ((ROW, "1,2"), (), "observations.csv, line 2: a row must have 8 values"),
        (("a,b", ROW.replace("-3", "x")), (), "line 2, value 4 must be a finite"),
        ((ROW.replace("-3", "nan"),), (), "line 1, value 4 must be a finite"),
        ((), (), "holds no observations"),
        ((ROW,), ("--x", "nowhere.csv"), "`x` must be a CSV file"),
        ((ROW,), ("--num-samples", "0"), "`num_samples` must be a positive int"),
        ((ROW,), ("--num-chains", "0"), "`num_chains` must be a positive int"),
        ((ROW,), ("--device", "abacus"), "`device` must be a torch device"),
        ((ROW,), ("--out", "."), "`out` must be a file"),
        ((ROW,), ("--out", ""), "`out` must be a file"),
        ((ROW,), ("--out", "/dev/null"), "`out` must end in .nc"),
        ((ROW, ROW), ("--out", "/dev/null"), "`out` must end in .nc"),
        ((ROW,), ("--out", "/proc/a.nc"), "`out` must lie where files can be written"),
        ((ROW.replace(",", ";"),), (), "line 1: values must be separated by commas"),
    ],
)
def test_wrong_value_for_sample_is_one_line_and_exit_code_1(
    run, observations, tmp_path, rows, extra, message
):
    out = tmp_path / "samples.nc"
    result = call("sample", run, "--x", observations(*rows), "--out", out, *extra)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_sample_from_a_folder_without_a_run_names_what_is_missing(
    observations, tmp_path
):
    result = call("sample", tmp_path, "--x", observations(ROW))
    assert result.exit_code == 1
    assert "must hold a saved posterior" in result.stderr


def test_sample_of_one_row_shows_and_writes_its_posterior(run, observations, tmp_path):
    out = tmp_path / "new" / "samples.nc"
    x = observations("a,b,c,d,e,f,g,h", ROW)
    result = call("sample", run, "--x", x, "--num-samples", 1_000, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert f"Skipped the header of {x}: a,b,c" in result.stdout
    assert "theta_5" in result.stdout and "Chains converged: R-hat" in result.stdout
    assert f"Wrote {out}" in result.stdout
    assert list(out.parent.iterdir()) == [out]
    with xr.open_datatree(out) as tree:
        theta = tree["posterior"]["theta"]
        assert theta.dims == ("chain", "draw", "parameter")
        assert theta.shape == (32, 100, 5)
        assert tree["observed_data"]["x"].values.tolist()[3] == -3
        assert tree.attrs["seed"] == 1


def test_sample_of_several_rows_shows_and_writes_each(run, observations, tmp_path):
    out = tmp_path / "samples.nc"
    x = observations(ROW, ROW)
    extra = ("--num-samples", 100, "--num-chains", 20, "--seed", 2)
    result = call("sample", run, "--x", x, "--out", out, *extra)
    assert result.exit_code == 0, result.stderr
    assert "Posteriors of 2 observations" in result.stdout
    with xr.open_datatree(out) as tree:
        dims = ("chain", "draw", "observation", "parameter")
        assert tree["posterior"]["theta"].dims == dims
        assert tree["posterior"].sizes["chain"] == 20
        assert tree["observed_data"]["x"].shape == (2, 8)
        assert tree.attrs["seed"] == 2
        assert "diagnostics" in tree.children
    assert not out.with_name("samples.nc.parts").exists()
    again = call("sample", run, "--x", x, "--out", out, *extra)
    assert again.exit_code == 1 and "must not exist yet" in again.stderr


@pytest.mark.parametrize("rows", [(ROW,), (ROW, ROW)])
def test_one_row_is_written_as_several_are(run, observations, tmp_path, rows):
    x = observations(*rows)
    wrong = call("sample", run, "--x", x, "--out", tmp_path / "samples.txt")
    assert wrong.exit_code == 1 and "must end in .nc" in wrong.stderr
    out = tmp_path / "samples.zarr"
    options = ("--num-samples", 100, "--num-chains", 20, "--out", out)
    result = call("sample", run, "--x", x, *options)
    assert result.exit_code == 0, result.stderr
    with xr.open_datatree(out) as tree:
        assert "converged" in tree["diagnostics"]
    before = sorted(path.name for path in tmp_path.iterdir())
    again = call("sample", run, "--x", x, *options)
    assert again.exit_code == 1 and "must not exist yet" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("rows", [(ROW,), (ROW, ROW)])
def test_sample_replaces_nothing(run, tmp_path, rows):
    own = tmp_path / "own.nc"
    own.write_text("\n".join(rows))
    for x, out in ((own, own), (own, run / "posterior.json")):
        before = out.read_bytes()
        result = call("sample", run, "--x", x, "--out", out)
        assert result.exit_code == 1 and "`out` must" in result.stderr
        assert out.read_bytes() == before


@pytest.mark.filterwarnings("ignore:Maximum number of epochs")
def test_digits_of_observations_reach_the_network(observations, tmp_path):
    """Read as float32 they gave a posterior that was several sd off, with no word."""
    centre = 2_460_000.0
    torch.manual_seed(1)
    prior = BoxUniform(torch.zeros(1), torch.ones(1))
    theta = prior.sample((500,))
    x = centre + theta.double() + 0.02 * torch.randn(500, 1).double()
    trainer = AALR(prior, base="posterior", show_progress_bars=False)
    trainer.append_simulations(theta, x).train(seed=1, max_num_epochs=5)
    posterior = trainer.build_posterior()
    folder = posterior.save(tmp_path / "run")
    rows, out = observations("2460000.1", "2460000.2"), tmp_path / "samples.nc"
    options = ("--out", out, "--num-samples", 100, "--seed", 1)
    result = call("sample", folder, "--x", rows, *options)
    assert result.exit_code == 0, result.stderr
    x_o = torch.tensor([[centre + 0.1], [centre + 0.2]], dtype=torch.float64)
    posterior.sample_batched((100,), x_o, seed=1, show_progress_bars=False)
    expected = posterior.to_datatree()
    with xr.open_datatree(out) as tree:
        assert tree["observed_data"]["x"].values.tolist() == x_o.tolist()
        found = tree["posterior"]["theta"].values
    assert found == pytest.approx(expected["posterior"]["theta"].values, abs=1e-5)
    # The control: these are 0.25 apart in float32.
    means = found.mean(axis=(0, 1))
    assert means[1, 0] - means[0, 0] == pytest.approx(0.1, abs=0.05)
