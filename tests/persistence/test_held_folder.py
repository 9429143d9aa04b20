"""A folder of chunks belongs to one run and to one process at a time."""

import pytest
import torch
from interrupted import Interruption, sample
from linear_gaussian import PRIOR, log_ratio
from torch.distributions import MultivariateNormal

from sbi_aalr import MHPosterior
from sbi_aalr.files import lock
from sbi_aalr.persistence import finished_chunks
from sbi_aalr.persistence.finished_chunks import ChunkFiles, hold_folder
from sbi_aalr.persistence.run_store import locate_parts

pytestmark = pytest.mark.usefixtures("small_chunks")


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
