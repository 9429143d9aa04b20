"""A comparison that was killed goes on, without repeating or losing anything."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest
from instant_methods import make_method
from small_comparisons import TIMES, read_log, run

from sbi_aalr.comparison import read_table

SCRIPT = """
import sys
from test_compare_continued import run_slowly

if __name__ == "__main__":
    run_slowly(sys.argv[1], sys.argv[2], workers=2)
"""


def run_slowly(out, log, workers=1):
    methods = {name: make_method(log, seconds=0.1) for name in ("one", "two", "three")}
    return run(Path(out), methods, observations=4, workers=workers)


def wait_for_rows(rows, count, is_running):
    deadline = time.monotonic() + 60
    while len(list(rows.glob("*.json"))) < count:
        assert is_running() and time.monotonic() < deadline
        time.sleep(0.01)


def expect_continuation(out, log, go_on):
    """Check that what a killed run has done is kept, and only the rest is done."""
    rows = out / "rows"
    kept = {path.name: path.read_bytes() for path in rows.glob("*.json")}
    stamps = {name: (rows / name).stat().st_mtime_ns for name in kept}
    fitted = len(list((out / "fits").glob("*/cost.json")))
    assert 5 <= len(kept) < 12 and fitted >= 1
    assert len(pd.read_csv(out / "table.csv")) <= len(kept)
    before = len(read_log(log))
    go_on()
    done = read_log(log)[before:]
    assert done.count("train") == 3 - fitted
    assert done.count("sample") == 12 - len(kept)
    for name, content in kept.items():
        assert (rows / name).read_bytes() == content
        assert (rows / name).stat().st_mtime_ns == stamps[name]
    assert pd.read_csv(out / "table.csv")["error"].isna().tolist() == [True] * 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs to fork")
def test_killed_run_goes_on_without_repeating_or_losing_anything(tmp_path, log):
    out = tmp_path / "run"
    child = multiprocessing.get_context("fork").Process(
        target=run_slowly, args=(out, log)
    )
    with warnings.catch_warnings():
        # Python warns of threads in the parent, which the child does not use.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    wait_for_rows(out / "rows", 5, child.is_alive)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    expect_continuation(out, log, lambda: run_slowly(out, log))
    whole = run_slowly(tmp_path / "whole", log)
    pd.testing.assert_frame_equal(
        read_table(out).drop(columns=TIMES), whole.drop(columns=TIMES)
    )


@pytest.mark.slow
def test_killed_run_with_workers_goes_on(tmp_path, log):
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(script), str(out), str(log)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    wait_for_rows(out / "rows", 5, lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    expect_continuation(
        out, log, lambda: subprocess.run(command, env=environment, check=True)
    )


@pytest.mark.slow
def test_workers_share_the_fits_and_the_threads(tmp_path, log, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    methods = {f"m{i}": make_method(log, seconds=0.2) for i in range(4)}
    table = run(tmp_path / "run", methods, workers=2, observations=1)
    assert (table["error"] == "").all() and len(table) == 4
    notes = [line.split() for line in log.read_text().splitlines()]
    processes = {pid for _, pid, _ in notes}
    assert len(processes) == 2 and str(os.getpid()) not in processes
    assert {int(threads) for *_, threads in notes} == {max(1, os.cpu_count() // 2)}
