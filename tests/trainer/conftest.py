"""Fixtures of tests that train."""

import pytest

from sbi_aalr.trainer import journal
from sbi_aalr.training import correct, tuning_search


@pytest.fixture
def hasty_search(monkeypatch):
    """Few steps of the search, and few of the stack."""
    monkeypatch.setattr(tuning_search, "_AVERAGED", 1)
    monkeypatch.setattr("sbi_aalr.training.offset._NUM_STEPS", 20)
    monkeypatch.setattr("sbi_aalr.training.assemble._NUM_CONTRASTS", 16)
    monkeypatch.setattr("sbi_aalr.training.assemble._OFFSET_CONTRASTS", 8)
    monkeypatch.setattr(correct, "_RECIPE", correct._RECIPE._replace(num_passes=1))


@pytest.fixture
def often(monkeypatch):
    """Write a checkpoint after every step."""
    monkeypatch.setattr(journal, "_TIMES_AS_LONG", 0)
    return {"checkpoint_every": 1e-9}
