"""Seed the global generators of torch, NumPy and Python for a while, or spare them."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from sbi_aalr.checks import check_seed


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the global generators of torch, NumPy and Python as they were before.

    For what draws only to look, as whether a prior gives rows of parameters: nobody's
    next draws should depend on that.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    # Named, as torch warns otherwise where there are several.
    cuda = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and restore them after.

    Simulators and networks draw from global generators; nothing else can make a run
    repeat. Without a seed this does nothing.
    """
    if seed is None:
        yield
        return
    seed = check_seed("seed", seed)
    with generators_kept():
        seed_generators(seed)
        yield


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python, for good."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def derive_seed(seed: int, *key: int) -> int:
    """A seed for one part of what a seed is for, independent of those of other parts.

    Args:
        seed: The seed of the whole.
        key: Numbers that name the part.

    Returns:
        An int of 63 bits.

    References:
        NumPy's `SeedSequence`, of which this is the child of that key.
    """
    child = np.random.SeedSequence(seed, spawn_key=key)
    return int(child.generate_state(1, np.uint64)[0] >> np.uint64(1))
