"""`sbi-aalr compare`: what it prints, and what it refuses."""

import os

import pytest
from typer.testing import CliRunner

from sbi_aalr.cli.app import app
from sbi_aalr.comparison.rows import Key, write_row
from sbi_aalr.files import write_sealed


def call(*arguments):
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment)


def test_command_goes_on_and_shows_means_and_errors(tmp_path):
    """Everything but the table's end is there already, so that nothing is run."""
    out = tmp_path / "run"
    out.mkdir()
    write_sealed(out / "settings.json", {"num_samples": 10_000, "sbi_aalr": "0.1.0"})
    metrics = {"c2st": 0.61, "mmd": 0.02, "train_seconds": 1234.5, "max_rhat": 1.0042}
    for observation, extra in ((1, 0.0), (2, 0.02)):
        key = Key("two_moons", "npe", 1_000, observation, 7)
        write_row(out, key, {**metrics, "c2st": 0.61 + extra})
        key = key._replace(method="aalr")
        write_row(out, key, {}, "ValueError: no [brackets]")
    options = ("--tasks", "two_moons", "--methods", "aalr, npe", "--budgets", 1_000)
    options += ("--seeds", 7, "--observations", 2, "--out", out)
    result = call("compare", *options)
    # As some rows failed.
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "task budget method c2st mmd train seconds max rhat errors" in lines
    row = "two_moons 1,000 npe 0.620 ± 0.014 0.0200 ± 0.0000 1,234 ± 0"
    assert f"{row} 1.004 ± 0.000 0 of 2" in lines
    assert "two_moons 1,000 aalr 2 of 2" in lines
    assert lines[-1] == f"Wrote {out / 'table.csv'} and figures beside it"
    assert result.stderr.count("ValueError: no [brackets]") == 2
    assert (out / "c2st.png").exists()


@pytest.mark.parametrize(
    ("option", "value", "code", "message"),
    [
        ("--budgets", "1000,many", 2, "`budgets` must be whole numbers"),
        ("--seeds", "", 2, "`seeds` must be whole numbers"),
        ("--tasks", "moon", 1, "`tasks` must be one of 'slcp'"),
        ("--methods", "aalr,", 1, "`methods` must be one of 'aalr'"),
        ("--out", "", 1, "`out` must be a path that is not empty"),
        ("--out", "/dev/null", 1, "`out` must be a folder, but /dev/null is a device"),
        ("--workers", 0, 1, "`workers` must be a positive int"),
    ],
)
def test_wrong_option_is_one_line(tmp_path, option, value, code, message):
    result = call("compare", "--out", tmp_path / "run", option, value)
    assert result.exit_code == code and result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert not (tmp_path / "run").exists()
