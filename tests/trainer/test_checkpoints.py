"""Calls that are killed go on, bit for bit as if nothing had happened."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import needs_fork
from linear_gaussian import PRIOR, draw_pairs, simulate
from trainers import make_trainer

from sbi_aalr import AALR, networks
from sbi_aalr.errors import CheckpointWarning
from sbi_aalr.persistence import checkpoint_files
from sbi_aalr.simulation import SimulationStore
from sbi_aalr.trainer import journal

X_O = torch.tensor([[0.3, -0.2]])
SMALL = networks.two_towers(8, 1)


class Killed(BaseException):
    """Ends a call as suddenly as a kill does, in this process."""


class Counted:
    """A simulator that counts its rows, and draws from NumPy's generator too."""

    def __init__(self):
        self.rows = 0

    def __call__(self, theta):
        self.rows += len(theta)
        return simulate(theta) + 0.01 * torch.tensor(np.random.randn(*theta.shape))


def train_online(folder, simulator=simulate, classifier=SMALL, **more):
    trainer = make_trainer(classifier)
    settings = {"num_simulations": 400, "batch_size": 50, "seed": 1, **more}
    settings.setdefault("num_passes", 4)
    trainer.train_online(simulator, **settings, **folder)
    return trainer


def train(folder, **more):
    theta, _, x = draw_pairs(300, 1)
    trainer = make_trainer(SMALL).append_simulations(theta, x)
    trainer.train(50, stop_after_epochs=2, seed=1, **more, **folder)
    return trainer


def train_from_a_store(folder):
    theta, _, x = draw_pairs(300, 1)
    store = SimulationStore(Path(folder["checkpoint"]).parent / "store")
    if not len(store):
        store.append(theta, x)
    trainer = make_trainer(SMALL).append_simulations(store)
    trainer.train(50, stop_after_epochs=2, seed=1, **folder)
    return trainer


def train_with_torchs_loader(folder):
    return train(folder, dataloader_kwargs={"num_workers": 0})


def train_truncated(folder):
    trainer = make_trainer(SMALL)
    trainer.train_truncated(simulate, X_O, 600, num_rounds=2, seed=1, **folder)
    return trainer


def train_once(folder):
    """Algorithm 1, which keeps no simulations."""
    return train_online(
        folder, classifier="selu_mlp", num_simulations=1_500, num_passes=1
    )


def stack(folder):
    trainer = AALR(PRIOR, show_progress_bars=False)
    trainer.train_online(simulate, 200, num_passes=2, seed=1, **folder)
    return trainer


CALLS = {
    "online": train_online,
    "once": train_once,
    "stored": train,
    "from a store": train_from_a_store,
    "torch's loader": train_with_torchs_loader,
}


def are_same(first, second):
    ours, theirs = (t._neural_net.state_dict() for t in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("training_loss", "validation_loss", "learning_rate"):
        assert first.summary.get(name) == second.summary.get(name)
    return True


@pytest.fixture
def often(monkeypatch):
    """Write a checkpoint after every step."""
    monkeypatch.setattr(journal, "_TIMES_AS_LONG", 0)
    return {"checkpoint_every": 1e-9}


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
@pytest.mark.parametrize("name", [*CALLS, "truncated", "stack"])
def test_call_goes_on_from_any_checkpoint(name, tmp_path, often, monkeypatch):
    call = {**CALLS, "truncated": train_truncated, "stack": stack}[name]
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


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 2}, "seed"),
        ({"num_simulations": 500}, "num_simulations"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"simulator": Counted()}, "simulator"),
        ({"classifier": "selu_mlp"}, "classifier"),
        ({"num_passes": 3}, "num_passes"),
    ],
)
def test_checkpoint_of_another_call_is_refused(change, name, tmp_path):
    kept = {"checkpoint": tmp_path}
    first = train_online(kept)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"`{name}` was .* Choose another folder"):
        train_online(kept, **change)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    other = train_online({**kept, "resume": False}, **change)
    if name == "seed":
        assert not torch.equal(
            first._neural_net(*draw_pairs(9, 1)[::2]),
            other._neural_net(*draw_pairs(9, 1)[::2]),
        )


def test_checkpoint_of_other_simulations_is_refused(tmp_path):
    kept = {"checkpoint": tmp_path}
    train(kept)
    with pytest.raises(ValueError, match="`call` was 'train' and is 'train_online'"):
        train_online(kept)
    theta, _, x = draw_pairs(300, 2)
    trainer = make_trainer(SMALL).append_simulations(theta, x)
    with pytest.raises(ValueError, match="`simulations` was"):
        trainer.train(50, stop_after_epochs=2, seed=1, **kept)


def test_folder_that_cannot_be_written_is_told_before_anything(tmp_path):
    simulator = Counted()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="`checkpoint` must be a folder"):
        train_online({"checkpoint": tmp_path / "file" / "x"}, simulator)
    (tmp_path / "checkpoint.safetensors").write_text("mine")
    with pytest.raises(ValueError, match="`checkpoint` must be a folder where nothing"):
        train_online({"checkpoint": tmp_path}, simulator)
    assert simulator.rows == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"checkpoint": 3}, TypeError),
        ({"checkpoint": ""}, ValueError),
        ({"checkpoint_every": 0}, ValueError),
        ({"checkpoint_every": "often"}, TypeError),
        ({"resume": 1}, TypeError),
    ],
)
def test_arguments_are_checked(given, error):
    with pytest.raises(error, match=f"`{next(iter(given))}` must be"):
        train_online(given)


def test_full_disk_is_told_and_leaves_the_last_good_one(tmp_path, often, monkeypatch):
    unbroken, written = train_online({}), []
    write = checkpoint_files.write_tensors

    def fill(path, *arguments):
        written.append(path)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments)

    folder = {"checkpoint": tmp_path, **often}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "write_tensors", fill)
        with pytest.warns(CheckpointWarning, match="last good one stays"):
            assert are_same(train_online(folder), unbroken)
    found = checkpoint_files.CheckpointFiles(tmp_path).read()
    assert found[0].facts["fits"]["0"]["num_batches"]
    assert are_same(train_online(folder), unbroken)


def test_disk_that_is_full_at_the_start_is_an_error(tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "write_tensors", fill)
    with pytest.raises(OSError, match="No space left"):
        train_online({"checkpoint": tmp_path})


@pytest.mark.parametrize("pattern", ["checkpoint.safetensors", "checkpoint-*"])
def test_damaged_checkpoint_is_refused(pattern, tmp_path):
    kept = {"checkpoint": tmp_path}
    train_online(kept)
    path = next(tmp_path.glob(pattern))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged.*resume=False"):
        train_online(kept)
    train_online({**kept, "resume": False})
    assert are_same(train_online(kept), train_online({}))


def test_folder_is_for_one_process_at_a_time(tmp_path):
    files = checkpoint_files.CheckpointFiles(tmp_path)
    message = "`checkpoint` must be a folder that nobody else"
    with files.held(), pytest.raises(BlockingIOError, match=message):
        train_online({"checkpoint": tmp_path})


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
from test_checkpoints import journal, {name}
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
    unbroken = globals()[name]({})
    generator, num_killed = np.random.default_rng(1), 0
    for number in range(8):
        folder = tmp_path / str(number)
        for _ in range(3):
            num_killed += kill_later(name, folder, generator.uniform(0.0, 1.5))
        assert are_same(globals()[name]({"checkpoint": folder}), unbroken)
        assert not list(folder.rglob(".sbi_aalr-*"))
    assert num_killed > 12
