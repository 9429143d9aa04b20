"""Calls that are killed go on, bit for bit as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time

import checkpointed
import numpy as np
import pytest
import torch
from checkpointed import (
    CALLS,
    SMALL,
    Counted,
    Killed,
    are_same,
    stack,
    stack_in_rounds,
    train_online,
    train_truncated,
)
from kills import needs_fork
from linear_gaussian import simulate
from trainers import make_trainer

from sbi_aalr.persistence import checkpoint_files
from sbi_aalr.trainer import journal

OTHERS = {
    "truncated": train_truncated,
    "stack": stack,
    "stack in rounds": stack_in_rounds,
}


def die_after(monkeypatch, number, call, folder):
    """End a call after so many checkpoints; return how many it came to."""
    write, written = journal.Journal._write, []

    def count(self, active):
        write(self, active)
        written.append(None)
        if len(written) == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "_write", count)
        try:
            call(folder)
        except Killed:
            assert number
    return len(written)


def break_and_compare(monkeypatch, call, tmp_path, often, numbers):
    unbroken = call({"checkpoint": tmp_path / "unbroken", "checkpoint_every": 1e6})
    for number in numbers:
        folder = {"checkpoint": tmp_path / f"broken_{number}", **often}
        assert die_after(monkeypatch, number, call, folder) == number
        assert are_same(call({**folder, "checkpoint_every": 0.5}), unbroken)


@pytest.mark.parametrize("name", CALLS)
def test_killed_call_goes_on_as_if_it_had_not_been(name, tmp_path, often, monkeypatch):
    break_and_compare(monkeypatch, CALLS[name], tmp_path, often, (1, 3, 13))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CALLS, *OTHERS])
def test_call_goes_on_from_any_checkpoint(name, tmp_path, often, monkeypatch):
    call = {**CALLS, **OTHERS}[name]
    total = die_after(monkeypatch, 0, call, {"checkpoint": tmp_path / "whole", **often})
    numbers = [1, 2, *range(7, total, max(1, total // 8)), total - 1, total]
    assert total > 15
    break_and_compare(monkeypatch, call, tmp_path, often, numbers)


def test_killed_rounds_go_on_as_if_they_had_not_been(tmp_path, often, monkeypatch):
    # Somewhere in the second round.
    monkeypatch.setattr("sbi_aalr.trainer.rounds._NUM_DRAWS", 500)
    break_and_compare(monkeypatch, train_truncated, tmp_path, often, (100,))


def test_killed_stack_goes_on_as_if_it_had_not_been(tmp_path, often, monkeypatch):
    break_and_compare(monkeypatch, stack, tmp_path, often, (12,))


def test_finished_call_is_not_done_again(tmp_path):
    kept, simulator = {"checkpoint": tmp_path}, Counted()
    first = train_online(kept, simulator)
    simulator.rows = 0
    assert are_same(train_online(kept, simulator), first)
    assert simulator.rows == 5


def test_checkpoints_change_nothing(tmp_path):
    assert are_same(train_online({}), train_online({"checkpoint": tmp_path}))
    # The control: another seed gives other weights.
    with pytest.raises(AssertionError):
        are_same(train_online({}), train_online({}, seed=2))


def test_nothing_is_simulated_twice_but_what_came_after_the_checkpoint(
    tmp_path, often, monkeypatch
):
    folder, simulator = {"checkpoint": tmp_path, **often}, Counted()

    def call(folder):
        return train_online(
            folder, simulator, num_simulations=1_400, num_passes=2, batch_size=50
        )

    unbroken = call({})
    simulator.rows = 0
    # The first one is written before the first step; the opening has 1,024 rows.
    die_after(monkeypatch, 24, call, folder)
    assert simulator.rows < 1_400
    assert are_same(call(folder), unbroken)
    # Five rows find out how the simulator is called, each time.
    assert simulator.rows <= 1_400 + 2 * 5


def test_unseeded_call_goes_on_with_the_generators_as_they_were(
    tmp_path, often, monkeypatch
):
    folder = {"checkpoint": tmp_path, **often}

    def call(folder):
        return train_online(folder, seed=None)

    torch.manual_seed(3)
    unbroken = call({})
    torch.manual_seed(3)
    die_after(monkeypatch, 20, call, folder)
    torch.manual_seed(4)
    assert are_same(call(folder), unbroken)


def test_call_goes_on_after_ctrl_c_in_the_same_trainer(tmp_path, often, monkeypatch):
    unbroken, trainer = train_online({}), make_trainer(SMALL)
    write, written = journal.Journal._write, []

    def press(self, active):
        write(self, active)
        written.append(None)
        if len(written) == 15:
            raise KeyboardInterrupt

    def call():
        settings = {"num_simulations": 400, "batch_size": 50, "seed": 1}
        settings |= {"num_passes": 4, "checkpoint": tmp_path, **often}
        trainer.train_online(simulate, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "_write", press)
        with pytest.raises(KeyboardInterrupt):
            call()
    assert trainer.summary["interrupted"] == [True]
    assert trainer.build_posterior() is not None
    call()
    ours = trainer._neural_net.state_dict()
    theirs = unbroken._neural_net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_what_is_named_stays(tmp_path, often):
    (tmp_path / "checkpoint-0123456789abcdef.safetensors").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    kept = {"checkpoint": tmp_path, **often}
    train_online(kept)
    found = checkpoint_files.CheckpointFiles(tmp_path)
    found.read()
    names = {f"checkpoint-{digest[:16]}.safetensors" for digest in found._pieces}
    there = {path.name for path in tmp_path.iterdir()}
    mine = {"checkpoint-0123456789abcdef.safetensors", "notes.txt"}
    assert there == names | mine | {"checkpoint.safetensors"}


SCRIPT = """
import sys
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from checkpointed import {name}
from sbi_aalr.trainer import journal
journal._TIMES_AS_LONG = 0
print("ready", flush=True)
{name}({{"checkpoint": {folder!r}, "checkpoint_every": 1e-9}})
"""


def kill_later(name, folder, seconds):
    """Kill a process that makes a call some seconds after it began; tell if in time."""
    code = SCRIPT.format(path=sys.path, name=name, folder=str(folder))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGKILL)
    return child.returncode == -signal.SIGKILL


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("name", ["stack", "train", "train_truncated", "train_online"])
def test_calls_survive_kills_at_any_time(name, tmp_path):
    unbroken = getattr(checkpointed, name)({})
    generator, num_killed = np.random.default_rng(1), 0
    for number in range(8):
        folder = tmp_path / str(number)
        for _ in range(3):
            num_killed += kill_later(name, folder, generator.uniform(0.0, 1.5))
        assert are_same(getattr(checkpointed, name)({"checkpoint": folder}), unbroken)
        assert not list(folder.rglob(".sbi_aalr-*"))
    assert num_killed > 12
