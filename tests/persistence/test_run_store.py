"""Runs that are written as they go, killed, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
import xarray as xr
from linear_gaussian import PRIOR, SHORT, exact_posterior

from sbi_aalr import MHPosterior
from sbi_aalr.persistence.finished_chunks import ChunkFiles
from sbi_aalr.persistence.run_store import check_store, locate_parts
from sbi_aalr.sampling import chunk

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_store_holds_what_the_run_returned(posterior, many, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    out = tmp_path / f"run{suffix}"
    draws = posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)
    assert os.listdir(tmp_path) == [out.name]
    with xr.open_datatree(out) as tree:
        theta = tree["posterior"]["theta"]
        assert theta.dims == ("chain", "draw", "observation", "parameter")
        flat = torch.as_tensor(theta.values).transpose(0, 1).flatten(0, 1)
        assert torch.equal(flat, draws)
        assert tree["observed_data"]["x"].shape == (8, 2)
        assert tree["diagnostics"]["r_hat"].dims == ("observation", "parameter")
        assert tree.attrs["seed"] == 4
    assert torch.equal(draws, posterior.sample_batched((40,), many, seed=4, **SHORT))


class Interruption(Exception):
    pass


def interrupt_after(monkeypatch, num_chunks):
    """Make the run stop when so many chunks have been written; count all writes."""
    written = []
    write = ChunkFiles.write

    def count(self, number, result):
        write(self, number, result)
        written.append(number)
        if len(written) == num_chunks:
            raise Interruption

    monkeypatch.setattr(ChunkFiles, "write", count)
    return written


@pytest.mark.parametrize("seed", [4, None])
def test_interrupted_run_goes_on_where_it_stopped(
    posterior, many, tmp_path, monkeypatch, seed
):
    out = tmp_path / "run.nc"
    written = interrupt_after(monkeypatch, 2)
    with pytest.raises(Interruption):
        posterior.sample_batched((40,), many, seed=seed, out=out, **SHORT)
    assert not out.exists() and written == [0, 1]
    draws = posterior.sample_batched((40,), many, seed=seed, out=out, **SHORT)
    assert written == [0, 1, 2]
    assert not locate_parts(out).exists()
    with xr.open_datatree(out) as tree:
        used = tree.attrs["seed"]
    whole = posterior.sample_batched((40,), many, seed=used, **SHORT)
    assert torch.equal(draws, whole)


def test_run_of_other_data_or_settings_is_refused(
    posterior, many, tmp_path, monkeypatch
):
    out = tmp_path / "run.nc"
    interrupt_after(monkeypatch, 1)
    with pytest.raises(Interruption):
        posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)
    for changes, name in (
        ({"x": many + 1}, "`x` was"),
        ({"seed": 5}, "`seed` was 4 and is 5"),
        ({"thin": 3}, "`thin` was 2 and is 3"),
    ):
        arguments = {"x": many, "seed": 4, **SHORT, **changes}
        with pytest.raises(ValueError, match=name):
            posterior.sample_batched((40,), out=out, **arguments)
    other = MHPosterior.from_estimator(posterior.potential_fn.ratio_estimator, PRIOR)
    posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)
    with torch.no_grad():
        assert other.sample_batched((4,), many[:1], seed=4, **SHORT).shape == (4, 1, 2)


def test_damaged_part_is_named(posterior, many, tmp_path, monkeypatch):
    out = tmp_path / "run.nc"
    interrupt_after(monkeypatch, 1)
    with pytest.raises(Interruption):
        posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)
    part = locate_parts(out) / "000000.safetensors"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000000\.safetensors is damaged"):
        posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)
    (locate_parts(out) / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        posterior.sample_batched((40,), many, seed=4, out=out, **SHORT)


def test_bad_store_is_refused_before_any_work(posterior, many, tmp_path, monkeypatch):
    (tmp_path / "old.nc").touch()
    for out, error, match in (
        ("run.csv", ValueError, r"must end in \.nc .* got 'run.csv'"),
        (tmp_path / "old.nc", ValueError, "must not exist yet"),
        (tmp_path / "none" / "run.nc", FileNotFoundError, "a folder that exists"),
    ):
        with pytest.raises(error, match=match):
            posterior.sample_batched((40,), many, out=out, **SHORT)
    monkeypatch.setattr("sbi_aalr.persistence.run_store.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'sbi-aalr\[zarr\]'"):
        check_store(tmp_path / "run.zarr")
    assert posterior.chains is None


SCRIPT = """
    import json, sys, time, torch
    from sbi_aalr import MHPosterior
    from sbi_aalr.sampling import chunks
    from linear_gaussian import PRIOR, SHORT, simulate, log_ratio
    torch.manual_seed(3)
    x = simulate(PRIOR.sample((12,)))
    chunks._CHUNK = 3
    rows = []
    def potential(theta, x_o):
        rows.append(len(theta))
        time.sleep(0.002)
        return log_ratio(theta, x_o) + PRIOR.log_prob(theta)
    posterior = MHPosterior(potential, PRIOR)
    draws = posterior.sample_batched((20,), x, seed=1, out=sys.argv[1], **SHORT)
    print(json.dumps([sum(rows), draws.sum().item()]))
"""


# Quick kills, at any step, are those of `tests/posterior/test_killed.py`.
@pytest.mark.slow
def test_killed_process_goes_on(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    out = tmp_path / "run.nc"

    def run(name):
        done = subprocess.run(
            [*command, str(tmp_path / name)],
            env=environment,
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    process = subprocess.Popen([*command, str(out)], env=environment)
    part = locate_parts(out) / "000001.safetensors"
    deadline = time.monotonic() + 60
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists() and not out.exists()
    continued, whole = run("run.nc"), run("whole.nc")
    assert continued[0] < 0.6 * whole[0]
    assert continued[1] == whole[1]
    with xr.open_datatree(out) as one, xr.open_datatree(tmp_path / "whole.nc") as two:
        assert one["posterior"].equals(two["posterior"])


def test_threads_give_the_same_draws(posterior, many):
    before = torch.get_num_threads()
    single = posterior.sample_batched((40,), many, seed=4, **SHORT)
    torch.set_num_threads(2)
    try:
        double = posterior.sample_batched((40,), many, seed=4, **SHORT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(double, single)
    mean = torch.stack([exact_posterior(x)[0] for x in many])
    assert (double.mean(dim=0) - mean).abs().max() < 1.5


def test_failure_in_one_thread_stops_the_others(posterior, many, monkeypatch):
    def fail(generator, *arguments):
        raise Interruption

    monkeypatch.setattr(chunk, "_sample_chunk", fail)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(Interruption):
            posterior.sample_batched((40,), many, seed=4, **SHORT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
