"""Where methods write down what they were asked for."""

import pytest


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"
