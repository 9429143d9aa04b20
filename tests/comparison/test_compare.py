"""`compare` itself: its table, going on after a kill, failures, workers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from instant_methods import Task, make_method
from small_comparisons import KEYS, TIMES, read_log, run, stamp
from torch.distributions import MultivariateNormal

from sbi_aalr.comparison import METRICS, compare, read_table, summarise
from sbi_aalr.comparison.rows import COLUMNS


def test_table_has_a_row_for_each_result_and_the_promised_columns(tmp_path, log):
    out = tmp_path / "run"
    methods = {"one": make_method(log), "two": make_method(log)}
    table = run(out, methods, budgets=(60, 40), seeds=(1, 2))
    assert list(table.columns) == [*KEYS, *METRICS, "error"] == list(COLUMNS)
    assert len(table) == len(table[KEYS].drop_duplicates()) == 2 * 2 * 2 * 2
    assert (table["error"] == "").all()
    unknown = ["min_ess", "max_rhat", "c2st", "mmd", "roc_auc", "ratio_roc_auc"]
    assert table[unknown].isna().all(axis=None)
    assert table.drop(columns=unknown).notna().all(axis=None)
    assert (table["num_evaluations"] == 60).all()
    assert table["peak_memory"].between(100, 10_000).all()
    written = pd.read_csv(out / "table.csv", dtype={"error": str})
    written["error"] = written["error"].fillna("")
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    names = {path.name for path in out.iterdir()}
    assert {"coverage.png", "sample_seconds.png", "settings.json"} < names
    # One fit for both observations; the same simulations for both methods.
    assert read_log(log).count("train") == 2 * 2 * 2
    assert read_log(log).count("sample") == 16
    by_method = table.set_index(KEYS)["log_prob_true"].unstack("method")
    assert (by_method["one"] == by_method["two"]).all()
    assert by_method["one"].nunique() == len(by_method)


def test_second_call_repeats_nothing_and_adds_what_is_new(tmp_path, log):
    out = tmp_path / "run"
    first = run(out, {"one": make_method(log)})
    before, lines = stamp(out / "rows"), read_log(log)
    assert run(out, {"one": make_method(log)}).equals(first)
    assert read_log(log) == lines and stamp(out / "rows") == before
    table = run(out, {"one": make_method(log)}, observations=3)
    # A third observation is drawn with the fit that is there.
    assert read_log(log) == [*lines, "sample"]
    assert table[:2].equals(first) and len(table) == 3
    run(out, {"two": make_method(log)})
    assert read_log(log).count("train") == 2
    assert stamp(out / "rows").items() > before.items()


def test_fit_from_disk_gives_the_same_row(tmp_path, log):
    out, again = tmp_path / "run", tmp_path / "again"
    whole = run(out, {"one": make_method(log)})
    run(again, {"one": make_method(log)}, observations=1)
    parts = run(again, {"one": make_method(log)})
    assert read_log(log).count("train") == 2
    pd.testing.assert_frame_equal(
        whole.drop(columns=TIMES), parts.drop(columns=TIMES), check_exact=True
    )


def test_methods_with_rounds_are_fitted_for_each_observation(tmp_path, log):
    run(tmp_path / "run", {"rounds": make_method(log, rounds=3)})
    assert read_log(log).count("train") == 2 * 3
    # Two rounds begin with draws, and at last the posterior is drawn from.
    assert read_log(log).count("sample") == 2 * 3
    files = {path.name for path in (tmp_path / "run" / "fits").iterdir()}
    assert files == {f"toy-rounds-60-1-{i}" for i in (1, 2)}


def test_failures_leave_rows_and_the_rest_go_on(tmp_path, log, capsys):
    out = tmp_path / "run"
    methods = {
        "untrainable": make_method(log, fails="train"),
        "fine": make_method(log),
    }
    table = run(out, methods).set_index("method")
    assert set(table.loc["untrainable", "error"]) == {"ValueError: loss is NaN"}
    assert table.loc["untrainable", list(METRICS)].isna().all(axis=None)
    assert set(table.loc["fine", "error"]) == {""}
    assert read_log(log).count("train") == 2
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    lines = read_log(log)
    run(out, methods)
    assert read_log(log) == lines
    summary = summarise(read_table(out))
    errors = summary[("errors", "count")]
    assert errors["toy", 60, "untrainable"] == 2 and errors["toy", 60, "fine"] == 0


def test_failure_to_sample_keeps_what_the_fit_took(tmp_path, log):
    table = run(tmp_path / "run", {"stuck": make_method(log, fails="sample")})
    assert set(table["error"]) == {"RuntimeError: chains fell over"}
    assert table["train_seconds"].notna().all()
    assert table["sample_seconds"].isna().all()
    assert read_log(log) == ["train", "sample", "sample"]


def test_observation_that_cannot_be_made_fails_alone(tmp_path, log):
    class Fussy(Task):
        seen = 0

        def sample_posterior(self, num_samples, x_o, *, seed):
            Fussy.seen += 1
            if Fussy.seen == 1:
                raise RuntimeError("x_o is implausible")
            return x_o / 2 + torch.randn(num_samples, 2) / 2**0.5

    table = compare(
        {"toy": Fussy},
        {"one": make_method(log)},
        [60],
        out=tmp_path / "run",
        observations=2,
        num_samples=60,
        show_progress_bars=False,
    )
    assert table["error"].tolist() == ["RuntimeError: x_o is implausible", ""]
    assert table["c2st"].isna().tolist() == [True, False]
    assert read_log(log) == ["train", "sample"]


def test_other_number_of_draws_in_the_same_folder_is_refused(tmp_path, log):
    out = tmp_path / "run"
    run(out, {"one": make_method(log)})
    assert json.loads((out / "settings.json").read_text())["num_samples"] == 60
    with pytest.raises(ValueError, match="`num_samples` must be 60 as in"):
        run(out, {"one": make_method(log)}, num_samples=61)


class Noisier(Task):
    def simulate(self, theta):
        return theta + 2 * torch.randn_like(theta)


class Narrower(Task):
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2) / 4, validate_args=False)


class Wider(Task):
    def simulate(self, theta):
        return super().simulate(theta).repeat(1, 2)


class Unseeded(Task):
    """Whose data do not follow any seed."""

    def simulate(self, theta):
        noise = np.random.default_rng().normal(size=theta.shape)
        return theta + torch.as_tensor(noise, dtype=torch.float32)


@pytest.mark.parametrize("other", [Noisier, Narrower, Wider])
def test_other_task_of_the_same_name_is_refused(tmp_path, log, other):
    """Its rows came out as those of the task before it, in silence."""
    out = tmp_path / "run"
    first = run(out, {"one": make_method(log)})
    before, lines = stamp(out / "rows"), read_log(log)
    with pytest.raises(ValueError, match=r"`tasks` must mean .*another 'toy'.*x \("):
        run(out, {"one": make_method(log)}, task=other(), budgets=(60, 70))
    assert read_log(log) == lines and stamp(out / "rows") == before
    assert run(out, {"one": make_method(log)}).equals(first)


def test_simulator_that_follows_no_seed_goes_on(tmp_path, log):
    out = tmp_path / "run"
    first = run(out, {"one": make_method(log)}, task=Unseeded())
    assert run(out, {"one": make_method(log)}, task=Unseeded()).equals(first)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"tasks": ["moon"]}, ValueError, "`tasks` must be one of 'slcp'"),
        ({"methods": ["aalr", "x"]}, ValueError, "`methods` must be one of 'aalr'"),
        ({"methods": "aalr"}, TypeError, "`methods` must be a sequence of names"),
        ({"tasks": {"a/b": None}}, ValueError, "`tasks` must be named with letters"),
        ({"budgets": [0]}, ValueError, "`budgets` must be a positive int"),
        (
            {"methods": ["npe", "snpe"], "budgets": [40, 9]},
            ValueError,
            "`budgets` must have a simulation for each of the 10 rounds of 'snpe', got",
        ),
        ({"budgets": [1.5]}, TypeError, "`budgets` must be a positive int"),
        ({"seeds": [-1]}, ValueError, "`seeds` must be an int of at least 0"),
        ({"observations": 0}, ValueError, "`observations` must be a positive int"),
        ({"workers": 0}, ValueError, "`workers` must be a positive int"),
        ({"out": __file__}, NotADirectoryError, "`out` must be a folder"),
        ({"out": ""}, ValueError, "`out` must be a path that is not empty"),
        ({"out": "/proc/run"}, OSError, "`out` must lie where files can be written"),
        ({"out": "/dev/null"}, NotADirectoryError, "/dev/null is a device"),
        ({"tasks": []}, ValueError, "`tasks` must have at least one name"),
        ({"tasks": {}}, ValueError, "`tasks` must have at least one name"),
        ({"tasks": 3}, TypeError, "`tasks` must be a sequence of names, got 3"),
        ({"tasks": {"a": 3}}, TypeError, "`tasks` must have a `prior` and a method"),
        ({"methods": []}, ValueError, "`methods` must have at least one name"),
        ({"methods": {"a": 3}}, TypeError, "`methods` must be of class `Method`"),
        ({"methods": {3: 3}}, TypeError, "`methods` must be of class `Method`"),
        ({"budgets": []}, ValueError, "`budgets` must have at least one number"),
        ({"budgets": 10}, TypeError, "`budgets` must be a sequence of whole numbers"),
        ({"budgets": "10"}, TypeError, "`budgets` must be a sequence of whole numb"),
        ({"seeds": []}, ValueError, "`seeds` must have at least one number"),
    ],
)
def test_bad_arguments_raise_before_anything_is_made(tmp_path, change, error, match):
    out = tmp_path / "run"
    call = {"tasks": ["slcp"], "methods": ["aalr"], "budgets": [10], "out": out}
    with pytest.raises(error, match=match):
        compare(**(call | change))
    assert not out.exists()


def test_global_randomness_is_left_alone(tmp_path, log):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run(tmp_path / "run", {"one": make_method(log)}, observations=1)
    assert torch.equal(torch.rand(3), expected)
