"""Ctrl-C, warnings and bugs of a command: one line, an exit code, or a traceback."""

import signal
import subprocess
import sys
import time
import warnings

import typer
from calls import ENVIRONMENT, call

from sbi_aalr.cli.app import OneLineErrors
from sbi_aalr.errors import ConvergenceWarning

COMMAND = [sys.executable, "-m", "sbi_aalr.cli"]


def test_ctrl_c_while_training_leaves_nothing_behind(tmp_path):
    out = tmp_path / "slcp"
    # A process started from one that ignores SIGINT would ignore it as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout.readline().startswith("Fitting AALR on 1,000,000")
        # Before the first step; later there is something to keep.
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert (stderr, process.returncode) == (
        "Interrupted: no file is left half-written.\n",
        130,
    )
    assert list(out.iterdir()) == []


def test_ctrl_c_in_an_import_has_the_same_exit_code(tmp_path):
    (tmp_path / "stopped.py").write_text(
        "import typer\n"
        "from sbi_aalr.cli.errors import OneLineErrors\n"
        "app = typer.Typer(cls=OneLineErrors)\n"
        "app.callback()(lambda: None)\n"
        "app.command('stop')(lambda: exec('raise KeyboardInterrupt'))\n"
        "app()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "stopped", "stop"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert (ended.stderr, ended.returncode) == (
        "Interrupted: no file is left half-written.\n",
        130,
    )


small = typer.Typer(cls=OneLineErrors)


@small.command()
def stop():
    raise KeyboardInterrupt


@small.command()
def warn():
    warnings.warn(ConvergenceWarning("R-hat is 2.\nDo more.", 2.0), stacklevel=1)


@small.command()
def slip():
    raise KeyError("a bug of ours")


def test_ctrl_c_is_one_line_and_exit_code_130():
    result = call("stop", command=small)
    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted") and result.stderr.count("\n") == 1


def test_warning_is_one_line():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = call("warn", command=small)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Warning: R-hat is 2. Do more.\n"


def test_bug_keeps_its_traceback():
    assert isinstance(call("slip", command=small).exception, KeyError)
