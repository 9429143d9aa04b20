"""What a comparison keeps on disk: whole, its own, and no trouble of the machine."""

import errno
import json
import os
import random
import shutil
import sys

import pandas as pd
import pytest
import torch
from instant_methods import Task, make_method

from sbi_aalr.comparison import Method, compare, read_table
from sbi_aalr.comparison.rows import read_rows

TIMES = ["train_seconds", "sample_seconds", "peak_memory"]


def run(out, methods, **settings):
    settings = {"observations": 2, "num_samples": 60, **settings}
    return compare(
        {"toy": Task()}, methods, [60], out=out, show_progress_bars=False, **settings
    )


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def undrawn(monkeypatch):
    # By its module, as the function has the same name.
    module = sys.modules["sbi_aalr.comparison.compare"]
    monkeypatch.setattr(module, "save_figures", lambda *_: [])


def test_full_disk_stops_and_is_no_result(tmp_path, log, monkeypatch, undrawn):
    """Full at every second write in turn; afterwards all is as if nothing had been."""
    whole, sync = run(tmp_path / "whole", {"one": make_method(log)}), os.fsync
    writes = []

    def run_out(handle):
        writes.append(handle)
        if len(writes) == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    out, room = tmp_path / "run", 0
    while True:
        room += 2
        writes.clear()
        shutil.rmtree(out, ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", run_out)
            try:
                run(out, {"one": make_method(log)})
                break
            except OSError as error:
                assert "No space left" in str(error)  # noqa: PT017
                assert "the same call goes on from there" in str(error)  # noqa: PT017
        assert all(row["error"] == "" for row in read_rows(out).values())
        table = run(out, {"one": make_method(log)})
        pd.testing.assert_frame_equal(
            table.drop(columns=TIMES), whole.drop(columns=TIMES)
        )
    assert room > 8


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        MemoryError("no memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_trouble_of_the_machine_is_no_result(tmp_path, problem):
    def trainer(**settings):
        raise problem

    with pytest.raises(type(problem), match=str(problem.args[-1])[:9]):
        run(tmp_path / "run", {"one": Method(trainer)})
    assert not read_rows(tmp_path / "run")


def test_result_of_a_method_is_kept_as_one(tmp_path, undrawn):
    def trainer(**settings):
        raise RuntimeError("loss is NaN")

    table = run(tmp_path / "run", {"one": Method(trainer)})
    assert set(table["error"]) == {"RuntimeError: loss is NaN"}


@pytest.mark.parametrize("name", ["table.csv", "c2st.png", "rows"])
def test_what_is_of_no_comparison_is_not_replaced(tmp_path, log, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(ValueError, match=f"`out` must be a folder where .*{name}"):
        run(tmp_path / "run", {"one": make_method(log)})
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
    assert (tmp_path / "run" / name).read_text() == "mine"


@pytest.mark.parametrize("content", ["{", "[3]", "3", '{"num_samples": "60"}', "{}"])
def test_damaged_settings_are_named(tmp_path, log, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        run(tmp_path, {"one": make_method(log)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda row: "{", "Expecting"),
        (lambda row: "[]", "must hold an object"),
        (lambda row: json.dumps({**row, "mmd": 0.5}), "does not fit its hash"),
        (lambda row: json.dumps({**row, "sha256": None, "mmd": "x"}), "`mmd` is"),
        (lambda row: json.dumps({**row, "sha256": None, "task": 3}), "`task` is"),
        (lambda row: json.dumps({**row, "sha256": None, "seed": 3}), "holds the row"),
        (lambda row: json.dumps({"task": "toy"}), "`method` is missing or wrong"),
    ],
)
def test_damaged_row_is_named(tmp_path, log, undrawn, spoil, message):
    out = tmp_path / "run"
    run(out, {"one": make_method(log)}, observations=1)
    (path,) = (out / "rows").iterdir()
    path.write_text(spoil(json.loads(path.read_text())))
    for read in (
        lambda: read_table(out),
        lambda: run(out, {"one": make_method(log)}),
    ):
        with pytest.raises(ValueError, match=rf"{path.name} is damaged: .*{message}"):
            read()


def test_no_flipped_bit_changes_a_table(tmp_path, log, undrawn):
    """Rows, settings, fits and observations, all that is read back."""
    out, rng = tmp_path / "run", random.Random(1)
    whole = run(out, {"one": make_method(log)}).drop(columns=TIMES)
    files = [path for path in out.rglob("*.*") if path.name != "table.csv"]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for _ in range(30):
        path = rng.choice(files)
        content = path.read_bytes()
        bit = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        # Draw once more with what is there.
        row = out / "rows" / "toy-one-60-2-1.json"
        kept = row.read_bytes()
        if path != row:
            row.unlink()
        try:
            table = run(out, {"one": make_method(log)})
        except ValueError as error:
            assert f"{path} is damaged" in str(error)  # noqa: PT017
        else:
            pd.testing.assert_frame_equal(table.drop(columns=TIMES), whole)
        path.write_bytes(content)
        row.write_bytes(kept)
