"""Comparisons that are killed at any step go on as if nothing had been."""

import sys

import pandas as pd
import pytest
from instant_methods import Task, make_method
from kills import choose_steps, count_steps, kill_at, needs_fork

from sbi_aalr.comparison import compare

TIMES = ["train_seconds", "sample_seconds", "peak_memory"]


@needs_fork
@pytest.mark.parametrize("number", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_comparison_goes_on(tmp_path, monkeypatch, number):
    module = sys.modules["sbi_aalr.comparison.compare"]
    monkeypatch.setattr(module, "save_figures", lambda *_: [])
    methods = {"one": make_method(tmp_path / "log.txt")}

    def run(name):
        settings = {"observations": 2, "num_samples": 60, "show_progress_bars": False}
        table = compare({"toy": Task()}, methods, [60], out=tmp_path / name, **settings)
        return table.drop(columns=TIMES)

    count, whole = count_steps(lambda: run("whole")), run("whole")
    names = sorted(path.name for path in (tmp_path / "whole").rglob("*"))
    for index, step in enumerate(choose_steps(count, number)):
        name = f"run_{index}"
        kill_at(lambda name=name: run(name), step)
        pd.testing.assert_frame_equal(run(name), whole)
        assert sorted(path.name for path in (tmp_path / name).rglob("*")) == names
        written = pd.read_csv(tmp_path / name / "table.csv")
        assert written["error"].isna().all() and len(written) == 2
