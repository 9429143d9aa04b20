"""What several test files of this room begin with."""

import shutil

import pytest
import torch
from linear_gaussian import PRIOR, simulate
from small_posterior import make

from sbi_aalr.sampling import chunks


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return make(1).save(tmp_path_factory.mktemp("saved") / "run")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK", 3)


@pytest.fixture
def many():
    """Observations for three chunks."""
    torch.manual_seed(3)
    return simulate(PRIOR.sample((8,)))
