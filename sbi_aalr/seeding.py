"""Seed the global generators of torch, NumPy and Python for a while."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from sbi_aalr.checks import check_non_negative_int


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and restore them after.

    Simulators and networks draw from global generators; nothing else can make a run
    repeat. Without a seed this does nothing.
    """
    if seed is None:
        yield
        return
    check_non_negative_int("seed", seed)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    # Named, as torch warns otherwise where there are several.
    cuda = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
