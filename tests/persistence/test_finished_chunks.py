"""Chunks that are kept are those of the run that goes on, whole, and no one else's."""

import errno
import os
import random
import shutil

import pytest
import torch
from linear_gaussian import PRIOR, SHORT, log_ratio, simulate
from torch.distributions import MultivariateNormal

from sbi_aalr import MHPosterior
from sbi_aalr.files import lock, write_sealed, write_tensors
from sbi_aalr.persistence import finished_chunks
from sbi_aalr.persistence.finished_chunks import ChunkFiles, hold_folder
from sbi_aalr.persistence.run_store import locate_parts
from sbi_aalr.sampling import chunks


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK", 3)


@pytest.fixture
def many():
    torch.manual_seed(3)
    return simulate(PRIOR.sample((8,)))


class Interruption(Exception):
    pass


def sample(posterior, x, out, seed=4):
    return posterior.sample_batched((40,), x, seed=seed, out=out, **SHORT)


@pytest.fixture
def begun(posterior, many, tmp_path, monkeypatch):
    """A run of which two chunks are done."""
    out = tmp_path / "run.nc"
    write = ChunkFiles.write

    def write_two(self, number, result):
        if number == 2:
            raise Interruption
        write(self, number, result)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkFiles, "write", write_two)
        with pytest.raises(Interruption):
            sample(posterior, many, out)
    names = {path.name for path in locate_parts(out).iterdir()}
    assert names == {"run.json", "000000.safetensors", "000001.safetensors"}
    return out


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_no_flipped_bit_of_a_chunk_gives_another_draw(begun):
    parts, device = locate_parts(begun), torch.device("cpu")
    kept = ChunkFiles(parts, finished_chunks.read_identity(parts))
    expected = kept.read(0, device)
    path, rng = parts / "000000.safetensors", random.Random(1)
    size, refused = path.stat().st_size, 0
    # The head, where there is little, and the draws.
    bits = [rng.randrange(8 * 3_000) for _ in range(150)]
    bits += [rng.randrange(8 * size) for _ in range(150)]
    for bit in bits:
        flip(path, bit)
        try:
            found = kept.read(0, device)
        except ValueError:
            refused += 1
        else:
            for one, two in zip(found[:2], expected[:2], strict=True):
                assert torch.equal(one.theta, two.theta)
                assert torch.equal(one.log_prob, two.log_prob)
        flip(path, bit)
    assert refused > 290


def test_no_flipped_bit_of_the_identity_lets_another_run_in(begun, posterior, many):
    path, rng = locate_parts(begun) / "run.json", random.Random(1)
    whole = sample(posterior, many, begun.with_name("whole.nc"))
    for _ in range(40):
        copy = begun.with_name("copy.nc")
        shutil.copytree(locate_parts(begun), locate_parts(copy))
        flip(locate_parts(copy) / "run.json", rng.randrange(8 * path.stat().st_size))
        try:
            draws = sample(posterior, many, copy, seed=None)
        except ValueError as error:
            shutil.rmtree(locate_parts(copy))
            assert "run.json is damaged" in str(error) or "`out` must" in str(error)  # noqa: PT017
        else:
            assert torch.equal(draws, whole)
            copy.unlink()


@pytest.mark.parametrize("source", ["another run", "another number", "no run"])
def test_chunk_of_elsewhere_is_refused(begun, posterior, many, tmp_path, source):
    parts = locate_parts(begun)
    target = parts / "000000.safetensors"
    if source == "another number":
        shutil.copy(parts / "000001.safetensors", target)
    elif source == "no run":
        write_tensors(target, {"chains.theta": torch.zeros(10, 4, 3, 2)})
    else:
        kept = ChunkFiles(parts, finished_chunks.read_identity(parts))
        result = kept.read(0, torch.device("cpu"))
        other = tmp_path / "other"
        other.mkdir()
        ChunkFiles(other, {"format": 2, "seed": 1}).write(0, result)
        shutil.copy(other / "000000.safetensors", target)
    with pytest.raises(
        ValueError, match=r"000000\.safetensors is damaged: it does not"
    ):
        sample(posterior, many, begun)
    target.unlink()
    again = sample(posterior, many, begun)
    assert torch.equal(again, sample(posterior, many, tmp_path / "whole.nc"))


@pytest.mark.parametrize("number_removed", [0, 2, 3, 4])
def test_run_killed_while_it_tidies_answers_for_no_other(
    begun, posterior, many, tmp_path, monkeypatch, number_removed
):
    """Killed in the final removal, after so many files of it."""
    whole = sample(posterior, many, tmp_path / "whole.nc")
    remove, parts = finished_chunks.remove_chunks, locate_parts(begun)
    copy = tmp_path / "copy"

    def remove_some(folder):
        order = [*sorted(folder.glob("0*")), folder / "run.json"]
        for path in order[:number_removed]:
            path.unlink()
        shutil.copytree(folder, copy)
        remove(folder)

    with monkeypatch.context() as patch:
        patch.setattr("sbi_aalr.posterior.sample_run.remove_chunks", remove_some)
        assert torch.equal(sample(posterior, many, begun), whole)
    assert not parts.exists()
    # As it would have been found, with the file that was written and without.
    shutil.copytree(copy, parts)
    with pytest.raises(ValueError, match="`out` must not exist yet"):
        sample(posterior, many, begun)
    assert not parts.exists()
    shutil.copytree(copy, parts)
    begun.unlink()
    if number_removed < 3:
        with pytest.raises(ValueError, match="`x` was"):
            sample(posterior, many + 1, begun)
        assert torch.equal(sample(posterior, many, begun), whole)
    else:
        draws = sample(posterior, many + 1, begun)
        other = sample(posterior, many + 1, tmp_path / "other.nc")
        assert torch.equal(draws, other) and not torch.equal(draws, whole)
    assert begun.exists() and not parts.exists()


def test_chunks_without_their_run_answer_for_none(begun, posterior, many):
    parts = locate_parts(begun)
    (parts / "run.json").unlink()
    before = sorted(parts.iterdir())
    with pytest.raises(ValueError, match=r"`out` must not be continued .*delete"):
        sample(posterior, many + 1, begun)
    assert sorted(parts.iterdir()) == before and not begun.exists()


def test_folder_of_another_is_left_alone(posterior, many, tmp_path):
    out = tmp_path / "run.nc"
    parts = locate_parts(out)
    parts.mkdir()
    (parts / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis\.txt belongs to no run"):
        sample(posterior, many, out)
    assert [path.name for path in parts.iterdir()] == ["thesis.txt"]
    (parts / "thesis.txt").unlink()
    parts.rmdir()
    (tmp_path / "elsewhere").mkdir()
    parts.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="`out` must not go on through a link"):
        sample(posterior, many, out)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_chunks_of_version_0_1_0_are_refused(posterior, many, tmp_path):
    out = tmp_path / "run.nc"
    parts = locate_parts(out)
    parts.mkdir()
    write_sealed(parts / "run.json", {"seed": 4, "sbi_aalr": "0.1.0"})
    (parts / "000000.safetensors").touch()
    with pytest.raises(ValueError, match=r"got those of sbi_aalr 0\.1\.0.*to begin"):
        sample(posterior, many, out)


def test_another_prior_or_potential_is_another_run(tmp_path, monkeypatch, many):
    """Potentials have no weights to compare, and priors no names."""
    wide = MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))

    def build(prior, scale=1.0):
        return MHPosterior(
            lambda theta, x_o: scale * log_ratio(theta, x_o) + prior.log_prob(theta),
            prior,
        )

    out, write = tmp_path / "run.nc", ChunkFiles.write

    def write_and_stop(self, number, result):
        write(self, number, result)
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(ChunkFiles, "write", write_and_stop)
        with pytest.raises(Interruption):
            sample(build(PRIOR), many, out)
    for other in (build(wide), build(PRIOR, 1.1)):
        with pytest.raises(ValueError, match="`log_prob` was"):
            sample(other, many, out)
    sample(build(PRIOR), many, out)


def test_one_process_at_a_time_writes_a_run(posterior, many, tmp_path):
    out = tmp_path / "run.nc"
    with (
        hold_folder(locate_parts(out)),
        pytest.raises(BlockingIOError, match=r"one process at a time.*Wait until"),
    ):
        sample(posterior, many, out)
    assert list(tmp_path.iterdir()) == []
    sample(posterior, many, out)


def test_the_second_process_sees_what_the_first_has_written(
    posterior, many, tmp_path, monkeypatch
):
    """The first finishes between the second's look at `out` and its lock."""
    out = tmp_path / "run.nc"

    def finish_first(handle):
        out.write_text("the first's")
        return lock(handle)

    monkeypatch.setattr(finished_chunks, "lock", finish_first)
    with pytest.raises(ValueError, match="`out` must not exist yet"):
        sample(posterior, many, out)
    assert out.read_text() == "the first's"
    assert list(tmp_path.iterdir()) == [out]


def test_run_that_fails_before_its_first_chunk_leaves_nothing(
    posterior, many, tmp_path, monkeypatch
):
    def fail(*arguments):
        raise Interruption

    monkeypatch.setattr(ChunkFiles, "write", fail)
    with pytest.raises(Interruption):
        sample(posterior, many, tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_stops_the_run_and_keeps_what_is_done(
    posterior, many, tmp_path, monkeypatch
):
    """The disk is full at each of the writes in turn."""
    many = many[:3]
    whole = sample(posterior, many, tmp_path / "whole.nc")
    out, sync = tmp_path / "run.nc", os.fsync
    writes = []

    def run_out(handle):
        writes.append(handle)
        if len(writes) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", run_out)
    room = 0
    # The identity, one chunk, a mark, and the file itself.
    while room < 4:
        writes.clear()
        with pytest.raises(OSError, match="No space left") as told:
            sample(posterior, many, out)
        assert told.value.errno == errno.ENOSPC
        assert f"What is done is kept in {locate_parts(out)}" in str(told.value)
        assert not out.exists()
        names = [path.name for path in tmp_path.rglob("*")]
        assert not any(name.endswith(".tmp") for name in names)
        shutil.rmtree(locate_parts(out), ignore_errors=True)
        room += 1
    monkeypatch.undo()
    assert torch.equal(sample(posterior, many, out), whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.nc", "whole.nc"]
