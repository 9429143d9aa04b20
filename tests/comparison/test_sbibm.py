"""The script that scores on sbibm's observations: its reading, keeping and judging."""

import bz2
import csv
import hashlib
import sys
import zipfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import sbibm
import sbibm_data
import sbibm_table


def write_csv(rows):
    header = ",".join(f"name_{i}" for i in range(len(rows[0])))
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]).encode()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A wheel of the same layout, with numbers of our own."""
    path = tmp_path / sbibm_data.WHEEL
    with zipfile.ZipFile(path, "w") as wheel:
        for task, names in (("two_moons", [""]), ("slcp", ["", "_distractors"])):
            folder = f"sbibm/tasks/{task}/files/num_observation_2"
            for width, name in zip((2, 100), names, strict=False):
                rows = [[0.5] * width]
                wheel.writestr(f"{folder}/observation{name}.csv", write_csv(rows))
            wheel.writestr(f"{folder}/true_parameters.csv", write_csv([[1.0, 2.0]]))
            draws = bz2.compress(write_csv([[1.0, 3.0]] * 7))
            wheel.writestr(f"{folder}/reference_posterior_samples.csv.bz2", draws)
    monkeypatch.setattr(
        sbibm_data, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()
    )
    return tmp_path


def test_observations_are_read_with_their_answers(cache):
    x_o, theta, reference = sbibm.load_observation("two_moons", 2, cache)
    assert x_o.shape == (1, 2) and reference.shape == (7, 2)
    assert theta.tolist() == [1.0, 2.0] and reference.dtype == torch.float32
    assert sbibm.load_observation("slcp_distractors", 2, cache).x_o.shape == (1, 100)


def test_odd_observations_other_tasks_and_other_files_are_refused(cache):
    with pytest.raises(ValueError, match=r"`number` must be one of \(2, 4, 6, 8, 10\)"):
        sbibm.load_observation("two_moons", 3, cache)
    with pytest.raises(ValueError, match=r"`task` must be one of slcp, .* got 'mg1'"):
        sbibm.make_task("mg1")
    with (cache / sbibm_data.WHEEL).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="must have the hash"):
        sbibm.load_observation("two_moons", 2, cache)


def test_ten_tasks_have_published_means_at_three_budgets():
    assert len(sbibm_data.TASK_NAMES) == 10
    for task in sbibm_data.TASK_NAMES:
        for budget in sbibm_data.BUDGETS:
            scores = sbibm.published(task, budget)
            assert set(scores) == {"NPE", "NLE", "NRE", "SNPE", "SNLE", "SNRE"}
            assert all(0.49 < value <= 1 for value in scores.values())
    assert sbibm.published("slcp", 17) == {}


def test_published_rows_of_single_observations_are_averaged(tmp_path):
    path = tmp_path / "table.csv"
    rows = [(2, 0.6), (4, 0.8), (6, 0.1)]
    content = [f"slcp,1000,NPE,{number},{value}" for number, value in rows]
    path.write_text("\n".join(["task,budget,method,observation,c2st", *content]))
    assert sbibm.published("slcp", 1_000, path, (2, 4)) == {"NPE": pytest.approx(0.7)}


def test_rows_survive_a_kill_and_are_not_written_twice(tmp_path):
    path = tmp_path / "runs" / "rows.csv"
    row = dict.fromkeys(sbibm_table.FIELDS, "1") | {"task": "slcp"}
    sbibm_table.append_row(path, row)
    with path.open("a") as file:
        file.write("sbibm,two_moons,1000,aalr,1,2,0.5")
    sbibm_table.append_row(path, row | {"observation": "4"})
    found = sbibm_table.read_rows(path)
    assert set(found) == {("1", "slcp", "1", "1", "1", number) for number in ("1", "4")}
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_own_observations_are_scored_and_not_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sbibm, "CACHE", tmp_path)
    monkeypatch.setattr(sbibm, "NUM_DRAWS", 50)
    out = tmp_path / "rows.csv"
    options = ["--own", "--tasks", "gaussian_mixture", "--budgets", "5", "--methods"]
    options += ["exact", "--observations", "1", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["sbibm.py", *options])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            sbibm.main()
        assert ended.value.code == 0
        rows = sbibm_table.read_rows(out).values()
        assert [row["observation"] for row in rows] == ["1", "3"]
        assert all(0.2 < float(row["c2st"]) < 0.8 for row in rows)
        written = out.read_text()
    assert written == out.read_text() and "own,gaussian_mixture,5,exact,1,3" in written


def test_table_says_what_is_missed(capsys):
    row = dict.fromkeys(sbibm_table.FIELDS, "1.0") | {
        "source": "sbibm",
        "task": "slcp",
        "budget": "1000",
        "method": "aalr",
        "observation": "2",
    }
    theirs = sbibm.published("slcp", 1_000)
    best = min(theirs[name] for name in ("NPE", "NLE", "NRE"))
    good, fair = str(best), str(theirs["NRE"] + 0.01)
    sbibm_table.print_table([row | {"c2st": good}], "sbibm")
    assert "1 of 1 cells" in capsys.readouterr().out
    sbibm_table.print_table([row | {"c2st": fair}], "sbibm")
    printed = capsys.readouterr().out
    assert "0 of 1 cells" in printed and "above NRE in 0" in printed
    sbibm_table.print_table([row | {"c2st": "1.0"}], "sbibm")
    assert "above NRE in 1" in capsys.readouterr().out
    sbibm_table.print_table([row | {"source": "own"}], "own")
    assert "cells" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["snre", "magic", "nre_b:base=None", "exact:a=1"])
def test_methods_that_cannot_be_trained_once_are_refused(name):
    with pytest.raises(ValueError, match="`--methods` must be of exact"):
        sbibm.make_method(name)


def test_arguments_of_aalr_follow_a_colon():
    trainer = sbibm.make_method(
        "aalr:classifier=residual_mlp,batch=3,base=None"
    ).trainer
    assert trainer.keywords == {"classifier": "residual_mlp", "batch": 3, "base": None}
