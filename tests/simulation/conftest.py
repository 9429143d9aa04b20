"""Simulations that several test files compare with."""

import pytest
import unreliable
from filled import fill


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """What a simulator gives that never fails, in this process."""
    return fill(tmp_path_factory.mktemp("good") / "sims", unreliable.simulate)[0][:]
