import errno
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import imread
from reports import read_words

from sbi_aalr import MHPosterior
from sbi_aalr.cli.demo_run import run_demo
from sbi_aalr.cli.heartbeat import heartbeat
from sbi_aalr.cli.report_folder import report_folder
from sbi_aalr.files import write_text
from sbi_aalr.persistence.training_json import read_training, write_training
from sbi_aalr.report.page import is_report
from sbi_aalr.simulators import SLCP

pytestmark = pytest.mark.usefixtures("hasty_recipe")


@pytest.fixture(scope="module")
def result(tmp_path_factory, hasty_recipe):
    return run_demo(
        tmp_path_factory.mktemp("demo") / "runs" / "slcp",
        num_simulations=1_000,
        num_samples=1_000,
        # So long that a busy machine does not tell.
        time_limit=1_000,
        seed=3,
        show_progress_bars=False,
    )


def test_table_has_the_truth_and_passes(result):
    table = result.table
    truth = SLCP().true_parameters
    assert torch.equal(torch.tensor(table["truth"].to_numpy()), truth)
    assert list(table.columns[:3]) == ["truth", "mean", "sd"]
    assert (table["r_hat"] <= 1.01).all()
    assert (table[["ess_bulk", "ess_tail"]] >= 400).all(axis=None)


def test_observation_is_the_seed_s_and_the_default(result):
    generator = torch.Generator().manual_seed(3)
    slcp = SLCP()
    x_o = slcp.simulate(slcp.true_parameters[None], generator=generator)
    assert torch.equal(result.x_o, x_o)
    assert torch.equal(result.posterior.default_x, x_o)


def test_files_are_those_named_and_no_other(result):
    folder = result.files[0].parent
    assert sorted(result.files) == sorted(folder.iterdir())
    modes = {file.stat().st_mode for file in result.files}
    assert len(modes) == 1  # One umask for all.


def test_report_of_a_demo_knows_the_truth(result, hasty, unpictured, tmp_path):
    page = tmp_path / "page.html"
    report_folder(result.files[0].parent, page, num_simulations=200)
    words = read_words(page)
    assert "truth" in words and "-2.9" in words
    assert "Not run" not in words


def test_estimator_comes_back(result):
    loaded = MHPosterior.load(result.files[0].parent)
    theta = SLCP().prior.sample((10,))
    assert torch.equal(loaded.default_x, result.x_o)
    assert torch.equal(loaded.log_prob(theta), result.posterior.log_prob(theta))


def test_chains_come_back(result):
    with xr.open_datatree(result.files[0].parent / "chains.nc") as tree:
        theta = torch.from_numpy(tree["posterior"]["theta"].values)
        assert torch.equal(theta, result.posterior.chains.theta[:, :, 0])
        assert tree["observed_data"]["x"].shape == (8,)
        assert tree["prior"]["theta"].shape == (1, 1_000, 5)
        assert tree["posterior_predictive"]["x"].shape == (32, 32, 8)
        assert tree.attrs["num_simulations"] == 1_000
        assert tree.attrs["seed"] == 3


def test_history_of_the_fit_is_written(result):
    history = read_training(result.files[0].parent)
    losses = history.pop("training_loss")
    # The recipe passes over so few simulations many times, in batches of its choice.
    assert len(losses) > 20
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(0 < loss < 100 for loss in losses)
    held_out = history.pop("validation_loss")
    assert len(held_out) == 3 and held_out[-1] < held_out[0]
    assert history.pop("fit_seconds") > 0
    trained = [one for one in history.pop("stack")["structures"] if len(one) > 2]
    assert all(len(one["validation_loss"]) > 1 for one in trained) and trained
    assert history == {
        "simulator": "slcp",
        "num_simulations": 1_000,
        "num_samples": 1_000,
        "seed": 3,
    }


@pytest.mark.parametrize("name", ["corner.png", "trace_rank.png"])
def test_figures_are_pictures(result, name):
    picture = imread(result.files[0].parent / name)
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.05


@pytest.mark.slow
def test_command_line_writes_the_same_chains_and_shows_the_table(result, tmp_path):
    out = tmp_path / "slcp"
    command = [sys.executable, "-m", "sbi_aalr.cli", "demo", "--seed", "3"]
    command += ["--num-simulations", "1000", "--num-samples", "1000", "--out", str(out)]
    command += ["--time-limit", "1000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    header = "parameter truth mean sd 94% interval ESS bulk ESS tail R-hat"
    assert [line.split()[0] for line in lines[:3]] == ["Fitting", "Sampling", "Drawing"]
    assert header in lines
    assert any(
        line.startswith("Chains converged: R-hat is at most 1.00") for line in lines
    )
    names = [*(file.name for file in result.files), "report.html"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    # Told at the end: whether to trust it.
    assert lines[-1].startswith(("Do not trust", "Use this result", "No flaw found"))
    assert all(str(out / name) in done.stdout for name in names)
    with xr.open_datatree(out / "chains.nc") as tree:
        theta = torch.from_numpy(tree["posterior"]["theta"].values)
    assert torch.equal(theta, result.posterior.chains.theta[:, :, 0])


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("num_simulations", 0, ValueError),
        ("num_simulations", 1e6, TypeError),
        ("num_samples", -1, ValueError),
        ("seed", -1, ValueError),
        ("device", "abacus", ValueError),
        ("device", "cuda:99", ValueError),
    ],
)
def test_wrong_value_is_refused_before_anything_is_made(
    tmp_path, argument, value, error
):
    out = tmp_path / "runs"
    with pytest.raises(error, match=f"`{argument}` must be"):
        run_demo(out, **{argument: value})
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        ("file", NotADirectoryError, "`out` must be a folder, but .*file is a file"),
        ("file/runs", NotADirectoryError, "`out` must be a folder, but .*file is"),
        ("", ValueError, "`out` must be a path that is not empty"),
        ("/proc/runs", OSError, "`out` must lie where files can be written"),
        ("/dev/null", NotADirectoryError, "/dev/null is a device"),
    ],
)
def test_what_cannot_be_a_folder_is_refused(tmp_path, out, error, match):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(error, match=match):
        run_demo(tmp_path / out if out.startswith("file") else out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["posterior.json", "chains.nc", "corner.png"])
@pytest.mark.parametrize("training", [None, {"simulator": "mine"}])
def test_files_of_no_demo_are_not_replaced(tmp_path, name, training):
    (tmp_path / name).write_text("mine")
    if training is not None:
        write_training(tmp_path, training)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"`out` must be a folder where .*{name}"):
        run_demo(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "rooms", [(1, 4), pytest.param(range(1, 7), marks=pytest.mark.slow)]
)
def test_demo_over_a_demo_never_leaves_files_of_both(tmp_path, monkeypatch, rooms):
    """Stopped at the first write and at the chains, over an earlier one's report."""
    quick = {"num_simulations": 500, "num_samples": 100, "time_limit": 2}
    quick["show_progress_bars"] = False
    earlier, sync, count = tmp_path / "earlier", os.fsync, []
    monkeypatch.setattr("sbi_aalr.cli.demo_run.plot_corner", lambda *_, **__: Figure())
    monkeypatch.setattr("sbi_aalr.cli.demo_run.plot_trace_rank", lambda *_: Figure())
    run_demo(earlier, **quick)
    write_text(earlier / "report.html", "<footer><p>Made by sbi_aalr 0.1.0 on")
    write_text(earlier / "notes.txt", "mine")
    assert is_report(earlier / "report.html")

    def stop(handle):
        count.append(handle)
        if len(count) == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    for room in rooms:
        out = tmp_path / f"run_{room}"
        shutil.copytree(earlier, out)
        count.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", stop)
            with pytest.raises(OSError, match="No space left"):
                run_demo(out, seed=2, **quick)
        assert (out / "notes.txt").read_text() == "mine"
        assert not [path for path in out.iterdir() if path.suffix == ".tmp"]
        # All of it is the earlier one while the new fit was not on disk.
        same = [
            path.read_bytes() == (earlier / path.name).read_bytes()
            # Empty figures are alike.
            for path in out.glob("[!n]*[!g]")
        ]
        assert same == ([True] * 5 if room <= 3 else [False] * len(same))
        assert (out / "report.html").exists() == (room <= 3)
        MHPosterior.load(out)
    run_demo(out, seed=2, **quick)
    assert len(list(out.iterdir())) == 7


def test_fit_is_bounded_by_time(tmp_path):
    said = []
    began = time.perf_counter()
    result = run_demo(
        tmp_path,
        num_samples=100,
        time_limit=2,
        show_progress_bars=False,
        on_phase=said.append,
    )
    # Beside the fit, figures and exact draws are made.
    assert result.fit_seconds < 10 and time.perf_counter() - began < 120
    assert "for 2 s at most" in said[0]
    with pytest.raises(ValueError, match="`time_limit` must be a positive"):
        run_demo(tmp_path / "other", time_limit=0)


def test_interrupted_demo_leaves_a_usable_run(tmp_path, monkeypatch):
    """Ctrl-C in the fit, as a simulator sees it."""
    calls, simulate = [], SLCP.simulate

    def stop(self, theta, **settings):
        calls.append(len(theta))
        if len(calls) == 20:
            raise KeyboardInterrupt
        return simulate(self, theta, **settings)

    monkeypatch.setattr(SLCP, "simulate", stop)
    said = []
    result = run_demo(
        tmp_path,
        num_simulations=6_000,
        num_samples=200,
        show_progress_bars=False,
        on_phase=said.append,
    )
    assert result.is_interrupted
    assert any(line.startswith("Interrupted: going on") for line in said)
    assert sorted(result.files) == sorted(tmp_path.iterdir())
    assert MHPosterior.load(tmp_path).sample((10,), show_progress_bars=False).shape


def test_demo_interrupted_before_the_first_step_ends(tmp_path, monkeypatch):
    def stop(self, theta, **settings):
        raise KeyboardInterrupt

    run = {"num_samples": 100, "show_progress_bars": False}
    monkeypatch.setattr("sbi_aalr.cli.demo_run._Counted.__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, **run)
    assert list(tmp_path.iterdir()) == []


def test_heartbeat_tells_how_far_it_is():
    said = []
    with heartbeat(said.append, lambda seconds: f"{seconds:.1f} s", 0.05):
        time.sleep(0.4)
    count = len(said)
    assert 2 <= count <= 9 and said[0].endswith(" s")
    time.sleep(0.15)
    assert len(said) == count
