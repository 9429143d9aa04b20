"""Chunks that are kept are those of the run that goes on, whole, and no one else's."""

import errno
import os
import random
import shutil

import pytest
import small_posterior
import torch
from interrupted import Interruption, sample
from sbi.utils import MultipleIndependent
from torch.distributions import Normal, Uniform

from sbi_aalr.files import write_sealed, write_tensors
from sbi_aalr.persistence import finished_chunks
from sbi_aalr.persistence.finished_chunks import ChunkFiles
from sbi_aalr.persistence.run_store import locate_parts

pytestmark = pytest.mark.usefixtures("small_chunks")


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
        ChunkFiles(other, {"format": finished_chunks._FORMAT, "seed": 1}).write(
            0, result
        )
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


def test_chunks_of_version_0_1_0_are_refused(posterior, many, tmp_path):
    out = tmp_path / "run.nc"
    parts = locate_parts(out)
    parts.mkdir()
    write_sealed(parts / "run.json", {"seed": 4, "sbi_aalr": "0.1.0"})
    (parts / "000000.safetensors").touch()
    with pytest.raises(ValueError, match=r"got those of sbi_aalr 0\.1\.0.*to begin"):
        sample(posterior, many, out)


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


def test_run_under_a_prior_of_parts_is_kept(many, tmp_path):
    """sbi's `MultipleIndependent` draws rows only, whatever shape it is asked for."""
    one = torch.ones(1)
    prior = MultipleIndependent([Uniform(-3 * one, 3 * one), Normal(0 * one, one)])
    posterior, out = small_posterior.make(1, prior), tmp_path / "run.nc"
    draws = sample(posterior, many, out)
    assert out.is_file() and draws.shape[-1] == 2
    assert torch.equal(sample(posterior, many, tmp_path / "again.nc"), draws)


def test_limits_that_are_a_little_looser_are_other_limits(tmp_path):
    run = {"max_rhat": 1.01, "min_ess": 400.0, "log_prob": [-3.0, float("-inf"), 2.0]}
    run["format"] = finished_chunks._FORMAT
    kept = ChunkFiles(tmp_path, run)
    kept._locate(0).touch()
    # Sums depend on the number of threads.
    ChunkFiles(tmp_path, run | {"log_prob": [-3.0001, float("-inf"), 2.0]})
    for change in (
        {"max_rhat": 1.0105},
        {"min_ess": 400.3},
        {"log_prob": [-3.0, float("-inf"), 2.1]},
    ):
        (name,) = change
        with pytest.raises(ValueError, match=f"`{name}` was"):
            ChunkFiles(tmp_path, run | change)
