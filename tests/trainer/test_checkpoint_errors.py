"""Checkpoints that are of no use, and how that is told."""

import errno

import pytest
import torch
from checkpointed import (
    SMALL,
    Counted,
    are_same,
    train,
    train_online,
)
from linear_gaussian import draw_pairs
from trainers import make_trainer

from sbi_aalr.errors import CheckpointWarning
from sbi_aalr.persistence import checkpoint_files


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


def test_stream_of_another_seed_is_refused(tmp_path):
    kept = {"checkpoint": tmp_path, "on_error": "skip"}
    first = train_online(kept)
    for other in (2, None):
        with pytest.raises(ValueError, match="`seed` was 1 and is"):
            train_online(kept, seed=other)
    again = train_online(kept)
    pairs = draw_pairs(9, 1)[::2]
    assert torch.equal(first._neural_net(*pairs), again._neural_net(*pairs))


def test_stream_without_a_seed_goes_on(tmp_path):
    kept = {"checkpoint": tmp_path, "on_error": "skip"}
    first, again = train_online(kept, seed=None), train_online(kept, seed=None)
    pairs = draw_pairs(9, 1)[::2]
    assert torch.equal(first._neural_net(*pairs), again._neural_net(*pairs))


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
