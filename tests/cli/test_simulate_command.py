"""`sbi-aalr simulate`: a store from the shell, killed and continued."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sbi_aalr.cli.app import app
from sbi_aalr.cli.progress_lines import SimulationProgress
from sbi_aalr.simulation import SimulationStore

MODEL = """
import time

import torch
from sbi.utils import BoxUniform

prior = BoxUniform(-torch.ones(2), torch.ones(2))


def simulate(theta):
    time.sleep(0.01)
    return theta + torch.randn_like(theta)


def fail(theta):
    if (theta[:, 0] > 0.8).any():
        raise ValueError("too stiff")
    return simulate(theta)
def overflow(theta):
    return 1e200 * theta.double()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "shell_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("shell_model", None)


def make_arguments(simulator="simulate", out="sims.zarr", **options):
    settings = {
        "prior": "shell_model:prior",
        "num-simulations": 60,
        "workers": 1,
        "batch-size": 10,
        "out": out,
        **options,
    }
    pairs = [(f"--{name}", str(value)) for name, value in settings.items()]
    return [
        "simulate",
        f"shell_model:{simulator}",
        *(part for p in pairs for part in p),
    ]


def call(*arguments, **options):
    return CliRunner().invoke(app, make_arguments(*arguments, **options))


def start(folder, **options):
    command = [sys.executable, "-m", "sbi_aalr.cli", *make_arguments(**options)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def is_equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("default::sbi_aalr.errors.InvalidSimulationsWarning")
def test_command_fills_a_store_and_sets_failures_aside(folder):
    result = call("fail")
    assert result.exit_code == 0, result.output
    store = SimulationStore("sims.zarr")
    found = store.describe()
    assert found["simulator"] == "shell_model:fail" and found["seed"] == 1
    assert found["prior"]["type"] == "BoxUniform"
    assert found["num_failures"] == (store.failures.theta[:, 0] > 0.8).sum() > 0
    assert store.validate() + found["num_failures"] == 60
    assert (
        f"holds 60 simulations of seed 1, of which {found['num_failures']} failed"
        in (result.output)
        and "other seeds" not in result.output
    )
    assert "set aside" in result.output
    result = call("fail", **{"num-simulations": 80})
    assert result.exit_code == 0 and "holds 60 of these simulations" in result.output
    assert (
        sum(
            SimulationStore("sims.zarr").describe()[n]
            for n in ("num_simulations", "num_failures")
        )
        == 80
    )
    result = call("fail", **{"num-simulations": 40, "seed": 2})
    assert "holds 40 simulations of seed 2" in result.output
    assert f"it holds {len(SimulationStore('sims.zarr')):,} that did not" in (
        result.output
    )


@pytest.mark.filterwarnings("default::sbi_aalr.errors.InvalidSimulationsWarning")
def test_command_of_which_all_fail_says_why_and_fails(folder):
    result = call("overflow")
    assert result.exit_code == 1
    message = "all 60 that were tried failed, the first because it returned NaN or"
    assert message in result.stderr and "too large for float32" in result.stderr
    assert SimulationStore("sims.zarr").describe()["num_failures"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num-simulations": 0}, "`num_simulations` must be a positive int"),
        ({"workers": 0}, "`workers` must be a positive int"),
        ({"on-error": "panic"}, "`on_error` must be one of"),
        ({"prior": "shell_model:nothing"}, "`prior` must name something"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "`workers` must be left out"),
        ({"out": "shell_model.py"}, "must be a folder"),
    ],
)
def test_wrong_options_are_said_in_one_line(folder, options, message):
    result = call(**options)
    assert result.exit_code == 1
    assert message in result.output and "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_lines_tell_of_progress_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sbi_aalr.cli.progress_lines._SECONDS_BETWEEN", 0.05)
    with SimulationProgress(1_000, 100) as progress:
        time.sleep(0.08)
        progress.update(400, 7)
        time.sleep(0.1)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  100 of 1,000 simulations, 0 failed", first)
    assert re.search(r"400 of 1,000 simulations, 7 failed, .* a second, .* left", last)


def kill_on_the_way(folder, num_more, seconds, **options):
    """Kill the command and its processes some time after it has got so much further."""
    wanted = num_more + count("sims.zarr")
    process = start(folder, **options)
    while process.poll() is None and count("sims.zarr") < wanted:
        time.sleep(0.01)
    time.sleep(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def count(name):
    return len(SimulationStore(name)) if Path(name).exists() else 0


def finish(folder, **options):
    process = start(folder, **options)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_killed_command_goes_on_to_the_same_store(folder):
    expected = SimulationStore("expected")
    process = start(folder)
    while not Path("sims.zarr").exists() or len(SimulationStore("sims.zarr")) < 20:
        assert process.poll() is None
        time.sleep(0.05)
    # The command only: its worker sees to its own end.
    process.kill()
    process.communicate()
    found = len(SimulationStore("sims.zarr"))
    assert 20 <= found < 60 or found == 60
    assert f"{found} of these" in finish(folder) or found == 60
    call(out="expected")
    assert is_equal(SimulationStore("sims.zarr")[:], expected[:])


@pytest.mark.slow
def test_command_may_be_killed_a_hundred_times(folder):
    generator = random.Random(1)
    options = {"num-simulations": 20_000, "batch-size": 50, "workers": 2}
    counts = [0]
    for _ in range(100):
        more, seconds = generator.randrange(300), generator.uniform(0, 0.2)
        kill_on_the_way(folder, more, seconds, **options)
        counts.append(count("sims.zarr"))
        assert SimulationStore("sims.zarr").validate() == counts[-1] >= counts[-2]
    # Most of the kills came while there were simulations.
    assert len(set(counts)) > 50
    finish(folder, **options)
    finish(folder, out="expected", **options)
    store, expected = SimulationStore("sims.zarr"), SimulationStore("expected")
    assert is_equal(store[:], expected[:]) and len(store) == 20_000
    marks = store._marks.read().known
    assert len(marks) == len({mark.batch for mark in marks}) == 400
    assert not list(folder.rglob(".sbi_aalr-*"))
